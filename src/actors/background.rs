//! A thread for work that may block: reading, writing and restoring snapshots, looking at the disk.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

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

/// Work whose result many may ask for: it is done once for all who ask while it is under way. So however long a disk
/// hangs, there is one job that waits for it.
#[derive(Clone)]
pub struct Joint<T> {
    /// Who waits for the work under way; `None`: there is none.
    waiting: Arc<Mutex<Option<Vec<oneshot::Sender<T>>>>>,
}

impl<T> Default for Joint<T> {
    fn default() -> Self {
        Joint { waiting: Arc::default() }
    }
}

impl<T: Clone + Send + 'static> Joint<T> {
    /// Does `work` on `thread`, unless that is under way. Nothing is yielded if it panics.
    pub fn ask(
        &self,
        thread: &Background,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (report, result) = oneshot::channel();
        let mut waiting = self.waiting();
        if let Some(waiting) = &mut *waiting {
            waiting.retain(|report| !report.is_closed());
            waiting.push(report);
            return result;
        }
        *waiting = Some(vec![report]);
        drop(waiting);
        let joint = self.clone();
        thread.run(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            let waiting = joint.waiting().take().unwrap_or_default();
            match result {
                Ok(result) => waiting.into_iter().for_each(|report| drop(report.send(result.clone()))),
                Err(panic) => resume_unwind(panic),
            }
        });
        result
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Vec<oneshot::Sender<T>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does a job; a panic ends here.
pub fn perform(job: Job) {
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("a background job panicked; its result is missing");
    }
}
