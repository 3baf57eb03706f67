//! Commit and applied indexes only grow within a life, and entries are applied one by one.

use std::collections::BTreeMap;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::ids::{Index, NodeId};

/// See the module.
#[derive(Default)]
pub struct Monotonic {
    commit: BTreeMap<NodeId, Index>,
    applied: BTreeMap<NodeId, Index>,
}

impl Invariant for Monotonic {
    fn name(&self) -> &'static str {
        "monotonic commit and apply"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let node = moment.node;
        match moment.seen {
            Seen::PeerStarts { .. } => {
                self.commit.insert(node, 0);
            }
            Seen::Output { commit, .. } => {
                let before = self.commit.insert(node, *commit).unwrap_or(0);
                if *commit < before {
                    return Err(format!("{node}'s commit index falls from {before} to {commit}"));
                }
            }
            Seen::Loaded { last, .. } => {
                // A new life of the applier, or a snapshot of the leader's.
                self.applied.insert(node, last.index);
            }
            Seen::Applied { position, .. } => {
                let before = self.applied.insert(node, position.index).unwrap_or(0);
                if position.index != before + 1 {
                    return Err(format!("{node} applies {position} after {before}"));
                }
            }
            Seen::Durable { .. } => {}
        }
        Ok(())
    }
}
