//! How long a client waits when a part of the leader fails: `cargo bench --bench failover [-- ROUNDS [FAULT...]]`.
//!
//! Three node processes under `quorate up`, with the default timeouts; one client that writes without a pause. In
//! every round the leader suffers one fault, and the slowest write that was under way at any time from the fault to
//! two seconds later counts. Faults: `none` (what the machine does by itself), `kill` (SIGKILL of the leader's
//! process), and the names of the actors that panic. QUORATE_BINARY names the binary to be measured.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::messages::admin::{ActorStatus, Chaos};
use support::Cluster;
use support::writers::Writers;

const ROUNDS: usize = 20;
/// How long after a fault writes count as hit by it.
const WINDOW: Duration = Duration::from_secs(2);

/// Healthy again between two rounds, so that every failure is a first one, as it would be in life.
const CONFIG: &str = r#"
[chaos]
enabled = true
[supervision]
max_restarts = 1000
stable_s = 1
[launcher]
max_restarts = 1000
stable_s = 1
[log]
level = "warn"
"#;

const FAULTS: [&str; 10] =
    ["none", "kill", "raft", "applier", "kv", "listener", "link", "connection", "admin", "*"];

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo adds `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let rounds = arguments.first().map_or(ROUNDS, |word| word.parse().expect("ROUNDS is a number"));
    let wanted = |fault: &&&str| arguments.len() < 2 || arguments[1..].iter().any(|word| word == **fault);
    println!("the slowest write after a fault at the leader, in milliseconds ({rounds} rounds each)");
    println!("{:<12} {:>8} {:>8} {:>8}", "fault", "median", "p90", "max");
    for fault in FAULTS.iter().filter(wanted) {
        let mut waits = measure(fault, rounds).await;
        waits.sort_unstable();
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
        println!("{fault:<12} {:>8.1} {:>8.1} {:>8.1}", at(0.5), at(0.9), at(1.0));
    }
}

/// One cluster for each fault, so that none suffers from another.
async fn measure(fault: &str, rounds: usize) -> Vec<Duration> {
    let cluster = Cluster::start(3, CONFIG);
    let admin = cluster.client().await.with_deadline(Duration::from_secs(20));
    let writers = Writers::start(&cluster, 1, Duration::ZERO).await;
    let mut waits = Vec::new();
    for _ in 0..rounds {
        let leader = cluster.leader(&admin).await;
        tokio::time::sleep(WINDOW).await;
        let began = Instant::now();
        inflict(fault, &cluster, &admin, leader).await;
        tokio::time::sleep(WINDOW).await;
        writers.all_have_written_since(began).await;
        waits.push(writers.slowest(began, began + WINDOW));
        if fault == "kill" {
            cluster.back_up(&admin, leader, began).await;
        }
    }
    writers.finish(&cluster).await;
    waits
}

async fn inflict(fault: &str, cluster: &Cluster, admin: &Client, leader: NodeId) {
    if fault == "none" {
        return;
    }
    if fault == "kill" {
        assert!(cluster.signal(leader, libc::SIGKILL), "the leader's process is there");
        return;
    }
    let actor = match fault {
        "*" => "*".to_owned(),
        _ => path(&admin.tree(leader).await.expect("the leader answers"), fault).expect("such an actor"),
    };
    // The answer may be lost with the connection that panics.
    let _ = admin.with_deadline(Duration::from_millis(500)).chaos(leader, Chaos::Panic { actor }).await;
}

/// The path of the first actor without children whose name begins like this.
fn path(actor: &ActorStatus, name: &str) -> Option<String> {
    if actor.children.is_empty() {
        return actor.name.starts_with(name).then(|| actor.name.clone());
    }
    let below = actor.children.iter().find_map(|child| path(child, name))?;
    Some(format!("{}/{below}", actor.name))
}
