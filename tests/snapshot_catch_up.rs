//! Followers that were away for so long that the log they need is compacted: they get a snapshot, while the others
//! serve. Kills while a snapshot is received, and while one is written, leave no harm.

mod support;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::logic::kv::command::{Change, Expect, Lifetime};
use quorate::messages::admin::GroupStatus;
use support::Cluster;
use support::writers::Writers;

/// A snapshot after every 256 KiB of log, in small chunks, so that one is always being written or sent.
const CONFIG: &str = r#"
[chaos]
enabled = true
[supervision]
max_restarts = 1000
[raft]
snapshot_chunk_bytes = 16384
[storage]
segment_bytes = 1048576
snapshot_after_log_bytes = 262144
keep_log_entries = 10
snapshot_rate_bytes_per_s = 4194304
"#;

/// `keep_log_entries` above.
const KEPT: u64 = 10;

const KEYS: usize = 4000;
const BATCH: usize = 20;

/// Puts `KEYS` keys of 256 bytes, some at a time.
async fn load(client: &Client, tag: &str) {
    for first in (0..KEYS).step_by(BATCH) {
        let change = |number| Change::Put {
            key: format!("{tag}/{number}").into(),
            value: vec![b'v'; 256].into(),
            expect: Expect::Any,
            lifetime: Lifetime::Forever,
        };
        client.batch((first..first + BATCH).map(change).collect()).await.expect("a batch succeeds");
    }
}

async fn state(client: &Client, node: NodeId) -> Option<GroupStatus> {
    let status = client.with_deadline(Duration::from_secs(1)).status(node).await.ok()?;
    Some(status.groups[0].clone())
}

async fn follower(cluster: &Cluster, client: &Client) -> NodeId {
    let leader = cluster.leader(client).await;
    cluster.nodes().find(|node| *node != leader).expect("there are three")
}

/// Loads until the leader has compacted its log behind `index`.
async fn load_until_compacted(cluster: &Cluster, client: &Client, index: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        load(client, "while-away").await;
        let leader = cluster.leader(client).await;
        // So many entries are kept behind a snapshot.
        if state(client, leader).await.is_some_and(|state| state.snapshot > index + KEPT) {
            return;
        }
        assert!(Instant::now() < deadline, "the leader takes no snapshot");
    }
}

async fn assert_equal(cluster: &Cluster, client: &Client) {
    let settled = cluster.settled(client).await;
    let hashes: Vec<_> = settled.iter().map(|status| &status.groups[0].hash).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
}

#[tokio::test]
async fn a_follower_that_was_away_catches_up_by_snapshot() {
    let mut cluster = Cluster::start_apart(3, CONFIG).await;
    let client = cluster.client().await.with_deadline(Duration::from_secs(30));
    client.put("first", "of all").await.expect("a write succeeds");
    cluster.settled(&client).await;
    let away = follower(&cluster, &client).await;
    let before = state(&client, away).await.expect("it runs").applied;
    cluster.kill_node(away);
    load_until_compacted(&cluster, &client, before).await;

    let writers = Writers::start(&cluster, 4, Duration::from_millis(2)).await;
    let restarted = Instant::now();
    cluster.start_node(away);
    cluster.settled_while_writing(&client, away).await;
    let took = restarted.elapsed();
    let after = state(&client, away).await.expect("it runs");
    // The entries behind `before` exist nowhere any more, so it was a snapshot that brought it here.
    assert!(after.snapshot > before, "{after:?}");
    println!(
        "caught up in {took:?}; slowest write meanwhile {:?}",
        writers.slowest(restarted, restarted + took)
    );
    writers.finish(&cluster).await;
    assert_equal(&cluster, &client).await;
}

#[tokio::test]
async fn kills_while_a_snapshot_is_received_do_no_harm() {
    let mut cluster = Cluster::start_apart(3, CONFIG).await;
    let client = cluster.client().await.with_deadline(Duration::from_secs(30));
    let away = follower(&cluster, &client).await;
    let parts = |cluster: &Cluster| files(cluster, away, ".part");
    let mut received = 0;
    for _ in 0..3 {
        let before = state(&client, away).await.map_or(0, |state| state.applied);
        cluster.kill_node(away);
        load_until_compacted(&cluster, &client, before).await;
        cluster.start_node(away);
        // Until a part of a snapshot is there; a quick receiver may be done before anybody looks.
        let deadline = Instant::now() + Duration::from_secs(20);
        while parts(&cluster) == 0 && Instant::now() < deadline {
            if state(&client, away).await.is_some_and(|state| state.snapshot > before) {
                break;
            }
        }
        received += parts(&cluster);
        cluster.kill_node(away);
        cluster.start_node(away);
        cluster.settled_while_writing(&client, away).await;
        assert!(state(&client, away).await.expect("it runs").snapshot > before);
    }
    println!("{received} of 3 kills hit a snapshot that was being received");
    assert_equal(&cluster, &client).await;
    assert_eq!(parts(&cluster), 0, "what was received in part is cleaned up");
}

#[tokio::test]
async fn kills_while_a_snapshot_is_written_do_no_harm() {
    let mut cluster = Cluster::start_apart(3, CONFIG).await;
    let client = cluster.client().await.with_deadline(Duration::from_secs(60));
    let writers = Writers::start(&cluster, 4, Duration::from_millis(2)).await;
    load(&client, "before").await;
    let mut hits = 0;
    for round in 0..3 {
        let node = NodeId(1 + round % 3);
        let loading = {
            let client = client.clone();
            tokio::spawn(async move { load(&client, &format!("during-{round}")).await })
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while files(&cluster, node, ".tmp") == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        cluster.kill_node(node);
        hits += files(&cluster, node, ".tmp");
        cluster.start_node(node);
        loading.await.expect("the load goes on");
        cluster.settled_while_writing(&client, node).await;
    }
    assert!(hits > 0, "no kill hit a snapshot that was being written");
    writers.finish(&cluster).await;
    assert_equal(&cluster, &client).await;
}

/// A state of several times the size that the log may have: snapshots cannot wait for as much log as there is state.
#[tokio::test]
async fn a_store_larger_than_the_log_may_be_stays_writable() {
    let config = "
[raft]
max_uncommitted_bytes = 262144
max_log_bytes = 524288
[storage]
segment_bytes = 1048576
snapshot_after_log_bytes = 131072
keep_log_entries = 10
keep_log_bytes = 65536
";
    let cluster = Cluster::start(3, config);
    let client = cluster.client().await.with_deadline(Duration::from_secs(30));
    for round in 0..3 {
        load(&client, &format!("round-{round}")).await;
    }
    let settled = cluster.settled(&client).await;
    assert!(settled.iter().all(|status| status.groups[0].bytes > 4 * 524_288), "{settled:#?}");
    assert_equal(&cluster, &client).await;
}

/// Nobody writes any more, so no other snapshot would be taken by itself.
#[tokio::test]
async fn a_leader_whose_snapshot_is_damaged_takes_another_one_and_sends_that() {
    let mut cluster = Cluster::start_apart(3, CONFIG).await;
    let client = cluster.client().await.with_deadline(Duration::from_secs(30));
    let away = follower(&cluster, &client).await;
    let before = state(&client, away).await.expect("it runs").applied;
    cluster.kill_node(away);
    load_until_compacted(&cluster, &client, before).await;
    let leader = cluster.leader(&client).await;
    while files(&cluster, leader, ".tmp") > 0 {
        tokio::task::yield_now().await;
    }
    let damaged = state(&client, leader).await.expect("it runs").snapshot;
    for path in paths(&cluster, leader, ".snap") {
        let mut bytes = std::fs::read(&path).expect("it is there");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).expect("it is ours");
    }
    cluster.start_node(away);
    assert_equal(&cluster, &client).await;
    assert!(state(&client, leader).await.expect("it runs").snapshot > damaged);
}

/// Snapshot files of a node with that ending.
fn paths(cluster: &Cluster, node: NodeId, ending: &str) -> Vec<PathBuf> {
    let Ok(directory) = std::fs::read_dir(cluster.data_dir(node).join("snapshots")) else {
        return Vec::new();
    };
    let paths = directory.flatten().map(|entry| entry.path());
    paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect()
}

/// How many there are.
fn files(cluster: &Cluster, node: NodeId, ending: &str) -> usize {
    paths(cluster, node, ending).len()
}
