//! The node's post office: which actor serves which address, here and at the other nodes.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::handshake::{Identity, Refusal};
use super::outbound::{Outbound, SendError};
use super::reference::{Ref, Sink, Undelivered};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::raft::message::Envelope;
use crate::messages::client::{Request, RequestBody, Response, ServerError};

/// A request and where its response goes.
#[derive(Debug)]
pub struct Ask {
    /// The request.
    pub request: Request,
    /// Who asked. Every request must be answered once, with its number: connections count them.
    pub reply: Ref<Response>,
}

/// What a node offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    /// The Raft peer of a group; takes [`Envelope`]s.
    Raft(GroupId),
    /// The KV server of a group; takes [`Ask`]s.
    Kv(GroupId),
    /// The node itself; takes [`Ask`]s.
    Admin,
    /// The coordinator of MapReduce jobs; takes [`Ask`]s.
    Coordinator,
    /// The worker that runs their tasks; takes [`Ask`]s.
    Worker,
}

/// What was lost or refused at the router so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouterStats {
    /// Raft messages for a group that is not here.
    pub unknown_group: u64,
    /// Messages that an actor of this node did not take.
    pub undelivered: u64,
    /// Raft messages for a node that has no link.
    pub no_route: u64,
}

/// Knows where every service of every node is. Shared by all connections, links and actors of a node.
pub struct Router {
    me: Identity,
    table: RwLock<Table>,
    unknown_group: AtomicU64,
    undelivered: AtomicU64,
    no_route: AtomicU64,
}

#[derive(Default)]
struct Table {
    peers: BTreeMap<NodeId, PeerEntry>,
    raft: BTreeMap<GroupId, Sink<Envelope>>,
    kv: BTreeMap<GroupId, Sink<Ask>>,
    admin: Option<Sink<Ask>>,
    coordinator: Option<Sink<Ask>>,
    worker: Option<Sink<Ask>>,
}

#[derive(Default)]
struct PeerEntry {
    address: String,
    /// Identity of its data directory, once it is known.
    store: Option<u64>,
    link: Option<Outbound>,
}

impl Router {
    /// A router that knows the addresses of all nodes of the cluster, this one's included.
    pub fn new(me: Identity, nodes: impl IntoIterator<Item = (NodeId, String)>) -> Arc<Self> {
        let peers = nodes
            .into_iter()
            .map(|(node, address)| (node, PeerEntry { address, ..PeerEntry::default() }))
            .collect();
        Arc::new(Router {
            me,
            table: RwLock::new(Table { peers, ..Table::default() }),
            unknown_group: AtomicU64::new(0),
            undelivered: AtomicU64::new(0),
            no_route: AtomicU64::new(0),
        })
    }

    /// This node.
    pub fn me(&self) -> &Identity {
        &self.me
    }

    /// The addresses of all nodes, for a welcome.
    pub fn nodes(&self) -> Vec<(NodeId, String)> {
        self.read().peers.iter().map(|(node, entry)| (*node, entry.address.clone())).collect()
    }

    /// Makes a node known, or gives it another address.
    pub fn set_address(&self, node: NodeId, address: String) {
        self.write().peers.entry(node).or_default().address = address;
    }

    /// Forgets a node that has left the cluster; its link is closed.
    pub fn forget(&self, node: NodeId) {
        if let Some(link) = self.write().peers.remove(&node).and_then(|entry| entry.link) {
            link.close();
        }
    }

    /// Says what goes to `node` from now on: the queue of its link. Only for known nodes.
    pub fn set_link(&self, node: NodeId, link: Outbound) {
        if let Some(entry) = self.write().peers.get_mut(&node) {
            entry.link = Some(link);
        }
    }

    /// Whether a node with that data directory may be spoken with; remembers the directory of a node that comes
    /// for the first time. This is the [`super::handshake::Acquaintance`] of a node.
    ///
    /// # Errors
    /// When the node is not known, or was known with another data directory.
    pub fn check_store(&self, node: NodeId, store: u64) -> Result<(), Refusal> {
        let mut table = self.write();
        let entry = table.peers.get_mut(&node).ok_or(Refusal::UnknownNode { node })?;
        match entry.store {
            Some(known) if known != store => Err(Refusal::Store { node, known, actual: store }),
            _ => {
                entry.store = Some(store);
                Ok(())
            }
        }
    }

    /// Says which data directory a node has, whatever it has shown.
    pub fn set_store(&self, node: NodeId, store: u64) {
        if let Some(entry) = self.write().peers.get_mut(&node) {
            entry.store = Some(store);
        }
    }

    /// Registers the Raft peer of a group, in place of an earlier one.
    pub fn register_raft(&self, group: GroupId, sink: Sink<Envelope>) {
        self.write().raft.insert(group, sink);
    }

    /// Registers the KV server of a group, in place of an earlier one.
    pub fn register_kv(&self, group: GroupId, sink: Sink<Ask>) {
        self.write().kv.insert(group, sink);
    }

    /// Registers who answers for the node itself, in place of an earlier one.
    pub fn register_admin(&self, sink: Sink<Ask>) {
        self.write().admin = Some(sink);
    }

    /// Registers the coordinator of MapReduce jobs, in place of an earlier one.
    pub fn register_coordinator(&self, sink: Sink<Ask>) {
        self.write().coordinator = Some(sink);
    }

    /// Registers the worker of this node, in place of an earlier one.
    pub fn register_worker(&self, sink: Sink<Ask>) {
        self.write().worker = Some(sink);
    }

    /// Takes a service out.
    pub fn unregister(&self, service: Service) {
        let mut table = self.write();
        match service {
            Service::Raft(group) => drop(table.raft.remove(&group)),
            Service::Kv(group) => drop(table.kv.remove(&group)),
            Service::Admin => table.admin = None,
            Service::Coordinator => table.coordinator = None,
            Service::Worker => table.worker = None,
        }
    }
}

/// Sending.
impl Router {
    /// The Raft peers at `node`, of all groups.
    ///
    /// # Errors
    /// When the node is not known, or its link is not set up yet.
    pub fn raft(self: &Arc<Self>, node: NodeId) -> Result<Ref<Envelope>, SendError> {
        if node == self.me.node {
            let router = self.clone();
            return Ok(Ref::local(move |envelopes| {
                router.deliver_raft(envelopes);
                Ok(())
            }));
        }
        let link = self.read().peers.get(&node).and_then(|entry| entry.link.clone());
        link.map(Ref::Remote).ok_or(SendError::NoRoute)
    }

    /// Sends each envelope where it is addressed to. What cannot be sent is lost and counted: Raft repeats itself.
    pub fn post(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        let mut here = Vec::new();
        let table = self.read();
        for envelope in envelopes {
            if envelope.to == self.me.node {
                here.push(envelope);
            } else if let Some(link) = table.peers.get(&envelope.to).and_then(|entry| entry.link.as_ref()) {
                // A full or disconnected queue keeps count of its own losses.
                let _ = link.try_send(envelope);
            } else {
                self.no_route.fetch_add(1, Ordering::Relaxed);
            }
        }
        drop(table);
        self.deliver_raft(here);
    }

    /// The services of this node, for a client that lives in the same process; `reply` takes the responses.
    pub fn requests(self: &Arc<Self>, reply: Ref<Response>) -> Ref<Request> {
        let router = self.clone();
        Ref::local(move |requests: Vec<Request>| {
            let asks = requests.into_iter().map(|request| Ask { request, reply: reply.clone() }).collect();
            router.deliver_asks(asks);
            Ok(())
        })
    }

    /// Hands envelopes to the Raft peers of this node, group by group, in order.
    pub fn deliver_raft(&self, envelopes: Vec<Envelope>) {
        for (group, envelopes) in runs(envelopes, |envelope| envelope.group) {
            let sink = self.read().raft.get(&group).cloned();
            let Some(sink) = sink else {
                self.unknown_group.fetch_add(envelopes.len() as u64, Ordering::Relaxed);
                continue;
            };
            if let Err(undelivered) = sink(envelopes) {
                self.undelivered.fetch_add(undelivered.messages.len() as u64, Ordering::Relaxed);
            }
        }
    }

    /// Hands requests to the actors of this node, in order for each. Those that cannot be delivered are answered.
    pub fn deliver_asks(&self, asks: Vec<Ask>) {
        for (service, asks) in runs(asks, Ask::service) {
            let table = self.read();
            let sink = match service {
                Service::Kv(group) | Service::Raft(group) => table.kv.get(&group).cloned(),
                Service::Admin => table.admin.clone(),
                Service::Coordinator => table.coordinator.clone(),
                Service::Worker => table.worker.clone(),
            };
            drop(table);
            let Some(sink) = sink else {
                asks.iter().for_each(|ask| ask.refuse(absent(service)));
                continue;
            };
            if let Err(Undelivered { messages, why }) = sink(asks) {
                self.undelivered.fetch_add(messages.len() as u64, Ordering::Relaxed);
                // Whether its mailbox is full or it is being restarted: a little later it may go well.
                let limit = if why == SendError::Full { "mailbox" } else { "restart" };
                messages.iter().for_each(|ask| ask.refuse(ServerError::Busy { limit: limit.to_owned() }));
            }
        }
    }

    /// What was lost or refused so far.
    pub fn stats(&self) -> RouterStats {
        RouterStats {
            unknown_group: self.unknown_group.load(Ordering::Relaxed),
            undelivered: self.undelivered.load(Ordering::Relaxed),
            no_route: self.no_route.load(Ordering::Relaxed),
        }
    }

    // A panic under these locks cannot leave the table half changed: every change is one insertion or removal.
    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Ask {
    /// Which service is asked.
    pub fn service(&self) -> Service {
        match &self.request.body {
            RequestBody::Admin(_) => Service::Admin,
            RequestBody::MapReduce(request) if request.is_for_worker() => Service::Worker,
            RequestBody::MapReduce(_) => Service::Coordinator,
            RequestBody::Write { .. } | RequestBody::Read { .. } => Service::Kv(self.request.group),
        }
    }

    /// Answers with an error.
    pub fn refuse(&self, error: ServerError) {
        // If the client is gone, nobody misses the answer.
        let _ = self.reply.tell(Response { id: self.request.id, result: Err(error) });
    }
}

/// Nobody serves this here.
fn absent(service: Service) -> ServerError {
    match service {
        Service::Coordinator => ServerError::Invalid(
            "MapReduce is off at this node: set `[mapreduce] enabled = true` on every node, and restart"
                .to_owned(),
        ),
        Service::Worker => ServerError::Invalid("no worker runs here".to_owned()),
        Service::Raft(_) | Service::Kv(_) | Service::Admin => ServerError::NoSuchGroup,
    }
}

/// Cuts a batch into parts of the same address, keeping the order within each. Nearly always there is one part.
fn runs<K: Ord + Copy, M>(messages: Vec<M>, address: impl Fn(&M) -> K) -> Vec<(K, Vec<M>)> {
    let Some(first) = messages.first().map(&address) else { return Vec::new() };
    if messages.iter().all(|message| address(message) == first) {
        return vec![(first, messages)];
    }
    let mut parts: BTreeMap<K, Vec<M>> = BTreeMap::new();
    for message in messages {
        parts.entry(address(&message)).or_default().push(message);
    }
    parts.into_iter().collect()
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").field("me", &self.me).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
