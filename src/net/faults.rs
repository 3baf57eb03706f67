//! Faults on purpose, in the writer of a link.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// What goes wrong with the packets sent over a link. Shared between the link and whoever gives the orders; it
/// takes effect at once and outlives reconnections. Keep-alives are spared, so that a lossy link stays connected.
#[derive(Debug)]
pub struct LinkFaults {
    delay_ms: AtomicU64,
    drop_permille: AtomicU32,
    random: Mutex<fastrand::Rng>,
}

impl LinkFaults {
    /// No faults for now; `seed` decides which packets will be lost.
    pub fn new(seed: u64) -> Self {
        LinkFaults {
            delay_ms: AtomicU64::new(0),
            drop_permille: AtomicU32::new(0),
            random: Mutex::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// Sends every packet this many milliseconds late, in order; 0 heals.
    pub fn set_delay_ms(&self, ms: u64) {
        self.delay_ms.store(ms, Ordering::Relaxed);
    }

    /// Loses this share of the packets, in thousandths (more than 1000 counts as 1000); 0 heals.
    pub fn set_drop_permille(&self, permille: u16) {
        self.drop_permille.store(u32::from(permille.min(1000)), Ordering::Relaxed);
    }

    /// Whether there is anything to do.
    pub(super) fn any(&self) -> bool {
        self.delay_ms.load(Ordering::Relaxed) > 0 || self.drop_permille.load(Ordering::Relaxed) > 0
    }

    /// The delay in force.
    pub(super) fn delay(&self) -> Duration {
        Duration::from_millis(self.delay_ms.load(Ordering::Relaxed))
    }

    /// Draws whether the next packet is lost.
    pub(super) fn loses_one(&self) -> bool {
        let permille = self.drop_permille.load(Ordering::Relaxed);
        if permille == 0 {
            return false;
        }
        let mut random = self.random.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        random.u32(0..1000) < permille
    }
}

impl Default for LinkFaults {
    /// No faults.
    fn default() -> Self {
        LinkFaults::new(0)
    }
}
