//! What happens to a job, as records: the job is what its records say, no more and no less.
//!
//! A coordinator writes a record before it acts on it, so whoever reads all of them knows the job as well as the
//! coordinator did.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::failure::TaskFailure;
use super::job::{Attempt, TaskId};

/// A job of a cluster. Numbers grow with time and are not used again while a trace of the job is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub u64);

/// A worker: drawn at random when its directory is created, and kept there. So it is the same worker as long as it
/// has what it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WorkerId(pub u64);

/// One life of a worker. A task that an earlier life ran has ended with it; what it had finished has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerLife {
    /// The worker.
    pub worker: WorkerId,
    /// Drawn at random when this life began.
    pub boot: u64,
}

/// What a finished attempt has to show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Yield {
    /// Bytes of its output.
    pub bytes: u64,
    /// What it counted.
    pub counters: Counters,
    /// Places of the records that it passed over ([`skip`](super::skip)).
    pub skipped: Vec<u64>,
}

/// One transition of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An attempt was given to a worker.
    Started {
        /// The attempt; the next number of its task.
        attempt: Attempt,
        /// Who runs it.
        by: WorkerLife,
    },
    /// An attempt is finished, the first of its task: its output counts, and no other.
    Done {
        /// The attempt.
        attempt: Attempt,
        /// What it has to show.
        result: Yield,
    },
    /// An attempt failed.
    Failed {
        /// The attempt.
        attempt: Attempt,
        /// Why.
        failure: TaskFailure,
    },
    /// An attempt came to nothing without a fault of the task: its worker died, or its input was lost.
    Lost {
        /// The attempt.
        attempt: Attempt,
        /// What happened.
        why: String,
    },
    /// The output of a finished task is gone, so it is to be done again.
    Reopened {
        /// The attempt whose output is gone.
        attempt: Attempt,
        /// What happened.
        why: String,
    },
    /// Its user gave the job up; or it was done, and nobody collected the output.
    Cancelled,
    /// The output is where its user wants it: what workers keep of the job may go.
    Collected,
}

impl Record {
    /// The attempt it is about, if it is about one.
    pub fn attempt(&self) -> Option<Attempt> {
        match self {
            Record::Started { attempt, .. }
            | Record::Done { attempt, .. }
            | Record::Failed { attempt, .. }
            | Record::Lost { attempt, .. }
            | Record::Reopened { attempt, .. } => Some(*attempt),
            Record::Cancelled | Record::Collected => None,
        }
    }
}

/// A record that does not fit the job: it comes too late, or from nowhere. It changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// The job has ended.
    #[error("the job has ended")]
    Ended,
    /// The job has no such task.
    #[error("the job has no task {0}")]
    NoTask(TaskId),
    /// The task is finished already.
    #[error("{0} is finished")]
    Finished(TaskId),
    /// Attempts are numbered one after the other.
    #[error("{0} is not the next attempt")]
    Number(Attempt),
    /// The attempt is not running: it was given up, or another was faster.
    #[error("{0} is not running")]
    NotRunning(Attempt),
    /// That output does not count, or nobody needs it any more.
    #[error("the output of {0} is not needed")]
    NotNeeded(Attempt),
    /// The job is not finished.
    #[error("the job is not finished")]
    Unfinished,
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{:08x}", self.0 >> 32)
    }
}
