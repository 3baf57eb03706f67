//! Counters: what tasks count, and what a job adds up.
//!
//! A task returns its counters with its result, and only the attempt that is accepted counts; so a counter says the
//! same however often tasks had to be repeated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The group of the counters that every job has.
pub const TASK: &str = "task";
/// Records that mappers read.
pub const MAP_INPUT_RECORDS: &str = "map input records";
/// Bytes of those records, with their line ends, after decompression.
pub const MAP_INPUT_BYTES: &str = "map input bytes";
/// Records that were passed over.
pub const SKIPPED_RECORDS: &str = "skipped records";
/// Pairs that mappers emitted.
pub const MAP_OUTPUT_RECORDS: &str = "map output records";
/// Pairs that were left of them after combining.
pub const COMBINED_RECORDS: &str = "combined records";
/// Sorted runs that did not fit into memory.
pub const SPILLED_RUNS: &str = "spilled runs";
/// Bytes of map output as they lie on disk.
pub const MAP_OUTPUT_BYTES: &str = "map output bytes";
/// Keys that reducers got.
pub const REDUCE_INPUT_KEYS: &str = "reduce input keys";
/// Pairs that reducers got.
pub const REDUCE_INPUT_RECORDS: &str = "reduce input records";
/// Lines of output.
pub const OUTPUT_RECORDS: &str = "output records";
/// Bytes of output.
pub const OUTPUT_BYTES: &str = "output bytes";

/// More names are not kept: counters live in memory, and in the store of a cluster.
const MOST_NAMES: usize = 1000;
/// Longer names are cut.
const LONGEST_NAME: usize = 128;

/// Numbers by group and name, in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters(BTreeMap<String, BTreeMap<String, u64>>);

impl Counters {
    /// Adds to a counter. What comes after the thousandth name is dropped; names are cut after 128 bytes.
    pub fn add(&mut self, group: &str, name: &str, amount: u64) {
        let (group, name) = (cut(group), cut(name));
        if let Some(count) = self.0.get_mut(group).and_then(|names| names.get_mut(name)) {
            *count = count.saturating_add(amount);
        } else if self.len() < MOST_NAMES {
            self.0.entry(group.to_string()).or_default().insert(name.to_string(), amount);
        }
    }

    /// Adds to a counter of the group [`TASK`].
    pub fn count(&mut self, name: &str, amount: u64) {
        self.add(TASK, name, amount);
    }

    /// Counts the records that were passed over, if there are any.
    pub fn count_skipped(&mut self, places: &[u64]) {
        if !places.is_empty() {
            self.count(SKIPPED_RECORDS, places.len() as u64);
        }
    }

    /// Adds all counters of another.
    pub fn merge(&mut self, other: &Self) {
        for (group, name, amount) in other.iter() {
            self.add(group, name, amount);
        }
    }

    /// A counter; 0 if nobody counted.
    pub fn get(&self, group: &str, name: &str) -> u64 {
        self.0.get(group).and_then(|names| names.get(name)).copied().unwrap_or(0)
    }

    /// All of them: group, name, number.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.0.iter().flat_map(|(group, names)| {
            names.iter().map(move |(name, amount)| (group.as_str(), name.as_str(), *amount))
        })
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeMap::len).sum()
    }
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_add_up_in_the_order_of_their_names() {
        let mut a = Counters::default();
        a.add("g", "b", 1);
        a.add("g", "a", 2);
        let mut b = Counters::default();
        b.count(OUTPUT_RECORDS, 7);
        b.add("g", "b", u64::MAX);
        a.merge(&b);
        let found: Vec<_> = a.iter().collect();
        assert_eq!(found, [("g", "a", 2), ("g", "b", u64::MAX), (TASK, OUTPUT_RECORDS, 7)]);
        assert_eq!(a.get("g", "a"), 2);
        assert_eq!(a.get("g", "c"), 0);
    }

    #[test]
    fn names_from_outside_do_not_make_them_grow_without_bound() {
        let mut counters = Counters::default();
        for n in 0..2 * MOST_NAMES {
            counters.add("é".repeat(1000).as_str(), &n.to_string(), 1);
        }
        assert_eq!(counters.len(), MOST_NAMES);
        assert!(counters.iter().all(|(group, _, _)| group.len() == LONGEST_NAME));
        counters.add(&"é".repeat(64), "0", 1);
        assert_eq!(counters.get(&"é".repeat(64), "0"), 2, "a name that is there still counts");
    }
}
