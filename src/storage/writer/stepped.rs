//! The log without threads: it does what the log's thread would, when it is told to, and hands its completions over to
//! be delivered later. So a simulation decides how long the disk takes, and what a crash in between loses.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::{Completion, Fatal, WalHandle, Writer, refuse};
use crate::storage::batch::Recovered;
use crate::storage::disk::Disk;
use crate::storage::error::OpenError;
use crate::storage::log::LogOptions;

/// A log that is driven step by step, by one owner. Dropping it loses what is queued.
pub struct SteppedLog {
    writer: Writer,
    failed: bool,
}

/// What a step has completed. Dropped, nobody ever hears of it: as when the process ends just then.
#[must_use = "those who wait are told by `deliver`"]
pub struct Completed(Vec<Completion>);

impl Completed {
    /// Tells those who wait, in the order in which they had asked.
    pub fn deliver(self) {
        self.0.into_iter().for_each(|completion| completion());
    }
}

impl SteppedLog {
    /// Opens the log. `fatal` is called as by [`LogWriter`](super::LogWriter), during the step that fails.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        disk: Arc<dyn Disk>,
        options: LogOptions,
        fatal: Fatal,
    ) -> Result<(SteppedLog, WalHandle, Recovered), OpenError> {
        // Nobody takes the chores, so the writer does them itself.
        let (mut writer, _, recovered) = Writer::open(disk, options, fatal)?;
        writer.later = Some(Vec::new());
        let handle = WalHandle { shared: Arc::clone(&writer.shared) };
        let started = writer.maintain();
        let mut log = SteppedLog { writer, failed: false };
        if let Err(error) = started {
            log.failed = true;
            log.writer.stop(error);
        }
        Ok((log, handle, recovered))
    }

    /// Waits until there is something to do.
    pub async fn filled(&self) {
        poll_fn(|context| {
            let mut queue = self.writer.shared.queue();
            if queue.items.is_empty() {
                queue.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Does everything that is queued.
    pub fn step(&mut self) -> Completed {
        let mut items = std::mem::take(&mut self.writer.shared.queue().items);
        if !self.failed
            && let Err(error) = self.writer.process(&mut items)
        {
            self.failed = true;
            self.writer.stop(error);
        }
        for item in items.drain(..) {
            refuse(item, &self.writer.shared);
        }
        Completed(self.writer.later.replace(Vec::new()).unwrap_or_default())
    }
}
