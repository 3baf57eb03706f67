//! Random histories: a model of a replicated store behind links that break, nodes that hang, leaders that change while
//! commands are under way, copies that arrive late, and sessions that expire.
//!
//! Every change carries a token of its own, so the number of times it took effect can be counted in the end and held
//! against what its caller was told.

use std::collections::BTreeMap;

use super::super::*;
use super::rig::*;
use crate::logic::ids::NodeId;
use crate::logic::kv::command::{
    Change, Changed, Command, Expect, KvError, Lifetime, Outcome as Executed, Reply, SessionId, Stamp,
    Version,
};
use crate::messages::client::{Answer, Request, RequestBody, Response, ServerError};

const WINDOW: u32 = 8;

#[derive(Default)]
struct Machine {
    index: u64,
    version: Version,
    effects: Vec<u64>,
    sessions: BTreeMap<SessionId, Kept>,
}

/// A session of the machine.
#[derive(Default)]
struct Kept {
    acked_below: u64,
    replies: BTreeMap<u64, Executed>,
}

impl Machine {
    fn execute(&mut self, stamp: Option<Stamp>, command: &Command) -> Executed {
        self.index += 1;
        let Some(stamp) = stamp else { return self.apply(command) };
        let session = self.sessions.get_mut(&stamp.session).ok_or(KvError::SessionExpired)?;
        session.acked_below = session.acked_below.max(stamp.acked_below);
        session.replies = session.replies.split_off(&session.acked_below);
        if stamp.seq < session.acked_below {
            return Err(KvError::Duplicate);
        }
        if let Some(reply) = session.replies.get(&stamp.seq) {
            return reply.clone();
        }
        assert!(session.replies.len() < WINDOW as usize, "the clerk has overrun the window");
        let reply = self.apply(command);
        if let Some(session) = self.sessions.get_mut(&stamp.session) {
            session.replies.insert(stamp.seq, reply.clone());
        }
        reply
    }

    fn apply(&mut self, command: &Command) -> Executed {
        let (value, expect) = match command {
            Command::OpenSession => {
                let session = SessionId { group: GROUP, index: self.index };
                self.sessions.insert(session, Kept::default());
                return Ok(Reply::Session { session, ttl_ms: 3000, window: WINDOW });
            }
            Command::Change(Change::Put { value, expect, .. } | Change::Append { value, expect, .. }) => {
                (value, expect)
            }
            _ => return Ok(Reply::Done),
        };
        match *expect {
            Expect::Version(v) if v > 0 && self.version == 0 => return Err(KvError::NoKey),
            Expect::Version(v) if v != self.version => return Err(KvError::Version { actual: self.version }),
            _ => {}
        }
        self.version += 1;
        self.effects.push(token(value));
        Ok(Reply::Changed(Changed::Version(self.version)))
    }
}

fn token(value: &[u8]) -> u64 {
    std::str::from_utf8(value).expect("a token").parse().expect("a number")
}

enum Event {
    LinkUp(u64),
    Arrives { node: u64, epoch: u64, request: Request },
    Commits { node: u64, epoch: u64, term: u64, request: Request },
    Executes { request: Request },
    Answers { node: u64, epoch: u64, response: Response },
}

struct World {
    rig: Rig,
    rng: fastrand::Rng,
    machine: Machine,
    queue: BTreeMap<(u64, u64), Event>,
    count: u64,
    /// Of each node: number of its link, whether it is up, and until when it hangs.
    links: [(u64, bool, u64); 4],
    leader: Option<u64>,
    term: u64,
    expiries: u32,
    stateless: bool,
    calm: bool,
    results: BTreeMap<u64, Outcome>,
}

impl World {
    fn new(seed: u64, stateless: bool) -> Self {
        let options = ClerkOptions { stateless, seed, ..Default::default() };
        World {
            rig: Rig::new(options),
            rng: fastrand::Rng::with_seed(seed),
            machine: Machine::default(),
            queue: BTreeMap::new(),
            count: 0,
            links: [(0, false, 0); 4],
            leader: Some(1),
            term: 1,
            expiries: 0,
            stateless,
            calm: false,
            results: BTreeMap::new(),
        }
    }

    fn time(&self) -> u64 {
        self.rig.now.as_millis() as u64
    }

    fn push(&mut self, delay: u64, event: Event) {
        self.count += 1;
        self.queue.insert((self.time() + delay, self.count), event);
    }

    /// One in `n`, and never when all is calm.
    fn chance(&mut self, n: u32) -> bool {
        !self.calm && self.rng.u32(0..n) == 0
    }

    /// A millisecond passes.
    fn step(&mut self) {
        self.rig.now += ms(1);
        self.trouble();
        let time = self.time();
        while let Some(entry) = self.queue.first_entry()
            && entry.key().0 <= time
        {
            let event = entry.remove();
            self.happen(event);
        }
        if time.is_multiple_of(5) {
            self.rig.step(Input::Tick);
        }
        self.carry();
    }

    fn trouble(&mut self) {
        let node = self.rng.u64(1..=3);
        if self.chance(400) {
            self.break_link(node);
        }
        if self.chance(1500) {
            self.links[node as usize].2 = self.time() + self.rng.u64(100..3000);
        }
        if self.chance(300) {
            self.leader = None;
            self.term += 1;
        }
        if self.leader.is_none() && self.rng.u32(0..100) == 0 {
            self.leader = Some(node);
        }
        if self.expiries > 0 && self.chance(700) {
            self.machine.sessions.clear();
        }
    }

    fn break_link(&mut self, node: u64) {
        let link = &mut self.links[node as usize];
        if std::mem::replace(&mut link.1, false) {
            self.rig.down(node);
        }
    }

    /// Takes what the clerk wants done.
    fn carry(&mut self) {
        for (node, request) in self.rig.sent() {
            let epoch = self.links[node as usize].0;
            assert!(self.links[node as usize].1, "sent over a link that is down");
            let delay = self.rng.u64(0..8);
            self.push(delay, Event::Arrives { node, epoch, request });
        }
        for node in 1..=3 {
            let link = &mut self.links[node as usize];
            let waits = self.queue.values().any(|e| matches!(e, Event::LinkUp(n) if *n == node));
            if !link.1 && !waits {
                let delay = self.rng.u64(1..60);
                self.push(delay, Event::LinkUp(node));
            }
        }
        for (id, outcome) in self.rig.results() {
            assert!(self.results.insert(id, outcome).is_none(), "call {id} ended twice");
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::LinkUp(node) => {
                let link = &mut self.links[node as usize];
                (link.0, link.1) = (link.0 + 1, true);
                self.rig.up(node);
            }
            Event::Arrives { node, epoch, request } => self.arrive(node, epoch, request),
            Event::Commits { node, epoch, term, request } => {
                if term == self.term {
                    let result = self.execute(&request);
                    self.reply(node, epoch, request.id, result);
                } else {
                    // The entry of a deposed leader: lost, or committed by the next one, perhaps much later.
                    self.reply(node, epoch, request.id, Err(ServerError::Unknown));
                    if self.rng.bool() {
                        let delay = self.rng.u64(0..400);
                        self.push(delay, Event::Executes { request });
                    }
                }
            }
            Event::Executes { request } => drop(self.execute(&request)),
            Event::Answers { node, epoch, response } => {
                let (current, up, _) = self.links[node as usize];
                if current == epoch && up {
                    let from = self.rig.endpoint(node);
                    self.rig.step(Input::Response { from, response });
                }
            }
        }
    }

    fn arrive(&mut self, node: u64, epoch: u64, request: Request) {
        let (_, _, hangs) = self.links[node as usize];
        if hangs > self.time() {
            let delay = hangs - self.time();
            return self.push(delay, Event::Arrives { node, epoch, request });
        }
        // A broken link: what was on its way may have arrived.
        if self.links[node as usize].0 != epoch && self.rng.bool() {
            return;
        }
        if self.leader != Some(node) {
            let lie = NodeId(self.rng.u64(1..=4));
            let leader = if self.chance(4) { Some(lie) } else { self.leader.map(NodeId) };
            return self.reply(node, epoch, request.id, Err(ServerError::NotLeader { leader }));
        }
        if self.chance(20) {
            let busy = ServerError::Busy { limit: "max_pending".into() };
            return self.reply(node, epoch, request.id, Err(busy));
        }
        if !self.stateless && self.chance(10) {
            // Sessions stand even copies that come by another way.
            let delay = self.rng.u64(0..3000);
            self.push(delay, Event::Executes { request: request.clone() });
        }
        let delay = self.rng.u64(1..10);
        self.push(delay, Event::Commits { node, epoch, term: self.term, request });
    }

    fn execute(&mut self, request: &Request) -> Result<Answer, ServerError> {
        match &request.body {
            RequestBody::Write { stamp, command } => {
                self.machine.execute(*stamp, command).map(Answer::Kv).map_err(ServerError::Refused)
            }
            _ => refused(KvError::NoKey),
        }
    }

    fn reply(&mut self, node: u64, epoch: u64, id: u64, result: Result<Answer, ServerError>) {
        let delay = self.rng.u64(0..8);
        self.push(delay, Event::Answers { node, epoch, response: Response { id, result } });
    }

    /// Makes `calls` calls in troubled times, then lets things calm down; afterwards each has ended.
    fn run(&mut self, calls: u64) {
        let mut id = 0;
        while id < calls {
            self.step();
            while id < calls && self.rng.u32(0..4) == 0 {
                id += 1;
                let deadline = (self.rng.u32(0..3) == 0).then(|| ms(self.rng.u64(5..2000)));
                let op = self.change(id);
                self.rig.call(id, op, deadline);
            }
            self.carry();
        }
        self.calm = true;
        for _ in 0..20_000 {
            if self.results.len() as u64 == calls && self.queue.is_empty() {
                break;
            }
            self.step();
        }
        assert_eq!(self.results.len() as u64, calls, "every call ends once the network is calm");
    }

    fn change(&mut self, id: u64) -> Op {
        let value = key(&id.to_string());
        let near = (self.machine.version + self.rng.u64(0..2)).saturating_sub(self.rng.u64(0..2));
        let expect = if self.rng.u32(0..3) == 0 { Expect::Any } else { Expect::Version(near) };
        let change = if self.rng.bool() || expect == Expect::Any {
            Change::Append { key: key("k"), value, expect }
        } else {
            Change::Put { key: key("k"), value, expect, lifetime: Lifetime::Forever }
        };
        Op::Write(Command::Change(change))
    }

    /// Holds what callers were told against what happened.
    fn check(&self, seed: u64) -> (u32, u32) {
        let (mut ok, mut maybe) = (0, 0);
        for (id, outcome) in &self.results {
            let effects = self.machine.effects.iter().filter(|&token| token == id).count();
            match outcome {
                Ok(_) => {
                    ok += 1;
                    assert_eq!(effects, 1, "seed {seed}, call {id}: told Ok");
                }
                Err(error) if error.is_maybe() => {
                    maybe += u32::from(*error == ClerkError::Maybe);
                    assert!(effects <= 1, "seed {seed}, call {id}: {effects} effects");
                }
                Err(error) => assert_eq!(effects, 0, "seed {seed}, call {id}: told {error}"),
            }
        }
        (ok, maybe)
    }
}

fn histories(seeds: std::ops::Range<u64>, stateless: bool, expiries: bool) -> (u32, u32) {
    let mut sums = (0, 0);
    for seed in seeds {
        let mut world = World::new(seed, stateless);
        world.expiries = u32::from(expiries);
        world.run(300);
        let (ok, maybe) = world.check(seed);
        sums = (sums.0 + ok, sums.1 + maybe);
    }
    sums
}

#[test]
fn with_a_session_everything_happens_exactly_once() {
    let (ok, maybe) = histories(0..300, false, false);
    assert!(ok > 10_000, "{ok}");
    assert_eq!(maybe, 0, "no session was lost, so nobody may be told `Maybe`");
}

#[test]
fn lost_sessions_leave_only_honest_doubt() {
    let (ok, maybe) = histories(1000..1300, false, true);
    assert!(ok > 10_000 && maybe > 0, "{ok} {maybe}");
}

#[test]
fn without_a_session_nothing_happens_twice_and_doubt_is_told() {
    let (ok, maybe) = histories(2000..2300, true, false);
    assert!(ok > 10_000 && maybe > 0, "{ok} {maybe}");
}
