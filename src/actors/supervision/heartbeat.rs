//! When to ping a child, and when to conclude that it hangs.

use std::time::Duration;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Nothing until then.
    Wait(Duration),
    /// Send this ping.
    Ping(u64),
    /// It hangs.
    Overdue,
}

/// The heartbeat of one life.
#[derive(Clone, Debug)]
pub(crate) struct Heartbeat {
    timeout: Duration,
    sent: u64,
    /// When the last ping was sent, or the life began.
    since: Duration,
}

impl Heartbeat {
    pub fn new(timeout: Duration, now: Duration) -> Self {
        Self { timeout, sent: 0, since: now }
    }

    /// `answered` is the last ping that was answered. A ping follows half a timeout after an answered one, and has
    /// a whole timeout to be answered.
    pub fn beat(&mut self, now: Duration, answered: u64) -> Beat {
        let waiting = answered < self.sent;
        let due = self.since.saturating_add(if waiting { self.timeout } else { self.timeout / 2 });
        if now < due {
            return Beat::Wait(due);
        }
        // When this very check comes late, it was our own thread that was held up, and the child's excuse may be
        // the same: it gets another chance.
        let late = now.saturating_sub(due) >= self.timeout / 2;
        if waiting && !late {
            return Beat::Overdue;
        }
        self.sent += 1;
        self.since = now;
        Beat::Ping(self.sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn an_answering_child_is_pinged_every_half_timeout() {
        let mut heart = Heartbeat::new(ms(100), ms(0));
        assert_eq!(heart.beat(ms(10), 0), Beat::Wait(ms(50)));
        assert_eq!(heart.beat(ms(50), 0), Beat::Ping(1));
        assert_eq!(heart.beat(ms(50), 0), Beat::Wait(ms(150)));
        assert_eq!(heart.beat(ms(60), 1), Beat::Wait(ms(100)));
        assert_eq!(heart.beat(ms(100), 1), Beat::Ping(2));
    }

    #[test]
    fn an_unanswered_ping_is_overdue_after_a_timeout() {
        let mut heart = Heartbeat::new(ms(100), ms(0));
        assert_eq!(heart.beat(ms(50), 0), Beat::Ping(1));
        assert_eq!(heart.beat(ms(149), 0), Beat::Wait(ms(150)));
        assert_eq!(heart.beat(ms(150), 0), Beat::Overdue);
    }

    #[test]
    fn a_late_check_blames_itself() {
        let mut heart = Heartbeat::new(ms(100), ms(0));
        assert_eq!(heart.beat(ms(50), 0), Beat::Ping(1));
        assert_eq!(heart.beat(ms(900), 0), Beat::Ping(2));
        assert_eq!(heart.beat(ms(1000), 0), Beat::Overdue);
    }
}
