//! The house rules, as a test: who may import whom, what a pure core may not touch, and how long a thing may get.
//! See "Rules of the house" in ARCHITECTURE.md.

use std::fs;
use std::path::{Path, PathBuf};

/// For each room the other rooms that it may import. The order is the direction of all imports.
const ROOMS: &[(&str, &[&str])] = &[
    ("logic", &[]),
    ("messages", &["logic"]),
    ("net", &["messages", "logic"]),
    ("storage", &["messages", "logic"]),
    ("actors", &["net", "storage", "messages", "logic"]),
    ("node", &["actors", "net", "storage", "messages", "logic"]),
    ("cli", &["node", "actors", "net", "storage", "messages", "logic"]),
];

/// What a pure core may not name: the outside world, time, chance, and anything whose order is not fixed.
const IMPURE: &[&str] = &[
    "actix",
    "tokio",
    "tracing",
    "std::fs",
    "std::net",
    "std::io",
    "std::thread",
    "std::env",
    "std::process",
    "std::sync",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "dashmap",
    "rand::",
    "fastrand::u",
    "println!",
    "thread_local!",
    "libc",
];

/// actix's own supervision and registries do not survive a panic; ours replaces them.
const FORBIDDEN_EVERYWHERE: &[&str] =
    &["SyncArbiter", "SystemRegistry", "ArbiterService", "SystemService", "from_registry", "impl Supervised"];

/// Leftovers that must not land.
const LEFTOVERS: &[&str] = &["dbg!(", "todo!(", "unimplemented!(", "FIXME", "#[ignore"];

const MAX_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_WIDTH: usize = 120;

/// Files that are longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

struct Source {
    path: PathBuf,
    /// Path below the project's root, with `/`.
    name: String,
    /// Lines outside of test modules, comments blanked.
    code: Vec<String>,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut pending = vec![root().join(folder)];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).expect("the folder is readable") {
            let path = entry.expect("the entry is readable").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(read(path));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

fn read(path: PathBuf) -> Source {
    let text = fs::read_to_string(&path).expect("a source file is UTF-8");
    let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
    let mut code = Vec::new();
    for line in text.lines() {
        if line.starts_with("#[cfg(test)]") {
            break;
        }
        let trimmed = line.trim_start();
        code.push(if trimmed.starts_with("//") { String::new() } else { line.to_string() });
    }
    Source { path, name, code, text }
}

fn is_test_file(source: &Source) -> bool {
    let file = source.path.file_name().expect("a file has a name").to_string_lossy().into_owned();
    file == "tests.rs" || file.ends_with("_tests.rs") || source.name.contains("/tests/")
}

/// All violations at once, so that one run tells everything.
fn report(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn imports_run_one_way() {
    let mut problems = Vec::new();
    for source in rust_files("src") {
        let Some((room, allowed)) =
            ROOMS.iter().find(|(room, _)| source.name.starts_with(&format!("src/{room}/")))
        else {
            continue;
        };
        for (number, line) in source.code.iter().enumerate() {
            for (other, _) in ROOMS.iter().filter(|(other, _)| other != room && !allowed.contains(other)) {
                if line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{other};")) {
                    problems.push(format!("{}:{}: {room} must not import {other}", source.name, number + 1));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn no_actor_imports_another_actor() {
    let mut problems = Vec::new();
    let files = rust_files("src/actors");
    let rooms: Vec<String> = files
        .iter()
        .filter_map(|s| s.name.strip_prefix("src/actors/"))
        .filter_map(|rest| rest.split(['/', '.']).next())
        .filter(|module| !["mod", "supervision"].contains(module))
        .map(str::to_string)
        .collect();
    for source in &files {
        for (number, line) in source.code.iter().enumerate() {
            for other in &rooms {
                let own = source.name.starts_with(&format!("src/actors/{other}"));
                let names = line.contains(&format!("super::{other}::"))
                    || line.contains(&format!("actors::{other}::"));
                if !own && names && !source.name.ends_with("mod.rs") {
                    problems.push(format!("{}:{}: imports the actor {other}", source.name, number + 1));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn cores_are_pure() {
    let mut problems = Vec::new();
    for source in rust_files("src/logic").iter().filter(|s| !is_test_file(s)) {
        for (number, line) in source.code.iter().enumerate() {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                problems.push(format!("{}:{}: a core names {word}", source.name, number + 1));
            }
        }
    }
    report(problems);
}

#[test]
fn nothing_forbidden_and_nothing_left_over() {
    let mut problems = Vec::new();
    for folder in ["src", "tests", "benches", "examples"] {
        for source in rust_files(folder).iter().filter(|s| s.name != "tests/tidy.rs") {
            for (number, line) in source.text.lines().enumerate() {
                let is_comment = line.trim_start().starts_with("//");
                let words = LEFTOVERS.iter().chain(FORBIDDEN_EVERYWHERE.iter().filter(|_| !is_comment));
                for word in words.filter(|word| line.contains(**word)) {
                    problems.push(format!("{}:{}: {word}", source.name, number + 1));
                }
                if line.chars().count() > MAX_WIDTH {
                    problems.push(format!("{}:{}: wider than {MAX_WIDTH}", source.name, number + 1));
                }
            }
        }
    }
    report(problems);
}

#[test]
fn files_and_functions_are_short() {
    let mut problems = Vec::new();
    for source in rust_files("src").iter().filter(|s| !is_test_file(s)) {
        let lines = source.code.len();
        let excused = LONG_FILES.iter().any(|(name, _)| *name == source.name);
        if lines > MAX_LINES && !excused {
            problems.push(format!("{}: {lines} lines, above {MAX_LINES}", source.name));
        }
        if lines <= MAX_LINES && excused {
            problems.push(format!("{}: no longer needs its excuse", source.name));
        }
        problems.extend(long_functions(source));
    }
    report(problems);
}

/// Finds functions by the indentation that rustfmt gives them: from `fn` to the brace that closes at its column.
fn long_functions(source: &Source) -> Vec<String> {
    let mut problems = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for (number, line) in source.code.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let text = line.trim_start();
        let starts = ["fn ", "pub fn ", "pub(crate) fn ", "pub(super) fn ", "async fn ", "pub async fn "]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if starts && open.is_none() && !text.ends_with(';') && !text.ends_with('}') {
            open = Some((number, indent));
        }
        if let Some((start, column)) = open
            && indent == column
            && text == "}"
        {
            let length = number - start + 1;
            if length > MAX_FUNCTION_LINES {
                problems.push(format!("{}:{}: a function of {length} lines", source.name, start + 1));
            }
            open = None;
        }
    }
    problems
}

#[test]
fn every_source_file_stands_in_the_architecture_page() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md is readable");
    let missing: Vec<String> = rust_files("src")
        .iter()
        .filter(|s| !is_test_file(s) && !s.name.ends_with("/mod.rs"))
        .filter(|s| !page.contains(s.name.trim_start_matches("src/")))
        .map(|s| format!("{} is not named in ARCHITECTURE.md", s.name))
        .collect();
    report(missing);
}

#[test]
fn the_rules_themselves_can_fail() {
    let source = Source {
        path: PathBuf::from("src/logic/x.rs"),
        name: "src/logic/x.rs".into(),
        code: std::iter::once("fn long() {".to_string())
            .chain(std::iter::repeat_n("    step();".to_string(), MAX_FUNCTION_LINES))
            .chain(std::iter::once("}".to_string()))
            .collect(),
        text: String::new(),
    };
    assert_eq!(long_functions(&source).len(), 1);
}
