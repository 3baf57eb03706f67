//! Majorities, plain and joint (extended paper, section 6).

use std::collections::BTreeSet;

use super::membership::Membership;
use crate::logic::ids::NodeId;

/// What an election has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tally {
    /// A quorum said yes.
    Won,
    /// So many said no that a quorum cannot be reached any more.
    Lost,
    /// Neither yet.
    Pending,
}

/// The largest value that a quorum has reached: with voters at 3, 5 and 9 it is 5. In a joint configuration both
/// majorities must have reached it. `None` when there is no voter at all.
pub fn reached<T: Ord + Copy>(membership: &Membership, value: impl Fn(NodeId) -> T) -> Option<T> {
    let with_learners: BTreeSet<NodeId>;
    let mut voters = &membership.voters;
    if mutant!(LearnersCount) {
        with_learners = voters.union(&membership.learners).copied().collect();
        voters = &with_learners;
    }
    let incoming = reached_by_majority(voters, &value)?;
    match reached_by_majority(&membership.outgoing, &value) {
        None => Some(incoming),
        Some(_) if mutant!(OneMajorityOfTwo) => Some(incoming),
        Some(outgoing) => Some(incoming.min(outgoing)),
    }
}

fn reached_by_majority<T: Ord + Copy>(voters: &BTreeSet<NodeId>, value: &impl Fn(NodeId) -> T) -> Option<T> {
    const FEW: usize = 9;
    let first = value(*voters.first()?);
    let rank = if mutant!(HalfIsAMajority) { (voters.len() - 1) / 2 } else { voters.len() / 2 };
    let descending = |a: &T, b: &T| b.cmp(a);
    if voters.len() <= FEW {
        let mut values = [first; FEW];
        for (slot, node) in values.iter_mut().zip(voters) {
            *slot = value(*node);
        }
        let values = &mut values[..voters.len()];
        values.sort_unstable_by(descending);
        Some(values[rank])
    } else {
        let mut values: Vec<T> = voters.iter().map(|node| value(*node)).collect();
        values.sort_unstable_by(descending);
        Some(values[rank])
    }
}

/// Counts votes: `Some(true)` is a yes, `Some(false)` a no, `None` not heard of yet.
pub fn tally(membership: &Membership, vote: impl Fn(NodeId) -> Option<bool>) -> Tally {
    let yes = reached(membership, |node| vote(node) == Some(true));
    let yes_or_open = reached(membership, |node| vote(node) != Some(false));
    match (yes, yes_or_open) {
        (Some(true), _) => Tally::Won,
        (_, Some(true)) => Tally::Pending,
        _ => Tally::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn plain(nodes: &[u64]) -> Membership {
        Membership { voters: set(nodes), ..Membership::default() }
    }

    #[test]
    fn a_majority_has_reached_the_median() {
        assert_eq!(reached(&plain(&[]), |node| node.0), None);
        assert_eq!(reached(&plain(&[7]), |node| node.0), Some(7));
        assert_eq!(reached(&plain(&[3, 9]), |node| node.0), Some(3));
        assert_eq!(reached(&plain(&[3, 5, 9]), |node| node.0), Some(5));
        assert_eq!(reached(&plain(&[1, 2, 3, 4]), |node| node.0), Some(2));
        assert_eq!(reached(&plain(&[1, 2, 3, 4, 5]), |node| node.0), Some(3));
        let many: Vec<u64> = (1..=11).collect();
        assert_eq!(reached(&plain(&many), |node| node.0), Some(6));
    }

    #[test]
    fn a_joint_configuration_needs_both_majorities() {
        let joint = Membership { outgoing: set(&[1, 2, 3]), ..plain(&[3, 4, 5]) };
        assert_eq!(reached(&joint, |node| if node.0 >= 3 { 9 } else { 4 }), Some(4));
        assert_eq!(reached(&joint, |node| if node.0 <= 3 { 9 } else { 4 }), Some(4));
        assert_eq!(reached(&joint, |node| if node.0 == 1 || node.0 == 5 { 4 } else { 9 }), Some(9));
    }

    #[test]
    fn an_election_is_won_lost_or_open() {
        let vote = |yes: &'static [u64], no: &'static [u64]| {
            move |node: NodeId| {
                if yes.contains(&node.0) { Some(true) } else { no.contains(&node.0).then_some(false) }
            }
        };
        assert_eq!(tally(&plain(&[1, 2, 3]), vote(&[1], &[])), Tally::Pending);
        assert_eq!(tally(&plain(&[1, 2, 3]), vote(&[1, 3], &[])), Tally::Won);
        assert_eq!(tally(&plain(&[1, 2, 3]), vote(&[1], &[2, 3])), Tally::Lost);
        assert_eq!(tally(&plain(&[1, 2, 3, 4]), vote(&[1, 2], &[3])), Tally::Pending);
        assert_eq!(tally(&plain(&[1, 2, 3, 4]), vote(&[1, 2], &[3, 4])), Tally::Lost);
        let joint = Membership { outgoing: set(&[1, 2, 3]), ..plain(&[3, 4, 5]) };
        assert_eq!(tally(&joint, vote(&[3, 4, 5], &[])), Tally::Pending);
        assert_eq!(tally(&joint, vote(&[3, 4, 5], &[1, 2])), Tally::Lost);
        assert_eq!(tally(&joint, vote(&[1, 3, 4], &[2, 5])), Tally::Won);
        assert_eq!(tally(&Membership::default(), |_| Some(true)), Tally::Lost);
    }
}
