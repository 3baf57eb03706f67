//! The house rules, as a test: who may import whom, what a pure core may not touch, and how long a thing may get.
//! See "Rules of the house" in ARCHITECTURE.md.

use std::collections::BTreeSet;
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
    ("sim", &["node", "actors", "net", "storage", "messages", "logic"]),
    ("cli", &["sim", "node", "actors", "net", "storage", "messages", "logic"]),
];

/// What may import one part of a room that it may not import as a whole, and why: (who, what).
///
/// The client's core speaks the client protocol. That is plain data, as pure as a core, and stands with the other
/// messages because actors exchange it.
const EXCEPTIONS: &[(&str, &[&str])] =
    &[("src/logic/clerk/", &["messages::admin", "messages::client", "messages::wire"])];

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
    "fastrand::",
    "println!",
    "thread_local!",
    "libc",
];

/// What of that is pure all the same: shared data that nobody changes, a cursor over bytes in memory, chance from a seed.
const PURE: &[&str] = &["std::sync::Arc", "std::io::Cursor", "fastrand::Rng"];

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
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        // A test module in this file is its last part; one in a file of its own is a single line.
        if line.starts_with("#[cfg(test)]") && lines.peek().is_none_or(|next| !next.ends_with(';')) {
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
                let excused = EXCEPTIONS
                    .iter()
                    .filter(|(who, _)| source.name.starts_with(who))
                    .any(|(_, parts)| parts.iter().any(|part| line.contains(&format!("crate::{part}::"))));
                let names =
                    line.contains(&format!("crate::{other}::")) || line.contains(&format!("crate::{other};"));
                if names && !excused {
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
    let rooms: BTreeSet<String> = files
        .iter()
        .filter(|s| s.code.iter().any(|line| line.contains(" Actor for ")))
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
    let excused = EXCEPTIONS.iter().flat_map(|(_, parts)| parts.iter());
    let excused: Vec<String> = excused.map(|part| format!("src/{}.rs", part.replace("::", "/"))).collect();
    let cores = |name: &String| name.starts_with("src/logic/") || excused.contains(name);
    for source in rust_files("src").iter().filter(|s| cores(&s.name) && !is_test_file(s)) {
        for (number, line) in source.code.iter().enumerate() {
            let line = PURE.iter().fold(line.clone(), |line, pure| line.replace(pure, ""));
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
                // Tests quote what the program says, in its full width.
                if folder != "tests" && line.chars().count() > MAX_WIDTH {
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
        if is_function(text) && open.is_none() && !text.ends_with(';') && !text.ends_with('}') {
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

/// Whether a function begins here, whatever stands before `fn`.
fn is_function(line: &str) -> bool {
    let mut words = line
        .split(' ')
        .skip_while(|word| ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe"].contains(word));
    words.next() == Some("fn")
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
