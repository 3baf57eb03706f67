//! Working on a simulated log: how long the disk takes, and what is under way when the machine goes off.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::node::environment::LogOwner;
use crate::storage::SteppedLog;

/// How fast a disk is; may be changed while it works.
#[derive(Debug)]
pub struct DiskPace(Mutex<Pace>);

#[derive(Debug)]
struct Pace {
    random: fastrand::Rng,
    longest_ms: u64,
}

impl DiskPace {
    /// A disk whose writes take up to 2 ms.
    pub fn new(seed: u64) -> DiskPace {
        DiskPace(Mutex::new(Pace { random: fastrand::Rng::with_seed(seed), longest_ms: 2 }))
    }

    /// A write takes up to so long, in whole milliseconds.
    pub fn set_longest(&self, time: Duration) {
        self.pace().longest_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    }

    /// Draws how long it takes until a write happens, and from then until its end is heard of.
    fn draw(&self) -> (Duration, Duration) {
        let Pace { random, longest_ms } = &mut *self.pace();
        let takes = random.u64(0..=*longest_ms);
        // At either end, or anywhere in between.
        let before = match random.u8(0..4) {
            0 => 0,
            1 => takes,
            _ => random.u64(0..=takes),
        };
        (Duration::from_millis(before), Duration::from_millis(takes - before))
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The owner of a log that is worked on by `work_on`.
pub struct SimLog(mpsc::UnboundedSender<oneshot::Sender<()>>);

impl SimLog {
    pub(super) fn new() -> (SimLog, mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
        let (sender, closing) = mpsc::unbounded_channel();
        (SimLog(sender), closing)
    }
}

impl LogOwner for SimLog {
    fn close(&mut self) -> oneshot::Receiver<()> {
        let (report, closed) = oneshot::channel();
        // Nobody takes it: the log was closed before.
        let _ = self.0.send(report);
        closed
    }
}

/// Does what the log's thread does. What is written and not yet reported, and what is still queued, ends with the
/// machine.
pub(super) async fn work_on(
    mut log: SteppedLog,
    pace: Arc<DiskPace>,
    mut closing: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) {
    loop {
        tokio::select! {
            biased;
            () = log.filled() => {
                let (before, after) = pace.draw();
                pause(before).await;
                let completed = log.step();
                pause(after).await;
                completed.deliver();
            }
            report = closing.recv() => {
                log.step().deliver();
                if let Some(report) = report {
                    let _ = report.send(());
                }
                return;
            }
        }
    }
}

async fn pause(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
