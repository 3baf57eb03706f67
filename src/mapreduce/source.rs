//! Where a reduce task gets its input from.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::PathBuf;

use super::run_file::Extent;

/// One partition of the output of one map task, wherever it lies: in a file here, or on another node.
pub trait Source: Send + Sync {
    /// The number of the map task; a failure names it, so that the task can be done again.
    fn map(&self) -> u32;

    /// Where the partition lies in the file, and how much it is.
    fn extent(&self) -> Extent;

    /// The bytes of the extent, from its beginning. It may be opened more than once. Reading may block; an error,
    /// too few bytes, or bytes that are not those that were written fail the task as [`Cause::Lost`].
    ///
    /// # Errors
    /// If the output cannot be had.
    ///
    /// [`Cause::Lost`]: crate::logic::mapreduce::failure::Cause::Lost
    fn open(&self) -> io::Result<Box<dyn Read + Send>>;
}

/// A partition in a file of this machine.
#[derive(Clone, Debug)]
pub struct LocalSource {
    /// The number of the map task.
    pub map: u32,
    /// Its output.
    pub path: PathBuf,
    /// Where the partition lies in it.
    pub extent: Extent,
}

impl Source for LocalSource {
    fn map(&self) -> u32 {
        self.map
    }

    fn extent(&self) -> Extent {
        self.extent
    }

    fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.extent.offset))?;
        Ok(Box::new(file.take(self.extent.length)))
    }
}
