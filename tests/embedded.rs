//! Several nodes in one process, over a network in memory: the actors of the product, without its processes. One
//! thread runs three nodes and their clients; the network is cut and healed by calls.

mod embedded_support;

use std::sync::Arc;
use std::time::Duration;

use embedded_support::{Embedded, NODES, host};
use quorate::logic::ids::NodeId;
use quorate::messages::client::Consistency;
use quorate::{Client, Error};
use tokio::task::LocalSet;

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
