//! The virtual world of a scenario: servers with the real core, slow disks, the lab's network, and one queue of events.
//! Everything follows from the seed.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use quorate::logic::ids::NodeId;
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::Envelope;
use quorate::logic::raft::{Config, Input, Output};

use crate::network::{Fate, Network};
use crate::raft_cluster::Cluster;
use crate::server::{Server, Service};

/// Number of a task of the scenario.
pub type TaskId = usize;

/// Something that will happen.
enum Event {
    /// A request or a reply arrives, if neither side was restarted meanwhile.
    Arrival { envelope: Envelope, lives: (u32, u32) },
    /// A call returns without a reply: its caller learns that the other side cannot be reached.
    Failure { caller: NodeId, life: u32, peer: NodeId },
    /// A disk has finished its sync.
    Synced { server: usize, life: u32 },
    /// A task of the scenario has slept enough.
    Wake(TaskId),
}

struct Scheduled {
    at: Duration,
    number: u64,
    event: Event,
}

impl Ord for Scheduled {
    /// The earliest is the greatest; of those at the same time, the first that was scheduled.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

/// See the module.
pub struct World {
    pub now: Duration,
    pub rng: Rng,
    pub cluster: Cluster<Service>,
    pub servers: Vec<Server>,
    pub network: Network,
    /// Whether services take snapshots.
    snapshots: bool,
    events: BinaryHeap<Scheduled>,
    scheduled: u64,
}

/// The node that is server `at` of the course, which counts from 0.
pub fn node(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

pub fn server(node: NodeId) -> usize {
    node.0 as usize - 1
}

impl World {
    /// `count` servers, all connected. `snapshots`: the service takes one after every tenth command.
    pub fn new(seed: u64, count: usize, snapshots: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let voters = Membership::of_voters((0..count).map(node));
        // A lease makes restarted voters loyal to a leader they have forgotten; the lab must be passed with and without.
        let leases = rng.bool();
        let cluster = Cluster::new((0..count).map(|at| node(at).0), voters, |config: &mut Config| {
            config.seed = seed.wrapping_mul(31).wrapping_add(config.id.0);
            config.lease = leases.then_some(Duration::from_millis(250));
            if snapshots {
                // The product keeps entries behind a snapshot for followers that are a little late. The lab's limit on
                // the stored log leaves no room for that.
                config.keep_entries = 0;
            }
        });
        let mut world = World {
            now: Duration::ZERO,
            network: Network::new(count),
            servers: (0..count).map(|_| Server::default()).collect(),
            cluster,
            snapshots,
            events: BinaryHeap::new(),
            scheduled: 0,
            rng,
        };
        (0..count).for_each(|at| world.started(at));
        world
    }

    pub fn wake_at(&mut self, at: Duration, task: TaskId) {
        self.schedule(at, Event::Wake(task));
    }

    fn schedule(&mut self, at: Duration, event: Event) {
        self.scheduled += 1;
        self.events.push(Scheduled { at, number: self.scheduled, event });
    }

    /// The next thing happens. Returns the task that is to go on, if it is one.
    pub fn advance(&mut self) -> Option<TaskId> {
        let timers = self.servers.iter().enumerate().filter_map(|(at, server)| Some((server.timer?, at)));
        let timer = timers.min();
        let next = self.events.peek().map(|event| event.at);
        if let Some((at, server)) = timer.filter(|(at, _)| next.is_none_or(|next| *at < next)) {
            self.now = at;
            self.tell(server, None);
            return None;
        }
        let Scheduled { at, event, .. } = self.events.pop().expect("a task waits for a time to come");
        self.now = at;
        match event {
            Event::Wake(task) => return Some(task),
            Event::Arrival { envelope, lives } => self.arrive(envelope, lives),
            Event::Failure { caller, life, peer } => {
                if self.life(caller) == Some(life) {
                    self.tell(server(caller), Some(Input::PeerUnreachable { node: peer }));
                }
            }
            Event::Synced { server, life } => self.synced(server, life),
        }
        None
    }

    /// The life of a running server.
    fn life(&self, id: NodeId) -> Option<u32> {
        let node = self.cluster.node(id);
        node.raft.is_some().then_some(node.life)
    }

    /// Tells a server the time and perhaps something else, and does what it says.
    pub fn tell(&mut self, at: usize, input: Option<Input>) -> Output {
        if !self.is_up(at) {
            return Output::default();
        }
        let id = node(at);
        let elapsed = self.now - std::mem::replace(&mut self.servers[at].told, self.now);
        self.cluster.step(id, Input::Tick { elapsed });
        if let Some(input) = input {
            self.cluster.step(id, input);
        }
        let output = self.cluster.flush(id);
        self.servers[at].follow_log(&output, self.cluster.node_mut(id));
        self.servers[at].deliver(&output, &self.cluster.nodes[&id].machine);
        for frozen in std::mem::take(&mut self.cluster.node_mut(id).machine.frozen) {
            self.cluster.write_snapshot(id, frozen);
        }
        if !output.snapshot_wanted.is_empty() {
            self.tell(at, None);
        }
        self.transmit();
        self.write(at);
        self.servers[at].timer =
            self.cluster.node(id).raft.as_ref().map(|raft| self.now + raft.until_timer());
        output
    }

    /// A disk that does nothing begins to sync all that waits.
    fn write(&mut self, at: usize) {
        let node = self.cluster.node(node(at));
        let (waiting, life) = (node.writing.len(), node.life);
        let server = &mut self.servers[at];
        if server.syncing > 0 || waiting == 0 {
            return;
        }
        server.syncing = waiting;
        // Mostly a fast disk, sometimes one that is busy elsewhere.
        let slow = self.rng.u8(0..50) == 0;
        let micros = if slow { self.rng.u64(2_000..30_000) } else { self.rng.u64(100..2_000) };
        self.schedule(self.now + Duration::from_micros(micros), Event::Synced { server: at, life });
    }

    fn synced(&mut self, at: usize, life: u32) {
        if self.life(node(at)) == Some(life) {
            for _ in 0..std::mem::take(&mut self.servers[at].syncing) {
                self.cluster.persist_one(node(at));
            }
            self.tell(at, None);
        }
    }

    /// Hands what servers have sent to the network.
    fn transmit(&mut self) {
        while let Some(envelope) = self.cluster.network.pop_front() {
            let (from, to) = (server(envelope.from), server(envelope.to));
            let lives = (self.cluster.node(envelope.from).life, self.cluster.node(envelope.to).life);
            let is_up = self.cluster.is_up(envelope.to);
            let (caller, callee) = if Network::is_request(&envelope.body) { (from, to) } else { (to, from) };
            match self.network.fate(&mut self.rng, &envelope, is_up) {
                Fate::Arrives { after } => {
                    self.schedule(self.now + after, Event::Arrival { envelope, lives })
                }
                Fate::Fails { after } => {
                    let life = self.cluster.node(node(caller)).life;
                    let failure = Event::Failure { caller: node(caller), life, peer: node(callee) };
                    self.schedule(self.now + after, failure);
                }
            }
        }
    }

    fn arrive(&mut self, envelope: Envelope, (from_life, to_life): (u32, u32)) {
        let Envelope { from, to, .. } = envelope;
        if self.life(to) != Some(to_life) {
            // The caller notices within 100 ms that the server it spoke to is gone.
            let after = Duration::from_millis(self.rng.u64(0..100));
            if Network::is_request(&envelope.body) {
                self.schedule(self.now + after, Event::Failure { caller: from, life: from_life, peer: to });
            }
            return;
        }
        self.network.arrived(&envelope);
        self.tell(server(to), Some(Input::Message(envelope)));
    }

    pub fn is_up(&self, at: usize) -> bool {
        self.cluster.is_up(node(at))
    }

    /// The server's process dies. A sync that was under way may have reached the disk, in part or as a whole.
    pub fn crash(&mut self, at: usize) {
        let syncing = std::mem::take(&mut self.servers[at].syncing);
        if self.is_up(at) && self.rng.bool() {
            for _ in 0..self.rng.usize(0..=syncing) {
                self.cluster.persist_one(node(at));
            }
        }
        self.cluster.crash(node(at));
        self.servers[at].timer = None;
    }

    /// It starts again from its disk.
    pub fn restart(&mut self, at: usize) {
        self.crash(at);
        self.cluster.restart(node(at));
        self.started(at);
    }

    fn started(&mut self, at: usize) {
        self.cluster.node_mut(node(at)).machine.snapshots = self.snapshots;
        self.servers[at].started(&self.cluster.nodes[&node(at)], self.now);
        self.tell(at, None);
    }

    /// What each server holds, for the report of a failure.
    pub fn picture(&self) -> String {
        let line = |(at, server): (usize, &Server)| {
            let state = self.cluster.node(node(at)).raft.as_ref().map_or("down".to_string(), |raft| {
                let status = raft.status();
                let (role, term) = (status.role, status.hard_state.term);
                format!(
                    "{role:?} of term {term}, log {} to {}, committed {}",
                    status.base, status.last, status.commit
                )
            });
            let link = if self.network.connected[at] { "connected" } else { "cut off" };
            format!("  server {at} ({link}): {state}; applied {} commands\n", server.applied)
        };
        self.servers.iter().enumerate().map(line).collect()
    }
}
