//! Jobs on a cluster of real processes that cannot be done: whoever submitted one is told why, where and what to do,
//! nothing is left half-done, and the cluster serves on.

mod mapreduce_support;
#[path = "mapreduce_support/processes.rs"]
mod processes;
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mapreduce_support::text;
use processes::{Ground, Stage, Worker, block_on, submission, submit, succeeded};
use quorate::logic::ids::NodeId;

/// Submits a job that must fail; what the command says, and its exit code. No output may be there.
fn refused(stage: &Stage, args: &[&str]) -> (String, i32) {
    let out = stage.path().join("refused");
    let mut command = processes::command(&stage.cluster, &["mr", "submit", "--timeout", "30s"]);
    let output = command.arg("--output").arg(&out).args(args).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && output.stdout.is_empty(), "{args:?} went well: {output:?}");
    assert!(!out.exists(), "{args:?} left an output directory");
    (said, output.status.code().expect("it was not killed"))
}

/// The cluster is as good as new: it takes a write, no worker keeps anything, and the next job goes well.
fn serves_on(stage: &Stage, files: &[String]) {
    block_on(async {
        let client = stage.cluster.client().await;
        client.put("after", "the job").await.expect("the store serves");
    });
    let (output, _) = stage.submit("next", &["wc", "--input", &files[0], "--reducers", "2"]);
    assert_eq!(output, text::word_counts(&files[..1]));
    std::fs::remove_dir_all(stage.path().join("next")).expect("the output goes away");
    if stage.ground == Ground::Common {
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Some(left) = left_over(&stage.path().join("workers")) {
            assert!(Instant::now() < deadline, "a worker keeps {left}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Something of a job in a worker's directory.
fn left_over(workers: &Path) -> Option<String> {
    let workers = std::fs::read_dir(workers).expect("the workers' directories").flatten();
    let entries = workers.filter_map(|worker| std::fs::read_dir(worker.path().join("data")).ok());
    let jobs = entries.flatten().flatten().filter(|entry| entry.path().is_dir());
    jobs.map(|entry| entry.path().display().to_string()).next()
}

#[test]
fn functions_that_fail_are_told_with_file_bytes_and_last_words() {
    let stage = Stage::new(1, Ground::Common);
    let files = text::files(stage.path(), 2, 100_000);
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let input = stage.input();

    let mapper =
        "cat >/dev/null; case $mapreduce_map_input_file in *text-1*) echo no luck today >&2; exit 1;; esac";
    let (said, code) = refused(&stage, &["--mapper", mapper, "--reducer", "cat", "--input", &input]);
    assert_eq!(code, 1, "{said}");
    for part in ["ended with code 1", &files[1], "bytes 0 to 10", "no luck today", "to see it again: "] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }
    assert!(!said.contains("goes on"), "it has failed for good: {said}");
    let out = stage.path().join("collected");
    let mut collect = processes::command(&stage.cluster, &["mr", "collect", "1"]);
    let collect = collect.arg("--output").arg(&out).output().expect("it runs");
    let same = String::from_utf8_lossy(&collect.stderr).into_owned();
    assert_eq!((same, collect.status.code(), out.exists()), (said, Some(1), false));

    // One that hangs cannot say where; the coordinator does.
    let args = ["--mapper", "sleep 1000", "--reducer", "cat", "--input", &files[1]];
    let (said, _) = refused(&stage, &[&args[..], &["--task-timeout", "300ms", "--attempts", "2"]].concat());
    for part in ["no progress for 300ms", "sleep 1000", &files[1], "bytes 0 to 10"] {
        assert!(said.contains(part), "{part:?} is missing: {said}");
    }

    let (said, _) =
        refused(&stage, &["--mapper", "cat", "--reducer", "cat >/dev/null; exit 3", "--input", &input]);
    assert!(said.contains("the reducer `cat >/dev/null; exit 3` ended with code 3"), "{said}");
    serves_on(&stage, &files);
}

#[test]
fn inputs_and_outputs_that_will_not_do_are_told_before_anything_runs() {
    let stage = Stage::new(1, Ground::Common);
    let files = text::files(stage.path(), 1, 1000);
    let (said, _) = refused(&stage, &["wc", "--input", &files[0]]);
    assert!(said.contains("no worker is up"), "{said}");
    let _worker = stage.worker("w1");
    stage.workers_are_up(1);

    let (said, code) = refused(&stage, &["wc", "--input", &format!("{}.missing", files[0])]);
    assert!(said.contains(&format!("there is no input {}.missing", files[0])) && code == 2, "{said}");
    let (said, _) = refused(&stage, &["grep", "(", "--input", &files[0]]);
    assert!(said.contains("unclosed group"), "{said}");

    let there = stage.path().join("there");
    std::fs::create_dir(&there).expect("a directory");
    std::fs::write(there.join("precious"), "text").expect("written");
    let output = submit(&stage.cluster, &there, &["wc", "--input", &files[0]]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("the output {} exists", there.display())), "{said}");
    assert_eq!(std::fs::read_to_string(there.join("precious")).expect("it is there"), "text");
    serves_on(&stage, &files);
    let list = processes::command(&stage.cluster, &["mr", "list", "--json"]).output().expect("it runs");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert_eq!(list.matches("\"job\"").count(), 1, "what was refused was never submitted: {list}");
}

/// The same jobs fail, and go well when bad records may be passed over: a line that is too long, and one that kills the
/// command.
#[test]
fn bad_records_are_passed_over_if_the_job_allows_it() {
    let stage = Stage::new(1, Ground::Common);
    let input = stage.path().join("input");
    let long = "x".repeat(2 << 20);
    std::fs::write(input.join("a.txt"), format!("one\n{long}\ntwo\n")).expect("written");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let given = stage.input();
    let place = format!("{}, the line at byte 4", input.join("a.txt").display());

    let args = ["sort", "--input", &given, "--max-record", "1M"];
    let (said, _) = refused(&stage, &args);
    assert!(said.contains("the line at byte 4 is longer than 1048576 bytes"), "{said}");
    let (output, report) = stage.submit("long", &[&args[..], &["--skip-bad-records", "1"]].concat());
    assert_eq!(output, "one\ntwo\n");
    assert_eq!(report["skipped"], serde_json::json!([place]));

    let mapper = "awk 'length > 1000 { exit 7 } { print }'";
    let args = ["--mapper", mapper, "--input", &given];
    let (said, _) = refused(&stage, &args);
    assert!(said.contains("ended with code 7"), "{said}");
    let (output, report) = stage.submit("kills", &[&args[..], &["--skip-bad-records", "1"]].concat());
    assert_eq!(output, "one\ntwo\n");
    assert_eq!(report["skipped"], serde_json::json!([place]));
    assert_eq!(report["counters"]["task"]["skipped records"], 1);
}

/// Invalid UTF-8, empty files, a line too long, and what cannot be read.
#[test]
fn odd_input_is_read_or_told_with_file_and_offset() {
    let stage = Stage::new(1, Ground::Common);
    let input = stage.path().join("input");
    std::fs::write(input.join("empty"), "").expect("written");
    std::fs::write(input.join("bytes"), b"caf\xc3\xa9 a\xff\xfeb \0 nul\r\nlast").expect("written");
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);
    let (output, _) = stage.submit("out", &["wc", "--input", &stage.input()]);
    assert_eq!(output, "a\t1\nb\t1\ncafé\t1\nlast\t1\nnul\t1\n");

    let long = stage.path().join("long");
    let mut bytes = b"short\n".to_vec();
    bytes.resize(18 << 20, b'x');
    std::fs::write(&long, bytes).expect("written");
    let (said, _) = refused(&stage, &["sort", "--reducers", "1", "--input", long.to_str().expect("UTF-8")]);
    assert!(said.contains(&long.display().to_string()) && said.contains("byte 6"), "{said}");
    serves_on(&stage, &text::files(stage.path(), 1, 1000));
}

/// Each worker has file systems of its own, and a disk that is soon full.
#[test]
fn full_disks_and_inputs_that_workers_lack_fail_the_job_and_nothing_else() {
    let ground = Ground::Apart { disk_bytes: Some(1 << 20) };
    if !ground.is_possible() {
        return println!("SKIPPED: this machine does not let a process have file systems of its own");
    }
    let stage = Stage::new(1, ground);
    let files = text::files(stage.path(), 2, 600_000);
    let small = stage.path().join("input/small.txt");
    std::fs::write(&small, text::generate(9, 10_000)).expect("written");
    let small = small.to_str().expect("UTF-8").to_owned();
    let _workers = [stage.worker("w1"), stage.worker("w2")];
    stage.workers_are_up(2);

    // One task's output fits, and that of both does not: the reducer fetches what the other worker has.
    let sort = ["sort", "--reducers", "1", "--split", "100M"];
    let (said, _) = refused(&stage, &[&sort[..], &["--input", &files[0], "--input", &files[1]]].concat());
    assert!(said.contains("reduce-0") && said.contains("No space left on device"), "{said}");
    assert!(said.contains("workers/w"), "the file is named: {said}");
    serves_on(&stage, &[small]);

    // The workers have copies of the input as it was when they started.
    let late = stage.path().join("input/late.txt");
    std::fs::write(&late, "too late\n").expect("written");
    let late = late.to_str().expect("UTF-8");
    let (said, _) = refused(&stage, &["wc", "--input", late]);
    assert!(said.contains(&format!("cannot open the input {late}")), "{said}");
}

#[test]
fn a_full_disk_where_output_is_wanted_leaves_it_with_the_cluster() {
    if !(Ground::Apart { disk_bytes: None }).is_possible() {
        return println!("SKIPPED: this machine does not let a process have file systems of its own");
    }
    let stage = Stage::new(1, Ground::Common);
    let files = text::files(stage.path(), 1, 200_000);
    let _worker = stage.worker("w1");
    stage.workers_are_up(1);
    let disk = stage.marks("disk");
    let submit = submission(&stage.cluster, &disk.join("out"), &["sort", "--input", &files[0]]);
    // The same command where that directory is a disk of 64 KiB.
    let small = "mount -t tmpfs -o size=64k tmpfs \"$0\" && \"$@\"; code=$?; ls \"$0\"; exit $code";
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", small]).arg(&disk);
    let output = command.arg(submit.get_program()).args(submit.get_args()).output().expect("it runs");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("No space left on device") && said.contains("/disk/out/"), "{said}");
    assert!(!said.lines().any(|line| line == "out"), "an output directory is left: {said}");

    let out = stage.path().join("out");
    let collect =
        processes::command(&stage.cluster, &["mr", "collect", "1"]).arg("--output").arg(&out).output();
    let collect = collect.expect("it runs");
    assert!(collect.status.success(), "{collect:?}");
    let mut lines: Vec<String> =
        std::fs::read_to_string(&files[0]).expect("text").lines().map(|line| format!("{line}\n")).collect();
    lines.sort();
    assert_eq!(text::sorted_output(&out), lines.concat());
}

/// Submits a job that is not waited for, and waits until it is in this state. Returns its number.
fn submit_detached(stage: &Stage, args: &[&str], state: &str) -> String {
    let out = stage.path().join("unused");
    let mut submit = processes::command(&stage.cluster, &["mr", "submit", "--detach", "--json"]);
    let submitted = succeeded(submit.arg("--output").arg(&out).args(args).output().expect("it runs"));
    let job = submitted["job"].to_string();
    processes::wait_until(state, || {
        let status = processes::command(&stage.cluster, &["mr", "status", &job, "--json"]).output();
        succeeded(status.expect("it runs"))["state"] == state
    });
    job
}

/// Starts collecting the output of a job with a part that cannot be fetched yet, and cuts the cluster off before it can
/// be. So what follows once the output is complete is asked in vain.
fn collect_out_of_reach(stage: &Stage, worker: &Worker, job: &str, out: &Path, timeout: &str) -> Child {
    worker.signal(libc::SIGSTOP);
    let mut collect = processes::command(&stage.cluster, &["mr", "collect", job, "--timeout", timeout]);
    let collect = collect.arg("--output").arg(out).stderr(Stdio::piped()).spawn().expect("it runs");
    processes::wait_until("a part that is fetched", || out.join("_attempts/reduce-0.1").exists());
    assert!(stage.cluster.signal(NodeId(1), libc::SIGSTOP));
    worker.signal(libc::SIGCONT);
    collect
}

/// Whatever fails after that, or interrupts it: the cluster may have dropped its own, so this is all there is.
#[test]
fn output_that_is_complete_is_never_taken_away_again() {
    let stage = Stage::new(1, Ground::Common);
    let files = text::files(stage.path(), 1, 1000);
    let worker = stage.worker("w1");
    stage.workers_are_up(1);
    let submit = || submit_detached(&stage, &["wc", "--reducers", "1", "--input", &files[0]], "succeeded");

    let (job, out) = (submit(), stage.path().join("untold"));
    let collect = collect_out_of_reach(&stage, &worker, &job, &out, "1s");
    let collect = collect.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&collect.stderr).into_owned();
    assert!(collect.status.success() && said.contains("the output is complete, but"), "{said}");
    assert_eq!(text::sorted_output(&out), text::word_counts(&files));
    assert!(stage.cluster.signal(NodeId(1), libc::SIGCONT));
    stage.workers_are_up(1);

    let (job, out) = (submit(), stage.path().join("interrupted"));
    let collect = collect_out_of_reach(&stage, &worker, &job, &out, "60s");
    processes::wait_until("the output", || out.join("_SUCCESS").exists());
    processes::tell(&collect, libc::SIGINT);
    let collect = collect.wait_with_output().expect("it ends");
    assert_eq!(collect.status.code(), Some(130), "{collect:?}");
    assert_eq!(text::sorted_output(&out), text::word_counts(&files));
    assert!(stage.cluster.signal(NodeId(1), libc::SIGCONT));
}

#[test]
fn a_command_that_is_interrupted_leaves_no_directory_and_its_job_goes_on() {
    let stage = Stage::new(1, Ground::Common);
    let files = text::files(stage.path(), 1, 1000);
    let _worker = stage.worker("w1");
    stage.workers_are_up(1);
    let out = stage.path().join("out");
    let interrupted = |mut command: Command, sign: &Path, signal: i32| {
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        processes::wait_until("a sign of it", || sign.exists());
        processes::tell(&child, signal);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{output:?}");
        assert!(!out.exists(), "an output directory is left");
    };
    // Longer than both commands take, and not longer than the test may.
    let wait = ["--mapper", "sleep 5; cat", "--reducer", "cat", "--reducers", "1", "--input", &files[0]];
    let job = submit_detached(&stage, &wait, "running");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let mut collect = processes::command(&stage.cluster, &["mr", "collect", &job]);
        collect.arg("--output").arg(&out);
        interrupted(collect, &out.join("_attempts"), signal);
    }
    interrupted(submission(&stage.cluster, &out, &wait), &out.join("_attempts"), libc::SIGTERM);
    // While the job is planned, too: its mapper hangs at a sample.
    let sampled = stage.path().join("sampled");
    let hang = format!("touch {}; exec sleep 100000", sampled.display());
    let plan = [
        "--mapper",
        &hang,
        "--total-order",
        "--reducers",
        "2",
        "--task-timeout",
        "20h",
        "--input",
        &files[0],
    ];
    interrupted(submission(&stage.cluster, &out, &plan), &sampled, libc::SIGINT);
    let mut collect = processes::command(&stage.cluster, &["mr", "collect", &job]);
    let collect = collect.arg("--output").arg(&out).output().expect("it runs");
    assert!(collect.status.success(), "the job went on: {collect:?}");
}

/// A worker that is killed can clean up nothing; its command ends all the same.
#[test]
fn a_command_ends_with_its_worker() {
    let stage = Stage::new(1, Ground::Common);
    let files = text::files(stage.path(), 1, 1000);
    let mut worker = stage.worker("w1");
    stage.workers_are_up(1);
    // A number that nobody else sleeps for.
    let mapper = format!("exec sleep 1000.{}", std::process::id());
    let args = ["mr", "submit", "--detach", "--mapper", &mapper, "--reducer", "cat", "--input", &files[0]];
    let out = stage.path().join("out");
    let output =
        processes::command(&stage.cluster, &args).arg("--output").arg(&out).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let sleeps = || processes::with_argument(&mapper["exec sleep ".len()..]);
    let wait = |wanted: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while sleeps() != wanted {
            assert!(Instant::now() < deadline, "not {wanted} commands");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait(1);
    worker.kill();
    wait(0);
}
