//! Which reducer gets which key.

use serde::{Deserialize, Serialize};

/// How keys are to be spread over the reducers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioning {
    /// By a hash of the key.
    Hash,
    /// By a hash of some fields of the key, so that keys that agree in them meet.
    Fields {
        /// The byte between fields.
        separator: u8,
        /// So many of the first fields count, at least 1.
        first: u32,
    },
    /// By ranges, so that the outputs one after the other are sorted. The borders come from a sample of the keys.
    Range,
}

impl Partitioning {
    pub(super) fn check(&self) -> Result<(), String> {
        match self {
            Self::Fields { first: 0, .. } => Err("partitioning by fields needs at least one field".into()),
            _ => Ok(()),
        }
    }
}

/// A [`Partitioning`] that knows what it needs to decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Partitioner {
    /// By a hash of the key.
    Hash,
    /// By a hash of the first fields.
    Fields {
        /// The byte between fields.
        separator: u8,
        /// So many of the first fields count.
        first: u32,
    },
    /// Reducer n gets the keys from border n - 1 up to, and without, border n.
    Range {
        /// In ascending order, one fewer than reducers.
        borders: Vec<Vec<u8>>,
    },
}

impl Partitioner {
    /// The partition of a key, below `reducers`.
    ///
    /// # Panics
    /// If there are no reducers.
    pub fn partition(&self, key: &[u8], reducers: u32) -> u32 {
        assert!(reducers > 0, "a job has reducers");
        match self {
            _ if reducers == 1 => 0,
            Self::Hash => bucket(key, reducers),
            Self::Fields { separator, first } => bucket(prefix(key, *separator, *first), reducers),
            Self::Range { borders } => {
                let above = borders.partition_point(|border| border.as_slice() <= key);
                u32::try_from(above).unwrap_or(u32::MAX).min(reducers - 1)
            }
        }
    }
}

/// FNV-1a over 32 bits, without the sign, modulo the number of reducers: the partition of the course labs.
fn bucket(bytes: &[u8], reducers: u32) -> u32 {
    let hash =
        bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    (hash & 0x7fff_ffff) % reducers
}

fn prefix(key: &[u8], separator: u8, first: u32) -> &[u8] {
    let mut ends = key.iter().enumerate().filter(|(_, byte)| **byte == separator);
    let end = ends.nth(first.saturating_sub(1) as usize).map_or(key.len(), |(end, _)| end);
    &key[..end]
}

/// Borders that cut a sample of keys into as many equal parts as there are reducers.
///
/// A key that is a large part of the sample may be several borders at once; the partitions between stay empty,
/// because a key is never divided.
pub fn borders(mut sample: Vec<Vec<u8>>, reducers: u32) -> Vec<Vec<u8>> {
    sample.sort_unstable();
    if sample.is_empty() {
        return vec![Vec::new(); reducers.saturating_sub(1) as usize];
    }
    (1..reducers as usize).map(|n| sample[n * sample.len() / reducers as usize].clone()).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_go_where_the_labs_send_them() {
        let found: Vec<u32> =
            (b'a'..=b'j').map(|letter| Partitioner::Hash.partition(&[letter], 10)).collect();
        assert_eq!(found, [2, 9, 0, 5, 6, 3, 4, 3, 4, 1]);
    }

    #[test]
    fn keys_that_agree_in_the_first_fields_meet() {
        let by_two = Partitioner::Fields { separator: b'.', first: 2 };
        let of = |key: &str| by_two.partition(key.as_bytes(), 1000);
        assert_eq!(of("a.b.c"), of("a.b.d"));
        assert_eq!(of("a.b.c"), of("a.b"));
        assert_ne!(of("a.b.c"), of("a.c.c"));
    }

    proptest! {
        #[test]
        fn ranges_are_in_order_and_within(
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..4), 0..60),
            reducers in 1u32..9,
        ) {
            let range = Partitioner::Range { borders: borders(keys.clone(), reducers) };
            let mut keys = keys;
            keys.sort();
            let found: Vec<u32> = keys.iter().map(|key| range.partition(key, reducers)).collect();
            prop_assert!(found.is_sorted());
            prop_assert!(found.iter().all(|partition| *partition < reducers));
        }
    }

    #[test]
    fn ranges_are_even_when_the_sample_is() {
        let keys: Vec<Vec<u8>> = (0..1000u32).map(|n| n.to_be_bytes().to_vec()).collect();
        let range = Partitioner::Range { borders: borders(keys.clone(), 4) };
        for partition in 0..4 {
            assert_eq!(keys.iter().filter(|key| range.partition(key, 4) == partition).count(), 250);
        }
    }
}
