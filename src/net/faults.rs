//! Faults on purpose, in the writer of a link.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What goes wrong with the packets sent over a link. Shared between the link and whoever gives the orders; it
/// takes effect at once and outlives reconnections. Keep-alives are spared, so that a lossy link stays connected.
#[derive(Debug)]
pub struct LinkFaults {
    delay_ms: AtomicU64,
    scatter_ms: AtomicU64,
    drop_permille: AtomicU32,
    duplicate_permille: AtomicU32,
    random: Mutex<fastrand::Rng>,
}

impl LinkFaults {
    /// No faults for now; `seed` decides which packets will be lost.
    pub fn new(seed: u64) -> Self {
        LinkFaults {
            delay_ms: AtomicU64::new(0),
            scatter_ms: AtomicU64::new(0),
            drop_permille: AtomicU32::new(0),
            duplicate_permille: AtomicU32::new(0),
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

    /// Sends each packet up to this many milliseconds later than it would be, so that packets overtake each other; 0
    /// heals.
    pub fn set_scatter_ms(&self, ms: u64) {
        self.scatter_ms.store(ms, Ordering::Relaxed);
    }

    /// Sends this share of the packets twice, in thousandths; 0 heals.
    pub fn set_duplicate_permille(&self, permille: u16) {
        self.duplicate_permille.store(u32::from(permille.min(1000)), Ordering::Relaxed);
    }

    /// Heals everything.
    pub fn heal(&self) {
        self.set_delay_ms(0);
        self.set_scatter_ms(0);
        self.set_drop_permille(0);
        self.set_duplicate_permille(0);
    }

    /// Whether there is anything to do.
    pub(super) fn any(&self) -> bool {
        let times = [&self.delay_ms, &self.scatter_ms];
        let shares = [&self.drop_permille, &self.duplicate_permille];
        times.iter().any(|ms| ms.load(Ordering::Relaxed) > 0)
            || shares.iter().any(|permille| permille.load(Ordering::Relaxed) > 0)
    }

    /// Whether packets are to overtake each other.
    pub(super) fn scatters(&self) -> bool {
        self.scatter_ms.load(Ordering::Relaxed) > 0
    }

    /// Draws the delay of the next packet.
    pub(super) fn delay(&self) -> Duration {
        let delay = self.delay_ms.load(Ordering::Relaxed);
        let scatter = match self.scatter_ms.load(Ordering::Relaxed) {
            0 => 0,
            most => self.random().u64(0..=most),
        };
        Duration::from_millis(delay.saturating_add(scatter))
    }

    /// Draws whether the next packet is lost.
    pub(super) fn loses_one(&self) -> bool {
        self.draws(&self.drop_permille)
    }

    /// Draws whether the next packet is sent twice.
    pub(super) fn duplicates_one(&self) -> bool {
        self.draws(&self.duplicate_permille)
    }

    fn draws(&self, permille: &AtomicU32) -> bool {
        match permille.load(Ordering::Relaxed) {
            0 => false,
            permille => self.random().u32(0..1000) < permille,
        }
    }

    fn random(&self) -> MutexGuard<'_, fastrand::Rng> {
        self.random.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for LinkFaults {
    /// No faults.
    fn default() -> Self {
        LinkFaults::new(0)
    }
}
