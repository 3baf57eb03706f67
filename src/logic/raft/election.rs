//! Elections: the rehearsal (dissertation, section 9.6), the campaign, and voting (paper, sections 5.2 and 5.4.1).

use std::collections::BTreeMap;

use super::entry::HardState;
use super::membership_change::is_voter;
use super::message::Message;
use super::quorum::{self, Tally};
use super::replica::{LIMIT, Raft, State};
use crate::logic::ids::{LogPosition, NodeId, Term};

impl Raft {
    /// The election timeout has passed, or the shell asked: rehearse, unless a lease forbids it.
    pub(super) fn on_campaign(&mut self) {
        self.reset_election_timer();
        if matches!(self.state, State::Leader(_)) || self.is_bound_by_a_lease() || !self.may_campaign() {
            return;
        }
        self.leader = None;
        self.state = State::PreCandidate(BTreeMap::from([(self.config.id, true)]));
        let body = Message::RequestVote { last: self.log.last(), pre: true, transfer: false };
        for voter in self.other_voters() {
            self.send_in_term(voter, self.hard_state.term + 1, body.clone());
        }
        self.count_votes();
    }

    /// The leader asked this replica to take over (dissertation, section 3.10).
    pub(super) fn on_timeout_now(&mut self, from: NodeId) {
        if self.leader == Some(from) && matches!(self.state, State::Follower) && self.may_campaign() {
            self.stand(true);
        }
    }

    /// Voters may campaign, and so may a voter that is about to leave, as long as that is not committed: it may be the
    /// only one that has the entries which end the change (dissertation, section 4.2.2). Its vote does not count.
    fn may_campaign(&self) -> bool {
        let me = self.config.id;
        let commit = self.log.commit();
        let counts_until_committed =
            || self.history.since() > commit && self.history.at(commit).is_some_and(|old| is_voter(old, me));
        self.hard_state.term < LIMIT && (is_voter(self.history.current(), me) || counts_until_committed())
    }

    fn other_voters(&self) -> Vec<NodeId> {
        let membership = self.history.current();
        membership
            .voters
            .union(&membership.outgoing)
            .copied()
            .filter(|node| *node != self.config.id)
            .collect()
    }

    /// Stands for election. Nothing is asked of others, and the own vote does not count, before it is durable.
    fn stand(&mut self, transfer: bool) {
        self.reset_election_timer();
        let term = self.hard_state.term + 1;
        self.set_hard_state(HardState { term, vote: Some(self.config.id) });
        self.leader = None;
        self.echoed = 0;
        self.state = State::Candidate(BTreeMap::new());
        let body = Message::RequestVote { last: self.log.last(), pre: false, transfer };
        for voter in self.other_voters() {
            if mutant!(CampaignsBeforeSync) {
                self.send(voter, body.clone());
            } else {
                self.promise(voter, body.clone());
            }
        }
        self.promise_own_vote();
    }

    pub(super) fn on_own_vote(&mut self, term: Term) {
        if term == self.hard_state.term {
            self.on_vote(self.config.id, false, true);
        }
    }

    /// A rehearsed vote was given. It names the term of the campaign that may follow.
    pub(super) fn on_pre_vote(&mut self, from: NodeId, term: Term) {
        if term == self.hard_state.term + 1 {
            self.on_vote(from, true, true);
        }
    }

    pub(super) fn on_vote(&mut self, from: NodeId, pre: bool, granted: bool) {
        if !is_voter(self.history.current(), from) {
            return;
        }
        match &mut self.state {
            State::PreCandidate(votes) if pre => votes.insert(from, granted),
            State::Candidate(votes) if !pre => votes.insert(from, granted),
            _ => return,
        };
        self.count_votes();
    }

    fn count_votes(&mut self) {
        let (votes, rehearsal) = match &self.state {
            State::PreCandidate(votes) => (votes, true),
            State::Candidate(votes) => (votes, false),
            State::Follower | State::Leader(_) => return,
        };
        match quorum::tally(self.history.current(), |node| votes.get(&node).copied()) {
            Tally::Pending => {}
            Tally::Lost => self.become_follower(self.hard_state.term, None),
            Tally::Won if rehearsal => self.stand(false),
            Tally::Won => self.become_leader(),
        }
    }

    /// Whether this replica heard of a leader so recently that it would elect no other (dissertation, section
    /// 4.2.3). That leader itself may be elected again: it lost its role by a restart.
    fn is_loyal(&self, candidate: NodeId) -> bool {
        match self.state {
            State::Leader(_) => true,
            _ if mutant!(ElectsUnderALeader) => false,
            _ => self.leader != Some(candidate) && self.has_heard_a_leader(),
        }
    }

    /// Whether a lease may rest on this replica electing nobody else for now: not itself either.
    fn is_bound_by_a_lease(&self) -> bool {
        self.config.lease.is_some() && self.has_heard_a_leader()
    }

    fn has_heard_a_leader(&self) -> bool {
        let recently = |heard_at| self.now.saturating_sub(heard_at) < self.config.election_timeout.start;
        self.heard_at.is_some_and(recently)
    }

    pub(super) fn on_request_vote(
        &mut self,
        from: NodeId,
        term: Term,
        last: LogPosition,
        pre: bool,
        transfer: bool,
    ) {
        let refuse = Message::VoteReply { pre, granted: false };
        if term < self.hard_state.term {
            return self.send(from, refuse);
        }
        if !transfer && self.is_loyal(from) {
            // A rehearsal is answered; a campaign is not, because an answer in the present term would be of no use
            // and adopting the campaign's term would unseat the leader.
            return if pre {
                self.send(from, refuse)
            };
        }
        if term > self.hard_state.term && !pre {
            self.become_follower(term, None);
        }
        let free = match self.hard_state.vote {
            _ if term > self.hard_state.term => true,
            Some(candidate) => candidate == from || mutant!(VotesTwice),
            None => self.leader.is_none_or(|leader| leader == from),
        };
        let own = self.log.last();
        let is_up_to_date = (last.term, last.index) >= (own.term, own.index)
            || (mutant!(VotesForOlderLog) && last.index > own.index)
            || (mutant!(VotesForShorterLog) && last.term == own.term);
        let granted = free && is_up_to_date;
        if !granted {
            self.send(from, refuse);
        } else if pre {
            self.send_in_term(from, term, Message::VoteReply { pre, granted });
        } else {
            self.set_hard_state(HardState { term, vote: Some(from) });
            self.reset_election_timer();
            if mutant!(VotesBeforeSync) {
                return self.send(from, Message::VoteReply { pre, granted });
            }
            self.promise(from, Message::VoteReply { pre, granted });
        }
    }
}
