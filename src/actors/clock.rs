//! Time as an actor sees it.

use std::time::Duration;

use tokio::time::Instant;

/// Monotonic time since the node started. It is tokio's clock, so a test that pauses that one pauses this one.
#[derive(Clone, Copy, Debug)]
pub struct NodeClock {
    start: Instant,
}

impl NodeClock {
    /// A clock that shows zero now.
    pub fn start() -> Self {
        NodeClock { start: Instant::now() }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }
}
