//! What must hold at every step of a simulation, one rule a file.
//!
//! | file | rule |
//! |---|---|
//! | `election_safety` | at most one leader in a term (paper, figure 3) |
//! | `one_vote` | a node gives its vote in a term to one candidate only, across all its crashes (paper, section 5.2) |
//! | `log_matching` | logs that agree on an entry agree on everything before it (paper, figure 3) |
//! | `leader_completeness` | a leader has everything that was committed before it was elected (paper, figure 3) |
//! | `state_machine_safety` | no two replicas commit or apply different entries at one index (paper, figure 3) |
//! | `durability` | what was reported durable is there after a crash; what is committed is on a majority of disks |
//! | `monotonic` | commit and applied indexes only grow, one by one |
//! | `state_hash` | replicas that have applied the same have the same state |
//! | `exactly_once` | a command of a session takes effect once, however often it was sent |
//! | `lease_exclusion` | a key under a lease is nobody else's as long as the lease lives |
//!
//! Whether the answers that clients got are linearizable is judged when a run has ended
//! ([`verify`](crate::logic::verify)).
//!
//! Those about replicas look at a [`Book`] in which what was just seen is noted already; those about clients at
//! finished [`Call`]s. A rule that is broken says so in one sentence.

mod durability;
mod election_safety;
mod exactly_once;
mod leader_completeness;
mod lease_exclusion;
mod log_matching;
mod monotonic;
mod one_vote;
mod state_hash;
mod state_machine_safety;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(super) use self::lease_exclusion::FASTEST_CLOCK;
use super::book::Book;
use super::history::Call;
use crate::actors::tap::Seen;
use crate::logic::ids::NodeId;

/// Something seen at a replica.
pub struct Moment<'a> {
    /// When, since the simulation began.
    pub at: Duration,
    /// Where.
    pub node: NodeId,
    /// What.
    pub seen: &'a Seen<'a>,
    /// What is known of all replicas, this included; newly committed entries are noted only afterwards.
    pub book: &'a Book,
}

/// A rule.
pub trait Invariant: Send {
    /// Its name.
    fn name(&self) -> &'static str;

    /// Looks at a step of a replica.
    ///
    /// # Errors
    /// A sentence, when the rule is broken.
    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let _ = moment;
        Ok(())
    }

    /// Looks at a call of a client that has ended.
    ///
    /// # Errors
    /// A sentence, when the rule is broken.
    fn call(&mut self, call: &Call) -> Result<(), String> {
        let _ = call;
        Ok(())
    }

    /// Judges what can be judged only when all calls have ended.
    ///
    /// # Errors
    /// A sentence, when the rule is broken.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// All rules.
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(election_safety::ElectionSafety::default()),
        Box::new(one_vote::OneVote::default()),
        Box::new(log_matching::LogMatching::default()),
        Box::new(leader_completeness::LeaderCompleteness),
        Box::new(state_machine_safety::StateMachineSafety::default()),
        Box::new(durability::Durability),
        Box::new(monotonic::Monotonic::default()),
        Box::new(state_hash::StateHashes::default()),
        Box::new(exactly_once::ExactlyOnce::default()),
        Box::new(lease_exclusion::LeaseExclusion::default()),
    ]
}
