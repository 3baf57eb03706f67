//! Replicas that have applied the same entries have the same state.

use std::collections::BTreeMap;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::ids::{Index, NodeId};
use crate::logic::kv::StateHash;

/// See the module.
#[derive(Default)]
pub struct StateHashes {
    known: BTreeMap<Index, (StateHash, NodeId)>,
}

impl Invariant for StateHashes {
    fn name(&self) -> &'static str {
        "equal states"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let (position, hash) = match moment.seen {
            Seen::Applied { position, hash } => (*position, *hash),
            Seen::Loaded { last, hash } => (*last, *hash),
            _ => return Ok(()),
        };
        let (first, who) = *self.known.entry(position.index).or_insert((hash, moment.node));
        if first != hash {
            return Err(format!("{who} and {} have different states after {position}", moment.node));
        }
        Ok(())
    }
}
