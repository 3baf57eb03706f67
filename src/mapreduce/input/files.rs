//! Inputs on this machine: files, directories, patterns.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::logic::mapreduce::split::InputFile;

/// Adds the files that an input names, by name.
pub(super) fn expand(input: &str, files: &mut Vec<InputFile>) -> Result<(), String> {
    let path = Path::new(input);
    if path.exists() || !input.contains(super::WILDCARDS) {
        add(path, files)
    } else {
        add_matches(input, files)
    }
}

/// The bytes of a file from an offset on.
pub(super) fn open(path: &str, offset: u64) -> io::Result<Box<dyn Read + Send>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    Ok(Box::new(file))
}

/// Whether a file can be read.
pub(super) fn check(path: &str) -> io::Result<()> {
    File::open(path).map(drop)
}

fn add_matches(pattern: &str, files: &mut Vec<InputFile>) -> Result<(), String> {
    let (shorter, below) = without_trailing_stars(pattern);
    let matches = glob::glob(shorter).map_err(|error| {
        format!("the input pattern {pattern:?} is wrong at character {}: {}", error.pos, error.msg)
    })?;
    let before = files.len();
    let mut found = false;
    for path in matches {
        let path = path.map_err(|error| cannot_read(error.path(), error.error()))?;
        if below && !path.is_dir() {
            continue;
        }
        found = true;
        add(&path, files)?;
    }
    if !found {
        return Err(format!("no file matches the input {pattern:?}"));
    }
    drop_repeated(files, before);
    Ok(())
}

/// What is left of a pattern that ends with `**`, which is everything below the directories that the rest matches. The
/// crate `glob` takes it for the directories below them alone.
fn without_trailing_stars(pattern: &str) -> (&str, bool) {
    let mut rest = pattern.trim_end_matches('/');
    while let Some(shorter) = rest.strip_suffix("/**") {
        rest = shorter;
    }
    match rest {
        "**" => (".", true),
        "" => ("/", true),
        _ if rest == pattern.trim_end_matches('/') => (pattern, false),
        _ => (rest, true),
    }
}

/// A pattern may match a directory, and what is in it as well: each file is read once.
fn drop_repeated(files: &mut Vec<InputFile>, from: usize) {
    let found = files.split_off(from);
    let mut seen = HashSet::new();
    files.extend(found.into_iter().filter(|file| seen.insert(file.path.clone())));
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

fn cannot_read(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no input {}", path.display()),
        _ => format!("cannot read the input {}: {error}", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mapreduce::input::expand;

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
    fn a_pattern_that_matches_directories_and_what_is_in_them_finds_each_file_once() {
        let dir = tree();
        fs::create_dir_all(dir.path().join("d/deep/deeper")).expect("made");
        fs::write(dir.path().join("d/deep/deeper/g"), "g").expect("written");
        let all = ["d/deep/deeper/g", "d/deep/e.txt", "d/f"];
        for pattern in ["d/**", "d/**/", "d/**/**", "?/**", "d/[df]*"] {
            assert_eq!(names(dir.path(), &[pattern]).expect("found"), all, "{pattern}");
        }
        let mut found = names(dir.path(), &["d/**/*"]).expect("found");
        found.retain(|name| !name.starts_with("d/.") && !name.starts_with("d/_"));
        assert_eq!(found, all);
        assert_eq!(names(dir.path(), &["d/f", "d/**"]).expect("found").len(), 4, "two inputs are two");
        assert_eq!(names(dir.path(), &["*.txt/**"]), Err("no file matches the input \"/*.txt/**\"".into()));
    }

    #[test]
    fn what_names_nothing_is_refused() {
        let dir = tree();
        let problem = |input: &str| names(dir.path(), &["a.txt", input]).expect_err(input);
        assert_eq!(problem("nothing.txt"), "there is no input /nothing.txt");
        assert_eq!(problem("*.pdf"), "no file matches the input \"/*.pdf\"");
        assert!(problem("[.txt").contains("is wrong at character"));
        fs::write(dir.path().join("old.bz2"), "BZh").expect("written");
        assert_eq!(
            problem("old.*"),
            "the input /old.bz2 is packed in a way that cannot be read; unpack it, pack it as .gz or .zst, or leave it \
             out"
        );
        std::os::unix::fs::symlink("nowhere", dir.path().join("d/dangling")).expect("linked");
        assert_eq!(problem("d"), "there is no input /d/dangling");
    }
}
