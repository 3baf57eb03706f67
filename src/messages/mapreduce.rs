//! MapReduce in a cluster: users and workers with the coordinator, and workers with each other.
//!
//! The coordinator sits at the leader of the group that is asked, so it is found as that leader is. Whatever is asked
//! of it may be asked again: a job is known by its token, a report says all that is the case, and the others change
//! nothing the second time.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::logic::mapreduce::coordinator::JobSurvey;
use crate::logic::mapreduce::job::{Attempt, Form, Plan, Setup};
use crate::logic::mapreduce::record::{JobId, Record, WorkerId};
use crate::logic::mapreduce::report::{Place, Report, Work};
use crate::logic::mapreduce::skip::Skips;
use crate::logic::mapreduce::split::Split;

/// Most bytes of one chunk of task output.
pub const MAX_CHUNK: u32 = 1 << 20;

/// Most map outputs asked for in one [`MapReduceRequest::Extents`].
pub const MAX_EXTENTS: usize = 10_000;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapReduceRequest {
    /// Of the coordinator: run this.
    Submit {
        /// Drawn at random by whoever submits. The same token is the same job.
        token: u64,
        /// The job, and what there is to do.
        plan: Box<Plan>,
    },
    /// Of the coordinator: which jobs are there?
    Jobs,
    /// Of the coordinator: how is this one?
    Survey {
        /// The job.
        job: JobId,
    },
    /// Of the coordinator: what happened to it?
    History {
        /// The job.
        job: JobId,
        /// Leave out so many of the first records.
        skip: u64,
    },
    /// Of the coordinator: give it up.
    Cancel {
        /// The job.
        job: JobId,
    },
    /// Of the coordinator: where are the parts of the output?
    Parts {
        /// The job.
        job: JobId,
    },
    /// To the coordinator: a part cannot be fetched; make it again.
    Missing {
        /// The part.
        work: Work,
        /// What happened.
        why: String,
    },
    /// To the coordinator: the output is where it belongs; the workers need not keep it.
    Collected {
        /// The job.
        job: JobId,
    },
    /// Of the coordinator: who works?
    Workers,
    /// From a worker to the coordinator: all that is the case with it. Answered as soon as there is something to do, or
    /// after a while.
    Report(Box<Report>),
    /// Of a worker: where in these files does the partition lie?
    Extents {
        /// The job.
        job: JobId,
        /// The partition.
        partition: u32,
        /// At most [`MAX_EXTENTS`] finished map attempts.
        maps: Vec<Attempt>,
    },
    /// Of a worker: bytes of the output of an attempt.
    Fetch {
        /// The attempt.
        work: Work,
        /// Where to begin.
        offset: u64,
        /// How many; at most [`MAX_CHUNK`] are sent.
        length: u32,
    },
}

impl MapReduceRequest {
    /// Whether it is for a worker; else it is for the coordinator.
    pub fn is_for_worker(&self) -> bool {
        matches!(self, MapReduceRequest::Extents { .. } | MapReduceRequest::Fetch { .. })
    }

    /// Whether it may change anything.
    pub fn has_effect(&self) -> bool {
        use MapReduceRequest::{Cancel, Collected, Missing, Report, Submit};
        matches!(self, Submit { .. } | Cancel { .. } | Missing { .. } | Collected { .. } | Report(_))
    }
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MapReduceReply {
    /// To `Submit`.
    Submitted {
        /// The job's number.
        job: JobId,
    },
    /// To `Jobs`: those that are known, oldest first.
    Jobs(Vec<JobLine>),
    /// To `Survey`.
    Survey(Box<JobLine>),
    /// To `History`: the next records in the order in which they were written, and when, in milliseconds of Unix time.
    History {
        /// The records.
        records: Vec<(u64, Record)>,
        /// Whether there are more.
        more: bool,
    },
    /// To `Parts`.
    Parts {
        /// One for each reducer, in order; empty while the job runs, and once its output was collected or given up.
        parts: Vec<Place>,
        /// How the files are to be called.
        form: Form,
    },
    /// To `Cancel`, `Missing`, `Collected`.
    Done,
    /// To `Workers`.
    Workers(Vec<WorkerLine>),
    /// To `Report`.
    Orders(Box<TaskOrders>),
    /// To `Extents`, in order; nothing for an output that is surely not there.
    Extents(Vec<Option<Extent>>),
    /// To `Fetch`.
    Chunk {
        /// The bytes; fewer than asked for only at the end of the file.
        bytes: Bytes,
        /// Length of the file.
        size: u64,
    },
    /// To `Fetch`: the output is surely not there.
    Gone,
}

/// A job in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    /// Its number.
    pub job: JobId,
    /// What people call it.
    pub name: String,
    /// Where its user wants the output.
    pub output: String,
    /// When it was submitted, in milliseconds of Unix time.
    pub submitted_ms: u64,
    /// Where the records are that were passed over, the first of them.
    pub skipped: Vec<String>,
    /// How it is.
    pub survey: JobSurvey,
}

/// A worker in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerLine {
    /// Which.
    pub worker: WorkerId,
    /// Where its output can be fetched.
    pub address: String,
    /// How many attempts it runs at once.
    pub slots: u32,
}

/// What a worker is to do, with all that it needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskOrders {
    /// The term of office of the coordinator: orders of an earlier term than the worker knows are void. 0: this report
    /// was overtaken by a later one of the same worker; it says nothing, and acknowledges nothing. Else what the report
    /// said has ended is noted.
    pub token: u64,
    /// Attempts to run.
    pub start: Vec<Order>,
    /// What the tasks of these jobs are told, if the worker does not keep anything of them yet.
    pub setups: Vec<(JobId, Setup)>,
    /// Attempts that run in vain.
    pub stop: Vec<Work>,
    /// Jobs of which nothing need be kept.
    pub forget: Vec<JobId>,
}

/// An attempt to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Which.
    pub work: Work,
    /// Its input.
    pub input: TaskInput,
    /// What of it is passed over.
    pub skips: Skips,
}

/// The input of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskInput {
    /// A map task: what to read.
    Split(Split),
    /// A reduce task: where the output of each map task is, in order.
    Sources(Vec<Place>),
}

/// Where a partition lies in a file of map output, and how much it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where its first block begins, in bytes.
    pub offset: u64,
    /// Bytes of all its blocks.
    pub length: u64,
    /// How many pairs it has.
    pub pairs: u64,
    /// Bytes of its pairs before compression.
    pub raw_bytes: u64,
    /// The most raw bytes that one of its blocks has.
    pub longest_block: u64,
}
