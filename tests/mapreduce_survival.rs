//! Jobs in real processes while processes die: workers, the coordinator's node, a node that stands still. The output is
//! that of a sequential program each time, and what is finished is not done again.
//!
//! `QUORATE_MR_TASKS` makes the jobs longer, `QUORATE_MR_KILL_MS` sets the pause between two kills.

mod mapreduce_support;
#[path = "mapreduce_support/processes.rs"]
mod processes;
mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mapreduce_support::text;
use processes::Stage;
use quorate::logic::mapreduce::job::TaskId;
use quorate::logic::mapreduce::record::{JobId, Record};
use support::Cluster;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// A job whose map tasks take a third of a second each.
struct Slow {
    files: Vec<String>,
    args: Vec<String>,
}

impl Slow {
    fn new(stage: &Stage) -> Slow {
        let files = text::files(stage.path(), number("QUORATE_MR_TASKS", 24) as usize, 20_000);
        let input = stage.path().join("input").to_str().expect("UTF-8").to_owned();
        let mapper = "sleep 0.3; tr -cs A-Za-z '\\n' | grep .";
        let reducer = "sleep 0.2; uniq -c | awk '{print $2 \"\\t\" $1}'";
        let args = ["--mapper", mapper, "--reducer", reducer, "--input", &input, "--reducers", "4"];
        Slow { files, args: args.map(str::to_owned).to_vec() }
    }

    /// Runs it, and `meanwhile` beside it, which is told when the job is over.
    fn run(&self, stage: &Stage, meanwhile: impl FnOnce(&AtomicBool) + Send) -> serde_json::Value {
        let over = AtomicBool::new(false);
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let (output, report) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| meanwhile(&over));
            let result =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stage.submit("out", &args)));
            over.store(true, Ordering::Relaxed);
            thread.join().expect("the kills go well");
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        assert_eq!(output, text::word_counts(&self.files).replace('\t', " "));
        report
    }
}

/// No task is started again after it was finished, unless its output was lost.
fn nothing_is_repeated(cluster: &Cluster, job: u64) {
    let history = block_on(async {
        let client = cluster.client().await;
        client.job_history(JobId(job)).await.expect("it is known")
    });
    let mut finished: std::collections::BTreeSet<TaskId> = std::collections::BTreeSet::new();
    for (_, record) in &history {
        let Some(task) = record.attempt().map(|attempt| attempt.task) else { continue };
        match record {
            Record::Done { .. } => assert!(finished.insert(task), "{task} was finished twice"),
            Record::Reopened { why, .. } => panic!("the output of {task} was lost: {why}"),
            Record::Started { .. } => assert!(!finished.contains(&task), "{task} ran again"),
            _ => {}
        }
    }
}

#[test]
fn workers_that_are_killed_all_the_time() {
    let stage = Stage::new(1);
    let job = Slow::new(&stage);
    let pause = Duration::from_millis(number("QUORATE_MR_KILL_MS", 700));
    let mut workers: Vec<_> = (1..=3).map(|n| stage.killable(&format!("w{n}"))).collect();
    stage.workers_are_up(3);
    let report = job.run(&stage, |over| {
        for victim in (0..3).cycle() {
            std::thread::sleep(pause);
            if over.load(Ordering::Relaxed) {
                return;
            }
            workers[victim].restart();
        }
    });
    println!("{}", report["elapsed_ms"]);
    assert!(report["map"]["losses"].as_u64().is_some_and(|lost| lost > 0), "no kill hit a task: {report}");
    nothing_is_repeated(&stage.cluster, report["job"].as_u64().expect("a number"));
}

#[test]
fn the_coordinators_node_is_killed_three_times() {
    let stage = Stage::new(3);
    let job = Slow::new(&stage);
    let _workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let undisturbed = Instant::now();
    job.run(&stage, |_| {});
    let undisturbed = undisturbed.elapsed();
    std::fs::remove_dir_all(stage.path().join("out")).expect("the output goes away");
    let report = job.run(&stage, |over| {
        for _ in 0..3 {
            std::thread::sleep(undisturbed / 5);
            assert!(!over.load(Ordering::Relaxed), "the job was over before the last kill");
            block_on(async {
                let client = stage.cluster.client().await;
                let leader = stage.cluster.leader(&client).await;
                assert!(stage.cluster.signal(leader, libc::SIGKILL));
            });
        }
    });
    println!("undisturbed {} ms, with three kills {} ms", undisturbed.as_millis(), report["elapsed_ms"]);
    assert_eq!(report["map"]["attempts"], job.files.len(), "every map task ran once");
    assert_eq!(report["reduce"]["attempts"], 4, "every reduce task ran once");
    nothing_is_repeated(&stage.cluster, report["job"].as_u64().expect("a number"));
}

#[test]
fn the_coordinators_node_stands_still_and_the_store_goes_on() {
    let stage = Stage::new(3);
    let job = Slow::new(&stage);
    let _workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let report = job.run(&stage, |over| {
        std::thread::sleep(Duration::from_millis(800));
        block_on(async {
            let client = stage.cluster.client().await;
            let leader = stage.cluster.leader(&client).await;
            assert!(stage.cluster.signal(leader, libc::SIGSTOP));
            let client = client.with_deadline(Duration::from_secs(20));
            while !over.load(Ordering::Relaxed) {
                client.put("beside", "the job").await.expect("the store serves");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            assert!(stage.cluster.signal(leader, libc::SIGCONT));
        });
    });
    assert_eq!(report["map"]["attempts"], job.files.len(), "every map task ran once");
    nothing_is_repeated(&stage.cluster, report["job"].as_u64().expect("a number"));
}

#[test]
fn output_that_is_lost_is_made_again() {
    let stage = Stage::new(1);
    let job = Slow::new(&stage);
    let mut doomed = stage.killable("doomed");
    let _workers = [1, 2].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let report = job.run(&stage, |_| {
        // By then it has finished some map tasks, and others are under way.
        std::thread::sleep(Duration::from_millis(1500));
        doomed.kill();
        std::fs::remove_dir_all(stage.path().join("doomed").join("data")).expect("its disk is gone");
    });
    assert!(report["map"]["attempts"].as_u64() > Some(job.files.len() as u64), "{report}");
}
