//! What happened, twice: as a hash over everything, and as lines for people.

use std::time::Duration;

use super::book::EntryMark;
use crate::actors::tap::Seen;
use crate::logic::ids::NodeId;
use crate::logic::raft::message::{AppendOutcome, Envelope, Message};
use crate::logic::raft::{Output, Role};

/// A hash that grows with everything that happens: two runs that are the same have the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct TraceHash(u64);

impl TraceHash {
    /// The hash of everything so far.
    pub fn value(self) -> u64 {
        self.0
    }

    /// Mixes in a number.
    pub fn mix(&mut self, word: u64) {
        // FxHash: rustc's own, fast on single words.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Mixes in bytes.
    pub fn mix_bytes(&mut self, bytes: &[u8]) {
        self.mix(xxhash_rust::xxh3::xxh3_64(bytes));
    }

    /// Mixes in what was seen.
    pub(super) fn mix_seen(&mut self, seen: &Seen<'_>) {
        match seen {
            Seen::PeerStarts { life, restored } => {
                let last = restored.entries.last().map_or(0, |entry| entry.index);
                [1, *life, restored.hard_state.term, last].into_iter().for_each(|word| self.mix(word));
            }
            Seen::Output { commit, output } => {
                self.mix(2);
                self.mix(*commit);
                self.mix_output(output);
            }
            Seen::Durable { ticket } => {
                self.mix(3);
                self.mix(*ticket);
            }
            Seen::Loaded { last, hash } | Seen::Applied { position: last, hash } => {
                [4, last.index, last.term].into_iter().for_each(|word| self.mix(word));
                self.mix_bytes(&hash.to_bytes());
            }
        }
    }

    fn mix_output(&mut self, output: &Output) {
        if let Some(persist) = &output.persist {
            self.mix(persist.ticket);
            if let Some(hard_state) = persist.hard_state {
                self.mix(hard_state.term);
                self.mix(hard_state.vote.map_or(0, |node| node.0));
            }
            for entry in &persist.entries {
                let mark = EntryMark::of(entry);
                [entry.index, mark.term, mark.digest].into_iter().for_each(|word| self.mix(word));
            }
        }
        for envelope in &output.send {
            self.mix_envelope(envelope);
        }
        if let Some(role) = output.role {
            [role.role as u64, role.term, role.leader.map_or(0, |node| node.0)]
                .into_iter()
                .for_each(|word| self.mix(word));
        }
    }

    fn mix_envelope(&mut self, envelope: &Envelope) {
        self.mix(envelope.to.0);
        self.mix(envelope.term);
        let words = match &envelope.body {
            Message::RequestVote { last, pre, transfer } => {
                [1, last.index, u64::from(*pre), u64::from(*transfer)]
            }
            Message::VoteReply { pre, granted } => [2, u64::from(*pre), u64::from(*granted), 0],
            Message::Append { prev, entries, commit, round } => {
                self.mix(entries.len() as u64);
                [3, prev.index, *commit, *round]
            }
            Message::AppendReply { outcome, round } => match outcome {
                AppendOutcome::Accepted { matched } => [4, *matched, *round, 0],
                AppendOutcome::Rejected { prev, hint } => [5, *prev, hint.index, *round],
            },
            Message::SnapshotChunk { meta, number, last, data } => {
                self.mix(data.len() as u64);
                [6, meta.last.index, u64::from(*number), u64::from(*last)]
            }
            Message::SnapshotReply { last, next, installed } => {
                [7, last.index, u64::from(*next), u64::from(*installed)]
            }
            Message::TimeoutNow => [8, 0, 0, 0],
        };
        words.into_iter().for_each(|word| self.mix(word));
    }
}

/// Whose doing something was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Who {
    /// The world's: faults, mostly.
    World,
    /// A node's.
    Node(NodeId),
    /// A client's.
    Client(u32),
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Who::World => f.pad("world"),
            Who::Node(node) => f.pad(&node.to_string()),
            Who::Client(number) => f.pad(&format!("c{number}")),
        }
    }
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something goes wrong on purpose.
    Fault,
    /// It is over.
    Heal,
    /// A node starts.
    Start,
    /// A node's process ends.
    End,
    /// A replica becomes leader.
    Leads,
    /// A replica stands for election, or asks whether it would be elected.
    Stands,
    /// A replica follows, be it nobody.
    Follows,
    /// A state was loaded from a snapshot.
    Snapshot,
    /// A call that ended well.
    Call,
    /// A call that did not.
    FailedCall,
    /// A rule was broken.
    Violation,
}

impl Kind {
    pub(super) fn of(seen: &Seen<'_>) -> Kind {
        match seen {
            Seen::Output { output, .. } => match output.role.map(|change| change.role) {
                Some(Role::Leader) => Kind::Leads,
                Some(Role::Candidate | Role::PreCandidate) => Kind::Stands,
                Some(Role::Follower) | None => Kind::Follows,
            },
            Seen::Loaded { .. } => Kind::Snapshot,
            _ => Kind::Start,
        }
    }

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Fault => "fault",
            Kind::Heal => "heal",
            Kind::Start => "start",
            Kind::End => "end",
            Kind::Leads => "leads",
            Kind::Stands => "stands",
            Kind::Follows => "follows",
            Kind::Snapshot => "snapshot",
            Kind::Call => "call",
            Kind::FailedCall => "failed",
            Kind::Violation => "VIOLATION",
        }
    }
}

/// A line of the timeline.
#[derive(Clone, Debug)]
pub struct Line {
    /// When, since the simulation began.
    pub at: Duration,
    /// Whose doing.
    pub who: Who,
    /// What it is about.
    pub kind: Kind,
    /// In words.
    pub text: String,
}

/// What is worth a line of what was seen at a replica.
pub(super) fn describe(seen: &Seen<'_>) -> Option<String> {
    match seen {
        Seen::PeerStarts { life, restored } => {
            let last = restored.entries.last().map_or(0, |entry| entry.index);
            Some(format!("replica starts, life {life}, term {}, log to {last}", restored.hard_state.term))
        }
        Seen::Output { output, .. } => output.role.map(|change| match (change.role, change.leader) {
            (Role::Leader, _) => format!("leads in term {}", change.term),
            (Role::Candidate, _) => format!("stands for election in term {}", change.term),
            (Role::PreCandidate, _) => format!("asks whether it would be elected, in term {}", change.term),
            (Role::Follower, Some(leader)) => format!("follows {leader} in term {}", change.term),
            (Role::Follower, None) => format!("follows nobody in term {}", change.term),
        }),
        Seen::Loaded { last, .. } if last.index > 0 => Some(format!("loads a snapshot of {last}")),
        _ => None,
    }
}
