//! One replica: its state, its door, and the term gate. What it does in each role is in the sibling files.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::config::Config;
use super::durability::Disk;
use super::entry::{Entry, HardState, Payload, SnapshotMeta};
use super::input::Input;
use super::leader::Leading;
use super::log::Log;
use super::membership::Membership;
use super::membership_change::History;
use super::message::{AppendOutcome, Envelope, Message};
use super::output::{Output, Role, RoleChange};
use super::snapshot::Incoming;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

/// Terms and indexes from outside above this are nonsense; it keeps all arithmetic far from overflow.
pub(super) const LIMIT: u64 = 1 << 62;

/// A replica of one group. Feed inputs with [`Raft::step`], then collect what is to be done with [`Raft::ready`].
#[derive(Debug)]
pub struct Raft {
    pub(super) config: Config,
    pub(super) rng: fastrand::Rng,
    /// Time since the start.
    pub(super) now: Duration,
    /// Whether a tick came after the last lease read.
    pub(super) clock_is_fresh: bool,
    pub(super) hard_state: HardState,
    pub(super) log: Log,
    pub(super) history: History,
    /// The newest complete snapshot.
    pub(super) snapshot: Option<SnapshotMeta>,
    /// The log is to be cut behind it as soon as it is durable so far.
    pub(super) cut_later: bool,
    pub(super) state: State,
    /// Who leads in this term, as far as known.
    pub(super) leader: Option<NodeId>,
    /// When a leader was last heard of...
    pub(super) heard_at: Option<Duration>,
    /// ...unless that was after the last tick: then at the next one.
    pub(super) heard_since_tick: bool,
    pub(super) election_at: Duration,
    /// Highest confirmation round of the present leader that was echoed at once.
    pub(super) echoed: u64,
    /// Up to here the log is known to equal that of the present leader.
    pub(super) matched: Index,
    pub(super) incoming: Option<Incoming>,
    /// Numbers the transfers of incoming snapshots.
    pub(super) transfers: u64,
    pub(super) disk: Disk,
    pub(super) output: Output,
    pub(super) reported: RoleChange,
}

/// What a replica is, with what it needs to know only then.
#[derive(Debug)]
pub(super) enum State {
    Follower,
    PreCandidate(BTreeMap<NodeId, bool>),
    Candidate(BTreeMap<NodeId, bool>),
    Leader(Box<Leading>),
}

impl Raft {
    /// Takes in what happened. What follows from it is collected by [`Raft::ready`].
    pub fn step(&mut self, input: Input) {
        match input {
            Input::Tick { elapsed } => self.on_tick(elapsed),
            Input::Message(envelope) => self.on_message(envelope),
            Input::Propose { id, command } => self.on_propose(id, command),
            Input::Read { id, lease } => self.on_read(id, lease),
            Input::TransferLeader { id, to } => self.on_transfer(id, to),
            Input::ProposeMembership { id, change } => self.on_propose_membership(id, change),
            Input::Persisted { ticket } => self.on_persisted(ticket),
            Input::SnapshotTaken { position } => self.on_snapshot_taken(position),
            Input::ChunkRead { to, meta, number, last, data } => {
                self.on_chunk_read(to, meta, number, last, data);
            }
            Input::ChunkUnavailable { to, snapshot } => self.on_chunk_unavailable(to, snapshot),
            Input::ChunkStored { transfer, number } => self.on_chunk_stored(transfer, number),
            Input::SnapshotFailed { transfer } => self.on_snapshot_failed(transfer),
            Input::Campaign => self.on_campaign(),
            Input::PeerUnreachable { node } => self.on_peer_unreachable(node),
        }
    }

    /// Draws the conclusions of all inputs since the last call (commits, answers reads, replicates, in one message
    /// for each follower where possible) and returns everything that is to be done.
    pub fn ready(&mut self) -> Output {
        self.lead();
        let persist = self.take_persist();
        self.release();
        let mut output = std::mem::take(&mut self.output);
        output.persist = persist;
        output.committed = self.log.take_committed();
        let role = RoleChange { role: self.role(), term: self.hard_state.term, leader: self.leader };
        if role != self.reported {
            self.reported = role;
            output.role = Some(role);
        }
        output
    }

    /// Takes the entries out of the log of a replica that is not used any more: freeing a million of them takes a
    /// while, and can be done elsewhere.
    pub fn give_up_log(&mut self) -> VecDeque<Entry> {
        self.log.give_up()
    }

    /// How long until a tick is due.
    pub fn until_timer(&self) -> Duration {
        let due = match &self.state {
            State::Leader(leading) => leading.next_timer(),
            _ => self.election_at,
        };
        due.saturating_sub(self.now)
    }

    fn on_tick(&mut self, elapsed: Duration) {
        self.now = self.now.saturating_add(elapsed);
        self.clock_is_fresh = true;
        // What happened between two ticks may have happened just now. A leader's lease counts from the tick before
        // it sent, a follower's loyalty from the tick after it heard, so the lease always ends first.
        if std::mem::take(&mut self.heard_since_tick) {
            self.heard_at = Some(self.now);
        }
        if matches!(self.state, State::Leader(_)) {
            self.leader_tick();
        } else if self.now >= self.election_at {
            self.on_campaign();
        }
    }

    /// The gate: only messages for this replica, from another member, of the present term get further. A higher term
    /// is adopted first, a lower one is told of the present one (paper, figure 2, "rules for servers").
    fn on_message(&mut self, envelope: Envelope) {
        let Envelope { group, from, to, term, body } = envelope;
        let me = self.config.id;
        if group != self.config.group || to != me || from == me || term == 0 || term > LIMIT {
            return;
        }
        if let Message::RequestVote { last, pre, transfer } = body {
            return self.on_request_vote(from, term, last, pre, transfer);
        }
        if term < self.hard_state.term {
            return self.tell_present_term(from, &body);
        }
        if let Message::VoteReply { pre: true, granted: true } = body {
            return self.on_pre_vote(from, term);
        }
        if term > self.hard_state.term {
            // A late answer to a role that this replica no longer has must not take it out of its term: it may have
            // promised its present leader not to elect another one for a while.
            let leader = match (&body, &self.state) {
                (Message::Append { .. } | Message::SnapshotChunk { .. } | Message::TimeoutNow, _) => {
                    Some(from)
                }
                (Message::VoteReply { .. }, State::PreCandidate(_) | State::Candidate(_)) => None,
                (Message::AppendReply { .. } | Message::SnapshotReply { .. }, State::Leader(_)) => None,
                _ => return,
            };
            self.become_follower(term, leader);
            if let Message::Append { prev, entries, round, .. } = &body
                && mutant!(AnswersNewTermUnseen)
            {
                let outcome = AppendOutcome::Accepted { matched: prev.index + entries.len() as u64 };
                return self.promise(from, Message::AppendReply { outcome, round: *round });
            }
        }
        self.on_present_term(from, body);
    }

    fn on_present_term(&mut self, from: NodeId, body: Message) {
        match body {
            Message::Append { prev, entries, commit, round } => {
                self.on_append(from, prev, entries, commit, round);
            }
            Message::AppendReply { outcome, round } => self.on_append_reply(from, outcome, round),
            Message::VoteReply { pre, granted } => self.on_vote(from, pre, granted),
            Message::SnapshotChunk { meta, number, last, data } => {
                self.on_chunk(from, meta, number, last, data);
            }
            Message::SnapshotReply { last, next, installed } => {
                self.on_snapshot_reply(from, last, next, installed);
            }
            Message::TimeoutNow => self.on_timeout_now(from),
            Message::RequestVote { .. } => unreachable!("votes are asked for outside the term gate"),
        }
    }

    /// Follows `leader` (or nobody yet) in `term`, whatever this replica was before.
    pub(super) fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        assert!(term >= self.hard_state.term, "terms never run backwards");
        if term > self.hard_state.term || leader != self.leader {
            self.echoed = 0;
            self.matched = 0;
        }
        if term > self.hard_state.term {
            self.set_hard_state(HardState { term, vote: None });
        }
        self.leader = leader;
        match std::mem::replace(&mut self.state, State::Follower) {
            State::Follower => {}
            State::PreCandidate(_) | State::Candidate(_) => self.reset_election_timer(),
            State::Leader(leading) => {
                self.reset_election_timer();
                leading.give_up(leader, &mut self.output);
            }
        }
    }

    pub(super) fn set_hard_state(&mut self, hard_state: HardState) {
        if self.hard_state != hard_state {
            self.hard_state = hard_state;
            self.disk.hard_state_changed = true;
        }
    }

    pub(super) fn reset_election_timer(&mut self) {
        let range = &self.config.election_timeout;
        let spread = u64::try_from((range.end - range.start).as_nanos()).unwrap_or(u64::MAX);
        let timeout = range.start + Duration::from_nanos(self.rng.u64(0..spread));
        self.election_at = self.now.saturating_add(timeout);
    }

    /// Appends to the log; a membership is in force from now on (dissertation, section 4.1).
    pub(super) fn append(&mut self, entry: Entry) {
        if let Payload::Membership(membership) = &entry.payload {
            self.history.append(entry.index, membership.clone());
        }
        self.log.push(entry);
    }
}

/// Questions that change nothing.
impl Raft {
    /// The role.
    pub fn role(&self) -> Role {
        match self.state {
            State::Follower => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// The present term.
    pub fn term(&self) -> Term {
        self.hard_state.term
    }

    /// Who leads in the present term, as far as known.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Everything up to here is committed.
    pub fn commit(&self) -> Index {
        self.log.commit()
    }

    /// The membership in force (the newest in the log, committed or not).
    pub fn membership(&self) -> &Membership {
        self.history.current()
    }

    /// The position at `index`, unless it is compacted away or not there yet.
    pub fn position(&self, index: Index) -> Option<LogPosition> {
        self.log.position(index)
    }

    /// What a snapshot of the state after applying `index` stands for. `None` when none can be taken there: `index` is
    /// 0, not committed, or before what the log still knows; or this replica was added later and has not come to
    /// the entry that tells it of its group.
    pub fn snapshot_meta(&self, index: Index) -> Option<SnapshotMeta> {
        let mut last =
            self.log.position(index).filter(|last| (1..=self.log.commit()).contains(&last.index))?;
        if mutant!(SnapshotOfPresentTerm) {
            last.term = self.hard_state.term;
        }
        let membership = self.history.at(index).filter(|membership| !membership.voters.is_empty())?;
        Some(SnapshotMeta { group: self.config.group, last, membership: membership.clone() })
    }
}
