//! Requests of clients on their way in, and those who wait for an answer.

use std::collections::VecDeque;

use actix::Message;

use crate::logic::kv::command::LeaseId;
use crate::messages::client::{Answer, Response, ServerError};
use crate::net::Ref;
use crate::net::router::Ask;

/// Requests of clients, checked at the gate.
///
/// Whatever is still in it when it is dropped (its receiver died or is being restarted) is answered "not the
/// leader": it was surely not executed, and the client goes on at once instead of waiting for a timeout.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Incoming(pub VecDeque<Ask>);

impl Incoming {
    /// Takes the next request out; the rest stays answered for, should handling it panic.
    pub(crate) fn take(&mut self) -> Option<Ask> {
        self.0.pop_front()
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        for ask in self.0.drain(..) {
            ask.refuse(ServerError::NotLeader { leader: None });
        }
    }
}

/// The right and the duty to answer one request.
///
/// Dropped without an answer, it says what is true at that moment: a read was not executed; a write may have been.
/// So when the actor that holds it panics, its clients learn at once and retry, instead of waiting for a timeout.
pub(crate) struct Caller {
    reply: Option<Ref<Response>>,
    id: u64,
    kind: Kind,
}

/// What a caller asked for, as far as the answer "unknown" depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A question, which may be asked again.
    Read,
    /// The question whether it is the turn of a lease, which may be kept for so many milliseconds until it is.
    Turn(LeaseId, u32),
    /// A command of a session: the clerk retries it and it takes effect once.
    Stamped,
    /// A command without a session, whose client would rather wait than not know.
    Stateless,
}

impl Caller {
    pub(crate) fn new(reply: Ref<Response>, id: u64, kind: Kind) -> Self {
        Caller { reply: Some(reply), id, kind }
    }

    /// For what the server proposes on its own.
    pub(crate) fn nobody() -> Self {
        Caller { reply: None, id: 0, kind: Kind::Stateless }
    }

    /// Whether this is [`Caller::nobody`], or was answered.
    pub(crate) fn is_nobody(&self) -> bool {
        self.reply.is_none()
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn answer(mut self, result: Result<Answer, ServerError>) {
        self.respond(result);
    }

    fn respond(&mut self, result: Result<Answer, ServerError>) {
        if let Some(reply) = self.reply.take() {
            // If the client is gone, nobody misses the answer.
            let _ = reply.tell(Response { id: self.id, result });
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let error = match self.kind {
            Kind::Read | Kind::Turn(..) => ServerError::NotLeader { leader: None },
            Kind::Stamped | Kind::Stateless => ServerError::Unknown,
        };
        self.respond(Err(error));
    }
}
