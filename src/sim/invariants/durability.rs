//! What was reported durable is there after any crash, and what is committed is on a majority of disks.

use std::collections::VecDeque;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::raft::entry::Entry;
use crate::sim::book::{Change, Replica, Shadow};

/// See the module.
pub struct Durability;

impl Invariant for Durability {
    fn name(&self) -> &'static str {
        "durability"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        match moment.seen {
            Seen::PeerStarts { .. } => {
                let replica = &moment.book.replicas[&moment.node];
                let Some((durable, pending)) = &replica.before else { return Ok(()) };
                came_back(durable, pending, &replica.durable)
                    .map_err(|lost| format!("{} comes back {lost}", moment.node))
            }
            Seen::Output { output, .. } => output.committed.iter().try_for_each(|entry| {
                if moment.book.committed.contains_key(&entry.index) {
                    return Ok(());
                }
                on_majority(moment, entry)
            }),
            _ => Ok(()),
        }
    }
}

/// An entry that nobody has committed before.
fn on_majority(moment: &Moment<'_>, entry: &Entry) -> Result<(), String> {
    let has = |replica: &&Replica| replica.durable.holds(entry.index, entry.term);
    let count = moment.book.replicas.values().filter(has).count();
    if 2 * count > moment.book.voters {
        return Ok(());
    }
    Err(format!(
        "{} commits {}, which is durable at {count} of {} voters",
        moment.node,
        entry.position(),
        moment.book.voters
    ))
}

/// A log after a restart is what was durable, with some of what was asked for since: in order, each write whole or not
/// at all. Snapshots may have taken the place of its beginning.
fn came_back(durable: &Shadow, pending: &VecDeque<Change>, found: &Shadow) -> Result<(), String> {
    let mut expected = durable.clone();
    let first = differs(&expected, found);
    let Err(lost) = first else { return Ok(()) };
    for change in pending {
        expected.write(change);
        if differs(&expected, found).is_ok() {
            return Ok(());
        }
    }
    Err(lost)
}

fn differs(expected: &Shadow, found: &Shadow) -> Result<(), String> {
    if expected.hard_state != found.hard_state {
        return Err(format!("with {:?}, after {:?} was durable", found.hard_state, expected.hard_state));
    }
    if found.base.index < expected.base.index {
        return Err(format!("with a snapshot of {}, after one of {}", found.base, expected.base));
    }
    let behind = found.base.index + 1;
    let mut theirs = found.entries.range(behind..);
    for (index, mark) in expected.entries.range(behind..) {
        if theirs.next() != Some((index, mark)) {
            return Err(format!("without the entry {index}@{}, which was durable", mark.term));
        }
    }
    match theirs.next() {
        Some((index, mark)) => Err(format!("with an entry {index}@{} that it was never given", mark.term)),
        None => Ok(()),
    }
}
