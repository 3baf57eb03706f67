//! Switches every known bug of `src/mutants.rs` on, one at a time, and runs the suites that should notice: a bug that
//! nobody notices is a hole in the tests.
//!
//! `cargo test --features mutants --test mutants -- --nocapture` prints which test killed which mutant, with the seed
//! and the virtual time that it took, as the table of `docs/testing.md`. `QUORATE_MUTANTS=VotesTwice,ForgetsTerm` tries
//! only these. The suites are run as processes of their own, because the environment names the bug.

mod profile;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use quorate::mutants::{ALL, Mutant};

/// A suite that has not ended after this time does not end: the mutant has made it hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// Some tests of one test program.
struct Suite {
    name: &'static str,
    target: &'static str,
    filter: &'static str,
}

const fn suite(name: &'static str, target: &'static str, filter: &'static str) -> Suite {
    Suite { name, target, filter }
}

const GOLDEN: Suite = suite("golden scripts", "raft_golden", "");
const RANDOM: Suite = suite("random schedules", "raft_random", "random_histories");
const CORE: Suite = suite("core", "quorate", "logic::raft::");
const LAB: Suite = suite("Raft labs", "lab_raft", "Test");
const STORE: Suite = suite("store", "quorate", "logic::kv::");
const DESK: Suite = suite("desk", "quorate", "logic::desk::");
const CLERK: Suite = suite("clerk", "quorate", "logic::clerk::");
const EMBEDDED: Suite = suite("nodes in one process", "embedded", "");
const LOG: Suite = suite("histories of the log", "storage_histories", "acknowledged");

/// The suites that may notice a mutant, by the last one before it in the list that has other suites.
const ROOMS: &[(Mutant, &[Suite])] = &[
    (Mutant::VotesTwice, &[GOLDEN, RANDOM, LAB, CORE]),
    (Mutant::RetriesAgain, &[STORE]),
    (Mutant::TimeFromLocalClock, &[DESK]),
    (Mutant::NewNumberPerRetry, &[CLERK]),
    (Mutant::NeverSyncs, &[LOG]),
    (Mutant::ServesStaleReads, &[EMBEDDED]),
];

fn suites(mutant: Mutant) -> &'static [Suite] {
    let room = ROOMS.iter().rev().find(|(first, _)| *first as usize <= mutant as usize);
    room.expect("the first mutant begins the first room").1
}

/// The test programs with the mutants in them, by the name of their target.
fn build() -> BTreeMap<String, PathBuf> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["test", "--no-run", "--features", "mutants", "--message-format", "json", "--lib"]);
    for target in ["raft_golden", "raft_random", "lab_raft", "storage_histories", "embedded"] {
        command.args(["--test", target]);
    }
    command.args(profile::arguments());
    let built = command.stderr(Stdio::inherit()).output().expect("cargo can be run");
    assert!(built.status.success(), "the test programs cannot be built");
    let lines = String::from_utf8(built.stdout).expect("cargo writes UTF-8");
    let messages = lines.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let programs = messages.filter_map(|message| {
        let executable = message["executable"].as_str()?;
        Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(executable)))
    });
    programs.collect()
}

/// Runs a suite; returns how it failed, or `None` if it passed.
fn run(programs: &BTreeMap<String, PathBuf>, suite: &Suite, mutant: &str) -> Option<String> {
    let mut child = Command::new(&programs[suite.target])
        .arg(suite.filter)
        .env("QUORATE_MUTANT", mutant)
        .env("QUORATE_LAB_SEEDS", "2")
        .env("QUORATE_RAFT_SCHEDULES", "2000")
        .env("QUORATE_HISTORIES", "3000")
        .env("RUST_TEST_THREADS", "1")
        .env("RUST_BACKTRACE", "0")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a test program can be run");
    let mut stdout = child.stdout.take().expect("it is piped");
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut stdout, &mut bytes).expect("a pipe can be read");
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break Some(status);
        }
        if began.elapsed() > PATIENCE {
            child.kill().expect("a child can be killed");
            child.wait().expect("a child can be waited for");
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let output = reader.join().expect("the reader does not panic");
    match status {
        Some(status) if status.success() => None,
        Some(_) => Some(describe(&output)),
        None => Some(format!("does not end within {} s", PATIENCE.as_secs())),
    }
}

/// The first test that failed and how many did, with the seed and the virtual time if it names them.
fn describe(output: &str) -> String {
    let failed: Vec<&str> = output
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(|name| name.rsplit("::").next().unwrap_or(name))
        .collect();
    let Some(first) = failed.first() else { return "the process dies".into() };
    let mut text = format!("`{first}`");
    if let Some(script) = after(output, "SCRIPT ") {
        text = format!("`{script}`");
    }
    if let Some(seed) = after(output, "_SEED=").or_else(|| after(output, "seed ")) {
        let seed = seed.trim_end_matches(',');
        text += &format!(", seed {}", seed.trim_end_matches(':'));
    }
    if let Some(time) = after(output, "failed after ") {
        text += &format!(", {time} s");
    }
    match failed.len() {
        1 => text,
        count => text + &format!(" (and {} more)", count - 1),
    }
}

/// The word that follows `mark` where it stands first.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.split_whitespace().next()
}

#[test]
fn every_mutant_is_killed() {
    let programs = build();
    for (_, suites) in ROOMS {
        for suite in *suites {
            let failure = run(&programs, suite, "");
            assert_eq!(failure, None, "{}: fails without any mutant", suite.name);
        }
    }
    let chosen = std::env::var("QUORATE_MUTANTS").unwrap_or_default();
    let chosen: Vec<&str> = chosen.split(',').filter(|name| !name.is_empty()).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.contains(&name);
    let mutants: Vec<_> = ALL.iter().filter(|(_, name, _)| is_chosen(name)).collect();
    let next = AtomicUsize::new(0);
    let rows = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((mutant, name, what)) = mutants.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut kills = Vec::new();
                    for suite in suites(*mutant) {
                        let failure = run(&programs, suite, name);
                        kills.extend(failure.map(|failure| format!("{}: {failure}", suite.name)));
                    }
                    println!("| {name} | {what} | {} |", kills.join("; "));
                    rows.lock().expect("no thread panics").insert(*mutant as usize, (*name, *what, kills));
                }
            });
        }
    });
    let rows = rows.into_inner().expect("no thread panics");
    println!("\n| mutant | what is wrong | killed by |\n|---|---|---|");
    for (name, what, kills) in rows.values() {
        println!("| {name} | {what} | {} |", kills.join("; "));
    }
    let alive: Vec<_> = rows.values().filter(|(.., kills)| kills.is_empty()).map(|(name, ..)| name).collect();
    assert!(alive.is_empty(), "of {} mutants these are noticed by no test: {alive:?}", rows.len());
}
