//! The real binary: exit codes, where its words go, and what they say.

use std::net::TcpListener;
use std::process::{Command, Output};

struct Run {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn run(args: &[&str], environment: &[(&str, &str)]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    for variable in ["QUORATE_ENDPOINTS", "QUORATE_NODE", "QUORATE_LOG"] {
        command.env_remove(variable);
    }
    let Output { status, stdout, stderr } =
        command.args(args).envs(environment.iter().copied()).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("its words are UTF-8");
    Run { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn quorate(args: &[&str]) -> Run {
    run(args, &[])
}

/// A configuration file, with the directory that keeps it.
fn file(text: &str) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("test.toml");
    std::fs::write(&path, text).expect("written");
    let path = path.to_str().expect("UTF-8").to_string();
    (dir, path)
}

#[test]
fn a_wrong_configuration_ends_every_command_that_takes_one_with_code_2() {
    let (_dir, path) = file("[raft]\nheartbeat_ms = 0\nhartbeat_ms = 5\n");
    for args in [
        &["config", "check", &path][..],
        &["node", "--id", "1", "--config", &path],
        &["up", "--config", &path],
        &["get", "k", "--config", &path],
    ] {
        let run = quorate(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert_eq!(run.stdout, "", "{args:?}");
        for problem in ["raft.heartbeat_ms (line 2): ", "raft.hartbeat_ms (line 3): ", "cluster.nodes: "] {
            assert!(run.stderr.contains(problem), "{args:?} does not say {problem:?}: {}", run.stderr);
        }
    }
}

#[test]
fn config_check_speaks_json() {
    let (_dir, path) = file("[raft]\nhartbeat_ms = 5\n");
    let run = quorate(&["config", "check", &path, "--json"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(2), ""));
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["problems"][0]["path"], "raft.hartbeat_ms");
    assert_eq!(answer["problems"][0]["line"], 2);

    let good = concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.toml");
    let run = quorate(&["config", "check", good, "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
}

#[test]
fn all_problems_of_a_configuration_are_told_at_once_in_both_languages() {
    let (_dir, path) = file(
        "[cluster]\nid = \"two words\"\n[[cluster.nodes]]\nid = 0\naddress = \"nowhere\"\n[[cluster.nodes]]\nid = 2\n\
         [limits]\nmax_key_bytes = 65537\nsession_window = \"many\"\n[storage]\nsegment_byte = 1\n",
    );
    let expected = [
        ("cluster.id", Some(2)),
        ("cluster.nodes[0].id", Some(4)),
        ("cluster.nodes[0].address", Some(5)),
        ("cluster.nodes[1].address", Some(6)),
        ("limits.max_key_bytes", Some(9)),
        ("limits.session_window", Some(10)),
        ("storage.segment_byte", Some(12)),
    ];
    let run = quorate(&["config", "check", &path]);
    assert_eq!((run.code, &*run.stdout), (Some(2), ""));
    let told: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(told[0], format!("quorate: configuration {path}: 7 problems"));
    assert_eq!(told.len(), 8, "{}", run.stderr);
    for ((key, line), told) in expected.iter().zip(&told[1..]) {
        let start = format!("  {key} (line {}): ", line.expect("each has one"));
        assert!(told.starts_with(&start), "{told:?} does not begin with {start:?}");
    }
    let run = quorate(&["config", "check", &path, "--json"]);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    let problems = answer["problems"].as_array().expect("a list");
    let found: Vec<_> = problems
        .iter()
        .map(|problem| (problem["path"].as_str().expect("text"), problem["line"].as_u64()))
        .collect();
    assert_eq!((run.code, &found[..]), (Some(2), &expected[..]));
}

#[test]
fn what_is_no_configuration_file_at_all_is_refused_with_its_path() {
    let (dir, malformed) = file("[raft\nheartbeat_ms = \n");
    let binary = dir.path().join("binary.toml");
    std::fs::write(&binary, [0xff, 0xfe, 0x00]).expect("written");
    let (binary, folder) = (binary.to_str().expect("UTF-8"), dir.path().to_str().expect("UTF-8"));
    let (missing, long) = (format!("{folder}/missing.toml"), format!("{folder}/long.toml"));
    let file = std::fs::File::create(&long).expect("created");
    file.set_len((1 << 20) + 1).expect("there is room for nothing");
    for (path, expected) in [
        (&*malformed, "malformed TOML"),
        (binary, "cannot be read"),
        (folder, "cannot be read"),
        (&missing, "cannot be read"),
        (&long, "longer than a mebibyte"),
    ] {
        for args in [
            &["config", "check", path][..],
            &["node", "--id", "1", "--config", path],
            &["up", "--config", path],
        ] {
            let run = quorate(args);
            assert_eq!((run.code, &*run.stdout), (Some(2), ""), "{args:?}: {}", run.stderr);
            assert!(
                run.stderr.starts_with(&format!("quorate: configuration {path}: ")),
                "{args:?}: {}",
                run.stderr
            );
            assert!(run.stderr.contains(expected), "{args:?}: {}", run.stderr);
        }
    }
}

#[test]
fn a_node_that_is_not_in_the_cluster_or_not_named_is_refused() {
    let run = quorate(&["node", "--id", "9"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("has no node 9; it has 1, 2, 3"), "{}", run.stderr);
    let run = quorate(&["node"]);
    assert_eq!(run.code, Some(2));
    assert!(run.stderr.contains("--id ID or QUORATE_NODE=ID"), "{}", run.stderr);
    let run = self::run(&["node"], &[("QUORATE_NODE", "n9")]);
    assert!(run.stderr.contains("has no node 9"), "{}", run.stderr);
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let run = run(&["node", "--id", "1"], &[("QUORATE_LOG", "loud")]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains("QUORATE_LOG: \"loud\" is not a level"), "{}", run.stderr);
}

#[test]
fn a_cluster_that_does_not_answer_is_unavailable_and_says_so_in_the_language_asked_for() {
    // It takes connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let args = ["get", "k", "--timeout", "200ms", "--endpoints", &address];
    let run = quorate(&args);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert_eq!(run.stdout, "");
    assert!(run.stderr.starts_with("quorate: ") && run.stderr.contains("quorate status"), "{}", run.stderr);

    let run = quorate(&[&args[..], &["--json"]].concat());
    assert_eq!((run.code, run.stderr.as_str()), (Some(3), ""));
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&answer["error"]["kind"], &answer["error"]["code"]), (&"unavailable".into(), &3.into()));

    let run = self::run(&["get", "k"], &[("QUORATE_ENDPOINTS", "nonsense")]);
    assert_eq!(run.code, Some(2), "the environment was not listened to: {}", run.stderr);
}

#[test]
fn a_lock_is_not_said_to_be_held_by_a_cluster_that_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let run = quorate(&["lock", "l", "--wait", "200ms", "--endpoints", &address, "--", "true"]);
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.starts_with("quorate: whether the lock l is held is not known: "), "{}", run.stderr);
}

#[test]
fn what_cannot_be_parsed_is_refused_in_json_where_that_is_asked_for() {
    for args in [&["get", "--json"][..], &["put", "k", "v", "--ttl", "5", "--json"], &["fly", "--json"]] {
        let run = quorate(args);
        assert_eq!((run.code, run.stderr.as_str()), (Some(2), ""), "{args:?}");
        let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
        assert_eq!((&answer["error"]["kind"], &answer["error"]["code"]), (&"usage".into(), &2.into()));
        let message = answer["error"]["message"].as_str().expect("text");
        assert!(!message.is_empty() && !message.starts_with("error"), "{message}");
    }
    // Help is for people, and what stands behind -- is not ours.
    let run = quorate(&["get", "--json", "--help"]);
    assert!(run.code == Some(0) && run.stdout.contains("Usage: quorate get"), "{}", run.stdout);
    let run = quorate(&["lock", "--", "true", "--json"]);
    assert!(run.code == Some(2) && run.stdout.is_empty() && !run.stderr.is_empty(), "{}", run.stdout);
}

#[test]
fn an_error_that_cannot_be_written_to_standard_output_is_told_on_standard_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    let output = command.args(["config", "check", "/nowhere", "--json"]).stdout(full).output();
    let stderr = String::from_utf8(output.expect("the binary runs").stderr).expect("UTF-8");
    assert!(stderr.starts_with("quorate: "), "{stderr}");
}

#[test]
fn help_that_cannot_be_written_is_an_error_unless_nobody_reads_it() {
    let help = |stdout: std::process::Stdio| {
        let output = Command::new(env!("CARGO_BIN_EXE_quorate")).arg("--help").stdout(stdout).output();
        let Output { status, stderr, .. } = output.expect("the binary runs");
        (status.code(), String::from_utf8(stderr).expect("UTF-8"))
    };
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let (code, text) = help(full.into());
    assert_eq!(code, Some(70), "{text}");
    assert!(text.starts_with("quorate: cannot write to standard output: "), "{text}");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(help(writer.into()), (Some(141), String::new()));
}

/// The launcher would start it again and again otherwise.
#[test]
fn a_data_directory_that_cannot_be_is_a_usage_error() {
    let (dir, path) = file("[[cluster.nodes]]\nid = 1\naddress = \"127.0.0.1:1\"\n");
    let run = quorate(&["node", "--config", &path, "--data", &path]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(
        run.stderr.ends_with("give a data directory that this user may write to: data_dir, or --data DIR\n")
    );
    drop(dir);
}

#[test]
fn a_cluster_is_not_started_on_addresses_that_are_taken() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let (dir, path) = file(&format!("[[cluster.nodes]]\nid = 1\naddress = \"{address}\"\n"));
    let data = dir.path().join("data");
    let run = quorate(&["up", "--config", &path, "--data", data.to_str().expect("UTF-8")]);
    assert_eq!(run.code, Some(2), "{}", run.stderr);
    assert!(run.stderr.contains(&format!("{address}, the address of n1, is in use")), "{}", run.stderr);
    assert!(!data.exists(), "nothing was begun");
}

#[test]
fn what_makes_no_sense_is_a_usage_error() {
    for args in [
        &["put", "k"][..],
        &["put", "k", "v", "--stdin"],
        &["put", "k", "v", "--ttl", "5"],
        &["put", "k", "xyz", "--hex"],
        &["put", "k", "--stdni"],
        &["append", "k", "-v"],
        &["put", "k", "v", "--group", "0"],
        &["get", "k", "--endpoints", ":7101"],
        &["get", "k", "--node", "1"],
        &["get", "k", "--endpoints", "nonsense"],
        &["chaos", "disk-fail"],
        &["bench", "put", "--clients", "0"],
        &["fly"],
    ] {
        let run = quorate(args);
        assert_eq!(run.code, Some(2), "{args:?}: {}", run.stderr);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn help_shows_examples_and_exit_codes() {
    let run = quorate(&["--help"]);
    assert_eq!(run.code, Some(0));
    assert!(
        run.stdout.contains("Examples:\n  quorate up") && run.stdout.contains("Exit codes:"),
        "{}",
        run.stdout
    );
    let run = quorate(&["put", "--help"]);
    assert!(run.stdout.contains("quorate put greeting hello"), "{}", run.stdout);
    assert!(run.stdout.contains("Usage: quorate put [OPTIONS] <KEY> <VALUE"), "{}", run.stdout);
    let run = quorate(&["--version"]);
    assert_eq!(run.stdout, concat!("quorate ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn verify_judges_the_history_of_the_page_and_finds_what_is_planted() {
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/history.md")).expect("the page");
    let history: String =
        page.lines().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect();
    assert_eq!(history.lines().count(), 6);
    let (_dir, path) = file(&history);
    let run = quorate(&["verify", &path]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{}", run.stdout);
    assert_eq!(
        run.stdout,
        "linearizable: 6 operations on 1 keys (0 parts decided by versions, 1 by search)\n"
    );

    // The last get is told what was deleted before.
    let stale = history.replace(r#""result":"no_key""#, r#""result":"ok","value":"v","version":1"#);
    let (_dir, path) = file(&stale);
    let run = quorate(&["verify", &path, "--json"]);
    assert_eq!((run.code, run.stderr.as_str()), (Some(1), ""), "{}", run.stdout);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!(answer["linearizable"], false);
    assert_eq!(answer["violations"][0]["keys"][0], "k");
    assert_eq!(answer["violations"][0]["operations"][0], 6, "{answer}");
}

#[test]
fn verify_refuses_what_is_no_history_and_names_every_wrong_line() {
    let good = r#"{"call":1,"return":2,"op":"get","key":"k","result":"no_key"}"#;
    let (_dir, path) = file(&format!("{good}\n\n{{\"call\":1}}\n{good}\nnonsense\n"));
    let run = quorate(&["verify", &path]);
    assert_eq!((run.code, run.stdout.as_str()), (Some(2), ""));
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{}", run.stderr);
    assert!(lines[0].contains("line 3: ") && lines[1].contains("line 5: "), "{}", run.stderr);
    assert_eq!(quorate(&["verify", "/nowhere"]).code, Some(2));
    let missing = quorate(&["verify", "/nowhere", "--json"]);
    assert_eq!((missing.code, missing.stderr.as_str()), (Some(2), ""));
    // One budget step cannot decide anything that needs a search.
    let unknown = r#"{"call":1,"return":2,"op":"delete","key":"k","result":"ok"}"#;
    let (_dir, path) = file(unknown);
    let run = quorate(&["verify", "--budget", "1", &path]);
    assert_eq!(run.code, Some(0), "{}", run.stdout);
    let (_dir, path) = file(&format!("{unknown}\n{unknown}\n{unknown}\n"));
    let run = quorate(&["verify", "--budget", "1", &path]);
    assert_eq!(run.code, Some(1));
    assert!(run.stdout.contains("undecided after 1 steps"), "{}", run.stdout);
}

/// Soft and hard limit of the files that a process may have open.
#[cfg(target_os = "linux")]
fn open_files(pid: u32) -> Option<(String, String)> {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let mut words = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

#[cfg(target_os = "linux")]
#[test]
fn nodes_and_workers_may_open_as_many_files_as_the_system_allows() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("an address");
    let node = format!("[cluster]\nid = \"files\"\nnodes = [{{ id = 1, address = \"{address}\" }}]\n");
    let (dir, config) = file(&node);
    let data = dir.path().join("data").display().to_string();
    let worker = dir.path().join("worker").display().to_string();
    for args in [
        &["node", "--config", &config, "--data", &data][..],
        &["mr", "worker", "--endpoints", "127.0.0.1:1", "--dir", &worker],
    ] {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -Sn 200; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_quorate")]);
        let mut child = command.args(args).stderr(std::process::Stdio::null()).spawn().expect("it runs");
        let raised = (0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            // Before it is the shell, whose limits may be the same, too.
            has_become(child.id(), args[0]) && open_files(child.id()).is_some_and(|(soft, hard)| soft == hard)
        });
        let limits = open_files(child.id());
        let _ = child.kill();
        let _ = child.wait();
        assert!(raised, "{args:?}: {limits:?}");
    }
}

/// Whether the shell has become the program, with this first argument.
#[cfg(target_os = "linux")]
fn has_become(pid: u32, argument: &str) -> bool {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).nth(1) == Some(argument.as_bytes())
}
