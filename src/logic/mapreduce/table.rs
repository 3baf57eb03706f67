//! The task table of one job: idle, running, done. A pure function of the job's records.
//!
//! Every change goes through [`Table::apply`], which takes a record or says why it does not fit. That is the fence:
//! an attempt that was given up, or that another one has beaten, is not running any more, so nothing it says fits.

use std::collections::{BTreeMap, BTreeSet};

use super::failure::{Cause, TaskFailure};
use super::job::{Attempt, Limits, Phase, TaskId};
use super::record::{Misfit, Record, WorkerId, WorkerLife, Yield};
use super::skip::{Blame, Skips};

/// A task that so many workers have died of is taken for what kills them.
pub const MOST_LOSSES: u32 = 40;

/// What bounds the attempts of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures of one task before the job fails, at least 1.
    pub attempts: u32,
    /// So many records of one task may be passed over.
    pub skip: u32,
}

impl From<&Limits> for Rules {
    fn from(limits: &Limits) -> Self {
        Rules { attempts: limits.attempts.max(1), skip: limits.skip_bad_records }
    }
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A task cannot be done.
    Failed {
        /// The attempt that was the last straw.
        attempt: Attempt,
        /// Why it failed.
        why: String,
    },
    /// Its user gave it up; or all is done, and nobody collected the output.
    Cancelled,
    /// All is done, and the output collected.
    Collected,
}

/// The tasks of one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    rules: Rules,
    maps: Vec<Task>,
    reduces: Vec<Task>,
    idle: BTreeSet<TaskId>,
    running: BTreeMap<Attempt, WorkerLife>,
    /// Of tasks that failed: at which records.
    blames: BTreeMap<TaskId, Blame>,
    maps_done: u32,
    reduces_done: u32,
    verdict: Option<Verdict>,
}

/// One task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Task {
    /// The attempt that won.
    pub done: Option<Done>,
    /// Attempts so far.
    pub attempts: u32,
    /// Of these, how many failed.
    pub failures: u32,
    /// Of these, how many came to nothing without their fault.
    pub losses: u32,
    /// Workers on which it failed.
    pub avoid: BTreeSet<WorkerId>,
}

/// What is known of a finished task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Which attempt won.
    pub number: u32,
    /// Who has its output.
    pub worker: WorkerId,
    /// What it has to show.
    pub result: Yield,
}

impl Table {
    /// A job at its beginning: everything is idle.
    pub fn new(maps: u32, reduces: u32, rules: Rules) -> Self {
        let tasks = |count: u32| vec![Task::default(); count as usize];
        let idle = (0..maps).map(TaskId::map).chain((0..reduces).map(TaskId::reduce)).collect();
        Table {
            rules,
            maps: tasks(maps),
            reduces: tasks(reduces),
            idle,
            running: BTreeMap::new(),
            blames: BTreeMap::new(),
            maps_done: 0,
            reduces_done: 0,
            verdict: None,
        }
    }

    /// Takes a record.
    ///
    /// # Errors
    /// When it does not fit; then nothing has changed.
    pub fn apply(&mut self, record: &Record) -> Result<(), Misfit> {
        if self.verdict.is_some() {
            return Err(Misfit::Ended);
        }
        match record {
            Record::Started { attempt, by } => self.start(*attempt, *by),
            Record::Done { attempt, result } => self.finish(*attempt, result),
            Record::Failed { attempt, failure } => self.fail(*attempt, failure),
            Record::Lost { attempt, why } => {
                self.end(*attempt)?;
                let task = self.task_mut(attempt.task);
                task.losses += 1;
                if task.losses >= MOST_LOSSES {
                    self.give_up(*attempt, format!("lost {MOST_LOSSES} times, the last time: {why}"));
                }
                Ok(())
            }
            Record::Reopened { attempt, .. } => self.reopen(*attempt),
            Record::Cancelled => {
                self.close(Verdict::Cancelled);
                Ok(())
            }
            Record::Collected if self.succeeded() => {
                self.close(Verdict::Collected);
                Ok(())
            }
            Record::Collected => Err(Misfit::Unfinished),
        }
    }

    fn start(&mut self, attempt: Attempt, by: WorkerLife) -> Result<(), Misfit> {
        let task = self.task(attempt.task).ok_or(Misfit::NoTask(attempt.task))?;
        if task.done.is_some() {
            return Err(Misfit::Finished(attempt.task));
        }
        if attempt.number != task.attempts + 1 {
            return Err(Misfit::Number(attempt));
        }
        self.task_mut(attempt.task).attempts += 1;
        self.idle.remove(&attempt.task);
        self.running.insert(attempt, by);
        Ok(())
    }

    fn finish(&mut self, attempt: Attempt, result: &Yield) -> Result<(), Misfit> {
        let life = self.running.get(&attempt).ok_or(Misfit::NotRunning(attempt))?;
        let done = Done { number: attempt.number, worker: life.worker, result: result.clone() };
        // The first to finish wins; the others are not running from now on.
        self.running.retain(|other, _| other.task != attempt.task);
        self.task_mut(attempt.task).done = Some(done);
        *self.done_mut(attempt.task.phase) += 1;
        Ok(())
    }

    fn fail(&mut self, attempt: Attempt, failure: &TaskFailure) -> Result<(), Misfit> {
        self.end(attempt)?;
        let Rules { attempts, skip } = self.rules;
        let hopeless = failure.cause == Cause::Hopeless;
        let blame = self.blames.entry(attempt.task).or_default();
        if failure.cause == Cause::Function || hopeless {
            blame.note(failure.record, hopeless, skip);
        }
        let skipped = failure.record.is_some_and(|record| blame.skips_record(record));
        let pardoned = blame.pardoned();
        let task = self.task_mut(attempt.task);
        task.failures += 1;
        if (hopeless && !skipped) || task.failures - pardoned >= attempts {
            self.give_up(attempt, failure.message.clone());
        }
        Ok(())
    }

    /// An attempt came to nothing: its task is idle again, unless another attempt is under way.
    fn end(&mut self, attempt: Attempt) -> Result<(), Misfit> {
        let life = self.running.remove(&attempt).ok_or(Misfit::NotRunning(attempt))?;
        self.task_mut(attempt.task).avoid.insert(life.worker);
        if self.running_of(attempt.task).next().is_none() {
            self.idle.insert(attempt.task);
        }
        Ok(())
    }

    fn reopen(&mut self, attempt: Attempt) -> Result<(), Misfit> {
        let task = self.task(attempt.task).ok_or(Misfit::NoTask(attempt.task))?;
        let counts = task.done.as_ref().is_some_and(|done| done.number == attempt.number);
        // What reducers have read is not needed any more; without reducers it is the output.
        let is_output = attempt.task.phase == Phase::Reduce || self.reduces.is_empty();
        let needed = is_output || self.reduces_done < count(&self.reduces);
        if !counts || !needed {
            return Err(Misfit::NotNeeded(attempt));
        }
        let task = self.task_mut(attempt.task);
        if let Some(done) = task.done.take() {
            task.avoid.insert(done.worker);
        }
        *self.done_mut(attempt.task.phase) -= 1;
        self.idle.insert(attempt.task);
        Ok(())
    }

    fn give_up(&mut self, attempt: Attempt, why: String) {
        self.close(Verdict::Failed { attempt, why });
    }

    fn close(&mut self, verdict: Verdict) {
        self.verdict = Some(verdict);
        self.running.clear();
        self.idle.clear();
    }

    fn task_mut(&mut self, id: TaskId) -> &mut Task {
        let tasks = match id.phase {
            Phase::Map => &mut self.maps,
            Phase::Reduce => &mut self.reduces,
        };
        tasks.get_mut(id.index as usize).expect("the task was looked up before")
    }

    fn done_mut(&mut self, phase: Phase) -> &mut u32 {
        match phase {
            Phase::Map => &mut self.maps_done,
            Phase::Reduce => &mut self.reduces_done,
        }
    }
}

/// Questions.
impl Table {
    /// A task, if the job has it.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks(id.phase).get(id.index as usize)
    }

    /// All tasks of a phase.
    pub fn tasks(&self, phase: Phase) -> &[Task] {
        match phase {
            Phase::Map => &self.maps,
            Phase::Reduce => &self.reduces,
        }
    }

    /// How many tasks of a phase are finished.
    pub fn done(&self, phase: Phase) -> u32 {
        match phase {
            Phase::Map => self.maps_done,
            Phase::Reduce => self.reduces_done,
        }
    }

    /// The phase that is worked on: reducers need the output of every map task.
    pub fn phase(&self) -> Phase {
        if self.maps_done < count(&self.maps) { Phase::Map } else { Phase::Reduce }
    }

    /// What the next attempt at a task passes over.
    pub fn skips(&self, task: TaskId) -> Skips {
        self.blames.get(&task).map(|blame| blame.skips(self.rules.skip)).unwrap_or_default()
    }

    /// Tasks that may be given out now, in order.
    pub fn ready(&self) -> impl Iterator<Item = TaskId> {
        let phase = self.phase();
        self.idle.iter().copied().filter(move |task| task.phase == phase)
    }

    /// Attempts under way, and who runs them.
    pub fn running(&self) -> impl Iterator<Item = (Attempt, WorkerLife)> {
        self.running.iter().map(|(attempt, life)| (*attempt, *life))
    }

    /// Who runs this attempt, if it is running.
    pub fn runner(&self, attempt: Attempt) -> Option<WorkerLife> {
        self.running.get(&attempt).copied()
    }

    /// Attempts of a task that are under way.
    pub fn running_of(&self, task: TaskId) -> impl Iterator<Item = (Attempt, WorkerLife)> {
        let (first, last) = (Attempt { task, number: 0 }, Attempt { task, number: u32::MAX });
        self.running.range(first..=last).map(|(attempt, life)| (*attempt, *life))
    }

    /// Whether every task is done.
    pub fn succeeded(&self) -> bool {
        self.phase() == Phase::Reduce
            && self.reduces_done == count(&self.reduces)
            && !matches!(self.verdict, Some(Verdict::Failed { .. } | Verdict::Cancelled))
    }

    /// How it ended, if nothing is to be done or kept for it any more.
    pub fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }
}

fn count(tasks: &[Task]) -> u32 {
    u32::try_from(tasks.len()).expect("there are as many as a u32 counted")
}
