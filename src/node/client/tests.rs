//! The library over nodes that only pretend.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::LocalSet;

use super::*;
use crate::actors::clerk::fake::FakeCluster;
use crate::logic::ids::NodeId;
use crate::messages::admin::Chaos;
use crate::net::memory::MemoryNetwork;

fn run(paused: bool, test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(paused).build().expect("a runtime");
    LocalSet::new().block_on(&runtime, test);
}

/// A local client of three nodes in memory.
async fn local() -> (Client, Rc<FakeCluster>) {
    let network = MemoryNetwork::new(1);
    let cluster = FakeCluster::new();
    let nodes: Vec<_> = (1..=3).map(|n| (NodeId(n), format!("n{n}:1"))).collect();
    for (NodeId(n), address) in &nodes {
        cluster.serve(*n, address, &network.host(&format!("n{n}")), nodes.clone()).await;
    }
    let transport = network.host("client");
    let options = ClientOptions { transport, ..ClientOptions::new(["n2:1"]) };
    (Client::local(options).await.expect("it starts"), cluster)
}

#[test]
fn the_stores_methods() {
    run(true, async {
        let (client, _) = local().await;
        assert_eq!(client.get("a").await, Ok(None));
        assert_eq!(client.put("a", "1").await, Ok(1));
        assert_eq!(client.put_if("a", "2", 1).await, Ok(2));
        assert_eq!(client.put_if("a", "3", 1).await, Err(ClerkError::VersionMismatch { actual: 2 }));
        assert_eq!(client.put_if("b", "3", 1).await, Err(ClerkError::NotFound));
        assert_eq!(client.create("a", "3").await, Err(ClerkError::VersionMismatch { actual: 2 }));
        assert_eq!(client.append("a", "!").await, Ok(3));
        let found = Versioned { value: Bytes::from_static(b"2!"), version: 3 };
        assert_eq!(client.get("a").await, Ok(Some(found.clone())));
        assert_eq!(client.cas("a", Some(b"2!"), "4").await, Ok(Ok(4)));
        assert_eq!(client.cas("b", None, "5").await, Ok(Ok(1)));
        assert_eq!(client.cas("b", Some(b"x"), "5").await.map(|r| r.is_err()), Ok(true));
        assert_eq!(client.delete("a").await, Ok(true));
        assert_eq!(client.delete("a").await, Ok(false));
    });
}

#[test]
fn pages_follow_each_other() {
    run(true, async {
        let (client, _) = local().await;
        for n in 0..25 {
            client.put(format!("p/{n:02}"), "v").await.expect("put");
        }
        client.put("q", "v").await.expect("put");
        let limit = PageLimit { max_keys: 10, ..Default::default() };
        let mut pages = client.prefix_pages("p/", limit);
        let mut sizes = Vec::new();
        while let Some(pairs) = pages.next().await.expect("a page") {
            sizes.push(pairs.len());
        }
        assert_eq!(sizes, [10, 10, 5]);
        let all = client.prefix_pages("p/", limit).all().await.expect("all pages");
        assert_eq!(all.len(), 25);
        assert!(all.is_sorted_by_key(|pair| pair.key.clone()));
    });
}

#[test]
fn nodes_can_be_asked() {
    run(true, async {
        let (client, _) = local().await;
        for node in [3, 1, 2].map(NodeId) {
            assert_eq!(client.status(node).await.map(|status| status.node), Ok(node));
        }
        assert!(client.status(NodeId(9)).await.is_err());
        assert_eq!(client.tree(NodeId(1)).await, Err(misfit()));
        assert_eq!(client.transfer_leader(NodeId(2)).await, Ok(()));
        assert_eq!(client.chaos(NodeId(2), Chaos::DiskFail).await, Ok(()));
        let nodes = client.nodes().await.expect("the list");
        assert_eq!(nodes.iter().filter(|(.., up)| *up).count(), 3);
    });
}

#[test]
fn a_client_that_is_dropped_closes_its_session() {
    run(true, async {
        let (client, cluster) = local().await;
        client.put("a", "1").await.expect("put");
        let clone = client.with_deadline(Duration::from_secs(1));
        drop(client);
        clone.put("a", "1").await.expect("the clone lives");
        assert_eq!(cluster.sessions.get(), 1);
        drop(clone);
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(cluster.sessions.get(), 0);
        let (client, cluster) = local().await;
        client.put("a", "1").await.expect("put");
        assert_eq!(client.close().await, Ok(()));
        assert_eq!(cluster.sessions.get(), 0);
    });
}

#[test]
fn a_thread_of_its_own_over_tcp() {
    run(false, async {
        let cluster = FakeCluster::new();
        let transport: Arc<dyn Transport> = TcpTransport::shared();
        let address = cluster.serve(1, "127.0.0.1:0", &transport, Vec::new()).await;
        let client = Client::connect(ClientOptions::new([address])).await.expect("it starts");
        fn assert_shareable<T: Clone + Send + Sync + 'static>(_: &T) {}
        assert_shareable(&client);
        let puts = (0..20).map(|n| {
            let client = client.clone();
            tokio::task::spawn_local(async move { client.put(format!("k{n}"), "v").await })
        });
        for put in puts.collect::<Vec<_>>() {
            assert_eq!(put.await.expect("no panic"), Ok(1));
        }
        assert_eq!(client.close().await, Ok(()));
        assert_eq!(cluster.sessions.get(), 0);
    });
}

#[test]
fn without_an_address_there_is_no_client() {
    run(true, async {
        let none: [&str; 0] = [];
        assert!(matches!(Client::local(ClientOptions::new(none)).await, Err(ClerkError::Invalid(_))));
    });
}
