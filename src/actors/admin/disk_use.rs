//! How much a node has on its disk: looking takes long on one that is slow, and for ever on one that hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::timeout;

use super::PATIENCE;
use crate::actors::background::{Background, Joint};

/// Looks on a thread that may block.
#[derive(Clone)]
pub struct DiskUse {
    thread: Background,
    look: Arc<dyn Fn() -> u64 + Send + Sync>,
    joint: Joint<u64>,
    /// What was seen the last time.
    seen: Arc<AtomicU64>,
}

impl DiskUse {
    /// `look` counts the bytes, on `thread`.
    pub fn new(thread: Background, look: Arc<dyn Fn() -> u64 + Send + Sync>) -> Self {
        DiskUse { thread, look, joint: Joint::default(), seen: Arc::default() }
    }

    /// Bytes on the disk: now, or as of the last time if looking takes too long (0 if there was none).
    pub(super) async fn bytes(&self) -> u64 {
        let (look, seen) = (self.look.clone(), self.seen.clone());
        let looked = self.joint.ask(&self.thread, move || {
            let bytes = look();
            seen.store(bytes, Ordering::Relaxed);
            bytes
        });
        match timeout(PATIENCE, looked).await {
            Ok(Ok(bytes)) => bytes,
            _ => self.seen.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::actors::background::Job;

    #[tokio::test(start_paused = true)]
    async fn a_disk_that_hangs_is_looked_at_once_and_nobody_waits_for_it_for_long() {
        let hanging: Arc<Mutex<Vec<Job>>> = Arc::default();
        let jobs = hanging.clone();
        let thread = Background::queue(move |job| jobs.lock().expect("no panic").push(job));
        let end_next = || {
            let mut jobs = std::mem::take(&mut *hanging.lock().expect("no panic"));
            assert_eq!(jobs.len(), 1, "somebody looks, and nobody else");
            jobs.remove(0)();
        };
        let on_disk = Arc::new(AtomicU64::new(7));
        let look = on_disk.clone();
        let disk_use = DiskUse::new(thread, Arc::new(move || look.load(Ordering::Relaxed)));
        assert_eq!(disk_use.bytes().await, 0);
        assert_eq!(disk_use.bytes().await, 0);
        end_next();
        on_disk.store(9, Ordering::Relaxed);
        assert_eq!(disk_use.bytes().await, 7, "as of the last time");
        let (bytes, ()) = tokio::join!(disk_use.bytes(), async { end_next() });
        assert_eq!(bytes, 9);
    }
}
