//! The judge, judged: histories that are known to be good or bad, and random ones beside a judge that tries everything.

mod brute;
mod known;
mod lines;
mod random;

use super::history::Part;
use super::verdict::Verdict;
use super::*;
use crate::logic::kv::command::{Change, Changed, Expect, Lifetime, Version};

fn key(key: &'static str) -> bytes::Bytes {
    bytes::Bytes::from_static(key.as_bytes())
}

/// A history written as lines, with the fields that all share left out.
fn history(lines: &str) -> Vec<Operation> {
    let full = |line: &str| format!("{{\"client\": 1, \"key\": \"k\", {line}}}");
    let parse = |line: &str| line::parse(line).unwrap_or_else(|problem| panic!("{line}: {problem}"));
    lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| parse(&if line.starts_with('{') { line.to_owned() } else { full(line) }))
        .collect()
}

fn parts(model: Model, operations: &[Operation]) -> Vec<Part> {
    let mut history = History::new(model);
    for (number, operation) in (1..).zip(operations) {
        history.add(number, operation.clone()).expect("the operation belongs to the model");
    }
    history.into_parts()
}

/// The verdict on the whole, and by the search alone: they must agree.
fn judged(model: Model, operations: &[Operation]) -> bool {
    let report =
        check(model, operations.to_vec(), DEFAULT_BUDGET).expect("the operations belong to the model");
    assert!(report.undecided.is_empty(), "undecided: {operations:#?}");
    let searched =
        parts(model, operations).into_iter().all(|part| match part.check_by_search(DEFAULT_BUDGET).verdict {
            Verdict::Linearizable => true,
            Verdict::Violation(_) => false,
            Verdict::Undecided => panic!("undecided: {operations:#?}"),
        });
    assert_eq!(report.is_linearizable(), searched, "versions and search differ: {report:#?} {operations:#?}");
    searched
}
