//! Who belongs to a group: voters, the outgoing voters of a change under way, and learners.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::logic::ids::NodeId;

/// The members of a group. While `outgoing` is not empty the group is in joint consensus: a decision needs a
/// majority of `voters` and a majority of `outgoing` (extended paper, section 6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// Members whose votes count in the (new) configuration.
    pub voters: BTreeSet<NodeId>,
    /// Voters of the old configuration during a change; empty otherwise.
    pub outgoing: BTreeSet<NodeId>,
    /// Members that receive the log but do not count.
    pub learners: BTreeSet<NodeId>,
}

impl Membership {
    /// A plain configuration of these voters.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> Self {
        Membership { voters: voters.into_iter().collect(), ..Membership::default() }
    }

    /// Whether a change is under way.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Bytes that it occupies in memory, roughly.
    pub fn cost(&self) -> usize {
        16 * (self.voters.len() + self.outgoing.len() + self.learners.len())
    }

    /// Fixed binary form, for log entries and snapshot headers: three lists, each a little-endian u32 count and
    /// that many little-endian u64 node ids, in ascending order.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12 + self.cost());
        for set in [&self.voters, &self.outgoing, &self.learners] {
            let count = u32::try_from(set.len()).expect("a membership has fewer than 2^32 nodes");
            out.extend_from_slice(&count.to_le_bytes());
            for node in set {
                out.extend_from_slice(&node.0.to_le_bytes());
            }
        }
        out
    }

    /// Reads what [`Membership::to_bytes`] wrote.
    ///
    /// # Errors
    /// A sentence, when the bytes are too short, too long, or out of order.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        let mut rest = bytes;
        let mut sets = [BTreeSet::new(), BTreeSet::new(), BTreeSet::new()];
        for set in &mut sets {
            let (count, tail) = rest.split_first_chunk::<4>().ok_or("membership is cut short")?;
            rest = tail;
            for _ in 0..u32::from_le_bytes(*count) {
                let (id, tail) = rest.split_first_chunk::<8>().ok_or("membership is cut short")?;
                rest = tail;
                let node = NodeId(u64::from_le_bytes(*id));
                if set.last().is_some_and(|last| *last >= node) {
                    return Err("membership is not in ascending order");
                }
                set.insert(node);
            }
        }
        if !rest.is_empty() {
            return Err("membership has trailing bytes");
        }
        let [voters, outgoing, learners] = sets;
        Ok(Membership { voters, outgoing, learners })
    }
}
