//! Nodes whose disk hangs, is slow, fails or is full: no acknowledged write is lost, none takes effect twice, and
//! clients can go on as long as a majority of the nodes has a disk that works.

mod support;

use std::time::{Duration, Instant};

use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::messages::admin::Chaos;
use support::writers::Writers;
use support::{Cluster, tail};

/// Small segments, so that a full disk is soon felt: the log writes only into segments that exist already.
const CONFIG: &str = r#"
[chaos]
enabled = true
[launcher]
max_restarts = 1000
[storage]
segment_bytes = 1048576
snapshot_after_log_bytes = 1048576
keep_log_entries = 1000
"#;

struct Trouble {
    cluster: Cluster,
    admin: Client,
    writers: Writers,
    leader: NodeId,
    since: Instant,
}

impl Trouble {
    async fn start(extra: &str) -> Trouble {
        let cluster = Cluster::start(3, &format!("{CONFIG}{extra}"));
        let admin = cluster.client().await.with_deadline(Duration::from_secs(20));
        let writers = Writers::start(&cluster, 8, Duration::ZERO).await;
        let leader = cluster.leader(&admin).await;
        Trouble { cluster, admin, writers, leader, since: Instant::now() }
    }

    async fn order(&self, node: NodeId, chaos: Chaos) {
        self.admin.chaos(node, chaos).await.expect("the node obeys");
    }

    fn follower(&self) -> NodeId {
        self.cluster.nodes().find(|node| *node != self.leader).expect("there are three")
    }

    /// Everything that was acknowledged is there once, and the replicas are equal.
    async fn end(self, what: &str) {
        let now = Instant::now();
        self.writers.all_have_written_since(now).await;
        let gap = self.writers.longest_gap(self.since, now);
        let slowest = self.writers.slowest(self.since, now);
        let count = self.writers.finish(&self.cluster).await.len();
        let settled = self.cluster.settled(&self.admin).await;
        let hashes: Vec<_> = settled.iter().map(|status| &status.groups[0].hash).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
        println!("{what}: {count} writes, longest gap {gap:?}, slowest write {slowest:?}");
    }
}

#[tokio::test]
async fn the_leaders_disk_hangs() {
    let trouble = Trouble::start("").await;
    let since = Instant::now();
    let term = trouble.admin.status(trouble.leader).await.expect("the leader answers").groups[0].term;
    trouble.order(trouble.leader, Chaos::DiskHang { ms: 3000 }).await;
    // The majority has disks that work, so writes that begin after the hang are acknowledged before it ends.
    tokio::time::sleep(Duration::from_millis(500)).await;
    trouble.writers.all_have_written_since(Instant::now()).await;
    assert!(since.elapsed() < Duration::from_secs(3), "no write before the disk came back");
    tokio::time::sleep((since + Duration::from_millis(3500)).duration_since(Instant::now())).await;
    let now = trouble.admin.status(None).await.expect("a node answers").groups[0].clone();
    println!(
        "terms: {term} before, {} after; the leader was {}, is {:?}",
        now.term, trouble.leader, now.leader
    );
    trouble.end("the leader's disk hangs for 3 s").await;
}

#[tokio::test]
async fn a_disk_is_slow() {
    let trouble = Trouble::start("").await;
    for node in [trouble.follower(), trouble.leader] {
        let since = Instant::now();
        trouble.order(node, Chaos::DiskDelay { ms: 100 }).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        trouble.order(node, Chaos::DiskDelay { ms: 0 }).await;
        let slowest = trouble.writers.slowest(since, Instant::now());
        let role = if node == trouble.leader { "leader" } else { "follower" };
        println!("100 ms more for each write of the {role}'s disk: slowest write {slowest:?}");
    }
    trouble.end("slow disks").await;
}

#[tokio::test]
async fn a_disk_fails() {
    let trouble = Trouble::start("").await;
    for node in [trouble.leader, trouble.follower()] {
        let since = Instant::now();
        // The process may be gone before its answer is.
        let _ = trouble.admin.with_deadline(Duration::from_secs(2)).chaos(node, Chaos::DiskFail).await;
        trouble.cluster.back_up(&trouble.admin, node, since).await;
        trouble.writers.all_have_written_since(Instant::now()).await;
    }
    let log = trouble.cluster.log();
    for words in ["the log cannot be written", "injected sync error", "ended with exit code 70"] {
        assert!(log.contains(words), "the log does not say {words:?}\n{}", tail(&log, 60));
    }
    trouble.end("failing disks").await;
}

/// Waits until the node has refused writes because its disk is full.
async fn refusals(trouble: &Trouble, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while trouble.cluster.log().matches("the disk is full").count() < count {
        assert!(Instant::now() < deadline, "nothing was refused\n{}", tail(&trouble.cluster.log(), 30));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_disk_is_full_for_a_while() {
    // So few restarts that a group that does not wait for room would be given up at once.
    let few = "[supervision]\nmax_restarts = 6\nwindow_s = 4\nbackoff_min_ms = 1\nbackoff_max_ms = 1\n";
    let trouble = Trouble::start(few).await;
    for node in [trouble.leader, trouble.follower()] {
        let pid = trouble.cluster.pid(node);
        let since = Instant::now();
        let seen = trouble.cluster.log().matches("the disk is full").count();
        trouble.order(node, Chaos::DiskFull { after_bytes: Some(0) }).await;
        refusals(&trouble, seen + 3).await;
        // Two disks have room.
        trouble.writers.all_have_written_since(Instant::now()).await;
        trouble.order(node, Chaos::DiskFull { after_bytes: None }).await;
        trouble.cluster.settled_while_writing(&trouble.admin, node).await;
        let gap = trouble.writers.longest_gap(since, Instant::now());
        println!("the disk of {node} is full: longest gap {gap:?}");
        assert_eq!(trouble.cluster.pid(node), pid, "the process ended\n{}", tail(&trouble.cluster.log(), 30));
    }
    trouble.end("full disks").await;
}

#[tokio::test]
async fn all_disks_are_full_for_a_while() {
    let trouble = Trouble::start("").await;
    for node in trouble.cluster.nodes() {
        trouble.order(node, Chaos::DiskFull { after_bytes: Some(100_000) }).await;
    }
    refusals(&trouble, 6).await;
    for node in trouble.cluster.nodes() {
        // The admin actor of a node lives through all this.
        trouble.order(node, Chaos::DiskFull { after_bytes: None }).await;
    }
    trouble.writers.all_have_written_since(Instant::now()).await;
    trouble.end("all disks full").await;
}
