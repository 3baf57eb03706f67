//! The clerk: its inputs and outputs, and what time does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::call::{Call, CallId, Lane, Outcome};
use super::endpoints::{EndpointId, Endpoints};
use super::error::ClerkError;
use super::pending::{Obstacle, Owner, Pending, State};
use super::route::Route;
use super::session::Session;
use crate::logic::ids::{GroupId, NodeId};
use crate::messages::client::{Request, Response};
use crate::messages::wire::Welcome;

/// How a clerk behaves.
#[derive(Clone, Debug)]
pub struct ClerkOptions {
    /// Addresses of some nodes; the others are learnt from them.
    pub endpoints: Vec<String>,
    /// The cluster; nodes of another are not talked to. Empty: whichever answers.
    pub cluster: String,
    /// Without a session: the server keeps nothing per client, and a lost reply may be reported as `Maybe`.
    pub stateless: bool,
    /// Another attempt is made when an answer takes longer than this.
    pub attempt_timeout: Duration,
    /// Longest pause between two attempts, and between two dials.
    pub max_pause: Duration,
    /// Most calls under way, those that wait included.
    pub max_pending: usize,
    /// Most requests that wait for an answer of one node; the other calls wait here.
    pub max_in_flight: usize,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Default for ClerkOptions {
    /// With sessions; attempts of 1 s, pauses up to 500 ms, 16384 calls under way, 1024 of them at
    /// one node; no endpoint.
    fn default() -> Self {
        ClerkOptions {
            endpoints: Vec::new(),
            cluster: String::new(),
            stateless: false,
            attempt_timeout: Duration::from_secs(1),
            max_pause: Duration::from_millis(500),
            max_pending: 16_384,
            max_in_flight: 1024,
            seed: 0,
        }
    }
}

/// What can happen to a clerk.
#[derive(Clone, Debug)]
pub enum Input {
    /// A caller wants something.
    Call(Call),
    /// The callers no longer wait: give the calls up without a result. In ascending order.
    Abandon(Vec<CallId>),
    /// A node has answered.
    Response {
        /// Over which link.
        from: EndpointId,
        /// What.
        response: Response,
    },
    /// A dial has succeeded and the node has introduced itself.
    LinkUp {
        /// Which endpoint.
        endpoint: EndpointId,
        /// How.
        welcome: Welcome,
    },
    /// A link broke or was closed by the other side, or a dial failed.
    LinkDown {
        /// Which endpoint.
        endpoint: EndpointId,
        /// Why, in words.
        reason: String,
    },
    /// Time has passed.
    Tick,
}

/// What is to be done. The user empties it; the clerk only adds.
#[derive(Debug, Default)]
pub struct Output {
    /// Requests to be sent, in this order. What cannot be sent is reported as a broken link.
    pub send: Vec<(EndpointId, Request)>,
    /// Addresses to be dialled, once each; the outcome is reported as `LinkUp` or `LinkDown`.
    pub dial: Vec<(EndpointId, String)>,
    /// Links to be closed without a report.
    pub close: Vec<EndpointId>,
    /// Calls that are done.
    pub done: Vec<(CallId, Outcome)>,
}

/// What the clerk knows of a group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) route: Route,
    pub(super) session: Option<Session>,
    /// Whether a session is being opened.
    pub(super) opening: bool,
    /// Whether a `KeepAlive` is under way.
    pub(super) keeping: bool,
    /// Commands that wait for a place in a session.
    pub(super) unstamped: BTreeSet<u64>,
    /// Calls that wait to be sent to the leader.
    pub(super) ready: BTreeSet<u64>,
}

/// The client's core. See the module's page for what it promises.
#[derive(Debug)]
pub struct Clerk {
    pub(super) options: ClerkOptions,
    pub(super) now: Duration,
    pub(super) rng: fastrand::Rng,
    pub(super) endpoints: Endpoints,
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// By serial number, which is the order in which they were made.
    pub(super) pending: BTreeMap<u64, Pending>,
    /// Calls that do not need a leader and wait for a link.
    pub(super) direct: BTreeSet<u64>,
    pub(super) next_serial: u64,
    /// Nothing is due before this moment; it may be too early, never too late.
    pub(super) wake: Option<Duration>,
}

impl Clerk {
    /// A clerk that knows nobody yet. Its first `Tick` dials the endpoints.
    pub fn new(options: ClerkOptions) -> Self {
        Clerk {
            now: Duration::ZERO,
            rng: fastrand::Rng::with_seed(options.seed),
            endpoints: Endpoints::new(&options.endpoints, options.max_pause, options.max_in_flight.max(1)),
            groups: BTreeMap::new(),
            pending: BTreeMap::new(),
            direct: BTreeSet::new(),
            next_serial: 1,
            wake: Some(Duration::ZERO),
            options,
        }
    }

    /// Takes an input and adds what is to be done to `out`. `now`: time since the clerk was made, from a clock that
    /// does not run backwards.
    pub fn step(&mut self, now: Duration, input: Input, out: &mut Output) {
        self.now = self.now.max(now);
        match input {
            Input::Call(call) => self.on_call(call, out),
            Input::Abandon(calls) => self.on_abandon(&calls, out),
            Input::Response { from, response } => self.on_response(from, response, out),
            Input::LinkUp { endpoint, welcome } => self.on_link_up(endpoint, &welcome, out),
            Input::LinkDown { endpoint, reason } => self.on_link_down(endpoint, reason, out),
            Input::Tick => self.on_tick(out),
        }
    }

    /// When the clerk needs its next `Tick` at the latest; `None`: only after another input. Meant for a coarse timer:
    /// the moment moves with almost every input.
    pub fn wake_at(&self) -> Option<Duration> {
        self.wake
    }

    /// The nodes known, their addresses, and whether a link to each is up.
    pub fn nodes(&self) -> Vec<(NodeId, String, bool)> {
        self.endpoints.nodes()
    }

    /// Calls under way.
    pub fn pending(&self) -> usize {
        self.pending.values().filter(|p| matches!(p.owner, Owner::Caller(_))).count()
    }

    fn on_abandon(&mut self, calls: &[CallId], out: &mut Output) {
        let given_up =
            |p: &Pending| matches!(p.owner, Owner::Caller(call) if calls.binary_search(&call).is_ok());
        let serials: Vec<u64> = self.pending.iter().filter(|(_, p)| given_up(p)).map(|(&s, _)| s).collect();
        for serial in serials {
            self.remove(serial);
        }
        self.flush_all(out);
    }

    fn on_link_up(&mut self, endpoint: EndpointId, welcome: &Welcome, out: &mut Output) {
        let expected = &self.options.cluster;
        if !expected.is_empty() && *expected != welcome.cluster {
            let reason = format!("it belongs to the cluster {:?}, not {expected:?}", welcome.cluster);
            out.close.push(endpoint);
            return self.on_link_down(endpoint, reason, out);
        }
        let closed = self.endpoints.link_up(endpoint, welcome, self.now);
        out.close.extend(closed);
        for group in self.groups.values_mut() {
            group.route.link_up(welcome.node);
        }
        self.dial(out);
        self.flush_all(out);
    }

    fn on_link_down(&mut self, endpoint: EndpointId, reason: String, out: &mut Output) {
        self.endpoints.link_down(endpoint, reason, self.now, &mut self.rng);
        let pause = self.options.max_pause;
        for group in self.groups.values_mut() {
            group.route.lost(endpoint, None, self.now, (pause, &mut self.rng));
        }
        let lost = |p: &Pending| matches!(p.state, State::Sent { to, .. } if to == endpoint);
        let serials: Vec<u64> = self.pending.iter().filter(|(_, p)| lost(p)).map(|(&s, _)| s).collect();
        for serial in serials {
            if let Some(group) = self.pending.get(&serial).and_then(|p| self.groups.get_mut(&p.group)) {
                group.route.lost(endpoint, Some(serial), self.now, (pause, &mut self.rng));
            }
            self.attempt_lost(serial, Obstacle::LinkLost(endpoint), out);
        }
        self.dial(out);
        self.flush_all(out);
    }

    fn on_tick(&mut self, out: &mut Output) {
        if self.wake.is_none_or(|wake| self.now < wake) {
            return;
        }
        self.wake = None;
        self.dial(out);
        let mut due = Vec::new();
        for (&serial, pending) in &self.pending {
            match pending.due(self.options.attempt_timeout) {
                Some(at) if at <= self.now => due.push(serial),
                Some(at) => self.wake = Some(self.wake.map_or(at, |wake| wake.min(at))),
                None => {}
            }
        }
        for serial in due {
            self.on_due(serial, out);
        }
        self.flush_all(out);
    }

    /// The call's deadline, the time of its attempt, or its pause is over.
    fn on_due(&mut self, serial: u64, out: &mut Output) {
        let Some(pending) = self.pending.get_mut(&serial) else { return };
        if pending.deadline.is_some_and(|deadline| deadline <= self.now) {
            let maybe = pending.may_take_effect();
            let cause = self.cause(serial);
            return self.finish(serial, Err(ClerkError::Timeout { maybe, cause }), out);
        }
        match pending.state {
            State::Sent { to, at } => {
                let timeout = self.options.attempt_timeout;
                let group = self.groups.entry(pending.group).or_default();
                if !group.route.heard_since(to, at) {
                    let times = (self.now, self.now + timeout);
                    group.route.hung(to, serial, times, (self.options.max_pause, &mut self.rng));
                    self.stop_waiting_for(to, out);
                }
                self.attempt_lost(serial, Obstacle::Silence(to), out);
            }
            State::Pausing { .. } => self.enqueue(serial, out),
            State::Unstamped | State::Ready => {}
        }
    }

    /// A node hangs: questions that it may keep for long are not left with it.
    fn stop_waiting_for(&mut self, node: EndpointId, out: &mut Output) {
        let kept =
            |p: &Pending| matches!(p.state, State::Sent { to, .. } if to == node) && p.kept > Duration::ZERO;
        let serials: Vec<u64> = self.pending.iter().filter(|(_, p)| kept(p)).map(|(&s, _)| s).collect();
        for serial in serials {
            self.attempt_lost(serial, Obstacle::Silence(node), out);
        }
    }

    /// What stands in the way of a call, in words.
    fn cause(&self, serial: u64) -> String {
        let Some(pending) = self.pending.get(&serial) else { return String::new() };
        let name = |id: EndpointId| match self.endpoints.node(id) {
            Some(node) => node.to_string(),
            None => "the node".to_owned(),
        };
        let sent_to = match pending.state {
            State::Sent { to, .. } => Some(to),
            _ => None,
        };
        if self.endpoints.up().next().is_none() {
            return self.endpoints.trouble();
        }
        match (&pending.obstacle, sent_to, pending.op.lane()) {
            (_, Some(to), _) => format!("{} has not answered yet", name(to)),
            (_, _, Lane::Node(node)) if self.endpoints.of_node(node).is_none() => {
                format!("{node} cannot be reached")
            }
            (Obstacle::None, ..) => format!("no leader of {} was found", pending.group),
            (Obstacle::NotLeader(id), ..) => {
                format!("{} has no leader that can be reached ({} does not lead)", pending.group, name(*id))
            }
            (Obstacle::Busy(limit), ..) => format!("the server is at its limit of {limit}"),
            (Obstacle::Deposed(id), ..) => format!("{} has lost its leadership", name(*id)),
            (Obstacle::LinkLost(id), ..) => format!("the link to {} broke", name(*id)),
            (Obstacle::Silence(id), ..) => format!("{} did not answer", name(*id)),
        }
    }

    pub(super) fn dial(&mut self, out: &mut Output) {
        self.endpoints.dials(self.now, &mut out.dial);
        if let Some(at) = self.endpoints.next_dial() {
            self.wake_by(at);
        }
    }

    /// The next `Tick` must not come later than `at`.
    pub(super) fn wake_by(&mut self, at: Duration) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}
