//! The output directory of a job, from nothing to `_SUCCESS`.
//!
//! ```text
//! out/_attempts/     what reduce tasks write, before it is accepted
//! out/part-r-00000   accepted: complete and durable
//! out/_SUCCESS       all of them are there
//! ```

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::run_file::cannot_write;
use super::task::Part;
use crate::logic::mapreduce::failure::TaskFailure;

/// Says that all output is there. It is empty.
pub const SUCCESS: &str = "_SUCCESS";
const ATTEMPTS: &str = "_attempts";

/// The output directory of a job that runs.
#[derive(Debug)]
pub struct OutputDirectory {
    path: PathBuf,
}

impl OutputDirectory {
    /// Makes the directory, and those above it that are missing.
    ///
    /// # Errors
    /// If it exists, or cannot be made: a sentence for the user.
    pub fn create(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent)
                .map_err(|error| format!("cannot make {}: {error}", parent.display()))?;
        }
        match fs::create_dir(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let state = match (path.is_dir(), path.join(SUCCESS).exists()) {
                    (false, _) => "it is no directory",
                    (true, true) => "it holds the output of a job",
                    (true, false) => "it holds no finished output",
                };
                return Err(format!(
                    "the output {shown} exists ({state}); remove it or choose another, nothing is overwritten"
                ));
            }
            Err(error) => return Err(format!("cannot make the output directory {shown}: {error}")),
        }
        let output = Self { path: path.to_path_buf() };
        fs::create_dir(output.attempts())
            .map_err(|error| format!("cannot make a directory in {shown}: {error}"))?;
        Ok(output)
    }

    /// The directory of a job that runs already; nothing is made.
    pub fn of_running_job(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where reduce tasks write.
    pub fn attempts(&self) -> PathBuf {
        self.path.join(ATTEMPTS)
    }

    /// Puts an accepted output in its place. Doing it again does nothing; an output that is there already stays.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn commit(&self, output: &Part) -> Result<PathBuf, TaskFailure> {
        let place = self.path.join(&output.name);
        if !place.exists() {
            fs::rename(&output.path, &place).map_err(|error| cannot_write(&place, &error))?;
        }
        sync_directory(&self.path)?;
        Ok(place)
    }

    /// Says that all is there. The directory for attempts goes away.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn succeed(&self) -> Result<(), TaskFailure> {
        // An attempt that lost may still write there; what cannot be removed is only untidy.
        let _ = fs::remove_dir_all(self.attempts());
        let success = self.path.join(SUCCESS);
        let created = File::create(&success).and_then(|file| file.sync_all());
        let said =
            created.map_err(|error| cannot_write(&success, &error)).and_then(|()| sync_directory(&self.path));
        said.inspect_err(|_| {
            // What may not last must not say that all is there.
            let _ = fs::remove_file(&success);
        })
    }

    /// Whether it says that all is there.
    pub fn is_complete(&self) -> bool {
        self.path.join(SUCCESS).exists()
    }

    /// Removes the directory of a job that failed, so that the next try finds the place free. One that is complete
    /// stays: whatever failed afterwards, the output may be nowhere else any more.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn abandon(&self) -> io::Result<()> {
        if self.is_complete() { Ok(()) } else { fs::remove_dir_all(&self.path) }
    }
}

/// A rename is durable when its directory is.
fn sync_directory(path: &Path) -> Result<(), TaskFailure> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| cannot_write(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_that_is_complete_is_not_removed_any_more() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("out");
        OutputDirectory::create(&path).expect("made").abandon().expect("removed");
        assert!(!path.exists());
        let output = OutputDirectory::create(&path).expect("the place is free");
        output.succeed().expect("written");
        output.abandon().expect("nothing to do");
        assert!(path.join(SUCCESS).exists());
    }
}
