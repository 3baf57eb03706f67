//! Records that a task passes over, because it failed at them again and again (Dean and Ghemawat, MapReduce, section
//! 4.6). Off unless the job allows it.
//!
//! A record has a place: a line its first byte in the (decompressed) file, a key of a reduce task its number in the
//! partition, from 0. The same task finds the same record at the same place in each attempt.
//!
//! A function that is compiled in says at which record it failed; the second time at the same one, the record is
//! passed over. Nobody knows how far a command had come that failed. So after two failures without a place, the next
//! attempt looks for the line itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A record is passed over when a task has failed at it so often.
pub const KILLS: u32 = 2;

/// What an attempt passes over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skips {
    /// Places of records that are not given to the function.
    pub records: BTreeSet<u64>,
    /// How many more the attempt may find and pass over itself. 0: it does not look.
    pub search: u32,
}

/// What is known of the records at which one task failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blame {
    /// How often the task failed at a record that is not passed over.
    kills: BTreeMap<u64, u32>,
    skipped: BTreeSet<u64>,
    /// Failures that had to do with what is passed over now.
    pardoned: u32,
    /// Failures of the function that told no place.
    unexplained: u32,
}

impl Blame {
    /// The task failed: at this record, if that is known; `for_good` if it always will. At most `most` records are
    /// passed over.
    pub fn note(&mut self, record: Option<u64>, for_good: bool, most: u32) {
        let Some(record) = record else {
            self.unexplained += 1;
            return;
        };
        let kills = self.kills.entry(record).or_default();
        *kills += 1;
        if (*kills >= KILLS || for_good) && self.skipped.len() < most as usize {
            self.pardoned += *kills;
            self.kills.remove(&record);
            self.skipped.insert(record);
        }
    }

    /// Failures that do not count any more.
    pub fn pardoned(&self) -> u32 {
        self.pardoned
    }

    /// Whether this record is passed over from now on.
    pub fn skips_record(&self, record: u64) -> bool {
        self.skipped.contains(&record)
    }

    /// What the next attempt passes over.
    pub fn skips(&self, most: u32) -> Skips {
        let left = most.saturating_sub(u32::try_from(self.skipped.len()).unwrap_or(u32::MAX));
        let search = if self.unexplained >= KILLS { left } else { 0 };
        Skips { records: self.skipped.clone(), search }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_passed_over_the_second_time() {
        let mut blame = Blame::default();
        blame.note(Some(7), false, 2);
        blame.note(Some(9), false, 2);
        assert_eq!((blame.skips(2), blame.pardoned()), (Skips::default(), 0), "each was bad once");
        blame.note(Some(9), false, 2);
        assert_eq!(blame.skips(2), Skips { records: [9].into(), search: 0 });
        assert_eq!(blame.pardoned(), 2, "the failure at 7 still counts");
        assert!(blame.skips_record(9) && !blame.skips_record(7));
    }

    #[test]
    fn no_more_are_passed_over_than_the_job_allows() {
        let mut blame = Blame::default();
        for record in 0..5 {
            blame.note(Some(record), false, 3);
            blame.note(Some(record), false, 3);
        }
        assert_eq!(blame.skips(3).records, [0, 1, 2].into());
        assert_eq!(blame.pardoned(), 6);
    }

    #[test]
    fn what_can_never_succeed_is_passed_over_at_once() {
        let mut blame = Blame::default();
        blame.note(Some(3), true, 1);
        assert_eq!((blame.skips(1).records, blame.pardoned()), ([3].into(), 1));
    }

    #[test]
    fn after_two_failures_without_a_place_the_attempt_looks_itself() {
        let mut blame = Blame::default();
        blame.note(None, false, 4);
        assert_eq!(blame.skips(4).search, 0);
        blame.note(Some(1), true, 4);
        blame.note(None, false, 4);
        assert_eq!(blame.skips(4), Skips { records: [1].into(), search: 3 });
        assert_eq!(blame.pardoned(), 1);
    }
}
