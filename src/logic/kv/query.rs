//! Questions: they look at the state as of the last applied command and change nothing.
//!
//! Answers are bounded thrice, in bytes, in pairs and in records looked at, and say where to continue. What is due
//! counts as absent, but looking at it takes time all the same.

use std::ops::Bound;

use bytes::Bytes;

use super::command::{KvError, Outcome, Pair, Query, Reply};
use super::limits::caps;
use super::machine::Machine;
use super::row::Row;

/// How much may be answered at once.
struct Budget {
    pairs: usize,
    bytes: u64,
    keys_only: bool,
}

impl Budget {
    fn new(max_keys: u32, max_bytes: u32, keys_only: bool) -> Budget {
        let pairs = if max_keys == 0 { caps::REPLY_PAIRS } else { caps::REPLY_PAIRS.min(max_keys as usize) };
        let bytes = if max_bytes == 0 { caps::REPLY_BYTES } else { caps::REPLY_BYTES.min(max_bytes.into()) };
        Budget { pairs, bytes, keys_only }
    }
}

/// What a walk over records came to.
#[derive(Default)]
struct Scan<'a> {
    pairs: Vec<Pair>,
    /// Records that were looked at and are due, so that they are in no pair.
    passed: usize,
    /// The last record that was dealt with.
    last: Option<&'a Row>,
    /// The first record left out.
    next: Option<&'a Row>,
}

impl Machine {
    /// Answers a query. A server lets it through [`Limits::admit_query`](super::limits::Limits::admit_query) first,
    /// which sets the byte budget.
    ///
    /// # Errors
    /// [`KvError::NoKey`] when the key of a get is absent; [`KvError::LeaseExpired`] when the lease of a turn is.
    pub fn query(&self, query: &Query) -> Outcome {
        self.look_up(query).0
    }

    /// As [`query`](Self::query); says also how many records, or places in the queue of a lock, were looked at that are
    /// not in the answer, because they are due.
    ///
    /// # Errors
    /// As [`query`](Self::query), in the outcome.
    pub fn look_up(&self, query: &Query) -> (Outcome, usize) {
        match query {
            Query::Range { start, end, max_keys, max_bytes, keys_only } => {
                let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let budget = Budget::new(*max_keys, *max_bytes, *keys_only);
                let scan = self.scan(Bound::Included(start), to, &budget);
                let cursor = scan.next.map(|row| Bytes::copy_from_slice(row.key()));
                (Ok(Reply::Pairs { pairs: scan.pairs, cursor }), scan.passed)
            }
            Query::Prefix { prefix, after, max_keys, max_bytes, keys_only } => {
                let from = match after {
                    Some(after) if after >= prefix && !mutant!(CursorIgnored) => Bound::Excluded(&after[..]),
                    _ => Bound::Included(&prefix[..]),
                };
                let end = end_of_prefix(prefix);
                let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let budget = Budget::new(*max_keys, *max_bytes, *keys_only);
                let scan = self.scan(from, to, &budget);
                let cursor = scan.next.and(scan.last).map(|row| Bytes::copy_from_slice(row.key()));
                (Ok(Reply::Pairs { pairs: scan.pairs, cursor }), scan.passed)
            }
            Query::Get { key } => (self.get(key), 0),
            Query::Lock { lock } => {
                let (status, passed) = self.lock_status(lock);
                (Ok(status), passed)
            }
            Query::Turn { lease, .. } => self.turn(*lease),
        }
    }

    fn get(&self, key: &[u8]) -> Outcome {
        match self.live(key) {
            Some(row) => Ok(Reply::Value { value: row.value_bytes(), version: row.version() }),
            None if mutant!(HidesMissingKeys) => Ok(Reply::Value { value: Bytes::new(), version: 0 }),
            None => Err(KvError::NoKey),
        }
    }

    /// The records between the bounds, until the budget is used up. One is dealt with in any case.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, budget: &Budget) -> Scan<'_> {
        let mut scan = Scan::default();
        if is_empty(from, to) {
            return scan;
        }
        let mut bytes = 0;
        for (looked_at, (_, row)) in self.rows.map().range::<_, [u8]>((from, to)).enumerate() {
            let is_alive = self.is_alive(row);
            let value = if budget.keys_only { 0 } else { row.value().len() };
            bytes += if is_alive { (row.key().len() + value) as u64 } else { 0 };
            let is_too_much = is_alive
                && !scan.pairs.is_empty()
                && (scan.pairs.len() >= budget.pairs || bytes > budget.bytes);
            if is_too_much || looked_at >= caps::REPLY_PAIRS {
                scan.next = Some(row);
                return scan;
            }
            scan.last = Some(row);
            if is_alive {
                scan.pairs.push(Pair {
                    key: Bytes::copy_from_slice(row.key()),
                    value: if budget.keys_only { Bytes::new() } else { row.value_bytes() },
                    version: row.version(),
                });
            } else {
                scan.passed += 1;
            }
        }
        scan
    }
}

/// Whether no key lies between the bounds, by the bounds alone.
fn is_empty(from: Bound<&[u8]>, to: Bound<&[u8]>) -> bool {
    match (from, to) {
        (Bound::Included(from) | Bound::Excluded(from), Bound::Excluded(to)) => from >= to,
        _ => false,
    }
}

/// The first key after all that begin with `prefix`; `None` when there is none.
fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
