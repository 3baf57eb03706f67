//! Several nodes in one process, over a network in memory: the actors of the product, without its processes. One
//! thread runs three nodes and their clients; the network is cut and healed by calls.

use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::messages::admin::NodeStatus;
use quorate::messages::client::Consistency;
use quorate::net::memory::MemoryNetwork;
use quorate::node::assembly::Node;
use quorate::node::config::{ClusterNode, Config};
use quorate::{Client, ClientOptions, Error};
use tokio::task::LocalSet;

const NODES: u64 = 3;
const HOSTS: [&str; 3] = ["host-1", "host-2", "host-3"];

/// Three nodes on this thread. Each lives on a host of its own, so that the network can part them.
struct Embedded {
    network: MemoryNetwork,
    config: Config,
    nodes: Vec<Node>,
    _dir: tempfile::TempDir,
}

impl Embedded {
    async fn start() -> Embedded {
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
    async fn client(&self, host: &str, endpoints: &[NodeId]) -> Client {
        let address = |id: &NodeId| self.config.cluster_node(*id).expect("a node").address.clone();
        let mut options = ClientOptions::new(endpoints.iter().map(address));
        options.transport = self.network.host(host);
        options.attempt_timeout = Duration::from_millis(300);
        Client::local(options).await.expect("a client starts")
    }

    /// The leader among these nodes.
    async fn leader(&self, client: &Client, among: &[NodeId]) -> NodeId {
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
    fn part(&self, one: &str, others: &[&str], cut: bool) {
        self.network.partition(&[one], others, cut);
    }

    async fn settled(&self, client: &Client) -> Vec<NodeStatus> {
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

    async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

fn cluster_node(id: u64) -> ClusterNode {
    ClusterNode { id: NodeId(id), address: format!("{}:1", host(NodeId(id))), data_dir: None }
}

fn host(node: NodeId) -> &'static str {
    HOSTS[node.0 as usize - 1]
}

/// Asks until there is an answer.
async fn within<T>(what: &str, question: impl AsyncFn() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn value(client: &Client, key: &'static str) -> Option<Vec<u8>> {
    client.get(key).await.expect("a read succeeds").map(|found| found.value.to_vec())
}

#[tokio::test]
async fn three_nodes_and_their_clients_live_on_one_thread() {
    LocalSet::new()
        .run_until(async {
            let cluster = Embedded::start().await;
            let all: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
            let client = Arc::new(cluster.client("somewhere", &all).await);
            client.put("greeting", "hello").await.expect("a write succeeds");
            assert_eq!(value(&client, "greeting").await, Some(b"hello".to_vec()));
            let settled = cluster.settled(&client).await;
            assert!(settled.iter().all(|status| status.groups[0].keys == 1), "{settled:#?}");
            cluster.stop().await;
        })
        .await;
}

#[tokio::test]
async fn a_leader_that_is_cut_off_answers_no_linearizable_read() {
    LocalSet::new()
        .run_until(async {
            let cluster = Embedded::start().await;
            let all: Vec<NodeId> = (1..=NODES).map(NodeId).collect();
            let inside = cluster.client("inside", &all).await;
            inside.put("k", "old").await.expect("a write succeeds");
            let old = cluster.leader(&inside, &all).await;
            let rest: Vec<NodeId> = all.into_iter().filter(|node| *node != old).collect();
            let rest_hosts: Vec<&str> = rest.iter().map(|node| host(*node)).collect();

            // `stranded` sees the old leader only, `inside` the others only.
            let stranded = cluster.client("stranded", &[old]).await.with_deadline(Duration::from_millis(400));
            assert_eq!(value(&stranded, "k").await, Some(b"old".to_vec()));
            cluster.part("stranded", &rest_hosts, true);
            cluster.part("inside", &[host(old)], true);
            cluster.part(host(old), &rest_hosts, true);

            // From the very first moment on: the old leader does not know yet that it is cut off.
            for round in 0..6 {
                let written = inside.put("k", format!("new-{round}")).await;
                written.expect("the majority goes on");
                // Both at once: after the first has failed, the old leader may know that it does not lead.
                let reader = |consistency| stranded.with_consistency(consistency);
                let (linearizable, lease) = (reader(Consistency::Linearizable), reader(Consistency::Lease));
                let reads = tokio::join!(linearizable.get("k"), lease.get("k"));
                for (consistency, read) in [("linearizable", reads.0), ("lease", reads.1)] {
                    let text = format!("a {consistency} read at the old leader, round {round}");
                    assert!(matches!(read, Err(Error::Timeout { .. })), "{text}: {read:?}");
                }
            }
            let stale =
                stranded.get_from(old, "k").await.expect("it still has what it had").expect("the key");
            assert_eq!(&stale.value[..], b"old");
            // Of another key: it may still take effect once the network is healed.
            let lost = stranded.put("of the old leader", "?").await;
            assert!(lost.is_err(), "{lost:?}");

            cluster.part("stranded", &rest_hosts, false);
            cluster.part("inside", &[host(old)], false);
            cluster.part(host(old), &rest_hosts, false);
            inside.put("k", "after").await.expect("a write succeeds");
            let stranded = stranded.with_deadline(Duration::from_secs(30));
            assert_eq!(value(&stranded, "k").await, Some(b"after".to_vec()));
            cluster.settled(&inside).await;
            cluster.stop().await;
        })
        .await;
}
