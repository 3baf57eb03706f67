//! What a replica keeps on disk: log entries, the hard state, and the description of a snapshot.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::membership::Membership;
use crate::logic::ids::{GroupId, Index, LogPosition, NodeId, Term};

/// What an entry asks for once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Appended by a new leader so that it can commit the entries of earlier terms (paper, section 5.4.2 and 8).
    Noop,
    /// A command of the replicated state machine, in that machine's own encoding.
    Command(Bytes),
    /// A membership of the group; in force from the moment it is appended (dissertation, section 4.1).
    Membership(Membership),
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position in the log, starting at 1.
    pub index: Index,
    /// Term of the leader that created the entry.
    pub term: Term,
    /// What is to be done.
    pub payload: Payload,
}

impl Entry {
    /// Where this entry is.
    pub fn position(&self) -> LogPosition {
        LogPosition { index: self.index, term: self.term }
    }

    /// Bytes that this entry occupies in memory and, roughly, on the wire: the payload plus a fixed overhead.
    pub fn cost(&self) -> usize {
        const OVERHEAD: usize = 32;
        OVERHEAD
            + match &self.payload {
                Payload::Noop => 0,
                Payload::Command(data) => data.len(),
                Payload::Membership(membership) => membership.cost(),
            }
    }
}

/// Term and vote: must be durable before a message that depends on them leaves (paper, figure 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term that this replica has seen.
    pub term: Term,
    /// Candidate that this replica voted for in `term`.
    pub vote: Option<NodeId>,
}

/// What a snapshot stands for: everything up to and including `last`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMeta {
    /// Group whose state it is.
    pub group: GroupId,
    /// The last entry whose effect is in the snapshot.
    pub last: LogPosition,
    /// The membership in force at `last`.
    pub membership: Membership,
}

/// A snapshot file that is complete and durable, as log and actors name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotMark {
    /// What the snapshot stands for.
    pub meta: SnapshotMeta,
    /// Name of the file in the snapshot directory.
    pub name: String,
    /// Digest over all chunks, as in the file's footer: log and file must agree.
    pub digest: u32,
}

// An entry travels by the thousand, so it is a compact array [index, term, kind, data] rather than a map of names.
const KIND_NOOP: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let empty = Bytes::new();
        match &self.payload {
            Payload::Noop => (self.index, self.term, KIND_NOOP, &empty).serialize(serializer),
            Payload::Command(data) => (self.index, self.term, KIND_COMMAND, data).serialize(serializer),
            Payload::Membership(membership) => {
                (self.index, self.term, KIND_MEMBERSHIP, Bytes::from(membership.to_bytes()))
                    .serialize(serializer)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (index, term, kind, data): (Index, Term, u8, Bytes) = Deserialize::deserialize(deserializer)?;
        let payload = match kind {
            KIND_NOOP => Payload::Noop,
            KIND_COMMAND => Payload::Command(data),
            KIND_MEMBERSHIP => {
                Payload::Membership(Membership::from_bytes(&data).map_err(serde::de::Error::custom)?)
            }
            other => return Err(serde::de::Error::custom(format!("unknown kind of entry {other}"))),
        };
        Ok(Entry { index, term, payload })
    }
}
