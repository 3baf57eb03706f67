//! One replica: its state, its door, and the term gate. What it does in each role is in the sibling files.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use thiserror::Error;

use super::config::Config;
use super::entry::{Entry, HardState, Payload, SnapshotMeta};
use super::input::{Input, Restored};
use super::leader::Leading;
use super::log::Log;
use super::membership::Membership;
use super::membership_change::History;
use super::message::{Envelope, Message};
use super::output::{Output, Persist, Role, RoleChange};
use super::snapshot::Incoming;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

/// Terms and indexes from outside above this are nonsense; it keeps all arithmetic far from overflow.
pub(super) const LIMIT: u64 = 1 << 62;

/// Why a replica cannot start.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StartError {
    /// The configuration breaks rules.
    #[error("invalid configuration: {}", .0.join("; "))]
    Config(Vec<String>),
    /// What was found on disk does not fit together.
    #[error("the restored state is inconsistent: {0}")]
    Restored(String),
}

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
    pub(super) incoming: Option<Incoming>,
    /// Numbers the transfers of incoming snapshots.
    pub(super) transfers: u64,
    pub(super) disk: Disk,
    pub(super) output: Output,
    reported: RoleChange,
}

/// What a replica is, with what it needs to know only then.
#[derive(Debug)]
pub(super) enum State {
    Follower,
    PreCandidate(BTreeMap<NodeId, bool>),
    Candidate(BTreeMap<NodeId, bool>),
    Leader(Box<Leading>),
}

/// What was asked to be made durable, what is, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The hard state has changed since it was last given out.
    hard_state_changed: bool,
    /// The ticket with which the hard state was last given out.
    hard_state_ticket: u64,
    /// A received snapshot that is to replace the stored log.
    install: Option<SnapshotMeta>,
    issued: u64,
    durable: u64,
    held: VecDeque<(u64, Held)>,
}

/// What waits for the disk.
#[derive(Debug)]
enum Held {
    Send(Envelope),
    /// A candidate's vote for itself in this term.
    OwnVote(Term),
}

impl Raft {
    /// A replica as it was before it stopped. It starts as a follower.
    ///
    /// # Errors
    /// When the configuration breaks a rule or the restored parts do not fit together.
    pub fn new(config: Config, restored: Restored) -> Result<Self, StartError> {
        config.validate().map_err(StartError::Config)?;
        let Restored { mut hard_state, snapshot, entries, applied, bootstrap } = restored;
        let (base, entries, misfit) =
            fit_log(snapshot.as_ref(), entries).map_err(|text| StartError::Restored(text.into()))?;
        // What is committed may be applied, and a snapshot of that be durable, before this disk has the term. Then no
        // promise was given in that term.
        let outran = snapshot.as_ref().is_some_and(|meta| meta.last.term > hard_state.term);
        if let Some(meta) = snapshot.as_ref().filter(|_| outran) {
            hard_state = HardState { term: meta.last.term, vote: None };
        }
        let last_term = entries.last().map_or(base.term, |entry| entry.term);
        if last_term > hard_state.term || hard_state.term > LIMIT {
            let text = format!("the log ends in term {last_term}, but the term is {}", hard_state.term);
            return Err(StartError::Restored(text));
        }
        let mut history = match &snapshot {
            Some(meta) => History::new(meta.last.index, meta.membership.clone()),
            None => History::new(0, bootstrap),
        };
        for entry in &entries {
            if let Payload::Membership(membership) = &entry.payload
                && entry.index > history.since()
            {
                history.append(entry.index, membership.clone());
            }
        }
        let snapshot_index = snapshot.as_ref().map_or(0, |meta| meta.last.index);
        let applied = applied.max(snapshot_index);
        let mut raft = Raft {
            rng: fastrand::Rng::with_seed(config.seed),
            now: Duration::ZERO,
            clock_is_fresh: false,
            // A lease may rest on a reply that this replica gave just before it was restarted.
            heard_at: (config.lease.is_some() && hard_state.term > 0).then_some(Duration::ZERO),
            heard_since_tick: false,
            hard_state,
            log: Log::new(base, entries, applied, applied),
            history,
            state: State::Follower,
            leader: None,
            election_at: Duration::ZERO,
            echoed: 0,
            incoming: None,
            transfers: 0,
            disk: Disk {
                install: if misfit { snapshot.clone() } else { None },
                hard_state_changed: outran,
                ..Disk::default()
            },
            snapshot,
            output: Output::default(),
            reported: RoleChange { role: Role::Follower, term: hard_state.term, leader: None },
            config,
        };
        raft.reset_election_timer();
        Ok(raft)
    }

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

/// What must be durable, and what waits for it.
impl Raft {
    /// A message that promises nothing: it leaves with the next output.
    pub(super) fn send(&mut self, to: NodeId, body: Message) {
        let term = self.hard_state.term;
        self.send_in_term(to, term, body);
    }

    pub(super) fn send_in_term(&mut self, to: NodeId, term: Term, body: Message) {
        let envelope = self.envelope(to, term, body);
        self.output.send.push(envelope);
    }

    /// A message that speaks of the term, vote or log of this replica as durable: it leaves when they are.
    pub(super) fn promise(&mut self, to: NodeId, body: Message) {
        let envelope = self.envelope(to, self.hard_state.term, body);
        self.hold(Held::Send(envelope));
    }

    /// The candidate's own vote counts when it is durable.
    pub(super) fn promise_own_vote(&mut self) {
        self.hold(Held::OwnVote(self.hard_state.term));
    }

    fn envelope(&self, to: NodeId, term: Term, body: Message) -> Envelope {
        Envelope { group: self.config.group, from: self.config.id, to, term, body }
    }

    fn hold(&mut self, held: Held) {
        let ticket = self.disk.issued + u64::from(self.has_unwritten());
        if let (Held::Send(new), Some((last_ticket, Held::Send(last)))) = (&held, self.disk.held.back_mut())
            && *last_ticket == ticket
            && merge_replies(last, new)
        {
            return;
        }
        self.disk.held.push_back((ticket, held));
    }

    fn has_unwritten(&self) -> bool {
        self.disk.hard_state_changed || self.disk.install.is_some() || self.log.has_unwritten()
    }

    /// Whether a crash now would keep the present term and vote.
    pub(super) fn hard_state_is_durable(&self) -> bool {
        !self.disk.hard_state_changed && self.disk.hard_state_ticket <= self.disk.durable
    }

    /// From now on `meta` stands for the log; see [`Persist::snapshot`].
    pub(super) fn install_on_disk(&mut self, meta: SnapshotMeta) {
        self.disk.install = Some(meta);
    }

    fn take_persist(&mut self) -> Option<Persist> {
        if !self.has_unwritten() {
            return None;
        }
        self.disk.issued += 1;
        let ticket = self.disk.issued;
        let changed = std::mem::take(&mut self.disk.hard_state_changed);
        if changed {
            self.disk.hard_state_ticket = ticket;
        }
        Some(Persist {
            ticket,
            snapshot: self.disk.install.take(),
            hard_state: changed.then_some(self.hard_state),
            entries: self.log.take_unwritten(ticket),
        })
    }

    fn on_persisted(&mut self, ticket: u64) {
        assert!(ticket <= self.disk.issued, "ticket {ticket} was never issued (last: {})", self.disk.issued);
        if ticket <= self.disk.durable {
            return;
        }
        self.disk.durable = ticket;
        self.log.written(ticket);
        self.release();
    }

    /// Lets go of what no longer waits for the disk.
    fn release(&mut self) {
        while self.disk.held.front().is_some_and(|(ticket, _)| *ticket <= self.disk.durable) {
            match self.disk.held.pop_front() {
                Some((_, Held::Send(envelope))) => self.output.send.push(envelope),
                Some((_, Held::OwnVote(term))) => self.on_own_vote(term),
                None => {}
            }
        }
    }
}

/// Joins two acknowledgements that would leave together, so that a follower answers once for each write to its disk.
fn merge_replies(last: &mut Envelope, new: &Envelope) -> bool {
    use super::message::AppendOutcome::Accepted;
    if (last.to, last.term) != (new.to, new.term) {
        return false;
    }
    let Message::AppendReply { outcome: Accepted { matched: old_matched }, round: old_round } =
        &mut last.body
    else {
        return false;
    };
    let Message::AppendReply { outcome: Accepted { matched }, round } = &new.body else {
        return false;
    };
    *old_matched = (*old_matched).max(*matched);
    *old_round = (*old_round).max(*round);
    true
}

/// Checks a restored log against the snapshot. Returns the base, the entries behind it, and whether the stored log
/// does not fit and must be dropped (the process died between installing a snapshot and dropping the old log).
fn fit_log(
    snapshot: Option<&SnapshotMeta>,
    mut entries: Vec<Entry>,
) -> Result<(LogPosition, Vec<Entry>, bool), &'static str> {
    let consecutive =
        |pair: &[Entry]| pair[1].index.checked_sub(1) == Some(pair[0].index) && pair[1].term >= pair[0].term;
    if entries.last().is_some_and(|entry| entry.index > LIMIT) || !entries.windows(2).all(consecutive) {
        return Err("the entries are not consecutive");
    }
    let snapshot = snapshot.map_or(LogPosition::default(), |meta| meta.last);
    let Some(first) = entries.first().map(Entry::position) else {
        return Ok((snapshot, entries, false));
    };
    if first.index > snapshot.index + 1 || first.index == 0 {
        return Err("entries are missing between the snapshot and the log");
    }
    let last = entries[entries.len() - 1].index;
    if first.index == snapshot.index + 1 {
        return if first.term < snapshot.term {
            Err("the log goes on in a lower term than the snapshot ends")
        } else {
            Ok((snapshot, entries, false))
        };
    }
    if last < snapshot.index || entries[(snapshot.index - first.index) as usize].term != snapshot.term {
        return Ok((snapshot, Vec::new(), true));
    }
    // The term before the first entry is not known, so the first entry serves as the base.
    entries.remove(0);
    Ok((first, entries, false))
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
        let last = self.log.position(index).filter(|last| (1..=self.log.commit()).contains(&last.index))?;
        let membership = self.history.at(index).filter(|membership| !membership.voters.is_empty())?;
        Some(SnapshotMeta { group: self.config.group, last, membership: membership.clone() })
    }
}
