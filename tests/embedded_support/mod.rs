//! Three nodes in one process, over a network in memory, for tests.
#![allow(dead_code)] // Each test uses its own part of it.

use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::messages::admin::NodeStatus;
use quorate::net::memory::MemoryNetwork;
use quorate::node::assembly::Node;
use quorate::node::config::{ClusterNode, Config};
use quorate::{Client, ClientOptions};

pub const NODES: u64 = 3;
pub const HOSTS: [&str; 3] = ["host-1", "host-2", "host-3"];

/// Three nodes on this thread. Each lives on a host of its own, so that the network can part them.
pub struct Embedded {
    pub network: MemoryNetwork,
    config: Config,
    nodes: Vec<Node>,
    _dir: tempfile::TempDir,
}

impl Embedded {
    pub async fn start() -> Embedded {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::default();
        config.cluster.id = "embedded".into();
        config.cluster.nodes = (1..=NODES).map(cluster_node).collect();
        config.set_data_root(dir.path());
        let network = MemoryNetwork::new(7);
        let mut nodes = Vec::new();
        for id in 1..=NODES {
            let host = network.host(host(NodeId(id)));
            nodes.push(Node::start(&config, NodeId(id), host).await.expect("the node starts"));
        }
        Embedded { network, config, nodes, _dir: dir }
    }

    /// A client on a host of its own, that knows these nodes only at first.
    pub async fn client(&self, host: &str, endpoints: &[NodeId]) -> Client {
        let address = |id: &NodeId| self.config.cluster_node(*id).expect("a node").address.clone();
        let mut options = ClientOptions::new(endpoints.iter().map(address));
        options.transport = self.network.host(host);
        options.attempt_timeout = Duration::from_millis(300);
        Client::local(options).await.expect("a client starts")
    }

    /// The leader among these nodes.
    pub async fn leader(&self, client: &Client, among: &[NodeId]) -> NodeId {
        within("a leader", async || {
            for node in among {
                let status = client.with_deadline(Duration::from_secs(1)).status(*node).await.ok()?;
                if status.groups[0].role == "leader" {
                    return Some(*node);
                }
            }
            None
        })
        .await
    }

    /// Cuts (or heals) a host off from all the others that are named.
    pub fn part(&self, one: &str, others: &[&str], cut: bool) {
        self.network.partition(&[one], others, cut);
    }

    pub async fn settled(&self, client: &Client) -> Vec<NodeStatus> {
        within("equal replicas", async || {
            let mut states = Vec::new();
            for id in 1..=NODES {
                states.push(client.with_deadline(Duration::from_secs(1)).status(NodeId(id)).await.ok()?);
            }
            let state = |s: &NodeStatus| (s.groups[0].applied, s.groups[0].last, s.groups[0].hash.clone());
            let (applied, last, _) = state(&states[0]);
            let equal = states.windows(2).all(|pair| state(&pair[0]) == state(&pair[1]));
            (equal && applied == last).then_some(states)
        })
        .await
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

fn cluster_node(id: u64) -> ClusterNode {
    ClusterNode { id: NodeId(id), address: format!("{}:1", host(NodeId(id))), data_dir: None }
}

pub fn host(node: NodeId) -> &'static str {
    HOSTS[node.0 as usize - 1]
}

/// Asks until there is an answer.
pub async fn within<T>(what: &str, question: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
