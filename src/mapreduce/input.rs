//! From what a user names to the files that are read.

use std::fs::{self, File};
use std::path::Path;

use crate::logic::mapreduce::split::InputFile;

/// More files than this are refused: each has a map task and a place in memory.
const MOST_FILES: usize = 1_000_000;

/// Finds the files that inputs name, in the order of the inputs, and by name within one.
///
/// An input is a file, a directory (all files in it and below, but for those whose names begin with `.` or `_`), or a
/// pattern with `*`, `?`, `[...]` or `**`.
///
/// # Errors
/// A sentence for the user: what names nothing, or cannot be read.
pub fn expand(inputs: &[String]) -> Result<Vec<InputFile>, String> {
    let mut files = Vec::new();
    for input in inputs {
        let path = Path::new(input);
        if path.exists() || !input.contains(['*', '?', '[']) {
            add(path, &mut files)?;
        } else {
            add_matches(input, &mut files)?;
        }
        if files.len() > MOST_FILES {
            return Err(format!("there are more than {MOST_FILES} input files; join them, or name fewer"));
        }
    }
    Ok(files)
}

fn add_matches(pattern: &str, files: &mut Vec<InputFile>) -> Result<(), String> {
    let matches = glob::glob(pattern).map_err(|error| {
        format!("the input pattern {pattern:?} is wrong at character {}: {}", error.pos, error.msg)
    })?;
    let before = files.len();
    let mut found = false;
    for path in matches {
        let path = path.map_err(|error| cannot_read(error.path(), error.error()))?;
        found = true;
        add(&path, files)?;
    }
    if !found {
        return Err(format!("no file matches the input {pattern:?}"));
    }
    debug_assert!(files.len() >= before);
    Ok(())
}

fn add(path: &Path, files: &mut Vec<InputFile>) -> Result<(), String> {
    let metadata = fs::metadata(path).map_err(|error| cannot_read(path, &error))?;
    if metadata.is_dir() {
        return add_directory(path, files);
    }
    if !metadata.is_file() {
        return Err(format!("the input {} is neither a file nor a directory", path.display()));
    }
    // Better now than after an hour.
    File::open(path).map_err(|error| cannot_read(path, &error))?;
    let Some(name) = path.to_str() else {
        return Err(format!("the name of the input {} is not UTF-8; rename it", path.display()));
    };
    files.push(InputFile { path: name.to_string(), length: metadata.len() });
    Ok(())
}

fn add_directory(path: &Path, files: &mut Vec<InputFile>) -> Result<(), String> {
    let mut entries = fs::read_dir(path)
        .and_then(|entries| entries.collect::<Result<Vec<_>, _>>())
        .map_err(|error| cannot_read(path, &error))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let hidden = matches!(entry.file_name().as_encoded_bytes().first(), Some(b'.' | b'_'));
        // A link to a directory is not followed: it may lead in a circle.
        let leads_away = entry.path().is_dir() && entry.path().is_symlink();
        if !hidden && !leads_away {
            add(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn cannot_read(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => format!("there is no input {}", path.display()),
        _ => format!("cannot read the input {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("d/deep")).expect("made");
        for name in ["b.txt", "a.txt", "c.log", "d/deep/e.txt", "d/.hidden", "d/_SUCCESS", "d/f"] {
            fs::write(dir.path().join(name), name).expect("written");
        }
        dir
    }

    fn names(dir: &Path, inputs: &[&str]) -> Result<Vec<String>, String> {
        let root = dir.to_str().expect("UTF-8");
        let inputs: Vec<String> = inputs.iter().map(|input| format!("{root}/{input}")).collect();
        let files = expand(&inputs).map_err(|problem| problem.replace(root, ""))?;
        Ok(files.into_iter().map(|file| file.path[root.len() + 1..].to_string()).collect())
    }

    #[test]
    fn files_directories_and_patterns_are_found_in_order() {
        let dir = tree();
        assert_eq!(names(dir.path(), &["*.txt"]).expect("found"), ["a.txt", "b.txt"]);
        assert_eq!(names(dir.path(), &["d", "a.txt"]).expect("found"), ["d/deep/e.txt", "d/f", "a.txt"]);
        assert_eq!(names(dir.path(), &["**/e.txt"]).expect("found"), ["d/deep/e.txt"]);
        fs::write(dir.path().join("odd[1].txt"), "x").expect("written");
        assert_eq!(
            names(dir.path(), &["odd[1].txt"]).expect("found"),
            ["odd[1].txt"],
            "a name is no pattern"
        );
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let dir = tree();
        let problem = |input: &str| names(dir.path(), &["a.txt", input]).expect_err(input);
        assert_eq!(problem("nothing.txt"), "there is no input /nothing.txt");
        assert_eq!(problem("*.pdf"), "no file matches the input \"/*.pdf\"");
        assert!(problem("[.txt").contains("is wrong at character"));
        std::os::unix::fs::symlink("nowhere", dir.path().join("d/dangling")).expect("linked");
        assert_eq!(problem("d"), "there is no input /d/dangling");
    }
}
