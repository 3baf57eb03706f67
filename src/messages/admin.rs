//! Questions to a node about itself, and the few orders it takes.

use serde::{Deserialize, Serialize};

use crate::logic::ids::{GroupId, Index, NodeId, Term};

/// A question or order to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminRequest {
    /// What the node knows of itself and its groups.
    Status,
    /// The supervision tree.
    Tree,
    /// Hand leadership of the request's group to another voter.
    TransferLeader {
        /// To whom; `None`: the most up-to-date voter.
        to: Option<NodeId>,
    },
    /// Break something on purpose. Refused unless `[chaos] enabled = true`.
    Chaos(Chaos),
}

/// A fault that can be injected into a running node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Chaos {
    /// Make an actor panic.
    Panic {
        /// Its path in the supervision tree, such as `node/group-1/raft`; `*` picks one at random.
        actor: String,
    },
    /// Make an actor block its thread.
    Hang {
        /// As above.
        actor: String,
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Delay what is sent to a peer; zero heals.
    LinkDelay {
        /// The peer.
        peer: NodeId,
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Lose a share of what is sent to a peer; zero heals, 1000 cuts.
    LinkDrop {
        /// The peer.
        peer: NodeId,
        /// Share in thousandths.
        permille: u16,
    },
    /// Make every write to the log take longer; zero heals.
    DiskDelay {
        /// How long, in milliseconds.
        ms: u64,
    },
    /// Make the disk hang once.
    DiskHang {
        /// For how long, in milliseconds.
        ms: u64,
    },
    /// Make the next sync fail, which is fatal to the process.
    DiskFail,
    /// Make the disk full.
    DiskFull {
        /// After so many bytes more; `None` heals.
        after_bytes: Option<u64>,
    },
}

/// The answer to an admin request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AdminReply {
    /// To `Status`.
    Status(NodeStatus),
    /// To `Tree`.
    Tree(ActorStatus),
    /// To an order that was carried out (a transfer: begun).
    Done,
}

/// What a node knows of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The node.
    pub node: NodeId,
    /// Version of the program.
    pub version: String,
    /// Milliseconds since the process started.
    pub uptime_ms: u64,
    /// Actor restarts since then.
    pub restarts: u64,
    /// Bytes in the node's data directory.
    pub disk_bytes: u64,
    /// Its groups.
    pub groups: Vec<GroupStatus>,
}

/// What a node knows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// `leader`, `follower`, `candidate`, `pre-candidate` or `learner`; `restarting` while its actors are.
    pub role: String,
    /// Who is believed to lead.
    pub leader: Option<NodeId>,
    /// The term.
    pub term: Term,
    /// Last index in the log.
    pub last: Index,
    /// Highest index known to be committed.
    pub commit: Index,
    /// Highest index applied.
    pub applied: Index,
    /// Last index of the newest snapshot.
    pub snapshot: Index,
    /// Keys in the store.
    pub keys: u64,
    /// Bytes of keys and values in the store.
    pub bytes: u64,
    /// Sessions.
    pub sessions: u64,
    /// Log time of the machine, in milliseconds.
    pub time_ms: u64,
    /// Hash of the replicated state at `applied`, in hexadecimal.
    pub hash: String,
    /// On the leader: how far each peer's log is known to match.
    pub peers: Vec<(NodeId, Index)>,
}

/// One actor of the supervision tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActorStatus {
    /// Its name under its supervisor.
    pub name: String,
    /// `running`, `starting`, `backing-off`, `stopping`, `stopped` or `hung`.
    pub state: String,
    /// How many times it was started.
    pub generation: u64,
    /// How many times it was restarted after a failure.
    pub restarts: u64,
    /// Why it ended last, if it did.
    pub last_cause: Option<String>,
    /// Children, when it is a supervisor, in start order.
    pub children: Vec<ActorStatus>,
}
