//! verify: is a recorded history linearizable?

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use super::output::Output;
use super::progress::Progress;
use super::text::{Keep, escape};
use crate::logic::verify::{DEFAULT_BUDGET, History, Model, Report, Violation, line};
use crate::node::exit::{self, Failure};

/// A longer line is not read into memory.
const LONGEST_LINE: u64 = 64 << 20;
/// So many wrong lines are shown.
const MOST_PROBLEMS: usize = 20;
/// Operations between two words about the progress.
const STEP: u64 = 10_000;

/// Judge whether a recorded history is linearizable.
///
/// The history may be of any key/value store: one operation a line, as JSON. Exit code 0: it is linearizable. 1: it is
/// not, or could not be decided within the budget. 2: the file is not a history.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line: who called what, from when to when, and what came of it. All fields: docs/history.md.

  {\"client\":1,\"call\":10,\"return\":25,\"op\":\"put\",\"key\":\"k\",\"value\":\"v\",\"expect\":0,\"result\":\"ok\",\"version\":1}
  {\"client\":2,\"call\":12,\"return\":30,\"op\":\"get\",\"key\":\"k\",\"result\":\"ok\",\"value\":\"v\",\"version\":1}
  {\"client\":1,\"call\":26,\"op\":\"append\",\"key\":\"k\",\"value\":\"w\",\"result\":\"unknown\"}

Examples:
  quorate verify history.jsonl
  quorate verify history.jsonl --json
  quorate verify --model append history.jsonl
  quorate verify - < history.jsonl              from standard input"
)]
pub(super) struct Args {
    /// The history; `-`: standard input
    file: PathBuf,
    /// The store that it is judged by
    #[arg(long, value_enum, default_value_t = ModelName::Versioned)]
    model: ModelName,
    /// Steps that the search may take for one key before it gives up
    #[arg(long, value_name = "STEPS", default_value_t = DEFAULT_BUDGET, value_parser = budget())]
    budget: u64,
    /// Output for programs
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum ModelName {
    /// Values with versions, conditional changes, deletes, batches: Quorate's own, and that of the MIT labs
    Versioned,
    /// Values alone, with get, put and append
    Append,
}

fn budget() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..)
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let model = match self.model {
            ModelName::Versioned => Model::Versioned,
            ModelName::Append => Model::Append,
        };
        let history = if self.file == Path::new("-") {
            read(std::io::stdin().lock(), "standard input", 0, model)?
        } else {
            let name = self.file.display().to_string();
            let open = || {
                let file = File::open(&self.file)?;
                let length = file.metadata()?.len();
                Ok((file, length))
            };
            let (file, length) = open()
                .map_err(|error: std::io::Error| Failure::usage(format!("cannot read {name}: {error}")))?;
            read(BufReader::with_capacity(1 << 20, file), &name, length, model)?
        };
        let report = judge(history, self.budget);
        self.tell(&report)
    }

    fn tell(&self, report: &Report) -> Result<u8, Failure> {
        let mut out = Output::new(self.json);
        out.either(text(report, self.budget), &value(report))?;
        out.flush()?;
        Ok(if report.is_linearizable() { exit::OK } else { exit::REFUSED })
    }
}

/// Reads a whole history; `length` is that of the file where it is known, else 0.
fn read(mut from: impl BufRead, name: &str, length: u64, model: Model) -> Result<History, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("cannot read {name}: {error}"));
    let mut history = History::new(model);
    let mut problems = Vec::new();
    let mut text = Vec::new();
    let (mut number, mut position) = (0, 0);
    let progress = Progress::bar("reading", length);
    loop {
        text.clear();
        let read = (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut text).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        number += 1;
        position += read as u64;
        let added = if read as u64 == LONGEST_LINE {
            return Err(Failure::usage(format!("{name}, line {number}: longer than {LONGEST_LINE} bytes")));
        } else {
            add(&mut history, number, &text)
        };
        if let Err(problem) = added {
            problems.push(format!("{name}, line {number}: {problem}"));
            if problems.len() == MOST_PROBLEMS {
                problems.push("there may be more".into());
                break;
            }
        }
        if number.is_multiple_of(STEP) {
            progress.set(position, format!("{number} lines"));
        }
    }
    if problems.is_empty() { Ok(history) } else { Err(Failure::usage(problems.join("\n"))) }
}

fn add(history: &mut History, number: u64, text: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(text)
        .map_err(|_| "not UTF-8; write such keys and values as key_hex and value_hex")?;
    match text.trim() {
        "" => Ok(()),
        text => history.add(number, line::parse(text)?),
    }
}

fn judge(history: History, budget: u64) -> Report {
    let progress = Progress::bar("judging", history.len() as u64);
    let mut report = Report::default();
    let (mut done, mut shown) = (0, 0);
    for part in history.into_parts() {
        done += part.len() as u64;
        report.add(part.check(budget));
        if done - shown >= STEP {
            shown = done;
            progress.set(done, format!("{done} operations, {} violations", report.violations.len()));
        }
    }
    report
}

fn keys_text(keys: &[bytes::Bytes]) -> String {
    const MOST: usize = 8;
    let mut shown: Vec<String> = keys.iter().take(MOST).map(|key| escape(key, Keep::Nothing)).collect();
    if keys.len() > MOST {
        shown.push(format!("and {} more", keys.len() - MOST));
    }
    shown.join(", ")
}

fn text(report: &Report, budget: u64) -> String {
    let mut lines = Vec::new();
    for Violation { keys, why, .. } in &report.violations {
        lines.push(format!("key {}: {why}", keys_text(keys)));
    }
    for keys in &report.undecided {
        let keys = keys_text(keys);
        lines.push(format!("key {keys}: undecided after {budget} steps; try a larger --budget"));
    }
    let verdict = if report.is_linearizable() {
        "linearizable".to_owned()
    } else {
        format!(
            "NOT shown to be linearizable: {} violations, {} undecided",
            report.violations.len(),
            report.undecided.len()
        )
    };
    lines.push(format!(
        "{verdict}: {} operations on {} keys ({} parts decided by versions, {} by search)",
        report.operations, report.keys, report.direct, report.searched
    ));
    lines.join("\n")
}

fn value(report: &Report) -> Value {
    let keys = |keys: &[bytes::Bytes]| keys.iter().map(|key| escape(key, Keep::Nothing)).collect::<Vec<_>>();
    let violations = report.violations.iter().map(|violation| {
        json!({"keys": keys(&violation.keys), "operations": violation.operations, "why": violation.why})
    });
    json!({
        "linearizable": report.is_linearizable(),
        "operations": report.operations,
        "keys": report.keys,
        "decided_by_versions": report.direct,
        "decided_by_search": report.searched,
        "violations": violations.collect::<Vec<_>>(),
        "undecided": report.undecided.iter().map(|part| keys(part)).collect::<Vec<_>>(),
    })
}
