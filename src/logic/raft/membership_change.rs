//! Changing who belongs to a group: which configuration follows from a wish, and which one is in force.

use std::collections::BTreeSet;

use super::membership::Membership;
use crate::logic::ids::{Index, NodeId};

/// What may be asked for. Whenever the voters change, the group passes through a joint configuration (extended paper,
/// section 6), so any set may follow any other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// A node that is not a member is to receive the log without counting.
    AddLearner(NodeId),
    /// A learner is to become a voter.
    Promote(NodeId),
    /// A voter or learner is to leave.
    Remove(NodeId),
    /// Exactly these are to be the members.
    Replace {
        /// The voters.
        voters: BTreeSet<NodeId>,
        /// The learners.
        learners: BTreeSet<NodeId>,
    },
}

/// Most members that a group may have, to bound what a leader keeps and sends.
const MAX_MEMBERS: usize = 64;

/// The configuration that must be appended next in order to bring about `change`: the final one when the voters stay
/// the same, else the joint one.
///
/// # Errors
/// A sentence, when the change makes no sense.
pub(super) fn plan(current: &Membership, change: MembershipChange) -> Result<Membership, &'static str> {
    let mut voters = current.voters.clone();
    let mut learners = current.learners.clone();
    match change {
        MembershipChange::AddLearner(node) => {
            if voters.contains(&node) || !learners.insert(node) {
                return Err("the node is a member already");
            }
        }
        MembershipChange::Promote(node) => {
            if !learners.remove(&node) {
                return Err("only a learner can be promoted");
            }
            voters.insert(node);
        }
        MembershipChange::Remove(node) => {
            if !voters.remove(&node) && !learners.remove(&node) {
                return Err("the node is not a member");
            }
        }
        MembershipChange::Replace { voters: new_voters, learners: new_learners } => {
            voters = new_voters;
            learners = new_learners;
        }
    }
    if voters.is_empty() {
        return Err("a group needs at least one voter");
    }
    if !voters.is_disjoint(&learners) {
        return Err("a node is either a voter or a learner");
    }
    if voters.len() + learners.len() > MAX_MEMBERS {
        return Err("a group has at most 64 members");
    }
    let outgoing = if voters == current.voters { BTreeSet::new() } else { current.voters.clone() };
    let planned = Membership { voters, outgoing, learners };
    if planned == *current { Err("nothing would change") } else { Ok(planned) }
}

/// The configuration that ends the joint one.
pub(super) fn leave_joint(joint: &Membership) -> Membership {
    Membership { outgoing: BTreeSet::new(), ..joint.clone() }
}

/// Whether the node's vote counts.
pub(super) fn is_voter(membership: &Membership, node: NodeId) -> bool {
    membership.voters.contains(&node) || membership.outgoing.contains(&node)
}

/// Everybody that receives the log, without repetition, in ascending order.
pub(super) fn members(membership: &Membership) -> BTreeSet<NodeId> {
    let Membership { voters, outgoing, learners } = membership;
    voters.iter().chain(outgoing).chain(learners).copied().collect()
}

/// The configurations of the log, oldest first, each with the index where it came into force. The newest is in force
/// from when it is appended; when it is truncated away, the one before is again.
#[derive(Debug)]
pub(super) struct History {
    steps: Vec<(Index, Membership)>,
}

impl History {
    pub fn new(index: Index, membership: Membership) -> Self {
        History { steps: vec![(index, membership)] }
    }

    pub fn current(&self) -> &Membership {
        &self.steps.last().expect("a history is never empty").1
    }

    /// Where the configuration in force was appended.
    pub fn since(&self) -> Index {
        self.steps.last().expect("a history is never empty").0
    }

    pub fn append(&mut self, index: Index, membership: Membership) {
        assert!(index > self.since(), "a membership at {index} would not be the newest");
        self.steps.push((index, membership));
    }

    /// The log now ends at `last`.
    pub fn truncate(&mut self, last: Index) {
        while self.steps.len() > 1 && self.since() > last {
            self.steps.pop();
        }
    }

    /// The configuration that was in force at `index`; `None` when that is forgotten.
    pub fn at(&self, index: Index) -> Option<&Membership> {
        self.steps.iter().rev().find(|(since, _)| *since <= index).map(|(_, membership)| membership)
    }

    /// Forgets what was in force only before `index`.
    pub fn compact(&mut self, index: Index) {
        let obsolete = self.steps.iter().skip(1).take_while(|(since, _)| *since <= index).count();
        self.steps.drain(..obsolete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn membership(voters: &[u64], outgoing: &[u64], learners: &[u64]) -> Membership {
        Membership { voters: set(voters), outgoing: set(outgoing), learners: set(learners) }
    }

    #[test]
    fn learners_come_and_go_in_one_step_and_voters_in_two() {
        let now = membership(&[1, 2, 3], &[], &[4]);
        let plan = |change| plan(&now, change);
        assert_eq!(plan(MembershipChange::AddLearner(NodeId(5))), Ok(membership(&[1, 2, 3], &[], &[4, 5])));
        assert_eq!(plan(MembershipChange::Remove(NodeId(4))), Ok(membership(&[1, 2, 3], &[], &[])));
        let joint = plan(MembershipChange::Promote(NodeId(4))).expect("4 is a learner");
        assert_eq!(joint, membership(&[1, 2, 3, 4], &[1, 2, 3], &[]));
        assert_eq!(leave_joint(&joint), membership(&[1, 2, 3, 4], &[], &[]));
        assert_eq!(
            plan(MembershipChange::Replace { voters: set(&[7]), learners: set(&[1]) }),
            Ok(membership(&[7], &[1, 2, 3], &[1]))
        );
    }

    #[test]
    fn nonsense_is_refused() {
        let now = membership(&[1], &[], &[4]);
        let plan = |change| plan(&now, change);
        assert!(plan(MembershipChange::AddLearner(NodeId(1))).is_err());
        assert!(plan(MembershipChange::AddLearner(NodeId(4))).is_err());
        assert!(plan(MembershipChange::Promote(NodeId(1))).is_err());
        assert!(plan(MembershipChange::Remove(NodeId(9))).is_err());
        assert!(plan(MembershipChange::Remove(NodeId(1))).is_err());
        assert!(plan(MembershipChange::Replace { voters: set(&[1]), learners: set(&[1]) }).is_err());
        assert!(plan(MembershipChange::Replace { voters: set(&[1]), learners: set(&[4]) }).is_err());
        let many = (1..=65).map(NodeId).collect();
        assert!(plan(MembershipChange::Replace { voters: many, learners: set(&[]) }).is_err());
    }

    #[test]
    fn the_newest_is_in_force_until_it_is_truncated() {
        let mut history = History::new(0, membership(&[1], &[], &[]));
        history.append(5, membership(&[2], &[], &[]));
        history.append(8, membership(&[3], &[], &[]));
        assert_eq!(history.current(), &membership(&[3], &[], &[]));
        assert_eq!(history.at(7), Some(&membership(&[2], &[], &[])));
        history.truncate(7);
        assert_eq!((history.since(), history.current()), (5, &membership(&[2], &[], &[])));
        history.compact(4);
        assert_eq!(history.at(4), Some(&membership(&[1], &[], &[])));
        history.compact(5);
        assert_eq!(history.at(4), None);
        history.truncate(0);
        assert_eq!(history.since(), 5, "the oldest is below all that can be truncated");
    }
}
