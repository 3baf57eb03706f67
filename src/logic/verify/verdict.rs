//! What came of judging, in words.

use bytes::Bytes;

/// What is to be said of a part of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order that explains every answer.
    Linearizable,
    /// There is none.
    Violation(Violation),
    /// The budget was used up first. Nothing is known, and that must count as a failure.
    Undecided,
}

/// A proof that a history is not linearizable, as short as it can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The keys concerned: one, or several that batches join.
    pub keys: Vec<Bytes>,
    /// The numbers of the operations that contradict each other, or that cannot be explained.
    pub operations: Vec<u64>,
    /// Why, in words.
    pub why: String,
}

/// What came of one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartReport {
    /// Its keys.
    pub keys: Vec<Bytes>,
    /// How many operations it has.
    pub operations: usize,
    /// Whether the general search was needed.
    pub searched: bool,
    /// The verdict.
    pub verdict: Verdict,
}

/// What came of a whole history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Operations judged.
    pub operations: usize,
    /// Different keys.
    pub keys: usize,
    /// Parts that the versions decided.
    pub direct: usize,
    /// Parts that needed the general search.
    pub searched: usize,
    /// What is wrong, one for each part that is not linearizable.
    pub violations: Vec<Violation>,
    /// The keys of each part that could not be decided.
    pub undecided: Vec<Vec<Bytes>>,
}

impl Report {
    /// Adds what came of a part.
    pub fn add(&mut self, part: PartReport) {
        self.operations += part.operations;
        self.keys += part.keys.len();
        if part.searched {
            self.searched += 1;
        } else {
            self.direct += 1;
        }
        match part.verdict {
            Verdict::Linearizable => {}
            Verdict::Violation(violation) => self.violations.push(violation),
            Verdict::Undecided => self.undecided.push(part.keys),
        }
    }

    /// Whether the history is linearizable, for sure.
    pub fn is_linearizable(&self) -> bool {
        self.violations.is_empty() && self.undecided.is_empty()
    }
}
