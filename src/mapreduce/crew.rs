//! The threads of a job that runs on this machine alone, and the coordinator's core that tells them what to do.
//!
//! It is the core that coordinates a cluster. Here it has one worker, which reports whenever a task ends, and ten
//! times a second otherwise; its records are not kept, because the job ends with the process.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::local::JobFailure;
use super::map::{panic_text, run_map, run_map_only};
use super::output::OutputDirectory;
use super::reduce::run_reduce;
use super::source::{LocalSource, Source};
use super::task::{Control, Env, MapOutput, MapTask, Part, ReduceTask};
use crate::logic::mapreduce::coordinator::{Coordinator, Input, JobState, JobSurvey, Patience, Shape};
use crate::logic::mapreduce::counters::{Counters, OUTPUT_BYTES, TASK};
use crate::logic::mapreduce::failure::{Cause, TaskFailure};
use crate::logic::mapreduce::job::{Attempt, Phase, Plan, Setup, TaskId};
use crate::logic::mapreduce::record::{JobId, WorkerId, WorkerLife, Yield};
use crate::logic::mapreduce::report::{Ending, Progress, Report, Work};
use crate::logic::mapreduce::split::Split;

/// How often the core hears of progress, and somebody who watches of the core.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long tasks that were told to stop are waited for.
const LAST_WAIT: Duration = Duration::from_secs(5);

const JOB: JobId = JobId(1);
const LIFE: WorkerLife = WorkerLife { worker: WorkerId(1), boot: 1 };
/// This worker is always heard, there is no other that could run a second attempt, and nothing waits to be collected.
const PATIENCE: Patience = Patience {
    worker: Duration::MAX,
    straggler: Duration::MAX,
    uncollected: Duration::MAX,
    most_uncollected: usize::MAX,
};

/// What a task that succeeded leaves.
enum Outcome {
    Map(MapOutput),
    Part(Part),
}

type Ended = (Attempt, Result<Outcome, TaskFailure>);

/// The threads that run tasks, and what they have brought about.
pub(super) struct Crew<'a> {
    core: Coordinator,
    begun: Instant,
    slots: u32,
    setup: Arc<Setup>,
    splits: Vec<Split>,
    env: Env,
    output: &'a OutputDirectory,
    running: BTreeMap<Attempt, Arc<Control>>,
    /// Output of map tasks that are done.
    outputs: BTreeMap<u32, (Attempt, MapOutput)>,
    ended: Receiver<Ended>,
    tell: Sender<Ended>,
}

impl<'a> Crew<'a> {
    pub(super) fn new(plan: Plan, env: Env, slots: u32, output: &'a OutputDirectory) -> Self {
        let shape = Shape::from(&plan);
        let mut core = Coordinator::new(PATIENCE);
        core.step(Duration::ZERO, Input::Job { job: JOB, shape, records: Vec::new() }, &mut Vec::new());
        let (tell, ended) = channel();
        Self {
            core,
            begun: Instant::now(),
            slots,
            setup: Arc::new(plan.setup),
            splits: plan.splits,
            env,
            output,
            running: BTreeMap::new(),
            outputs: BTreeMap::new(),
            ended,
            tell,
        }
    }

    /// Runs the job to its end.
    pub(super) fn run(
        &mut self,
        cancel: &AtomicBool,
        watch: &mut dyn FnMut(&JobSurvey),
    ) -> Result<JobSurvey, JobFailure> {
        let mut looked = Instant::now();
        self.report(None);
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(JobFailure::Cancelled);
            }
            let done =
                self.core.table(JOB).is_some_and(|table| table.succeeded() || table.verdict().is_some());
            if done || looked.elapsed() >= LOOK_EVERY {
                looked = Instant::now();
                let survey = self.core.survey(JOB).expect("the core knows its job");
                watch(&survey);
                match survey.state {
                    JobState::Running => {}
                    JobState::Succeeded | JobState::Collected => return Ok(survey),
                    JobState::Failed { attempt, why } => {
                        return Err(JobFailure::Failed {
                            attempt,
                            why: self.setup.locate(&self.splits, attempt, why),
                        });
                    }
                    JobState::Cancelled => return Err(JobFailure::Cancelled),
                }
            }
            let next = match self.ended.recv_timeout(LOOK_EVERY) {
                Ok(ended) => Some(ended),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("the crew holds a sender itself"),
            };
            self.report(next);
        }
    }

    /// Tells the core what is the case, and does as it says.
    fn report(&mut self, ended: Option<Ended>) {
        let ended: Vec<(Work, Ending)> = ended.and_then(|ended| self.take(ended)).into_iter().collect();
        let running = self.running.iter().map(|(attempt, control)| (work(*attempt), progress(control)));
        let report = Report {
            life: LIFE,
            address: "here".into(),
            slots: self.slots,
            running: running.collect(),
            ended,
            keeps: Vec::new(),
            knows: vec![JOB],
        };
        self.core.step(self.begun.elapsed(), Input::Report(report), &mut Vec::new());
        let orders = self.core.orders(LIFE.worker);
        for Work { attempt, .. } in orders.stop {
            // It ends soon; a Rust function that hangs never does, and its thread goes with the process.
            if let Some(control) = self.running.remove(&attempt) {
                control.cancel();
            }
        }
        for Work { attempt, .. } in orders.start {
            self.start(attempt);
        }
    }

    /// Takes in how an attempt ended, unless it was given up before.
    fn take(&mut self, (attempt, result): Ended) -> Option<(Work, Ending)> {
        let wanted = self.running.remove(&attempt).is_some();
        if !wanted {
            if let Ok(Outcome::Map(MapOutput { path, .. }) | Outcome::Part(Part { path, .. })) = result {
                let _ = std::fs::remove_file(path);
            }
            return None;
        }
        let result = result.and_then(|outcome| match outcome {
            Outcome::Map(output) => {
                let counted = yielded(output.index.bytes(), &output.counters, &output.skipped);
                self.outputs.insert(attempt.task.index, (attempt, output));
                Ok(counted)
            }
            Outcome::Part(output) => {
                self.output.commit(&output)?;
                let bytes = output.counters.get(TASK, OUTPUT_BYTES);
                Ok(yielded(bytes, &output.counters, &output.skipped))
            }
        });
        let ending = match result {
            Ok(result) => Ending::Done(result),
            Err(TaskFailure { cause: Cause::Lost { map, more }, message, .. }) => {
                let attempt = |map| self.outputs.get(&map).map_or(first(map), |(attempt, _)| *attempt);
                let (map, more) = (attempt(map), more.into_iter().map(attempt).collect());
                Ending::Starved { map, more, gone: true, why: message }
            }
            Err(failure) => Ending::Failed(failure),
        };
        Some((work(attempt), ending))
    }

    fn start(&mut self, attempt: Attempt) {
        let control = Arc::new(Control::default());
        self.running.insert(attempt, control.clone());
        let (setup, env, tell) = (self.setup.clone(), self.env.clone(), self.tell.clone());
        let skips = self.core.skips(work(attempt));
        let run: Box<dyn FnOnce() -> Result<Outcome, TaskFailure> + Send> = match attempt.task.phase {
            Phase::Map => {
                let task = MapTask {
                    setup,
                    attempt,
                    split: self.splits[attempt.task.index as usize].clone(),
                    skips,
                };
                if task.setup.is_map_only() {
                    let attempts = self.output.attempts();
                    Box::new(move || run_map_only(&task, &env, &attempts, &control).map(Outcome::Part))
                } else {
                    Box::new(move || run_map(&task, &env, &control).map(Outcome::Map))
                }
            }
            Phase::Reduce => {
                let task = ReduceTask { setup, attempt, sources: self.sources(attempt.task.index), skips };
                let attempts: PathBuf = self.output.attempts();
                Box::new(move || run_reduce(&task, &env, &attempts, &control).map(Outcome::Part))
            }
        };
        let refused = self.tell.clone();
        let spawned = std::thread::Builder::new().name(attempt.to_string()).spawn(move || {
            // A function that is compiled in may panic; that is a failure of the attempt like any other.
            let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
                let text = format!("the function panicked: {}", panic_text(&*panic));
                Err(TaskFailure::function(text))
            });
            // When the job is over, nobody listens any more.
            let _ = tell.send((attempt, result));
        });
        if let Err(error) = spawned {
            let failure = TaskFailure::machine(format!("cannot start a thread: {error}"));
            refused.send((attempt, Err(failure))).expect("the crew holds the receiver");
        }
    }

    fn sources(&self, partition: u32) -> Vec<Arc<dyn Source>> {
        let sources = self.outputs.iter().map(|(map, (_, output))| -> Arc<dyn Source> {
            let extent = output.index.0[partition as usize];
            Arc::new(LocalSource { map: *map, path: output.path.clone(), extent })
        });
        sources.collect()
    }

    /// Where these records are, for people.
    pub(super) fn places(&self, records: &[(TaskId, u64)]) -> Vec<String> {
        records.iter().map(|(task, record)| self.setup.place(&self.splits, *task, *record)).collect()
    }

    /// Stops what still runs, and waits for it: what is removed afterwards must not come back.
    pub(super) fn dismiss(&mut self) {
        self.running.values().for_each(|control| control.cancel());
        let patience = Instant::now() + LAST_WAIT;
        while !self.running.is_empty() {
            let left = patience.saturating_duration_since(Instant::now());
            let Ok((attempt, _)) = self.ended.recv_timeout(left) else { return };
            self.running.remove(&attempt);
        }
    }
}

fn work(attempt: Attempt) -> Work {
    Work { job: JOB, attempt }
}

fn first(map: u32) -> Attempt {
    Attempt { task: TaskId::map(map), number: 1 }
}

fn yielded(bytes: u64, counters: &Counters, skipped: &[u64]) -> Yield {
    Yield { bytes, counters: counters.clone(), skipped: skipped.to_vec() }
}

fn progress(control: &Control) -> Progress {
    let seen = control.progress();
    let permille = seen.done_bytes.saturating_mul(1000).checked_div(seen.total_bytes).unwrap_or(0).min(1000);
    Progress {
        steps: seen.beats,
        permille: u16::try_from(permille).expect("at most 1000"),
        bytes: seen.done_bytes,
    }
}
