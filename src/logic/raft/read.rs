//! Linearizable reads without log entries (dissertation, section 6.4): reads wait for a round of messages that proves
//! that the leader still led after they had arrived. One round serves all reads that wait; the next is launched as
//! soon as there are new ones, without waiting for the one under way. A confirmed round also extends the lease.

use std::collections::VecDeque;
use std::time::Duration;

use crate::logic::ids::Index;

/// The reads of a leader and the rounds that are to confirm them.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// Arrived, not yet part of a round.
    waiting: Vec<u64>,
    /// Arrived and willing to trust the lease.
    leasing: Vec<u64>,
    /// Launched, not yet confirmed; ascending.
    rounds: VecDeque<Round>,
    launched: u64,
    unanswered: usize,
    lease_until: Duration,
}

#[derive(Debug)]
struct Round {
    number: u64,
    sent_at: Duration,
    index: Index,
    reads: Vec<u64>,
}

impl Reads {
    /// How many reads wait for an answer.
    pub fn unanswered(&self) -> usize {
        self.unanswered
    }

    pub fn add(&mut self, id: u64, lease: bool) {
        if lease { &mut self.leasing } else { &mut self.waiting }.push(id);
        self.unanswered += 1;
    }

    /// Number of the newest round, which every append carries.
    pub fn round(&self) -> u64 {
        self.launched
    }

    /// Whether a round should be launched now.
    pub fn wants_round(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Launches a round for everything that waits. `index` is the commit index, at least the first of this term.
    pub fn launch(&mut self, now: Duration, index: Index) {
        if mutant!(ReadsJoinOldRound)
            && let Some(round) = self.rounds.back_mut().filter(|round| !round.reads.is_empty())
        {
            return round.reads.append(&mut self.waiting);
        }
        self.launched += 1;
        let reads = std::mem::take(&mut self.waiting);
        self.rounds.push_back(Round { number: self.launched, sent_at: now, index, reads });
    }

    /// Launches a round that only proves leadership: a heartbeat.
    pub fn launch_empty(&mut self, now: Duration) {
        self.launched += 1;
        self.rounds.push_back(Round { number: self.launched, sent_at: now, index: 0, reads: Vec::new() });
    }

    /// A quorum has echoed `round`: answers its reads and those of all rounds before.
    pub fn confirm(&mut self, round: u64, lease: Option<Duration>, answers: &mut Vec<(u64, Index)>) {
        let round = if mutant!(ReadsWithoutConfirmation) { self.launched } else { round };
        while self.rounds.front().is_some_and(|first| first.number <= round) {
            let first = self.rounds.pop_front().expect("there is a front");
            if let Some(lease) = lease {
                let lease = if mutant!(LeaseTooLong) { lease * 2 } else { lease };
                self.lease_until = self.lease_until.max(first.sent_at.saturating_add(lease));
            }
            self.unanswered -= first.reads.len();
            answers.extend(first.reads.into_iter().map(|id| (id, first.index)));
        }
    }

    /// Answers the reads that trust the lease if it is in force at `now`; otherwise they join the others. `now` is
    /// `None` when leases are not to be trusted.
    pub fn settle_leases(&mut self, now: Option<Duration>, index: Index, answers: &mut Vec<(u64, Index)>) {
        if now.is_some_and(|now| now < self.lease_until) {
            self.unanswered -= self.leasing.len();
            answers.extend(self.leasing.drain(..).map(|id| (id, index)));
        } else {
            self.waiting.append(&mut self.leasing);
        }
    }

    /// All reads without an answer, in order of arrival within their kind; nothing is left.
    pub fn drain(&mut self) -> impl Iterator<Item = u64> {
        self.unanswered = 0;
        let launched: Vec<u64> = self.rounds.drain(..).flat_map(|round| round.reads).collect();
        let waiting = std::mem::take(&mut self.waiting);
        let leasing = std::mem::take(&mut self.leasing);
        launched.into_iter().chain(waiting).chain(leasing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Option<Duration> = Some(Duration::from_millis(100));

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn one_round_serves_all_that_wait_and_the_next_does_not_wait_for_it() {
        let mut reads = Reads::default();
        let mut answers = Vec::new();
        reads.add(1, false);
        reads.add(2, false);
        reads.launch(at(0), 5);
        reads.add(3, false);
        assert!(reads.wants_round());
        reads.launch(at(1), 6);
        assert!(!reads.wants_round());
        reads.confirm(1, None, &mut answers);
        assert_eq!(answers, [(1, 5), (2, 5)]);
        assert_eq!(reads.unanswered(), 1);
        reads.confirm(1, None, &mut answers);
        reads.confirm(2, None, &mut answers);
        assert_eq!(answers, [(1, 5), (2, 5), (3, 6)]);
        assert_eq!(reads.unanswered(), 0);
    }

    #[test]
    fn a_lease_counts_from_when_the_confirmed_round_was_sent() {
        let mut reads = Reads::default();
        let mut answers = Vec::new();
        reads.launch_empty(at(10));
        reads.confirm(1, LEASE, &mut answers);
        reads.add(1, true);
        reads.settle_leases(Some(at(109)), 3, &mut answers);
        assert_eq!(answers, [(1, 3)]);
        reads.add(2, true);
        reads.settle_leases(Some(at(110)), 4, &mut answers);
        assert_eq!(answers.len(), 1, "the lease is over");
        assert!(reads.wants_round());
        reads.add(3, true);
        reads.settle_leases(None, 4, &mut answers);
        assert_eq!(reads.drain().collect::<Vec<_>>(), [2, 3]);
        assert_eq!(reads.unanswered(), 0);
    }
}
