//! A map task from its split to its file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::collector::Collector;
use super::function::{Emit, Functions, Mapper, Record, TaskContext};
use super::input;
use super::lines::Lines;
use super::records::Records;
use super::stream::{Command, Search};
use super::task::{Control, Env, MapOutput, MapTask, Part};
use crate::logic::mapreduce::counters::{self, Counters};
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::Function;

/// Runs a map task on this thread, which it blocks.
///
/// The output is one file in `env.scratch`; it is not synced, because it can be made again. A task that fails leaves
/// no file.
///
/// # Errors
/// What went wrong, and what it means for the job.
pub fn run_map(task: &MapTask, env: &Env, control: &Control) -> Result<MapOutput, TaskFailure> {
    control.expect_bytes(task.split.length);
    assert!(!task.setup.is_map_only(), "its output is a part of the job's");
    let memory_bytes = env.memory_bytes.saturating_sub(input::memory(&task.split.file));
    let env = Env { memory_bytes, ..env.clone() };
    let mut collector = Collector::new(task, &env, control)?;
    let read = run_mapper(task, &env.functions, control, &mut collector, None)?;
    let mut output = collector.finish()?;
    control.set_done(task.split.length);
    read.count(&mut output.counters);
    output.skipped = read.skipped;
    Ok(output)
}

/// Runs a map task of a job without reducers on this thread, which it blocks. The lines of the mapper are output, in
/// their order.
///
/// The output is one file in `attempts`, as that of [`run_reduce`](super::reduce::run_reduce).
///
/// # Errors
/// What went wrong, and what it means for the job.
pub fn run_map_only(
    task: &MapTask,
    env: &Env,
    attempts: &Path,
    control: &Control,
) -> Result<Part, TaskFailure> {
    control.expect_bytes(task.split.length);
    let mut out = Lines::create(&task.setup, task.attempt, attempts)?;
    let read = run_mapper(task, &env.functions, control, &mut out, None)?;
    control.set_done(task.split.length);
    read.count(&mut out.counters);
    out.skipped = read.skipped;
    out.finish(control)
}

/// What takes the pairs of a mapper.
pub(super) trait Sink: Emit {
    /// What went wrong in a call of [`Emit`].
    fn check(&mut self) -> Result<(), TaskFailure>;
}

/// What a mapper was given.
pub(super) struct Read {
    records: u64,
    bytes: u64,
    /// Places of records that it was not given.
    skipped: Vec<u64>,
}

impl Read {
    fn count(&self, counters: &mut Counters) {
        counters.count(counters::MAP_INPUT_RECORDS, self.records);
        counters.count(counters::MAP_INPUT_BYTES, self.bytes);
        counters.count_skipped(&self.skipped);
    }
}

/// Runs the mapper of a task over its split, or over its first lines.
pub(super) fn run_mapper(
    task: &MapTask,
    functions: &Functions,
    control: &Control,
    out: &mut impl Sink,
    first_bytes: Option<u64>,
) -> Result<Read, TaskFailure> {
    let mut records = Records::open(&task.split, task.setup.job.limits.max_record_bytes, control)?;
    records.pass_over(task.skips.records.clone());
    if let Some(bytes) = first_bytes {
        records.shorten(bytes);
    }
    match &task.setup.job.mapper {
        Function::Builtin { name, args } => {
            let mapper = functions.make_mapper(name, args).map_err(TaskFailure::hopeless)?;
            drive(mapper, task, records, control, out)
        }
        Function::Command { line } => stream(line, task, records, control, out),
    }
}

/// Tells how far the reading of a split is, now and then.
struct Meter<'a> {
    control: &'a Control,
    task: &'a MapTask,
    records: u64,
    told: u64,
    start: u64,
}

/// Progress is told after so many bytes.
const TELL_EVERY: u64 = 256 << 10;

impl<'a> Meter<'a> {
    fn new(task: &'a MapTask, control: &'a Control, records: &Records<'_>) -> Self {
        Self { control, task, records: 0, told: 0, start: records.offset() }
    }

    /// What was read, when all is read.
    fn sum(&self, records: &mut Records<'_>) -> Read {
        let bytes = records.offset() - self.start;
        Read { records: self.records, bytes, skipped: records.take_skipped() }
    }

    #[inline]
    fn record(&mut self, offset: u64) {
        self.records += 1;
        self.control.beat();
        if offset >= self.told {
            self.told = offset + TELL_EVERY;
            // A compressed file is longer inside than outside; until its end nobody knows by how much.
            let done = offset.saturating_sub(self.task.split.offset).min(self.task.split.length);
            self.control.set_done(done);
        }
    }
}

fn drive(
    mut mapper: Box<dyn Mapper>,
    task: &MapTask,
    mut records: Records<'_>,
    control: &Control,
    out: &mut impl Sink,
) -> Result<Read, TaskFailure> {
    let mut meter = Meter::new(task, control, &records);
    let mut at = None;
    // A mapper that panics is dropped and never called again.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let context = TaskContext { setup: &task.setup, attempt: task.attempt, split: Some(&task.split) };
        mapper.begin(&context).map_err(|error| failed(task, None, &error))?;
        while let Some((offset, line)) = records.next()? {
            control.check()?;
            at = Some(offset);
            meter.record(offset);
            let record = Record { file: &task.split.file, offset, line };
            mapper.map(&record, out).map_err(|error| failed(task, at, &error))?;
            out.check()?;
        }
        // The last line is not to blame for what happens behind it.
        at = None;
        mapper.finish(out).map_err(|error| failed(task, at, &error))
    }));
    match result {
        Ok(result) => result?,
        Err(panic) => return Err(failed(task, at, &format!("panicked: {}", panic_text(&*panic)))),
    }
    Ok(meter.sum(&mut records))
}

fn stream(
    line: &str,
    task: &MapTask,
    mut records: Records<'_>,
    control: &Control,
    out: &mut impl Sink,
) -> Result<Read, TaskFailure> {
    let mut meter = Meter::new(task, control, &records);
    let command = Command::new("mapper", line, &task.setup, task.attempt, Some(&task.split));
    let fields = task.setup.job.fields;
    let whole = task.setup.is_map_only();
    let mut emit = |line: &[u8]| {
        let (key, value) = if whole { (line, &[][..]) } else { fields.cut(line) };
        out.emit(key, value);
        out.check()
    };
    let tell = |offset| meter.record(offset);
    let (counted, found) = match task.skips.search {
        0 => (command.map(&mut records, tell, control, emit)?, Vec::new()),
        most => Search::new(&command, control, most).map(&mut records, tell, &mut emit)?,
    };
    for (group, name, amount) in counted.iter() {
        out.counter(group, name, amount);
    }
    let mut read = meter.sum(&mut records);
    read.skipped.extend(found);
    Ok(read)
}

fn failed(task: &MapTask, at: Option<u64>, error: &impl std::fmt::Display) -> TaskFailure {
    let split = &task.split;
    let place = match at {
        Some(at) => format!("the line at byte {at}"),
        None => format!("bytes {} to {}", split.offset, split.offset + split.length),
    };
    let failure = TaskFailure::function(format!(
        "the mapper {} failed: {error}\n  input: {}, {place}",
        task.setup.job.mapper, split.file
    ));
    failure.at(at)
}

pub(super) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}
