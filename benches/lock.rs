//! How long locks take: `cargo bench --bench lock [-- ROUNDS]`.
//!
//! Three node processes under `quorate up`. `free`: acquiring a lock that is free and releasing it. `handover`: from
//! the moment at which the holder asks for the release to the moment at which the next one in line holds the lock, with
//! one waiter and with a hundred, each a client with connections of its own. QUORATE_BINARY names the binary to be
//! measured.

#[path = "../tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use quorate::Client;
use quorate::node::client::LockGuard;
use support::Cluster;
use tokio::sync::mpsc;

const ROUNDS: usize = 200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // Cargo adds `--bench`.
    let rounds = std::env::args().skip(1).find(|word| word != "--bench");
    let rounds = rounds.map_or(ROUNDS, |word| word.parse().expect("ROUNDS is a number"));
    let cluster = Cluster::start(3, "[log]\nlevel = \"warn\"\n");
    println!("milliseconds ({rounds} rounds each)");
    println!("{:<24} {:>8} {:>8} {:>8}", "", "median", "p90", "max");
    show("free", free(&cluster.client().await, rounds).await);
    show("handover, 1 waiter", handover(&cluster, 2, rounds).await);
    show("handover, 99 waiters", handover(&cluster, 100, rounds).await);
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    println!("{what:<24} {:>8.2} {:>8.2} {:>8.2}", at(0.5), at(0.9), at(1.0));
}

async fn free(client: &Client, rounds: usize) -> Vec<Duration> {
    let lock = client.lock("free");
    let mut times = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let guard = lock.acquire().await.expect("it is free");
        guard.release().await.expect("it was held");
        times.push(began.elapsed());
    }
    times
}

/// So many clients queue up for one lock, again and again.
async fn handover(cluster: &Cluster, clients: usize, rounds: usize) -> Vec<Duration> {
    let (acquired, mut holders) = mpsc::unbounded_channel::<(LockGuard, Instant)>();
    for _ in 0..clients {
        let (client, acquired) = (cluster.client().await, acquired.clone());
        tokio::spawn(async move {
            loop {
                let guard = client.lock("handover").acquire().await.expect("it waits as long as it takes");
                if acquired.send((guard, Instant::now())).is_err() {
                    return;
                }
            }
        });
    }
    let asker = cluster.client().await;
    let (mut guard, _) = holders.recv().await.expect("somebody holds it");
    let mut times = Vec::new();
    while times.len() < rounds {
        // All others are in line, and their questions are with the leader.
        while asker.lock_status("handover").await.expect("an answer").waiting < clients as u64 - 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let began = Instant::now();
        tokio::spawn(guard.release());
        let (next, at) = holders.recv().await.expect("the next one holds it");
        times.push(at.saturating_duration_since(began));
        guard = next;
    }
    times
}
