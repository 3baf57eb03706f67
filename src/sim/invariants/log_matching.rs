//! If two logs have an entry with the same index and term, they are the same up to there.

use std::collections::BTreeMap;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::ids::{Index, Term};

/// See the module. It suffices to compare each entry and the term before it: the rest follows by induction.
#[derive(Default)]
pub struct LogMatching {
    known: BTreeMap<(Index, Term), Known>,
}

struct Known {
    digest: u64,
    term_before: Option<Term>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let Seen::Output { .. } = moment.seen else { return Ok(()) };
        let replica = &moment.book.replicas[&moment.node];
        let Some(change) = &replica.latest else { return Ok(()) };
        for (index, mark) in &change.entries {
            let term_before = replica.log.term_at(index - 1);
            let fresh = Known { digest: mark.digest, term_before };
            let known = self.known.entry((*index, mark.term)).or_insert(fresh);
            if known.digest != mark.digest {
                return Err(format!(
                    "{} appends an entry {index}@{} that is another elsewhere",
                    moment.node, mark.term
                ));
            }
            match (known.term_before, term_before) {
                (Some(there), Some(here)) if there != here => {
                    return Err(format!(
                        "{} has {index}@{} behind an entry of term {here}, elsewhere that is of term {there}",
                        moment.node, mark.term
                    ));
                }
                (None, Some(here)) => known.term_before = Some(here),
                _ => {}
            }
        }
        Ok(())
    }
}
