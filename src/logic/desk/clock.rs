//! Log time: what the leader stamps into entries.

use std::time::Duration;

/// A clock that continues the log time of the state machine.
///
/// It is not the wall clock of any machine: a new leader goes on from the latest time that it has applied and adds
/// what its own monotonic clock measures. So neither a jump of a node's clock nor skew between nodes moves a
/// deadline; while nobody leads, log time stands still, which can only lengthen a lease.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogClock {
    base_ms: u64,
    base_at: Duration,
}

impl LogClock {
    /// Log time at `now`, the monotonic time since the node started.
    pub fn read(&self, now: Duration) -> u64 {
        self.base_ms.saturating_add(millis(now.saturating_sub(self.base_at)))
    }

    /// The machine has reached `machine_ms`. The clock never runs behind it, and never backwards.
    pub fn observe(&mut self, machine_ms: u64, now: Duration) {
        if machine_ms > self.read(now) {
            *self = LogClock { base_ms: machine_ms, base_at: now };
        }
    }

    /// This node became leader: time spent as a follower does not count.
    pub fn start_leading(&mut self, machine_ms: u64, now: Duration) {
        let base_ms = if mutant!(TimeFromLocalClock) { millis(now) } else { machine_ms };
        *self = LogClock { base_ms, base_at: now };
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn continues_the_time_of_the_log_rather_than_its_own() {
        let mut clock = LogClock::default();
        clock.start_leading(5_000, s(1000));
        assert_eq!(clock.read(s(1002)), 7_000);
    }

    #[test]
    fn follows_the_machine_forwards_only() {
        let mut clock = LogClock::default();
        clock.start_leading(5_000, s(10));
        clock.observe(60_000, s(10));
        assert_eq!(clock.read(s(11)), 61_000);
        clock.observe(1_000, s(11));
        assert_eq!(clock.read(s(11)), 61_000);
    }

    #[test]
    fn hostile_times_saturate() {
        let mut clock = LogClock::default();
        clock.observe(u64::MAX, s(1));
        assert_eq!(clock.read(s(2)), u64::MAX);
    }
}
