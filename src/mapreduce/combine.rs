//! Combining: fewer pairs of the same keys, before they are written.

use super::function::{Emit, Functions, Reducer, TaskContext};
use super::groups::{Group, Pairs};
use super::run_file::RunWriter;
use super::stream;
use super::task::Control;
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::{Attempt, Function, Setup};

/// What happens to the sorted pairs of a partition on their way to a file.
pub(super) struct Combiner<'a> {
    how: How,
    setup: &'a Setup,
    attempt: Attempt,
    control: &'a Control,
}

enum How {
    Not,
    Reducer(Box<dyn Reducer>),
    Command(String),
}

impl<'a> Combiner<'a> {
    pub(super) fn new(
        setup: &'a Setup,
        attempt: Attempt,
        functions: &Functions,
        control: &'a Control,
    ) -> Result<Self, TaskFailure> {
        let how = match &setup.job.combiner {
            None => How::Not,
            Some(Function::Command { line }) => How::Command(line.clone()),
            Some(Function::Builtin { name, args }) => {
                let mut reducer = functions.make_reducer(name, args).map_err(TaskFailure::hopeless)?;
                let context = TaskContext { setup, attempt, split: None };
                reducer.begin(&context).map_err(|error| failed(&error))?;
                How::Reducer(reducer)
            }
        };
        Ok(Self { how, setup, attempt, control })
    }

    /// If numbers can be folded as they come, how.
    pub(super) fn fold(&self) -> Option<fn(u64, u64) -> u64> {
        match &self.how {
            How::Reducer(reducer) => reducer.fold(),
            _ => None,
        }
    }

    /// Writes the pairs of the partition that the writer is at.
    pub(super) fn write<P: Pairs + Send>(
        &mut self,
        pairs: &mut P,
        writer: &mut RunWriter,
        counters: &mut Counters,
    ) -> Result<(), TaskFailure> {
        match &mut self.how {
            How::Not => copy(pairs, writer),
            How::Reducer(reducer) => {
                reduce(&mut **reducer, pairs, Combined::new(self.setup, writer, counters))
            }
            How::Command(line) => {
                if pairs.peek().is_none() {
                    return Ok(());
                }
                let command = stream::Command::new("combiner", line, self.setup, self.attempt, None);
                let mut combined = Combined::new(self.setup, writer, counters);
                let fields = self.setup.job.fields;
                let counted = command.reduce(pairs, self.control, |line| {
                    let (key, value) = fields.cut(line);
                    combined.pair(key, value)
                })?;
                counters.merge(&counted);
                Ok(())
            }
        }
    }
}

fn copy<P: Pairs>(pairs: &mut P, writer: &mut RunWriter) -> Result<(), TaskFailure> {
    while let Some((key, value)) = pairs.peek() {
        writer.push(key, value)?;
        pairs.advance()?;
    }
    Ok(())
}

fn reduce<P: Pairs>(
    reducer: &mut dyn Reducer,
    pairs: &mut P,
    mut combined: Combined<'_>,
) -> Result<(), TaskFailure> {
    let mut key = Vec::new();
    while let Some((next, _)) = pairs.peek() {
        key.clear();
        key.extend_from_slice(next);
        let mut group = Group::new(pairs, &key);
        let result = reducer.reduce(&key, &mut group, &mut combined);
        group.end()?;
        result.map_err(|error| failed(&error))?;
        if let Some(failure) = combined.failure.take() {
            return Err(failure);
        }
    }
    Ok(())
}

fn failed(error: &impl std::fmt::Display) -> TaskFailure {
    TaskFailure::function(format!("the combiner failed: {error}"))
}

/// What a combiner emits. It may change values, but keys must stay in their order and in their partition.
struct Combined<'a> {
    setup: &'a Setup,
    writer: &'a mut RunWriter,
    counters: &'a mut Counters,
    last: Vec<u8>,
    failure: Option<TaskFailure>,
}

impl<'a> Combined<'a> {
    fn new(setup: &'a Setup, writer: &'a mut RunWriter, counters: &'a mut Counters) -> Self {
        Self { setup, writer, counters, last: Vec::new(), failure: None }
    }

    fn pair(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskFailure> {
        let show = |key: &[u8]| String::from_utf8_lossy(&key[..key.len().min(60)]).into_owned();
        if key < self.last.as_slice() {
            return Err(TaskFailure::function(format!(
                "the combiner emitted the key {:?} after {:?}; it must emit keys in the order in which it gets them",
                show(key),
                show(&self.last)
            )));
        }
        if self.setup.partitioner.partition(key, self.setup.reducers) != self.writer.partition() {
            return Err(TaskFailure::function(format!(
                "the combiner emitted the key {:?}, which belongs to another reducer than its input; it must not \
                 change keys",
                show(key)
            )));
        }
        check_length(self.setup, "combiner", key.len() + value.len())?;
        self.last.clear();
        self.last.extend_from_slice(key);
        self.writer.push(key, value)
    }
}

/// Refuses a pair that is longer than a record may be.
pub(super) fn check_length(setup: &Setup, who: &str, length: usize) -> Result<(), TaskFailure> {
    let most = setup.job.limits.max_record_bytes as usize;
    if length <= most {
        return Ok(());
    }
    Err(TaskFailure::hopeless(format!(
        "the {who} emitted a pair of {length} bytes, more than the {most} that a record may have; if that is no \
         mistake, raise --max-record"
    )))
}

impl Emit for Combined<'_> {
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        if self.failure.is_none()
            && let Err(failure) = self.pair(key, value)
        {
            self.failure = Some(failure);
        }
    }

    fn counter(&mut self, group: &str, name: &str, amount: u64) {
        self.counters.add(group, name, amount);
    }
}
