//! Why a task failed, by what the coordinator does next.

use serde::{Deserialize, Serialize};

/// A task that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct TaskFailure {
    /// What to do about it.
    pub cause: Cause,
    /// What happened, where, and what its user can do: for people.
    pub message: String,
    /// The place of the record at which it failed ([`skip`](super::skip)), if that is known.
    pub record: Option<u64>,
}

/// What a failure means for the job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It was told to stop. Nobody's fault.
    Cancelled,
    /// No attempt can succeed: the input or the job itself is wrong. The job fails at once.
    Hopeless,
    /// The mapper, combiner or reducer failed, or made no progress. Another attempt may succeed.
    Function,
    /// This machine could not do it: a full disk, a file that cannot be written. Another one may.
    Machine,
    /// The output of map tasks cannot be read, or is damaged: these tasks are to be done again.
    Lost {
        /// The number of the map task.
        map: u32,
        /// The numbers of others, if there are any.
        #[serde(default)]
        more: Vec<u32>,
    },
}

impl TaskFailure {
    /// A failure.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), record: None }
    }

    /// The same, at this record.
    pub fn at(self, record: Option<u64>) -> Self {
        Self { record, ..self }
    }

    /// No attempt can succeed.
    pub fn hopeless(message: impl Into<String>) -> Self {
        Self::new(Cause::Hopeless, message)
    }

    /// A function failed.
    pub fn function(message: impl Into<String>) -> Self {
        Self::new(Cause::Function, message)
    }

    /// This machine could not do it.
    pub fn machine(message: impl Into<String>) -> Self {
        Self::new(Cause::Machine, message)
    }

    /// It was told to stop.
    pub fn cancelled() -> Self {
        Self::new(Cause::Cancelled, "the task was cancelled")
    }

    /// The output of a map task cannot be had.
    pub fn lost(map: u32, message: impl Into<String>) -> Self {
        Self::new(Cause::Lost { map, more: Vec::new() }, message)
    }
}
