//! The client's side of a session: numbers for commands, the window, what is acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use crate::logic::kv::command::{SessionId, Stamp};

/// An open session.
///
/// The number of a command counts as answered when its answer has come, *and when its call was given up*: the clerk
/// never sends it again then, and acknowledging past it makes the machine refuse a copy that is still on its way
/// (`Duplicate`), so that what was given up cannot take effect long after.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    window: u64,
    ttl: Duration,
    /// Lowest number that is not answered, or the next one when all are.
    base: u64,
    /// For `base`, `base + 1`, ...: whether it is answered. Never starts with `true`.
    answered: VecDeque<bool>,
    /// When the newest command that is known to have reached the machine was sent.
    touched: Duration,
}

impl Session {
    /// A session whose opening was sent at `now`.
    pub(super) fn new(id: SessionId, window: u32, ttl_ms: u64, now: Duration) -> Self {
        Session {
            id,
            window: u64::from(window.max(1)),
            ttl: Duration::from_millis(ttl_ms),
            base: 1,
            answered: VecDeque::new(),
            touched: now,
        }
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    /// Whether another command may be numbered: the machine keeps at most `window` replies that are not acknowledged.
    pub(super) fn has_room(&self) -> bool {
        (self.answered.len() as u64) < self.window || mutant!(WindowIgnored)
    }

    /// The next number.
    pub(super) fn number(&mut self) -> u64 {
        self.answered.push_back(false);
        self.base + self.answered.len() as u64 - 1
    }

    /// The stamp of a command with this number, with the newest acknowledgement.
    pub(super) fn stamp(&self, seq: u64) -> Stamp {
        debug_assert!(seq >= self.base, "an answered command is never sent again");
        let ahead = if mutant!(AcknowledgesUnanswered) { 1 } else { 0 };
        Stamp { session: self.id, seq, acked_below: self.base + ahead }
    }

    /// The number is answered, or its call was given up.
    pub(super) fn settle(&mut self, seq: u64) {
        let at = seq.checked_sub(self.base).and_then(|at| usize::try_from(at).ok());
        if let Some(flag) = at.and_then(|at| self.answered.get_mut(at)) {
            *flag = true;
        }
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.base += 1;
        }
    }

    /// The machine has answered a command that was sent at `sent`.
    pub(super) fn touch(&mut self, sent: Duration) {
        self.touched = self.touched.max(sent);
    }

    /// When the session must be touched so that it does not expire: a third of its time after the last touch.
    pub(super) fn keep_alive_at(&self) -> Duration {
        self.touched + self.ttl / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::ids::GroupId;

    #[test]
    fn acknowledgement_follows_the_lowest_unanswered_number() {
        let id = SessionId { group: GroupId(1), index: 9 };
        let mut session = Session::new(id, 3, 3000, Duration::from_secs(1));
        assert_eq!([session.number(), session.number(), session.number()], [1, 2, 3]);
        assert!(!session.has_room());
        session.settle(2);
        assert!(!session.has_room(), "the machine still keeps the replies from 1 on");
        assert_eq!(session.stamp(3), Stamp { session: id, seq: 3, acked_below: 1 });
        session.settle(1);
        assert!(session.has_room());
        assert_eq!(session.stamp(3).acked_below, 3);
        session.settle(1); // again: no effect
        session.settle(3);
        assert_eq!(session.number(), 4);
        assert_eq!(session.stamp(4).acked_below, 4);
        session.touch(Duration::from_secs(5));
        session.touch(Duration::from_secs(2));
        assert_eq!(session.keep_alive_at(), Duration::from_secs(6));
    }
}
