//! One number for each key, folded while pairs are emitted.

use std::hash::{BuildHasher, Hasher};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Bytes of a slot in the table, its control byte included.
const SLOT: usize = size_of::<Slot>() + 1;

#[derive(Clone, Copy, Debug)]
struct Slot {
    start: u32,
    length: u32,
    number: u64,
}

/// A hash table from keys, which lie one behind the other in an arena, to numbers.
#[derive(Debug)]
pub(super) struct Folder {
    fold: fn(u64, u64) -> u64,
    hasher: DefaultHashBuilder,
    table: HashTable<Slot>,
    arena: Vec<u8>,
    budget: usize,
}

impl Folder {
    pub(super) fn new(fold: fn(u64, u64) -> u64, budget: usize) -> Self {
        let budget = budget.min(u32::MAX as usize);
        Self {
            fold,
            hasher: DefaultHashBuilder::default(),
            table: HashTable::new(),
            arena: Vec::new(),
            budget,
        }
    }

    /// Folds a number into that of its key. Returns false, and does nothing, if the key is new and there is no room
    /// for it. An empty folder has room for every key.
    #[inline]
    pub(super) fn add(&mut self, key: &[u8], number: u64) -> bool {
        let hash = hash(&self.hasher, key);
        let arena = &self.arena;
        if let Some(slot) = self.table.find_mut(hash, |slot| key_of(arena, slot) == key) {
            slot.number = (self.fold)(slot.number, number);
            return true;
        }
        self.insert(hash, key, number)
    }

    #[cold]
    fn insert(&mut self, hash: u64, key: &[u8], number: u64) -> bool {
        if !self.table.is_empty() && !self.has_room(key.len()) {
            return false;
        }
        let start = u32::try_from(self.arena.len()).expect("the budget is below 4 GiB");
        let length = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        self.arena.extend_from_slice(key);
        let (hasher, arena) = (&self.hasher, &self.arena);
        let entry = self.table.entry(hash, |_| false, |slot| self::hash(hasher, key_of(arena, slot)));
        match entry {
            Entry::Vacant(vacant) => vacant.insert(Slot { start, length, number }),
            Entry::Occupied(_) => unreachable!("nothing is equal to a new key"),
        };
        true
    }

    /// The arena and the table grow to twice their size, and until everything is moved both are there.
    fn has_room(&self, key: usize) -> bool {
        let grown = |full: bool, bytes: usize| if full { 3 * bytes } else { bytes };
        let table = grown(self.table.len() == self.table.capacity(), self.table.capacity() * 8 / 7 * SLOT);
        let arena = grown(self.arena.len() + key > self.arena.capacity(), self.arena.capacity());
        table + arena <= self.budget
    }

    /// All keys and their numbers, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.table.iter().map(|slot| (key_of(&self.arena, slot), slot.number))
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.arena.clear();
    }
}

#[inline]
fn hash(hasher: &DefaultHashBuilder, key: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(key);
    hasher.finish()
}

#[inline]
fn key_of<'a>(arena: &'a [u8], slot: &Slot) -> &'a [u8] {
    &arena[slot.start as usize..slot.start as usize + slot.length as usize]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_folds_as_a_map_does(keys in proptest::collection::vec(proptest::collection::vec(0u8..3, 0..5), 0..200)) {
            let mut folder = Folder::new(u64::wrapping_add, 1 << 20);
            let mut expected: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            for (number, key) in keys.iter().enumerate() {
                prop_assert!(folder.add(key, number as u64));
                *expected.entry(key.clone()).or_default() += number as u64;
            }
            let found: BTreeMap<Vec<u8>, u64> = folder.iter().map(|(key, n)| (key.to_vec(), n)).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_full_folder_takes_known_keys_only_and_stays_within_its_budget() {
        let budget = 100_000;
        let mut folder = Folder::new(u64::max, budget);
        let count = (0u32..).take_while(|n| folder.add(&n.to_be_bytes(), 1)).count();
        assert!((1000..5000).contains(&count), "{count}");
        assert!(folder.add(&0u32.to_be_bytes(), 7), "a known key needs no room");
        assert!(folder.table.allocation_size() + folder.arena.capacity() <= budget);
        folder.clear();
        assert!(folder.iter().next().is_none() && folder.add(&[0; 1000], 1));
    }
}
