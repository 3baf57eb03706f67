//! Leading: taking proposals, replicating them, committing what a quorum has (paper, sections 5.3 and 5.4.2),
//! answering reads, and noticing that the quorum is gone (dissertation, section 6.2).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::config::Config;
use super::entry::{Entry, Payload};
use super::log::Log;
use super::membership_change::{self, MembershipChange, is_voter, leave_joint, members};
use super::message::{AppendOutcome, Envelope, Message};
use super::output::{ChunkWanted, Output, Refusal};
use super::progress::{Mode, Progress, Transfer, Window};
use super::quorum;
use super::read::Reads;
use super::replica::{Raft, State};
use super::transfer::Handover;
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

/// What only a leader knows.
#[derive(Debug)]
pub(super) struct Leading {
    /// The other members.
    pub progress: BTreeMap<NodeId, Progress>,
    /// Index of the first entry of this leadership.
    pub first: Index,
    pub reads: Reads,
    /// A heartbeat or a confirmation round is to go to everybody.
    beat: bool,
    heartbeat_at: Duration,
    pub handover: Option<Handover>,
    /// A successor was told to campaign, and may still do so at any time in this term: no lease is safe any more.
    pub lease_void: bool,
}

impl Leading {
    fn new(config: &Config, members: &BTreeSet<NodeId>, first: Index, now: Duration) -> Self {
        let mut leading = Leading {
            progress: BTreeMap::new(),
            first,
            reads: Reads::default(),
            beat: true,
            heartbeat_at: now.saturating_add(config.heartbeat),
            handover: None,
            lease_void: false,
        };
        leading.track(config.id, members, first, now);
        leading
    }

    /// Follows a change of the members: `next` is where newcomers are probed first.
    fn track(&mut self, me: NodeId, members: &BTreeSet<NodeId>, next: Index, now: Duration) {
        self.progress.retain(|node, _| members.contains(node));
        for node in members.iter().filter(|node| **node != me) {
            self.progress.entry(*node).or_insert_with(|| Progress::new(next, now));
        }
    }

    pub fn next_timer(&self) -> Duration {
        self.handover.as_ref().map_or(self.heartbeat_at, |handover| handover.deadline.min(self.heartbeat_at))
    }

    /// Leadership is lost: nobody can be answered any more.
    pub fn give_up(mut self: Box<Self>, leader: Option<NodeId>, output: &mut Output) {
        output.refused.extend(self.reads.drain().map(|id| (id, Refusal::NotLeader { leader })));
    }
}

/// Taking office, and the requests of clients.
impl Raft {
    pub(super) fn become_leader(&mut self) {
        let first = self.log.last().index + 1;
        let members = members(self.history.current());
        self.leader = Some(self.config.id);
        self.incoming = None;
        self.state = State::Leader(Box::new(Leading::new(&self.config, &members, first, self.now)));
        self.append_own(Payload::Noop);
    }

    pub(super) fn append_own(&mut self, payload: Payload) -> LogPosition {
        let position = LogPosition { index: self.log.last().index + 1, term: self.hard_state.term };
        self.append(Entry { index: position.index, term: position.term, payload });
        position
    }

    /// Appends a membership and serves its members from now on.
    fn append_membership(&mut self, membership: super::membership::Membership) -> LogPosition {
        let members = members(&membership);
        let position = self.append_own(Payload::Membership(membership));
        if let State::Leader(leading) = &mut self.state {
            leading.track(self.config.id, &members, position.index, self.now);
        }
        position
    }

    /// The leader's own state, or the reason why a request is refused here.
    fn leading(&mut self) -> Result<&mut Leading, Refusal> {
        match &mut self.state {
            State::Leader(leading) => Ok(leading),
            _ => Err(Refusal::NotLeader { leader: self.leader }),
        }
    }

    pub(super) fn on_propose(&mut self, id: u64, command: Bytes) {
        match self.check_proposal() {
            Ok(()) => {
                let position = self.append_own(Payload::Command(command));
                self.output.accepted.push((id, position));
            }
            Err(refusal) => self.output.refused.push((id, refusal)),
        }
    }

    fn check_proposal(&mut self) -> Result<(), Refusal> {
        if self.leading()?.handover.is_some() {
            return Err(Refusal::Transferring);
        }
        if self.log.uncommitted_bytes() >= self.config.max_uncommitted_bytes {
            return Err(Refusal::Busy { limit: "max_uncommitted_bytes" });
        }
        if self.log.bytes() >= self.config.max_log_bytes {
            return Err(Refusal::Busy { limit: "max_log_bytes" });
        }
        Ok(())
    }

    pub(super) fn on_read(&mut self, id: u64, lease: bool) {
        let limit = self.config.max_pending_reads;
        match self.leading() {
            Err(refusal) => self.output.refused.push((id, refusal)),
            Ok(leading) if leading.reads.unanswered() >= limit => {
                self.output.refused.push((id, Refusal::Busy { limit: "max_pending_reads" }));
            }
            Ok(leading) => {
                leading.reads.add(id, lease);
                self.clock_is_fresh &= !lease || mutant!(LeaseByOldClock);
            }
        }
    }

    pub(super) fn on_propose_membership(&mut self, id: u64, change: MembershipChange) {
        match self.check_change(change) {
            Ok(planned) => {
                let position = self.append_membership(planned);
                self.output.accepted.push((id, position));
            }
            Err(refusal) => self.output.refused.push((id, refusal)),
        }
    }

    fn check_change(&mut self, change: MembershipChange) -> Result<super::membership::Membership, Refusal> {
        /// A learner that lacks more entries than this would hold up the group if it counted.
        const MAX_PROMOTION_LAG: u64 = 1000;
        let (commit, last) = (self.log.commit(), self.log.last().index);
        let is_settled =
            (!self.history.current().is_joint() && self.history.since() <= commit) || mutant!(ChangesOverlap);
        let leading = self.leading()?;
        if leading.handover.is_some() {
            return Err(Refusal::Transferring);
        }
        // Without an entry of its own term committed, an earlier leader's change might still be the one that holds,
        // and two changes could be decided by majorities that do not overlap.
        if !is_settled || (commit < leading.first && !mutant!(ChangesBeforeOwnEntry)) {
            return Err(Refusal::ChangeUnderWay);
        }
        if let MembershipChange::Promote(node) = &change
            && let Some(progress) = leading.progress.get(node)
            && last - progress.matched > MAX_PROMOTION_LAG
        {
            return Err(Refusal::LearnerBehind { by: last - progress.matched });
        }
        membership_change::plan(self.history.current(), change).map_err(Refusal::BadChange)
    }
}

/// The answers of followers.
impl Raft {
    pub(super) fn on_append_reply(&mut self, from: NodeId, outcome: AppendOutcome, round: u64) {
        let State::Leader(leading) = &mut self.state else { return };
        let (base, last) = (self.log.base().index, self.log.last().index);
        let newest = leading.reads.round();
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        if round > newest {
            return;
        }
        match outcome {
            AppendOutcome::Accepted { matched } if matched > last => return,
            AppendOutcome::Accepted { matched } => {
                progress.accept(matched);
                if matches!(progress.mode, Mode::Snapshot(_)) && matched >= base {
                    progress.probe_from(matched + 1);
                }
            }
            AppendOutcome::Rejected { prev, hint } => {
                let retry =
                    if hint.index < base { hint.index } else { self.log.could_match(hint.index, hint.term) };
                progress.reject(prev, retry);
            }
        }
        progress.contact = self.now;
        progress.round = progress.round.max(round);
    }

    pub(super) fn on_peer_unreachable(&mut self, node: NodeId) {
        if let State::Leader(leading) = &mut self.state
            && let Some(progress) = leading.progress.get_mut(&node)
            && matches!(progress.mode, Mode::Replicate(_))
        {
            progress.probe_from(progress.matched + 1);
        }
    }
}

/// Time, and what a leader does once for each batch of inputs.
impl Raft {
    pub(super) fn leader_tick(&mut self) {
        let (me, now) = (self.config.id, self.now);
        let State::Leader(leading) = &mut self.state else { return };
        if now >= leading.heartbeat_at {
            leading.beat = true;
            leading.heartbeat_at = now.saturating_add(self.config.heartbeat);
        }
        let contact =
            |node| if node == me { Some(now) } else { leading.progress.get(&node).map(|p| p.contact) };
        let heard = quorum::reached(self.history.current(), contact).flatten().unwrap_or_default();
        if now.saturating_sub(heard) >= self.config.election_timeout.end && !mutant!(NeverStepsDown) {
            return self.become_follower(self.hard_state.term, None);
        }
        self.expire_handover();
        self.consider_resigning();
    }

    /// Everything that follows from the inputs since last time.
    pub(super) fn lead(&mut self) {
        if !matches!(self.state, State::Leader(_)) {
            return;
        }
        self.advance_commit();
        self.conclude_change();
        self.drive_handover();
        self.serve_reads();
        self.broadcast();
    }

    /// Commits what a quorum has durably, provided that it ends in an entry of this term: entries of earlier terms
    /// are committed only along with one (paper, section 5.4.2 and figure 8).
    fn advance_commit(&mut self) {
        let State::Leader(leading) = &self.state else { return };
        let (me, durable) = (self.config.id, self.log.durable_for_commit());
        let matched =
            |node| if node == me { durable } else { leading.progress.get(&node).map_or(0, |p| p.matched) };
        let Some(index) = quorum::reached(self.history.current(), matched) else { return };
        let is_own = self.log.term_at(index) == Some(self.hard_state.term) || mutant!(CountsOldTerms);
        if index > self.log.commit() && is_own {
            self.log.commit_to(index);
        }
    }

    /// A committed joint configuration is left; a leader that is no voter any more steps down, and asks the best
    /// voter to take over (paper, section 6).
    fn conclude_change(&mut self) {
        let State::Leader(leading) = &self.state else { return };
        let commit = self.log.commit();
        if self.history.since() > commit || commit < leading.first {
            return;
        }
        let membership = self.history.current();
        if membership.is_joint() {
            let membership = leave_joint(membership);
            self.append_membership(membership);
        } else if !is_voter(membership, self.config.id) {
            if let Some(successor) = self.best_successor() {
                self.send(successor, Message::TimeoutNow);
            }
            self.become_follower(self.hard_state.term, None);
        }
    }

    fn serve_reads(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        let (me, now, commit) = (self.config.id, self.now, self.log.commit());
        let reads = &mut leading.reads;
        // Before the first entry of this term is committed, the commit index may lag behind what earlier leaders
        // have committed.
        if commit >= leading.first || mutant!(ReadsBeforeOwnEntry) {
            let trusts_lease = self.clock_is_fresh && !leading.lease_void && leading.handover.is_none();
            reads.settle_leases(trusts_lease.then_some(now), commit, &mut self.output.reads);
            if reads.wants_round() {
                reads.launch(now, commit);
                leading.beat = true;
            } else if leading.beat {
                reads.launch_empty(now);
            }
        }
        let newest = reads.round();
        let echoed =
            |node| if node == me { newest } else { leading.progress.get(&node).map_or(0, |p| p.round) };
        if let Some(round) = quorum::reached(self.history.current(), echoed) {
            reads.confirm(round, self.config.lease, &mut self.output.reads);
        }
    }

    fn broadcast(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        let mut mail = Mail {
            config: &self.config,
            log: &self.log,
            term: self.hard_state.term,
            round: leading.reads.round(),
            output: &mut self.output,
        };
        for (peer, progress) in &mut leading.progress {
            let before = mail.output.send.len();
            if progress.next <= self.log.base().index && !matches!(progress.mode, Mode::Snapshot(_)) {
                let meta = self.snapshot.clone().expect("a compacted log has a snapshot");
                progress.mode = Mode::Snapshot(Transfer::new(meta, self.now));
            }
            match &mut progress.mode {
                Mode::Probe { waiting: true } => {}
                Mode::Probe { waiting } => {
                    *waiting = true;
                    mail.append(*peer, progress.next);
                }
                Mode::Replicate(window) => mail.replicate(*peer, &mut progress.next, window),
                Mode::Snapshot(transfer) => {
                    mail.want_chunks(*peer, transfer, progress.contact, self.now);
                    if leading.beat {
                        mail.heartbeat(*peer, LogPosition::default());
                    }
                    continue;
                }
            }
            if leading.beat && mail.output.send.len() == before {
                let prev =
                    self.log.position(progress.next - 1).expect("a follower behind the base has a snapshot");
                mail.heartbeat(*peer, prev);
            }
        }
        leading.beat = false;
    }
}

/// What a leader needs at hand to write to its followers.
struct Mail<'a> {
    config: &'a Config,
    log: &'a Log,
    term: Term,
    round: u64,
    output: &'a mut Output,
}

impl Mail<'_> {
    fn replicate(&mut self, to: NodeId, next: &mut Index, window: &mut Window) {
        let last = self.log.last().index;
        while *next <= last
            && !window.is_full(self.config.max_inflight_appends, self.config.max_inflight_bytes)
        {
            let (sent_up_to, bytes) = self.append(to, *next);
            window.add(sent_up_to, bytes);
            *next = sent_up_to + 1;
        }
    }

    /// Sends the entries from `next` on, as many as fit; returns the last index and their bytes.
    fn append(&mut self, to: NodeId, next: Index) -> (Index, usize) {
        let prev = self.log.position(next - 1).expect("entries behind the base are sent as a snapshot");
        let (entries, bytes) = self.log.batch(next, self.config.max_append_bytes);
        let last = next - 1 + entries.len() as u64;
        self.send(to, prev, entries);
        (last, bytes)
    }

    fn heartbeat(&mut self, to: NodeId, prev: LogPosition) {
        self.send(to, prev, Vec::new());
    }

    fn send(&mut self, to: NodeId, prev: LogPosition, entries: Vec<Entry>) {
        let body = Message::Append { prev, entries, commit: self.log.commit(), round: self.round };
        let Config { group, id: from, .. } = *self.config;
        self.output.send.push(Envelope { group, from, to, term: self.term, body });
    }

    /// Asks the shell for the chunks that a follower can take now. One that does not answer gets none, and one that
    /// could not store them gets none for a while.
    fn want_chunks(&mut self, to: NodeId, transfer: &mut Transfer, contact: Duration, now: Duration) {
        let patience = self.config.election_timeout.end;
        if now.saturating_sub(contact) >= patience || transfer.is_paused(now) {
            return;
        }
        if now.saturating_sub(transfer.moved_at) >= patience {
            transfer.repeat(now);
        }
        let snapshot = transfer.meta.last;
        for number in transfer.take_wanted(self.config.max_inflight_chunks) {
            self.output.snapshot_wanted.push(ChunkWanted { to, snapshot, number });
        }
    }
}
