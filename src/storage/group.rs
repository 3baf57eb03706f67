//! What the log knows in memory about one group: its state, and where its live entries lie.

use std::collections::{BTreeMap, VecDeque};

use super::record::GroupMeta;
use crate::logic::ids::{GroupId, Index, LogPosition, Term};
use crate::logic::raft::entry::HardState;
use crate::logic::raft::entry::SnapshotMark;

/// Where an entry lies. 24 bytes, for every live entry of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Term of the entry.
    pub term: Term,
    /// Segment.
    pub segment: u32,
    /// Offset of its frame in the segment.
    pub frame: u32,
    /// Offset of the entry in the segment.
    pub at: u32,
    /// Length of the entry.
    pub length: u32,
}

/// Number of live entries in each segment; a segment without is garbage once it is the lowest.
#[derive(Debug, Default)]
pub(crate) struct Live(BTreeMap<u32, u64>);

impl Live {
    /// Live entries in `segment`.
    pub fn in_segment(&self, segment: u32) -> u64 {
        self.0.get(&segment).copied().unwrap_or(0)
    }

    /// Forgets a segment that is gone.
    pub fn forget(&mut self, segment: u32) {
        self.0.remove(&segment);
    }

    fn add(&mut self, position: &Position) {
        *self.0.entry(position.segment).or_default() += 1;
    }

    fn remove(&mut self, position: &Position) {
        let count = self.0.get_mut(&position.segment).expect("a live entry's segment is counted");
        *count -= 1;
    }
}

/// One group.
///
/// While the files are replayed, the entries between `compacted` and `first` may be missing: they lay in segments that
/// were given up because a later record makes them unnecessary. At the end none may be missing.
#[derive(Clone, Debug)]
pub(crate) struct GroupLog {
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot.
    pub snapshot: Option<SnapshotMark>,
    /// Position before the first entry of the log.
    pub compacted: LogPosition,
    /// Position of the last entry of the log.
    pub last: LogPosition,
    /// Index of the first element of `positions`; behind `last` if there is none.
    pub first: Index,
    /// Where the entries from `first` to `last` lie.
    pub positions: VecDeque<Position>,
    /// Bytes of these entries.
    pub bytes: u64,
}

impl Default for GroupLog {
    /// A group that was never heard of.
    fn default() -> Self {
        GroupLog {
            hard_state: HardState::default(),
            snapshot: None,
            compacted: LogPosition::default(),
            last: LogPosition::default(),
            first: 1,
            positions: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl GroupLog {
    /// A group as it was when a segment began, with all its entries in earlier ones.
    pub fn from_meta(meta: &GroupMeta) -> Self {
        GroupLog {
            hard_state: meta.hard_state,
            snapshot: meta.snapshot.clone(),
            compacted: meta.compacted,
            last: meta.last,
            first: meta.last.index + 1,
            ..GroupLog::default()
        }
    }

    /// The state that a segment begins with.
    pub fn meta(&self, group: GroupId) -> GroupMeta {
        GroupMeta {
            group,
            hard_state: self.hard_state,
            compacted: self.compacted,
            last: self.last,
            snapshot: self.snapshot.clone(),
        }
    }

    /// Term of the entry at `index`, if the log knows it.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.compacted.index {
            return Some(self.compacted.term);
        }
        if index == self.last.index {
            return Some(self.last.term);
        }
        let offset = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.positions.get(offset).map(|position| position.term)
    }

    /// Whether entries may be written at `first`.
    pub fn accepts(&self, first: Index) -> Result<(), String> {
        if first <= self.compacted.index || first > self.last.index + 1 {
            return Err(format!(
                "entries from {first} do not fit a log that is compacted to {} and ends at {}",
                self.compacted, self.last
            ));
        }
        Ok(())
    }

    /// Drops the entries from `index` on.
    pub fn cut(&mut self, index: Index, live: &mut Live) {
        while self.first + self.positions.len() as u64 > index {
            let Some(position) = self.positions.pop_back() else {
                self.first = index;
                break;
            };
            live.remove(&position);
            self.bytes -= u64::from(position.length);
        }
    }

    /// Adds the entry behind the last one.
    pub fn push(&mut self, index: Index, position: Position, live: &mut Live) {
        if self.positions.is_empty() {
            self.first = index;
        }
        self.last = LogPosition { index, term: position.term };
        self.bytes += u64::from(position.length);
        live.add(&position);
        self.positions.push_back(position);
    }

    /// Whether the log may be compacted to this position while keeping what follows.
    pub fn can_compact(&self, to: LogPosition) -> Result<(), String> {
        if to.index > self.last.index || self.term_at(to.index).is_some_and(|term| term != to.term) {
            return Err(format!(
                "{to} is not in a log that is compacted to {} and ends at {}",
                self.compacted, self.last
            ));
        }
        Ok(())
    }

    /// Moves the beginning of the log behind `to`.
    pub fn compact(&mut self, to: LogPosition, keep_tail: bool, live: &mut Live) {
        if !keep_tail {
            self.cut(0, live);
            self.last = to;
            self.first = to.index + 1;
        }
        while self.first <= to.index
            && let Some(position) = self.positions.pop_front()
        {
            live.remove(&position);
            self.bytes -= u64::from(position.length);
            self.first += 1;
        }
        self.compacted = to;
    }

    /// Whether entries of the log are not where they should be.
    pub fn has_gap(&self) -> bool {
        self.first != self.compacted.index + 1
            || self.first + self.positions.len() as u64 != self.last.index + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_stays_small() {
        assert_eq!(std::mem::size_of::<Position>(), 24);
    }
}
