//! Jobs in real processes while processes die and networks part. The output is that of a sequential program each time,
//! byte for byte, and what is finished is not done again.
//!
//! By default each job is small and meets one kind of trouble. `QUORATE_MR_MIB=1000` gives every application an input of
//! that size, and one kind of trouble after the other, at the pace of life: a worker is killed every three seconds, the
//! coordinator's node three times, a node is cut off for 20 s.

mod mapreduce_support;
#[path = "mapreduce_support/processes.rs"]
mod processes;
#[path = "mapreduce_support/reference.rs"]
mod reference;
mod support;
#[path = "mapreduce_support/trouble.rs"]
mod trouble;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mapreduce_support::text;
use processes::{Ground, Stage, block_on};
use quorate::logic::mapreduce::job::TaskId;
use quorate::logic::mapreduce::record::{JobId, Record};
use quorate::messages::mapreduce::JobLine;
use reference::Application;
use support::Cluster;
use trouble::{Trouble, all_troubles, newest_job};

#[test]
fn wc() {
    all_troubles(Application::Wc, Trouble::Coordinator);
}

#[test]
fn indexer() {
    all_troubles(Application::Indexer, Trouble::Workers);
}

#[test]
fn grep() {
    all_troubles(Application::Grep, Trouble::Parted);
}

#[test]
fn sort() {
    all_troubles(Application::Sort, Trouble::Workers);
}

#[test]
fn stream() {
    all_troubles(Application::Stream, Trouble::Coordinator);
}

/// A job of commands whose tasks take a moment each, so that whatever happens falls into it.
struct Slow {
    files: Vec<String>,
    args: Vec<String>,
}

impl Slow {
    fn new(stage: &Stage) -> Slow {
        let files = text::files(stage.path(), 24, 20_000);
        let mapper = "sleep 0.1; tr -cs A-Za-z '\\n' | grep .";
        let reducer = "sleep 0.1; uniq -c | awk '{print $2 \"\\t\" $1}'";
        let args = ["--mapper", mapper, "--reducer", reducer, "--input", &stage.input(), "--reducers", "4"];
        Slow { files, args: args.map(str::to_owned).to_vec() }
    }

    /// Runs it, and `meanwhile` beside it, which is told when the job is over.
    fn run(&self, stage: &Stage, meanwhile: impl FnOnce(&AtomicBool) + Send) -> serde_json::Value {
        let over = AtomicBool::new(false);
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let (output, report) = std::thread::scope(|scope| {
            let thread = scope.spawn(|| meanwhile(&over));
            let work = std::panic::AssertUnwindSafe(|| stage.submit("out", &args));
            let result = std::panic::catch_unwind(work);
            over.store(true, Ordering::Relaxed);
            thread.join().expect("what happens meanwhile goes well");
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        assert_eq!(output, text::word_counts(&self.files));
        report
    }
}

/// Waits until so much of the only job is done, in tasks.
async fn reaches(cluster: &Cluster, wanted: impl Fn(&JobLine) -> bool) {
    let client = cluster.client().await;
    while !newest_job(&client).await.is_some_and(|job| wanted(&job)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// No task is started again after it was finished.
fn nothing_is_repeated(cluster: &Cluster, report: &serde_json::Value) {
    let job = JobId(report["job"].as_u64().expect("a number"));
    let history = block_on(async { cluster.client().await.job_history(job).await.expect("it is known") });
    let mut finished: BTreeSet<TaskId> = BTreeSet::new();
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

/// The nodes are no workers here, so no attempt dies with them: every task runs exactly once.
#[test]
fn the_coordinators_node_is_killed_three_times() {
    let stage = Stage::new(3, Ground::Common);
    let job = Slow::new(&stage);
    let _workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let report = job.run(&stage, |_| {
        block_on(async {
            let kill = async || {
                let client = stage.cluster.client().await;
                let leader = stage.cluster.leader(&client).await;
                assert!(stage.cluster.signal(leader, libc::SIGKILL));
            };
            reaches(&stage.cluster, |job| job.survey.map.done >= 6).await;
            kill().await;
            reaches(&stage.cluster, |job| job.survey.map.done >= 14).await;
            kill().await;
            reaches(&stage.cluster, |job| job.survey.reduce.running >= 1).await;
            kill().await;
        });
    });
    assert_eq!(report["map"]["attempts"], job.files.len(), "every map task ran once");
    assert_eq!(report["reduce"]["attempts"], 4, "every reduce task ran once");
    nothing_is_repeated(&stage.cluster, &report);
}

#[test]
fn the_coordinators_node_stands_still_and_the_store_goes_on() {
    let stage = Stage::new(3, Ground::Common);
    let job = Slow::new(&stage);
    let _workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let report = job.run(&stage, |over| {
        block_on(async {
            reaches(&stage.cluster, |job| job.survey.map.done >= 6).await;
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
    nothing_is_repeated(&stage.cluster, &report);
}

#[test]
fn output_that_is_lost_is_made_again() {
    let stage = Stage::new(1, Ground::Common);
    let job = Slow::new(&stage);
    let mut doomed = stage.worker("doomed");
    let _workers = [1, 2].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let report = job.run(&stage, |_| {
        // By then it has finished some map tasks, and others are under way.
        block_on(reaches(&stage.cluster, |job| job.survey.map.done >= 9));
        doomed.kill();
        std::fs::remove_dir_all(stage.path().join("workers/doomed/data")).expect("its disk is gone");
    });
    assert!(report["map"]["attempts"].as_u64() > Some(job.files.len() as u64), "{report}");
    assert_eq!(report["map"]["failures"], 0, "{report}");
}
