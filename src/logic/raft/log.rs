//! The log of one replica in memory: everything that is not compacted, and how far it is durable, committed, and
//! handed to the state machine.
//!
//! ```text
//!   base   (compacted)     handed    commit             durable     last
//!    |-------------------------|---------|-------------------|---------|
//! ```
//! `base <= handed`, `base <= commit <= last`, `durable <= last`. `commit` and `durable` are not ordered: a quorum
//! may be faster than this replica's own disk. `handed` exceeds `commit` only after a restart beside a state machine
//! that lived on.

use std::collections::VecDeque;

use super::entry::Entry;
use crate::logic::ids::{Index, LogPosition, Term};

/// See the module.
#[derive(Debug)]
pub(super) struct Log {
    base: LogPosition,
    entries: VecDeque<Entry>,
    /// Cost of `entries`.
    bytes: usize,
    /// Cost of the entries behind `commit`.
    uncommitted_bytes: usize,
    commit: Index,
    handed: Index,
    /// The prefix of this log that is known to be on disk.
    durable: Index,
    /// The first index not yet given out to be written.
    unwritten: Index,
    /// What is being written: ticket, and how much of this log is durable once it is done.
    writing: VecDeque<(u64, Index)>,
}

impl Log {
    /// A log whose `entries` follow `base` and are durable.
    pub fn new(base: LogPosition, entries: Vec<Entry>, commit: Index, handed: Index) -> Self {
        let last = base.index + entries.len() as u64;
        let commit = commit.clamp(base.index, last);
        let mut log = Log {
            base,
            bytes: entries.iter().map(Entry::cost).sum(),
            entries: entries.into(),
            uncommitted_bytes: 0,
            commit,
            handed: handed.max(base.index),
            durable: last,
            unwritten: last + 1,
            writing: VecDeque::new(),
        };
        log.uncommitted_bytes = log.range(commit + 1, last).map(Entry::cost).sum();
        log
    }

    pub fn base(&self) -> LogPosition {
        self.base
    }

    pub fn last(&self) -> LogPosition {
        self.entries.back().map_or(self.base, Entry::position)
    }

    pub fn commit(&self) -> Index {
        self.commit
    }

    pub fn handed(&self) -> Index {
        self.handed
    }

    pub fn durable(&self) -> Index {
        self.durable
    }

    /// How far the own disk counts for what a leader commits.
    pub fn durable_for_commit(&self) -> Index {
        if mutant!(CountsItselfBeforeSync) { self.last().index } else { self.durable }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn uncommitted_bytes(&self) -> usize {
        self.uncommitted_bytes
    }

    pub fn committed_bytes(&self) -> usize {
        self.bytes - self.uncommitted_bytes
    }

    /// The term at `index`; `None` when it is compacted away (below the base) or not there yet.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// The position at `index`, if its term is known.
    pub fn position(&self, index: Index) -> Option<LogPosition> {
        self.term_at(index).map(|term| LogPosition { index, term })
    }

    pub fn get(&self, index: Index) -> Option<&Entry> {
        let offset = index.checked_sub(self.base.index)?.checked_sub(1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// The entries from `first` to `last`, both included. Both ends must be in the log, or `first` just behind `last`.
    fn range(&self, first: Index, last: Index) -> impl Iterator<Item = &Entry> {
        assert!(
            first > self.base.index && first <= last + 1,
            "a range {first}..={last} lies behind the base"
        );
        let from = (first - self.base.index - 1) as usize;
        let to = (last - self.base.index) as usize;
        self.entries.range(from..to)
    }

    /// Copies entries from `first` on, until the end or until `budget` bytes are spent, at least one if there is one.
    /// Returns them with their cost.
    pub fn batch(&self, first: Index, budget: usize) -> (Vec<Entry>, usize) {
        let mut spent = 0usize;
        let mut fits = 0u64;
        for entry in self.range(first, self.last().index) {
            let total = spent.saturating_add(entry.cost());
            if fits > 0 && total > budget {
                break;
            }
            (spent, fits) = (total, fits + 1);
        }
        (self.range(first, first + fits - 1).cloned().collect(), spent)
    }

    /// The last index at or below `limit`, and not below the base, whose term is at most `term`: a log whose entry at
    /// `limit` has this `term` cannot match behind it (paper, section 5.3, the optimisation at its end).
    pub fn could_match(&self, limit: Index, term: Term) -> Index {
        let end = limit.clamp(self.base.index, self.last().index);
        let count = (end - self.base.index) as usize;
        let low = self.entries.partition_point(|entry| entry.term <= term).min(count) as u64;
        self.base.index + low
    }

    /// Appends one entry behind the last.
    pub fn push(&mut self, entry: Entry) {
        let last = self.last();
        assert!(entry.index == last.index + 1, "entry {} does not follow {last}", entry.position());
        assert!(entry.term >= last.term, "entry {} has a lower term than {last}", entry.position());
        let cost = entry.cost();
        self.bytes += cost;
        self.uncommitted_bytes += cost;
        self.entries.push_back(entry);
    }

    /// Drops everything behind `last`.
    pub fn truncate(&mut self, last: Index) {
        assert!(
            last >= self.commit,
            "truncating to {last} would drop committed entries up to {}",
            self.commit
        );
        while self.last().index > last {
            let cost = self.entries.pop_back().expect("the last entry is above the base").cost();
            self.bytes -= cost;
            self.uncommitted_bytes -= cost;
        }
        self.forget_writes_behind(last);
        self.unwritten = self.unwritten.min(last + 1);
    }

    /// The log is empty and starts behind `base`, because a snapshot takes its place. Returns nothing of the old log.
    pub fn reset(&mut self, base: LogPosition) {
        assert!(base.index > self.commit, "a snapshot at {base} is older than what is committed");
        self.entries.clear();
        self.bytes = 0;
        self.uncommitted_bytes = 0;
        self.base = base;
        self.commit = base.index;
        self.handed = self.handed.max(base.index);
        self.forget_writes_behind(0);
        self.unwritten = base.index + 1;
    }

    fn forget_writes_behind(&mut self, last: Index) {
        self.durable = self.durable.min(last);
        for (_, durable) in &mut self.writing {
            *durable = (*durable).min(last);
        }
    }

    /// Raises the commit index; returns whether it moved.
    pub fn commit_to(&mut self, index: Index) -> bool {
        assert!(index <= self.last().index, "commit index {index} is behind the log's end {}", self.last());
        if index <= self.commit {
            return false;
        }
        self.uncommitted_bytes -= self.range(self.commit + 1, index).map(Entry::cost).sum::<usize>();
        self.commit = index;
        true
    }

    /// The committed entries not handed out yet, once.
    pub fn take_committed(&mut self) -> Vec<Entry> {
        let upto = if mutant!(AppliesUncommitted) { self.last().index } else { self.commit };
        if self.handed >= upto {
            return Vec::new();
        }
        let entries = self.range(self.handed + 1, upto).cloned().collect();
        self.handed = upto;
        entries
    }

    /// Whether there are entries to be written.
    pub fn has_unwritten(&self) -> bool {
        self.unwritten <= self.last().index
    }

    /// The entries to be written under `ticket`. To be called for every ticket, so that the log knows of a reset.
    pub fn take_unwritten(&mut self, ticket: u64) -> Vec<Entry> {
        let last = self.last().index;
        let entries = self.range(self.unwritten, last).cloned().collect();
        self.unwritten = last + 1;
        self.writing.push_back((ticket, last));
        entries
    }

    /// Everything up to `ticket` is on disk.
    pub fn written(&mut self, ticket: u64) {
        while let Some((first, durable)) = self.writing.front().copied() {
            if first > ticket {
                break;
            }
            self.durable = self.durable.max(durable);
            self.writing.pop_front();
        }
    }

    /// Where to cut so that at most `keep` entries and `keep_bytes` bytes remain at or below `position`.
    pub fn compaction_point(&self, position: Index, keep: u64, keep_bytes: usize) -> Index {
        let lowest = position.saturating_sub(keep).max(self.base.index);
        let mut cut = position;
        let mut bytes = 0usize;
        while cut > lowest {
            bytes = bytes.saturating_add(self.get(cut).map_or(0, Entry::cost));
            if bytes > keep_bytes {
                break;
            }
            cut -= 1;
        }
        cut
    }

    /// Takes all entries out of a log that is not used any more.
    pub fn give_up(&mut self) -> VecDeque<Entry> {
        std::mem::take(&mut self.entries)
    }

    /// Takes everything up to and including `index` out of memory. Only the shorter part is moved and looked at: going
    /// through a million entries would hold up everything else.
    pub fn compact(&mut self, index: Index) -> VecDeque<Entry> {
        assert!(index <= self.commit && index <= self.handed, "compacting to {index} would lose entries");
        let base = self.position(index).expect("a compaction point is in the log");
        let count = (index - self.base.index) as usize;
        self.base = base;
        if self.entries.len() - count < count {
            let rest = self.entries.split_off(count);
            self.bytes = rest.iter().map(Entry::cost).sum();
            std::mem::replace(&mut self.entries, rest)
        } else {
            let dropped: VecDeque<Entry> = self.entries.drain(..count).collect();
            self.bytes -= dropped.iter().map(Entry::cost).sum::<usize>();
            dropped
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::logic::raft::entry::Payload;

    fn entry(index: Index, term: Term) -> Entry {
        Entry { index, term, payload: Payload::Command(Bytes::from_static(b"12345678")) }
    }

    fn log(terms: &[Term]) -> Log {
        let entries = terms.iter().zip(1..).map(|(term, index)| entry(index, *term)).collect();
        Log::new(LogPosition::default(), entries, 0, 0)
    }

    #[test]
    fn positions_are_known_from_the_base_to_the_end() {
        let mut log = log(&[1, 1, 2]);
        assert_eq!(log.term_at(0), Some(0));
        assert_eq!(log.term_at(3), Some(2));
        assert_eq!(log.term_at(4), None);
        assert_eq!(log.term_at(u64::MAX), None);
        log.commit_to(2);
        assert_eq!(log.take_committed().len(), 2);
        log.compact(2);
        assert_eq!((log.term_at(1), log.term_at(2), log.term_at(3)), (None, Some(1), Some(2)));
        assert_eq!(log.bytes(), 40);
        assert_eq!(log.uncommitted_bytes(), 40);
    }

    #[test]
    fn a_batch_holds_one_entry_at_least_and_its_budget_at_most() {
        let log = log(&[1, 1, 1, 1]);
        let indexes = |budget| log.batch(2, budget).0.iter().map(|e| e.index).collect::<Vec<_>>();
        assert_eq!(indexes(1), [2]);
        assert_eq!(indexes(80), [2, 3]);
        assert_eq!(indexes(usize::MAX), [2, 3, 4]);
        assert_eq!(log.batch(5, 10), (vec![], 0));
    }

    #[test]
    fn backing_up_skips_whole_terms() {
        let log = log(&[1, 1, 3, 3, 5, 5]);
        assert_eq!(log.could_match(6, 4), 4);
        assert_eq!(log.could_match(99, 9), 6);
        assert_eq!(log.could_match(5, 2), 2);
        assert_eq!(log.could_match(1, 9), 1);
        assert_eq!(log.could_match(6, 0), 0);
        assert_eq!(log.could_match(u64::MAX, u64::MAX), 6);
    }

    #[test]
    fn a_write_that_was_overwritten_meanwhile_proves_nothing() {
        let mut log = log(&[1]);
        log.push(entry(2, 1));
        log.push(entry(3, 1));
        assert_eq!(log.take_unwritten(1).len(), 2);
        log.truncate(2);
        log.push(entry(3, 2));
        log.push(entry(4, 2));
        assert_eq!(log.take_unwritten(2).iter().map(|e| e.index).collect::<Vec<_>>(), [3, 4]);
        log.written(1);
        assert_eq!(log.durable(), 2);
        log.written(2);
        assert_eq!(log.durable(), 4);
    }

    #[test]
    fn a_reset_is_durable_only_with_its_own_ticket() {
        let mut log = log(&[1, 1]);
        log.push(entry(3, 1));
        log.take_unwritten(1);
        log.reset(LogPosition { index: 10, term: 4 });
        log.written(1);
        assert_eq!(log.durable(), 0);
        assert!(log.take_unwritten(2).is_empty());
        log.written(2);
        assert_eq!(log.durable(), 10);
        assert_eq!((log.commit(), log.handed(), log.bytes()), (10, 10, 0));
    }

    #[test]
    fn compaction_hands_out_what_it_drops_and_counts_what_is_left() {
        for cut in [1, 3, 8] {
            let mut log = log(&[1; 9]);
            log.commit_to(9);
            log.take_committed();
            let garbage: Vec<Index> = log.compact(cut).iter().map(|entry| entry.index).collect();
            assert_eq!(garbage, (1..=cut).collect::<Vec<_>>());
            assert_eq!((log.base().index, log.last().index), (cut, 9));
            assert_eq!(log.bytes(), (9 - cut) as usize * entry(1, 1).cost());
        }
    }

    #[test]
    fn compaction_keeps_a_tail_bounded_in_entries_and_bytes() {
        let log = log(&[1; 20]);
        assert_eq!(log.compaction_point(10, 4, usize::MAX), 6);
        assert_eq!(log.compaction_point(10, 99, usize::MAX), 0);
        assert_eq!(log.compaction_point(10, 99, 80), 8);
        assert_eq!(log.compaction_point(10, 0, 80), 10);
    }
}
