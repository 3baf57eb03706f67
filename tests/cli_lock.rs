//! `quorate lock` with real processes: what the command is given, how both end, and what happens when the one that keeps
//! the lock is stopped or killed.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use serde_json::{Value, json};
use support::Cluster;

/// How long something may take that ought to happen at once.
const PATIENCE: Duration = Duration::from_secs(30);

fn quorate(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).env("QUORATE_ENDPOINTS", cluster.addresses.join(","));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Exit code, standard output and standard error.
fn run(cluster: &Cluster, args: &[&str]) -> (Option<i32>, String, String) {
    let output = quorate(cluster, args).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs this under the lock, in a shell.
fn locked(cluster: &Cluster, lock: &str, options: &[&str], script: &str) -> (Option<i32>, String, String) {
    run(cluster, &[&["lock", lock], options, &["--", "sh", "-c", script]].concat())
}

/// Starts the same, and waits for the first line that the script writes.
fn started(cluster: &Cluster, lock: &str, options: &[&str], script: &str) -> (Child, String) {
    let mut child = quorate(cluster, &[&["lock", lock], options, &["--", "sh", "-c", script]].concat())
        .spawn()
        .expect("the binary starts");
    let mut line = String::new();
    let stdout = child.stdout.as_mut().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it is readable");
    assert!(line.ends_with('\n'), "the script did not begin: {line:?}");
    (child, line.trim().to_owned())
}

fn signal(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("a process number");
    // SAFETY: kill takes plain numbers.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

fn status(cluster: &Cluster, lock: &str) -> Value {
    let (code, stdout, stderr) = run(cluster, &["lock", lock, "--status", "--json"]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    serde_json::from_str(&stdout).expect("JSON")
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not come about");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_command_under_a_lock() {
    let cluster = Cluster::start(3, "");
    the_command_is_given_what_it_needs(&cluster);
    exit_codes_are_passed_on(&cluster);
    a_held_lock_is_waited_for_or_not(&cluster);
    a_stopped_keeper_loses_the_lock_and_ends_its_command(&cluster);
    a_killed_keeper_takes_its_command_along(&cluster);
    signals_are_passed_on(&cluster);
}

fn the_command_is_given_what_it_needs(cluster: &Cluster) {
    let script = "echo $QUORATE_LOCK $QUORATE_LOCK_TOKEN $QUORATE_ENDPOINTS";
    let (code, stdout, stderr) = locked(cluster, "given", &[], script);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let words: Vec<&str> = stdout.split_whitespace().collect();
    let token: u64 = words[1].parse().expect("a number");
    assert_eq!(words, [&format!("given:{token}"), words[1], &cluster.addresses.join(",")]);

    let binary = env!("CARGO_BIN_EXE_quorate");
    let put =
        format!("{binary} put fenced yes --fence $QUORATE_LOCK && {binary} del fenced --fence $QUORATE_LOCK");
    let (code, stdout, stderr) = locked(cluster, "given", &[], &put);
    assert_eq!((code, &*stdout, &*stderr), (Some(0), "version 1\ndeleted\n", ""));
    let late = format!("given:{token}");
    for change in [&["put", "k", "v"][..], &["append", "k", "v"], &["cas", "k", "0", "v"], &["del", "k"]] {
        let (code, _, stderr) = run(cluster, &[change, &["--fence", &late]].concat());
        assert_eq!(code, Some(1), "{change:?}: {stderr}");
        assert!(stderr.starts_with("quorate: the lock is free, not held under this token"), "{stderr}");
    }
    assert_eq!(status(cluster, "given"), json!({"holder": null, "waiting": 0}));
}

fn exit_codes_are_passed_on(cluster: &Cluster) {
    assert_eq!(locked(cluster, "codes", &[], "exit 7").0, Some(7));
    assert_eq!(locked(cluster, "codes", &[], "kill -9 $$").0, Some(137));
    let (code, _, stderr) = run(cluster, &["lock", "codes", "--", "/no/such/program"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("cannot run \"/no/such/program\""), "{stderr}");
    let (code, _, stderr) = run(cluster, &["lock", "codes"]);
    assert_eq!(code, Some(2), "{stderr}");
    // Each of them has released the lock, or the next one would have been refused.
    assert_eq!(locked(cluster, "codes", &["--no-wait"], "true").0, Some(0));
    assert_eq!(locked(cluster, "codes", &["--wait", "0s"], "true").0, Some(0));
}

fn a_held_lock_is_waited_for_or_not(cluster: &Cluster) {
    let (mut holder, _) = started(cluster, "held", &["--owner", "the first"], "echo begun; exec sleep 600");
    for options in [&["--no-wait"][..], &["--wait", "0s"], &["--wait", "100ms"]] {
        let (code, stdout, stderr) = locked(cluster, "held", options, "echo never");
        assert_eq!((code, &*stdout), (Some(1), ""), "{stderr}");
        assert!(stderr.starts_with("quorate: the lock held is held; "), "{stderr}");
    }
    let waiter = quorate(cluster, &["lock", "held", "--", "echo", "at last"]).spawn().expect("it starts");
    until("the queue", || status(cluster, "held")["waiting"] == 1);
    let found = status(cluster, "held");
    assert_eq!(found["holder"]["owner"], "the first");
    // An operator takes the lock away: whoever waits gets it.
    let lease = found["holder"]["lease"].as_str().expect("a lease").to_owned();
    assert_eq!(run(cluster, &["lease", "revoke", &lease]).0, Some(0));
    let output = waiter.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"at last\n"[..]));
    assert_eq!(holder.wait().expect("it ends").code(), Some(3), "its command was told to end");
}

#[test]
fn a_waiter_that_gives_up_while_the_node_is_slow_has_left_the_queue_when_it_ends() {
    let cluster = Cluster::start(1, "");
    let node = NodeId(1);
    let (mut holder, _) = started(&cluster, "slow", &[], "echo begun; exec sleep 600");
    for (options, code) in [(&["--ttl", "60s", "--wait", "3s"][..], 1), (&["--ttl", "60s"], 130)] {
        let arguments = [&["lock", "slow"], options, &["--", "true"]].concat();
        let waiter = quorate(&cluster, &arguments).spawn().expect("it starts");
        until("the queue", || status(&cluster, "slow")["waiting"] == 1);
        if code == 1 {
            std::thread::sleep(Duration::from_millis(2500));
        } else {
            signal(waiter.id(), libc::SIGINT);
        }
        assert!(cluster.signal(node, libc::SIGSTOP));
        std::thread::sleep(Duration::from_secs(1));
        assert!(cluster.signal(node, libc::SIGCONT));
        let output = waiter.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(status(&cluster, "slow")["waiting"], 0, "{options:?}");
    }
    signal(holder.id(), libc::SIGTERM);
    holder.wait().expect("it ends");
}

fn a_stopped_keeper_loses_the_lock_and_ends_its_command(cluster: &Cluster) {
    let binary = env!("CARGO_BIN_EXE_quorate");
    // It does not listen to SIGTERM, and writes whatever happens.
    let script = format!(
        "trap '' TERM; echo begun; while :; do {binary} put stopped old --fence $QUORATE_LOCK || echo refused >&2; \
         sleep 0.1; done"
    );
    let (mut keeper, _) = started(cluster, "stopped", &["--ttl", "500ms", "--grace", "1s"], &script);
    signal(keeper.id(), libc::SIGSTOP);
    let put = format!("{binary} put stopped new --fence $QUORATE_LOCK");
    assert_eq!(locked(cluster, "stopped", &[], &put).0, Some(0), "the lock is free after its time to live");
    // Its command goes on, and has long written again; but not past the fence.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(run(cluster, &["get", "stopped"]).1, "new");
    signal(keeper.id(), libc::SIGCONT);
    let mut stderr = String::new();
    let mut pipe = BufReader::new(keeper.stderr.take().expect("it is piped"));
    std::io::Read::read_to_string(&mut pipe, &mut stderr).expect("UTF-8");
    assert_eq!(keeper.wait().expect("it ends").code(), Some(3), "{stderr}");
    assert!(stderr.contains("refused\n") && stderr.contains("the lock stopped was lost"), "{stderr}");
}

fn a_killed_keeper_takes_its_command_along(cluster: &Cluster) {
    if !cfg!(target_os = "linux") {
        return;
    }
    let (mut keeper, pid) = started(cluster, "killed", &["--ttl", "500ms"], "echo $$; exec sleep 600");
    keeper.kill().expect("an own child");
    keeper.wait().expect("it ends");
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    };
    until("the end of the command", gone);
    assert_eq!(locked(cluster, "killed", &[], "true").0, Some(0));
}

fn signals_are_passed_on(cluster: &Cluster) {
    let (keeper, _) =
        started(cluster, "signals", &[], "trap 'exit 9' TERM; echo begun; while :; do sleep 0.05; done");
    signal(keeper.id(), libc::SIGTERM);
    let output = keeper.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(9));
    // One that waits leaves the queue.
    let (mut holder, _) = started(cluster, "signals", &[], "echo begun; exec sleep 600");
    let waiter = quorate(cluster, &["lock", "signals", "--", "true"]).spawn().expect("it starts");
    until("the queue", || status(cluster, "signals")["waiting"] == 1);
    signal(waiter.id(), libc::SIGINT);
    assert_eq!(waiter.wait_with_output().expect("it ends").status.code(), Some(130));
    until("nobody waits", || status(cluster, "signals")["waiting"] == 0);
    signal(holder.id(), libc::SIGTERM);
    assert_eq!(holder.wait().expect("it ends").code(), Some(143));
}
