//! What a sequential program makes of the same input, for every application.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use quorate::mapreduce::generate::{Text, records};

/// A kind of job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Application {
    Wc,
    Indexer,
    Grep,
    Sort,
    Stream,
}

/// Files of input.
const FILES: u64 = 5;
const PATTERN: &str = "ing [a-m]+ment";
/// Which words lines begin with, and how often: commands for a shell.
const MAPPER: &str = "cut -d ' ' -f 1";
const COUNT: &str = "uniq -c | awk '{print $2 \"\\t\" $1}'";
const SUM: &str = "awk -F '\\t' '$1 != k {if (NR > 1) print k \"\\t\" n; k = $1; n = 0} {n += $2} \
                   END {if (NR > 0) print k \"\\t\" n}'";

impl Application {
    /// Writes the input, of about so many bytes, into `input`, and what a sequential program makes of it into a file,
    /// whose path it returns. That is sorted; the input of `sort` is made of records, the others' of text.
    pub fn prepare(self, input: &Path, bytes: u64, expected: &Path) -> PathBuf {
        std::fs::create_dir_all(input).expect("a directory");
        let mut text = Text::new(5);
        let mut words: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut before = BTreeMap::new();
        for number in 0..FILES {
            let path = input.join(format!("{number}.txt"));
            let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).expect("a file"));
            if self == Application::Sort {
                records(number, bytes / FILES / 100, &mut file).expect("written");
            } else {
                text.write(bytes / FILES, &mut file).expect("written");
            }
            file.flush().expect("written");
            let counts = text.counts();
            for word in counts.iter().filter(|(word, count)| before.get(*word) != Some(*count)) {
                words.entry(word.0.clone()).or_default().insert(path.display().to_string());
            }
            before = counts;
        }
        let lines = |lines: Vec<String>| std::fs::write(expected, lines.concat()).expect("written");
        match self {
            Application::Wc => lines(before.iter().map(|(word, n)| format!("{word}\t{n}\n")).collect()),
            Application::Indexer => {
                let line = |(word, files): (&String, &BTreeSet<String>)| {
                    let files: Vec<&str> = files.iter().map(String::as_str).collect();
                    format!("{word}\t{} {}\n", files.len(), files.join(","))
                };
                lines(words.iter().map(line).collect());
            }
            Application::Grep => shell(&format!("grep -hE '{PATTERN}' {}/*", input.display()), expected),
            Application::Sort => shell(&format!("cat {}/*", input.display()), expected),
            Application::Stream => {
                let sorted = format!("cat {}/* | {MAPPER} | LC_ALL=C sort | {COUNT}", input.display());
                shell(&sorted, expected);
            }
        }
        expected.to_path_buf()
    }

    /// The words that submit the job.
    pub fn arguments(self) -> Vec<String> {
        let words: &[&str] = match self {
            Application::Wc => &["wc"],
            Application::Indexer => &["indexer"],
            Application::Grep => &["grep", PATTERN],
            Application::Sort => &["sort"],
            Application::Stream => {
                // A mapper is a pipe here, and the combiner sums what it has counted.
                let combined = format!("{MAPPER} | LC_ALL=C sort | {COUNT}");
                return ["--mapper", &combined, "--combiner", SUM, "--reducer", SUM]
                    .map(str::to_owned)
                    .to_vec();
            }
        };
        words.iter().map(ToString::to_string).collect()
    }

    /// Whether the files of output, one after the other, must be in order as they are.
    fn is_in_order(self) -> bool {
        self == Application::Sort
    }

    /// Compares the output of a job with what is expected.
    pub fn check(self, output: &Path, expected: &Path, what: &str) {
        assert!(output.join("_SUCCESS").exists(), "{what}: there is no _SUCCESS");
        let sort = if self.is_in_order() { "cat" } else { "LC_ALL=C sort" };
        let compare = format!("cat {}/part-r-* | {sort} | cmp - {}", output.display(), expected.display());
        let status = Command::new("sh").args(["-c", &compare]).status().expect("sh runs");
        assert!(status.success(), "{what}: {self:?} gives other output than a sequential program: {compare}");
    }
}

/// Runs a command; its output, sorted, goes into a file.
fn shell(command: &str, to: &Path) {
    let command = format!("({command}) | LC_ALL=C sort > {}", to.display());
    let status = Command::new("sh").args(["-c", &command]).env("LC_ALL", "C").status().expect("sh runs");
    assert!(status.success(), "{command}");
}
