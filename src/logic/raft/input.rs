//! What a replica can be told.

use std::time::Duration;

use bytes::Bytes;

use super::entry::{Entry, HardState, SnapshotMeta};
use super::membership::Membership;
use super::membership_change::MembershipChange;
use super::message::Envelope;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

/// Everything that can happen to a replica. Request ids are the caller's; one id is answered once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// So much time has passed since the last tick. Due as the first input of a batch, so that timers count from when
    /// messages really came, and at [`super::Raft::until_timer`] at the latest. A batch with lease reads also ends
    /// with one, because a lease is judged by a time taken after the read arrived; without it, a lease read is
    /// answered like any other.
    Tick {
        /// By a clock that never runs backwards.
        elapsed: Duration,
    },
    /// A message from another member. It is checked; nonsense is ignored.
    Message(Envelope),
    /// Append a command. Answered by `accepted` or `refused`.
    Propose {
        /// Names the request.
        id: u64,
        /// The command, in the state machine's encoding.
        command: Bytes,
    },
    /// From which applied index on is a read linearizable? Answered by `reads` or `refused`.
    Read {
        /// Names the request.
        id: u64,
        /// Be content with the leader's lease (see [`super::Config::lease`]), which trusts clocks.
        lease: bool,
    },
    /// Hand leadership over. Failure is answered by `refused`; success shows as a change of role.
    TransferLeader {
        /// Names the request.
        id: u64,
        /// The successor; `None`: the voter whose log is most up to date.
        to: Option<NodeId>,
    },
    /// Change who belongs to the group. Answered by `accepted` (with the position of the first entry of the change)
    /// or `refused`. A joint configuration is left without further ado.
    ProposeMembership {
        /// Names the request.
        id: u64,
        /// The change.
        change: MembershipChange,
    },
    /// Everything up to and including this ticket is durable.
    Persisted {
        /// From [`super::Persist`].
        ticket: u64,
    },
    /// A durable snapshot of this replica's own state now stands for everything up to `position`.
    SnapshotTaken {
        /// The last entry in it.
        position: LogPosition,
    },
    /// Answer to a wanted chunk ([`super::ChunkWanted`]).
    ChunkRead {
        /// For whom.
        to: NodeId,
        /// The snapshot that it is of.
        meta: SnapshotMeta,
        /// Which chunk.
        number: u32,
        /// Whether it is the last one.
        last: bool,
        /// What it holds.
        data: Bytes,
    },
    /// The wanted chunk could not be read, for instance because the snapshot was replaced by a newer one. If it is of
    /// the newest, another snapshot is to be taken as soon as something behind it is applied: a leader sees to that.
    ChunkUnavailable {
        /// For whom it was wanted.
        to: NodeId,
        /// The snapshot that was asked for.
        snapshot: LogPosition,
    },
    /// A chunk of a snapshot on its way in was stored. For the last chunk this says more: the whole snapshot is
    /// there, is durable, and its checksums hold.
    ChunkStored {
        /// From [`super::StoreChunk`].
        transfer: u64,
        /// Which chunk.
        number: u32,
    },
    /// A snapshot on its way in could not be stored or is damaged: begin anew.
    SnapshotFailed {
        /// From [`super::StoreChunk`].
        transfer: u64,
    },
    /// Stand for election now (after the rehearsal), because this replica may have led until it was restarted. Where
    /// leases are in use and it does not know that it did ([`Restored::led`]), it waits like everybody else.
    Campaign,
    /// The link to a node broke, so what was on its way there is probably lost.
    PeerUnreachable {
        /// The node.
        node: NodeId,
    },
}

/// What a replica finds on its disk when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Term and vote.
    pub hard_state: HardState,
    /// The newest complete snapshot. The state machine has been loaded from it.
    pub snapshot: Option<SnapshotMeta>,
    /// The log, consecutive. It may begin anywhere at or before the entry behind the snapshot.
    pub entries: Vec<Entry>,
    /// The last index that the state machine has applied, if it outlived this replica; else 0.
    pub applied: Index,
    /// The first membership of the group, in force when neither log nor snapshot hold one. Empty for a node that is
    /// to be added to an existing group: it waits to be told.
    pub bootstrap: Membership,
    /// The term in which it led when it was last taken down, if that is remembered; the disk does not tell.
    pub led: Option<Term>,
}
