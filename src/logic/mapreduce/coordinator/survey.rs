//! The picture of a job, for people.

use serde::{Deserialize, Serialize};

use super::Coordinator;
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::job::{Attempt, Phase, TaskId};
use crate::logic::mapreduce::record::{JobId, WorkerId};
use crate::logic::mapreduce::table::{Done, Table, Verdict};

/// How a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// Tasks are under way, or wait for a slot.
    Running,
    /// Every task is done; the workers keep the output until it is collected.
    Succeeded,
    /// The output was collected, and the workers keep nothing of the job.
    Collected,
    /// A task cannot be done.
    Failed {
        /// The attempt that was the last straw.
        attempt: Attempt,
        /// Why it failed.
        why: String,
    },
    /// Its user gave it up; or it was done, and nobody collected the output.
    Cancelled,
}

/// How far a phase of a job has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PhaseSurvey {
    /// Tasks.
    pub tasks: u32,
    /// Of these, finished.
    pub done: u32,
    /// Attempts under way.
    pub running: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that came to nothing without their fault.
    pub losses: u32,
    /// Attempts in all.
    pub attempts: u32,
    /// How much is done, in thousandths.
    pub permille: u16,
}

/// An attempt that takes far longer than others took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Straggler {
    /// Which.
    pub attempt: Attempt,
    /// Who runs it.
    pub worker: WorkerId,
    /// For how long, in milliseconds.
    pub running_ms: u64,
    /// How much of it is done, in thousandths.
    pub permille: u16,
}

/// A job at this moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSurvey {
    /// How it is.
    pub state: JobState,
    /// The map tasks.
    pub map: PhaseSurvey,
    /// The reduce tasks.
    pub reduce: PhaseSurvey,
    /// Bytes of input.
    pub input_bytes: u64,
    /// The slowest attempts under way.
    pub stragglers: Vec<Straggler>,
    /// What the winning attempts counted; only of a job that is not running.
    pub counters: Counters,
    /// Records that they passed over, the first of them; only of a job that is not running.
    pub skipped: Vec<(TaskId, u64)>,
}

impl JobSurvey {
    /// Whether every task was done when it was given up.
    pub fn was_given_up_when_done(&self) -> bool {
        let done = |phase: &PhaseSurvey| phase.done == phase.tasks;
        self.state == JobState::Cancelled && done(&self.map) && done(&self.reduce)
    }
}

/// So many records that were passed over are named.
const MOST_NAMED: usize = 100;
/// So many stragglers are named.
const MOST_STRAGGLERS: usize = 8;

impl Coordinator {
    /// The picture of a job, if it is known.
    pub fn survey(&self, job: JobId) -> Option<JobSurvey> {
        let entry = self.jobs.get(&job)?;
        let state = state(&entry.table);
        let (counters, skipped) = match state {
            JobState::Running => Default::default(),
            _ => (sum(&entry.table), skipped(&entry.table).take(MOST_NAMED).collect()),
        };
        let slow = entry.watch.stragglers(entry.table.phase(), self.now, self.patience.straggler);
        let stragglers = slow.into_iter().filter_map(|attempt| {
            let observed = entry.watch.of(attempt)?;
            let running = self.now.saturating_sub(observed.since).as_millis();
            Some(Straggler {
                attempt,
                worker: entry.table.runner(attempt)?.worker,
                running_ms: u64::try_from(running).unwrap_or(u64::MAX),
                permille: observed.progress.permille,
            })
        });
        Some(JobSurvey {
            state,
            map: self.phase_survey(job, Phase::Map),
            reduce: self.phase_survey(job, Phase::Reduce),
            input_bytes: entry.shape.input_bytes,
            stragglers: stragglers.take(MOST_STRAGGLERS).collect(),
            counters,
            skipped,
        })
    }

    fn phase_survey(&self, job: JobId, phase: Phase) -> PhaseSurvey {
        let Some(entry) = self.jobs.get(&job) else { return PhaseSurvey::default() };
        let tasks = entry.table.tasks(phase);
        let running: Vec<Attempt> =
            entry.table.running().map(|(attempt, _)| attempt).filter(|a| a.task.phase == phase).collect();
        let done = entry.table.done(phase);
        let part = running.iter().filter_map(|attempt| entry.watch.of(*attempt));
        let part: u64 = part.map(|observed| u64::from(observed.progress.permille.min(1000))).sum();
        let all = (tasks.len() as u64).max(1) * 1000;
        let so_far = if tasks.is_empty() { all } else { u64::from(done) * 1000 + part };
        PhaseSurvey {
            tasks: u32::try_from(tasks.len()).unwrap_or(u32::MAX),
            done,
            running: u32::try_from(running.len()).unwrap_or(u32::MAX),
            failures: tasks.iter().map(|task| task.failures).sum(),
            losses: tasks.iter().map(|task| task.losses).sum(),
            attempts: tasks.iter().map(|task| task.attempts).sum(),
            permille: u16::try_from((so_far * 1000 / all).min(1000)).unwrap_or(1000),
        }
    }
}

fn sum(table: &Table) -> Counters {
    let mut counters = Counters::default();
    winners(table).for_each(|(_, done)| counters.merge(&done.result.counters));
    counters
}

fn skipped(table: &Table) -> impl Iterator<Item = (TaskId, u64)> {
    winners(table).flat_map(|(task, done)| done.result.skipped.iter().map(move |record| (task, *record)))
}

fn winners(table: &Table) -> impl Iterator<Item = (TaskId, &Done)> {
    [Phase::Map, Phase::Reduce].into_iter().flat_map(|phase| {
        let tasks = table.tasks(phase).iter().zip(0..);
        tasks.filter_map(move |(task, index)| Some((TaskId { phase, index }, task.done.as_ref()?)))
    })
}

fn state(table: &Table) -> JobState {
    match table.verdict() {
        Some(Verdict::Failed { attempt, why }) => JobState::Failed { attempt: *attempt, why: why.clone() },
        Some(Verdict::Cancelled) => JobState::Cancelled,
        Some(Verdict::Collected) => JobState::Collected,
        None if table.succeeded() => JobState::Succeeded,
        None => JobState::Running,
    }
}
