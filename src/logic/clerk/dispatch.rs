//! From the call to the request: places in the session, the choice of the node, sending.

use std::time::Duration;

use super::call::{Call, Lane, Op, Outcome};
use super::core::{Clerk, Output};
use super::endpoints::EndpointId;
use super::error::ClerkError;
use super::pending::{Owner, Pending, State, request_id};
use crate::logic::ids::GroupId;
use crate::logic::kv::command::{Command, Query, Reply};
use crate::messages::client::{Answer, Request, RequestBody};

impl Clerk {
    pub(super) fn on_call(&mut self, call: Call, out: &mut Output) {
        let limit = self.options.max_pending;
        if self.pending.len() >= limit {
            return out.done.push((call.id, Err(ClerkError::Overloaded { limit })));
        }
        if let Some(fault) = call.op.fault() {
            return out.done.push((call.id, Err(ClerkError::Invalid(fault.to_owned()))));
        }
        let closes = matches!(call.op, Op::Write(Command::CloseSession));
        if closes && self.groups.get(&call.group).is_none_or(|group| group.session.is_none()) {
            return out.done.push((call.id, Ok(Answer::Kv(Reply::Done))));
        }
        let deadline = call.deadline.map(|after| self.now.saturating_add(after));
        if let Some(at) = deadline {
            self.wake_by(at);
        }
        let serial = self.admit(Pending::new(Owner::Caller(call.id), call.group, call.op, deadline));
        self.enqueue(serial, out);
        self.flush(call.group, out);
    }

    fn admit(&mut self, pending: Pending) -> u64 {
        let serial = self.next_serial;
        self.next_serial += 1;
        self.pending.insert(serial, pending);
        serial
    }

    /// Puts a call, new or to be tried again, where it waits for its turn. Those that need no leader are sent at once
    /// if they can be; the others go out with the next [`flush`](Self::flush) of their group.
    pub(super) fn enqueue(&mut self, serial: u64, out: &mut Output) {
        self.settle_state(serial, State::Ready);
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        if pending.op.lane() != Lane::Leader {
            self.direct.insert(serial);
            return self.send_direct(serial, out);
        }
        let group = self.groups.entry(pending.group).or_default();
        let current = group.session.as_ref().map(|session| session.id());
        if pending.stamp.is_some_and(|(session, _)| Some(session) != current) {
            // Its session is gone, so no copy of it can take effect from now on.
            if matches!(pending.op, Op::Write(Command::KeepAlive | Command::CloseSession)) {
                return self.finish(serial, Ok(Answer::Kv(Reply::Done)), out);
            }
            if pending.unknown && !mutant!(RetriesInNewSession) {
                return self.finish(serial, Err(ClerkError::Maybe), out);
            }
            pending.stamp = None;
        }
        let wants_stamp = matches!(pending.op, Op::Write(_)) && pending.owner != Owner::Open;
        if wants_stamp && pending.stamp.is_none() && !self.options.stateless {
            pending.state = State::Unstamped;
            group.unstamped.insert(serial);
        } else {
            group.ready.insert(serial);
        }
    }

    pub(super) fn flush_all(&mut self, out: &mut Output) {
        for serial in self.direct.iter().copied().collect::<Vec<_>>() {
            self.send_direct(serial, out);
        }
        for group in self.groups.keys().copied().collect::<Vec<_>>() {
            self.keep_alive(group, out);
            self.flush(group, out);
        }
    }

    /// Sends what can be sent of a group's calls.
    pub(super) fn flush(&mut self, id: GroupId, out: &mut Output) {
        self.stamp_waiting(id);
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.ready.is_empty() {
            return;
        }
        if let Some(leader) = group.route.leader(&self.endpoints) {
            while self.endpoints.has_room(leader)
                && let Some(serial) = self.groups.get_mut(&id).and_then(|group| group.ready.pop_first())
            {
                self.transmit(serial, leader, out);
            }
        } else if let Some(target) = group.route.probe_target(&self.endpoints, self.now) {
            if let Some(serial) = group.ready.pop_first() {
                group.route.probing(serial, target);
                self.transmit(serial, target, out);
            }
        } else if let Some(at) = group.route.waits_until()
            && at > self.now
        {
            self.wake_by(at);
        }
    }

    /// Gives waiting commands their places in the session, and opens one if there is none.
    fn stamp_waiting(&mut self, id: GroupId) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(session) = &mut group.session else {
            if !group.opening && !group.unstamped.is_empty() {
                group.opening = true;
                let open = Pending::new(Owner::Open, id, Op::Write(Command::OpenSession), None);
                let serial = self.admit(open);
                self.groups.entry(id).or_default().ready.insert(serial);
            }
            return;
        };
        while session.has_room() {
            let Some(serial) = group.unstamped.pop_first() else { break };
            if let Some(pending) = self.pending.get_mut(&serial) {
                pending.stamp = Some((session.id(), session.number()));
                pending.state = State::Ready;
                group.ready.insert(serial);
            }
        }
    }

    /// Touches the session of a group when it has not been used for a third of its time.
    fn keep_alive(&mut self, id: GroupId, out: &mut Output) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        let Some(session) = group.session.as_ref().filter(|_| !group.keeping) else { return };
        let at = session.keep_alive_at();
        if at > self.now {
            return self.wake_by(at);
        }
        group.keeping = true;
        let serial = self.admit(Pending::new(Owner::KeepAlive, id, Op::Write(Command::KeepAlive), None));
        self.enqueue(serial, out);
    }

    fn send_direct(&mut self, serial: u64, out: &mut Output) {
        let Some(pending) = self.pending.get(&serial) else {
            self.direct.remove(&serial);
            return;
        };
        let target = match pending.op.lane() {
            Lane::Node(node) => {
                if self.endpoints.is_stranger(node) {
                    let error = ClerkError::Invalid(format!("the cluster has no node {node}"));
                    return self.finish(serial, Err(error), out);
                }
                self.endpoints.of_node(node)
            }
            Lane::Any | Lane::Leader => {
                // Spread over the nodes; another attempt goes to the next one.
                let count = self.endpoints.up().count().max(1) as u64;
                let turn = (serial + u64::from(pending.attempts)) % count;
                self.endpoints.up().nth(turn as usize)
            }
        };
        if let Some(target) = target {
            self.direct.remove(&serial);
            self.transmit(serial, target, out);
        }
    }

    fn transmit(&mut self, serial: u64, to: EndpointId, out: &mut Output) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        pending.state = State::Sent { to, at: self.now };
        self.endpoints.sent(to);
        pending.attempts = pending.attempts.saturating_add(1);
        // All calls wait for a probe, so it must not be one that the leader keeps.
        let is_probe = self.groups.get(&pending.group).is_some_and(|group| group.route.is_probe(serial));
        pending.kept = if is_probe { Duration::ZERO } else { pending.op.kept() };
        let body = match &pending.op {
            Op::Write(command) => {
                let session = self.groups.get(&pending.group).and_then(|group| group.session.as_ref());
                let stamp = pending.stamp.zip(session).map(|((_, seq), session)| session.stamp(seq));
                RequestBody::Write { stamp, command: command.clone() }
            }
            Op::Read { query: Query::Turn { lease, .. }, consistency, .. } if is_probe => {
                let query = Query::Turn { lease: *lease, wait_ms: 0 };
                RequestBody::Read { query, consistency: *consistency }
            }
            Op::Read { query, consistency, .. } => {
                RequestBody::Read { query: query.clone(), consistency: *consistency }
            }
            Op::Admin { request, .. } => RequestBody::Admin(request.clone()),
            Op::MapReduce(request) => RequestBody::MapReduce(request.clone()),
        };
        let id = request_id(serial, pending.attempts);
        out.send.push((to, Request { id, group: pending.group, body }));
        let due = self.now + self.options.attempt_timeout + pending.kept;
        self.wake_by(due);
    }

    /// Makes a call wait by itself before it is tried again.
    pub(super) fn pause(&mut self, serial: u64, pause: Duration) {
        let until = self.now + pause;
        self.settle_state(serial, State::Pausing { until });
        if let Some(pending) = self.pending.get_mut(&serial) {
            pending.pauses = pending.pauses.saturating_add(1);
            self.wake_by(until);
        }
    }

    /// Gives a call another state, in which no answer is waited for.
    fn settle_state(&mut self, serial: u64, state: State) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        if let State::Sent { to, .. } = std::mem::replace(&mut pending.state, state) {
            self.endpoints.settled(to);
        }
    }

    /// Ends a call with its result.
    pub(super) fn finish(&mut self, serial: u64, outcome: Outcome, out: &mut Output) {
        if let Some(pending) = self.remove(serial)
            && let Owner::Caller(call) = pending.owner
        {
            out.done.push((call, outcome));
        }
    }

    /// Takes a call out of everything.
    pub(super) fn remove(&mut self, serial: u64) -> Option<Pending> {
        let pending = self.pending.remove(&serial)?;
        if let State::Sent { to, .. } = pending.state {
            self.endpoints.settled(to);
        }
        if let Some(group) = self.groups.get_mut(&pending.group) {
            group.route.ended(serial);
            match pending.owner {
                Owner::Caller(_) => {}
                Owner::Open => group.opening = false,
                Owner::KeepAlive => group.keeping = false,
            }
            match pending.state {
                State::Ready => drop(group.ready.remove(&serial)),
                State::Unstamped => drop(group.unstamped.remove(&serial)),
                State::Sent { .. } | State::Pausing { .. } => {}
            }
            if let (Some((session, seq)), Some(current)) = (pending.stamp, &mut group.session)
                && session == current.id()
            {
                current.settle(seq);
            }
        }
        if pending.state == State::Ready {
            self.direct.remove(&serial);
        }
        Some(pending)
    }
}
