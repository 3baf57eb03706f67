//! The scenarios of the MapReduce lab in real processes: a cluster with the coordinator, and workers of one slot each. The
//! functions are shell commands, so that one can kill the worker that runs it; eight inputs of the sizes of the lab's, ten
//! reducers. Each is played twice: with workers that could see each other's files, and with workers that have nothing in
//! common, not even the input.
//!
//! Where the lab sleeps, this sleeps a tenth of the time; with `QUORATE_MR_FULL=1`, as long as the lab.

mod mapreduce_support;
#[path = "mapreduce_support/processes.rs"]
mod processes;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use mapreduce_support::text;
use processes::{Ground, Stage};

/// Names and sizes of the lab's texts.
const TEXTS: [(&str, usize); 8] = [
    ("being_ernest", 138_885),
    ("dorian_gray", 453_168),
    ("frankenstein", 441_033),
    ("grimm", 540_174),
    ("huckleberry_finn", 594_262),
    ("metamorphosis", 139_054),
    ("sherlock_holmes", 581_863),
    ("tom_sawyer", 412_665),
];

/// What all jobs of the lab have in common: each file is one map task, and the files are named as in the lab.
const LAB: [&str; 5] = ["--reducers", "10", "--split", "100M", "--lab-names"];

/// Eight texts; their paths.
fn texts(stage: &Stage) -> Vec<String> {
    let text = |(seed, (name, size)): (usize, &(&str, usize))| {
        let path = stage.path().join("input").join(format!("pg-{name}.txt"));
        std::fs::write(&path, text::generate(seed as u64, *size)).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    TEXTS.iter().enumerate().map(text).collect()
}

/// How long to sleep where the lab sleeps so many seconds.
fn pause(seconds: f64) -> f64 {
    if std::env::var_os("QUORATE_MR_FULL").is_some() { seconds } else { seconds / 10.0 }
}

/// Runs a job of two commands.
fn stream(stage: &Stage, mapper: &str, reducer: &str) -> (String, serde_json::Value) {
    let args = ["--mapper", mapper, "--reducer", reducer, "--input", &stage.input()];
    stage.submit("out", &[&args[..], &LAB].concat())
}

/// Plays a scenario where workers stand on this ground, if the machine has it.
fn play(ground: Ground, nodes: usize, scenario: impl FnOnce(&Stage)) {
    if !ground.is_possible() {
        return println!("SKIPPED: this machine does not let a process have file systems of its own");
    }
    scenario(&Stage::new(nodes, ground));
}

const COMMON: Ground = Ground::Common;
const APART: Ground = Ground::Apart { disk_bytes: None };

#[test]
fn wc() {
    play(COMMON, 3, play_wc);
}

#[test]
fn wc_apart() {
    play(APART, 3, play_wc);
}

fn play_wc(stage: &Stage) {
    let files = texts(stage);
    let _workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let (output, report) = stage.submit("out", &[&["wc", "--input", &stage.input()], &LAB[..]].concat());
    assert_eq!(output, text::word_counts(&files).replace('\t', " "));
    assert_eq!((&report["map"]["attempts"], &report["reduce"]["attempts"]), (&8.into(), &10.into()));
}

#[test]
fn indexer() {
    play(COMMON, 1, play_indexer);
}

#[test]
fn indexer_apart() {
    play(APART, 1, play_indexer);
}

fn play_indexer(stage: &Stage) {
    let files = texts(stage);
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let (output, _) = stage.submit("out", &[&["indexer", "--input", &stage.input()], &LAB[..]].concat());
    let mut index: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for file in &files {
        let text = std::fs::read_to_string(file).expect("text");
        for word in text.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty()) {
            index.entry(word.to_owned()).or_default().insert(file);
        }
    }
    let line = |(word, files): (&String, &BTreeSet<&str>)| {
        let names: Vec<&str> = files.iter().copied().collect();
        format!("{word} {} {}\n", files.len(), names.join(","))
    };
    let mut expected: Vec<String> = index.iter().map(line).collect();
    expected.sort();
    assert_eq!(output, expected.concat());
}

/// Leaves a mark for this worker, counts the marks of workers that live, and takes it away after a while.
fn count_together(marks: &Path) -> String {
    let (marks, pause) = (marks.display(), pause(1.0));
    format!(
        "me=$PPID; touch {marks}/mark-$me; n=0; \
         for f in {marks}/mark-*; do if kill -0 ${{f##*-}} 2>/dev/null; then n=$((n+1)); fi; done; \
         sleep {pause}; rm -f {marks}/mark-$me"
    )
}

#[test]
fn map_parallelism() {
    play(COMMON, 1, play_map_parallelism);
}

#[test]
fn map_parallelism_apart() {
    play(APART, 1, play_map_parallelism);
}

fn play_map_parallelism(stage: &Stage) {
    texts(stage);
    let marks = stage.marks("marks");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let count = count_together(&marks);
    let mapper = format!("cat >/dev/null; {count}; printf 'times-%s\\t1\\nparallel-%s\\t%s\\n' $me $me $n");
    let reducer = "awk '{v[$1] = v[$1] \" \" $2} END {for (k in v) print k v[k]}'";
    let (output, _) = stream(stage, &mapper, reducer);
    assert_eq!(output.lines().filter(|line| line.starts_with("times-")).count(), 2, "{output}");
    let two = |line: &str| line.starts_with("parallel-") && line.split(' ').skip(1).any(|n| n == "2");
    assert!(output.lines().any(two), "{output}");
}

#[test]
fn reduce_parallelism() {
    play(COMMON, 1, play_reduce_parallelism);
}

#[test]
fn reduce_parallelism_apart() {
    play(APART, 1, play_reduce_parallelism);
}

fn play_reduce_parallelism(stage: &Stage) {
    texts(stage);
    let marks = stage.marks("marks");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let mapper = "cat >/dev/null; for k in a b c d e f g h i j; do printf '%s\\t1\\n' $k; done";
    let reducer = format!("cut -f1 | uniq | while read k; do {}; echo $k $n; done", count_together(&marks));
    let (output, _) = stream(stage, mapper, &reducer);
    assert_eq!(output.lines().count(), 10, "{output}");
    assert!(output.lines().filter(|line| line.ends_with(" 2")).count() >= 2, "{output}");
}

#[test]
fn job_count() {
    play(COMMON, 1, play_job_count);
}

#[test]
fn job_count_apart() {
    play(APART, 1, play_job_count);
}

fn play_job_count(stage: &Stage) {
    texts(stage);
    let calls = stage.marks("calls");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let shown = calls.display();
    // From 2 to 5 seconds in the lab.
    let (least, more) = (pause(2.0), pause(3.0));
    let sleep =
        format!("sleep $(awk -v r=$(($$ % 1000)) 'BEGIN {{print {least} + {more} * r / 1000}}' </dev/null)");
    let mapper =
        format!("cat >/dev/null; mktemp {shown}/call-XXXXXXXX >/dev/null; {sleep}; printf 'a\\tx\\n'");
    let reducer = format!("if read line; then ls {shown} | grep -c call; cat >/dev/null; fi");
    let (output, report) = stream(stage, &mapper, &reducer);
    assert_eq!(output, "8\n");
    assert_eq!(report["map"]["attempts"], 8);
    // Workers that come when all is over find nothing to do.
    let _late = [stage.worker("w3"), stage.worker("w4")];
    stage.workers_are_up(4);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(std::fs::read_dir(&calls).expect("the marks").count(), 8);
}

#[test]
fn early_exit() {
    play(COMMON, 1, play_early_exit);
}

#[test]
fn early_exit_apart() {
    play(APART, 1, play_early_exit);
}

fn play_early_exit(stage: &Stage) {
    texts(stage);
    let mut workers = [1, 2, 3].map(|n| stage.worker(&format!("w{n}")));
    stage.workers_are_up(3);
    let mapper = "cat >/dev/null; printf '%s\\t1\\n' \"$mapreduce_map_input_file\"";
    let slow = pause(3.0);
    let reducer =
        format!("while read k v; do case $k in *sherlock*|*tom*) sleep {slow};; esac; echo $k $v; done");
    let (first, report) = stream(stage, mapper, &reducer);
    assert_eq!(first.lines().count(), 8, "nobody said it was done before it was: {first}");
    assert!(report["elapsed_ms"].as_f64().is_some_and(|ms| ms >= slow * 1000.0), "{report}");
    assert!(workers.iter_mut().all(|worker| worker.runs()), "a worker left before the job was over");
    drop(workers);
    assert_eq!(text::sorted_output(&stage.path().join("out")), first);
}

/// A third of the calls kill their worker, a third take their time: up to ten seconds in the lab.
fn accident() -> String {
    let most = pause(10.0);
    format!(
        "r=$(($(od -An -N2 -tu2 /dev/urandom) % 1000)); \
         if [ $r -lt 330 ]; then kill -9 $PPID; exit 1; \
         elif [ $r -lt 660 ]; then sleep $(awk -v r=$r 'BEGIN {{print {most} * (r - 330) / 330}}' </dev/null); fi"
    )
}

#[test]
fn crash() {
    play(COMMON, 1, play_crash);
}

#[test]
fn crash_apart() {
    play(APART, 1, play_crash);
}

fn play_crash(stage: &Stage) {
    let files = texts(stage);
    let between = Duration::from_secs_f64(pause(1.0));
    let loops = [1, 2, 3, 4].map(|n| stage.restarted_worker(&format!("w{n}"), between));
    stage.workers_are_up(1);
    let accident = accident();
    let mapper = format!(
        "{accident}; f=$mapreduce_map_input_file; n=$(wc -c); \
         printf 'a\\t%s\\nb\\t%s\\nc\\t%s\\nd\\txyzzy\\n' \"$f\" \"${{#f}}\" \"$n\""
    );
    // The values of a key, sorted and joined by blanks.
    let join = "LC_ALL=C sort | awk '{if ($1 != k) {if (k) print k v; k = $1; v = \"\"} v = v \" \" $2} \
                END {if (k) print k v}'";
    let (output, report) = stream(stage, &mapper, &format!("{accident}; {join}"));
    let values = |value: &dyn Fn(&String) -> String| {
        let mut values: Vec<String> = files.iter().map(value).collect();
        values.sort();
        values.join(" ")
    };
    let size = |file: &String| std::fs::metadata(file).expect("it is there").len().to_string();
    let expected = [
        format!("a {}\n", values(&|file| file.clone())),
        format!("b {}\n", values(&|file| file.len().to_string())),
        format!("c {}\n", values(&size)),
        format!("d {}\n", values(&|_| "xyzzy".to_owned())),
    ];
    assert_eq!(output, expected.concat());
    let starts: u32 = loops.into_iter().map(|each| each.end()).sum();
    assert!(starts > 4, "no worker died");
    let count = |what: &str| {
        ["map", "reduce"].iter().map(|phase| report[phase][what].as_u64().expect("a number")).sum::<u64>()
    };
    assert!(count("losses") > 0, "no task was lost: {report}");
    assert_eq!(count("failures"), 0, "the death of a worker is no failure of its task: {report}");
}
