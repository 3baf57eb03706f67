//! What a client sees when a part of the leader fails: its writes go on, each takes effect exactly once, and the
//! replicas end up equal. How long it takes is measured by `benches/failover.rs`.

mod support;

use std::time::{Duration, Instant};

use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::messages::admin::{ActorStatus, Chaos};
use support::Cluster;
use support::writers::Writers;

const CONFIG: &str = r#"
[chaos]
enabled = true
[supervision]
max_restarts = 1000
[launcher]
max_restarts = 1000
backoff_max_ms = 500
"#;

/// Paths of the leader's actors of each kind that a failure may hit; a link's to any other node.
async fn actors(admin: &Client, leader: NodeId) -> Vec<String> {
    fn walk(actor: &ActorStatus, above: &str, paths: &mut Vec<String>) {
        let path = if above.is_empty() { actor.name.clone() } else { format!("{above}/{}", actor.name) };
        if actor.children.is_empty() {
            paths.push(path.clone());
        }
        for child in &actor.children {
            walk(child, &path, paths);
        }
    }
    let mut paths = Vec::new();
    walk(&admin.tree(leader).await.expect("the leader answers"), "", &mut paths);
    paths
}

#[tokio::test]
async fn writes_survive_the_panic_of_every_actor_of_the_leader() {
    let cluster = Cluster::start(3, CONFIG);
    let admin = cluster.client().await.with_deadline(Duration::from_secs(20));
    let writers = Writers::start(&cluster, 4, Duration::ZERO).await;
    let leader = cluster.leader(&admin).await;
    let mut hit = 0;
    for actor in actors(&admin, leader).await {
        let leader = cluster.leader(&admin).await;
        let before = admin.status(leader).await.expect("the leader answers").restarts;
        // A connection may be gone by now, a leader's link may be another's; the rest has the same name everywhere.
        if admin.chaos(leader, Chaos::Panic { actor: actor.clone() }).await.is_err() {
            continue;
        }
        writers.all_have_written_since(Instant::now()).await;
        let after = admin.status(leader).await.expect("the node answers").restarts;
        assert!(after > before || actor.contains("connection"), "{actor} did not panic");
        hit += 1;
    }
    assert!(hit >= 6, "only {hit} actors were hit");
    for _ in 0..5 {
        let leader = cluster.leader(&admin).await;
        let _ = admin.chaos(leader, Chaos::Panic { actor: "*".into() }).await;
        writers.all_have_written_since(Instant::now()).await;
    }
    writers.finish(&cluster).await;
    assert_equal(&cluster, &admin).await;
}

#[tokio::test]
async fn writes_survive_kills_of_the_leaders_process() {
    let cluster = Cluster::start(3, CONFIG);
    let admin = cluster.client().await.with_deadline(Duration::from_secs(20));
    let writers = Writers::start(&cluster, 4, Duration::ZERO).await;
    for _ in 0..3 {
        let leader = cluster.leader(&admin).await;
        let killed = Instant::now();
        assert!(cluster.signal(leader, libc::SIGKILL), "the leader's process is there");
        writers.all_have_written_since(Instant::now()).await;
        cluster.back_up(&admin, leader, killed).await;
    }
    writers.finish(&cluster).await;
    assert_equal(&cluster, &admin).await;
}

async fn assert_equal(cluster: &Cluster, client: &Client) {
    let settled = cluster.settled(client).await;
    let hashes: Vec<_> = settled.iter().map(|status| &status.groups[0].hash).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
}
