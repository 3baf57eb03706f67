//! Pairs of a map task in memory, until they are sorted and written.

use super::block::{pair, push_pair};
use super::groups::Pairs;
use super::merge::prefix;
use crate::logic::mapreduce::failure::TaskFailure;

/// Bytes of an entry beside its pair.
const ENTRY: usize = size_of::<u128>();
/// Offsets have 32 bits.
const MOST_BYTES: usize = u32::MAX as usize;

/// An arena of encoded pairs, and an entry for each.
///
/// An entry is one number: partition (32 bits), first eight bytes of the key (64), place in the arena (32). So most
/// comparisons look at nothing else, and equal keys stay in the order in which they came.
#[derive(Debug)]
pub(super) struct Sorter {
    arena: Vec<u8>,
    entries: Vec<u128>,
    budget: usize,
}

impl Sorter {
    /// Room for about `budget` bytes. It is reserved at once, but memory is used only as far as it is filled.
    pub(super) fn new(budget: usize) -> Self {
        let budget = budget.min(MOST_BYTES);
        Self { arena: Vec::with_capacity(budget), entries: Vec::with_capacity(budget / ENTRY / 2), budget }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a pair of so many bytes finds room. An empty sorter has room for every pair.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        let used = self.arena.len() + self.entries.len() * ENTRY;
        used + bytes + 2 * ENTRY <= self.budget || self.is_empty()
    }

    /// Keeps a pair. There must be room.
    #[inline]
    pub(super) fn push(&mut self, partition: u32, key: &[u8], value: &[u8]) {
        let place = u32::try_from(self.arena.len()).expect("the budget is below 4 GiB");
        push_pair(&mut self.arena, key, value);
        self.entries.push(u128::from(partition) << 96 | u128::from(prefix(key)) << 32 | u128::from(place));
    }

    /// Sorts by partition and key.
    pub(super) fn sort(&mut self) {
        let arena = &self.arena;
        self.entries.sort_unstable_by(|a, b| {
            if a >> 32 != b >> 32 {
                return a.cmp(b);
            }
            key_at(arena, *a).cmp(key_at(arena, *b)).then(a.cmp(b))
        });
    }

    /// The pairs of one partition, after sorting.
    pub(super) fn partition(&self, partition: u32) -> Sorted<'_> {
        let start = self.entries.partition_point(|entry| entry >> 96 < u128::from(partition));
        let end = self.entries.partition_point(|entry| entry >> 96 <= u128::from(partition));
        Sorted { arena: &self.arena, entries: &self.entries[start..end] }
    }

    pub(super) fn clear(&mut self) {
        self.arena.clear();
        self.entries.clear();
    }
}

fn place(entry: u128) -> usize {
    (entry & u128::from(u32::MAX)) as usize
}

#[inline]
fn key_at(arena: &[u8], entry: u128) -> &[u8] {
    let (key, _) = pair(arena, place(entry)).expect("the arena holds whole pairs");
    &arena[key]
}

/// The sorted pairs of a partition.
pub(super) struct Sorted<'a> {
    arena: &'a [u8],
    entries: &'a [u128],
}

impl Pairs for Sorted<'_> {
    #[inline]
    fn peek(&self) -> Option<(&[u8], &[u8])> {
        let (key, value) =
            pair(self.arena, place(*self.entries.first()?)).expect("the arena holds whole pairs");
        Some((&self.arena[key], &self.arena[value]))
    }

    #[inline]
    fn advance(&mut self) -> Result<(), TaskFailure> {
        self.entries = &self.entries[1..];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contents(sorter: &Sorter, partition: u32) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut pairs = sorter.partition(partition);
        let mut found = Vec::new();
        while let Some((key, value)) = pairs.peek() {
            found.push((key.to_vec(), value.to_vec()));
            pairs.advance().expect("memory does not fail");
        }
        found
    }

    proptest! {
        #[test]
        fn pairs_come_back_in_a_stable_order(
            pairs in proptest::collection::vec((0u32..3, proptest::collection::vec(0u8..3, 0..12)), 0..60)
        ) {
            let mut sorter = Sorter::new(1 << 20);
            for (number, (partition, key)) in pairs.iter().enumerate() {
                prop_assert!(sorter.has_room(key.len() + 1));
                sorter.push(*partition, key, &[number as u8]);
            }
            sorter.sort();
            for partition in 0..3 {
                let mut expected: Vec<_> = pairs.iter().enumerate()
                    .filter(|(_, (p, _))| *p == partition)
                    .map(|(number, (_, key))| (key.clone(), vec![number as u8]))
                    .collect();
                expected.sort();
                prop_assert_eq!(contents(&sorter, partition), expected);
            }
        }
    }

    #[test]
    fn a_full_sorter_says_so_and_an_empty_one_takes_anything() {
        let mut sorter = Sorter::new(1000);
        assert!(sorter.has_room(5000));
        let mut pushed = 0;
        while sorter.has_room(10) {
            sorter.push(0, b"12345", b"67890");
            pushed += 1;
        }
        assert!((900..=1000).contains(&(pushed * (12 + ENTRY))), "{pushed} pairs");
        sorter.clear();
        assert!(sorter.is_empty() && sorter.has_room(5000));
    }
}
