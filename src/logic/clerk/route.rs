//! Finding the leader of a group.
//!
//! While the leader is known, everything goes to it. Once it is not, a single request at a time is sent as a probe,
//! to the node a hint names or to the next one, and the others wait for what becomes of it: a change of leaders with
//! ten thousand calls under way costs a few frames, not a storm of them. Hints are followed at once, but only so many
//! in a row (nodes that name each other are not a loop to run in); then there is a pause with full jitter.

use std::time::Duration;

use super::backoff;
use super::endpoints::{EndpointId, Endpoints};
use crate::logic::ids::NodeId;

/// What is known of a group's leader.
#[derive(Debug, Default)]
pub(super) struct Route {
    leader: Option<EndpointId>,
    /// The request that is to find the leader.
    probe: Option<u64>,
    /// Who is to be probed next, by a hint.
    wanted: Option<NodeId>,
    /// Who was probed, or followed, last.
    tried: Option<EndpointId>,
    /// Who gave no answer in time: until this moment hints that name it are not believed, because a node that hangs
    /// is the leader for the others until they have elected another.
    shunned: Option<(EndpointId, Duration)>,
    /// No probe before this moment.
    resume_at: Duration,
    /// Probes without a pause since the last good answer.
    hops: usize,
    /// Pauses since the last good answer.
    failures: u32,
    /// When the leader gave its last answer.
    heard: Duration,
}

impl Route {
    /// The leader, if it is known and can be reached.
    pub(super) fn leader(&self, endpoints: &Endpoints) -> Option<EndpointId> {
        self.leader.filter(|&leader| endpoints.is_up(leader))
    }

    /// Where a probe may go at `now`. Remember it with [`probing`](Self::probing).
    pub(super) fn probe_target(&self, endpoints: &Endpoints, now: Duration) -> Option<EndpointId> {
        if self.probe.is_some() || now < self.resume_at {
            return None;
        }
        let shunned = self.shunned.filter(|&(_, until)| now < until).map(|(id, _)| id);
        let candidates = || endpoints.up().filter(|&id| Some(id) != shunned);
        let wanted = self.wanted.and_then(|node| endpoints.of_node(node)).filter(|&id| Some(id) != shunned);
        wanted
            .or_else(|| candidates().find(|&id| Some(id) > self.tried))
            .or_else(|| candidates().next())
            .or_else(|| endpoints.up().next())
    }

    /// When the next probe may go out, if it is a matter of time.
    pub(super) fn waits_until(&self) -> Option<Duration> {
        self.probe.is_none().then_some(self.resume_at)
    }

    /// The request `serial` goes to `target` as a probe.
    pub(super) fn probing(&mut self, serial: u64, target: EndpointId) {
        self.probe = Some(serial);
        self.tried = Some(target);
        self.wanted = None;
    }

    /// Whether the request `serial` is the probe under way.
    pub(super) fn is_probe(&self, serial: u64) -> bool {
        self.probe == Some(serial)
    }

    /// The request `serial` is no longer under way.
    pub(super) fn ended(&mut self, serial: u64) {
        if self.probe == Some(serial) {
            self.probe = None;
        }
    }

    /// `from` has answered as only a leader can.
    pub(super) fn good(&mut self, from: EndpointId, now: Duration) {
        if *self.leader.get_or_insert(from) == from {
            self.hops = 0;
            self.failures = 0;
            self.heard = now;
            self.tried = Some(from);
            self.wanted = None;
            self.shunned = None;
            self.resume_at = Duration::ZERO;
        }
    }

    /// `from` has answered that it does not lead, and who does. `serial`: the request that was answered.
    pub(super) fn not_leader(
        &mut self,
        from: EndpointId,
        serial: u64,
        hint: Option<NodeId>,
        (endpoints, now): (&Endpoints, Duration),
        pause: (Duration, &mut fastrand::Rng),
    ) {
        if !self.concerns(from, serial) {
            return;
        }
        self.forget(from);
        self.wanted = hint.filter(|&node| endpoints.node(from) != Some(node));
        self.hops += 1;
        let nodes = endpoints.up().count();
        let elsewhere = endpoints.up().any(|id| id != from);
        if !elsewhere || self.hops > nodes.max(2) {
            self.pause(now, pause);
        }
    }

    /// `from` is gone, hangs, or has lost its leadership while the request `serial` was under way.
    pub(super) fn lost(
        &mut self,
        from: EndpointId,
        serial: Option<u64>,
        now: Duration,
        pause: (Duration, &mut fastrand::Rng),
    ) {
        if self.leader == Some(from) || serial.is_some_and(|serial| self.concerns(from, serial)) {
            self.forget(from);
            self.pause(now, pause);
        }
    }

    /// `from` has given no answer in time to the request `serial`: like [`lost`](Self::lost), and hints that name it
    /// are not believed until `until`.
    pub(super) fn hung(
        &mut self,
        from: EndpointId,
        serial: u64,
        (now, until): (Duration, Duration),
        pause: (Duration, &mut fastrand::Rng),
    ) {
        if self.concerns(from, serial) {
            self.shunned = Some((from, until));
            self.lost(from, Some(serial), now, pause);
        }
    }

    /// Whether the leader has answered anything that was sent at `sent` or later.
    pub(super) fn heard_since(&self, from: EndpointId, sent: Duration) -> bool {
        self.leader == Some(from) && self.heard > sent
    }

    /// A link to `node` is up: if it is the one a hint named, there is nothing left to wait for.
    pub(super) fn link_up(&mut self, node: NodeId) {
        if self.wanted == Some(node) {
            self.resume_at = Duration::ZERO;
        }
    }

    /// News about a node that is no longer followed are no news: a change of leaders brings one answer for each
    /// request that was under way, and only the first says something new.
    fn concerns(&self, from: EndpointId, serial: u64) -> bool {
        self.leader == Some(from) || self.probe == Some(serial)
    }

    fn forget(&mut self, from: EndpointId) {
        self.leader = None;
        self.probe = None;
        self.wanted = None;
        self.tried = Some(from);
    }

    fn pause(&mut self, now: Duration, (cap, rng): (Duration, &mut fastrand::Rng)) {
        self.resume_at = now + backoff::pause(self.failures, cap, rng);
        self.failures = self.failures.saturating_add(1);
        self.hops = 0;
    }
}
