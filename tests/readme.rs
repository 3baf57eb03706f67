//! What README.md shows is what happens: its commands are run in order against a real cluster, its sample program is
//! the example's, its tables are the program's numbers, and its links lead somewhere.
//!
//! In a `console` block a line `$ ...` is a command, and what follows is what it writes. A line `...` stands for any
//! lines. In the tables of `status` the columns that vary are not compared; in what the launcher says, numbers are not.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::node::config::Config;
use quorate::node::exit;
use support::{Cluster, project_file};

/// How long a command that only looks may take to show what it should: somebody may have to be elected first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Elections are later than usual, so that a busy machine brings about no other leader than the README's.
const CONFIG: &str =
    "[chaos]\nenabled = true\n[raft]\nelection_timeout_min_ms = 1000\nelection_timeout_max_ms = 2000\n";

fn text_of(name: &str) -> String {
    std::fs::read_to_string(project_file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The fenced blocks of a page: language and lines.
fn blocks(page: &str) -> Vec<(String, Vec<String>)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, Vec<String>)> = None;
    for line in page.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), Vec::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

fn blocks_in(page: &str, language: &str) -> Vec<Vec<String>> {
    blocks(page).into_iter().filter(|(found, _)| found == language).map(|(_, lines)| lines).collect()
}

struct Step {
    command: String,
    output: Vec<String>,
}

/// The commands of all `console` blocks, in order.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in blocks_in(page, "console").into_iter().flatten() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            None => steps.last_mut().expect("a block begins with a command").output.push(line),
        }
    }
    steps
}

/// Whether lines are as shown, where a line `...` stands for any number of lines.
fn fits(shown: &[String], real: &[String], same: &dyn Fn(&str, &str) -> bool) -> bool {
    match (shown.split_first(), real.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "..." => {
            (0..=real.len()).any(|skipped| fits(rest, &real[skipped..], same))
        }
        (Some((first, shown)), Some((line, real))) => same(first, line) && fits(shown, real, same),
        _ => false,
    }
}

/// Lines that are equal but for words that begin with a digit.
fn same_but_numbers(shown: &str, real: &str) -> bool {
    let mask = |word: &str| word.replace(|c: char| c.is_ascii_digit(), "").replace('.', "");
    let number = |word: &str| word.trim_start_matches('(').starts_with(|c: char| c.is_ascii_digit());
    let (shown, real): (Vec<_>, Vec<_>) = (shown.split(' ').collect(), real.split(' ').collect());
    shown.len() == real.len()
        && shown.iter().zip(&real).all(|(a, b)| a == b || (number(a) && number(b) && mask(a) == mask(b)))
}

/// Cells of a line of a table.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

/// Lines of the tables of `status`: up since, size on disk, term, log positions and the hash vary.
fn same_status(shown: &str, real: &str) -> bool {
    let (shown, real) = (cells(shown), cells(real));
    let varies: &[usize] = match shown.len() {
        7 => &[3, 5],
        11 => &[3, 4, 5, 6, 10],
        _ => &[],
    };
    shown.len() == real.len() && (0..shown.len()).all(|i| shown[i] == real[i] || varies.contains(&i))
}

/// Runs a line as a shell does. What it writes, to either stream.
fn shell(cluster: &Cluster, line: &str) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a program is in a directory").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut line = line.to_owned();
    for (node, address) in (1..).zip(&cluster.addresses) {
        line = line.replace(&format!("127.0.0.1:710{node}"), address);
    }
    if let Some(arguments) = line.strip_prefix("cargo run --release --example embed -- ") {
        line = format!("{} {arguments}", example("embed").display());
    }
    let output = Command::new("/bin/sh")
        .args(["-c", &format!("{{ {line}\n}} 2>&1")])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("PATH", path)
        .env("QUORATE_ENDPOINTS", cluster.addresses.join(","))
        .env("N2", cluster.pid(NodeId(2)).map_or(String::new(), |pid| pid.to_string()))
        .env_remove("QUORATE_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("a shell runs");
    let mut text = String::from_utf8(output.stdout).expect("what is written is UTF-8");
    for (node, address) in (1..).zip(&cluster.addresses) {
        text = text.replace(address, &format!("127.0.0.1:710{node}"));
    }
    text.lines().map(str::to_owned).collect()
}

/// An example program, as it is now: `cargo test` has built it, but not when only this test was asked for.
fn example(name: &str) -> PathBuf {
    let built =
        Command::new(env!("CARGO")).args(["build", "--quiet", "--locked", "--example", name]).status();
    assert!(built.expect("cargo runs").success(), "the example {name} does not build");
    let program = Path::new(env!("CARGO_BIN_EXE_quorate"));
    program.parent().expect("a program is in a directory").join("examples").join(name)
}

fn has_msgpack() -> bool {
    let import = Command::new("python3").args(["-c", "import msgpack"]).stderr(Stdio::null()).status();
    import.is_ok_and(|status| status.success())
}

/// The README begins with n1 as the leader.
async fn let_node_1_lead(cluster: &Cluster) {
    let client = cluster.client().await;
    while cluster.leader(&client).await != NodeId(1) {
        // Refused while another transfer is under way.
        let _ = client.transfer_leader(Some(NodeId(1))).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    client.close().await.expect("the session ends");
}

fn play(cluster: &Cluster, step: &Step) {
    let only_looks = ["quorate status", "quorate tree", "quorate get"]
        .iter()
        .any(|looking| step.command.starts_with(looking));
    let same: &dyn Fn(&str, &str) -> bool = match step.command.as_str() {
        "quorate status" => &same_status,
        _ => &|shown, real| shown == real,
    };
    let until = Instant::now() + PATIENCE;
    loop {
        let real = shell(cluster, &step.command);
        if fits(&step.output, &real, same) {
            return;
        }
        assert!(
            only_looks && Instant::now() < until,
            "$ {}\n{}\nbut the README shows\n{}\n\n{}",
            step.command,
            real.join("\n"),
            step.output.join("\n"),
            support::tail(&cluster.log(), 40)
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[tokio::test]
async fn every_command_does_what_the_readme_shows() {
    let page = text_of("README.md");
    let steps = steps(&page);
    assert!(steps.len() > 25, "only {} commands were found", steps.len());
    let cluster = Cluster::start(3, CONFIG);
    let_node_1_lead(&cluster).await;
    let python = has_msgpack();
    for step in &steps {
        if step.command.starts_with("cargo run --release -- up") {
            // Another test looks at that.
        } else if step.command.starts_with("python3") && !python {
            println!("skipped, because python3 has no msgpack: {}", step.command);
        } else {
            play(&cluster, step);
        }
    }
    let log = cluster.log();
    for line in blocks_in(&page, "text").iter().flatten() {
        assert!(
            log.lines().any(|real| same_but_numbers(line, real)),
            "the launcher did not say: {line}\n{log}"
        );
    }
}

#[test]
fn a_cluster_says_what_the_readme_shows_when_it_serves_and_ends_well() {
    let shown = steps(&text_of("README.md")).swap_remove(0);
    assert_eq!(shown.command, "cargo run --release -- up --config config/chaos.toml");
    let dir = tempfile::tempdir().expect("a directory");
    let (config, data) = (dir.path().join("chaos.toml"), dir.path().join("data"));
    let reserved = support::Reserved::addresses(3);
    let addresses = &reserved.addresses;
    let mut text = text_of("config/chaos.toml");
    for (node, address) in (1..).zip(addresses) {
        text = text.replace(&format!("127.0.0.1:710{node}"), address);
    }
    std::fs::write(&config, text).expect("written");
    let mut up = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["up", "--config"])
        .arg(&config)
        .arg("--data")
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut said = Vec::new();
    for line in BufReader::new(up.stdout.take().expect("it is piped")).lines() {
        let mut line = line.expect("UTF-8");
        for (node, address) in (1..).zip(addresses) {
            line = line.replace(address, &format!("127.0.0.1:710{node}"));
        }
        line = line.replace(&data.display().to_string(), "quorate-data");
        line = line.replace(&config.display().to_string(), "config/chaos.toml");
        // Only said when the addresses are not the usual ones.
        if !line.starts_with("  export QUORATE_ENDPOINTS=") {
            said.push(line);
        }
        if said.len() == shown.output.len() {
            break;
        }
    }
    let pid = i32::try_from(up.id()).expect("a process number");
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(pid, libc::SIGINT) };
    let ended = up.wait().expect("it ends");
    assert!(fits(&shown.output, &said, &same_but_numbers), "{said:#?}");
    assert_eq!(ended.code(), Some(i32::from(exit::OK)));
}

#[test]
fn the_configuration_for_chaos_is_the_local_one_with_chaos() {
    let mut chaos = Config::load(&project_file("config/chaos.toml")).expect("it is good");
    assert!(chaos.chaos.enabled);
    chaos.chaos.enabled = false;
    assert_eq!(chaos, Config::local());
}

#[test]
fn the_sample_program_is_the_example() {
    let example = text_of("examples/embed.rs");
    let code = example.find("use std::time").expect("the first line behind its documentation");
    let shown = blocks_in(&text_of("README.md"), "rust");
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].join("\n"), example[code..].trim_end());
}

/// The rows of the tables whose first cell fits: first and second cell.
fn rows(page: &str, first: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let rows = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" |").map(str::trim);
        Some((cells.next()?.trim_matches('`').to_owned(), cells.next()?.to_owned()))
    });
    rows.filter(|(cell, _)| first(cell)).collect()
}

#[test]
fn its_numbers_are_the_programs() {
    let page = text_of("README.md");
    let codes = rows(&page, |cell| cell.parse::<u8>().is_ok());
    let codes: Vec<u8> = codes.iter().map(|(code, _)| code.parse().expect("a number")).collect();
    let real = [
        exit::OK,
        exit::REFUSED,
        exit::USAGE,
        exit::UNAVAILABLE,
        exit::MAYBE,
        exit::DAMAGED,
        exit::INTERNAL,
        exit::INTERRUPTED,
        exit::UNREAD,
    ];
    assert_eq!(codes, real);

    let reference: toml::Table = text_of("config/reference.toml").parse().expect("TOML");
    let limits = rows(&page, |cell| cell.starts_with("limits."));
    assert!(limits.len() > 5, "{limits:?}");
    for (key, value) in limits {
        let name = key.trim_start_matches("limits.");
        assert_eq!(reference["limits"][name].as_integer(), value.parse().ok(), "{key}");
    }
}

#[test]
fn every_block_is_of_a_kind_that_is_checked() {
    let page = text_of("README.md");
    let languages: BTreeSet<String> = blocks(&page).into_iter().map(|(language, _)| language).collect();
    assert_eq!(languages.into_iter().collect::<Vec<_>>(), ["console", "rust", "sh", "text"]);
    for page in pages() {
        let text = text_of(&page);
        for name in text.split("--test ").skip(1) {
            let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let is_there = |file: String| project_file(&file).exists();
            let found = is_there(format!("tests/{name}.rs")) || is_there(format!("tests/{name}/main.rs"));
            assert!(found, "{page}: there is no test {name}");
        }
    }
    assert!(page.contains("<!-- figures -->\n") && page.contains("<!-- /figures -->\n"));
}

/// The pages of the project.
fn pages() -> Vec<String> {
    let mut pages: Vec<String> = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].map(str::to_owned).to_vec();
    for entry in std::fs::read_dir(project_file("docs")).expect("there are documents") {
        let name = entry.expect("readable").file_name().to_string_lossy().into_owned();
        pages.push(format!("docs/{name}"));
    }
    pages
}

/// The name by which a heading can be linked to.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>().replace(' ', "-")
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for page in pages() {
        let text = text_of(&page);
        let base = project_file(&page).parent().expect("a directory").to_path_buf();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { project_file(&page) } else { base.join(file) };
            let there = path.exists()
                && (heading.is_empty()
                    || std::fs::read_to_string(&path)
                        .is_ok_and(|text| text.lines().any(|l| l.starts_with('#') && anchor(l) == heading)));
            if !there {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn the_comparison_can_fail() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let exact = |shown: &str, real: &str| shown == real;
    assert!(fits(&lines("a\n...\nd"), &lines("a\nb\nc\nd"), &exact));
    assert!(fits(&lines("a\n...\nd"), &lines("a\nd"), &exact));
    assert!(!fits(&lines("a\n...\nd"), &lines("a\nb\nc"), &exact));
    assert!(!fits(&lines("a"), &lines("a\nb"), &exact));
    assert!(same_but_numbers("n2 after 0.4 s (process 12,", "n2 after 10.25 s (process 7,"));
    assert!(!same_but_numbers("n2 after 1 s", "n1 after 1 s"));
    assert!(!same_but_numbers("100 ms", "100 s"));
    let real = "n1    127.0.0.1:7101  up     2s        0         64.0 MiB  0.1.0";
    assert!(same_status("n1  127.0.0.1:7101  up  41s  0  192.0 MiB  0.1.0", real));
    assert!(!same_status("n1  127.0.0.1:7101  up  41s  1  192.0 MiB  0.1.0", real));
    assert!(!same_status("n1  127.0.0.1:7101  down  41s  0  192.0 MiB  0.1.0", real));
}
