//! Sorted pairs, and the groups of equal keys in them.

use super::function::Values;
use crate::logic::mapreduce::failure::TaskFailure;

/// Pairs in the order of their keys.
pub(super) trait Pairs {
    /// The pair that is next: key and value.
    fn peek(&self) -> Option<(&[u8], &[u8])>;

    /// Leaves the pair that is next, which must be there.
    fn advance(&mut self) -> Result<(), TaskFailure>;
}

/// The values of the key that is next.
pub(super) struct Group<'a, P> {
    pairs: &'a mut P,
    key: &'a [u8],
    started: bool,
    /// How many values were taken.
    taken: u64,
    ended: bool,
    failure: Option<TaskFailure>,
}

impl<'a, P: Pairs> Group<'a, P> {
    /// The group of `key`, which must be the key that is next.
    pub(super) fn new(pairs: &'a mut P, key: &'a [u8]) -> Self {
        Self { pairs, key, started: false, taken: 0, ended: false, failure: None }
    }

    /// Passes over the values that were not taken. Returns how many there were in all.
    pub(super) fn end(mut self) -> Result<u64, TaskFailure> {
        while self.next().is_some() {}
        match self.failure {
            Some(failure) => Err(failure),
            None => Ok(self.taken),
        }
    }
}

impl<P: Pairs> Values for Group<'_, P> {
    fn next(&mut self) -> Option<&[u8]> {
        if self.ended {
            return None;
        }
        if self.started
            && let Err(failure) = self.pairs.advance()
        {
            self.failure = Some(failure);
            self.ended = true;
            return None;
        }
        self.started = true;
        match self.pairs.peek() {
            Some((key, value)) if key == self.key => {
                self.taken += 1;
                Some(value)
            }
            _ => {
                self.ended = true;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Letters(Vec<(&'static str, &'static str)>);

    impl Pairs for Letters {
        fn peek(&self) -> Option<(&[u8], &[u8])> {
            self.0.first().map(|(key, value)| (key.as_bytes(), value.as_bytes()))
        }

        fn advance(&mut self) -> Result<(), TaskFailure> {
            self.0.remove(0);
            if self.0.first().is_some_and(|(key, _)| *key == "broken") {
                return Err(TaskFailure::lost(3, "gone"));
            }
            Ok(())
        }
    }

    #[test]
    fn a_group_ends_where_the_key_changes_however_much_was_taken() {
        for taken in 0..5 {
            let mut letters = Letters(vec![("a", "1"), ("a", "2"), ("b", "3")]);
            let mut group = Group::new(&mut letters, b"a");
            let found: Vec<Vec<u8>> = (0..taken).map_while(|_| group.next().map(<[u8]>::to_vec)).collect();
            assert_eq!(found, [b"1", b"2"].into_iter().take(taken).map(|v| v.to_vec()).collect::<Vec<_>>());
            assert_eq!(group.end(), Ok(2));
            assert_eq!(letters.peek(), Some((&b"b"[..], &b"3"[..])));
        }
    }

    #[test]
    fn a_source_that_fails_ends_the_values_and_is_told_at_the_end() {
        let mut letters = Letters(vec![("a", "1"), ("broken", "2")]);
        let mut group = Group::new(&mut letters, b"a");
        assert_eq!(group.next(), Some(&b"1"[..]));
        assert_eq!(group.next(), None);
        assert_eq!(group.next(), None);
        assert_eq!(group.end(), Err(TaskFailure::lost(3, "gone")));
    }
}
