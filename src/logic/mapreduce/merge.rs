//! The order of a merge: a tree of losers over several sorted sources.
//!
//! Knuth, The Art of Computer Programming, volume 3, section 5.4.1. Each inner node keeps the loser of its match, so
//! that after the winner has moved on, one match on each level finds the next: log2(k) comparisons for a record.

/// A tournament of `k` sources, known by their numbers. It asks who comes first, and keeps no data of theirs.
#[derive(Debug)]
pub struct LoserTree {
    /// `losers[0]` is the winner, `losers[n]` the loser of the match at inner node `n`.
    losers: Vec<usize>,
}

impl LoserTree {
    /// Plays all matches. `first(a, b)` says whether source `a` comes before source `b`; it must be a strict total
    /// order, in which exhausted sources come last.
    ///
    /// # Panics
    /// If there are no sources.
    pub fn new(sources: usize, mut first: impl FnMut(usize, usize) -> bool) -> Self {
        assert!(sources > 0, "a merge has sources");
        let mut winners = vec![0; 2 * sources];
        for (source, winner) in winners[sources..].iter_mut().enumerate() {
            *winner = source;
        }
        let mut losers = vec![0; sources];
        for node in (1..sources).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let (winner, loser) = if first(left, right) { (left, right) } else { (right, left) };
            winners[node] = winner;
            losers[node] = loser;
        }
        losers[0] = if sources == 1 { 0 } else { winners[1] };
        Self { losers }
    }

    /// The source that comes first.
    pub fn winner(&self) -> usize {
        self.losers[0]
    }

    /// Finds the next winner, after the present one has moved on or is exhausted.
    pub fn replay(&mut self, mut first: impl FnMut(usize, usize) -> bool) {
        let mut winner = self.losers[0];
        let mut node = (winner + self.losers.len()) / 2;
        while node > 0 {
            if first(self.losers[node], winner) {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.losers[0] = winner;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn merge(sources: &[Vec<u8>]) -> Vec<(u8, usize)> {
        let mut positions = vec![0; sources.len()];
        let order = |positions: &[usize], a: usize, b: usize| {
            let key =
                |source: usize| sources[source].get(positions[source]).map_or((1, 0), |byte| (0, *byte));
            (key(a), a) < (key(b), b)
        };
        let mut tree = LoserTree::new(sources.len(), |a, b| order(&positions, a, b));
        let mut merged = Vec::new();
        loop {
            let winner = tree.winner();
            let Some(byte) = sources[winner].get(positions[winner]) else { return merged };
            merged.push((*byte, winner));
            positions[winner] += 1;
            tree.replay(|a, b| order(&positions, a, b));
        }
    }

    proptest! {
        #[test]
        fn a_merge_is_a_stable_sort(
            sources in proptest::collection::vec(proptest::collection::vec(0u8..5, 0..20), 1..20)
        ) {
            let sources: Vec<Vec<u8>> = sources.into_iter().map(|mut s| { s.sort_unstable(); s }).collect();
            let mut expected: Vec<(u8, usize)> = Vec::new();
            for (source, bytes) in sources.iter().enumerate() {
                expected.extend(bytes.iter().map(|byte| (*byte, source)));
            }
            expected.sort();
            prop_assert_eq!(merge(&sources), expected);
        }
    }
}
