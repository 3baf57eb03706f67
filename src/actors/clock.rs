//! Time as an actor sees it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Unix time in milliseconds, for people; nothing is decided by it.
pub type WallClock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Monotonic time since the node started. It is tokio's clock, so a test that pauses that one pauses this one.
#[derive(Clone, Debug)]
pub struct NodeClock {
    start: Instant,
    skew: Option<Arc<Skew>>,
}

impl NodeClock {
    /// A clock that shows zero now.
    pub fn start() -> Self {
        NodeClock { start: Instant::now(), skew: None }
    }

    /// A clock that goes as wrong as `skew` says.
    pub fn skewed(skew: Arc<Skew>) -> Self {
        NodeClock { start: Instant::now(), skew: Some(skew) }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        match &self.skew {
            None => self.start.elapsed(),
            Some(skew) => skew.read(),
        }
    }
}

/// How a clock goes wrong on purpose: too fast, too slow, or with leaps forward. It never runs backwards, as the
/// monotonic clocks of operating systems do not.
#[derive(Debug)]
pub struct Skew(Mutex<Course>);

#[derive(Debug)]
struct Course {
    since: Instant,
    shown: Duration,
    rate: f64,
}

impl Skew {
    /// A clock that shows zero now and runs at `rate` seconds a second.
    ///
    /// # Panics
    /// If the rate is not a positive number.
    pub fn new(rate: f64) -> Arc<Self> {
        assert!(rate.is_finite() && rate > 0.0, "a clock runs forward");
        Arc::new(Skew(Mutex::new(Course { since: Instant::now(), shown: Duration::ZERO, rate })))
    }

    /// Leaps forward.
    pub fn leap(&self, by: Duration) {
        self.course().shown += by;
    }

    fn read(&self) -> Duration {
        let course = self.course();
        course.shown + course.since.elapsed().mul_f64(course.rate)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
