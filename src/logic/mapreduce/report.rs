//! What workers and their coordinator tell each other.
//!
//! A worker says again and again all that is the case with it; the coordinator answers with all that should be.
//! Neither relies on the other having heard anything before, so a lost, repeated or late message does no harm.

use serde::{Deserialize, Serialize};

use super::failure::TaskFailure;
use super::job::Attempt;
use super::record::{JobId, WorkerId, WorkerLife, Yield};

/// An attempt of one of many jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Work {
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: Attempt,
}

/// How far an attempt has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Grows whenever the attempt gets on.
    pub steps: u64,
    /// How much is done, in thousandths, as far as that is known.
    pub permille: u16,
    /// Bytes of input read.
    pub bytes: u64,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It is finished, and its output can be had from the worker.
    Done(Yield),
    /// It failed.
    Failed(TaskFailure),
    /// The output of map tasks could not be fetched.
    Starved {
        /// Whose output.
        map: Attempt,
        /// Whose output could not, either.
        #[serde(default)]
        more: Vec<Attempt>,
        /// Whether that output is surely gone: its worker says so.
        gone: bool,
        /// What happened.
        why: String,
    },
}

/// From a worker: all that is the case with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub life: WorkerLife,
    /// Where its output can be fetched: `host:port`.
    pub address: String,
    /// How many attempts it runs at once.
    pub slots: u32,
    /// What it runs.
    pub running: Vec<(Work, Progress)>,
    /// What ended, and was not acknowledged yet.
    pub ended: Vec<(Work, Ending)>,
    /// Jobs of which it keeps anything.
    pub keeps: Vec<JobId>,
    /// Jobs of which it knows what their tasks are told.
    pub knows: Vec<JobId>,
}

/// Where a reducer finds the output of a map task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The attempt that won.
    pub attempt: Attempt,
    /// Who has its output.
    pub worker: WorkerId,
    /// Where that worker was heard last; empty if it was not heard by this coordinator.
    pub address: String,
}

/// To a worker: all that it should do. Whatever it reported as ended is noted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Attempts that it should run, and does not say it runs.
    pub start: Vec<Work>,
    /// Attempts that it runs in vain.
    pub stop: Vec<Work>,
    /// Jobs of which it need not keep anything.
    pub forget: Vec<JobId>,
}

impl Orders {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.start.is_empty() && self.stop.is_empty() && self.forget.is_empty()
    }
}
