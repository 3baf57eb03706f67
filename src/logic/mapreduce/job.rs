//! What a job is: inputs, functions, partitions, output, limits; and the names of its tasks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::partition::{Partitioner, Partitioning};
use super::skip::KILLS;
use super::split::{Split, is_url};

/// More reducers than this are refused: each map output has an index entry for every one.
pub const MOST_REDUCERS: u32 = 10_000;

/// A job as a user describes it. Serialisable, so that it can be kept in a store and sent to workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// What people call it. It is shown and handed to commands; it need not be unique.
    pub name: String,
    /// Files, directories and globs, as given.
    pub inputs: Vec<String>,
    /// From records to pairs.
    pub mapper: Function,
    /// From the pairs of a key to fewer pairs of that key, in the map task. It may run any number of times, also never.
    pub combiner: Option<Function>,
    /// From a key and all its values to lines of output.
    pub reducer: Function,
    /// Which reducer gets which key.
    pub partitioning: Partitioning,
    /// How many reducers, up to [`MOST_REDUCERS`]; without it, chosen by size and slots. With none, the lines of the
    /// mapper are the output, a file for each map task.
    pub reducers: Option<u32>,
    /// Where the output goes, and in which form.
    pub output: Output,
    /// Variables for the environment of commands.
    pub environment: Vec<(String, String)>,
    /// How the lines that commands write are cut into key and value.
    pub fields: Fields,
    /// Whether map output is compressed (lz4). It pays when the disk or the network is slower than a processor.
    pub compress: bool,
    /// What bounds it.
    pub limits: Limits,
}

impl Job {
    /// A job with the defaults: partitioned by hash, as many reducers as the size asks for.
    pub fn new(
        name: impl Into<String>,
        inputs: Vec<String>,
        mapper: Function,
        reducer: Function,
        output_directory: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            inputs,
            mapper,
            combiner: None,
            reducer,
            partitioning: Partitioning::Hash,
            reducers: None,
            output: Output { directory: output_directory.into(), form: Form::Parts },
            environment: Vec::new(),
            fields: Fields::default(),
            compress: false,
            limits: Limits::default(),
        }
    }

    /// What is wrong with it, as far as it can be seen without looking at a disk.
    ///
    /// # Errors
    /// A sentence for its user.
    pub fn check(&self) -> Result<(), String> {
        if self.inputs.is_empty() {
            return Err("the job has no input; name files, directories or globs".into());
        }
        if self.output.directory.is_empty() {
            return Err("the job has no output directory".into());
        }
        if is_url(&self.output.directory) {
            return Err(format!(
                "the output {} is no directory of this machine; name one, and copy the files from there",
                self.output.directory
            ));
        }
        if let Some(reducers) = self.reducers
            && reducers > MOST_REDUCERS
        {
            return Err(format!("{reducers} reducers are not possible; choose at most {MOST_REDUCERS}"));
        }
        if self.reducers == Some(0) && (self.combiner.is_some() || self.partitioning != Partitioning::Hash) {
            return Err(
                "a job without reducers has no use for a combiner or for partitions; leave them out".into()
            );
        }
        if self.fields.key_fields == 0 {
            return Err("a key has at least one field".into());
        }
        self.partitioning.check()?;
        self.limits.check()
    }
}

/// What does the work of a mapper, a combiner or a reducer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Function {
    /// Compiled in, found by its name.
    Builtin {
        /// Its name in the table of functions.
        name: String,
        /// What it is told.
        args: Vec<String>,
    },
    /// A line for `sh -c`, under the contract of Hadoop Streaming.
    Command {
        /// The line.
        line: String,
    },
}

impl Function {
    /// A function that is compiled in.
    pub fn builtin(name: impl Into<String>, args: Vec<String>) -> Self {
        Self::Builtin { name: name.into(), args }
    }

    /// A command.
    pub fn command(line: impl Into<String>) -> Self {
        Self::Command { line: line.into() }
    }
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Builtin { name, args } if args.is_empty() => f.write_str(name),
            Self::Builtin { name, args } => write!(f, "{name} {}", args.join(" ")),
            Self::Command { line } => f.write_str(line),
        }
    }
}

/// Where the output goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The directory; it must not exist.
    pub directory: String,
    /// Names of the files in it, and what stands between key and value.
    pub form: Form,
}

/// How output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// `part-r-00000`, with a tab between key and value: Hadoop's form.
    Parts,
    /// `mr-out-0`, with a blank between key and value: the form of the course labs.
    Labs,
}

impl Form {
    /// The name of the output file of a task.
    pub fn file_name(self, TaskId { phase, index }: TaskId) -> String {
        match (self, phase) {
            (Self::Parts, Phase::Reduce) => format!("part-r-{index:05}"),
            (Self::Parts, Phase::Map) => format!("part-m-{index:05}"),
            (Self::Labs, _) => format!("mr-out-{index}"),
        }
    }

    /// What stands between key and value.
    pub fn separator(self) -> u8 {
        match self {
            Self::Parts => b'\t',
            Self::Labs => b' ',
        }
    }
}

/// How a line that a command wrote is cut: the key is its first fields, the value what is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fields {
    /// The byte between fields.
    pub separator: u8,
    /// How many fields make up the key, at least 1.
    pub key_fields: u32,
}

impl Default for Fields {
    fn default() -> Self {
        Self { separator: b'\t', key_fields: 1 }
    }
}

impl Fields {
    /// Cuts a line into key and value. A line with too few fields is a key without a value.
    pub fn cut<'a>(&self, line: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let mut ends = line.iter().enumerate().filter(|(_, byte)| **byte == self.separator);
        match ends.nth(self.key_fields.saturating_sub(1) as usize) {
            Some((end, _)) => (&line[..end], &line[end + 1..]),
            None => (line, &[]),
        }
    }
}

/// What bounds a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of input for one map task; without it, chosen by size and slots.
    pub split_bytes: Option<u64>,
    /// The longest line of input, and the longest key with its value, in bytes.
    pub max_record_bytes: u32,
    /// How often a task is tried before the job fails, at least 1.
    pub attempts: u32,
    /// A task that shows no progress for so long is given up, in milliseconds, at least 100.
    pub task_timeout_ms: u64,
    /// So many records at which a task fails twice are passed over in each task, at most
    /// [`MOST_SKIPPED`](Self::MOST_SKIPPED); see [`skip`](super::skip). 0: none, the task fails.
    pub skip_bad_records: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            split_bytes: None,
            max_record_bytes: 16 << 20,
            attempts: 4,
            task_timeout_ms: 60_000,
            skip_bad_records: 0,
        }
    }
}

impl Limits {
    /// The least and the most that [`max_record_bytes`](Self::max_record_bytes) may be. A record must fit into the
    /// memory of a task.
    pub const RECORD_BYTES: std::ops::RangeInclusive<u32> = 1024..=64 << 20;

    /// More records than these cannot be passed over in one task: each is kept with the job.
    pub const MOST_SKIPPED: u32 = 1000;

    fn check(&self) -> Result<(), String> {
        if self.split_bytes == Some(0) {
            return Err("a split has at least one byte".into());
        }
        if !Self::RECORD_BYTES.contains(&self.max_record_bytes) {
            let (least, most) = Self::RECORD_BYTES.into_inner();
            return Err(format!(
                "the longest record must be {least} to {most} bytes, not {}",
                self.max_record_bytes
            ));
        }
        if self.attempts == 0 {
            return Err("a task is tried at least once".into());
        }
        if self.task_timeout_ms < 100 {
            return Err("the timeout of a task is at least 100 ms".into());
        }
        if self.skip_bad_records > Self::MOST_SKIPPED {
            let most = Self::MOST_SKIPPED;
            return Err(format!("at most {most} bad records can be skipped in a task"));
        }
        if self.skip_bad_records > 0 && self.attempts <= KILLS {
            return Err(format!(
                "a record is bad when a task has failed at it {KILLS} times; to skip such records, allow at least {} \
                 attempts",
                KILLS + 1
            ));
        }
        Ok(())
    }
}

/// A job that is ready to run: its inputs have been looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What all tasks are told.
    pub setup: Setup,
    /// One map task for each.
    pub splits: Vec<Split>,
}

/// What all tasks of a job are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setup {
    /// The identity of the job, unique where it runs.
    pub id: String,
    /// The job.
    pub job: Job,
    /// How many map tasks.
    pub maps: u32,
    /// How many reduce tasks.
    pub reducers: u32,
    /// Which of them gets which key.
    pub partitioner: Partitioner,
}

impl Setup {
    /// Whether there are no reducers: what the mapper writes is the output.
    pub fn is_map_only(&self) -> bool {
        self.reducers == 0
    }

    /// Adds the input to what is said of a map task that failed, if it is not in it: one that hangs cannot say it.
    pub fn locate(&self, splits: &[Split], attempt: Attempt, why: String) -> String {
        match splits.get(attempt.task.index as usize) {
            Some(split) if attempt.task.phase == Phase::Map && !why.contains(&split.file) => {
                let (from, to) = (split.offset, split.offset + split.length);
                format!(
                    "{why}\n  function: {}\n  input: {}, bytes {from} to {to}",
                    self.job.mapper, split.file
                )
            }
            _ => why,
        }
    }

    /// Where a record is that an attempt passed over, for people.
    pub fn place(&self, splits: &[Split], task: TaskId, record: u64) -> String {
        match (task.phase, splits.get(task.index as usize)) {
            (Phase::Map, Some(split)) => format!("{}, the line at byte {record}", split.file),
            _ => format!("{task}, key number {record}"),
        }
    }
}

/// Map or reduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// From a split to one partitioned file.
    Map,
    /// From one partition of all those files to one file of output.
    Reduce,
}

/// A task of a job: `map-3`, `reduce-0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// Map or reduce.
    pub phase: Phase,
    /// The number of the split, or of the partition.
    pub index: u32,
}

impl TaskId {
    /// The map task of a split.
    pub fn map(index: u32) -> Self {
        Self { phase: Phase::Map, index }
    }

    /// The reduce task of a partition.
    pub fn reduce(index: u32) -> Self {
        Self { phase: Phase::Reduce, index }
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let phase = match self.phase {
            Phase::Map => "map",
            Phase::Reduce => "reduce",
        };
        write!(f, "{phase}-{}", self.index)
    }
}

/// One try at a task: `map-3.1`. Tries are numbered from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Attempt {
    /// The task.
    pub task: TaskId,
    /// Which try.
    pub number: u32,
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.task, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> Job {
        Job::new(
            "t",
            vec!["in".into()],
            Function::builtin("wc", vec![]),
            Function::builtin("sum", vec![]),
            "out",
        )
    }

    #[test]
    fn a_line_is_cut_behind_its_key_fields() {
        let two = Fields { separator: b',', key_fields: 2 };
        for (fields, line, key, value) in [
            (Fields::default(), "a\tb\tc", "a", "b\tc"),
            (Fields::default(), "a", "a", ""),
            (Fields::default(), "", "", ""),
            (Fields::default(), "\tb", "", "b"),
            (two, "a,b,c", "a,b", "c"),
            (two, "a,b", "a,b", ""),
        ] {
            assert_eq!(fields.cut(line.as_bytes()), (key.as_bytes(), value.as_bytes()), "{line:?}");
        }
    }

    #[test]
    fn what_cannot_run_is_refused_with_a_sentence() {
        assert_eq!(job().check(), Ok(()));
        type Spoil = fn(&mut Job);
        let wrong: [(Spoil, &str); 9] = [
            (|job| job.inputs.clear(), "no input"),
            (|job| job.output.directory.clear(), "no output directory"),
            (|job| job.reducers = Some(10_001), "10001 reducers"),
            (|job| (job.reducers, job.partitioning) = (Some(0), Partitioning::Range), "without reducers"),
            (|job| job.limits.attempts = 0, "at least once"),
            (|job| job.limits.max_record_bytes = 1, "longest record"),
            (|job| job.fields.key_fields = 0, "at least one field"),
            (|job| job.limits.skip_bad_records = 1001, "at most 1000 bad records"),
            (|job| (job.limits.skip_bad_records, job.limits.attempts) = (1, 2), "at least 3 attempts"),
        ];
        for (spoil, word) in wrong {
            let mut job = job();
            spoil(&mut job);
            let problem = job.check().expect_err(word);
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn tasks_and_files_have_the_names_that_people_know() {
        assert_eq!(Attempt { task: TaskId::map(3), number: 1 }.to_string(), "map-3.1");
        assert_eq!(Form::Parts.file_name(TaskId::reduce(7)), "part-r-00007");
        assert_eq!(Form::Parts.file_name(TaskId::map(7)), "part-m-00007");
        assert_eq!(Form::Labs.file_name(TaskId::reduce(7)), "mr-out-7");
    }
}
