//! Mappers and reducers as Rust types, and the table in which jobs find them.

use std::collections::BTreeMap;
use std::fmt;

use super::builtin;
use crate::logic::mapreduce::job::{Attempt, Setup};
use crate::logic::mapreduce::split::Split;

/// What a function returns. An error fails the attempt; its text is shown to the user.
pub type FunctionResult = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A line of input.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The path of its file.
    pub file: &'a str,
    /// Where it begins in the file, in bytes (of the decompressed file).
    pub offset: u64,
    /// The line, without its end.
    pub line: &'a [u8],
}

/// What a function can find out about the task that it runs in.
#[derive(Clone, Copy, Debug)]
pub struct TaskContext<'a> {
    /// What all tasks of the job are told.
    pub setup: &'a Setup,
    /// Which task, and which try.
    pub attempt: Attempt,
    /// What is read; only in map tasks.
    pub split: Option<&'a Split>,
}

/// From records to pairs. Each task gets a new one.
pub trait Mapper: Send {
    /// Before the first record.
    ///
    /// # Errors
    /// Fails the attempt.
    fn begin(&mut self, _context: &TaskContext<'_>) -> FunctionResult {
        Ok(())
    }

    /// For each line of the split, in order.
    ///
    /// # Errors
    /// Fails the attempt.
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult;

    /// After the last record.
    ///
    /// # Errors
    /// Fails the attempt.
    fn finish(&mut self, _out: &mut dyn Emit) -> FunctionResult {
        Ok(())
    }
}

/// From a key and its values to lines of output, or, as a combiner, to pairs of the same key. Each task gets a new
/// one, and each run of a combiner does.
pub trait Reducer: Send {
    /// Before the first key.
    ///
    /// # Errors
    /// Fails the attempt.
    fn begin(&mut self, _context: &TaskContext<'_>) -> FunctionResult {
        Ok(())
    }

    /// For each key, in order. Values that are not taken are passed over.
    ///
    /// # Errors
    /// Fails the attempt.
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult;

    /// After the last key.
    ///
    /// # Errors
    /// Fails the attempt.
    fn finish(&mut self, _out: &mut dyn Emit) -> FunctionResult {
        Ok(())
    }

    /// If combining means folding numbers, how. Then a map task keeps one number for each key while pairs are
    /// emitted, instead of the pairs. The function must be associative and commutative.
    fn fold(&self) -> Option<fn(u64, u64) -> u64> {
        None
    }
}

/// Where pairs go.
///
/// Nothing is returned: what cannot be kept (a record that is too long, a full disk) ends the attempt after the
/// function has returned.
pub trait Emit {
    /// A pair. In the output of a job it is a line; a pair with an empty value is the key alone.
    fn emit(&mut self, key: &[u8], value: &[u8]);

    /// A pair whose value is a number, in decimal.
    fn emit_number(&mut self, key: &[u8], number: u64) {
        self.emit(key, Decimal::new(number).as_bytes());
    }

    /// Adds to a counter of the job.
    fn counter(&mut self, group: &str, name: &str, amount: u64);
}

/// The values of a key, one after the other; they need not fit into memory.
pub trait Values {
    /// The next value. `None` after the last.
    fn next(&mut self) -> Option<&[u8]>;
}

/// A number as text, without an allocation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    pub(super) fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len() - 1;
        loop {
            digits[start] = b'0' + u8::try_from(number % 10).expect("a digit");
            number /= 10;
            if number == 0 {
                return Self { digits, start };
            }
            start -= 1;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

/// Reads a number as [`Emit::emit_number`] writes it.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

type MakeMapper = Box<dyn Fn(&[String]) -> Result<Box<dyn Mapper>, String> + Send + Sync>;
type MakeReducer = Box<dyn Fn(&[String]) -> Result<Box<dyn Reducer>, String> + Send + Sync>;

/// The functions that a job can name. A worker has one table; all workers of a cluster must have the same.
pub struct Functions {
    mappers: BTreeMap<String, MakeMapper>,
    reducers: BTreeMap<String, MakeReducer>,
}

impl Functions {
    /// Those that come with Quorate: mappers `wc`, `indexer`, `grep`, `sort`; reducers `sum`, `indexer`, `values`,
    /// `pairs`.
    pub fn builtin() -> Self {
        let mut functions = Self { mappers: BTreeMap::new(), reducers: BTreeMap::new() };
        builtin::register(&mut functions);
        functions
    }

    /// Adds a mapper, or replaces it. `make` gets the arguments that the job names and builds one for a task, or
    /// says in a sentence what is wrong with the arguments.
    pub fn mapper<M: Mapper + 'static>(
        &mut self,
        name: impl Into<String>,
        make: impl Fn(&[String]) -> Result<M, String> + Send + Sync + 'static,
    ) {
        let make: MakeMapper = Box::new(move |args| Ok(Box::new(make(args)?)));
        self.mappers.insert(name.into(), make);
    }

    /// Adds a reducer, which may also be a combiner, or replaces it.
    pub fn reducer<R: Reducer + 'static>(
        &mut self,
        name: impl Into<String>,
        make: impl Fn(&[String]) -> Result<R, String> + Send + Sync + 'static,
    ) {
        let make: MakeReducer = Box::new(move |args| Ok(Box::new(make(args)?)));
        self.reducers.insert(name.into(), make);
    }

    pub(super) fn make_mapper(&self, name: &str, args: &[String]) -> Result<Box<dyn Mapper>, String> {
        match self.mappers.get(name) {
            Some(make) => make(args),
            None => Err(unknown("mapper", name, self.mappers.keys())),
        }
    }

    pub(super) fn make_reducer(&self, name: &str, args: &[String]) -> Result<Box<dyn Reducer>, String> {
        match self.reducers.get(name) {
            Some(make) => make(args),
            None => Err(unknown("reducer", name, self.reducers.keys())),
        }
    }
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let known: Vec<&str> = known.map(String::as_str).collect();
    format!("there is no {what} {name:?}; there are {}", known.join(", "))
}

impl fmt::Debug for Functions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Functions")
            .field("mappers", &self.mappers.keys())
            .field("reducers", &self.reducers.keys())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_and_read() {
        for n in [0, 1, 9, 10, 12_345, u64::MAX] {
            assert_eq!(Decimal::new(n).as_bytes(), n.to_string().as_bytes());
            assert_eq!(number(Decimal::new(n).as_bytes()), Some(n));
        }
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b"\xff"), None);
    }
}
