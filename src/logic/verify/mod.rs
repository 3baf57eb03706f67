//! The judge of histories: whether what clients were told can be the work of one store that does one thing at a time.
//!
//! A history is linearizable (Herlihy and Wing, 1990) when every operation can be given a moment between its call and
//! its return, such that carrying the operations out in the order of these moments gives the answers that were given.
//! The judge looks only at calls and answers, so it can judge Quorate as well as any other store.
//!
//! In reading order:
//!
//! * [`operation`]: what a client asked, when, and what it was told.
//! * [`line`](mod@line): how an operation stands in a file (`docs/history.md`).
//! * [`model`]: what the store is meant to do; what its versions are.
//! * [`history`]: collecting operations, and cutting them into parts that do not concern each other.
//! * `version_order`: the fast way. Answers that tell versions tell the order, too; it need only be compared with time.
//! * `search`: the general way, for everything else. It tries orders, and remembers where it has been.
//! * [`verdict`]: what came of it, in words.
//!
//! What holds:
//! 1. "Linearizable" and "not linearizable" are proofs, not guesses. What could not be decided within the budget is
//!    [`Undecided`](verdict::Verdict::Undecided), and whoever asks must count that as a failure.
//! 2. A history is linearizable if and only if each of its parts is (locality; Herlihy and Wing, theorem 1). A part is a
//!    key, or several that are joined by batches.
//! 3. An operation whose answer was lost may have taken effect at any time after its call, or never.
//! 4. Two operations are ordered by time only if one returned *before* the other was called; equal times overlap.
//!
//! What it deliberately does not do: it knows no lifetimes of keys (a put with one is refused), no reads of several keys
//! at once, and it repairs no clocks: the times of a history must be of one clock.

pub mod history;
pub mod line;
pub mod model;
pub mod operation;
mod search;
pub mod verdict;
mod version_order;

pub use history::{History, Part};
pub use model::Model;
pub use operation::{Action, Answer, Operation, Refusal};
pub use verdict::{Report, Verdict, Violation};

#[cfg(test)]
mod tests;

/// Steps of the search that one part may take unless said otherwise. A part that needs more is usually hopeless.
pub const DEFAULT_BUDGET: u64 = 5_000_000;

/// Judges a whole history. The operations are numbered from 1 in the given order.
///
/// `budget` is the number of steps that the search may take for one part; see [`DEFAULT_BUDGET`].
///
/// # Errors
/// A sentence, when an operation does not belong to the model, or makes no sense.
///
/// ```
/// use quorate::logic::verify::{self, Action, Answer, Model, Operation};
///
/// let get = |call, returned, answer| Operation {
///     client: 1,
///     call,
///     returned,
///     action: Action::Get { key: "k".into() },
///     answer,
/// };
/// let found = Answer::Found { value: "v".into(), version: None };
/// let history = [get(0, 1, Answer::Absent), get(2, 3, found)];
/// let report = verify::check(Model::Versioned, history, verify::DEFAULT_BUDGET).unwrap();
/// assert_eq!(report.violations.len(), 1, "nobody put the value");
/// ```
pub fn check(
    model: Model,
    operations: impl IntoIterator<Item = Operation>,
    budget: u64,
) -> Result<Report, String> {
    let mut history = History::new(model);
    for (number, operation) in (1..).zip(operations) {
        history.add(number, operation).map_err(|problem| format!("operation {number}: {problem}"))?;
    }
    let mut report = Report::default();
    for part in history.into_parts() {
        report.add(part.check(budget));
    }
    Ok(report)
}
