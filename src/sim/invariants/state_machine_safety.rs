//! No two replicas commit or apply different entries at one index.

use std::collections::BTreeMap;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::ids::{Index, LogPosition, Term};
use crate::sim::book::EntryMark;

/// See the module.
#[derive(Default)]
pub struct StateMachineSafety {
    applied: BTreeMap<Index, Term>,
}

impl StateMachineSafety {
    fn applies(&mut self, position: LogPosition) -> Option<Term> {
        let first = *self.applied.entry(position.index).or_insert(position.term);
        (first != position.term).then_some(first)
    }
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let node = moment.node;
        match moment.seen {
            Seen::Output { output, .. } => {
                for entry in &output.committed {
                    let mark = EntryMark::of(entry);
                    let known = moment.book.committed.get(&entry.index);
                    if let Some(other) = known.filter(|known| **known != mark) {
                        return Err(format!(
                            "{node} commits {}, but another entry of term {} is committed there",
                            entry.position(),
                            other.term
                        ));
                    }
                }
            }
            Seen::Applied { position, .. } => {
                if let Some(other) = self.applies(*position) {
                    return Err(format!("{node} applies {position}, elsewhere that is of term {other}"));
                }
            }
            Seen::Loaded { last, .. } if last.index > 0 => {
                if let Some(other) = self.applies(*last) {
                    return Err(format!(
                        "{node} loads a snapshot of {last}, elsewhere that is of term {other}"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
