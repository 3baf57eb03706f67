//! A thread for work that may block: reading, writing and restoring snapshots.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::channel;

/// Work that may block.
pub type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after the other, in the order in which they were given.
///
/// A job that panics ends that job only: what it held is dropped, and the next one is taken up.
#[derive(Clone)]
pub struct Background {
    jobs: Arc<dyn Fn(Job) + Send + Sync>,
}

impl Background {
    /// Starts the thread. It ends when the last handle is dropped.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(name: &str) -> io::Result<Self> {
        let (jobs, queue) = channel::<Job>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            for job in queue {
                perform(job);
            }
        })?;
        // The thread lives as long as a handle does.
        Ok(Background::queue(move |job| drop(jobs.send(job))))
    }

    /// Whoever takes the jobs from this queue does them, by [`perform`], in order: a simulation has no threads.
    pub fn queue(take: impl Fn(Job) + Send + Sync + 'static) -> Self {
        Background { jobs: Arc::new(take) }
    }

    /// Does `job` on the thread, behind everything that was given before.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        (self.jobs)(Box::new(job));
    }
}

/// Does a job; a panic ends here.
pub fn perform(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a background job panicked; its result is missing");
    }
}
