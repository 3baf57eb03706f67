//! What must be durable, and what waits for that. Messages that promise something are held with the ticket of the
//! write that makes it true.

use std::collections::VecDeque;
use std::time::Duration;

use super::entry::SnapshotMeta;
use super::message::{AppendOutcome, Envelope, Message};
use super::output::Persist;
use super::replica::Raft;
use crate::logic::ids::{NodeId, Term};

/// What was asked to be made durable, what is, and what waits for it.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// The hard state has changed since it was last given out.
    pub hard_state_changed: bool,
    /// The ticket with which the hard state was last given out.
    hard_state_ticket: u64,
    /// A received snapshot that is to replace the stored log.
    install: Option<SnapshotMeta>,
    issued: u64,
    durable: u64,
    /// Since when it has finished nothing of what it was asked for; `None`: nothing is asked for.
    busy_since: Option<Duration>,
    held: VecDeque<(u64, Held)>,
}

/// What waits for the disk.
#[derive(Debug)]
enum Held {
    Send(Envelope),
    /// A candidate's vote for itself in this term.
    OwnVote(Term),
}

impl Disk {
    /// What must be written first of all.
    pub fn new(hard_state_changed: bool, install: Option<SnapshotMeta>) -> Self {
        Disk { hard_state_changed, install, ..Disk::default() }
    }
}

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
        if mutant!(AcknowledgesForgottenTerm) {
            return true;
        }
        !self.disk.hard_state_changed && self.disk.hard_state_ticket <= self.disk.durable
    }

    /// From now on `meta` stands for the log; see [`Persist::snapshot`].
    pub(super) fn install_on_disk(&mut self, meta: SnapshotMeta) {
        self.disk.install = Some(meta);
    }

    pub(super) fn take_persist(&mut self) -> Option<Persist> {
        if !self.has_unwritten() {
            return None;
        }
        self.disk.issued += 1;
        self.disk.busy_since.get_or_insert(self.now);
        let ticket = self.disk.issued;
        let changed = std::mem::take(&mut self.disk.hard_state_changed);
        if changed {
            self.disk.hard_state_ticket = ticket;
        }
        let is_stored = changed && !(mutant!(ForgetsTerm) && self.hard_state.vote.is_none());
        let mut stored = self.hard_state;
        if mutant!(ForgetsVotes) {
            stored.vote = None;
        }
        Some(Persist {
            ticket,
            snapshot: self.disk.install.take(),
            hard_state: is_stored.then_some(stored),
            entries: self.log.take_unwritten(ticket),
        })
    }

    pub(super) fn on_persisted(&mut self, ticket: u64) {
        assert!(ticket <= self.disk.issued, "ticket {ticket} was never issued (last: {})", self.disk.issued);
        if ticket <= self.disk.durable {
            return;
        }
        self.disk.durable = ticket;
        self.disk.busy_since = (ticket < self.disk.issued).then_some(self.now);
        self.log.written(ticket);
        self.release();
        self.retry_cut();
    }

    /// Whether the disk has not got on for as long as a leader puts up with; if so, the time counts anew.
    pub(super) fn disk_is_stuck(&mut self) -> bool {
        let patience = self.config.disk_patience;
        let now = self.now;
        self.disk.busy_since.as_mut().filter(|since| now.saturating_sub(**since) >= patience).is_some_and(
            |since| {
                *since = now;
                true
            },
        )
    }

    /// Lets go of what no longer waits for the disk.
    pub(super) fn release(&mut self) {
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
    use AppendOutcome::Accepted;
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
