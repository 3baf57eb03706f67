//! A node gives its vote in a term to one candidate only.

use std::collections::BTreeMap;

use super::{Invariant, Moment};
use crate::actors::tap::Seen;
use crate::logic::ids::{NodeId, Term};
use crate::logic::raft::message::Message;

/// See the module. Looks at what leaves the replica: a vote that was never told binds nobody.
#[derive(Default)]
pub struct OneVote {
    votes: BTreeMap<(NodeId, Term), NodeId>,
}

impl Invariant for OneVote {
    fn name(&self) -> &'static str {
        "one vote in a term"
    }

    fn replica(&mut self, moment: &Moment<'_>) -> Result<(), String> {
        let Seen::Output { output, .. } = moment.seen else { return Ok(()) };
        for envelope in &output.send {
            let candidate = match envelope.body {
                Message::VoteReply { pre: false, granted: true } => envelope.to,
                Message::RequestVote { pre: false, .. } => envelope.from,
                _ => continue,
            };
            let (voter, term) = (moment.node, envelope.term);
            let first = *self.votes.entry((voter, term)).or_insert(candidate);
            if first != candidate {
                return Err(format!("{voter} votes for {first} and for {candidate} in term {term}"));
            }
        }
        Ok(())
    }
}
