//! The simulation: the same seed is the same run, and seeds of all kinds break no rule.

use std::time::Duration;

use quorate::sim::{Cluster, ClusterOptions, Outcome, Plan, run, simulate, timeline};

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

/// How many seeds of mixed faults are played; `QUORATE_SIM_SEEDS` says another number.
fn seeds() -> u64 {
    std::env::var("QUORATE_SIM_SEEDS").map_or(24, |text| text.parse().expect("a number of seeds"))
}

/// Plays a seed and says how to play it again, if it breaks a rule.
fn must_hold(plan: &Plan) -> Outcome {
    let outcome = run(plan);
    let broken: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    assert!(broken.is_empty(), "{}\nREPRODUCE WITH: {} --timeline", broken.join("\n"), plan.command());
    outcome
}

#[test]
fn mixed_faults_break_no_rule() {
    let (mut acknowledged, mut faults) = (0, 0);
    for seed in 0..seeds() {
        let outcome = must_hold(&Plan::new(seed));
        acknowledged += outcome.acknowledged;
        faults += outcome.faults;
    }
    // A run in which nothing happens shows nothing.
    assert!(acknowledged > 50 * seeds() && faults > seeds(), "{acknowledged} calls, {faults} faults");
}

#[test]
fn the_same_seed_is_the_same_run_under_all_faults() {
    for seed in 100..104 {
        let plan = Plan::new(seed);
        let (first, second) = (run(&plan), run(&Plan { timeline: true, ..plan.clone() }));
        let of = |outcome: &Outcome| (outcome.hash, outcome.steps, outcome.calls, outcome.time);
        assert_eq!(of(&first), of(&second), "seed {seed}");
        assert!(!second.timeline.is_empty(), "a timeline does not change the run");
    }
}

/// Another process, which has other addresses, another environment and another past.
#[test]
fn the_same_seed_is_the_same_run_in_another_process() {
    let plan = Plan::new(7);
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["sim", "--seed", "7", "--json"])
        .output()
        .expect("the binary runs");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["hash"], format!("{:016x}", run(&plan).hash), "{told}");
}

#[test]
fn a_page_shows_what_happened() {
    let plan = Plan { timeline: true, ..Plan::new(3) };
    let outcome = run(&plan);
    let page = timeline::page(&plan, &outcome);
    assert!(page.contains("quorate sim --seed 3") && page.contains("leads in term"));
    assert_eq!(page.matches("<svg").count(), 1);
    assert_eq!(page.matches("<tr class").count(), outcome.timeline.len());
    assert!(!page.contains("http"), "it needs nothing else");
    let text = timeline::text(&plan, &outcome);
    assert!(text.lines().count() > outcome.timeline.len());
}

/// The rules can fail: nodes acknowledge what their disks have not kept, and the power fails.
#[test]
fn disks_that_lie_are_found_out() {
    let found = (0..20).find_map(|seed| {
        simulate(async || {
            let cluster = Cluster::start(ClusterOptions::new(seed, 3));
            for node in cluster.nodes() {
                cluster.machine(node).log.lie_about_syncs();
            }
            let client = cluster.client("client", |_| {}).await.expect("a client");
            for round in 0..5 {
                client.append("log", format!("1.{round};")).await.expect("a write");
            }
            for node in cluster.nodes() {
                cluster.lose_power(node);
                cluster.start_node(node);
            }
            cluster.run_for(Duration::from_secs(3)).await;
            cluster.watch().violations().into_iter().next()
        })
    });
    let violation = found.expect("some seed loses what was acknowledged");
    assert_eq!(violation.rule, "durability", "{violation}");
}
