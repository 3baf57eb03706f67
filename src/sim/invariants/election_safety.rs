//! At most one leader in a term.

use std::collections::BTreeMap;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::ids::{NodeId, Term};
use crate::logic::raft::Role;

/// See the module.
#[derive(Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, NodeId>,
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let Seen::Output { output, .. } = moment.seen else { return Ok(()) };
        let Some(change) = output.role.filter(|change| change.role == Role::Leader) else { return Ok(()) };
        let first = *self.leaders.entry(change.term).or_insert(moment.node);
        if first != moment.node {
            return Err(format!("{first} and {} both lead in term {}", moment.node, change.term));
        }
        Ok(())
    }
}
