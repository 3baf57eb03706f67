//! The timeline of a run for people: as text, or as a page. `html` is the page.

mod html;

use std::fmt::Write;

use super::run::{Outcome, Plan};

pub use html::page;

/// The timeline as text, a line for each thing that happened, between a head and what came of it.
pub fn text(plan: &Plan, outcome: &Outcome) -> String {
    let mut out = format!("{}\n\n", plan.command());
    for line in &outcome.timeline {
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "{:>10.3} s  {:<6} {:<10} {}",
            line.at.as_secs_f64(),
            line.who,
            line.kind.word(),
            line.text
        );
    }
    let _ = writeln!(out, "\n{}", verdict(outcome));
    out
}

/// What came of a run, in a sentence or more.
pub fn verdict(outcome: &Outcome) -> String {
    if outcome.violations.is_empty() {
        return format!(
            "No rule was broken in {:.1} s: {} faults, {} of {} calls ended well, {} steps checked, trace {:016x}.",
            outcome.time.as_secs_f64(),
            outcome.faults,
            outcome.acknowledged,
            outcome.calls,
            outcome.steps,
            outcome.hash
        );
    }
    let broken: Vec<String> = outcome.violations.iter().take(5).map(ToString::to_string).collect();
    broken.join("\n")
}
