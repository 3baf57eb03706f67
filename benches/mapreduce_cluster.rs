//! Jobs on a running cluster of three node processes: what a small job takes, and what it costs a job when the
//! coordinator's node is killed halfway. `cargo bench --bench mapreduce_cluster [-- ROUNDS]`
//!
//! A small job is a word count over one small file, from the start of the command until its output is there. The job
//! that is disturbed has 24 map tasks of 0.3 s on three workers that are no nodes, so that no attempt dies with the
//! node, and whatever it takes longer is what the coordinator's successor needs. QUORATE_BINARY names the binary.

#[path = "../tests/mapreduce_support/mod.rs"]
mod mapreduce_support;
#[path = "../tests/mapreduce_support/processes.rs"]
mod processes;
#[path = "../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use mapreduce_support::text;
use processes::{Ground, Stage, block_on, submit, succeeded, workers_are_up};
use support::Cluster;

const ROUNDS: usize = 10;
const MAPS: u64 = 24;

fn main() {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let rounds = arguments.next().map_or(ROUNDS, |word| word.parse().expect("ROUNDS is a number"));
    println!("milliseconds, {rounds} rounds each{:>31} {:>8} {:>8}", "median", "p90", "max");
    small(rounds);
    disturbed(rounds);
}

fn row(name: &str, mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!("{name:<52} {:>8} {:>8} {:>8}", at(0.5), at(0.9), at(1.0));
    at(0.5)
}

fn small(rounds: usize) {
    let cluster = Cluster::start(3, "[mapreduce]\nenabled = true\n");
    workers_are_up(&cluster, 3);
    let dir = tempfile::tempdir().expect("a directory");
    let file = text::files(dir.path(), 1, 1000).remove(0);
    let out = dir.path().join("out");
    let mut times = Vec::new();
    let mut looks = Vec::new();
    // The first one is not counted: connections are made.
    for round in 0..=rounds {
        let began = Instant::now();
        succeeded(submit(&cluster, &out, &["wc", "--input", &file]));
        if round > 0 {
            times.push(milliseconds(began.elapsed()));
        }
        std::fs::remove_dir_all(&out).expect("the output goes away");
        let began = Instant::now();
        workers_are_up(&cluster, 3);
        looks.push(milliseconds(began.elapsed()));
    }
    row("a job over one small file", times);
    row("for comparison: a command that only asks", looks);
}

fn disturbed(rounds: usize) {
    let stage = Stage::new(3, Ground::Common);
    text::files(stage.path(), MAPS as usize, 20_000);
    let _workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let mut times = [Vec::new(), Vec::new()];
    let mut again = 0;
    for round in 0..2 * rounds {
        let kill = round % 2 == 1;
        let report = run(&stage, &stage.path().join("out"), kill);
        times[usize::from(kill)].push(report["elapsed_ms"].as_u64().expect("a number"));
        let attempts = |phase: &str| report[phase]["attempts"].as_u64().expect("a number");
        again += attempts("map") - MAPS + attempts("reduce") - 4;
    }
    let [undisturbed, killed] = times;
    let usual = row("a job of 24 + 4 tasks, undisturbed", undisturbed);
    let delays = killed.iter().map(|time| time.saturating_sub(usual)).collect();
    row("the same, coordinator's node killed at half", killed);
    row("delay", delays);
    println!("attempts beyond one for each task: {again}");
}

fn run(stage: &Stage, out: &Path, kill: bool) -> serde_json::Value {
    let mapper = "sleep 0.3; tr -cs A-Za-z '\\n' | grep .";
    let reducer = "sleep 0.2; uniq -c";
    let args = ["--mapper", mapper, "--reducer", reducer, "--input", &stage.input(), "--reducers", "4"];
    let report = std::thread::scope(|scope| {
        let job = scope.spawn(|| submit(&stage.cluster, out, &args));
        if kill {
            block_on(kill_at_half(stage));
        }
        succeeded(job.join().expect("the command runs"))
    });
    std::fs::remove_dir_all(out).expect("the output goes away");
    report
}

async fn kill_at_half(stage: &Stage) {
    let client = stage.cluster.client().await;
    loop {
        let jobs = client.jobs().await.expect("the cluster answers");
        let half = |map: u32| u64::from(map) >= MAPS / 2 && u64::from(map) < MAPS;
        if jobs.last().is_some_and(|job| half(job.survey.map.done)) {
            let leader = stage.cluster.leader(&client).await;
            assert!(stage.cluster.signal(leader, libc::SIGKILL));
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("a short time")
}
