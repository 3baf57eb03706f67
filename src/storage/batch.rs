//! What a group asks the log to keep, and what it gets back at a start.

use std::collections::BTreeMap;

use crate::logic::ids::{GroupId, LogPosition};
use crate::logic::raft::entry::{Entry, HardState, SnapshotMark};

/// Changes of one group that become durable together. Applied in the order of the fields.
///
/// Term and vote must not go back, entries must be consecutive and follow the log without a gap, and the log may be
/// compacted only up to the latest snapshot mark: anything else is a bug of the caller, and panics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The group.
    pub group: GroupId,
    /// New term and vote.
    pub hard_state: Option<HardState>,
    /// A snapshot whose file is already durable. Replaces the mark of an older snapshot.
    pub snapshot: Option<SnapshotMark>,
    /// Install a snapshot received from the leader: the log continues after this position. Entries behind it are kept
    /// if the log holds the very entry at that position, else the whole log is dropped (paper, section 7).
    pub reset: Option<LogPosition>,
    /// Entries to append. Everything at and behind the first one's index is replaced.
    pub entries: Vec<Entry>,
    /// Drop the entries up to and including this one, which must be in the log. Older positions do nothing.
    pub compact_to: Option<LogPosition>,
}

impl Batch {
    /// A batch without changes.
    pub fn new(group: GroupId) -> Self {
        Batch { group, hard_state: None, snapshot: None, reset: None, entries: Vec::new(), compact_to: None }
    }

    /// Bytes that it occupies in the log, roughly.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 128;
        OVERHEAD + self.entries.iter().map(Entry::cost).sum::<usize>()
    }
}

/// State of a group as the files have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredGroup {
    /// Term and vote.
    pub hard_state: HardState,
    /// The latest snapshot, if there was one.
    pub snapshot: Option<SnapshotMark>,
    /// Position before the first entry.
    pub compacted: LogPosition,
    /// The entries after `compacted`, without a gap.
    pub entries: Vec<Entry>,
}

impl RecoveredGroup {
    /// Position of the last entry.
    pub fn last(&self) -> LogPosition {
        self.entries.last().map_or(self.compacted, Entry::position)
    }
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Every group that was ever written to.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// Sentences for the operator, for example about a torn last write.
    pub notes: Vec<String>,
}
