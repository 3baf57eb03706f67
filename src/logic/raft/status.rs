//! What a replica knows of itself, for people.

use super::entry::HardState;
use super::membership::Membership;
use super::output::Role;
use super::progress::Mode;
use super::replica::{Raft, State};
use crate::logic::ids::{GroupId, Index, LogPosition, NodeId};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The replica's node.
    pub id: NodeId,
    /// Its group.
    pub group: GroupId,
    /// Its role.
    pub role: Role,
    /// Term and vote.
    pub hard_state: HardState,
    /// Who leads, as far as known.
    pub leader: Option<NodeId>,
    /// The log begins behind this position.
    pub base: LogPosition,
    /// The end of the log.
    pub last: LogPosition,
    /// Everything up to here is committed.
    pub commit: Index,
    /// Everything up to here is on this replica's disk.
    pub durable: Index,
    /// Bytes of the log in memory.
    pub log_bytes: usize,
    /// The newest snapshot.
    pub snapshot: Option<LogPosition>,
    /// The membership in force.
    pub membership: Membership,
    /// The other members, as the leader sees them; empty on others.
    pub peers: Vec<PeerStatus>,
}

/// A follower as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The follower.
    pub node: NodeId,
    /// It has everything up to here, durably.
    pub matched: Index,
    /// The next entry that it will be sent.
    pub next: Index,
    /// How it is being served.
    pub mode: PeerMode,
}

/// How a leader serves a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMode {
    /// It is finding out where the logs match.
    Probe,
    /// It sends entries as they come.
    Replicate,
    /// It sends a snapshot, of which the follower has so many chunks.
    Snapshot {
        /// Chunks that are stored.
        stored: u32,
    },
}

impl Raft {
    /// A picture of the present state.
    pub fn status(&self) -> Status {
        let peers = match &self.state {
            State::Leader(leading) => &leading.progress,
            _ => &Default::default(),
        };
        let peers = peers.iter().map(|(node, progress)| PeerStatus {
            node: *node,
            matched: progress.matched,
            next: progress.next,
            mode: match &progress.mode {
                Mode::Probe { .. } => PeerMode::Probe,
                Mode::Replicate(_) => PeerMode::Replicate,
                Mode::Snapshot(transfer) => PeerMode::Snapshot { stored: transfer.stored },
            },
        });
        Status {
            id: self.config.id,
            group: self.config.group,
            role: self.role(),
            hard_state: self.hard_state,
            leader: self.leader,
            base: self.log.base(),
            last: self.log.last(),
            commit: self.log.commit(),
            durable: self.log.durable(),
            log_bytes: self.log.bytes(),
            snapshot: self.snapshot.as_ref().map(|meta| meta.last),
            membership: self.history.current().clone(),
            peers: peers.collect(),
        }
    }
}
