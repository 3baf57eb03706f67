//! Between the KV server, the Raft peer and the applier of one group, within a process.
//!
//! ```text
//! KV server --Propose, ReadBarrier--> Raft peer --Committed, Install, TakeSnapshot--> applier
//!           <-Verdicts, RoleChanged--           <----------SnapshotTaken-------------
//!           --------------------------Queries--------------------------------------->
//!           <-------------------------Applied, Answers-------------------------------
//! ```
//!
//! Every message carries a batch, so that a hop between actors is paid once for many requests.

use actix::Message;
use bytes::Bytes;

use super::admin::GroupStatus;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};
use crate::logic::kv::command::{LeaseId, Outcome, Query};
use crate::logic::kv::{Places, Stats};
use crate::logic::raft::entry::{Entry, SnapshotMark};
use crate::logic::raft::membership::Membership;
use crate::logic::raft::message::Envelope;

/// Raft messages that arrived for one group.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FromPeers(pub Vec<Envelope>);

/// KV server to Raft peer: commands to be replicated.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Propose(pub Vec<Proposal>);

/// A command to be replicated.
pub struct Proposal {
    /// Chosen by the KV server; the verdict carries it.
    pub id: u64,
    /// The encoded command.
    pub command: Bytes,
}

/// KV server to Raft peer: from which index on may the reads of this batch be answered?
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadBarrier {
    /// Chosen by the KV server; the verdict carries it.
    pub id: u64,
    /// Whether the leader's lease suffices.
    pub lease: bool,
}

/// Admin actor to Raft peer: hand leadership over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TransferLeader {
    /// To whom; `None`: the most up-to-date voter.
    pub to: Option<NodeId>,
}

/// Why the Raft peer did not take a proposal or read. Surely not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not lead.
    NotLeader,
    /// It is at the limit of that name.
    Busy(&'static str),
}

/// Raft peer to KV server: what became of proposals and reads.
#[derive(Default, Message)]
#[rtype(result = "()")]
pub struct Verdicts {
    /// Proposals that are in the log, and where.
    pub accepted: Vec<(u64, LogPosition)>,
    /// Proposals and reads that were not taken.
    pub refused: Vec<(u64, Refusal)>,
    /// Reads that may be answered once this index is applied.
    pub reads: Vec<(u64, Index)>,
}

/// What a member of a group is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Whether this node leads.
    pub leads: bool,
    /// The term.
    pub term: Term,
    /// Who is believed to lead.
    pub leader: Option<NodeId>,
}

/// Raft peer to KV server: leadership, term or known leader changed.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct RoleChanged(pub Leadership);

/// Raft peer to applier: entries that are committed, in index order, each exactly once.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Committed {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether somebody may wait for the outcomes: some of the entries were proposed here.
    pub report: bool,
}

/// Raft peer to applier: a snapshot of the leader's is installed on disk; replace the state by it.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Install {
    /// The file.
    pub snapshot: SnapshotMark,
}

/// Raft peer to applier: the log has grown enough; write a snapshot.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TakeSnapshot {
    /// Which life of the Raft peer asks; to be echoed, since writing may take longer than that lasts.
    pub life: u64,
}

/// Applier to Raft peer: how taking a snapshot ended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SnapshotTaken {
    /// Echo.
    pub life: u64,
    /// The snapshot that is durable now, or why there is none.
    pub result: Result<TakenSnapshot, String>,
}

/// A snapshot that this node took of its own state.
#[derive(Clone, Debug)]
pub struct TakenSnapshot {
    /// The file.
    pub mark: SnapshotMark,
    /// Bytes of the state in it.
    pub bytes: u64,
}

/// Applier to KV server: what became of committed commands.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Applied {
    /// Outcomes in index order, of every kind of entry; only if they were asked for.
    pub outcomes: Vec<(LogPosition, Outcome)>,
    /// Highest index applied.
    pub upto: LogPosition,
    /// Log time of the machine, in milliseconds.
    pub time_ms: u64,
    /// Log time at which something expires next.
    pub next_deadline: Option<u64>,
    /// What the store holds now.
    pub stats: Stats,
    /// Leases whose turn it has become to hold the lock that they claim.
    pub granted: Vec<LeaseId>,
    /// Who has a place in the queue of which lock.
    pub places: Places,
}

/// KV server to applier: answer these once `index` is applied.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Queries {
    /// Chosen by the KV server; the answers carry it.
    pub id: u64,
    /// The index that must be applied; 0: answer at once.
    pub index: Index,
    /// The questions.
    pub queries: Vec<Query>,
}

/// Applier to KV server: the next answers to a batch of questions. A long batch is answered in several parts.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Answers {
    /// Echo.
    pub id: u64,
    /// In the order of the questions. Large ones come in several messages.
    pub outcomes: Vec<Outcome>,
}

/// Outer edge to Raft peer or applier: what do you know of yourself?
#[derive(Message)]
#[rtype(result = "PeerStatus")]
pub struct ObservePeer;

/// What a Raft peer knows of itself.
#[derive(Clone, Debug, actix::MessageResponse)]
pub struct PeerStatus {
    /// Everything but what the applier knows.
    pub status: GroupStatus,
    /// The membership in force.
    pub membership: Membership,
}

/// Outer edge to applier. `None`: it ended before it could answer.
#[derive(Message)]
#[rtype(result = "Option<ApplierStatus>")]
pub struct ObserveApplier;

/// What an applier knows of itself.
#[derive(Clone, Debug)]
pub struct ApplierStatus {
    /// Highest index applied.
    pub applied: Index,
    /// What the store holds.
    pub stats: Stats,
    /// Log time.
    pub time_ms: u64,
    /// Hash of the state, in hexadecimal.
    pub hash: String,
}
