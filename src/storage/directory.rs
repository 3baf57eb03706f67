//! Directories that stay.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Creates a directory and its missing parents, each made durable in its parent. One that is there already is made
/// durable, too: whoever created it may have ended just then.
///
/// # Errors
/// What the operating system reports.
pub(crate) fn create_durably(path: &Path) -> io::Result<()> {
    create_and_sync(path, &mut sync)
}

fn create_and_sync(path: &Path, sync: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !path.is_dir() {
        // A directory is created in one whose own name is durable. So of those that exist the lowest is in doubt only.
        create_and_sync(parent, sync)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    sync(parent)
}

/// Makes the names in a directory durable. One that must not be read belongs to somebody else, who has seen to it.
fn sync(directory: &Path) -> io::Result<()> {
    match File::open(directory) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_durable_in_its_parent_before_one_is_created_in_it() {
        let root = tempfile::tempdir().expect("a directory");
        let at = |below: &str| root.path().join(below);
        let mut synced = Vec::new();
        let mut create = |path: &Path| {
            let mut seen = Vec::new();
            let record = &mut |directory: &Path| {
                seen.push((directory.to_path_buf(), at("a/b/c").exists()));
                Ok(())
            };
            create_and_sync(path, record).expect("a directory of our own");
            synced.push(seen);
        };
        create(&at("a/b/c"));
        create(&at("a/b/c"));
        let above = root.path().parent().expect("it is in another").to_path_buf();
        let first = vec![(above, false), (at(""), false), (at("a"), false), (at("a/b"), true)];
        assert_eq!(synced, [first, vec![(at("a/b"), true)]], "the second may be the start after a crash");
    }

    #[test]
    fn a_file_in_the_way_is_an_error() {
        let root = tempfile::tempdir().expect("a directory");
        let file = root.path().join("f");
        fs::write(&file, "").expect("written");
        create_durably(&file.join("d")).expect_err("there is a file");
        create_durably(&root.path().join("a/b")).expect("nothing is in the way");
    }
}
