//! The simulation: the same seed is the same run, and seeds of all kinds break no rule.

use std::time::Duration;

use quorate::sim::{Cluster, ClusterOptions, simulate};

/// A cluster that loses its leader's power while a client writes.
fn scenario(seed: u64) -> (u64, u64) {
    simulate(async || {
        let cluster = Cluster::start(ClusterOptions::new(seed, 3));
        let leader = cluster.wait_for_leader(Duration::from_secs(10)).await.expect("a leader");
        let client = cluster.client("client", |_| {}).await.expect("a client");
        for round in 0..20 {
            client.append("log", format!("1.{round};")).await.expect("a write");
            if round == 10 {
                cluster.lose_power(leader);
            }
            if round == 15 {
                cluster.start_node(leader);
            }
        }
        cluster.run_for(Duration::from_secs(2)).await;
        let found = client.get("log").await.expect("a read").expect("it is there");
        let expected: String = (0..20).map(|round| format!("1.{round};")).collect();
        assert_eq!(found.value, expected);
        assert_eq!(cluster.watch().violations(), []);
        (cluster.watch().hash(), cluster.watch().steps())
    })
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        let first = scenario(seed);
        assert_eq!(scenario(seed), first, "seed {seed}");
        assert_ne!(scenario(seed + 1000), first, "seed {seed}");
    }
}
