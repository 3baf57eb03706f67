//! Node processes under `quorate up`: what ends them and what does not, with what words, and how they come back.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Cluster, Reserved, tail};

/// How long something may take that ought to happen soon, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the launcher says of a process that ended because it could not go on.
const ENDED: &str = "up | n1 ended with exit code 70; it is started again";

fn quorate(endpoints: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).env("QUORATE_ENDPOINTS", endpoints).env_remove("QUORATE_NODE");
    command.output().expect("the binary runs")
}

/// A cluster of one node, in which things are broken.
struct Victim(Cluster);

impl Victim {
    fn start(extra: &str) -> Victim {
        Victim(Cluster::start(1, &format!("[chaos]\nenabled = true\n{extra}")))
    }

    fn run(&self, args: &[&str]) -> Output {
        quorate(&self.0.addresses[0], args)
    }

    /// Whether a fault was obeyed. The answer to one that ends the process may not come any more.
    fn chaos(&self, fault: &[&str]) -> bool {
        self.run(&[&["chaos", "--node", "1"], fault].concat()).status.success()
    }

    /// Makes an actor panic that may just be starting.
    fn panic(&self, actor: &str) {
        self.within(actor, || self.chaos(&["panic", actor]));
    }

    fn serves(&self, value: &str) {
        let put = self.run(&["put", "k", value, "--timeout", "60s"]);
        assert!(put.status.success(), "{}\n{}", String::from_utf8_lossy(&put.stderr), self.log());
        assert_eq!(self.run(&["get", "k"]).stdout, value.as_bytes());
    }

    fn ends(&self) -> usize {
        self.0.log().matches(ENDED).count()
    }

    fn log(&self) -> String {
        tail(&self.0.log(), 60)
    }

    fn within(&self, what: &str, mut reached: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached() {
            assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_process_whose_thread_is_blocked_ends_and_is_started_again() {
    let victim = Victim::start("[supervision]\nhang_timeout_ms = 1000\n");
    // An actor, its supervisor, and the one above which there is none.
    for (times, actor) in ["node/group-1/applier", "node/group-1", "node"].into_iter().enumerate() {
        victim.serves(&format!("before {actor}"));
        victim.chaos(&["hang", actor, "600s"]);
        victim.within(actor, || victim.ends() > times);
        let blamed = format!("actor={actor}");
        let log = victim.0.log();
        let said = log.lines().any(|line| line.contains("the process ends") && line.ends_with(&blamed));
        assert!(said, "{actor} is not blamed\n{}", victim.log());
    }
    victim.serves("after");
}

#[test]
fn a_process_whose_group_fails_too_often_ends_and_is_started_again() {
    let victim = Victim::start("[supervision]\nmax_restarts = 0\n");
    victim.serves("before");
    // The group gives up every time; three times it is started again.
    for _ in 0..3 {
        victim.panic("node/group-1/raft");
    }
    victim.serves("meanwhile");
    assert_eq!(victim.ends(), 0, "{}", victim.log());
    victim.chaos(&["panic", "node/group-1/raft"]);
    victim.within("the end", || victim.ends() == 1);
    assert!(victim.0.log().contains("the node's actors failed too often"), "{}", victim.log());
    victim.serves("after");
}

#[test]
fn a_process_does_not_end_because_of_what_the_store_can_do_without() {
    let victim = Victim::start("[mapreduce]\nenabled = true\n[supervision]\nmax_restarts = 0\n");
    let node = victim.0.nodes().next().expect("there is one");
    let process = victim.0.pid(node).expect("it runs");
    for actor in
        ["node/admin", "node/mapreduce/coordinator", "node/mapreduce", "node/worker/tasks", "node/worker"]
    {
        for _ in 0..5 {
            victim.panic(actor);
        }
    }
    victim.serves("after");
    assert_eq!(victim.0.pid(node), Some(process), "{}", victim.log());
    let jobs = victim.run(&["mr", "list", "--timeout", "60s"]);
    assert!(jobs.status.success(), "{}\n{}", String::from_utf8_lossy(&jobs.stderr), victim.log());
}

/// A pipe can be read once, and the node is started twice.
#[test]
fn a_configuration_may_come_from_a_pipe() {
    let (dir, reserved) = (tempfile::tempdir().expect("a directory"), Reserved::addresses(1));
    let address = &reserved.addresses[0];
    let log = std::fs::File::create(dir.path().join("log")).expect("created");
    let mut up = Command::new(env!("CARGO_BIN_EXE_quorate"));
    up.args(["up", "--json", "--config", "/dev/stdin", "--data"]).arg(dir.path().join("data"));
    let mut up = up.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().expect("it starts");
    let text = format!("[cluster]\nid = \"piped\"\n[[cluster.nodes]]\nid = 1\naddress = \"{address}\"\n");
    up.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
    let mut line = String::new();
    BufReader::new(up.stdout.take().expect("piped")).read_line(&mut line).expect("text");
    let log = || std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}{}", log()));
    let process =
        ready["nodes"][0]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a number");
    // SAFETY: kill takes plain numbers.
    assert_eq!(unsafe { libc::kill(process, libc::SIGKILL) }, 0);
    let deadline = Instant::now() + PATIENCE;
    while !log().contains("n1 started again") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let put = quorate(address, &["put", "k", "v", "--timeout", "60s"]);
    let said = format!("{}{}", String::from_utf8_lossy(&put.stderr), log());
    up.kill().expect("an own child");
    up.wait().expect("an own child");
    assert!(put.status.success() && said.contains("start number 2"), "{said}");
}
