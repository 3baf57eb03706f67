//! From the response to the result of the call, or to its next attempt.

use super::backoff;
use super::call::{Lane, Op};
use super::core::{Clerk, Output};
use super::endpoints::EndpointId;
use super::error::ClerkError;
use super::pending::{Obstacle, Owner, State, parse_request_id};
use super::rules;
use super::session::Session;
use crate::logic::ids::GroupId;
use crate::logic::kv::command::{Command, KvError, Reply, SessionId};
use crate::messages::client::{Answer, Response, ServerError};

impl Clerk {
    /// A final answer counts whichever attempt it belongs to. Any other says something about its own attempt alone, so
    /// it counts only for the newest: the earlier ones are of unknown fate already.
    pub(super) fn on_response(&mut self, from: EndpointId, response: Response, out: &mut Output) {
        let (serial, attempt) = parse_request_id(response.id);
        let Some(pending) = self.pending.get(&serial) else { return };
        let group = pending.group;
        let sent = match pending.state {
            State::Sent { to, at } if to == from && pending.attempts == attempt => Some(at),
            _ => None,
        };
        match (response.result, sent) {
            (Ok(answer), _) => self.on_answer(serial, from, sent.is_some(), answer, out),
            (Err(ServerError::Refused(error)), _) => {
                self.on_refused(serial, from, sent.is_some(), error, out);
            }
            (Err(ServerError::Invalid(text)), _) => self.on_invalid(serial, text, out),
            (Err(error), Some(_)) => self.on_setback(serial, from, error, out),
            (Err(_), None) => {}
        }
        self.flush(group, out);
    }

    /// Notes that the leader has spoken, and whether the session was touched: what the door refuses does not come so
    /// far.
    fn note_leader(&mut self, serial: u64, from: EndpointId, current: bool, touched: bool) {
        let Some(pending) = self.pending.get(&serial) else { return };
        let Some(group) = self.groups.get_mut(&pending.group) else { return };
        let State::Sent { at, .. } = pending.state else { return };
        if !current || pending.op.lane() != Lane::Leader {
            return;
        }
        group.route.good(from, self.now);
        if let (Some((id, _)), Some(session)) = (pending.stamp, &mut group.session)
            && id == session.id()
            && touched
        {
            session.touch(at);
        }
    }

    fn on_answer(&mut self, serial: u64, from: EndpointId, current: bool, answer: Answer, out: &mut Output) {
        self.note_leader(serial, from, current, true);
        let Some(pending) = self.pending.get(&serial) else { return };
        if pending.owner != Owner::Open {
            let closed = pending.stamp.filter(|_| matches!(pending.op, Op::Write(Command::CloseSession)));
            let group = pending.group;
            self.finish(serial, Ok(answer), out);
            if let Some((session, _)) = closed {
                self.end_session(group, session, out);
            }
            return;
        }
        let (group, now) = (pending.group, self.now);
        let sent = match pending.state {
            State::Sent { at, .. } => at,
            _ => now,
        };
        let Answer::Kv(Reply::Session { session, ttl_ms, window }) = answer else {
            return self.on_invalid(serial, "the server did not answer with a session".to_owned(), out);
        };
        self.remove(serial);
        let session = Session::new(session, window, ttl_ms, sent);
        self.wake_by(session.keep_alive_at());
        self.groups.entry(group).or_default().session = Some(session);
    }

    fn on_refused(&mut self, serial: u64, from: EndpointId, current: bool, error: KvError, out: &mut Output) {
        self.note_leader(serial, from, current, !is_limit(&error));
        let Some(pending) = self.pending.get(&serial) else { return };
        if pending.owner == Owner::Open {
            return self.fail_unstamped(serial, error.into(), out);
        }
        if error == KvError::SessionExpired
            && let Some((expired, _)) = pending.stamp
        {
            self.end_session(pending.group, expired, out);
            return self.enqueue(serial, out);
        }
        // A session answers for every transmission, but a limit may be that of the server's door, which looks at no
        // session: it says nothing of an earlier one.
        let certain = !pending.unknown || (pending.stamp.is_some() && !is_limit(&error));
        let error = rules::refusal(&pending.op, certain, error);
        self.finish(serial, Err(error), out);
    }

    /// The session is lost. Commands of it that are on their way will be answered; those that wait to be sent are
    /// looked at again now.
    fn end_session(&mut self, id: GroupId, expired: SessionId, out: &mut Output) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.session.take_if(|session| session.id() == expired).is_some() {
            for serial in std::mem::take(&mut group.ready) {
                self.enqueue(serial, out);
            }
        }
    }

    /// No session can be had: the commands that wait for one end with the same error.
    fn fail_unstamped(&mut self, serial: u64, error: ClerkError, out: &mut Output) {
        let Some(open) = self.remove(serial) else { return };
        let Some(group) = self.groups.get_mut(&open.group) else { return };
        for serial in std::mem::take(&mut group.unstamped) {
            self.finish(serial, Err(error.clone()), out);
        }
    }

    fn on_invalid(&mut self, serial: u64, text: String, out: &mut Output) {
        let Some(pending) = self.pending.get(&serial) else { return };
        if pending.owner == Owner::Open {
            return self.fail_unstamped(serial, ClerkError::Invalid(text), out);
        }
        let maybe = pending.op.has_effect() && pending.unknown && pending.stamp.is_none();
        let error = if maybe { ClerkError::Maybe } else { ClerkError::Invalid(text) };
        self.finish(serial, Err(error), out);
    }

    /// The newest attempt has come to nothing, or (`Unknown`) nobody knows.
    fn on_setback(&mut self, serial: u64, from: EndpointId, error: ServerError, out: &mut Output) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        let group = self.groups.entry(pending.group).or_default();
        let cap = self.options.max_pause;
        match error {
            ServerError::NotLeader { leader } => {
                pending.strangers = 0;
                pending.obstacle = Obstacle::NotLeader(from);
                if let Lane::Node(node) = pending.op.lane() {
                    let text = format!("{node} does not lead {}", pending.group);
                    return self.finish(serial, Err(ClerkError::Unavailable(text)), out);
                }
                let world = (&self.endpoints, self.now);
                group.route.not_leader(from, serial, leader, world, (cap, &mut self.rng));
                self.retry(serial, out);
            }
            ServerError::Busy { limit } => {
                pending.obstacle = Obstacle::Busy(limit);
                group.route.ended(serial);
                let pause = backoff::pause(pending.pauses, cap, &mut self.rng);
                self.pause(serial, pause);
            }
            ServerError::Unknown => {
                group.route.lost(from, Some(serial), self.now, (cap, &mut self.rng));
                self.attempt_lost(serial, Obstacle::Deposed(from), out);
            }
            ServerError::NoSuchGroup => self.on_no_such_group(serial, from, out),
            // Final; handled by the caller.
            ServerError::Refused(_) | ServerError::Invalid(_) => {}
        }
    }

    fn on_no_such_group(&mut self, serial: u64, from: EndpointId, out: &mut Output) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        pending.strangers += 1;
        let alone = matches!(pending.op.lane(), Lane::Node(_));
        if !alone && pending.strangers < self.endpoints.up().count() {
            let group = self.groups.entry(pending.group).or_default();
            let world = (&self.endpoints, self.now);
            group.route.not_leader(from, serial, None, world, (self.options.max_pause, &mut self.rng));
            return self.retry(serial, out);
        }
        let error = ClerkError::Unavailable(format!("no node that can be reached hosts {}", pending.group));
        if pending.owner == Owner::Open {
            return self.fail_unstamped(serial, error, out);
        }
        let maybe = pending.unknown && pending.op.has_effect();
        self.finish(serial, Err(if maybe { ClerkError::Maybe } else { error }), out);
    }

    /// The newest attempt surely was not carried out: try again.
    fn retry(&mut self, serial: u64, out: &mut Output) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        if let Some(group) = self.groups.get_mut(&pending.group) {
            group.route.ended(serial);
        }
        if pending.op.lane() == Lane::Leader {
            // The route paces the attempts of calls that go to the leader.
            self.enqueue(serial, out);
        } else {
            let pause = backoff::pause(pending.pauses, self.options.max_pause, &mut self.rng);
            self.pause(serial, pause);
        }
    }

    /// Nobody knows what became of the newest attempt: try again where that is harmless.
    pub(super) fn attempt_lost(&mut self, serial: u64, obstacle: Obstacle, out: &mut Output) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        pending.unknown = true;
        pending.strangers = 0;
        pending.obstacle = obstacle;
        if pending.stamp.is_some() || rules::repeatable(&pending.op) {
            if mutant!(NewNumberPerRetry) {
                pending.stamp = None;
            }
            self.retry(serial, out);
        } else {
            self.finish(serial, Err(ClerkError::Maybe), out);
        }
    }
}

fn is_limit(error: &KvError) -> bool {
    match error {
        KvError::Limit { .. } => true,
        KvError::Batch { error, .. } => is_limit(error),
        _ => false,
    }
}
