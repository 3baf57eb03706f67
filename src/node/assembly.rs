//! Putting a node together, and taking it apart again.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::acquaintance::acquaintance;
use super::config::Config;
use super::disk::Storage;
use super::environment::{Environment, Identified, OperatingSystem, PeerMemory};
use super::exit::{DAMAGED, Failure, UNAVAILABLE};
use super::front::{Front, probe};
use super::group::{self, Group, Shared};
use super::mapreduce::{self, Workshop};
use super::settings;
use crate::actors::admin::{Admin, AdminSpec, ChaosTools, DiskUse};
use crate::actors::caller::Incoming;
use crate::actors::clock::NodeClock;
use crate::actors::known::Known;
use crate::actors::link::{LinkActor, Outcast};
use crate::actors::supervision::{
    ChildSpec, OnHang, Place, Port, Registry, Slot, Strategy, Supervisor, SupervisorRef,
};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::raft::membership::Membership;
use crate::mapreduce::function::Functions;
use crate::messages::group::{FromPeers, ObservePeer};
use crate::net::faults::LinkFaults;
use crate::net::handshake::Identity;
use crate::net::link::Link;
use crate::net::router::Router;
use crate::net::transport::Transport;
use crate::net::{NetSettings, Outbound};
use crate::storage::Recovered;

/// Name of the root of a node's supervision tree.
const ROOT: &str = "node";

/// A running node.
///
/// It lives on the current thread's `LocalSet` (an actix `System` has one), so a program may run several of them side
/// by side, each with a data directory of its own.
pub struct Node {
    root: SupervisorRef,
    endings: UnboundedReceiver<Failure>,
    registry: Arc<Registry>,
    links: LinkFaultsOf,
    _watch: Box<dyn Any>,
    storage: Storage,
    _lock: Box<dyn Any>,
}

/// What goes wrong on purpose on the link to each peer.
type LinkFaultsOf = BTreeMap<NodeId, Arc<LinkFaults>>;

impl Node {
    /// Opens the data directory of node `id`, and starts its actors. Returns when all of them are up; whether the
    /// cluster serves is another matter.
    ///
    /// # Errors
    /// When the data directory cannot be used (or must not be: damage), or the address is taken.
    pub async fn start(config: &Config, id: NodeId, transport: Arc<dyn Transport>) -> Result<Node, Failure> {
        Node::start_in(&OperatingSystem::new(transport), config, id).await
    }

    /// As [`Node::start`], in another world than that of the operating system.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_in(
        environment: &dyn Environment,
        config: &Config,
        id: NodeId,
    ) -> Result<Node, Failure> {
        let Identified { store, peers, mut log, lock } = environment.identify(config, id)?;
        if let Some(node) = config.cluster_node(id) {
            probe(&*environment.transport(), &node.address).await?;
        }
        let (ending, mut endings) = unbounded_channel();
        let (storage, recovered) = Storage::open(config, id, environment, &mut *log, ending.clone())?;
        let registry = Registry::new(environment.random());
        let failed = ending.clone();
        let watch = environment.watch(config, &registry).map_err(no_thread)?;
        let me = Identity { cluster: config.cluster.id.clone(), node: id, store };
        let parts = Parts {
            environment,
            ending: ending.clone(),
            config,
            id,
            router: Router::new(me, addresses(config)),
            known: None,
            registry: registry.clone(),
            clock: environment.clock(),
            net: settings::net(config),
        };
        let (root, links) = parts.assemble(&storage, recovered, peers)?;
        let root = root.on_give_up(move |exit| {
            let text = format!("the node's actors failed too often: {exit}");
            let _ = failed.send(Failure::internal(text));
        });
        let root = root.start(&registry);
        let started = tokio::select! {
            biased;
            Some(failure) = endings.recv() => {
                root.shutdown().await;
                return Err(failure);
            }
            started = root.ready() => started,
        };
        match started {
            Ok(()) => Ok(Node { root, endings, registry, links, _watch: watch, storage, _lock: lock }),
            Err(exit) => Err(Failure::new(UNAVAILABLE, format!("the node did not start: {exit}"))),
        }
    }

    /// The directory of its actors: their states, and faults on purpose.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// What goes wrong on purpose on its link to a peer; `None`: it has none to that node.
    pub fn link_faults(&self, peer: NodeId) -> Option<&Arc<LinkFaults>> {
        self.links.get(&peer)
    }

    /// Waits until the node cannot go on: its disk failed, or its actors failed too often.
    pub async fn failed(&mut self) -> Failure {
        match self.endings.recv().await {
            Some(failure) => failure,
            // The senders live in the actors' supervisor and the log's thread.
            None => Failure::internal("the node ended without a word"),
        }
    }

    /// Stops the actors in the reverse order of their start, writes what the log still has to write, and returns.
    /// It may be dropped instead of being waited for, if a disk that hangs takes too long.
    pub async fn stop(mut self) {
        self.root.shutdown().await;
        self.storage.close().await;
    }
}

/// What is needed while a node is put together.
struct Parts<'a> {
    environment: &'a dyn Environment,
    ending: UnboundedSender<Failure>,
    config: &'a Config,
    id: NodeId,
    router: Arc<Router>,
    known: Option<Known>,
    registry: Arc<Registry>,
    clock: NodeClock,
    net: NetSettings,
}

impl Parts<'_> {
    /// The whole tree: groups first, then the admin actor, then the network, so that nobody is let in before there
    /// is somebody to answer.
    fn assemble(
        mut self,
        storage: &Storage,
        recovered: Recovered,
        peers: Box<dyn PeerMemory>,
    ) -> Result<(Supervisor, LinkFaultsOf), Failure> {
        let memory = self.environment.background("peer-memory").map_err(no_thread)?;
        let known = acquaintance(self.router.clone(), peers, memory);
        self.known = Some(known.clone());
        let (links, faults) = self.links(&known);
        let groups = self.groups(storage, recovered)?;
        let mut root = Supervisor::new(ROOT, Strategy::OneForOne)
            .policy(settings::restart_policy(self.config))
            .escalation(settings::escalation_policy(self.config));
        let mut ports = Vec::new();
        for group in groups {
            self.register(group.ports.group, group.incoming, group.from_peers);
            ports.push(group.ports);
            root = root.child(group.supervisor);
        }
        let group_one =
            ports.iter().find(|ports| ports.group == mapreduce::GROUP).map(|ports| ports.peer.clone());
        let admin = Slot::new("admin");
        let incoming: Port<Incoming> = admin.port();
        self.router.register_admin(Arc::new(move |asks| {
            let _ = incoming.tell(Incoming(asks.into()));
            Ok(())
        }));
        let disk_use = self.environment.background("disk-use").map_err(no_thread)?;
        let spec = AdminSpec {
            node: self.id,
            clock: self.clock.clone(),
            registry: self.registry.clone(),
            root: ROOT.to_owned(),
            groups: ports,
            disk_use: DiskUse::new(disk_use, storage.bytes.clone()),
            chaos: self
                .config
                .chaos
                .enabled
                .then(|| ChaosTools { links: faults.clone(), disk: storage.faults.clone() }),
        };
        let admin_child = ChildSpec::new("admin", move |_| Admin::new(spec.clone()))
            .slot(&admin)
            .dispensable()
            .hang_timeout(settings::hang_timeout(self.config), OnHang::Report);
        let root = root.child(admin_child);
        let root = match group_one.filter(|_| self.config.mapreduce.enabled) {
            Some(peer) => self.mapreduce(root, peer)?,
            None => root,
        };
        Ok((root.child(links).child(self.front(known)), faults))
    }

    /// Makes a group's actors reachable. What they do not take is answered by `Incoming` itself.
    fn register(&self, group: GroupId, incoming: Port<Incoming>, from_peers: Port<FromPeers>) {
        self.router.register_kv(
            group,
            Arc::new(move |asks| {
                let _ = incoming.tell(Incoming(asks.into()));
                Ok(())
            }),
        );
        self.router.register_raft(
            group,
            Arc::new(move |envelopes| {
                let _ = from_peers.tell(FromPeers(envelopes));
                Ok(())
            }),
        );
    }

    /// A link to each peer.
    fn links(&self, known: &Known) -> (Supervisor, LinkFaultsOf) {
        let mut supervisor =
            Supervisor::new("links", Strategy::OneForOne).policy(settings::restart_policy(self.config));
        let mut all_faults = BTreeMap::new();
        for node in self.config.cluster.nodes.iter().filter(|node| node.id != self.id) {
            let outbound = Outbound::new(&self.net, false);
            self.router.set_link(node.id, outbound.clone());
            let faults = Arc::new(LinkFaults::new(self.environment.random()));
            all_faults.insert(node.id, faults.clone());
            let (to, address) = (node.id, node.address.clone());
            let (hello, transport, settings) =
                (self.router.me().hello(), self.environment.transport(), self.net.clone());
            let (known, ending) = (known.clone(), self.ending.clone());
            // Nodes that forgot could make a majority, and serve a cluster that knows nothing of what it acknowledged.
            let outcast: Outcast = Arc::new(move |reason| {
                let _ = ending.send(Failure::new(DAMAGED, format!("{to} refuses this node: {reason}")));
            });
            let child = ChildSpec::new(format!("link-{}", to.0), move |context| {
                let link = Link {
                    to,
                    address: address.clone(),
                    hello: hello.clone(),
                    transport: transport.clone(),
                    settings: settings.clone(),
                    outbound: outbound.clone(),
                    faults: faults.clone(),
                    seed: context.generation(),
                };
                LinkActor::new(link, known.clone(), outcast.clone())
            });
            supervisor = supervisor.child(child);
        }
        (supervisor, all_faults)
    }

    /// The coordinator of jobs, and a worker: not under one supervisor, or a coordinator that fails again and again
    /// would take the attempts of the worker along.
    fn mapreduce(&self, root: Supervisor, peer: Port<ObservePeer>) -> Result<Supervisor, Failure> {
        let section = &self.config.mapreduce;
        let (policy, hang_timeout) =
            (settings::restart_policy(self.config), settings::hang_timeout(self.config));
        let patience = settings::job_patience(self.config);
        let clocks = (self.clock.clone(), self.environment.wall_clock());
        let coordinator = mapreduce::coordinator(self.id, clocks, peer, &self.router, patience, hang_timeout);
        let address = self.config.cluster_node(self.id).map(|node| node.address.clone()).unwrap_or_default();
        let others = self.config.cluster.nodes.iter().map(|node| node.address.clone());
        let others = others.filter(|other| *other != address);
        let worker = Workshop {
            endpoints: [address.clone()].into_iter().chain(others).collect(),
            cluster: self.config.cluster.id.clone(),
            net: self.net.clone(),
            transport: self.environment.transport(),
            router: self.router.clone(),
            address: Arc::new(move || address.clone()),
            directory: self.config.data_dir(self.id).join(&section.dir),
            slots: section.slots,
            memory_bytes: section.memory_bytes,
            functions: Arc::new(Functions::builtin()),
            policy: policy.clone(),
            hang_timeout,
        };
        let office = Supervisor::new("mapreduce", Strategy::OneForOne).policy(policy).child(coordinator);
        // What is wrong with jobs must not end the store.
        let root = root.child(office.dispensable());
        Ok(if section.worker { root.child(worker.supervisor()?.dispensable()) } else { root })
    }

    /// Listener and accepted connections.
    fn front(&self, known: Known) -> Supervisor {
        let node = self.config.cluster_node(self.id);
        Front {
            address: node.map(|node| node.address.clone()).unwrap_or_default(),
            listening: Arc::new(|_| {}),
            transport: self.environment.transport(),
            net: self.net.clone(),
            router: self.router.clone(),
            known,
            policy: settings::restart_policy(self.config),
        }
        .supervisor()
    }

    fn groups(&self, storage: &Storage, mut recovered: Recovered) -> Result<Vec<Group>, Failure> {
        let shared = Arc::new(self.shared(storage)?);
        let arbiters = self.arbiters();
        let mut groups = Vec::new();
        for number in 1..=self.config.cluster.groups {
            let group = GroupId(number);
            let found = recovered.groups.remove(&group).unwrap_or_default();
            let raft = settings::raft(self.config, group, self.id, self.environment.random());
            let place = arbiters[number as usize % arbiters.len()].clone();
            groups.push(group::assemble(&shared, raft, found, place));
        }
        if let Some((left, _)) = recovered.groups.last_key_value() {
            let text = format!(
                "the data directory holds group {}, but cluster.groups is {}: set it to at least {0}",
                left.0, self.config.cluster.groups
            );
            return Err(Failure::usage(text));
        }
        Ok(groups)
    }

    /// With one arbiter everything stays on this thread: a hop between threads costs more than the work of a message.
    fn arbiters(&self) -> Vec<Place> {
        match self.config.runtime.arbiters {
            0 | 1 => vec![Place::Here],
            many => (0..many).map(|_| Place::On(actix::Arbiter::new().handle())).collect(),
        }
    }

    fn shared(&self, storage: &Storage) -> Result<Shared, Failure> {
        let nodes = &self.config.cluster.nodes;
        let mut peers = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.id != self.id) {
            let peer = self.router.raft(node.id).map_err(|error| Failure::internal(error.to_string()))?;
            peers.insert(node.id, peer);
        }
        Ok(Shared {
            ending: self.ending.clone(),
            node: self.id,
            clock: self.clock.clone(),
            wal: storage.wal.clone(),
            snapshots: storage.snapshots.clone(),
            snapshot_reader: self.environment.background("snapshot-reader").map_err(no_thread)?,
            snapshot_writer: self.environment.background("snapshot-writer").map_err(no_thread)?,
            peers,
            bootstrap: Membership::of_voters(nodes.iter().map(|node| node.id)),
            limits: settings::limits(self.config),
            max_pending_requests: self.config.limits.max_pending_requests as usize,
            max_pending_bytes: settings::bytes(self.config.limits.max_pending_bytes),
            snapshot_after_bytes: self.config.storage.snapshot_after_log_bytes,
            snapshot_chunk_bytes: settings::bytes(self.config.raft.snapshot_chunk_bytes),
            policy: settings::restart_policy(self.config),
            hang_timeout: settings::hang_timeout(self.config),
            tap: self.environment.tap(),
        })
    }
}

fn no_thread(error: io::Error) -> Failure {
    Failure::internal(format!("cannot start a thread: {error}"))
}

fn addresses(config: &Config) -> Vec<(NodeId, String)> {
    config.cluster.nodes.iter().map(|node| (node.id, node.address.clone())).collect()
}

/// How long an orderly stop of a node may take before the process ends anyway.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
