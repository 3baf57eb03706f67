//! Those who wait for their turn at a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::logic::kv::command::LeaseId;

/// Who waits for the turn of which lease, and until when. One for each lease: who asks twice is let go the first time.
pub struct Turns<C> {
    waiting: BTreeMap<LeaseId, (Duration, C)>,
    by_end: BTreeSet<(Duration, LeaseId)>,
}

impl<C> Default for Turns<C> {
    fn default() -> Self {
        Turns { waiting: BTreeMap::new(), by_end: BTreeSet::new() }
    }
}

impl<C> Turns<C> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Lets a caller wait until `end` at the latest. Hands back the one who waited for the same lease.
    #[must_use]
    pub fn wait(&mut self, lease: LeaseId, end: Duration, caller: C) -> Option<C> {
        let before = self.take(lease);
        self.waiting.insert(lease, (end, caller));
        self.by_end.insert((end, lease));
        before
    }

    /// Hands back the one who waits for the turn of this lease.
    pub fn take(&mut self, lease: LeaseId) -> Option<C> {
        let (end, caller) = self.waiting.remove(&lease)?;
        self.by_end.remove(&(end, lease));
        Some(caller)
    }

    /// Hands back one who has waited long enough at `now`.
    pub fn take_due(&mut self, now: Duration) -> Option<C> {
        let (_, lease) = *self.by_end.first().filter(|(end, _)| *end <= now)?;
        self.take(lease)
    }

    /// Hands back everybody.
    pub fn take_all(&mut self) -> impl Iterator<Item = C> {
        self.by_end.clear();
        std::mem::take(&mut self.waiting).into_values().map(|(_, caller)| caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::ids::GroupId;

    fn lease(index: u64) -> LeaseId {
        LeaseId { group: GroupId(1), index }
    }

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn everybody_is_handed_back_once() {
        let mut turns = Turns::default();
        assert_eq!(turns.wait(lease(1), s(9), "a"), None);
        assert_eq!(turns.wait(lease(2), s(5), "b"), None);
        assert_eq!(turns.wait(lease(3), s(5), "c"), None);
        assert_eq!(turns.wait(lease(1), s(7), "a again"), Some("a"));
        assert_eq!(turns.take(lease(2)), Some("b"));
        assert_eq!(turns.take(lease(2)), None);
        assert_eq!(turns.take_due(s(4)), None);
        assert_eq!(turns.take_due(s(5)), Some("c"));
        assert_eq!(turns.take_due(s(5)), None);
        assert_eq!(turns.len(), 1);
        assert_eq!(turns.take_all().collect::<Vec<_>>(), ["a again"]);
        assert!(turns.is_empty());
        assert_eq!(turns.take_due(s(99)), None);
    }
}
