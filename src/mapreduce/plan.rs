//! From a job to its tasks: looks at the inputs, cuts them, and finds the borders of ranges.

use std::sync::Arc;

use super::function::{Emit, Functions};
use super::input::expand;
use super::map::{Sink, run_mapper};
use super::task::{Control, MapTask};
use crate::logic::mapreduce::failure::TaskFailure;
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
/// For the number of reducers: what a compressed byte is taken for.
const UNPACKED: u64 = 4;
/// More tasks would not fit into the memory of a coordinator.
const MOST_SPLITS: usize = 1_000_000;

/// Looks at the inputs of a job and says which tasks there are. `slots` is how many tasks can run at the same time.
///
/// A job that is partitioned by ranges runs its mapper over a small sample of the input.
///
/// # Errors
/// A sentence for the user: what is wrong with the job or its inputs.
pub fn plan(id: String, job: Job, slots: u32, functions: &Functions) -> Result<Plan, String> {
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
            let keys = sample(&setup, &splits, functions).map_err(|failure| failure.message)?;
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
fn sample(setup: &Setup, splits: &[Split], functions: &Functions) -> Result<Vec<Vec<u8>>, TaskFailure> {
    let step = splits.len().div_ceil(SAMPLED_SPLITS).max(1);
    let setup = Arc::new(setup.clone());
    let mut keys = Keys::default();
    for (number, split) in splits.iter().enumerate().step_by(step) {
        let index = u32::try_from(number).expect("at most MOST_SPLITS");
        let attempt = Attempt { task: TaskId::map(index), number: 1 };
        let (split, skips) = (split.clone(), Skips::default());
        let task = MapTask { setup: setup.clone(), attempt, split, skips };
        let sampled = run_mapper(&task, functions, &Control::default(), &mut keys, Some(SAMPLED_BYTES));
        // A job that passes over bad records does not fail at one here: the keys before it are sample enough.
        if setup.job.limits.skip_bad_records == 0 {
            sampled?;
        }
    }
    Ok(keys.0)
}

#[derive(Default)]
struct Keys(Vec<Vec<u8>>);

impl Emit for Keys {
    fn emit(&mut self, key: &[u8], _value: &[u8]) {
        self.0.push(key[..key.len().min(SAMPLED_KEY)].to_vec());
    }

    fn counter(&mut self, _group: &str, _name: &str, _amount: u64) {}
}

impl Sink for Keys {
    fn check(&mut self) -> Result<(), TaskFailure> {
        Ok(())
    }
}
