//! The functions that come with Quorate, and the jobs made of them.

use std::collections::BTreeSet;

use super::function::{Emit, FunctionResult, Functions, Mapper, Record, Reducer, Values, number};
use crate::logic::mapreduce::job::{Function, Job};
use crate::logic::mapreduce::partition::Partitioning;

/// The jobs that [`job`] knows.
pub const APPLICATIONS: [&str; 4] = ["wc", "indexer", "grep", "sort"];

/// A job that comes with Quorate: `wc` counts words, `indexer` lists the files in which each word occurs,
/// `grep PATTERN` finds lines that match a regular expression, `sort` sorts lines by their bytes.
///
/// # Errors
/// If there is no such job, or its arguments are wrong: a sentence for the user.
pub fn job(name: &str, args: &[String], inputs: Vec<String>, output: &str) -> Result<Job, String> {
    let mapper = Function::builtin(name, args.to_vec());
    let plain = |name: &str| Function::builtin(name, Vec::new());
    let with = |reducer: Function| Job::new(name, inputs, mapper, reducer, output);
    match name {
        "grep" => {
            Grep::new(args)?;
            let partitioning = Partitioning::Fields { separator: 0, first: 1 };
            Ok(Job { partitioning, ..with(plain("values")) })
        }
        _ if !APPLICATIONS.contains(&name) => {
            Err(format!("there is no job {name:?}; there are {}", APPLICATIONS.join(", ")))
        }
        _ if !args.is_empty() => Err(format!("{name} takes no arguments, but got {}", args.join(" "))),
        "wc" => Ok(Job { combiner: Some(plain("sum")), ..with(plain("sum")) }),
        "indexer" => Ok(with(plain("indexer"))),
        _ => Ok(Job { partitioning: Partitioning::Range, ..with(plain("pairs")) }),
    }
}

/// For functions that take no arguments.
fn bare<F>(make: impl Fn() -> F + Send + Sync) -> impl Fn(&[String]) -> Result<F, String> + Send + Sync {
    move |args| match args {
        [] => Ok(make()),
        _ => Err(format!("the function takes no arguments, but got {}", args.join(" "))),
    }
}

pub(super) fn register(functions: &mut Functions) {
    functions.mapper("wc", bare(|| WordCount));
    functions.mapper("indexer", bare(Indexer::default));
    functions.mapper("sort", bare(|| Lines));
    functions.mapper("grep", |args: &[String]| Grep::new(args));
    functions.reducer("sum", bare(|| Sum));
    functions.reducer("indexer", bare(|| IndexerReducer));
    functions.reducer("values", bare(|| ValuesReducer));
    functions.reducer("pairs", bare(|| Pairs));
}

/// Calls `each` for each word: a longest run of letters. Bytes that are not UTF-8 are no letters.
#[inline]
fn words<'a>(line: &'a [u8], mut each: impl FnMut(&'a [u8])) {
    let mut at = 0;
    while at < line.len() {
        let start = at;
        while let Some(length) = letter(&line[at..]) {
            at += length;
        }
        if at > start {
            each(&line[start..at]);
        }
        at += 1;
    }
}

/// The length of the letter that the bytes begin with, if it is one.
#[inline]
fn letter(bytes: &[u8]) -> Option<usize> {
    let first = *bytes.first()?;
    if first < 0x80 { first.is_ascii_alphabetic().then_some(1) } else { foreign_letter(bytes) }
}

#[cold]
fn foreign_letter(bytes: &[u8]) -> Option<usize> {
    let chunk = bytes[..bytes.len().min(4)].utf8_chunks().next()?;
    let character = chunk.valid().chars().next()?;
    character.is_alphabetic().then_some(character.len_utf8())
}

/// Emits each word with the number 1.
struct WordCount;

impl Mapper for WordCount {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        words(record.line, |word| out.emit_number(word, 1));
        Ok(())
    }
}

/// The sum of all values, which must be numbers.
struct Sum;

impl Reducer for Sum {
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        let mut sum = 0u64;
        while let Some(value) = values.next() {
            let number = number(value).ok_or_else(|| {
                format!("{:?} is not a number", String::from_utf8_lossy(&value[..value.len().min(40)]))
            })?;
            sum = sum.saturating_add(number);
        }
        out.emit_number(key, sum);
        Ok(())
    }

    fn fold(&self) -> Option<fn(u64, u64) -> u64> {
        Some(u64::saturating_add)
    }
}

/// Emits each word of a split once, with the path of the file. Words are remembered up to a bound; beyond it some
/// come twice, which the reducer does not mind.
#[derive(Default)]
struct Indexer {
    seen: BTreeSet<Box<[u8]>>,
    bytes: usize,
}

/// What an [`Indexer`] remembers at most.
const MOST_SEEN_BYTES: usize = 16 << 20;

impl Mapper for Indexer {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        words(record.line, |word| {
            if self.seen.contains(word) {
                return;
            }
            out.emit(word, record.file.as_bytes());
            if self.bytes > MOST_SEEN_BYTES {
                self.seen.clear();
                self.bytes = 0;
            }
            self.bytes += word.len() + 64;
            self.seen.insert(word.into());
        });
        Ok(())
    }
}

/// Writes how many files there are for a word, and which.
struct IndexerReducer;

impl Reducer for IndexerReducer {
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        let mut files: BTreeSet<Box<[u8]>> = BTreeSet::new();
        while let Some(file) = values.next() {
            if !files.contains(file) {
                files.insert(file.into());
            }
        }
        let mut line = format!("{} ", files.len()).into_bytes();
        for (number, file) in files.iter().enumerate() {
            if number > 0 {
                line.push(b',');
            }
            line.extend_from_slice(file);
        }
        out.emit(key, &line);
        Ok(())
    }
}

/// Emits each line as a key.
struct Lines;

impl Mapper for Lines {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        out.emit(record.line, b"");
        Ok(())
    }
}

/// Emits the lines that match, under a key that keeps them in the order of the file: path, zero, offset.
struct Grep {
    pattern: regex::bytes::Regex,
    key: Vec<u8>,
}

impl Grep {
    fn new(args: &[String]) -> Result<Self, String> {
        let [pattern] = args else {
            return Err("grep needs one pattern, a regular expression".into());
        };
        let pattern = regex::bytes::Regex::new(pattern).map_err(|error| error.to_string())?;
        Ok(Self { pattern, key: Vec::new() })
    }
}

impl Mapper for Grep {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        if self.pattern.is_match(record.line) {
            self.key.clear();
            self.key.extend_from_slice(record.file.as_bytes());
            self.key.push(0);
            self.key.extend_from_slice(&record.offset.to_be_bytes());
            out.emit(&self.key, record.line);
        }
        Ok(())
    }
}

/// Writes the values without their keys.
struct ValuesReducer;

impl Reducer for ValuesReducer {
    fn reduce(&mut self, _key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        while let Some(value) = values.next() {
            out.emit(value, b"");
        }
        Ok(())
    }
}

/// Writes every pair as it is.
struct Pairs;

impl Reducer for Pairs {
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        while let Some(value) = values.next() {
            out.emit(key, value);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(line: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        words(line, |word| found.push(String::from_utf8(word.to_vec()).expect("letters are UTF-8")));
        found
    }

    #[test]
    fn words_are_longest_runs_of_letters() {
        assert_eq!(words_of(b"It's 4 o'clock, Ann--go!"), ["It", "s", "o", "clock", "Ann", "go"]);
        assert_eq!(
            words_of("Çà et là: naïve 日本語。x".as_bytes()),
            ["Çà", "et", "là", "naïve", "日本語", "x"]
        );
        assert_eq!(words_of(b"a\xffb\xc3 c\xe6\x97"), ["a", "b", "c"], "what is not UTF-8 separates");
        assert_eq!(words_of(b""), Vec::<String>::new());
    }

    #[test]
    fn a_job_with_wrong_arguments_is_refused() {
        let refused = |name: &str, args: &[&str]| {
            let args: Vec<String> = args.iter().map(ToString::to_string).collect();
            job(name, &args, vec!["in".into()], "out").expect_err(name)
        };
        assert_eq!(refused("cw", &[]), "there is no job \"cw\"; there are wc, indexer, grep, sort");
        assert_eq!(refused("wc", &["x"]), "wc takes no arguments, but got x");
        assert!(refused("grep", &[]).contains("one pattern"));
        assert!(refused("grep", &["("]).contains("unclosed group"));
    }
}
