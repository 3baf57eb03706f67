//! A reduce task from its sources to its file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use super::function::{Emit, Reducer, TaskContext};
use super::groups::{Group, Pairs};
use super::lines::{Lines, OUTPUT_BUFFER};
use super::map::{Sink, panic_text};
use super::merge::{Merge, lost_sources, reduce_sources};
use super::stream::Command;
use super::task::{Control, Env, Part, ReduceTask};
use crate::logic::mapreduce::counters;
use crate::logic::mapreduce::failure::{Cause, TaskFailure};
use crate::logic::mapreduce::job::Function;

/// Runs a reduce task on this thread, which it blocks.
///
/// When the output of a map task is lost, the failure names all of its sources that are.
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
) -> Result<Part, TaskFailure> {
    reduce(task, env, attempts, control).map_err(|failure| match failure.cause {
        Cause::Lost { map, .. } => name_all_lost(failure, map, task, control),
        _ => failure,
    })
}

/// Told one by one, each output that is damaged would cost an attempt, and a task that so many attempts were lost of
/// fails its job.
fn name_all_lost(failure: TaskFailure, map: u32, task: &ReduceTask, control: &Control) -> TaskFailure {
    // What cannot be looked through now is found by the next attempt.
    let Ok(mut more) = lost_sources(&task.sources, control) else { return failure };
    more.retain(|other| *other != map);
    let others = match more.len() {
        0 => String::new(),
        many => format!(" (and that of {many} more map tasks)"),
    };
    TaskFailure { cause: Cause::Lost { map, more }, message: failure.message + &others, ..failure }
}

fn reduce(task: &ReduceTask, env: &Env, attempts: &Path, control: &Control) -> Result<Part, TaskFailure> {
    let setup = &task.setup;
    control.expect_bytes(task.sources.iter().map(|source| source.extent().length).sum());
    let mut files = 0;
    let name = || {
        files += 1;
        env.scratch.join(format!("{}-{}.merged-{files}", setup.id, task.attempt))
    };
    let memory = env.memory_bytes.saturating_sub(OUTPUT_BUFFER);
    let sources = reduce_sources(task.sources.clone(), memory, setup.job.compress, control, name)?;
    let mut out = Lines::create(setup, task.attempt, attempts)?;
    if !sources.is_empty() {
        let mut input = Input { merge: Merge::open(&sources)?, control, pairs: 0 };
        match &setup.job.reducer {
            Function::Builtin { name, args } => {
                let reducer = env.functions.make_reducer(name, args).map_err(TaskFailure::hopeless)?;
                out.skipped = drive(reducer, task, &mut input, &mut out)?;
                out.counters.count_skipped(&out.skipped);
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
    out.finish(control)
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
    out.check()?;
    Ok(skipped)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::logic::mapreduce::job::{Attempt, Job, Setup, TaskId};
    use crate::logic::mapreduce::partition::Partitioner;
    use crate::logic::mapreduce::skip::Skips;
    use crate::mapreduce::function::Functions;
    use crate::mapreduce::run_file::RunWriter;
    use crate::mapreduce::source::{LocalSource, Source};

    fn setup(maps: u32) -> Setup {
        let function = |name: &str| Function::builtin(name, Vec::new());
        let job = Job::new("t", vec!["in".into()], function("wc"), function("sum"), "out");
        Setup { id: "1".into(), job, maps, reducers: 1, partitioner: Partitioner::Hash }
    }

    /// The output of a map task with one pair; spoilt if its number is odd.
    fn source(dir: &Path, map: u32) -> Arc<dyn Source> {
        let mut writer = RunWriter::create(dir.join(format!("map-{map}")), 1, false).expect("created");
        writer.push(b"key", b"1").expect("written");
        let (path, index) = writer.finish().expect("finished");
        if map % 2 == 1 {
            let mut bytes = std::fs::read(&path).expect("readable");
            bytes[13] ^= 1;
            std::fs::write(&path, bytes).expect("written");
        }
        Arc::new(LocalSource { map, path, extent: index.0[0] })
    }

    #[test]
    fn all_outputs_that_are_damaged_are_named_at_once_whatever_the_memory() {
        let dir = tempfile::tempdir().expect("a directory");
        let sources = (0..90).map(|map| source(dir.path(), map)).collect();
        let attempt = Attempt { task: TaskId::reduce(0), number: 1 };
        let task = ReduceTask { setup: Arc::new(setup(90)), attempt, sources, skips: Skips::default() };
        for memory_bytes in [0, 1 << 30] {
            let functions = Arc::new(Functions::builtin());
            let env = Env { scratch: dir.path().into(), memory_bytes, functions };
            let failure = run_reduce(&task, &env, dir.path(), &Control::default()).expect_err("damaged");
            let Cause::Lost { map, more } = failure.cause else { panic!("{failure}") };
            let lost: Vec<u32> = [map].into_iter().chain(more).collect();
            assert_eq!(lost, (0..90).filter(|map| map % 2 == 1).collect::<Vec<_>>());
            assert!(failure.message.contains("44 more map tasks"), "{}", failure.message);
        }
    }
}
