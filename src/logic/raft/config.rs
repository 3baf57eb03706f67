//! The knobs of a replica and what must hold between them.

use std::ops::Range;
use std::time::Duration;

use crate::logic::ids::{GroupId, NodeId};

/// How one replica of a group behaves. Apart from `id` and `seed` it should be the same on all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This replica's node.
    pub id: NodeId,
    /// The group it belongs to.
    pub group: GroupId,
    /// Seed of the random election timeouts. Replicas of one group need different ones.
    pub seed: u64,
    /// A leader that has nothing else to say says so this often.
    pub heartbeat: Duration,
    /// A follower that does not hear from a leader campaigns after a random time in this range. A leader that does
    /// not hear from a quorum for the end of this range steps down.
    pub election_timeout: Range<Duration>,
    /// How long a confirmed round lets a leader answer lease reads without asking again, counted from when the round
    /// was sent. `None`: lease reads are answered like other reads. All replicas must agree on `Some` or `None`.
    pub lease: Option<Duration>,
    /// A leader whose disk finishes nothing for so long hands over. The others can commit without it, but its log could
    /// not be compacted, and would fill the memory.
    pub disk_patience: Duration,
    /// Most bytes of entries in one append; a single larger entry still travels, alone.
    pub max_append_bytes: usize,
    /// Most appends with entries on their way to one follower.
    pub max_inflight_appends: usize,
    /// Most bytes of entries on their way to one follower.
    pub max_inflight_bytes: usize,
    /// Most snapshot chunks on their way to one follower.
    pub max_inflight_chunks: u32,
    /// A leader with so many bytes of uncommitted entries refuses proposals.
    pub max_uncommitted_bytes: usize,
    /// A leader with so many bytes of entries in memory (uncompacted log) refuses proposals, and a follower with so
    /// many bytes of committed ones takes no more.
    pub max_log_bytes: usize,
    /// A leader with so many unanswered reads refuses more.
    pub max_pending_reads: usize,
    /// So many entries stay behind a snapshot for followers that are a little late...
    pub keep_entries: u64,
    /// ...but not more than so many bytes.
    pub keep_bytes: usize,
}

impl Config {
    /// The usual values for a local network.
    pub fn new(group: GroupId, id: NodeId, seed: u64) -> Self {
        Config {
            id,
            group,
            seed,
            heartbeat: Duration::from_millis(50),
            election_timeout: Duration::from_millis(300)..Duration::from_millis(600),
            lease: None,
            disk_patience: Duration::from_secs(5),
            max_append_bytes: 1 << 20,
            max_inflight_appends: 256,
            max_inflight_bytes: 16 << 20,
            max_inflight_chunks: 4,
            max_uncommitted_bytes: 64 << 20,
            max_log_bytes: 512 << 20,
            max_pending_reads: 1 << 16,
            keep_entries: 10_000,
            keep_bytes: 32 << 20,
        }
    }

    /// Checks every rule and reports all that are broken, one sentence each.
    ///
    /// # Errors
    /// The sentences, when there are any.
    pub fn validate(&self) -> Result<(), Vec<String>> {
        let timeout = &self.election_timeout;
        let rules = [
            (!self.heartbeat.is_zero(), "heartbeat must be above zero"),
            (
                timeout.start >= self.heartbeat.saturating_mul(2),
                "election_timeout must start at two heartbeats or more",
            ),
            (
                timeout.end > timeout.start,
                "election_timeout must end after it starts, to tell candidates apart",
            ),
            (
                self.lease.is_none_or(|lease| lease <= timeout.start.mul_f64(0.9)),
                "lease must be at most nine tenths of the shortest election timeout, because clocks drift",
            ),
            (
                self.lease.is_none_or(|lease| lease > self.heartbeat),
                "lease must be longer than a heartbeat, or it is never in force",
            ),
            (
                self.disk_patience >= timeout.end,
                "disk_patience must be at least the end of election_timeout, which a handover may take",
            ),
            (self.max_append_bytes > 0, "max_append_bytes must be above zero"),
            (self.max_inflight_appends > 0, "max_inflight_appends must be above zero"),
            (
                self.max_inflight_bytes >= self.max_append_bytes,
                "max_inflight_bytes must hold at least one append of max_append_bytes",
            ),
            (self.max_inflight_chunks > 0, "max_inflight_chunks must be above zero"),
            (self.max_uncommitted_bytes > 0, "max_uncommitted_bytes must be above zero"),
            (
                self.max_log_bytes > self.max_uncommitted_bytes.saturating_add(self.keep_bytes),
                "max_log_bytes must exceed max_uncommitted_bytes + keep_bytes, or it may never be got under again",
            ),
            (self.max_pending_reads > 0, "max_pending_reads must be above zero"),
        ];
        let broken: Vec<String> =
            rules.into_iter().filter(|(holds, _)| !holds).map(|(_, text)| text.into()).collect();
        if broken.is_empty() { Ok(()) } else { Err(broken) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_all_broken_rules_are_reported() {
        let good = Config::new(GroupId(1), NodeId(1), 7);
        assert_eq!(good.validate(), Ok(()));
        let bad = Config {
            heartbeat: Duration::ZERO,
            lease: Some(Duration::from_millis(290)),
            max_inflight_bytes: 1,
            ..good
        };
        let problems = bad.validate().expect_err("three rules are broken");
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[1].contains("nine tenths"));
    }
}
