//! A thread for work that may block: reading, writing and restoring snapshots.

use std::io;
use std::sync::mpsc::{Sender, channel};

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does one job after the other, in the order in which they were given.
///
/// A job that panics ends that job only: what it held is dropped, and the next one is taken up.
#[derive(Clone)]
pub struct Background {
    jobs: Sender<Job>,
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
                if std::panic::catch_unwind(std::panic::AssertUnwindSafe(job)).is_err() {
                    tracing::error!("a background job panicked; its result is missing");
                }
            }
        })?;
        Ok(Background { jobs })
    }

    /// Does `job` on the thread, behind everything that was given before.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        // The thread lives as long as a handle does.
        let _ = self.jobs.send(Box::new(job));
    }
}
