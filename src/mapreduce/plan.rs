//! From a job to its tasks: looks at the inputs, cuts them, and finds the borders of ranges.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use super::function::{Emit, Functions};
use super::input::expand;
use super::map::{Sink, run_mapper};
use super::task::{Control, MapTask};
use crate::logic::mapreduce::failure::{Cause, TaskFailure};
use crate::logic::mapreduce::job::{Attempt, Function, Job, Plan, Setup, TaskId};
use crate::logic::mapreduce::partition::{Partitioner, Partitioning, borders};
use crate::logic::mapreduce::skip::Skips;
use crate::logic::mapreduce::split::{self, Compression, InputFile, Split};

/// A sample has pieces of at most this many splits, evenly spread.
const SAMPLED_SPLITS: usize = 24;
/// A piece is so many bytes long.
const SAMPLED_BYTES: u64 = 64 << 10;
/// More of a key is not needed to tell it from its neighbours.
const SAMPLED_KEY: usize = 256;
/// The keys of a piece may take so many bytes: a mapper may make far more of a line than the line has.
const SAMPLED_KEYS: usize = 1 << 20;
/// For the number of reducers: what a compressed byte is taken for.
const UNPACKED: u64 = 4;
/// More tasks would not fit into the memory of a coordinator.
const MOST_SPLITS: usize = 1_000_000;

/// Looks at the inputs of a job and says which tasks there are. `slots` is how many tasks can run at the same time.
///
/// A job that is partitioned by ranges runs its mapper over a small sample of the input, for as long as a task may go
/// without progress. `control` is for this plan alone: cancelling it ends that soon.
///
/// # Errors
/// A sentence for the user: what is wrong with the job or its inputs.
pub fn plan(
    id: String,
    job: Job,
    slots: u32,
    functions: &Functions,
    control: &Control,
) -> Result<Plan, String> {
    job.check()?;
    check_functions(&job, functions)?;
    let files = expand(&job.inputs)?;
    let bytes = files.iter().map(unpacked).sum();
    let split_bytes = job.limits.split_bytes.unwrap_or_else(|| split::split_bytes(bytes, slots));
    let splits = split::cut(&files, split_bytes);
    if splits.len() > MOST_SPLITS {
        return Err(format!(
            "the input makes {} tasks, more than {MOST_SPLITS}; make splits larger",
            splits.len()
        ));
    }
    let reducers = job.reducers.unwrap_or_else(|| split::reducers(bytes, slots));
    let maps = u32::try_from(splits.len()).expect("at most MOST_SPLITS");
    let mut setup = Setup { id, job, maps, reducers, partitioner: Partitioner::Hash };
    setup.partitioner = match &setup.job.partitioning {
        Partitioning::Hash => Partitioner::Hash,
        Partitioning::Fields { separator, first } => {
            Partitioner::Fields { separator: *separator, first: *first }
        }
        Partitioning::Range if reducers == 1 => Partitioner::Range { borders: Vec::new() },
        Partitioning::Range => {
            let keys = sample(&setup, &splits, functions, control)?;
            Partitioner::Range { borders: borders(keys, reducers) }
        }
    };
    Ok(Plan { setup, splits })
}

fn unpacked(file: &InputFile) -> u64 {
    match Compression::of(&file.path) {
        Compression::Plain => file.length,
        _ => file.length.saturating_mul(UNPACKED),
    }
}

fn check_functions(job: &Job, functions: &Functions) -> Result<(), String> {
    if let Function::Builtin { name, args } = &job.mapper {
        functions.make_mapper(name, args)?;
    }
    for function in job.combiner.iter().chain([&job.reducer]) {
        if let Function::Builtin { name, args } = function {
            functions.make_reducer(name, args)?;
        }
    }
    Ok(())
}

/// The keys that the mapper makes of some of the input.
fn sample(
    setup: &Setup,
    splits: &[Split],
    functions: &Functions,
    control: &Control,
) -> Result<Vec<Vec<u8>>, String> {
    let limit = Duration::from_millis(setup.job.limits.task_timeout_ms);
    let mut keys = Keys::default();
    within(limit, control, || sample_pieces(setup, splits, functions, control, &mut keys))?
        .map_err(|failure| failure.message)?;
    if keys.found.is_empty() && control.is_cancelled() {
        return Err(format!(
            "the mapper {} gave no key within {limit:?}, when its input was sampled for the borders of the reducers; \
             if it needs longer, raise --task-timeout, or do with one reducer",
            setup.job.mapper
        ));
    }
    Ok(keys.found)
}

/// Does some work, and cancels it when it takes too long.
fn within<T>(limit: Duration, control: &Control, work: impl FnOnce() -> T) -> Result<T, String> {
    std::thread::scope(|threads| {
        let (done, waiting) = channel::<()>();
        let clock = move || {
            if waiting.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                control.cancel();
            }
        };
        let clock = std::thread::Builder::new().name("sample-clock".into()).spawn_scoped(threads, clock);
        clock.map_err(|error| format!("cannot start a thread: {error}"))?;
        let result = work();
        drop(done);
        Ok(result)
    })
}

fn sample_pieces(
    setup: &Setup,
    splits: &[Split],
    functions: &Functions,
    control: &Control,
    keys: &mut Keys,
) -> Result<(), TaskFailure> {
    let step = splits.len().div_ceil(SAMPLED_SPLITS).max(1);
    let setup = Arc::new(setup.clone());
    let mut pieces: Vec<_> = splits.iter().enumerate().step_by(step).zip(0u32..).collect();
    // Halves, quarters, eighths: wherever time ends it, what was sampled is spread over the whole input.
    pieces.sort_by_key(|(_, piece)| piece.reverse_bits());
    for ((number, split), _) in pieces {
        let index = u32::try_from(number).expect("at most MOST_SPLITS");
        let attempt = Attempt { task: TaskId::map(index), number: 1 };
        let (split, skips) = (split.clone(), Skips::default());
        let task = MapTask { setup: setup.clone(), attempt, split, skips };
        keys.room = SAMPLED_KEYS;
        match run_mapper(&task, functions, control, keys, Some(SAMPLED_BYTES)) {
            // Time is up, or there are enough keys of this piece.
            Err(failure) if failure.cause == Cause::Cancelled => {}
            // A job that passes over bad records does not fail at one here: the keys before it are sample enough.
            Err(failure) if setup.job.limits.skip_bad_records == 0 => return Err(failure),
            _ => {}
        }
        if control.is_cancelled() {
            break;
        }
    }
    Ok(())
}

#[derive(Default)]
struct Keys {
    found: Vec<Vec<u8>>,
    /// Bytes that the keys of this piece may still take.
    room: usize,
}

impl Emit for Keys {
    fn emit(&mut self, key: &[u8], _value: &[u8]) {
        if self.room > 0 {
            let key = key[..key.len().min(SAMPLED_KEY)].to_vec();
            self.room = self.room.saturating_sub(key.len() + size_of_val(&key));
            self.found.push(key);
        }
    }

    fn counter(&mut self, _group: &str, _name: &str, _amount: u64) {}
}

impl Sink for Keys {
    /// A mapper may write without end.
    fn check(&mut self) -> Result<(), TaskFailure> {
        if self.room > 0 { Ok(()) } else { Err(TaskFailure::cancelled()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mapreduce::job::Job;

    /// The plan of a job that is made of a command and has two reducers, or what is wrong with it.
    fn planned(
        mapper: &str,
        input: &std::path::Path,
        timeout_ms: u64,
        control: &Control,
    ) -> Result<Plan, String> {
        let inputs = vec![input.to_str().expect("UTF-8").to_string()];
        let pairs = Function::builtin("pairs", Vec::new());
        let mut job = Job::new("sampled", inputs, Function::command(mapper), pairs, "out");
        (job.reducers, job.partitioning) = (Some(2), Partitioning::Range);
        (job.limits.split_bytes, job.limits.task_timeout_ms) = (Some(100), timeout_ms);
        plan("1".into(), job, 1, &Functions::builtin(), control)
    }

    fn borders_of(plan: &Plan) -> Vec<&[u8]> {
        match &plan.setup.partitioner {
            Partitioner::Range { borders } => borders.iter().map(Vec::as_slice).collect(),
            other => panic!("{other:?}"),
        }
    }

    fn input(dir: &std::path::Path) -> std::path::PathBuf {
        let lines: String = (100..500).map(|n| format!("{n}\n")).collect();
        std::fs::write(dir.join("in"), lines).expect("written");
        dir.join("in")
    }

    #[test]
    fn a_mapper_that_writes_without_end_gives_its_first_keys() {
        let dir = tempfile::tempdir().expect("a directory");
        let plan = planned("yes", &input(dir.path()), 600_000, &Control::default()).expect("planned");
        assert_eq!(borders_of(&plan), [b"y"]);
    }

    #[test]
    fn a_mapper_that_gives_no_key_in_time_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let refused = planned("exec sleep 100000", &input(dir.path()), 300, &Control::default());
        let text = refused.expect_err("no key");
        assert!(text.contains("gave no key within 300ms") && text.contains("--task-timeout"), "{text}");
    }

    #[test]
    fn what_was_sampled_until_time_was_up_is_from_everywhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let (input, seen, control) = (input(dir.path()), dir.path().join("seen"), Control::default());
        // It hangs at the fifth of sixteen pieces.
        let hang = format!("[ $(wc -l < {0}) -lt 5 ] || exec sleep 100000", seen.display());
        let mapper = format!("cat; echo >> {}; {hang}", seen.display());
        let plan = std::thread::scope(|threads| {
            let planned = threads.spawn(|| planned(&mapper, &input, 600_000, &control));
            while std::fs::read(&seen).map_or(0, |seen| seen.len()) < 5 {
                std::thread::sleep(Duration::from_millis(10));
            }
            control.cancel();
            planned.join().expect("no panic").expect("planned")
        });
        let border = String::from_utf8_lossy(borders_of(&plan)[0]).into_owned();
        assert!(("200".to_string().."400".to_string()).contains(&border), "{border}");
    }
}
