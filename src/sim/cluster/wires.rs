//! What can be done to the network of a cluster.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Cluster;
use crate::logic::ids::NodeId;

/// The network.
impl Cluster {
    /// Parts the nodes of one side from those of the other (or joins them), in both directions.
    pub fn partition(&self, one: &[NodeId], other: &[NodeId], cut: bool) {
        let names = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>();
        let (one, other) = (names(one), names(other));
        for a in &one {
            for b in other.iter().filter(|b| *b != a) {
                self.shared.network.partition(&[a], &[b], cut);
            }
        }
    }

    /// Cuts a node off from all other nodes, or joins it again. Clients still reach it.
    pub fn isolate(&self, node: NodeId, cut: bool) {
        self.partition(&[node], &self.nodes(), cut);
    }

    /// Holds back everything from one node to another, or lets it through again.
    pub fn cut(&self, from: NodeId, to: NodeId, cut: bool) {
        let (from, to) = (from.to_string(), to.to_string());
        match cut {
            true => self.shared.network.cut(&from, &to),
            false => self.shared.network.heal(&from, &to),
        }
    }

    /// Delays everything from one node to another.
    pub fn delay(&self, from: NodeId, to: NodeId, delay: RangeInclusive<Duration>) {
        self.shared.network.set_delay(&from.to_string(), &to.to_string(), delay);
    }

    /// Takes all cuts, delays and packet faults between nodes away.
    pub fn heal_network(&self) {
        let nodes = self.nodes();
        for from in &nodes {
            for to in nodes.iter().filter(|to| *to != from) {
                self.cut(*from, *to, false);
                self.delay(*from, *to, Duration::ZERO..=Duration::ZERO);
                if let Some(faults) = self.link_faults(*from, *to) {
                    faults.heal();
                }
            }
        }
    }
}
