//! Questions whose turn it is, which are kept until it is.

use std::time::Duration;

use super::{KvServer, to_result};
use crate::actors::caller::{Caller, Kind};
use crate::logic::kv::command::{LeaseId, Outcome, Query, Reply};
use crate::messages::client::{Answer, ServerError};
use crate::messages::group::Refusal;

/// Longest time for which the question whose turn it is is kept: a client that has gone away is forgotten then.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Whether a question is one that waits.
pub(super) fn kind(query: &Query) -> Kind {
    match query {
        Query::Turn { lease, wait_ms } => Kind::Turn(*lease, *wait_ms),
        _ => Kind::Read,
    }
}

impl KvServer {
    /// Answers a question, unless it is one that waits for a turn.
    pub(super) fn answer_read(&mut self, caller: Caller, outcome: Outcome) {
        match (caller.kind(), &outcome) {
            (Kind::Turn(lease, wait_ms), Ok(Reply::Turn { held: false })) if wait_ms > 0 => {
                self.let_wait(caller, lease, wait_ms);
            }
            _ => caller.answer(to_result(outcome)),
        }
    }

    /// The applier said "not yet" before it could say that the turn has come, so no turn is missed.
    fn let_wait(&mut self, caller: Caller, lease: LeaseId, wait_ms: u32) {
        if !self.leadership.leads {
            return caller.answer(Err(self.not_leader()));
        }
        if self.turns.len() >= self.spec.max_pending_requests {
            return caller.answer(Err(self.error(Refusal::Busy("max_pending_requests"))));
        }
        let wait = Duration::from_millis(wait_ms.into()).min(LONGEST_WAIT);
        if let Some(before) = self.turns.wait(lease, self.spec.clock.now() + wait, caller) {
            before.answer(turn(false));
        }
    }

    /// Answers those who have waited long enough for their turns.
    pub(super) fn end_waits(&mut self) {
        while let Some(caller) = self.turns.take_due(self.spec.clock.now()) {
            caller.answer(turn(false));
        }
    }

    /// It has become the turn of these leases.
    pub(super) fn call_up(&mut self, leases: Vec<LeaseId>) {
        for lease in leases {
            if let Some(caller) = self.turns.take(lease) {
                caller.answer(turn(true));
            }
        }
    }

    /// Another server will know whose turn it is.
    pub(super) fn send_away(&mut self) {
        let leader = self.leadership.leader;
        for caller in self.turns.take_all() {
            caller.answer(Err(ServerError::NotLeader { leader }));
        }
    }
}

/// The answer to the question whose turn it is.
fn turn(held: bool) -> Result<Answer, ServerError> {
    Ok(Answer::Kv(Reply::Turn { held }))
}
