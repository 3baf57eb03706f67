//! The bounded table of commands under way.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::logic::ids::{Index, LogPosition, Term};

/// What became of a caller whose index was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<C> {
    /// Its own entry was applied.
    Applied(C),
    /// Another entry stands at its index: its command was not executed and never will be.
    Overwritten(C),
}

struct Waiting<C> {
    term: Term,
    cost: usize,
    caller: C,
}

/// Commands under way: first known by the number of their proposal, then by their place in the log.
pub struct Pending<C> {
    max_commands: usize,
    max_bytes: usize,
    bytes: usize,
    next: u64,
    proposed: BTreeMap<u64, Waiting<C>>,
    placed: BTreeMap<Index, Waiting<C>>,
    /// No term in `placed` is lower.
    earliest_term: Term,
}

impl<C> Pending<C> {
    /// A table that admits so many commands and so many bytes at once.
    pub fn new(max_commands: usize, max_bytes: usize) -> Self {
        Pending {
            max_commands,
            max_bytes,
            bytes: 0,
            next: 0,
            proposed: BTreeMap::new(),
            placed: BTreeMap::new(),
            earliest_term: Term::MAX,
        }
    }

    /// Commands under way.
    pub fn len(&self) -> usize {
        self.proposed.len() + self.placed.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a caller in and numbers its proposal.
    ///
    /// # Errors
    /// The caller and the name of the limit that would be passed.
    pub fn admit(&mut self, caller: C, cost: usize) -> Result<u64, (C, &'static str)> {
        if self.len() >= self.max_commands {
            return Err((caller, "max_pending_requests"));
        }
        if self.bytes.saturating_add(cost) > self.max_bytes && !self.is_empty() {
            return Err((caller, "max_pending_bytes"));
        }
        self.next += 1;
        self.bytes += cost;
        self.proposed.insert(self.next, Waiting { term: 0, cost, caller });
        Ok(self.next)
    }

    /// The proposal is in the log at `position`. Hands back a caller whose entry stood there before: it is gone from
    /// this log, but may live on in that of another member and be committed by it yet (paper, figure 8), so nobody
    /// knows its fate.
    pub fn place(&mut self, proposal: u64, position: LogPosition) -> Option<C> {
        let waiting = self.proposed.remove(&proposal)?;
        self.earliest_term = self.earliest_term.min(position.term);
        let before = self.placed.insert(position.index, Waiting { term: position.term, ..waiting })?;
        Some(self.release(before))
    }

    /// The proposal was not taken.
    pub fn refuse(&mut self, proposal: u64) -> Option<C> {
        let waiting = self.proposed.remove(&proposal)?;
        Some(self.release(waiting))
    }

    /// The entry at `position` was applied.
    pub fn apply(&mut self, position: LogPosition) -> Option<Fate<C>> {
        let waiting = self.placed.remove(&position.index)?;
        let own = waiting.term == position.term || mutant!(AnswersForOthers);
        let caller = self.release(waiting);
        Some(if own { Fate::Applied(caller) } else { Fate::Overwritten(caller) })
    }

    /// Hands back everybody whose index is at or below `index` and was not reported by [`Pending::apply`]: the
    /// machine jumped over it with a snapshot, so nobody here knows the outcome.
    pub fn skip_to(&mut self, index: Index) -> Vec<C> {
        // Nearly always: everybody at or below was reported.
        if self.placed.first_key_value().is_none_or(|(first, _)| *first > index) {
            return Vec::new();
        }
        let above = match index.checked_add(1) {
            Some(next) => self.placed.split_off(&next),
            None => BTreeMap::new(),
        };
        let skipped = std::mem::replace(&mut self.placed, above);
        skipped.into_values().map(|waiting| self.release(waiting)).collect()
    }

    /// Hands back everybody behind `committed` who was placed in an earlier term than it has. Terms never fall along a
    /// log (paper, section 5.3), so behind it no log can hold an entry of those terms: their commands were not executed
    /// and never will be, and nobody need wait until this log has grown as far.
    pub fn overtake(&mut self, committed: LogPosition) -> Vec<C> {
        if committed.term <= self.earliest_term {
            return Vec::new();
        }
        let behind = (Bound::Excluded(committed.index), Bound::Unbounded);
        let overtaken: Vec<Waiting<C>> = self
            .placed
            .extract_if(behind, |_, waiting| waiting.term < committed.term)
            .map(|(_, waiting)| waiting)
            .collect();
        self.earliest_term = self.placed.values().map(|waiting| waiting.term).min().unwrap_or(Term::MAX);
        overtaken.into_iter().map(|waiting| self.release(waiting)).collect()
    }

    /// Hands back everybody who is not to wait for the outcome now that leadership is lost.
    pub fn give_up(&mut self, impatient: impl Fn(&C) -> bool) -> Vec<C> {
        let mut back = Vec::new();
        for table in [&mut self.proposed, &mut self.placed] {
            for (_, waiting) in table.extract_if(.., |_, waiting| impatient(&waiting.caller)) {
                self.bytes -= waiting.cost;
                back.push(waiting.caller);
            }
        }
        back
    }

    fn release(&mut self, waiting: Waiting<C>) -> C {
        assert!(self.bytes >= waiting.cost, "bytes of pending commands are counted once in and once out");
        self.bytes -= waiting.cost;
        waiting.caller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: Index, term: Term) -> LogPosition {
        LogPosition { index, term }
    }

    fn table() -> Pending<&'static str> {
        Pending::new(3, 100)
    }

    #[test]
    fn a_caller_is_handed_back_when_its_own_entry_is_applied() {
        let mut pending = table();
        let id = pending.admit("a", 10).expect("there is room");
        assert_eq!(pending.place(id, at(7, 2)), None);
        assert_eq!(pending.apply(at(6, 2)), None);
        assert_eq!(pending.apply(at(7, 2)), Some(Fate::Applied("a")));
        assert!(pending.is_empty());
    }

    #[test]
    fn another_term_at_the_index_means_surely_not_executed() {
        let mut pending = table();
        let id = pending.admit("a", 10).expect("there is room");
        pending.place(id, at(7, 2));
        assert_eq!(pending.apply(at(7, 3)), Some(Fate::Overwritten("a")));
    }

    #[test]
    fn both_limits_are_named_and_room_comes_back() {
        let mut pending = table();
        let first = pending.admit("a", 60).expect("there is room");
        assert_eq!(pending.admit("b", 60), Err(("b", "max_pending_bytes")));
        pending.admit("c", 20).expect("there is room");
        pending.admit("d", 20).expect("there is room");
        assert_eq!(pending.admit("e", 0), Err(("e", "max_pending_requests")));
        assert_eq!(pending.refuse(first), Some("a"));
        assert!(pending.admit("b", 60).is_ok());
    }

    #[test]
    fn a_single_command_above_the_byte_limit_still_passes_alone() {
        let mut pending = table();
        assert!(pending.admit("big", 1000).is_ok());
    }

    #[test]
    fn a_snapshot_that_jumps_over_an_index_hands_its_caller_back() {
        let mut pending = table();
        for (name, index) in [("a", 5), ("b", 6), ("c", 9)] {
            let id = pending.admit(name, 1).expect("there is room");
            pending.place(id, at(index, 1));
        }
        assert_eq!(pending.skip_to(6), ["a", "b"]);
        assert_eq!(pending.len(), 1);
        assert_eq!(pending.skip_to(Index::MAX), ["c"]);
    }

    #[test]
    fn an_entry_of_a_later_term_overtakes_what_waits_behind_it() {
        let mut pending = table();
        for (name, position) in [("before", at(50, 2)), ("a", at(100, 2)), ("b", at(101, 3))] {
            let id = pending.admit(name, 1).expect("there is room");
            pending.place(id, position);
        }
        assert!(pending.overtake(at(60, 2)).is_empty(), "an entry of this term may stand behind");
        assert_eq!(pending.overtake(at(60, 3)), ["a"]);
        assert!(pending.overtake(at(61, 3)).is_empty());
        assert_eq!(pending.overtake(at(62, 4)), ["b"]);
        assert_eq!(pending.len(), 1, "what comes before is settled when it is applied");
    }

    /// A leader that comes back in a later term proposes before its first entry of that term is applied.
    #[test]
    fn a_later_proposal_does_not_keep_an_earlier_one_waiting() {
        let mut pending = table();
        for (name, position) in [("lost", at(100, 2)), ("new", at(61, 4))] {
            let id = pending.admit(name, 1).expect("there is room");
            pending.place(id, position);
        }
        assert_eq!(pending.overtake(at(60, 4)), ["lost"]);
        assert_eq!(pending.apply(at(61, 4)), Some(Fate::Applied("new")));
    }

    #[test]
    fn only_the_impatient_are_let_go_at_a_step_down() {
        let mut pending = table();
        let a = pending.admit("a", 1).expect("there is room");
        pending.admit("b", 1).expect("there is room");
        pending.place(a, at(1, 1));
        assert_eq!(pending.give_up(|caller| *caller == "b"), ["b"]);
        assert_eq!(pending.apply(at(1, 1)), Some(Fate::Applied("a")));
    }
}
