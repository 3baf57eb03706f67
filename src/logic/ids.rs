//! The few names that every room uses: nodes, groups, terms, log positions.

use serde::{Deserialize, Serialize};

/// A term: the logical clock of Raft (extended paper, section 5.1). 0 means "before the first election".
pub type Term = u64;

/// A position in a group's log. The first entry has index 1; 0 means "nothing".
pub type Index = u64;

/// The identity of a node, unique in its cluster and never used again once its data are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// The identity of a Raft group. Every address, log record and Raft message carries one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

/// A log position together with the term of the entry there; what snapshots and compactions name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Index of the entry.
    pub index: Index,
    /// Term of the entry at `index`.
    pub term: Term,
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl std::fmt::Display for GroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "g{}", self.0)
    }
}

impl std::fmt::Display for LogPosition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
