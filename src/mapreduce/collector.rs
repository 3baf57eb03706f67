//! Where the pairs of a map task go: into memory, sorted or folded there, and on to one partitioned file.

use std::path::PathBuf;
use std::sync::Arc;

use super::combine::{Combiner, check_length};
use super::folder::Folder;
use super::function::{Decimal, Emit, number};
use super::groups::Pairs;
use super::map::Sink;
use super::merge::{Merge, reduce_sources};
use super::run_file::{Index, RunWriter};
use super::sorter::Sorter;
use super::source::{LocalSource, Source};
use super::task::{Control, Env, MapOutput, MapTask};
use crate::logic::mapreduce::counters::{self, Counters};
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::Setup;

/// A folder may have this part of the memory: what is in it is copied to the sorter before it is written.
const FOLDER_SHARE: usize = 3;
/// What a merge and the writer of a file need beside the data.
const BUFFERS: usize = 1 << 20;

/// The pairs of one map task.
pub(super) struct Collector<'a> {
    setup: &'a Setup,
    attempt: String,
    env: &'a Env,
    control: &'a Control,
    combiner: Combiner<'a>,
    folder: Option<Folder>,
    sorter: Sorter,
    /// Sorted runs on disk, for when memory was full.
    runs: Vec<Run>,
    files: usize,
    pairs: u64,
    counters: Counters,
    failure: Option<TaskFailure>,
}

/// A run on disk, removed when it is no longer needed.
struct Run {
    path: PathBuf,
    index: Index,
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

impl<'a> Collector<'a> {
    pub(super) fn new(task: &'a MapTask, env: &'a Env, control: &'a Control) -> Result<Self, TaskFailure> {
        let combiner = Combiner::new(&task.setup, task.attempt, &env.functions, control)?;
        let memory = env.memory_bytes.saturating_sub(BUFFERS);
        let (folder, sorter) = match combiner.fold() {
            Some(fold) => {
                (Some(Folder::new(fold, memory / FOLDER_SHARE)), Sorter::new(memory - memory / FOLDER_SHARE))
            }
            None => (None, Sorter::new(memory)),
        };
        Ok(Self {
            setup: &task.setup,
            attempt: format!("{}-{}", task.setup.id, task.attempt),
            env,
            control,
            combiner,
            folder,
            sorter,
            runs: Vec::new(),
            files: 0,
            pairs: 0,
            counters: Counters::default(),
            failure: None,
        })
    }

    fn path(&mut self, what: &str) -> PathBuf {
        self.files += 1;
        self.env.scratch.join(format!("{}.{what}-{}", self.attempt, self.files))
    }

    fn sort_in(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskFailure> {
        if !self.sorter.has_room(key.len() + value.len()) {
            self.spill()?;
        }
        let partition = self.setup.partitioner.partition(key, self.setup.reducers);
        self.sorter.push(partition, key, value);
        Ok(())
    }

    fn fold_in(&mut self, key: &[u8], number: u64) -> Result<(), TaskFailure> {
        let folder = self.folder.as_mut().expect("numbers are folded");
        if folder.add(key, number) {
            return Ok(());
        }
        self.unfold()?;
        self.spill()?;
        self.folder.as_mut().expect("numbers are folded").add(key, number);
        Ok(())
    }

    /// Moves what was folded to the sorter.
    fn unfold(&mut self) -> Result<(), TaskFailure> {
        let Some(mut folder) = self.folder.take() else { return Ok(()) };
        for (key, number) in folder.iter() {
            self.sort_in(key, Decimal::new(number).as_bytes())?;
        }
        folder.clear();
        self.folder = Some(folder);
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskFailure> {
        check_length(self.setup, "mapper", key.len() + value.len())?;
        if self.folder.is_none() {
            return self.sort_in(key, value);
        }
        let number = number(value).ok_or_else(|| {
            let value = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
            TaskFailure::function(format!("the combiner adds numbers, but the mapper emitted {value:?}"))
        })?;
        self.fold_in(key, number)
    }

    /// Writes what is in memory as a run.
    fn spill(&mut self) -> Result<(), TaskFailure> {
        if self.sorter.is_empty() {
            return Ok(());
        }
        self.control.check()?;
        let path = self.path("run");
        let (path, index) = self.write_memory(path)?;
        self.runs.push(Run { path, index });
        self.counters.count(counters::SPILLED_RUNS, 1);
        Ok(())
    }

    fn write_memory(&mut self, path: PathBuf) -> Result<(PathBuf, Index), TaskFailure> {
        self.control.beat();
        self.sorter.sort();
        let mut writer = RunWriter::create(path, self.setup.reducers, self.setup.job.compress)?;
        for partition in 0..self.setup.reducers {
            writer.advance_to(partition)?;
            let mut pairs = self.sorter.partition(partition);
            self.combiner.write(&mut pairs, &mut writer, &mut self.counters)?;
        }
        self.sorter.clear();
        writer.finish()
    }

    /// Writes the output of the task.
    pub(super) fn finish(mut self) -> Result<MapOutput, TaskFailure> {
        self.check()?;
        self.unfold()?;
        let (path, index) = if self.runs.is_empty() {
            let path = self.path("out");
            self.write_memory(path)?
        } else {
            self.spill()?;
            // Its memory is needed for the merge.
            self.sorter = Sorter::new(0);
            self.folder = None;
            self.merge_runs()?
        };
        let written: u64 = index.0.iter().map(|extent| extent.pairs).sum();
        self.counters.count(counters::MAP_OUTPUT_RECORDS, self.pairs);
        self.counters.count(counters::COMBINED_RECORDS, self.pairs.saturating_sub(written));
        self.counters.count(counters::MAP_OUTPUT_BYTES, index.bytes());
        Ok(MapOutput { path, index, counters: self.counters, skipped: Vec::new() })
    }

    fn merge_runs(&mut self) -> Result<(PathBuf, Index), TaskFailure> {
        let runs = std::mem::take(&mut self.runs);
        let mut writer = RunWriter::create(self.path("out"), self.setup.reducers, self.setup.job.compress)?;
        let memory = self.env.memory_bytes.saturating_sub(BUFFERS);
        for partition in 0..self.setup.reducers {
            writer.advance_to(partition)?;
            let sources = runs.iter().map(|run| -> Arc<dyn Source> {
                let extent = run.index.0[partition as usize];
                Arc::new(LocalSource { map: 0, path: run.path.clone(), extent })
            });
            let (compress, control) = (self.setup.job.compress, self.control);
            let sources =
                reduce_sources(sources.collect(), memory, compress, control, || self.path("merged"))
                    .map_err(own)?;
            if sources.is_empty() {
                continue;
            }
            let mut merge = Watched { merge: Merge::open(&sources).map_err(own)?, control };
            self.combiner.write(&mut merge, &mut writer, &mut self.counters)?;
        }
        writer.finish()
    }
}

/// A run of this task that cannot be read is no lost output of another, but a failure of this machine.
fn own(failure: TaskFailure) -> TaskFailure {
    use crate::logic::mapreduce::failure::Cause;
    match failure.cause {
        Cause::Lost { .. } => TaskFailure::machine(format!("a run of the task itself: {}", failure.message)),
        _ => failure,
    }
}

/// A merge that looks up now and then whether the task is to stop.
struct Watched<'a> {
    merge: Merge,
    control: &'a Control,
}

impl Pairs for Watched<'_> {
    fn peek(&self) -> Option<(&[u8], &[u8])> {
        self.merge.peek()
    }

    fn advance(&mut self) -> Result<(), TaskFailure> {
        self.merge.advance().map_err(own)?;
        if self.merge.take_read() > 0 {
            self.control.beat();
            self.control.check()?;
        }
        Ok(())
    }
}

impl Sink for Collector<'_> {
    #[inline]
    fn check(&mut self) -> Result<(), TaskFailure> {
        match self.failure.take() {
            None => Ok(()),
            Some(failure) => Err(failure),
        }
    }
}

impl Emit for Collector<'_> {
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        self.pairs += 1;
        if self.failure.is_none()
            && let Err(failure) = self.take(key, value)
        {
            self.failure = Some(failure);
        }
    }

    fn emit_number(&mut self, key: &[u8], number: u64) {
        let Some(folder) = &mut self.folder else {
            return self.emit(key, Decimal::new(number).as_bytes());
        };
        self.pairs += 1;
        if folder.add(key, number) || self.failure.is_some() {
            return;
        }
        if let Err(failure) =
            check_length(self.setup, "mapper", key.len()).and_then(|()| self.fold_in(key, number))
        {
            self.failure = Some(failure);
        }
    }

    fn counter(&mut self, group: &str, name: &str, amount: u64) {
        self.counters.add(group, name, amount);
    }
}
