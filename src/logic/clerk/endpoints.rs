//! The addresses the clerk knows, and the state of its link to each.

use std::time::Duration;

use super::backoff;
use crate::logic::ids::NodeId;
use crate::messages::wire::Welcome;

/// Most addresses kept; what nodes tell beyond that is ignored.
const MAX_ENDPOINTS: usize = 64;
/// Longest address believed.
const MAX_ADDRESS: usize = 300;

/// An address, named by its place in the clerk's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

#[derive(Debug)]
struct Endpoint {
    address: String,
    /// Given by the user, so never forgotten.
    given: bool,
    /// Who answers there, as far as known.
    node: Option<NodeId>,
    link: Link,
    failures: u32,
    /// Requests sent there whose answer is still waited for.
    in_flight: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Down { dial_at: Duration },
    Dialling,
    Up,
}

/// The table.
#[derive(Debug)]
pub(super) struct Endpoints {
    slots: Vec<Option<Endpoint>>,
    cap: Duration,
    /// Most requests that may wait for an answer of one endpoint.
    max_in_flight: usize,
    /// Why a link was lost or refused last.
    last_trouble: Option<String>,
}

impl Endpoints {
    /// The addresses given by the user, all to be dialled at once; `cap` bounds the pause between two dials.
    pub(super) fn new(addresses: &[String], cap: Duration, max_in_flight: usize) -> Self {
        let mut table = Endpoints { slots: Vec::new(), cap, max_in_flight, last_trouble: None };
        for address in addresses {
            table.insert(address, None, true, Duration::ZERO);
        }
        table
    }

    fn iter(&self) -> impl Iterator<Item = (EndpointId, &Endpoint)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| Some((EndpointId(at as u32), slot.as_ref()?)))
    }

    fn get_mut(&mut self, id: EndpointId) -> Option<&mut Endpoint> {
        self.slots.get_mut(id.0 as usize)?.as_mut()
    }

    fn insert(&mut self, address: &str, node: Option<NodeId>, given: bool, now: Duration) {
        let known = self.iter().any(|(_, e)| e.address == address);
        if known || self.iter().count() >= MAX_ENDPOINTS {
            return;
        }
        let link = Link::Down { dial_at: now };
        let fresh =
            Some(Endpoint { address: address.to_owned(), given, node, link, failures: 0, in_flight: 0 });
        match self.slots.iter_mut().find(|slot| slot.is_none()) {
            Some(slot) => *slot = fresh,
            None => self.slots.push(fresh),
        }
    }

    /// Whether requests can be sent there now.
    pub(super) fn is_up(&self, id: EndpointId) -> bool {
        matches!(self.slots.get(id.0 as usize), Some(Some(e)) if e.link == Link::Up)
    }

    /// Whether another request may be sent there.
    pub(super) fn has_room(&self, id: EndpointId) -> bool {
        matches!(self.slots.get(id.0 as usize), Some(Some(e)) if e.in_flight < self.max_in_flight)
    }

    /// A request is sent there.
    pub(super) fn sent(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.get_mut(id) {
            endpoint.in_flight += 1;
        }
    }

    /// A request that was sent there is answered, or no longer waited for.
    pub(super) fn settled(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.get_mut(id) {
            endpoint.in_flight = endpoint.in_flight.saturating_sub(1);
        }
    }

    /// The endpoints that are up, in the table's order.
    pub(super) fn up(&self) -> impl Iterator<Item = EndpointId> {
        self.iter().filter(|(_, e)| e.link == Link::Up).map(|(id, _)| id)
    }

    /// The endpoint that is up and answers for this node.
    pub(super) fn of_node(&self, node: NodeId) -> Option<EndpointId> {
        self.iter().find(|(_, e)| e.link == Link::Up && e.node == Some(node)).map(|(id, _)| id)
    }

    /// Who answers there, as far as known.
    pub(super) fn node(&self, id: EndpointId) -> Option<NodeId> {
        self.slots.get(id.0 as usize)?.as_ref()?.node
    }

    /// All nodes known by number: their addresses, and whether a link is up.
    pub(super) fn nodes(&self) -> Vec<(NodeId, String, bool)> {
        let mut nodes: Vec<_> =
            self.iter().filter_map(|(_, e)| Some((e.node?, e.address.clone(), e.link == Link::Up))).collect();
        nodes.sort_by(|a, b| (a.0, !a.2, &a.1).cmp(&(b.0, !b.2, &b.1)));
        nodes.dedup_by_key(|entry| entry.0);
        nodes
    }

    /// A link is up. Returns the endpoints whose links are to be closed, because another leads to the same node or
    /// because the node is no longer of the cluster.
    pub(super) fn link_up(&mut self, id: EndpointId, welcome: &Welcome, now: Duration) -> Vec<EndpointId> {
        let twin = self.of_node(welcome.node).filter(|&other| other != id);
        let Some(endpoint) = self.get_mut(id) else { return vec![id] };
        endpoint.node = Some(welcome.node);
        endpoint.failures = 0;
        if twin.is_some() {
            // Two addresses of one node: one link is enough. This address is tried again when the other fails.
            endpoint.link = Link::Down { dial_at: Duration::MAX };
            return vec![id];
        }
        endpoint.link = Link::Up;
        self.learn(welcome, now)
    }

    /// Takes over the list of nodes of a welcome.
    fn learn(&mut self, welcome: &Welcome, now: Duration) -> Vec<EndpointId> {
        let listed = |e: &Endpoint| {
            welcome.nodes.iter().any(|(node, address)| e.node == Some(*node) || e.address == *address)
        };
        let mut dropped = Vec::new();
        if !welcome.nodes.is_empty() {
            for (at, slot) in self.slots.iter_mut().enumerate() {
                if slot.as_ref().is_some_and(|e| !e.given && e.link != Link::Up && !listed(e)) {
                    *slot = None;
                    dropped.push(EndpointId(at as u32));
                }
            }
        }
        for (node, address) in &welcome.nodes {
            let reached = self.of_node(*node).is_some();
            let believable = !address.is_empty() && address.len() <= MAX_ADDRESS;
            if let Some(e) = self.slots.iter_mut().flatten().find(|e| e.address == *address) {
                e.node.get_or_insert(*node);
            } else if !reached && believable {
                self.insert(address, Some(*node), false, now);
            }
        }
        dropped
    }

    /// A link is gone, or a dial has failed.
    pub(super) fn link_down(
        &mut self,
        id: EndpointId,
        reason: String,
        now: Duration,
        rng: &mut fastrand::Rng,
    ) {
        let cap = self.cap;
        let Some(endpoint) = self.get_mut(id) else { return };
        let pause = backoff::pause(endpoint.failures, cap, rng);
        endpoint.failures = endpoint.failures.saturating_add(1);
        endpoint.link = Link::Down { dial_at: now + pause };
        let node = endpoint.node;
        self.last_trouble = Some(format!("{}: {reason}", endpoint.address));
        for other in self.slots.iter_mut().flatten() {
            if other.node == node && other.link == (Link::Down { dial_at: Duration::MAX }) {
                other.link = Link::Down { dial_at: now };
            }
        }
    }

    /// Takes what is to be dialled now.
    pub(super) fn dials(&mut self, now: Duration, dial: &mut Vec<(EndpointId, String)>) {
        for (at, slot) in self.slots.iter_mut().enumerate() {
            if let Some(endpoint) = slot
                && matches!(endpoint.link, Link::Down { dial_at } if dial_at <= now)
            {
                endpoint.link = Link::Dialling;
                dial.push((EndpointId(at as u32), endpoint.address.clone()));
            }
        }
    }

    /// When something is to be dialled next.
    pub(super) fn next_dial(&self) -> Option<Duration> {
        let due = |(_, e): (EndpointId, &Endpoint)| match e.link {
            Link::Down { dial_at } if dial_at != Duration::MAX => Some(dial_at),
            _ => None,
        };
        self.iter().filter_map(due).min()
    }

    /// Why no node can be reached, in words.
    pub(super) fn trouble(&self) -> String {
        match &self.last_trouble {
            Some(trouble) => format!("no node can be reached ({trouble})"),
            None => "no node has been reached yet".to_owned(),
        }
    }

    /// Whether a list of nodes is known and this node is not on it.
    pub(super) fn is_stranger(&self, node: NodeId) -> bool {
        self.up().next().is_some() && self.iter().all(|(_, e)| e.node.is_some_and(|n| n != node))
    }
}
