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
        Self::create_durably(path, sync_directory)
    }

    fn create_durably(
        path: &Path,
        sync: impl FnMut(&Path) -> Result<(), TaskFailure>,
    ) -> Result<Self, String> {
        let changed = changed_by_making(path);
        let output = Self::make(path)?;
        changed.iter().map(PathBuf::as_path).try_for_each(sync).map_err(|failure| {
            // Nothing is in it yet.
            let _ = output.abandon();
            failure.message
        })?;
        Ok(output)
    }

    fn make(path: &Path) -> Result<Self, String> {
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

/// The directories in which names appear when this one is made, and those above it that are missing. Unless these are
/// synced, a power failure may take the whole output away.
fn changed_by_making(path: &Path) -> Vec<PathBuf> {
    let mut changed = Vec::new();
    for above in path.ancestors().skip(1) {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        changed.push(above.to_path_buf());
        if above.exists() {
            break;
        }
    }
    changed
}

/// A name is durable when its directory is.
fn sync_directory(path: &Path) -> Result<(), TaskFailure> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|error| cannot_write(path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_that_lead_to_the_output_are_made_durable() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut synced = Vec::new();
        for (output, parents) in [("a/b/out", vec!["a/b", "a", ""]), ("a/c", vec!["a"]), ("d", vec![""])] {
            synced.clear();
            OutputDirectory::create_durably(&dir.path().join(output), |directory| {
                assert!(dir.path().join(output).is_dir(), "it is there by then");
                synced.push(directory.to_path_buf());
                sync_directory(directory)
            })
            .expect("made");
            let expected: Vec<PathBuf> = parents.into_iter().map(|parent| dir.path().join(parent)).collect();
            assert_eq!(synced, expected, "{output}");
        }
        assert_eq!(changed_by_making(Path::new("out")), [PathBuf::from(".")]);
        let broken = |directory: &Path| Err(cannot_write(directory, &io::ErrorKind::Unsupported.into()));
        OutputDirectory::create_durably(&dir.path().join("e"), broken).expect_err("the disk refuses");
        assert!(!dir.path().join("e").exists(), "the place is free for another try");
    }

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
