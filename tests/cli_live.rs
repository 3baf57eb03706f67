//! The commands against a live cluster: what they print, exactly, and how they end.
//!
//! One cluster for the whole file; each test has keys of its own.

mod support;

use std::io::Write;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use quorate::logic::ids::NodeId;
use serde_json::{Value, json};
use support::{Cluster, Reserved, cluster_id};

/// The leader stays where it is unless it is told to move.
const CONFIG: &str = "[raft]\nelection_timeout_min_ms = 1000\nelection_timeout_max_ms = 2000\n";

/// How a command ended and what it said.
#[derive(Debug, PartialEq)]
struct Run {
    code: Option<i32>,
    stdout: Vec<u8>,
    stderr: String,
}

struct Shell<'a> {
    cluster: &'a Cluster,
}

impl Shell<'_> {
    fn with_input(&self, args: &[&str], input: &[u8]) -> Run {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quorate"))
            .args(args)
            .env("QUORATE_ENDPOINTS", self.cluster.addresses.join(","))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        child.stdin.take().expect("stdin is piped").write_all(input).expect("the binary reads");
        let Output { status, stdout, stderr } = child.wait_with_output().expect("the binary ends");
        let stderr = String::from_utf8(stderr).expect("messages are UTF-8");
        Run { code: status.code(), stdout, stderr }
    }

    fn run(&self, args: &[&str]) -> Run {
        self.with_input(args, b"")
    }

    /// Succeeds, prints exactly this, and complains about nothing.
    fn says(&self, args: &[&str], stdout: &str) {
        let run = self.run(args);
        let found = String::from_utf8_lossy(&run.stdout);
        assert_eq!((run.code, &*found, &*run.stderr), (Some(0), stdout, ""), "{args:?}");
    }

    /// Ends with this code and these words on standard error, and prints nothing.
    fn fails(&self, args: &[&str], code: i32, stderr: &str) {
        let run = self.run(args);
        assert_eq!((run.code, &*run.stderr, &*run.stdout), (Some(code), stderr, &b""[..]), "{args:?}");
    }

    /// The lines of JSON that it prints.
    fn json(&self, args: &[&str], code: i32) -> Vec<Value> {
        let run = self.run(&[args, &["--json"]].concat());
        assert_eq!((run.code, &*run.stderr), (Some(code), ""), "{args:?}");
        let text = String::from_utf8(run.stdout).expect("JSON is UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "{args:?}: {text:?}");
        text.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect()
    }

    fn error(&self, args: &[&str], code: i32, kind: &str, message: &str) {
        let expected = json!({"error": {"kind": kind, "message": message, "code": code}});
        assert_eq!(self.json(args, code), [expected], "{args:?}");
    }
}

#[test]
fn the_commands_of_a_live_cluster() {
    let cluster = Cluster::start(3, CONFIG);
    let shell = Shell { cluster: &cluster };
    single_keys(&shell);
    conditions(&shell);
    bytes_of_any_kind(&shell);
    listings(&shell);
    batches(&shell);
    leases(&shell);
    limits(&shell);
    json_shapes(&shell);
    nobody_reads(&shell);
    freshness(&shell);
    status(&shell);
    tree(&shell);
    chaos_is_refused(&shell);
    leadership_moves(&shell);
    unreachable(&shell);
}

fn single_keys(shell: &Shell<'_>) {
    shell.says(&["put", "s/greeting", "hello"], "version 1\n");
    shell.says(&["get", "s/greeting"], "hello");
    shell.says(&["put", "s/greeting", "good day"], "version 2\n");
    shell.says(&["append", "s/greeting", ", world"], "version 3\n");
    shell.says(&["get", "s/greeting"], "good day, world");
    shell.says(&["append", "s/new", "first"], "version 1\n");
    shell.says(&["put", "s/dash", "-1"], "version 1\n");
    shell.says(&["put", "s/empty", ""], "version 1\n");
    shell.says(&["get", "s/empty"], "");
    shell.says(&["del", "s/new"], "deleted\n");
    shell.says(&["del", "s/new"], "was absent\n");
    shell.fails(&["get", "s/new"], 1, "quorate: no such key\n");
    for flags in [&["--stateless"][..], &["--timeout", "20s"], &["--group", "1"]] {
        shell.says(&[&["put", "s/flags", "x"], flags].concat(), &version_after(shell, "s/flags"));
    }
    shell.says(&["del", "s/flags", "--stateless"], "deleted\n");
    shell.fails(&["get", "s/flags", "--stateless"], 1, "quorate: no such key\n");
    shell.says(&["put", "s/ttl", "x", "--ttl", "1h"], "version 1\n");
    shell.fails(&["get", "k", "--group", "7", "--timeout", "300ms"], 3, GROUP_7);
}

const GROUP_7: &str = "quorate: no node that can be reached hosts g7\n";

/// What the next put of the key prints.
fn version_after(shell: &Shell<'_>, key: &str) -> String {
    let run = shell.run(&["get", key, "--json"]);
    let found: Value = serde_json::from_slice(&run.stdout).expect("JSON");
    format!("version {}\n", found["version"].as_u64().unwrap_or(0) + 1)
}

fn conditions(shell: &Shell<'_>) {
    shell.says(&["cas", "c/key", "0", "one"], "version 1\n");
    shell.says(&["cas", "c/key", "1", "two"], "version 2\n");
    let has_2 = "quorate: the key has version 2, not the expected one; read it and decide anew\n";
    let absent = "quorate: no such key\n";
    shell.fails(&["cas", "c/key", "1", "three"], 1, has_2);
    shell.fails(&["cas", "c/key", "0", "three"], 1, has_2);
    shell.fails(&["cas", "c/none", "5", "x"], 1, absent);
    shell.fails(&["append", "c/key", "x", "--version", "9"], 1, has_2);
    shell.says(&["append", "c/key", "x", "--version", "2"], "version 3\n");
    shell.fails(&["del", "c/none", "--version", "3"], 1, absent);
    shell.fails(&["cas", "c/key", "2", "x", "--stateless"], 1, &has_2.replace("version 2", "version 3"));
    shell.says(&["del", "c/key", "--version", "3"], "deleted\n");
}

fn bytes_of_any_kind(shell: &Shell<'_>) {
    let all: Vec<u8> = (0..=255).collect();
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("value");
    std::fs::write(&path, &all).expect("written");
    let path = path.to_str().expect("UTF-8");
    shell.says(&["put", "b/file", "--file", path], "version 1\n");
    assert_eq!(
        shell.run(&["get", "b/file"]),
        Run { code: Some(0), stdout: all.clone(), stderr: String::new() }
    );
    let run = shell.with_input(&["put", "b/stdin", "--stdin"], &all);
    assert_eq!(run, Run { code: Some(0), stdout: b"version 1\n".to_vec(), stderr: String::new() });
    assert_eq!(shell.run(&["get", "b/stdin"]).stdout, all);
    shell.says(&["put", "00ff", "0a0d", "--hex"], "version 1\n");
    assert_eq!(shell.run(&["get", "00ff", "--hex"]).stdout, b"\n\r");
    let found = shell.json(&["get", "00FF", "--hex"], 0);
    assert_eq!(found, [json!({"key_hex": "00ff", "value": "\n\r", "version": 1})]);
    shell.says(&["append", "00ff", "ff", "--hex"], "version 2\n");
    let found = shell.json(&["get", "00ff", "--hex"], 0);
    assert_eq!(found, [json!({"key_hex": "00ff", "value_hex": "0a0dff", "version": 2})]);
    shell.says(&["range", "00", "01", "--hex"], "\\x00\\xff\t\\n\\r\\xff\n");
    shell.says(&["del", "00ff", "--hex"], "deleted\n");
    shell.says(&["put", "b/ümlaut", "é"], "version 1\n");
    shell.says(&["get", "b/ümlaut"], "é");
    let missing = shell.run(&["put", "k", "--file", "/nowhere/value"]);
    assert_eq!(missing.code, Some(2));
    assert!(missing.stderr.starts_with("quorate: cannot read /nowhere/value: "), "{}", missing.stderr);
}

fn listings(shell: &Shell<'_>) {
    for (key, value) in [("r/a", "1"), ("r/b", "two\tand\nmore"), ("r/c", ""), ("r/c/d", "4")] {
        shell.says(&["put", key, value], "version 1\n");
    }
    shell.says(&["range", "r/a", "r/c"], "r/a\t1\nr/b\ttwo\\tand\\nmore\n");
    shell.says(&["range", "--prefix", "r/c"], "r/c\t\nr/c/d\t4\n");
    shell.says(&["range", "--prefix", "r/", "--keys-only"], "r/a\nr/b\nr/c\nr/c/d\n");
    shell.says(&["range", "--prefix", "r/", "--keys-only", "--limit", "2"], "r/a\nr/b\n");
    shell.says(&["range", "r/z", "r/a"], "");
    shell.says(&["range", "--prefix", "nothing/"], "");
    let found = shell.json(&["range", "--prefix", "r/c"], 0);
    assert_eq!(
        found,
        [
            json!({"key": "r/c", "value": "", "version": 1}),
            json!({"key": "r/c/d", "value": "4", "version": 1})
        ]
    );
    let found = shell.json(&["range", "r/a", "r/b", "--keys-only"], 0);
    assert_eq!(found, [json!({"key": "r/a", "version": 1})]);
    assert_eq!(shell.json(&["range", "--prefix", "nothing/"], 0), [] as [Value; 0]);
}

fn batches(shell: &Shell<'_>) {
    let done = shell.with_input(
        &["batch"],
        b"put a/x 1\nappend a/x 2\n# a comment\ncheck a/x version=2\ndel a/none\ndel a/x\n",
    );
    let expected = b"version 1\nversion 2\nheld\nwas absent\ndeleted\n".to_vec();
    assert_eq!(done, Run { code: Some(0), stdout: expected, stderr: String::new() });
    shell.fails(&["get", "a/x"], 1, "quorate: no such key\n");

    let run = shell.with_input(&["batch"], b"put a/y 1\ncheck a/y version=7\n");
    let expected =
        "quorate: change number 1 of the batch failed: the key has version 1, not the one expected\n";
    assert_eq!(run, Run { code: Some(1), stdout: vec![], stderr: expected.to_owned() });
    shell.fails(&["get", "a/y"], 1, "quorate: no such key\n");

    let run = shell.with_input(&["batch"], b"put a/y\nfly\n");
    assert_eq!(run.code, Some(2));
    assert_eq!(
        run.stderr,
        "quorate: line 1: put needs a value\nline 2: \"fly\" is not a change; use put, append, del, check\n"
    );
    let run = shell.with_input(&["batch", "--json"], b"put a/z 1\ndel a/z\n");
    let found: Value = serde_json::from_slice(&run.stdout).expect("JSON");
    assert_eq!(found, json!({"results": [{"version": 1}, {"existed": true}]}));
    let run = shell.with_input(&["batch"], b"\n");
    assert_eq!(run.code, Some(2), "{}", run.stderr);
}

fn leases(shell: &Shell<'_>) {
    let run = shell.run(&["lease", "grant", "1h"]);
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    let (lease, rest) = text.split_once(' ').expect("a name and more");
    assert_eq!(rest, "lives 3600s unless renewed\n", "{text}");
    shell.says(&["put", "l/key", "x", "--lease", lease], "version 1\n");
    shell.says(&["lease", "renew", lease], &text);
    let found = shell.json(&["lease", "renew", lease], 0);
    assert_eq!(found, [json!({"lease": lease, "ttl_ms": 3_600_000})]);
    shell.says(&["lease", "revoke", lease], "revoked\n");
    shell.fails(&["get", "l/key"], 1, "quorate: no such key\n");
    let over = "the lease has expired, or never was; for a new one: quorate lease grant 30s";
    shell.fails(&["lease", "renew", lease], 1, &format!("quorate: {over}\n"));
    shell.fails(&["lease", "revoke", lease], 1, &format!("quorate: {over}\n"));
    shell.fails(&["put", "l/key", "x", "--lease", lease], 1, &format!("quorate: {over}\n"));
    shell.error(&["lease", "renew", lease], 1, "refused", over);
    // A shorter wish is raised, and the answer says so.
    let found = shell.json(&["lease", "grant", "1ms"], 0);
    assert_eq!(found[0]["ttl_ms"], 500);
}

fn limits(shell: &Shell<'_>) {
    let long = "k".repeat(5000);
    let expected = "the key's bytes would be 5000, above the limit max_key_bytes = 4096; \
                    limits.max_key_bytes in the nodes' configuration sets it";
    shell.fails(&["put", &long, "x"], 1, &format!("quorate: {expected}\n"));
    shell.fails(&["get", &long], 1, &format!("quorate: {expected}\n"));
    shell.error(&["del", &long], 1, "refused", expected);
    let run = shell.with_input(&["put", "k", "--stdin"], &vec![0; (1 << 20) + 1]);
    let expected = "quorate: the value's bytes would be 1048577, above the limit max_value_bytes = 1048576; \
                    limits.max_value_bytes in the nodes' configuration sets it\n";
    assert_eq!(run, Run { code: Some(1), stdout: vec![], stderr: expected.to_owned() });
    shell.fails(&["lease", "grant", "2d"], 1, LEASE_LIMIT);
}

const LEASE_LIMIT: &str = "quorate: the lease's milliseconds would be 172800000, above the limit max_lease_ttl_ms = \
                           86400000; limits.max_lease_ttl_ms in the nodes' configuration sets it\n";

fn json_shapes(shell: &Shell<'_>) {
    assert_eq!(shell.json(&["put", "j/k", "v"], 0), [json!({"version": 1})]);
    assert_eq!(shell.json(&["append", "j/k", "w"], 0), [json!({"version": 2})]);
    assert_eq!(shell.json(&["cas", "j/k", "2", "x"], 0), [json!({"version": 3})]);
    assert_eq!(shell.json(&["get", "j/k"], 0), [json!({"key": "j/k", "value": "x", "version": 3})]);
    let mismatch = "the key has version 3, not the expected one; read it and decide anew";
    shell.error(&["cas", "j/k", "2", "y"], 1, "refused", mismatch);
    assert_eq!(shell.json(&["del", "j/k"], 0), [json!({"existed": true})]);
    assert_eq!(shell.json(&["del", "j/k"], 0), [json!({"existed": false})]);
    shell.error(&["get", "j/k"], 1, "refused", "no such key");
}

/// Whoever went away is told nothing, and what was asked for was done; what cannot be written is an error.
fn nobody_reads(shell: &Shell<'_>) {
    let run = |args: &[&str], stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.args(args).env("QUORATE_ENDPOINTS", shell.cluster.addresses.join(",")).stdout(stdout);
        let Output { status, stderr, .. } = command.output().expect("the binary runs");
        (status.code(), String::from_utf8(stderr).expect("messages are UTF-8"))
    };
    for args in [
        &["put", "n/k", "v"][..],
        &["get", "n/k"],
        &["get", "n/k", "--json"],
        &["range", "n/"],
        &["status"],
        &["tree"],
        &["lock", "n", "--status"],
        &["lease", "grant", "1s"],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        assert_eq!(run(args, writer.into()), (Some(141), String::new()), "{args:?}");
        let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
        let (code, text) = run(args, full.into());
        assert_eq!(code, Some(70), "{args:?}");
        assert!(text.starts_with("quorate: cannot write to standard output: "), "{args:?}: {text}");
    }
    shell.says(&["put", "n/k", "w"], "version 3\n");
}

fn freshness(shell: &Shell<'_>) {
    shell.says(&["put", "f/k", "v"], "version 1\n");
    for consistency in ["linearizable", "lease"] {
        shell.says(&["get", "f/k", "--consistency", consistency], "v");
    }
    // Followers learn of it a little later: the put was acknowledged by a majority.
    let stale = || {
        (1..=3).map(|node| shell.run(&["get", "f/k", "--consistency", "stale", "--node", &node.to_string()]))
    };
    while !stale().all(|run| run.code == Some(0) && run.stdout == b"v") {}
    let run = shell.run(&["get", "f/k", "--consistency", "stale", "--node", "9", "--timeout", "1s"]);
    assert_eq!((run.code, &*run.stderr), (Some(1), "quorate: the cluster has no node n9\n"));
}

fn status(shell: &Shell<'_>) {
    let run = shell.run(&["status"]);
    assert_eq!((run.code, &*run.stderr), (Some(0), ""));
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 9, "{text}");
    assert_eq!(lines[0].join(" "), "NODE ADDRESS STATE UP SINCE RESTARTS DISK VERSION");
    assert_eq!(lines[5].join(" "), "GROUP NODE ROLE TERM LAST COMMIT APPLIED SNAPSHOT KEYS BYTES STATE");
    for (node, address) in shell.cluster.addresses.iter().enumerate() {
        let name = format!("n{}", node + 1);
        assert_eq!(lines[node + 1][..3], [&name, address, "up"], "{text}");
        assert_eq!(lines[node + 6][..2], ["g1", &name], "{text}");
    }
    let leaders = lines[6..].iter().filter(|line| line[2] == "leader").count();
    assert_eq!(leaders, 1, "{text}");

    let found = &shell.json(&["status"], 0)[0];
    assert_eq!(found["groups_without_leader"], json!([]));
    assert_eq!(found["nodes"].as_array().map(Vec::len), Some(3));
    for (node, address) in shell.cluster.addresses.iter().enumerate() {
        let entry = &found["nodes"][node];
        assert_eq!(
            (&entry["node"], &entry["address"], &entry["up"]),
            (&json!(node + 1), &json!(address), &json!(true))
        );
        assert_eq!(entry["status"]["restarts"], 0);
        assert_eq!(entry["status"]["groups"][0]["group"], 1);
    }
    // The addresses of the others are learnt from one.
    let run = shell.run(&["status", "--endpoints", &shell.cluster.addresses[1]]);
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    assert!(
        run.code == Some(0) && shell.cluster.addresses.iter().all(|address| text.contains(address)),
        "{text}"
    );
}

fn tree(shell: &Shell<'_>) {
    let run = shell.run(&["tree", "2"]);
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    assert_eq!((run.code, &*run.stderr), (Some(0), ""));
    assert!(text.starts_with("n2\nnode  running\n├─ "), "{text}");
    assert!(text.contains("raft  running\n") && !text.contains("restarted"), "{text}");
    let run = shell.run(&["tree"]);
    let text = String::from_utf8(run.stdout).expect("UTF-8");
    assert!(["n1\n", "n2\n", "n3\n"].iter().all(|name| text.contains(name)), "{text}");
    let found = shell.json(&["tree"], 0);
    assert_eq!(found.len(), 3);
    assert_eq!((&found[0]["node"], &found[0]["tree"]["name"]), (&json!(1), &json!("node")));
    shell.fails(&["tree", "9"], 2, "quorate: the cluster has no node n9; see `quorate status`\n");
}

fn chaos_is_refused(shell: &Shell<'_>) {
    let off = "faults on purpose are off: set `[chaos] enabled = true` and restart";
    for fault in [&["panic", "*"][..], &["link-drop", "2", "100"], &["disk-fail"], &["disk-delay", "1s"]] {
        let args = [&["chaos"], fault, &["--node", "1"]].concat();
        shell.fails(&args, 1, &format!("quorate: {off}\n"));
        shell.error(&args, 1, "refused", off);
    }
}

fn leader(shell: &Shell<'_>) -> Option<u64> {
    let found = &shell.json(&["status"], 0)[0];
    let nodes = found["nodes"].as_array().expect("nodes").clone();
    let leads = |node: &&Value| node["status"]["groups"][0]["role"] == "leader";
    nodes.iter().find(leads).and_then(|node| node["node"].as_u64())
}

fn leadership_moves(shell: &Shell<'_>) {
    let old = leader(shell).expect("there is a leader");
    let to = old % 3 + 1;
    shell.says(&["leader", "transfer", "--to", &to.to_string()], &format!("transfer to n{to} begun\n"));
    while shell.run(&["status", "--json"]).code != Some(0) || leader(shell) != Some(to) {}
    shell.fails(&["leader", "transfer", "--to", "9"], 1, "quorate: node 9 is not another voter of group 1\n");
    let refused = format!("node {to} is not another voter of group 1");
    shell.error(&["leader", "transfer", "--to", &to.to_string()], 1, "refused", &refused);
    shell.says(&["leader", "transfer"], "transfer to the most up-to-date node begun\n");
    while shell.run(&["status", "--json"]).code != Some(0) || leader(shell) == Some(to) {}
    let found = shell.json(&["leader", "transfer", "--to", &to.to_string()], 0);
    assert_eq!(found, [json!({"begun": true, "to": to})]);
    // Served all along.
    shell.says(&["put", "leader/k", "v"], "version 1\n");
}

fn unreachable(shell: &Shell<'_>) {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").to_string();
    for args in [&["get", "k"][..], &["put", "k", "v"], &["status"], &["tree"], &["lease", "grant", "5s"]] {
        let args = [args, &["--endpoints", &closed, "--timeout", "300ms"]].concat();
        let run = shell.run(&args);
        assert_eq!((run.code, &*run.stdout), (Some(3), &b""[..]), "{args:?}: {run:?}");
        assert!(run.stderr.starts_with("quorate: ") && run.stderr.ends_with('\n'), "{args:?}: {run:?}");
        let found = shell.json(&args, 3);
        assert_eq!(found[0]["error"]["kind"], "unavailable", "{args:?}");
    }
    // One address of three is enough.
    let mixed = format!("{closed},{}", shell.cluster.addresses[0]);
    shell.says(&["put", "u/k", "v", "--endpoints", &mixed], "version 1\n");
}

/// The old members' majority would not be asked any more, and what it acknowledged would be gone without a word.
#[tokio::test]
async fn a_node_is_not_started_with_other_members_than_before() {
    let mut cluster = Cluster::start_apart(1, "").await;
    cluster.kill_node(NodeId(1));
    let data = cluster.data_dir(NodeId(1));
    let config = data.with_file_name("other.toml");
    let node = |id, address: &str| format!("[[cluster.nodes]]\nid = {id}\naddress = \"{address}\"\n");
    let reserved = Reserved::addresses(2);
    let addresses = &reserved.addresses;
    let text =
        format!("[cluster]\nid = \"{}\"\n", cluster_id()) + &node(1, &addresses[0]) + &node(2, &addresses[1]);
    std::fs::write(&config, text).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(["node", "--id", "1", "--config"]).arg(&config);
    command.arg("--data").arg(data.parent().expect("it is below the directory of all nodes"));
    let output = command.output().expect("the binary runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("cluster.nodes names n1,n2") && text.contains("has the members n1;"), "{text}");
}

/// Two of three would be a majority, and could serve an empty store while the third has all that was acknowledged.
#[tokio::test]
async fn nodes_that_lost_their_data_end_and_the_right_directories_are_let_in_again() {
    let mut cluster = Cluster::start_apart(3, "").await;
    let client = cluster.client().await.with_deadline(Duration::from_secs(30));
    client.put("precious", "data").await.expect("it is acknowledged");
    let lost = [NodeId(2), NodeId(3)];
    for node in cluster.nodes() {
        cluster.kill_node(node);
    }
    let elsewhere = |cluster: &Cluster, node| cluster.data_dir(node).with_extension("elsewhere");
    for node in lost {
        std::fs::rename(cluster.data_dir(node), elsewhere(&cluster, node)).expect("moved away");
    }
    for node in cluster.nodes() {
        cluster.start_node(node);
    }
    for node in lost {
        assert_eq!(cluster.ended(node).await, Some(65), "{}", cluster.log());
    }
    let log = cluster.log();
    assert!(log.contains("n1 refuses this node: n2 shows another data directory"), "{log}");
    for node in lost {
        std::fs::remove_dir_all(cluster.data_dir(node)).expect("removed");
        std::fs::rename(elsewhere(&cluster, node), cluster.data_dir(node)).expect("brought back");
        cluster.start_node(node);
    }
    // The first node has seen the wrong ones, and was not restarted.
    let found = client.get("precious").await.expect("it is served").expect("it is there");
    assert_eq!(&found.value[..], b"data");
    cluster.settled(&client).await;
}
