//! Text that looks like language, from a seed, and what a program without any framework makes of it.

use std::collections::BTreeMap;
use std::path::Path;

/// Writes files of so many bytes each; returns their paths.
pub fn files(dir: &Path, count: usize, bytes: usize) -> Vec<String> {
    let input = dir.join("input");
    std::fs::create_dir_all(&input).expect("a directory");
    let paths = (0..count).map(|number| {
        let path = input.join(format!("text-{number}.txt"));
        std::fs::write(&path, generate(number as u64, bytes)).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    });
    paths.collect()
}

/// Words of one to nine letters, the short ones far more often, in lines of some words.
pub fn generate(seed: u64, bytes: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut text = String::with_capacity(bytes + 100);
    while text.len() < bytes {
        for _ in 0..random.usize(1..12) {
            let letters = 1 + random.usize(0..3) * random.usize(0..5);
            for _ in 0..letters {
                text.push(char::from(b'a' + random.u8(0..6)));
            }
            text.push_str([" ", ", ", ". ", " - "][random.usize(0..4)]);
        }
        text.push('\n');
    }
    text
}

/// Lines of word TAB count, sorted.
pub fn word_counts(files: &[String]) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        let text = std::fs::read_to_string(file).expect("it was written");
        for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    counts.iter().map(|(word, count)| format!("{word}\t{count}\n")).collect()
}

/// The lines of all files of an output directory, sorted; there must be a `_SUCCESS`.
pub fn sorted_output(dir: &Path) -> String {
    assert!(dir.join("_SUCCESS").exists(), "{} has no _SUCCESS", dir.display());
    let mut lines = Vec::new();
    for entry in std::fs::read_dir(dir).expect("the output is there").flatten() {
        if !entry.file_name().to_string_lossy().starts_with('_') {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            lines.extend(text.lines().filter(|line| !line.is_empty()).map(|line| format!("{line}\n")));
        }
    }
    lines.sort();
    lines.concat()
}
