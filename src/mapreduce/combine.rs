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
    setup: &'a Setup,
    attempt: Attempt,
    functions: &'a Functions,
    control: &'a Control,
    fold: Option<fn(u64, u64) -> u64>,
}

impl<'a> Combiner<'a> {
    pub(super) fn new(
        setup: &'a Setup,
        attempt: Attempt,
        functions: &'a Functions,
        control: &'a Control,
    ) -> Result<Self, TaskFailure> {
        let fold = match &setup.job.combiner {
            Some(Function::Builtin { name, args }) => {
                functions.make_reducer(name, args).map_err(TaskFailure::hopeless)?.fold()
            }
            _ => None,
        };
        Ok(Self { setup, attempt, functions, control, fold })
    }

    /// If numbers can be folded as they come, how.
    pub(super) fn fold(&self) -> Option<fn(u64, u64) -> u64> {
        self.fold
    }

    /// Writes the pairs of the partition that the writer is at.
    pub(super) fn write<P: Pairs + Send>(
        &self,
        pairs: &mut P,
        writer: &mut RunWriter,
        counters: &mut Counters,
    ) -> Result<(), TaskFailure> {
        if pairs.peek().is_none() {
            return Ok(());
        }
        match &self.setup.job.combiner {
            None => copy(pairs, writer),
            Some(Function::Builtin { name, args }) => {
                // A new one each time: it has a beginning and an end, and may keep something back until then.
                let mut reducer = self.functions.make_reducer(name, args).map_err(TaskFailure::hopeless)?;
                let context = TaskContext { setup: self.setup, attempt: self.attempt, split: None };
                reducer.begin(&context).map_err(|error| failed(&error))?;
                reduce(reducer, pairs, Combined::new(self.setup, writer, counters))
            }
            Some(Function::Command { line }) => {
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
    mut reducer: Box<dyn Reducer>,
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
        combined.check()?;
    }
    reducer.finish(&mut combined).map_err(|error| failed(&error))?;
    combined.check()
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

    /// What went wrong in a call of [`Emit`].
    fn check(&mut self) -> Result<(), TaskFailure> {
        self.failure.take().map_or(Ok(()), Err)
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::logic::mapreduce::job::{Job, TaskId};
    use crate::logic::mapreduce::partition::Partitioner;
    use crate::mapreduce::function::{FunctionResult, Values};
    use crate::mapreduce::merge::Merge;
    use crate::mapreduce::source::{LocalSource, Source};

    /// Counts the values of a key, and keeps each count back until the next key comes, or the end.
    #[derive(Default)]
    struct Late(Option<(Vec<u8>, u64)>);

    impl Late {
        fn say(&mut self, out: &mut dyn Emit) {
            if let Some((key, count)) = self.0.take() {
                out.emit_number(&key, count);
            }
        }
    }

    impl Reducer for Late {
        fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
            self.say(out);
            let mut count = 0;
            while values.next().is_some() {
                count += 1;
            }
            self.0 = Some((key.to_vec(), count));
            Ok(())
        }

        fn finish(&mut self, out: &mut dyn Emit) -> FunctionResult {
            self.say(out);
            Ok(())
        }
    }

    fn pairs(mut merge: Merge) -> Vec<(String, String)> {
        let mut found = Vec::new();
        while let Some((key, value)) = merge.peek() {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            found.push((text(key), text(value)));
            merge.advance().expect("readable");
        }
        found
    }

    #[test]
    fn what_a_combiner_keeps_back_until_its_end_is_not_lost() {
        let dir = tempfile::tempdir().expect("a directory");
        let opened = |writer: RunWriter| {
            let (path, index) = writer.finish().expect("finished");
            let source: Arc<dyn Source> = Arc::new(LocalSource { map: 0, path, extent: index.0[0] });
            Merge::open(&[source]).expect("readable")
        };
        let mut functions = Functions::builtin();
        functions.reducer("late", |_: &[String]| Ok(Late::default()));
        let late = || Function::builtin("late", Vec::new());
        let mut job = Job::new("t", vec!["in".into()], late(), late(), "out");
        job.combiner = Some(late());
        let setup = Setup { id: "1".into(), job, maps: 1, reducers: 1, partitioner: Partitioner::Hash };
        let (attempt, control) = (Attempt { task: TaskId::map(0), number: 1 }, Control::default());
        let combiner = Combiner::new(&setup, attempt, &functions, &control).expect("it is known");
        // It combines once and again: what one run kept back belongs to no other.
        for keys in [["a", "a", "b"], ["a", "c", "c"]] {
            let mut run = RunWriter::create(dir.path().join("run"), 1, false).expect("created");
            keys.iter().for_each(|key| run.push(key.as_bytes(), b"").expect("written"));
            let mut combined = RunWriter::create(dir.path().join("combined"), 1, false).expect("created");
            let mut counters = Counters::default();
            combiner.write(&mut opened(run), &mut combined, &mut counters).expect("combined");
            let pair = |key: &str, count: &str| (key.to_string(), count.to_string());
            let expected = match keys[1] {
                "a" => [pair("a", "2"), pair("b", "1")],
                _ => [pair("a", "1"), pair("c", "2")],
            };
            assert_eq!(pairs(opened(combined)), expected);
        }
    }
}
