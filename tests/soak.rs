//! Real processes under fire: 16 clients put and append while processes are killed, stopped, and actors panic.
//! Afterwards every acknowledged write must be there, every append exactly once and in order, and all replicas equal.
//!
//! Short by default. For a long run of one kind, say how many seconds:
//! `QUORATE_SOAK_SECONDS=300 cargo test --profile soak --test soak kills -- --nocapture`

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::messages::admin::Chaos;
use quorate::{Client, Error};
use support::{Cluster, tail};

const CLIENTS: u64 = 16;
/// Clients that append to the same keys.
const SHARING: u64 = 4;
/// Appends of a client to one key.
const PER_KEY: u64 = 200;
/// Keys that a client puts to.
const PUT_KEYS: u64 = 50;

/// Everything may be restarted as often as this test likes.
const CONFIG: &str = r#"
[chaos]
enabled = true
[supervision]
max_restarts = 1000
[launcher]
max_restarts = 1000
backoff_max_ms = 500
[storage]
snapshot_after_log_bytes = 2097152
keep_log_entries = 1000
"#;

/// What a client knows for sure, and what not.
#[derive(Default)]
struct Ledger {
    /// Appends by key: number, and whether it was acknowledged.
    appends: BTreeMap<String, Vec<(u64, bool)>>,
    /// Puts by key: the last acknowledged number, and the largest whose fate is unknown.
    puts: BTreeMap<String, (u64, u64)>,
    acknowledged: u64,
    unknown: u64,
}

async fn write(client: Client, me: u64, stop: Arc<AtomicBool>) -> Ledger {
    let mut ledger = Ledger::default();
    for number in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("log/{}/{}", me % SHARING, number / PER_KEY);
        let element = format!("{me}.{number};");
        let appended = client.append(key.clone(), element).await;
        let acknowledged = judge(&appended, &mut ledger);
        ledger.appends.entry(key).or_default().push((number, acknowledged));

        let key = format!("put/{me}/{}", number % PUT_KEYS);
        let put = client.put(key.clone(), format!("{number}")).await;
        let acknowledged = judge(&put, &mut ledger);
        let entry = ledger.puts.entry(key).or_default();
        if acknowledged { entry.0 = number } else { entry.1 = number }
    }
    ledger
}

fn judge<T: std::fmt::Debug>(result: &Result<T, Error>, ledger: &mut Ledger) -> bool {
    match result {
        Ok(_) => {
            ledger.acknowledged += 1;
            true
        }
        Err(error) if error.is_maybe() => {
            ledger.unknown += 1;
            false
        }
        Err(Error::Timeout { .. } | Error::Unavailable(_)) => false,
        Err(error) => panic!("a write was refused: {error}"),
    }
}

/// Runs the clients while `fault` is called every two seconds, then checks everything.
async fn soak<F: AsyncFn(&Cluster, &Client, &mut fastrand::Rng)>(name: &str, fault: F) {
    let seconds = std::env::var("QUORATE_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(6);
    let seed = std::env::var("QUORATE_SOAK_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let mut rng = fastrand::Rng::with_seed(seed);
    let cluster = Cluster::start(3, CONFIG);
    let stop = Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for me in 0..CLIENTS {
        let client = cluster.client().await.with_deadline(Duration::from_secs(30));
        writers.push(tokio::spawn(write(client, me, stop.clone())));
    }
    let admin = cluster.client().await.with_deadline(Duration::from_secs(3));
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut faults = 0;
    while Instant::now() < until {
        tokio::time::sleep(Duration::from_secs(2)).await;
        fault(&cluster, &admin, &mut rng).await;
        faults += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let mut ledgers = Vec::new();
    for writer in writers {
        ledgers.push(writer.await.expect("a writer ends well"));
    }
    let acknowledged: u64 = ledgers.iter().map(|ledger| ledger.acknowledged).sum();
    let unknown: u64 = ledgers.iter().map(|ledger| ledger.unknown).sum();
    assert!(acknowledged > 0, "nothing was written\n{}", tail(&cluster.log(), 60));
    let reader = cluster.client().await.with_deadline(Duration::from_secs(60));
    check(&reader, &ledgers).await;
    let settled = cluster.settled(&reader).await;
    let hashes: Vec<_> = settled.iter().map(|status| status.groups[0].hash.clone()).collect();
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
    println!(
        "{name}: {seconds} s, seed {seed}, {faults} rounds of faults, {acknowledged} writes acknowledged, \
         {unknown} of unknown fate, replicas equal ({})",
        hashes[0]
    );
}

/// The appends of each client to one key.
type Appends<'a> = Vec<(u64, &'a Vec<(u64, bool)>)>;

async fn check(client: &Client, ledgers: &[Ledger]) {
    let mut keys: BTreeMap<&String, Appends<'_>> = BTreeMap::new();
    for (me, ledger) in ledgers.iter().enumerate() {
        for (key, appends) in &ledger.appends {
            keys.entry(key).or_default().push((me as u64, appends));
        }
    }
    for (key, clients) in keys {
        let value =
            client.get(key.clone()).await.expect("a read succeeds").map_or(Vec::new(), |v| v.value.to_vec());
        let text = String::from_utf8(value).expect("the elements are text");
        let elements: Vec<&str> = text.split_terminator(';').collect();
        check_appends(key, &elements, &clients);
    }
    for ledger in ledgers {
        for (key, (acknowledged, unknown)) in &ledger.puts {
            let value = client.get(key.clone()).await.expect("a read succeeds");
            let number: u64 =
                value.map_or(0, |v| String::from_utf8_lossy(&v.value).parse().expect("a number"));
            let fits = number == *acknowledged || (number > *acknowledged && number <= *unknown);
            assert!(fits, "{key} holds {number}; acknowledged {acknowledged}, unknown up to {unknown}");
        }
    }
}

/// Every acknowledged element once, an unknown one at most once, nothing else, each client's in order.
fn check_appends(key: &str, elements: &[&str], clients: &[(u64, &Vec<(u64, bool)>)]) {
    let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for element in elements {
        let (client, number) = element.split_once('.').expect("client and number");
        found.entry(client.parse().expect("a client")).or_default().push(number.parse().expect("a number"));
    }
    for (client, appends) in clients {
        let numbers = found.remove(client).unwrap_or_default();
        assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{key}: client {client}: {numbers:?}");
        for (number, acknowledged) in *appends {
            let there = numbers.binary_search(number).is_ok();
            assert!(there || !acknowledged, "{key}: {client}.{number} was acknowledged and is lost");
        }
        let known = |number: &u64| appends.iter().any(|(n, _)| n == number);
        assert!(numbers.iter().all(known), "{key}: client {client} never wrote some of {numbers:?}");
    }
    assert!(found.is_empty(), "{key}: nobody wrote {found:?}");
}

fn any_node(rng: &mut fastrand::Rng) -> NodeId {
    NodeId(rng.u64(1..=3))
}

#[test]
fn the_check_finds_what_it_is_for() {
    let appends = vec![(1, true), (2, true), (3, false)];
    let fine = [(0, &appends)];
    check_appends("k", &["0.1", "0.2"], &fine);
    check_appends("k", &["0.1", "0.2", "0.3"], &fine);
    let bad = |elements: &[&str]| {
        std::panic::catch_unwind(|| check_appends("k", elements, &[(0, &vec![(1, true), (2, true)])]))
            .is_err()
    };
    assert!(bad(&["0.1"]), "a lost element");
    assert!(bad(&["0.1", "0.2", "0.2"]), "an element twice");
    assert!(bad(&["0.2", "0.1"]), "elements out of order");
    assert!(bad(&["0.1", "0.2", "7.1"]), "an element of nobody");
}

#[tokio::test]
async fn kills_of_processes_and_panics_of_actors() {
    soak("kills and panics", async |cluster, admin, rng| {
        cluster.signal(any_node(rng), libc::SIGKILL);
        // The node may be the one that is down: then there is nothing to panic.
        let _ = admin.chaos(any_node(rng), Chaos::Panic { actor: "*".into() }).await;
    })
    .await;
}

#[tokio::test]
async fn kills_of_the_whole_cluster_at_once() {
    soak("whole cluster killed", async |cluster, _, _| {
        for node in cluster.nodes() {
            cluster.signal(node, libc::SIGKILL);
        }
    })
    .await;
}

#[tokio::test]
async fn processes_that_are_stopped_for_five_seconds() {
    soak("stopped processes", async |cluster, _, rng| {
        let node = any_node(rng);
        if cluster.signal(node, libc::SIGSTOP) {
            tokio::time::sleep(Duration::from_secs(5)).await;
            cluster.signal(node, libc::SIGCONT);
        }
    })
    .await;
}
