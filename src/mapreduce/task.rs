//! What a task is given, and what it returns.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::function::Functions;
use super::run_file::Index;
use super::source::Source;
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::{Attempt, Setup};
use crate::logic::mapreduce::skip::Skips;
use crate::logic::mapreduce::split::Split;

/// A map task: one split to one partitioned file.
#[derive(Clone, Debug)]
pub struct MapTask {
    /// What all tasks of the job are told.
    pub setup: Arc<Setup>,
    /// Which task, and which try.
    pub attempt: Attempt,
    /// What to read.
    pub split: Split,
    /// What of it is passed over.
    pub skips: Skips,
}

/// A reduce task: one partition of all map outputs to one file.
#[derive(Clone)]
pub struct ReduceTask {
    /// What all tasks of the job are told.
    pub setup: Arc<Setup>,
    /// Which task, and which try. The number of the task is that of the partition.
    pub attempt: Attempt,
    /// That partition of every map output, in the order of the map tasks.
    pub sources: Vec<Arc<dyn Source>>,
    /// Which keys are passed over. The reducer must be compiled in: what a command gets is passed on as it is.
    pub skips: Skips,
}

/// Where tasks run. One value serves all slots of a worker.
#[derive(Clone)]
pub struct Env {
    /// A directory of this worker for map output and spilled runs. It must exist.
    pub scratch: PathBuf,
    /// What one task may use for its data, in bytes; see [`memory_for_slot`].
    pub memory_bytes: usize,
    /// The functions that are compiled in.
    pub functions: Arc<Functions>,
}

/// What a process needs beside the data of its tasks: code, stacks, buffers of files.
const RESERVED: usize = 40 << 20;
/// A task cannot do with less.
const LEAST_MEMORY: usize = 8 << 20;

/// The share of one slot in the memory of a worker, in bytes. At least 8 MiB, however small the worker's memory.
pub fn memory_for_slot(worker_bytes: usize, slots: usize) -> usize {
    (worker_bytes.saturating_sub(RESERVED) / slots.max(1)).max(LEAST_MEMORY)
}

/// Has the buffers of ended tasks go back to the system at once. For processes that run tasks; at their start.
///
/// glibc raises the size from which it gives memory back by itself each time such a piece is freed, and then keeps what
/// the threads of ended tasks freed, each in an arena of its own: a worker with a budget of 64 MiB came to 48 to 99.
/// A size that is set stays. Other C libraries are left alone.
pub fn give_back_memory() {
    // SAFETY: changes a number of the allocator, which has a lock of its own.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Lets this process open as many files as the system allows it at all. For processes that run tasks; at their start.
///
/// A merge opens the output of many map tasks at once, and a node has a connection for each client. What may not be
/// allowed stays as it is, and is told by whoever comes up against it.
pub fn allow_more_open_files() {
    // SAFETY: the pointers are to a value that lives through the calls.
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}

/// The result of a map task. Its file belongs to whoever holds this value, and is not deleted by anything here.
#[derive(Clone, Debug)]
pub struct MapOutput {
    /// The file, in the scratch directory.
    pub path: PathBuf,
    /// Where each partition lies in it. It also stands at the end of the file.
    pub index: Index,
    /// What the task counted.
    pub counters: Counters,
    /// Places of the records that were passed over.
    pub skipped: Vec<u64>,
}

/// A part of the output of a job: the result of a reduce task, or of a map task where there are no reducers. A file
/// that is durable, but not yet in its place.
#[derive(Clone, Debug)]
pub struct Part {
    /// The file, below the directory that the task was given for attempts.
    pub path: PathBuf,
    /// What it is to be called in the output directory.
    pub name: String,
    /// What the task counted.
    pub counters: Counters,
    /// Places of the keys that were passed over.
    pub skipped: Vec<u64>,
}

/// What a task and those who watch it share. One for each attempt.
#[derive(Debug, Default)]
pub struct Control {
    cancelled: AtomicBool,
    total: AtomicU64,
    done: AtomicU64,
    beats: AtomicU64,
    status: Mutex<Option<String>>,
    /// Process groups of commands that run for the task.
    groups: Mutex<Vec<i32>>,
}

/// How far a task is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of input that are done.
    pub done_bytes: u64,
    /// Bytes of input there are. 0 until the task knows.
    pub total_bytes: u64,
    /// Grows with every sign of life. A task whose number stands still makes no progress.
    pub beats: u64,
    /// What a command last said of itself (`reporter:status:`).
    pub status: Option<String>,
}

impl Control {
    /// Asks the task to stop. It ends soon, with [`Cause::Cancelled`](crate::logic::mapreduce::failure::Cause), and
    /// leaves no files and no processes behind.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
        for group in lock(&self.groups).iter() {
            kill_group(*group);
        }
    }

    /// Whether it was asked to.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        Progress {
            done_bytes: self.done.load(Ordering::Relaxed),
            total_bytes: self.total.load(Ordering::Relaxed),
            beats: self.beats.load(Ordering::Relaxed),
            status: lock(&self.status).clone(),
        }
    }

    /// Ends the task if it was asked to stop.
    pub(super) fn check(&self) -> Result<(), TaskFailure> {
        if self.is_cancelled() { Err(TaskFailure::cancelled()) } else { Ok(()) }
    }

    pub(super) fn expect_bytes(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.beat();
    }

    pub(super) fn set_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
        self.beat();
    }

    pub(super) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Relaxed);
        self.beat();
    }

    /// A sign of life. Two at the same moment may count as one, which does no harm.
    #[inline]
    pub(super) fn beat(&self) {
        self.beats.store(self.beats.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// From now on the process group dies when the task is cancelled; at once, if it is already. It must be
    /// [forgotten](Self::forget_group) before its leader is waited for: then its number may belong to another.
    pub(super) fn own_group(&self, group: i32) {
        let mut groups = lock(&self.groups);
        groups.push(group);
        if self.is_cancelled() {
            kill_group(group);
        }
    }

    pub(super) fn forget_group(&self, group: i32) {
        lock(&self.groups).retain(|other| *other != group);
    }

    pub(super) fn set_status(&self, text: String) {
        *lock(&self.status) = Some(text);
        self.beat();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing that is kept here can be left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Kills all processes of a group. That there are none any more is no error.
pub(super) fn kill_group(group: i32) {
    // SAFETY: kill(2) touches no memory; the group was made by this process and has not been waited for.
    unsafe {
        libc::kill(-group, libc::SIGKILL);
    }
}
