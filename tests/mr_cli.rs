//! MapReduce jobs as people run them: the real binary, commands of Hadoop Streaming, failures, Ctrl-C, memory.
//!
//! `QUORATE_MR_MIB` is the size of the input of the memory test in MiB (48 by default).

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long something may take that is sure to come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).expect("written");
    }

    /// `quorate mr ...`, run in this directory, so that its words name no other.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("mr").args(args).current_dir(self.0.path());
        command
    }

    fn mr(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().expect("the binary runs"))
    }

    /// All lines of the output, sorted; the directory is removed.
    fn output(&self, name: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.path(name)).expect("there is output") {
            let text = fs::read_to_string(entry.expect("readable").path()).expect("UTF-8");
            lines.extend(text.lines().map(ToString::to_string));
        }
        assert!(self.path(name).join("_SUCCESS").exists());
        fs::remove_dir_all(self.path(name)).expect("removed");
        lines.sort();
        lines
    }
}

#[derive(Debug)]
struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("its words are UTF-8");
        Self { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    fn ok(self) -> Self {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

const POEM: &str = "the quick fox\nthe lazy dog\nthe end\n";

#[test]
fn a_word_count_with_the_tools_of_a_shell() {
    let place = Place::new();
    place.write("poem.txt", POEM);
    let run = place
        .mr(&["run", "wc", "--input", "poem.txt", "--output", "a", "--reducers", "3", "--lab-names"])
        .ok();
    assert!(run.stdout.starts_with("a: 6 lines, 39 B, in 3 files\n"), "{}", run.stdout);
    assert!(place.path("a/mr-out-2").exists());
    let counts = ["dog 1", "end 1", "fox 1", "lazy 1", "quick 1", "the 3"];
    assert_eq!(place.output("a"), counts);

    let stream = ["stream", "--mapper", "tr -s ' ' '\\n'", "--reducer", "uniq -c", "--input", "poem.txt"];
    place.mr(&[&stream[..], &["--output", "b", "--reducers", "2"]].concat()).ok();
    let lines = place.output("b").into_iter().map(|line| {
        let (count, word) = line.trim().split_once(' ').expect("two columns");
        format!("{} {count}", word.trim())
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    assert_eq!(lines, counts);
}

/// Written for Hadoop Streaming: standard input and output, a combiner that is the reducer, counters, the environment.
const MAPPER: &str = r#"
import os, sys
name = os.environ["mapreduce_map_input_file"]
for line in sys.stdin:
    for word in line.strip().split():
        print("%s\t%d" % (word, 1))
        sys.stderr.write("reporter:counter:words,from %s,1\n" % os.path.basename(name))
sys.stderr.write("reporter:status:done with %s\n" % name)
"#;
const REDUCER: &str = r#"
import sys
from itertools import groupby
pairs = (line.rstrip("\n").split("\t", 1) for line in sys.stdin)
for word, group in groupby(pairs, lambda pair: pair[0]):
    print("%s\t%d" % (word, sum(int(count) for _, count in group)))
    sys.stderr.write("reporter:counter:words,groups,1\n")
"#;

#[test]
fn a_job_for_hadoop_in_python_runs_unmodified() {
    if Command::new("python3").arg("-c").arg("").output().is_err() {
        println!("skipped: it needs python3");
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("in")).expect("made");
    place.write("in/a.txt", POEM);
    place.write("in/b.txt", "the end\n");
    place.write("mapper.py", MAPPER);
    place.write("reducer.py", REDUCER);
    let (mapper, reducer) = ("python3 mapper.py", "python3 reducer.py");
    let args = ["stream", "--mapper", mapper, "--combiner", reducer, "--reducer", reducer, "--input", "in"];
    let run = place.mr(&[&args[..], &["--output", "out", "--reducers", "2", "--json"]].concat()).ok();
    let report = run.json();
    assert_eq!(report["counters"]["words"]["from a.txt"], 8);
    assert_eq!(report["counters"]["words"]["from b.txt"], 2);
    assert_eq!(report["counters"]["words"]["groups"], 8 + 6, "combiners and reducers");
    assert_eq!(report["counters"]["task"]["combined records"], 2);
    assert_eq!((&report["map_tasks"], &report["reduce_tasks"]), (&2.into(), &2.into()));
    assert_eq!(place.output("out"), ["dog\t1", "end\t2", "fox\t1", "lazy\t1", "quick\t1", "the\t4"]);
}

#[test]
fn a_mapper_that_fails_is_explained_and_can_be_run_by_hand() {
    let place = Place::new();
    place.write("in.txt", "good\n".repeat(40_000) + "bad\n" + &"good\n".repeat(300_000));
    let mapper = "grep -n bad >&2 && { echo 'it is bad' >&2; exit 3; } || true";
    let args = ["stream", "--mapper", mapper, "--input", "in.txt", "--output", "out", "--split", "150000"];
    let run = place.mr(&[&args[..], &["--attempts", "2"]].concat());
    assert_eq!((run.code, run.stdout.as_str()), (Some(1), ""));
    let said = run.stderr;
    assert!(said.starts_with("quorate: map-1 failed again and again, at last: the mapper `grep"), "{said}");
    for part in [
        "ended with code 3\n",
        "input: in.txt, bytes 150000 to 300000\n",
        "the end of its standard error:\n    10001:bad\n    it is bad\n",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(!place.path("out").exists());

    let (_, again) = said.split_once("to see it again: ").expect("a command");
    let output =
        Command::new("sh").arg("-c").arg(again.trim()).current_dir(place.0.path()).output().expect("sh");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "10001:bad\nit is bad\n", "{again}");

    let run = place.mr(&[&args[..], &["--attempts", "1", "--json"]].concat());
    let error = &run.json()["error"];
    assert_eq!((run.code, &error["kind"]), (Some(1), &"refused".into()));
}

#[test]
fn a_reducer_and_a_combiner_that_fail_are_explained() {
    let place = Place::new();
    place.write("in.txt", "b\na\n");
    let base = ["stream", "--mapper", "cat", "--input", "in.txt", "--output", "out", "--attempts", "1"];
    let run = place.mr(&[&base[..], &["--reducer", "echo oh >&2; exit 5"]].concat());
    assert!(
        run.stderr.contains("reduce-0 failed: the reducer `echo oh >&2; exit 5` ended with code 5"),
        "{}",
        run.stderr
    );
    assert!(run.stderr.contains("to see it again: cat in.txt | sh -c cat | LC_ALL=C sort"), "{}", run.stderr);

    let run = place.mr(&[&base[..], &["--combiner", "sort -r"]].concat());
    assert!(run.stderr.contains("the combiner emitted the key \"a\" after \"b\""), "{}", run.stderr);
    let run = place.mr(&[&base[..], &["--reducers", "7", "--combiner", "sed s/a/zz/"]].concat());
    assert!(run.stderr.contains("belongs to another reducer"), "{}", run.stderr);
    let run = place.mr(&[&base[..], &["--reducer", "no-such-command"]].concat());
    assert!(run.stderr.contains("ended with code 127 (a command was not found)"), "{}", run.stderr);
    assert!(!place.path("out").exists());
}

#[test]
fn a_reader_that_stops_early_is_no_failure_and_crashes_are_made_good() {
    let place = Place::new();
    place.write("in.txt", "line\n".repeat(100_000));
    let base = ["stream", "--input", "in.txt", "--output", "out"];
    place.mr(&[&base[..], &["--mapper", "head -n 1"]].concat()).ok();
    assert_eq!(place.output("out"), ["line"]);

    // Each attempt but the third is killed, as by a machine that is short of memory.
    let mapper = "case $mapreduce_task_attempt_id in *_2) cat;; *) head -c 1000; kill -9 $$;; esac";
    let args = ["--mapper", mapper, "--reducer", "wc -l", "--json"];
    let report = place.mr(&[&base[..], &args].concat()).ok().json();
    assert_eq!(report["failed_attempts"], 2);
    assert_eq!(place.output("out"), ["100000"]);
}

#[test]
fn without_reducers_the_lines_of_the_mapper_are_the_output_in_their_order() {
    let place = Place::new();
    let lines: Vec<String> = (0..50_000).rev().map(|n| format!("line {n}\tand\t")).collect();
    place.write("in.txt", lines.join("\n") + "\n");
    let base = ["stream", "--input", "in.txt", "--output", "out", "--reducers", "0"];
    let args = ["--mapper", "grep -v 7", "--split", "100000", "--json"];
    let report = place.mr(&[&base[..], &args].concat()).ok().json();
    let parts = report["map_tasks"].as_u64().expect("a number");
    assert!(parts > 5 && report["reduce_tasks"] == 0, "{report}");
    let part = |n| fs::read_to_string(place.path(&format!("out/part-m-{n:05}"))).expect("a part");
    let found: String = (0..parts).map(part).collect();
    let expected: Vec<&String> = lines.iter().filter(|line| !line.contains('7')).collect();
    assert_eq!(found.lines().collect::<Vec<_>>(), expected);
    assert_eq!(place.output("out").len(), expected.len(), "and nothing else");

    let run = place.mr(&[&base[..], &["--mapper", "exit 3", "--attempts", "1"]].concat());
    assert!(run.stderr.contains("map-0 failed: the mapper `exit 3` ended with code 3"), "{}", run.stderr);
    let run = place.mr(&[&base[..], &["--mapper", "cat", "--combiner", "cat"]].concat());
    assert!(run.stderr.contains("a job without reducers has no use for a combiner"), "{}", run.stderr);
    assert!(!place.path("out").exists());
}

#[test]
fn a_command_that_hangs_is_killed_with_all_its_processes() {
    let place = Place::new();
    place.write("in.txt", "line\n");
    let mapper = "sleep 1000 & echo $! > sleeper; cat > /dev/null; wait";
    let args = ["stream", "--mapper", mapper, "--input", "in.txt", "--output", "out"];
    let run = place.mr(&[&args[..], &["--attempts", "1", "--task-timeout", "300ms"]].concat());
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("no progress for 300ms"), "{}", run.stderr);
    assert!(run.stderr.contains("input: in.txt, bytes 0 to 5"), "{}", run.stderr);
    assert!(!place.path("out").exists());
    assert_gone(&place);
}

/// The process whose number stands in the file `sleeper` ends.
fn assert_gone(place: &Place) {
    let process = fs::read_to_string(place.path("sleeper")).expect("it was started");
    let start = Instant::now();
    while is_alive(process.trim()) {
        assert!(start.elapsed() < PATIENCE, "process {process} lives on");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(process: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

#[test]
fn ctrl_c_leaves_nothing_behind() {
    // With a total order the mapper gets a sample before the job begins.
    let sampled = ["--total-order", "--reducers", "2", "--task-timeout", "20h"];
    for (signal, more) in [(libc::SIGINT, &[][..]), (libc::SIGTERM, &[]), (libc::SIGINT, &sampled)] {
        let place = Place::new();
        place.write("in.txt", "line\n".repeat(1000));
        let mapper = "echo $$ > sleeper.new; mv sleeper.new sleeper; sleep 1000";
        let mut command =
            place.command(&["stream", "--mapper", mapper, "--input", "in.txt", "--output", "out"]);
        command.args(more);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        let start = Instant::now();
        while !place.path("sleeper").exists() {
            assert!(start.elapsed() < PATIENCE, "the mapper does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        send(&child, signal);
        let run = Run::of(child.wait_with_output().expect("it ends"));
        assert_eq!(run.code, Some(130));
        assert_eq!(run.stderr, "quorate: the job was cancelled; nothing is left of its output\n");
        assert!(!place.path("out").exists());
        assert_gone(&place);
    }
}

fn send(child: &Child, signal: i32) {
    let process = i32::try_from(child.id()).expect("a process number");
    // SAFETY: kill(2) touches no memory, and the child has not been waited for.
    assert_eq!(unsafe { libc::kill(process, signal) }, 0);
}

#[test]
fn a_disk_that_takes_no_more_is_an_error_that_names_the_file() {
    let place = Place::new();
    place.write("in.txt", "some words for a line\n".repeat(100_000));
    let mut command =
        place.command(&["run", "sort", "--input", "in.txt", "--output", "out", "--attempts", "1"]);
    // SAFETY: both calls may be made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // Files may have 100 kB; beyond it writing fails, as on a full disk.
            let limit = libc::rlimit { rlim_cur: 100_000, rlim_max: 100_000 };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            Ok(())
        });
    }
    let run = Run::of(command.output().expect("it runs"));
    assert_eq!(run.code, Some(1), "{run:?}");
    // Whichever of the two tasks is the first.
    let named =
        (0..2).any(|map| run.stderr.contains(&format!("map-{map} failed: cannot write out/_attempts/")));
    assert!(named, "{}", run.stderr);
    assert!(!place.path("out").exists());
}

#[test]
fn memory_stays_within_the_budget_whatever_the_keys() {
    let mib: u64 = std::env::var("QUORATE_MR_MIB").map_or(48, |text| text.parse().expect("a number of MiB"));
    let place = Place::new();
    let size = format!("{mib}M");
    place.mr(&["generate", "text", "--size", &size, "--to", "text.txt", "--answer", "answer.tsv"]).ok();
    let answer = fs::read_to_string(place.path("answer.tsv")).expect("written");
    let budget = 64 << 20;
    let base = ["--input", "text.txt", "--memory", "64M", "--slots", "2"];
    peak(&place, &[&["run", "wc", "--output", "a"], &base[..]].concat(), budget);
    assert_eq!(place.output("a"), answer.lines().collect::<Vec<_>>());

    // Without a combiner, one key has half of all values.
    let words: BTreeMap<&str, u64> = answer
        .lines()
        .map(|line| line.split_once('\t').expect("two columns"))
        .map(|(word, count)| (word, count.parse().expect("a number")))
        .collect();
    let total: u64 = words.values().sum();
    let mapper = "tr -cs A-Za-z '\\n' | sed '/^$/d; s/$/\\t1/; p; s/.*/half\\t1/'";
    let reducer =
        "awk -F'\\t' '$1 != last { if (n) print last, n; last = $1; n = 0 } { n++ } END { print last, n }'";
    let args = ["stream", "--mapper", mapper, "--reducer", reducer, "--output", "b"];
    peak(&place, &[&args[..], &base].concat(), budget);
    let lines = place.output("b");
    assert!(lines.contains(&format!("half {total}")), "{} lines", lines.len());
    assert_eq!(lines.len(), words.len() + 1);

    peak(&place, &[&["run", "sort", "--output", "c"], &base[..]].concat(), budget);
}

/// Runs a job and compares the most memory that its process had.
#[allow(clippy::zombie_processes, reason = "wait4 waits for it")]
fn peak(place: &Place, args: &[&str], budget: u64) {
    let child = place.command(args).stdout(Stdio::null()).spawn().expect("it runs");
    let process = i32::try_from(child.id()).expect("a process number");
    // SAFETY: all zeros is a valid value of these numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: the pointers are to values that live through the call; nobody else waits for the child.
    let waited = unsafe { libc::wait4(process, &raw mut status, 0, &raw mut usage) };
    assert_eq!((waited, status), (process, 0), "{args:?}");
    let most = u64::try_from(usage.ru_maxrss).expect("a size") << 10;
    println!("{} MiB at most: {args:?}", most >> 20);
    assert!(most <= budget, "{most} bytes: {args:?}");
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let place = Place::new();
    place.write("in.txt", "a b\n");
    fs::create_dir(place.path("there")).expect("made");
    for (args, code, words) in [
        (&["run", "cw", "--input", "in.txt", "--output", "out"][..], 2, "there is no job \"cw\""),
        (&["run", "grep", "(", "--input", "in.txt", "--output", "out"], 2, "unclosed group"),
        (
            &["run", "wc", "--input", "in.txt", "--output", "out", "--reducers", "10001"],
            2,
            "10001 reducers are not possible",
        ),
        (
            &["run", "wc", "--input", "in.txt", "--output", "out", "--reducers", "0"],
            2,
            "without reducers has no use for a combiner",
        ),
        (
            &["run", "wc", "--input", "in.txt", "--output", "out", "--max-record", "1"],
            2,
            "the longest record must be",
        ),
        (&["run", "wc", "--input", "in.txt", "--output", "out", "--memory", "much"], 2, "is not a size"),
        (&["submit", "wc", "--input", "in.txt", "--output", "out", "--total-order"], 2, "knows its own keys"),
        (
            &["submit", "wc", "--input", "in.txt", "--output", "out", "--reducer", "cat"],
            2,
            "knows its own keys",
        ),
        (&["run", "wc", "--input", "gone.txt", "--output", "out"], 1, "there is no input gone.txt"),
        (&["run", "wc", "--input", "in.txt", "--output", "there"], 1, "the output there exists"),
        (&["run", "wc", "--input", "in.txt", "--output", "in.txt/x"], 1, "cannot make in.txt"),
        (
            &["stream", "--mapper", "cat", "--input", "in.txt", "--output", "out", "--env", "x"],
            2,
            "is not NAME=VALUE",
        ),
    ] {
        let run = place.mr(args);
        assert_eq!(run.code, Some(code), "{args:?}: {}", run.stderr);
        assert!(run.stderr.contains(words), "{args:?}: {}", run.stderr);
        assert!(!place.path("out").exists());
    }
}

#[test]
fn cat_writes_the_lines_that_a_mapper_would_get() {
    let place = Place::new();
    place.write("a.txt", "one\ntwo\n");
    place.write("b.txt", "three");
    assert_eq!(place.mr(&["cat", "*.txt"]).ok().stdout, "one\ntwo\nthree\n");
    assert_eq!(place.mr(&["cat", "a.txt", "--bytes", "1-8"]).ok().stdout, "two\n");
    for (args, code, words) in [
        (&["cat", "*.txt", "--bytes", "0-1"][..], 1, "a range of bytes is of one file"),
        (&["cat", "a.txt", "--bytes", "1"], 2, "is not FROM-TO"),
        (&["cat", "gone.txt"], 1, "there is no input gone.txt"),
    ] {
        let run = place.mr(args);
        assert_eq!((run.code, run.stdout.as_str()), (Some(code), ""), "{args:?}");
        assert!(run.stderr.contains(words), "{args:?}: {}", run.stderr);
    }
    place.write("long.txt", "line\n".repeat(100_000));
    let mut cat = place.command(&["cat", "long.txt"]);
    let mut cat = cat.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(cat.stdout.take());
    let run = Run::of(cat.wait_with_output().expect("it ends"));
    assert_eq!(run.stderr, "", "a reader that goes away is no trouble");
}
