//! Following a leader: taking in entries and acknowledging them (paper, section 5.3).

use super::entry::Entry;
use super::message::{AppendOutcome, Message};
use super::replica::{LIMIT, Raft, State};
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

impl Raft {
    /// `from` proved to lead in the present term. Returns `false` if that cannot be.
    pub(super) fn follow(&mut self, from: NodeId) -> bool {
        let contradicted = self.leader.is_some_and(|leader| leader != from);
        if matches!(self.state, State::Leader(_)) || contradicted {
            return false;
        }
        self.become_follower(self.hard_state.term, Some(from));
        self.heard_at = Some(self.now);
        self.heard_since_tick = true;
        self.reset_election_timer();
        true
    }

    /// A message of an earlier term came in: if its sender still believes to lead, it must learn that it does not.
    pub(super) fn tell_present_term(&mut self, from: NodeId, body: &Message) {
        match body {
            Message::Append { prev, .. } => {
                let hint = LogPosition::default();
                let outcome = AppendOutcome::Rejected { prev: prev.index, hint };
                // Rounds are counted anew in each term, and it may lead in this one, too.
                self.send(from, Message::AppendReply { outcome, round: 0 });
            }
            Message::SnapshotChunk { meta, .. } => {
                self.send(from, Message::SnapshotReply { last: meta.last, next: 0, installed: false });
            }
            _ => {}
        }
    }

    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: LogPosition,
        entries: Vec<Entry>,
        commit: Index,
        round: u64,
    ) {
        let makes_sense = is_consistent(prev, &entries, self.hard_state.term);
        if !makes_sense || self.contradicts_commit(&entries) || !self.follow(from) {
            return;
        }
        let is_heartbeat = entries.is_empty();
        match self.merge(prev, entries) {
            Some(matched) => {
                self.matched = self.matched.max(matched);
                let checked = if mutant!(CommitsWhatItDidNotCheck) { self.log.last().index } else { matched };
                self.log.commit_to(commit.min(checked));
                self.acknowledge(from, matched, round, is_heartbeat);
            }
            None => {
                let retry = self.log.could_match(prev.index, prev.term).max(self.log.commit());
                let hint =
                    self.log.position(retry).expect("the log has all positions from its base to its end");
                let outcome = AppendOutcome::Rejected { prev: prev.index, hint };
                // The refusal promises nothing, but an echo does where leases are in use: it must not be forgotten.
                let round = if self.hard_state_is_durable() { round } else { 0 };
                self.echoed = self.echoed.max(round);
                self.send(from, Message::AppendReply { outcome, round });
            }
        }
    }

    /// Whether one of the entries is not the one that is committed at its index: then the sender cannot be a leader.
    fn contradicts_commit(&self, entries: &[Entry]) -> bool {
        let committed = entries.iter().take_while(|entry| entry.index <= self.log.commit());
        committed
            .into_iter()
            .any(|entry| self.log.term_at(entry.index).is_some_and(|term| term != entry.term))
    }

    /// Takes in the entries that are missing or differ, as far as there is room; what already matches stays, for this
    /// may be a late duplicate (paper, figure 2, steps 2 to 4). Returns up to where the log now equals the leader's,
    /// or `None` if it does not even have `prev`.
    fn merge(&mut self, prev: LogPosition, entries: Vec<Entry>) -> Option<Index> {
        let commit = self.log.commit();
        // What is committed equals every later leader's log, so below the commit index nothing needs to be compared
        // (and much of it is compacted away).
        let is_there = mutant!(IgnoresTermOfPrevious) && self.log.term_at(prev.index).is_some();
        if prev.index >= commit && self.log.term_at(prev.index) != Some(prev.term) && !is_there {
            // What it had no room for is not asked for before there is some: the leader would send it all again.
            let has_no_more = self.is_full() && self.matched == self.log.last().index;
            return has_no_more.then_some(self.matched);
        }
        let is_known = |entry: &Entry| {
            let is_equal = self.log.term_at(entry.index) == Some(entry.term);
            entry.index <= commit || (is_equal && !mutant!(TruncatesOnRepetition))
        };
        let known = entries.iter().take_while(|entry| is_known(entry)).count();
        if let Some(first) = entries.get(known)
            && first.index <= self.log.last().index
        {
            if !mutant!(TruncatedMembershipStays) {
                self.history.truncate(first.index - 1);
            }
            self.log.truncate(first.index - 1);
        }
        let mut matched = commit.max(prev.index + known as u64);
        for entry in entries.into_iter().skip(known) {
            if self.is_full() {
                break;
            }
            matched = entry.index;
            self.append(entry);
        }
        Some(matched)
    }

    /// Whether the log has no room before a snapshot lets it be cut. Only what is committed counts: that will be
    /// applied, whereas the rest may need entries behind it to be committed at all, and is bounded by what the leader
    /// lets in. A newcomer takes snapshots only once it has come to the entry that tells it of its group.
    fn is_full(&self) -> bool {
        self.log.committed_bytes() >= self.config.max_log_bytes
            && self.snapshot_meta(self.log.commit()).is_some()
    }

    /// Acknowledges what is durable, now or when it will be. A heartbeat, or a round that is new, is answered at once
    /// in any case, so that neither leadership nor reads wait for this disk.
    fn acknowledge(&mut self, to: NodeId, matched: Index, round: u64, is_heartbeat: bool) {
        let reply = |matched| Message::AppendReply { outcome: AppendOutcome::Accepted { matched }, round };
        let durable = if mutant!(AcknowledgesBeforeSync) { matched } else { self.log.durable() };
        let is_due = is_heartbeat || round > self.echoed;
        if self.hard_state_is_durable() && (matched <= durable || is_due) {
            self.echoed = self.echoed.max(round);
            self.send(to, reply(matched.min(durable)));
            if matched <= durable {
                return;
            }
        }
        self.promise(to, reply(matched));
    }
}

/// Whether an append can come from a leader of `term`.
fn is_consistent(prev: LogPosition, entries: &[Entry], term: Term) -> bool {
    let mut last = prev;
    prev.index <= LIMIT
        && prev.term <= term
        && (prev.index == 0) == (prev.term == 0)
        && entries.iter().all(|entry| {
            let follows =
                entry.index == last.index + 1 && entry.term >= last.term.max(1) && entry.term <= term;
            last = entry.position();
            follows
        })
}
