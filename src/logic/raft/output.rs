//! What a replica wants done.

use std::collections::VecDeque;

use bytes::Bytes;

use super::entry::{Entry, HardState, SnapshotMeta};
use super::message::Envelope;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

/// What is to be done after a batch of inputs. The order of the fields is the order of execution; nothing waits for
/// the disk, because what depends on it is held back until [`super::Input::Persisted`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// To be made durable, in order of the tickets, behind everything asked for before.
    pub persist: Option<Persist>,
    /// To be sent now, in this order.
    pub send: Vec<Envelope>,
    /// Chunks of an incoming snapshot, to be stored in this order behind what `persist` asks for. Each is to be
    /// answered by [`super::Input::ChunkStored`] or [`super::Input::SnapshotFailed`].
    pub store_chunks: Vec<StoreChunk>,
    /// Proposals that were appended, with their place in the log: (request id, position).
    pub accepted: Vec<(u64, LogPosition)>,
    /// Requests that were not carried out and never will be.
    pub refused: Vec<(u64, Refusal)>,
    /// The state machine is to be replaced by this snapshot (the one that was just received).
    pub load: Option<SnapshotMeta>,
    /// Entries to apply, consecutive, each exactly once. They are committed, though not necessarily durable here.
    pub committed: Vec<Entry>,
    /// Reads that may be answered as soon as the index is applied: (request id, index).
    pub reads: Vec<(u64, Index)>,
    /// Chunks of this replica's newest snapshot that followers need; answer by [`super::Input::ChunkRead`] or
    /// [`super::Input::ChunkUnavailable`]. One behind the last is not to be answered: it was asked for before it was
    /// known how many there are.
    pub snapshot_wanted: Vec<ChunkWanted>,
    /// The stored log up to and including this position is no longer needed.
    pub compact: Option<LogPosition>,
    /// What was dropped from the log in memory. To be freed where nobody waits: after a snapshot of a large state it
    /// may be a million entries.
    pub garbage: VecDeque<Entry>,
    /// What this replica is now, when that changed. Comes last, because `accepted` and `committed` of the same batch
    /// still belong to the old role. Whoever waits for an accepted entry when leadership is lost does not know its
    /// fate: the entry of another term committed at its index tells that it is lost.
    pub role: Option<RoleChange>,
}

impl Output {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Output::default()
    }
}

/// What is to be made durable, as one unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Number of this unit: 1, 2, ... in the life of a [`super::Raft`].
    pub ticket: u64,
    /// First make this received snapshot (if it is not already) the current one, and drop the whole stored log: it
    /// starts anew behind `snapshot.last`. A crash in between is harmless: [`super::Raft::new`] tells a log that does
    /// not fit the snapshot, and asks for this again.
    pub snapshot: Option<SnapshotMeta>,
    /// Then note the term and the vote.
    pub hard_state: Option<HardState>,
    /// Then append these consecutive entries; stored entries at or behind `entries[0].index` are replaced.
    pub entries: Vec<Entry>,
}

/// A chunk of an incoming snapshot. Chunk 0 begins a new one and discards what was stored of any other; the others
/// follow one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChunk {
    /// Number of the transfer, to be echoed: one snapshot may be received several times.
    pub transfer: u64,
    /// The snapshot.
    pub meta: SnapshotMeta,
    /// Which chunk.
    pub number: u32,
    /// Whether it is the last: then the whole is to be synced and checked before it is reported as stored.
    pub last: bool,
    /// The chunk.
    pub data: Bytes,
}

/// A chunk that a follower needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkWanted {
    /// Who needs it.
    pub to: NodeId,
    /// The snapshot.
    pub snapshot: LogPosition,
    /// Which chunk, starting at 0.
    pub number: u32,
}

/// What a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected, without disturbing anybody (dissertation, section 9.6).
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// What a replica became.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// Its role.
    pub role: Role,
    /// Its term.
    pub term: Term,
    /// Whom it believes to lead in that term.
    pub leader: Option<NodeId>,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Ask the leader.
    NotLeader {
        /// Who is believed to lead.
        leader: Option<NodeId>,
    },
    /// A limit of the configuration is reached; try again later.
    Busy {
        /// The field of [`super::Config`].
        limit: &'static str,
    },
    /// Leadership is being handed over; soon there will be another leader.
    Transferring,
    /// The successor did not take over in time.
    TransferTimedOut,
    /// The learner lacks too much of the log to be promoted: the group would wait for it.
    LearnerBehind {
        /// Entries that it lacks.
        by: u64,
    },
    /// The named node cannot lead: it is not another voter of the group.
    NoSuchSuccessor,
    /// A membership change is under way, or this leader has not committed an entry of its own term yet.
    ChangeUnderWay,
    /// The change makes no sense; the sentence says why.
    BadChange(&'static str),
}
