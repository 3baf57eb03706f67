//! Collecting operations, and cutting them into parts that do not concern each other.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::model::{Model, Step, Values};
use super::operation::{Action, Answer, Operation};
use super::search::search;
use super::verdict::{PartReport, Verdict};
use super::version_order;

/// Operations that are to be judged together.
pub struct History {
    model: Model,
    keys: BTreeMap<Bytes, usize>,
    /// For each key another one of the same part, or itself: a forest whose roots stand for the parts.
    leads_to: Vec<usize>,
    operations: Vec<Numbered>,
}

/// An operation and its place in the history.
pub(super) struct Numbered {
    pub(super) number: u64,
    pub(super) operation: Operation,
    /// One of its keys; all belong to the same part.
    key: usize,
}

impl History {
    /// An empty history of a store of this kind.
    pub fn new(model: Model) -> Self {
        History { model, keys: BTreeMap::new(), leads_to: Vec::new(), operations: Vec::new() }
    }

    /// Adds an operation; the order does not matter. `number` is its name in verdicts, such as its line in a file.
    ///
    /// # Errors
    /// A sentence, when it does not belong to the model or makes no sense.
    pub fn add(&mut self, number: u64, operation: Operation) -> Result<(), String> {
        self.model.admits(&operation)?;
        let mut first = None;
        for key in operation.action.keys() {
            let key = self.key(key);
            match first {
                None => first = Some(key),
                Some(first) => self.join(first, key),
            }
        }
        // A batch without changes says nothing.
        let Some(key) = first else { return Ok(()) };
        self.operations.push(Numbered { number, operation, key });
        Ok(())
    }

    /// How many operations were added.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn key(&mut self, key: &Bytes) -> usize {
        if let Some(number) = self.keys.get(key) {
            return *number;
        }
        let number = self.leads_to.len();
        self.leads_to.push(number);
        self.keys.insert(key.clone(), number);
        number
    }

    fn root(&mut self, mut key: usize) -> usize {
        while self.leads_to[key] != key {
            self.leads_to[key] = self.leads_to[self.leads_to[key]];
            key = self.leads_to[key];
        }
        key
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        self.leads_to[other] = one;
    }

    /// Cuts it into parts, each to be judged alone.
    pub fn into_parts(mut self) -> Vec<Part> {
        let keys = std::mem::take(&mut self.keys);
        let roots: Vec<usize> = (0..self.leads_to.len()).map(|key| self.root(key)).collect();
        let mut parts: BTreeMap<usize, Part> = BTreeMap::new();
        for (key, number) in keys {
            let part = parts.entry(roots[number]);
            part.or_insert_with(|| Part::new(self.model)).keys.push(key);
        }
        for numbered in self.operations {
            let part = parts.get_mut(&roots[numbered.key]).expect("every key has its part");
            part.operations.push(numbered);
        }
        parts.into_values().collect()
    }
}

/// Operations on one key, or on several that batches join.
pub struct Part {
    pub(super) model: Model,
    /// In byte order.
    pub(super) keys: Vec<Bytes>,
    pub(super) operations: Vec<Numbered>,
}

impl Part {
    fn new(model: Model) -> Self {
        Part { model, keys: Vec::new(), operations: Vec::new() }
    }

    /// Its keys, in byte order.
    pub fn keys(&self) -> &[Bytes] {
        &self.keys
    }

    /// How many operations it has.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// Judges it. The search, where one is needed, takes at most `budget` steps.
    pub fn check(self, budget: u64) -> PartReport {
        self.judge(budget, version_order::decide)
    }

    /// Judges it by the search, whatever its versions say.
    #[cfg(test)]
    pub(super) fn check_by_search(self, budget: u64) -> PartReport {
        self.judge(budget, |_| None)
    }

    fn judge(mut self, budget: u64, directly: impl Fn(&Part) -> Option<Verdict>) -> PartReport {
        let operations = self.operations.len();
        self.operations.retain(|numbered| says_something(&numbered.operation));
        self.operations.sort_by_key(|numbered| (numbered.operation.call, numbered.number));
        let direct = directly(&self);
        let searched = direct.is_none();
        let verdict = direct.unwrap_or_else(|| self.search(budget));
        PartReport { keys: self.keys, operations, searched, verdict }
    }

    fn search(&self, budget: u64) -> Verdict {
        let mut values = Values::new();
        let cell = |key: &Bytes| self.keys.binary_search(key).expect("a key of this part");
        let step = |numbered: &Numbered| Step::new(&numbered.operation, cell, &mut values);
        let steps: Vec<Step> = self.operations.iter().map(step).collect();
        search(self, &steps, values, budget)
    }

    /// What an operation is called in verdicts.
    pub(super) fn name(&self, at: usize) -> String {
        let Numbered { number, operation, .. } = &self.operations[at];
        format!("operation {number} ({operation})")
    }
}

/// An operation that surely did not happen says nothing, and neither does a get that nobody answered.
fn says_something(operation: &Operation) -> bool {
    match operation.answer {
        Answer::Failed => false,
        Answer::Unknown => !matches!(operation.action, Action::Get { .. }),
        _ => true,
    }
}

impl Verdict {
    /// A violation by these operations of a part.
    pub(super) fn violation(part: &Part, operations: &[usize], why: String) -> Verdict {
        let numbers = operations.iter().map(|at| part.operations[*at].number).collect();
        Verdict::Violation(super::verdict::Violation { keys: part.keys.clone(), operations: numbers, why })
    }
}
