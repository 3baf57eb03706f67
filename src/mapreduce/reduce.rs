//! A reduce task from its sources to its file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::function::{Emit, Reducer, TaskContext};
use super::groups::{Group, Pairs};
use super::map::panic_text;
use super::merge::{Merge, reduce_sources};
use super::run_file::cannot_write;
use super::stream::Command;
use super::task::{Control, Env, ReduceOutput, ReduceTask};
use crate::logic::mapreduce::counters::{self, Counters};
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::Function;

const OUTPUT_BUFFER: usize = 1 << 20;
/// After so many bytes the kernel is asked to begin writing them.
const WRITE_BEHIND: u64 = 16 << 20;

/// Runs a reduce task on this thread, which it blocks.
///
/// The output is one file in `attempts`, synced, under a name that no other attempt has; it takes its place by
/// [`OutputDirectory::commit`](super::output::OutputDirectory::commit). A task that fails leaves no file.
///
/// # Errors
/// What went wrong, and what it means for the job.
pub fn run_reduce(
    task: &ReduceTask,
    env: &Env,
    attempts: &Path,
    control: &Control,
) -> Result<ReduceOutput, TaskFailure> {
    let setup = &task.setup;
    control.expect_bytes(task.sources.iter().map(|source| source.extent().length).sum());
    let mut files = 0;
    let name = || {
        files += 1;
        env.scratch.join(format!("{}-{}.merged-{files}", setup.id, task.attempt))
    };
    let memory = env.memory_bytes.saturating_sub(OUTPUT_BUFFER);
    let sources = reduce_sources(task.sources.clone(), memory, setup.job.compress, control, name)?;
    let mut out = Lines::create(task, attempts.join(format!("{}-{}", setup.id, task.attempt)))?;
    if !sources.is_empty() {
        let mut input = Input { merge: Merge::open(&sources)?, control, pairs: 0 };
        match &setup.job.reducer {
            Function::Builtin { name, args } => {
                let reducer = env.functions.make_reducer(name, args).map_err(TaskFailure::hopeless)?;
                out.skipped = drive(reducer, task, &mut input, &mut out)?;
            }
            Function::Command { line } => {
                let command = Command::new("reducer", line, setup, task.attempt, None);
                let counted = command.reduce(&mut input, control, |line| {
                    out.emit(line, b"");
                    out.check()
                })?;
                out.counters.merge(&counted);
            }
        }
        out.counters.count(counters::REDUCE_INPUT_RECORDS, input.pairs);
    }
    out.finish(setup.job.output.form.file_name(task.attempt.task.index), control)
}

/// The pairs of the partition. It tells how far it is, and looks up whether the task is to stop.
struct Input<'a> {
    merge: Merge,
    control: &'a Control,
    pairs: u64,
}

impl Pairs for Input<'_> {
    #[inline]
    fn peek(&self) -> Option<(&[u8], &[u8])> {
        self.merge.peek()
    }

    #[inline]
    fn advance(&mut self) -> Result<(), TaskFailure> {
        self.pairs += 1;
        self.merge.advance()?;
        let read = self.merge.take_read();
        if read > 0 {
            self.control.add_done(read);
            self.control.check()?;
        }
        Ok(())
    }
}

/// Returns the places of the keys that were passed over.
fn drive(
    mut reducer: Box<dyn Reducer>,
    task: &ReduceTask,
    input: &mut Input<'_>,
    out: &mut Lines,
) -> Result<Vec<u64>, TaskFailure> {
    let mut key = Vec::new();
    let mut keys = 0;
    let mut skipped = Vec::new();
    // The key's number is its place. Before and behind the keys there is none.
    let mut at = None;
    let failed = |at: Option<u64>, key: &[u8], error: &dyn std::fmt::Display| {
        let key = String::from_utf8_lossy(&key[..key.len().min(60)]).into_owned();
        let failure = TaskFailure::function(format!(
            "the reducer {} failed: {error}\n  partition {}, key {key:?}",
            task.setup.job.reducer, task.attempt.task.index
        ));
        failure.at(at)
    };
    // A reducer that panics is dropped and never called again.
    let result = catch_unwind(AssertUnwindSafe(|| {
        let context = TaskContext { setup: &task.setup, attempt: task.attempt, split: None };
        reducer.begin(&context).map_err(|error| failed(None, &key, &error))?;
        while let Some((next, _)) = input.peek() {
            key.clear();
            key.extend_from_slice(next);
            let number = keys;
            keys += 1;
            input.control.check()?;
            input.control.beat();
            let mut group = Group::new(input, &key);
            if task.skips.records.contains(&number) {
                skipped.push(number);
                group.end()?;
                continue;
            }
            at = Some(number);
            let result = reducer.reduce(&key, &mut group, out);
            // A source that failed cut the values short: then what the reducer says is of no interest.
            group.end()?;
            result.map_err(|error| failed(at, &key, &error))?;
            out.check()?;
        }
        at = None;
        reducer.finish(out).map_err(|error| failed(at, &key, &error))
    }));
    match result {
        Ok(result) => result?,
        Err(panic) => return Err(failed(at, &key, &format!("panicked: {}", panic_text(&*panic)))),
    }
    out.counters.count(counters::REDUCE_INPUT_KEYS, keys);
    if !skipped.is_empty() {
        out.counters.count(counters::SKIPPED_RECORDS, skipped.len() as u64);
    }
    out.check()?;
    Ok(skipped)
}

/// The file of output while it is written; removed unless it is finished.
struct Lines {
    file: BufWriter<File>,
    path: PathBuf,
    separator: u8,
    counters: Counters,
    skipped: Vec<u64>,
    lines: u64,
    bytes: u64,
    /// Up to here the kernel was asked to write.
    on_its_way: u64,
    failure: Option<TaskFailure>,
    finished: bool,
}

impl Lines {
    fn create(task: &ReduceTask, path: PathBuf) -> Result<Self, TaskFailure> {
        let file = File::create(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self {
            file: BufWriter::with_capacity(OUTPUT_BUFFER, file),
            path,
            separator: task.setup.job.output.form.separator(),
            counters: Counters::default(),
            skipped: Vec::new(),
            lines: 0,
            bytes: 0,
            on_its_way: 0,
            failure: None,
            finished: false,
        })
    }

    fn check(&mut self) -> Result<(), TaskFailure> {
        self.failure.take().map_or(Ok(()), Err)
    }

    fn write(&mut self, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        self.file.write_all(key)?;
        if !value.is_empty() {
            self.file.write_all(&[self.separator])?;
            self.file.write_all(value)?;
            self.bytes += 1;
        }
        self.file.write_all(b"\n")?;
        self.bytes += (key.len() + value.len() + 1) as u64;
        self.lines += 1;
        if self.bytes - self.on_its_way >= WRITE_BEHIND {
            self.write_behind();
        }
        Ok(())
    }

    /// Lets the disk work while the merge goes on, so that little is left for the sync at the end.
    fn write_behind(&mut self) {
        let written = self.bytes - OUTPUT_BUFFER as u64;
        start_writing(self.file.get_ref(), self.on_its_way, written - self.on_its_way);
        self.on_its_way = written;
    }

    /// Makes the file durable.
    fn finish(mut self, name: String, control: &Control) -> Result<ReduceOutput, TaskFailure> {
        self.check()?;
        control.check()?;
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| cannot_write(&self.path, &error))?;
        self.counters.count(counters::OUTPUT_RECORDS, self.lines);
        self.counters.count(counters::OUTPUT_BYTES, self.bytes);
        self.finished = true;
        let (counters, skipped) = (std::mem::take(&mut self.counters), std::mem::take(&mut self.skipped));
        Ok(ReduceOutput { path: self.path.clone(), name, counters, skipped })
    }
}

impl Emit for Lines {
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        if self.failure.is_none()
            && let Err(error) = self.write(key, value)
        {
            self.failure = Some(cannot_write(&self.path, &error));
        }
    }

    fn counter(&mut self, group: &str, name: &str, amount: u64) {
        self.counters.add(group, name, amount);
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed lies in a directory for attempts, and is removed with it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Asks the kernel to write a part of a file to the disk, without waiting. It is a hint; errors come with the sync.
#[cfg(target_os = "linux")]
fn start_writing(file: &File, from: u64, length: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(length)) else { return };
    // SAFETY: the call takes numbers only; the descriptor is open as long as the file is borrowed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writing(_file: &File, _from: u64, _length: u64) {}
