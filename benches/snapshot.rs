//! What clients notice of snapshots of a large store: `cargo bench --bench snapshot [-- KEYS]`.
//!
//! Three node processes with the default configuration (a snapshot after 16 MiB of log), KEYS keys of 256 bytes
//! (1,000,000 unless said otherwise). 16 clients write about 100 small values a second each, and one overwrites keys
//! in batches, 4 MB/s, so that the log grows. Measured: the slowest of the 16 clients' writes while some node writes a
//! snapshot or compacts its log after it, and otherwise; the restart of each node after `kill -9`; and the way back of
//! a follower that was away until the log it needs was compacted. QUORATE_BINARY names the binary to be measured.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::logic::kv::command::{Change, Expect, Lifetime};
use support::Cluster;
use support::writers::Writers;

const CONFIG: &str = "[log]\nlevel = \"warn\"\n[storage]\nkeep_log_entries = 1000\n";
const CLIENTS: usize = 16;
const PACE: Duration = Duration::from_millis(10);
const LOADERS: usize = 8;
const BATCH: usize = 500;
/// Bytes per second and puts per batch of the client that makes the log grow.
const BULK_RATE: usize = 4_000_000;
const BULK_BATCH: usize = 32;
const VALUE_BYTES: usize = 256;
/// How long after a snapshot's file is complete its consequences are counted in: marks, compaction, deletion.
const AFTERMATH: Duration = Duration::from_secs(1);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let argument = std::env::args().skip(1).find(|word| word != "--bench");
    let keys: usize = argument.map_or(1_000_000, |word| word.parse().expect("KEYS is a number"));
    let mut cluster = Cluster::start_apart(3, CONFIG).await;
    let admin = cluster.client().await.with_deadline(Duration::from_secs(60));

    let began = Instant::now();
    load(&cluster, keys).await;
    report(&format!("load {keys} keys of {VALUE_BYTES} bytes"), began.elapsed());
    cluster.settled(&admin).await;
    for node in cluster.nodes() {
        let back = restart(&mut cluster, &admin, node).await;
        report(&format!("restart {node} after kill -9, until it has caught up"), back);
    }

    let writers = Writers::start(&cluster, CLIENTS, PACE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let bulk = tokio::spawn(overwrite(cluster.client().await, keys, stop.clone()));
    let watch = tokio::spawn(watch(files(&cluster), stop.clone()));
    let began = Instant::now();
    while snapshots(&cluster, &admin).await < 3 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(began.elapsed() < Duration::from_secs(300), "the nodes take no snapshots");
    }
    tokio::time::sleep(AFTERMATH * 3).await;
    let measured = (began, Instant::now());

    let (away, compacted) = lose_follower(&mut cluster, &admin).await;
    let began = Instant::now();
    cluster.start_node(away);
    cluster.settled_while_writing(&admin, away).await;
    report(&format!("{away}, whose log was compacted at index {compacted}, catches up"), began.elapsed());
    report("  slowest write meanwhile", writers.slowest(began, Instant::now()));

    stop.store(true, Ordering::Relaxed);
    bulk.await.expect("the overwriting client goes on");
    let spans = watch.await.expect("the watch goes on");
    compare(&writers, &spans, measured);
    writers.finish(&cluster).await;
    let settled = cluster.settled(&admin).await;
    let hashes: Vec<_> = settled.iter().map(|status| &status.groups[0].hash).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
}

fn report(what: &str, time: Duration) {
    println!("{what:<66} {:>10.1} ms", time.as_secs_f64() * 1e3);
}

fn put(number: usize, value: u8) -> Change {
    Change::Put {
        key: format!("key/{number:08}").into(),
        value: vec![value; VALUE_BYTES].into(),
        expect: Expect::Any,
        lifetime: Lifetime::Forever,
    }
}

async fn load(cluster: &Cluster, keys: usize) {
    let client = cluster.client().await.with_deadline(Duration::from_secs(120));
    let mut loaders = Vec::new();
    for loader in 0..LOADERS {
        let client = client.clone();
        loaders.push(tokio::spawn(async move {
            for first in (loader * BATCH..keys).step_by(LOADERS * BATCH) {
                let changes = (first..keys.min(first + BATCH)).map(|number| put(number, b'a')).collect();
                client.batch(changes).await.expect("a batch succeeds");
            }
        }));
    }
    for loader in loaders {
        loader.await.expect("a loader goes on");
    }
}

/// Makes the log grow, at a steady rate.
async fn overwrite(client: Client, keys: usize, stop: Arc<AtomicBool>) {
    let client = client.with_deadline(Duration::from_secs(60));
    let mut beat =
        tokio::time::interval(Duration::from_secs_f64((BULK_BATCH * VALUE_BYTES) as f64 / BULK_RATE as f64));
    let mut random = fastrand::Rng::with_seed(1);
    while !stop.load(Ordering::Relaxed) {
        beat.tick().await;
        let changes = (0..BULK_BATCH).map(|_| put(random.usize(..keys), b'b')).collect();
        client.batch(changes).await.expect("a batch succeeds");
    }
}

async fn restart(cluster: &mut Cluster, admin: &Client, node: NodeId) -> Duration {
    cluster.kill_node(node);
    let began = Instant::now();
    cluster.start_node(node);
    cluster.settled_while_writing(admin, node).await;
    began.elapsed()
}

/// Nodes that have taken a snapshot of what was written since they were started.
async fn snapshots(cluster: &Cluster, admin: &Client) -> usize {
    let mut count = 0;
    for node in cluster.nodes() {
        if let Ok(status) = admin.status(node).await {
            let group = &status.groups[0];
            count += usize::from(group.snapshot > 0 && group.last - group.snapshot < group.last / 4);
        }
    }
    count
}

/// Kills a follower, and waits until the leader no longer has the log that it needs.
async fn lose_follower(cluster: &mut Cluster, admin: &Client) -> (NodeId, u64) {
    let leader = cluster.leader(admin).await;
    let away = cluster.nodes().find(|node| *node != leader).expect("there are three");
    let applied = admin.status(away).await.expect("it runs").groups[0].applied;
    cluster.kill_node(away);
    let began = Instant::now();
    loop {
        let group = admin.status(leader).await.expect("the leader answers").groups[0].clone();
        if group.snapshot > applied + 1000 {
            return (away, group.snapshot);
        }
        assert!(began.elapsed() < Duration::from_secs(300), "the leader takes no snapshot");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The directories where snapshots are written.
fn files(cluster: &Cluster) -> Vec<std::path::PathBuf> {
    cluster.nodes().map(|node| cluster.data_dir(node).join("snapshots")).collect()
}

/// Looks every few milliseconds which nodes write a snapshot: from when to when each was written.
async fn watch(directories: Vec<std::path::PathBuf>, stop: Arc<AtomicBool>) -> Vec<(Instant, Instant)> {
    let writes = |directory: &std::path::PathBuf| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".tmp"))
    };
    let mut since: Vec<Option<Instant>> = vec![None; directories.len()];
    let mut spans = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(3)).await;
        for (directory, since) in directories.iter().zip(&mut since) {
            match (writes(directory), *since) {
                (true, None) => *since = Some(Instant::now()),
                (false, Some(began)) => {
                    spans.push((began, Instant::now()));
                    *since = None;
                }
                _ => {}
            }
        }
    }
    spans
}

/// Writes of the 16 clients beside snapshots, and without.
fn compare(writers: &Writers, spans: &[(Instant, Instant)], (from, to): (Instant, Instant)) {
    let (mut beside, mut without) = (Vec::new(), Vec::new());
    for write in writers.all() {
        if write.began < from || write.acknowledged > to {
            continue;
        }
        let hit = spans.iter().any(|(a, b)| write.began <= *b + AFTERMATH && write.acknowledged >= *a);
        if hit { beside.push(write.took()) } else { without.push(write.took()) }
    }
    let count = spans.iter().filter(|(a, _)| (from..to).contains(a)).count();
    let longest = spans.iter().map(|(a, b)| *b - *a).max().unwrap_or_default();
    println!("{count} snapshots were written, the longest in {:.1} s", longest.as_secs_f64());
    println!("{:<30} {:>8} {:>9} {:>9} {:>9}", "writes, in ms", "count", "median", "p99.9", "max");
    for (what, mut took) in [("beside snapshots", beside), ("without", without)] {
        took.sort_unstable();
        let at = |share: f64| {
            let place = (took.len().saturating_sub(1) as f64 * share).round() as usize;
            took.get(place).map_or(0.0, |took| took.as_secs_f64() * 1e3)
        };
        println!("{what:<30} {:>8} {:>9.2} {:>9.2} {:>9.2}", took.len(), at(0.5), at(0.999), at(1.0));
    }
}
