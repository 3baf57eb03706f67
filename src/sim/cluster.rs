//! A simulated cluster: nodes of the product on machines that fail when they are told to. `wires` is what can be done
//! to its network, `clients` who uses it.

mod clients;
mod wires;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

pub use self::clients::SimClient;
use super::host::Host;
use super::machine::Machine;
use super::trace::{Kind, Who};
use super::watch::Watch;
use crate::actors::supervision::Registry;
use crate::logic::ids::NodeId;
use crate::logic::raft::Role;
use crate::net::faults::LinkFaults;
use crate::net::memory::MemoryNetwork;
use crate::node::assembly::Node;
use crate::node::config::{ClusterNode, Config};
use crate::node::exit::Failure;

/// What a cluster is to be like.
pub struct ClusterOptions {
    /// Decides everything.
    pub seed: u64,
    /// How many nodes, numbered from 1.
    pub nodes: u64,
    /// Configuration of the nodes, but for `[cluster]`.
    pub config: Config,
    /// Whether the timeline is written.
    pub timeline: bool,
}

impl ClusterOptions {
    /// So many nodes, with small files: logs of 64 KiB, snapshots after 16 KiB.
    pub fn new(seed: u64, nodes: u64) -> ClusterOptions {
        let mut config = Config::default();
        config.storage.segment_bytes = 64 << 10;
        config.storage.snapshot_after_log_bytes = 16 << 10;
        config.storage.snapshot_rate_bytes_per_s = 0;
        config.storage.keep_log_entries = 100;
        config.storage.keep_log_bytes = 8 << 10;
        config.raft.snapshot_chunk_bytes = 2 << 10;
        ClusterOptions { seed, nodes, config, timeline: false }
    }
}

/// A cluster. Clones are the same one.
#[derive(Clone)]
pub struct Cluster {
    shared: Rc<Shared>,
}

struct Shared {
    config: Rc<Config>,
    network: MemoryNetwork,
    watch: Watch,
    places: BTreeMap<NodeId, Place>,
    random: RefCell<fastrand::Rng>,
    /// A process has ended by itself.
    ended: Rc<Notify>,
}

/// A machine, and what runs on it.
struct Place {
    machine: Rc<Machine>,
    process: RefCell<Option<Process>>,
    /// How often a process was started here.
    starts: RefCell<u64>,
}

/// A process of a node.
struct Process {
    host: Host,
    state: Rc<RefCell<ProcessState>>,
    stop: Option<oneshot::Sender<oneshot::Sender<()>>>,
}

/// What became of a process.
enum ProcessState {
    Starting,
    Up(Handles),
    /// It ended by itself, as `quorate node` does, or did not start.
    Ended(Failure),
}

/// What can be reached of a node that is up.
#[derive(Clone)]
struct Handles {
    registry: Arc<Registry>,
    links: BTreeMap<NodeId, Arc<LinkFaults>>,
}

impl Cluster {
    /// Machines and a network, all nodes started.
    ///
    /// # Panics
    /// Outside of [`simulate`](super::simulate).
    pub fn start(options: ClusterOptions) -> Cluster {
        let ClusterOptions { seed, nodes, mut config, timeline } = options;
        let mut random = fastrand::Rng::with_seed(seed);
        let ids: Vec<NodeId> = (1..=nodes).map(NodeId).collect();
        config.cluster.id = "sim".to_owned();
        let node = |id: &NodeId| ClusterNode { id: *id, address: address(*id), data_dir: None };
        config.cluster.nodes = ids.iter().map(node).collect();
        let network = MemoryNetwork::new(random.u64(..));
        let watch = Watch::new(ids.len(), timeline);
        let place = |id: &NodeId| {
            let transport = network.host(&id.to_string());
            let machine = Rc::new(Machine::new(random.u64(..), transport, watch.tap(*id)));
            (*id, Place { machine, process: RefCell::new(None), starts: RefCell::new(0) })
        };
        let places = ids.iter().map(place).collect();
        let random = RefCell::new(random);
        let (config, ended) = (Rc::new(config), Rc::default());
        let shared = Shared { config, network, watch, places, random, ended };
        let cluster = Cluster { shared: Rc::new(shared) };
        ids.iter().for_each(|id| cluster.start_node(*id));
        cluster
    }

    /// All nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.shared.places.keys().copied().collect()
    }

    /// Lets time pass.
    pub async fn run_for(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// The watcher: hash, violations, timeline, replicas.
    pub fn watch(&self) -> &Watch {
        &self.shared.watch
    }

    /// The network. Hosts are called by the number of their node (`n1`), and clients by their own names.
    pub fn network(&self) -> &MemoryNetwork {
        &self.shared.network
    }

    /// What of a node outlives its crashes: disks and clock.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn machine(&self, node: NodeId) -> &Machine {
        &self.place(node).machine
    }

    /// A random number, from the seed.
    pub fn random(&self) -> u64 {
        self.shared.random.borrow_mut().u64(..)
    }

    fn place(&self, node: NodeId) -> &Place {
        self.shared.places.get(&node).unwrap_or_else(|| panic!("there is no {node}"))
    }
}

/// Processes.
impl Cluster {
    /// Starts the process of a node. Nothing happens if it runs already.
    pub fn start_node(&self, node: NodeId) {
        let place = self.place(node);
        if place.process.borrow().is_some() {
            return;
        }
        *place.starts.borrow_mut() += 1;
        let host = Host::new();
        let state = Rc::new(RefCell::new(ProcessState::Starting));
        let (stop, stopped) = oneshot::channel();
        let life = Life {
            config: self.shared.config.clone(),
            watch: self.watch().clone(),
            machine: place.machine.clone(),
            state: state.clone(),
            ended: self.shared.ended.clone(),
        };
        drop(host.spawn(life.live(node, stopped)));
        *place.process.borrow_mut() = Some(Process { host, state, stop: Some(stop) });
    }

    /// Ends the process at once. Its machine lives on, so that what it wrote is on its way to the disk.
    pub fn crash(&self, node: NodeId) {
        self.take_down(node);
        self.place(node).machine.process_ended();
    }

    /// Takes the power from the machine: what was not synced is lost, or not, or in part.
    pub fn lose_power(&self, node: NodeId) {
        self.take_down(node);
        self.place(node).machine.power_failed();
    }

    /// Ends the process in order, as Ctrl-C does.
    pub async fn stop(&self, node: NodeId) {
        let stop = self.place(node).process.borrow_mut().as_mut().and_then(|process| process.stop.take());
        if let Some(stop) = stop {
            let (done, stopped) = oneshot::channel();
            if stop.send(done).is_ok() {
                let _ = stopped.await;
            }
        }
        self.crash(node);
    }

    fn take_down(&self, node: NodeId) {
        let process = self.place(node).process.borrow_mut().take();
        if let Some(process) = process {
            process.host.power_off();
            self.shared.watch.note(Who::Node(node), Kind::End, || "is down".to_owned());
        }
        self.shared.watch.down(node);
    }

    /// Lets the process stand still, or go on.
    pub fn freeze(&self, node: NodeId, frozen: bool) {
        if let Some(process) = &*self.place(node).process.borrow() {
            process.host.freeze(frozen);
        }
    }

    /// Whether the process runs, be it that it is still starting.
    pub fn is_up(&self, node: NodeId) -> bool {
        let process = self.place(node).process.borrow();
        process.as_ref().is_some_and(|process| !matches!(*process.state.borrow(), ProcessState::Ended(_)))
    }

    /// Why the process ended by itself, if it did.
    pub fn failure(&self, node: NodeId) -> Option<Failure> {
        match &*self.place(node).process.borrow().as_ref()?.state.borrow() {
            ProcessState::Ended(failure) => Some(failure.clone()),
            _ => None,
        }
    }

    /// How often the process was started.
    pub fn starts(&self, node: NodeId) -> u64 {
        *self.place(node).starts.borrow()
    }

    /// Waits until some process ends by itself.
    pub async fn process_ended(&self) {
        self.shared.ended.notified().await;
    }

    fn handles(&self, node: NodeId) -> Option<Handles> {
        match &*self.place(node).process.borrow().as_ref()?.state.borrow() {
            ProcessState::Up(handles) => Some(handles.clone()),
            _ => None,
        }
    }

    /// The directory of a node's actors, for panics and stalls on purpose; `None` while it is not up.
    pub fn registry(&self, node: NodeId) -> Option<Arc<Registry>> {
        self.handles(node).map(|handles| handles.registry)
    }

    /// What goes wrong with the Raft packets from one node to another; `None` while the sender is not up. A new
    /// process of the sender begins without.
    pub fn link_faults(&self, from: NodeId, to: NodeId) -> Option<Arc<LinkFaults>> {
        self.handles(from)?.links.get(&to).cloned()
    }

    /// The node that leads, of those that run: the one with the highest term, if several believe so.
    pub fn leader(&self) -> Option<NodeId> {
        let leads = |node: &NodeId| {
            let term = self.shared.watch.replica(*node, |r| (r.role == Some(Role::Leader)).then_some(r.term));
            term.flatten().map(|term| (term, *node))
        };
        self.shared.places.keys().filter_map(leads).max().map(|(_, node)| node)
    }

    /// Waits until there is a leader, and everybody who is up follows it.
    ///
    /// # Errors
    /// A sentence, when that does not come about within `limit`.
    pub async fn wait_for_leader(&self, limit: Duration) -> Result<NodeId, String> {
        let deadline = self.shared.watch.now() + limit;
        loop {
            if let Some(leader) = self.leader() {
                let follows = |node: &NodeId| {
                    *node == leader
                        || !self.is_up(*node)
                        || self.shared.watch.replica(*node, |r| r.leader == Some(leader)).unwrap_or(false)
                };
                if self.shared.places.keys().all(follows) {
                    return Ok(leader);
                }
            }
            if self.shared.watch.now() >= deadline {
                return Err(format!("there is no leader that all follow after {limit:?}"));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The address of a node.
pub fn address(node: NodeId) -> String {
    format!("{node}:1")
}

/// What a process has to do with its cluster. The cluster has the process, so this must not have the cluster: neither
/// would ever end.
struct Life {
    config: Rc<Config>,
    watch: Watch,
    machine: Rc<Machine>,
    state: Rc<RefCell<ProcessState>>,
    ended: Rc<Notify>,
}

impl Life {
    /// The process of a node, from its start to its end.
    async fn live(self, node: NodeId, stopped: oneshot::Receiver<oneshot::Sender<()>>) {
        let failure = match Node::start_in(&*self.machine, &self.config, node).await {
            Err(failure) => failure,
            Ok(mut running) => {
                let peers = self.config.cluster.nodes.iter().map(|node| node.id);
                let links =
                    peers.filter_map(|peer| Some((peer, running.link_faults(peer)?.clone()))).collect();
                let handles = Handles { registry: running.registry().clone(), links };
                *self.state.borrow_mut() = ProcessState::Up(handles);
                tokio::select! {
                    biased;
                    Ok(done) = stopped => {
                        running.stop().await;
                        let _ = done.send(());
                        return;
                    }
                    failure = running.failed() => failure,
                }
            }
        };
        self.watch.note(Who::Node(node), Kind::End, || format!("process ends: {failure}"));
        self.watch.down(node);
        *self.state.borrow_mut() = ProcessState::Ended(failure);
        self.ended.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::simulate;

    /// It asks for itself, and no lease but its own, which is gone, is in the way.
    #[test]
    fn a_leader_whose_actor_panics_leads_again_before_any_timeout_has_passed() {
        for lease_reads in [false, true] {
            simulate(async || {
                let mut options = ClusterOptions::new(1, 3);
                options.config.raft.lease_reads = lease_reads;
                let timeout = Duration::from_millis(options.config.raft.election_timeout_min_ms);
                let cluster = Cluster::start(options);
                let leader = cluster.wait_for_leader(Duration::from_secs(5)).await.expect("a leader");
                let term = || cluster.watch().replica(leader, |replica| replica.term).expect("it is up");
                let before = term();
                let registry = cluster.registry(leader).expect("it is up");
                let paths = registry.actors();
                let raft = paths.iter().find(|path| path.ends_with("/raft")).expect("there is one");
                registry.crash(raft, crate::sim::panics::ON_PURPOSE).expect("it is there");
                cluster.run_for(timeout / 2).await;
                assert_eq!((cluster.leader(), term()), (Some(leader), before + 1), "{lease_reads}");
            });
        }
    }

    /// Thousands of runs are played in one process.
    #[test]
    fn nothing_is_left_of_a_cluster_when_it_is_dropped_with_its_nodes_up() {
        let (shared, machine) = simulate(async || {
            let cluster = Cluster::start(ClusterOptions::new(1, 3));
            cluster.wait_for_leader(Duration::from_secs(5)).await.expect("a leader");
            let machine = &cluster.place(NodeId(1)).machine;
            (Rc::downgrade(&cluster.shared), Rc::downgrade(machine))
        });
        assert!(shared.upgrade().is_none() && machine.upgrade().is_none());
    }
}
