//! The scenarios of the MapReduce lab in real processes: a cluster with the coordinator, and workers of one slot each that
//! share no directory. The functions are shell commands, so that one can kill the worker that runs it; eight inputs of the
//! sizes of the lab's, ten reducers.

mod mapreduce_support;
#[path = "mapreduce_support/processes.rs"]
mod processes;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use mapreduce_support::text;
use processes::Stage;

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

const REDUCERS: &str = "10";

/// Eight texts; their paths.
fn texts(dir: &Path) -> Vec<String> {
    let input = dir.join("input");
    std::fs::create_dir(&input).expect("a directory");
    let text = |(seed, (name, size)): (usize, &(&str, usize))| {
        let path = input.join(format!("pg-{name}.txt"));
        std::fs::write(&path, text::generate(seed as u64, *size)).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    TEXTS.iter().enumerate().map(text).collect()
}

fn input(stage: &Stage) -> String {
    stage.path().join("input").to_str().expect("UTF-8").to_owned()
}

/// Each file is one map task.
const WHOLE_FILES: &str = "100M";

#[test]
fn wc() {
    let stage = Stage::new(3);
    let files = texts(stage.path());
    let _workers = [stage.worker("w1"), stage.worker("w2"), stage.worker("w3")];
    stage.workers_are_up(3);
    let args = ["wc", "--input", &input(&stage), "--reducers", REDUCERS, "--split", WHOLE_FILES];
    let (output, report) = stage.submit("out", &args);
    assert_eq!(output, text::word_counts(&files).replace('\t', " "));
    assert_eq!((&report["map"]["attempts"], &report["reduce"]["attempts"]), (&8.into(), &10.into()));
}

#[test]
fn indexer() {
    let stage = Stage::new(1);
    let files = texts(stage.path());
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let args = ["indexer", "--input", &input(&stage), "--reducers", REDUCERS, "--split", WHOLE_FILES];
    let (output, _) = stage.submit("out", &args);
    let mut index: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let read: Vec<String> = files.iter().map(|file| std::fs::read_to_string(file).expect("text")).collect();
    for (file, text) in files.iter().zip(&read) {
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

/// Leaves a mark for this worker, counts the marks of workers that live, and takes it away a second later.
fn count_together(marks: &Path) -> String {
    let marks = marks.display();
    format!(
        "me=$PPID; touch {marks}/mark-$me; n=0; \
         for f in {marks}/mark-*; do if kill -0 ${{f##*-}} 2>/dev/null; then n=$((n+1)); fi; done; \
         sleep 1; rm -f {marks}/mark-$me"
    )
}

#[test]
fn map_parallelism() {
    let stage = Stage::new(1);
    texts(stage.path());
    let marks = stage.marks("marks");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let count = count_together(&marks);
    let mapper = format!("cat >/dev/null; {count}; printf 'times-%s\\t1\\nparallel-%s\\t%s\\n' $me $me $n");
    let reducer = "awk '{v[$1] = v[$1] \" \" $2} END {for (k in v) print k v[k]}'";
    let stream = ["--mapper", &mapper, "--reducer", reducer, "--input", &input(&stage)];
    let (output, _) =
        stage.submit("out", &[&stream[..], &["--reducers", REDUCERS, "--split", WHOLE_FILES]].concat());
    assert_eq!(output.lines().filter(|line| line.starts_with("times-")).count(), 2, "{output}");
    let two = |line: &&str| line.starts_with("parallel-") && line.split(' ').skip(1).any(|n| n == "2");
    assert!(output.lines().any(|line| two(&line)), "{output}");
}

#[test]
fn reduce_parallelism() {
    let stage = Stage::new(1);
    texts(stage.path());
    let marks = stage.marks("marks");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let mapper = "cat >/dev/null; for k in a b c d e f g h i j; do printf '%s\\t1\\n' $k; done";
    let reducer = format!("cut -f1 | uniq | while read k; do {}; echo $k $n; done", count_together(&marks));
    let stream = ["--mapper", mapper, "--reducer", &reducer, "--input", &input(&stage)];
    let (output, _) =
        stage.submit("out", &[&stream[..], &["--reducers", REDUCERS, "--split", WHOLE_FILES]].concat());
    assert_eq!(output.lines().count(), 10, "{output}");
    assert!(output.lines().filter(|line| line.ends_with(" 2")).count() >= 2, "{output}");
}

#[test]
fn job_count() {
    let stage = Stage::new(1);
    texts(stage.path());
    let calls = stage.marks("calls");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let shown = calls.display();
    // From 2.0 to 4.9 seconds.
    let mapper = format!(
        "cat >/dev/null; mktemp {shown}/call-XXXXXXXX >/dev/null; sleep $((2 + $$ % 3)).$(($$ % 10)); printf 'a\\tx\\n'"
    );
    let reducer = format!("if read line; then ls {shown} | grep -c call; cat >/dev/null; fi");
    let stream = ["--mapper", &mapper, "--reducer", &reducer, "--input", &input(&stage)];
    let (output, report) =
        stage.submit("out", &[&stream[..], &["--reducers", REDUCERS, "--split", WHOLE_FILES]].concat());
    assert_eq!(output, "8\n");
    assert_eq!(report["map"]["attempts"], 8);
    // Workers that come when all is over find nothing to do.
    let _late = [stage.worker("w3"), stage.worker("w4")];
    stage.workers_are_up(4);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(std::fs::read_dir(&calls).expect("the marks").count(), 8);
}

#[test]
fn early_exit() {
    let stage = Stage::new(1);
    texts(stage.path());
    let mut workers = [stage.worker("w1"), stage.worker("w2"), stage.worker("w3")];
    stage.workers_are_up(3);
    let mapper = "cat >/dev/null; printf '%s\\t1\\n' \"$mapreduce_map_input_file\"";
    let reducer = "while read k v; do case $k in *sherlock*|*tom*) sleep 3;; esac; echo $k $v; done";
    let stream = ["--mapper", mapper, "--reducer", reducer, "--input", &input(&stage)];
    let (first, report) =
        stage.submit("out", &[&stream[..], &["--reducers", REDUCERS, "--split", WHOLE_FILES]].concat());
    assert_eq!(first.lines().count(), 8, "nobody said it was done before it was: {first}");
    assert!(report["elapsed_ms"].as_u64().is_some_and(|ms| ms >= 3000), "{report}");
    assert!(workers.iter_mut().all(|worker| worker.runs()), "a worker left before the job was over");
    drop(workers);
    assert_eq!(text::sorted_output(&stage.path().join("out")), first);
}

/// A third of the calls kill their worker, a third take their time.
fn accident() -> String {
    // Up to ten seconds in the lab, which makes the test slow.
    let pause = if std::env::var_os("QUORATE_MR_FULL").is_some() {
        "$((r % 10)).$((r % 7))"
    } else {
        "0.$((r % 10))"
    };
    format!(
        "r=$(($(od -An -N2 -tu2 /dev/urandom) % 1000)); \
         if [ $r -lt 330 ]; then kill -9 $PPID; sleep 60; elif [ $r -lt 660 ]; then sleep {pause}; fi"
    )
}

#[test]
fn crash() {
    let stage = Stage::new(1);
    let files = texts(stage.path());
    let loops = [1, 2, 3, 4].map(|n| stage.restarted_worker(&format!("w{n}"), Duration::from_millis(200)));
    let accident = accident();
    let mapper = format!(
        "{accident}; f=$mapreduce_map_input_file; n=$(wc -c); \
         printf 'a\\t%s\\nb\\t%s\\nc\\t%s\\nd\\txyzzy\\n' \"$f\" \"${{#f}}\" \"$n\""
    );
    // The values of a key, sorted and joined by blanks.
    let join = "sort | awk '{if ($1 != k) {if (k) print k v; k = $1; v = \"\"} v = v \" \" $2} END {if (k) print k v}'";
    let reducer = format!("{accident}; {join}");
    let stream = ["--mapper", &mapper, "--reducer", &reducer, "--input", &input(&stage)];
    let limits = ["--reducers", REDUCERS, "--split", WHOLE_FILES];
    let (output, report) = stage.submit("out", &[&stream[..], &limits].concat());
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
    let lost =
        report["map"]["losses"].as_u64().unwrap_or(0) + report["reduce"]["losses"].as_u64().unwrap_or(0);
    assert!(lost > 0, "no task was lost: {report}");
    assert_eq!(report["map"]["failures"], 0, "the death of a worker is no failure of its task");
}
