//! A leader has everything that was committed before it was elected.

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::raft::Role;

/// See the module. By log matching it suffices to look for the last committed entry.
pub struct LeaderCompleteness;

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let Seen::Output { output, .. } = moment.seen else { return Ok(()) };
        let Some(change) = output.role.filter(|change| change.role == Role::Leader) else { return Ok(()) };
        let Some((index, mark)) = moment.book.committed.last_key_value() else { return Ok(()) };
        let log = &moment.book.replicas[&moment.node].log;
        if mark.term < change.term && !log.holds(*index, mark.term) {
            return Err(format!(
                "{} leads in term {} and lacks the committed entry {index}@{}",
                moment.node, change.term, mark.term
            ));
        }
        Ok(())
    }
}
