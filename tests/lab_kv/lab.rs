//! The lab: a simulated cluster with the course's network, crashes and partitions, and the history of its clients.
//!
//! How the course's network (`labrpc`) is mapped. Its unit is a call that ends in true or false; here it is a packet on
//! a connection that may break.
//!
//! | the course | here |
//! |---|---|
//! | a call takes next to no time | every packet takes up to 5 ms on the first seed, and up to something from 5 to 50 ms on others where the network is reliable and speed is not asked for, so that seeds differ in how much is under way at once |
//! | unreliable: 0 to 26 ms late, calls overtake each other | between nodes the same, packet by packet; between client and node in order |
//! | unreliable: 10 % of requests and of replies are lost, and the caller learns it at once | between nodes 10 % of the packets are lost, and nobody learns it. A client's connections break every 160 ms on the average, which loses what is under way in both directions, and the client learns it at once |
//! | an end that is switched off, or a dead server: the call fails after 0 to 99 ms | a way that is cut holds everything back until it is healed: nobody learns it but by his own clock. A dead server refuses connections |
//! | a crash keeps the two byte strings of the persister | the machine loses its power, and with it whatever was not synced |
//! | `maxraftstate` | a snapshot after so many bytes of log, and no entry is kept beyond it |

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use quorate::logic::ids::NodeId;
use quorate::logic::kv::command::{Change, Changed, Expect, Version};
use quorate::logic::verify::{self, Action, Answer, Model, Operation};
use quorate::sim::{Cluster, ClusterOptions, SimClient};
use quorate::{Client, Error};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep};

/// The tester's "an election has certainly had time to finish".
pub const E: Duration = Duration::from_secs(1);
/// Longest time that a packet takes on a quick network.
const QUICK: Duration = Duration::from_millis(5);
/// Longest time, in milliseconds, that a packet takes on the slowest of the others.
const SLOWEST: u64 = 50;
/// Longest time that an unreliable network adds.
const LATE: Duration = Duration::from_millis(26);
/// Share of packets that an unreliable network loses, in thousandths.
const LOSS: u16 = 100;
/// Longest time between two breaks of a client's connection.
const BREAK: u64 = 320;
/// How many bytes an entry of these scenarios takes in the log at most, its frame included.
const ENTRY_BYTES: u64 = 80;

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Copy)]
pub struct Setup {
    pub servers: u64,
    pub reliable: bool,
    /// Nothing is slow on any seed: for scenarios that ask for speed.
    pub quick: bool,
    /// Bytes of log after which a snapshot is taken; none: never.
    pub max_raft_state: Option<u64>,
}

pub struct Lab {
    pub cluster: Cluster,
    pub setup: Setup,
    /// Longest time that a packet takes.
    latency: Duration,
    random: RefCell<fastrand::Rng>,
    hosts: RefCell<BTreeSet<String>>,
    events: Cell<u64>,
    history: RefCell<Vec<Operation>>,
    asker: RefCell<Option<Rc<Clerk>>>,
    /// Those who live as long as the run.
    kept: RefCell<Vec<Rc<Clerk>>>,
    started: Instant,
}

/// Tells tasks to come to an end.
#[derive(Clone, Default)]
pub struct Stop(Rc<Cell<bool>>);

impl Stop {
    pub fn now(&self) {
        self.0.set(true);
    }

    pub fn is_set(&self) -> bool {
        self.0.get()
    }
}

/// Longest time that a packet takes on this seed.
fn latency(seed: u64, setup: Setup) -> Duration {
    if seed == 0 || setup.quick || !setup.reliable {
        return QUICK;
    }
    ms(fastrand::Rng::with_seed(!seed).u64(QUICK.as_millis() as u64..=SLOWEST))
}

impl Lab {
    /// Starts the servers and waits for a leader.
    pub async fn start(seed: u64, setup: Setup) -> Rc<Lab> {
        let started = Instant::now();
        let mut options = ClusterOptions::new(seed, setup.servers);
        options.config.storage.snapshot_after_log_bytes = setup.max_raft_state.unwrap_or(u64::MAX);
        // An old segment in the way is a reason for a snapshot, too: here all of a run fits into the first.
        options.config.storage.segment_bytes = 8 << 20;
        options.config.storage.keep_log_entries = 0;
        options.config.storage.keep_log_bytes = 0;
        let lab = Rc::new(Lab {
            cluster: Cluster::start(options),
            setup,
            latency: latency(seed, setup),
            random: RefCell::new(fastrand::Rng::with_seed(seed)),
            hosts: RefCell::default(),
            events: Cell::new(0),
            history: RefCell::default(),
            asker: RefCell::default(),
            kept: RefCell::default(),
            started,
        });
        let nodes = lab.nodes();
        for from in &nodes {
            for to in nodes.iter().filter(|to| *to != from) {
                lab.cluster.delay(*from, *to, Duration::ZERO..=lab.latency);
            }
        }
        if !setup.reliable {
            let weak = Rc::downgrade(&lab);
            spawn_local(async move {
                while let Some(lab) = weak.upgrade() {
                    lab.disturb();
                    drop(lab);
                    sleep(ms(10)).await;
                }
            });
        }
        lab.leader().await;
        let asker = lab.clerk().await;
        *lab.asker.borrow_mut() = Some(asker);
        lab
    }

    /// The run is over: all promises have held. Returns how long it took.
    pub fn finish(&self) -> Duration {
        assert_eq!(self.cluster.watch().violations(), []);
        self.started.elapsed()
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.cluster.nodes()
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().u64(0..bound)
    }

    /// An unreliable network. A process that was started again begins without faults.
    fn disturb(&self) {
        for from in self.nodes() {
            for to in self.nodes() {
                if let Some(faults) = self.cluster.link_faults(from, to) {
                    faults.set_drop_permille(LOSS);
                    faults.set_scatter_ms(LATE.as_millis() as u64);
                }
            }
        }
    }

    /// The leader that everybody who runs follows. There must be one within 5 s of any disturbance.
    pub async fn leader(&self) -> NodeId {
        let mut found = self.cluster.wait_for_leader(5 * E).await;
        if found.is_err() && !self.setup.reliable {
            // One in ten packets is lost: somebody may always be about to follow. That some leader serves is enough.
            found = self.cluster.leader().ok_or_else(|| "there is no leader".to_owned());
        }
        found.expect("a leader")
    }

    // --- faults ---

    /// Everybody on the one side and on the other is connected, and nobody across.
    pub fn partition(&self, one: &[NodeId], other: &[NodeId]) {
        self.connect_all();
        self.cluster.partition(one, other, true);
    }

    pub fn connect_all(&self) {
        let nodes = self.nodes();
        self.cluster.partition(&nodes, &nodes, false);
    }

    /// Cuts a server off from the other servers, or joins it.
    pub fn cut(&self, server: NodeId, cut: bool) {
        self.cluster.isolate(server, cut);
    }

    /// A majority without the leader, and a minority with it.
    pub async fn make_partition(&self) -> (Vec<NodeId>, Vec<NodeId>) {
        let leader = self.leader().await;
        let others: Vec<NodeId> = self.nodes().into_iter().filter(|node| *node != leader).collect();
        let (majority, rest) = others.split_at(self.nodes().len() / 2 + 1);
        (majority.to_vec(), [rest, &[leader]].concat())
    }

    /// Every server is on a random side, anew each second.
    pub fn start_partitioner(self: &Rc<Self>, stop: Stop) -> JoinHandle<()> {
        let lab = self.clone();
        spawn_local(async move {
            while !stop.is_set() {
                let (one, other): (Vec<_>, Vec<_>) = lab.nodes().iter().partition(|_| lab.below(2) == 0);
                lab.partition(&one, &other);
                sleep(ms(1000 + lab.below(200))).await;
            }
        })
    }

    pub fn crash_all(&self) {
        self.nodes().into_iter().for_each(|node| self.cluster.lose_power(node));
    }

    pub fn restart_all(&self) {
        self.nodes().into_iter().for_each(|node| self.cluster.start_node(node));
    }

    // --- clients ---

    /// A clerk as the course's: the servers keep nothing for it, and it tries for ever.
    pub async fn clerk(self: &Rc<Self>) -> Rc<Clerk> {
        self.new_clerk(true, &self.nodes()).await
    }

    /// One with a session: what it asks for takes effect exactly once.
    pub async fn session(self: &Rc<Self>) -> Rc<Clerk> {
        self.new_clerk(false, &self.nodes()).await
    }

    /// A clerk that reaches these servers only.
    pub async fn new_clerk(self: &Rc<Self>, stateless: bool, servers: &[NodeId]) -> Rc<Clerk> {
        let number = self.hosts.borrow().len() as u64;
        let host = format!("c{number}");
        self.hosts.borrow_mut().insert(host.clone());
        self.set_client_delay(&host);
        let adjust = |options: &mut quorate::ClientOptions| {
            options.stateless = stateless;
            options.deadline = None;
        };
        let client = self.cluster.client(&host, adjust).await.expect("a client starts");
        let clerk = Rc::new(Clerk { lab: Rc::downgrade(self), number, host, client });
        clerk.reach(servers);
        if !self.setup.reliable {
            self.break_now_and_then(&clerk);
        }
        clerk
    }

    pub fn set_client_delay(&self, host: &str) {
        let longest = if self.setup.reliable { self.latency } else { self.latency + LATE };
        for node in self.nodes() {
            let node = node.to_string();
            self.cluster.network().set_delay(host, &node, Duration::ZERO..=longest);
            self.cluster.network().set_delay(&node, host, Duration::ZERO..=longest);
        }
    }

    fn break_now_and_then(self: &Rc<Self>, clerk: &Rc<Clerk>) {
        let (lab, clerk) = (Rc::downgrade(self), Rc::downgrade(clerk));
        spawn_local(async move {
            while let (Some(lab), Some(clerk)) = (lab.upgrade(), clerk.upgrade()) {
                let leader = lab.cluster.leader().unwrap_or(NodeId(1));
                lab.cluster.network().break_connections(&clerk.host, &leader.to_string());
                let pause = lab.below(BREAK);
                drop((lab, clerk));
                sleep(ms(pause)).await;
            }
        });
    }

    /// The clerk of the tester.
    pub fn asker(&self) -> Rc<Clerk> {
        self.asker.borrow().clone().expect("it was made at the start")
    }

    /// Lets a clerk live as long as the run: a client that is dropped goes off at once, with all that it holds.
    pub fn keep(&self, clerk: Rc<Clerk>) {
        self.kept.borrow_mut().push(clerk);
    }

    /// Starts so many clients with clerks of their own, and tells them to stop after some time.
    pub async fn spawn<T: 'static, F: Future<Output = T> + 'static>(
        self: &Rc<Self>,
        clients: u32,
        time: Duration,
        session: bool,
        client: impl Fn(Rc<Clerk>, Stop) -> F,
    ) -> Vec<T> {
        let stop = Stop::default();
        let mut running = Vec::new();
        for _ in 0..clients {
            let clerk = self.new_clerk(!session, &self.nodes()).await;
            running.push(spawn_local(client(clerk, stop.clone())));
        }
        sleep(time).await;
        stop.now();
        let mut results = Vec::new();
        for client in running {
            results.push(client.await.expect("a client runs to its end"));
        }
        results
    }

    // --- the history ---

    pub fn event(&self) -> u64 {
        self.events.replace(self.events.get() + 1)
    }

    fn record(&self, client: u64, call: u64, action: Action, answer: Answer) {
        let returned = self.event();
        self.history.borrow_mut().push(Operation { client, call, returned, action, answer });
    }

    /// What the clients were told can be the work of one store.
    pub fn check_linearizable(&self, model: Model) {
        let history = self.history.borrow().clone();
        let report = verify::check(model, history, verify::DEFAULT_BUDGET).expect("a history of the model");
        assert!(report.is_linearizable(), "{report:#?}");
    }

    // --- snapshots ---

    /// The longest log of a server, in bytes: entries behind its newest snapshot, each as long as the longest here.
    pub async fn log_bytes(&self, servers: &[NodeId]) -> u64 {
        let mut longest = 0;
        for node in servers {
            let asker = self.asker();
            let status = asker.client.status(*node).await.expect("a server tells its state");
            longest = longest.max(status.groups[0].last - status.groups[0].snapshot);
        }
        longest * ENTRY_BYTES
    }

    /// The largest snapshot file of a server, in bytes.
    pub fn snapshot_bytes(&self) -> u64 {
        let files = |node: NodeId| self.cluster.machine(node).snapshots.files();
        self.nodes().into_iter().flat_map(files).map(|(_, bytes)| bytes).max().unwrap_or(0)
    }

    /// With snapshots the log stays below 8 times the limit; without, there are none. A state that is larger than the
    /// limit stands in its place: a snapshot is due when the log has grown by as much as the state has, so that
    /// snapshots at most double what is written. (The course's servers write all of their state every 1000 bytes.)
    pub async fn check_sizes(&self) {
        match self.setup.max_raft_state {
            Some(limit) => {
                let bytes = self.log_bytes(&self.nodes()).await;
                let state = self.snapshot_bytes();
                assert!(bytes <= 8 * limit.max(state), "the log has {bytes} bytes, the state {state}");
            }
            None => assert_eq!(self.snapshot_bytes(), 0, "a snapshot, though none is wanted"),
        }
    }
}

/// A client of the scenario.
pub struct Clerk {
    lab: std::rc::Weak<Lab>,
    pub number: u64,
    host: String,
    pub client: SimClient,
}

/// What a put of the course's clerk comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    Ok,
    NoKey,
    OtherVersion,
    Maybe,
}

impl Clerk {
    fn lab(&self) -> Rc<Lab> {
        self.lab.upgrade().expect("the lab outlives its clerks")
    }

    /// Lets it reach nobody, or everybody.
    pub fn away(&self, away: bool) {
        let nodes = self.lab().nodes();
        self.reach(if away { &[] } else { &nodes });
    }

    /// Lets it reach these servers only.
    pub fn reach(&self, servers: &[NodeId]) {
        let lab = self.lab();
        for node in lab.nodes() {
            let cut = !servers.contains(&node);
            lab.cluster.network().partition(&[&self.host], &[&node.to_string()], cut);
        }
    }

    pub async fn put(&self, key: &str, value: &str, version: Version) -> Put {
        let lab = self.lab();
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        let call = lab.event();
        let put = self.client.put_if(key.clone(), value.clone(), version).await;
        let change =
            Change::Put { key, value, expect: Expect::Version(version), lifetime: Default::default() };
        let action = Action::Change(change);
        let (put, answer) = match put {
            Ok(version) => {
                let changed = Changed::Version(version);
                (Put::Ok, Answer::Done(vec![Some(changed)]))
            }
            Err(Error::NotFound) => {
                (Put::NoKey, Answer::Refused { position: None, why: verify::Refusal::NoKey })
            }
            Err(Error::VersionMismatch { actual }) => {
                let why = verify::Refusal::Version { actual: Some(actual) };
                (Put::OtherVersion, Answer::Refused { position: None, why })
            }
            Err(Error::Maybe) => (Put::Maybe, Answer::Maybe),
            Err(error) => panic!("a put came to {error}"),
        };
        lab.record(self.number, call, action, answer);
        put
    }

    /// Value and version; `None`: no such key.
    pub async fn get(&self, key: &str) -> Option<(String, Version)> {
        let lab = self.lab();
        let key = Bytes::copy_from_slice(key.as_bytes());
        let call = lab.event();
        let found = self.client.get(key.clone()).await.expect("a get is repeated until it is answered");
        let answer = match &found {
            Some(found) => Answer::Found { value: found.value.clone(), version: Some(found.version) },
            None => Answer::Absent,
        };
        lab.record(self.number, call, Action::Get { key }, answer);
        found.map(|found| (String::from_utf8(found.value.to_vec()).expect("text"), found.version))
    }

    /// Puts until it is there, at some version from this one on; returns the version behind it.
    pub async fn put_until(&self, key: &str, value: &str, mut version: Version) -> Version {
        loop {
            match self.put(key, value, version).await {
                Put::Ok => return version + 1,
                Put::Maybe | Put::OtherVersion => version += 1,
                Put::NoKey => panic!("the key {key} is absent"),
            }
        }
    }

    pub async fn check_get(&self, key: &str, value: &str, version: Version) {
        assert_eq!(self.get(key).await, Some((value.to_owned(), version)), "{key}");
    }

    // --- the store of 2022: no conditions, exactly once ---
    //
    // It has no versions. Those that Quorate answers all the same go into the history: what they say must hold, too,
    // and they tell in which order fifty appends came that nobody read between, which no search finds out in time.

    pub async fn plain_get(&self, key: &str) -> String {
        let lab = self.lab();
        let key = Bytes::copy_from_slice(key.as_bytes());
        let call = lab.event();
        let found = self.client.get(key.clone()).await.expect("a get is repeated until it is answered");
        let answer = match &found {
            Some(found) => Answer::Found { value: found.value.clone(), version: Some(found.version) },
            None => Answer::Absent,
        };
        lab.record(self.number, call, Action::Get { key }, answer);
        found.map_or_else(String::new, |found| String::from_utf8(found.value.to_vec()).expect("text"))
    }

    pub async fn plain_put(&self, key: &str, value: &str) {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        self.plain_change(Change::Put {
            key,
            value,
            expect: Default::default(),
            lifetime: Default::default(),
        })
        .await;
    }

    pub async fn append(&self, key: &str, value: &str) {
        let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::copy_from_slice(value.as_bytes()));
        self.plain_change(Change::Append { key, value, expect: Default::default() }).await;
    }

    async fn plain_change(&self, change: Change) {
        let lab = self.lab();
        let call = lab.event();
        let changed = self.client.change(change.clone()).await.expect("a session takes effect exactly once");
        lab.record(self.number, call, Action::Change(change), Answer::Done(vec![Some(changed)]));
    }
}

impl std::ops::Deref for Clerk {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
