//! What the members of a group say to each other.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::entry::{Entry, SnapshotMeta};
use crate::logic::ids::{GroupId, Index, LogPosition, NodeId, Term};

/// A message with its address and the term of its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The group.
    pub group: GroupId,
    /// Who sends it.
    pub from: NodeId,
    /// Who is to receive it.
    pub to: NodeId,
    /// The sender's term. In a pre-vote, and in a reply that grants it, the term of the campaign that may follow.
    pub term: Term,
    /// What it says.
    pub body: Message,
}

/// What a member says to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Candidate to voters.
    RequestVote {
        /// The candidate's last log position.
        last: LogPosition,
        /// A rehearsal that changes nothing (dissertation, section 9.6).
        pre: bool,
        /// The candidate was told to campaign by the leader, so leader stickiness does not apply (section 4.2.3).
        transfer: bool,
    },
    /// Voter to candidate. A vote that is given is durable.
    VoteReply {
        /// Echo of the request.
        pre: bool,
        /// Whether the vote was given.
        granted: bool,
    },
    /// Leader to everybody: entries, or none as a heartbeat. A follower that is receiving a snapshot gets heartbeats
    /// behind the position 0@0, which every log has.
    Append {
        /// Position just before the first entry.
        prev: LogPosition,
        /// The entries, consecutive.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
        /// Number of the leader's confirmation round, echoed by the reply; proves leadership for reads.
        round: u64,
    },
    /// Follower to leader.
    AppendReply {
        /// What became of it.
        outcome: AppendOutcome,
        /// Echo of the request.
        round: u64,
    },
    /// Leader to a follower whose next entry is compacted away: a piece of the snapshot.
    SnapshotChunk {
        /// What the snapshot stands for.
        meta: SnapshotMeta,
        /// Number of the chunk, starting at 0.
        number: u32,
        /// Whether it is the last.
        last: bool,
        /// The chunk as it is stored.
        data: Bytes,
    },
    /// Follower to leader.
    SnapshotReply {
        /// The snapshot spoken of.
        last: LogPosition,
        /// The chunk wanted next; chunks below it are stored.
        next: u32,
        /// The snapshot is installed (or was not needed): continue with entries behind it.
        installed: bool,
    },
    /// Leader to its chosen successor: campaign now (section 3.10).
    TimeoutNow,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AppendOutcome {
    /// Everything up to `matched` equals the leader's log and is durable. It may be less than what was sent: then
    /// the rest is still being written, and another reply follows; or there was no room for it, and as soon as there
    /// is, an append behind it is refused.
    Accepted {
        /// Highest index known to match.
        matched: Index,
    },
    /// The entry at `prev` is missing or of another term.
    Rejected {
        /// Index of the `prev` that was refused, so that a late refusal is told from a current one.
        prev: Index,
        /// Where the follower's log could still match: its last position at or below `prev` whose term is not above
        /// the term there.
        hint: LogPosition,
    },
}
