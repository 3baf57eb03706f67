//! Questions: they look at the state as of the last applied command and change nothing.
//!
//! Answers are bounded twice, in bytes and in pairs, and say where to continue. What is due counts as absent.

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

impl Machine {
    /// Answers a query. A server lets it through [`Limits::admit_query`](super::limits::Limits::admit_query) first,
    /// which sets the byte budget.
    ///
    /// # Errors
    /// [`KvError::NoKey`] when the key of a get is absent; [`KvError::LeaseExpired`] when the lease of a turn is.
    pub fn query(&self, query: &Query) -> Outcome {
        match query {
            Query::Get { key } => match self.live(key) {
                Some(row) => Ok(Reply::Value { value: row.value_bytes(), version: row.version() }),
                None if mutant!(HidesMissingKeys) => Ok(Reply::Value { value: Bytes::new(), version: 0 }),
                None => Err(KvError::NoKey),
            },
            Query::Range { start, end, max_keys, max_bytes, keys_only } => {
                let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let budget = Budget::new(*max_keys, *max_bytes, *keys_only);
                let (pairs, next) = self.scan(Bound::Included(start), to, &budget);
                Ok(Reply::Pairs { pairs, cursor: next.map(|row| Bytes::copy_from_slice(row.key())) })
            }
            Query::Prefix { prefix, after, max_keys, max_bytes, keys_only } => {
                let from = match after {
                    Some(after) if after >= prefix && !mutant!(CursorIgnored) => Bound::Excluded(&after[..]),
                    _ => Bound::Included(&prefix[..]),
                };
                let end = end_of_prefix(prefix);
                let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                let budget = Budget::new(*max_keys, *max_bytes, *keys_only);
                let (pairs, next) = self.scan(from, to, &budget);
                let cursor = next.and_then(|_| pairs.last()).map(|pair| pair.key.clone());
                Ok(Reply::Pairs { pairs, cursor })
            }
            Query::Lock { lock } => Ok(self.lock_status(lock)),
            Query::Turn { lease, .. } => self.turn(*lease),
        }
    }

    /// The pairs between the bounds that fit the budget (one always does), and the first record left out.
    fn scan(&self, from: Bound<&[u8]>, to: Bound<&[u8]>, budget: &Budget) -> (Vec<Pair>, Option<&Row>) {
        let mut pairs = Vec::new();
        if is_empty(from, to) {
            return (pairs, None);
        }
        let mut bytes = 0;
        for (_, row) in self.rows.map().range::<_, [u8]>((from, to)).filter(|(_, row)| self.is_alive(row)) {
            let value = if budget.keys_only { 0 } else { row.value().len() };
            bytes += (row.key().len() + value) as u64;
            if !pairs.is_empty() && (pairs.len() >= budget.pairs || bytes > budget.bytes) {
                return (pairs, Some(row));
            }
            pairs.push(Pair {
                key: Bytes::copy_from_slice(row.key()),
                value: if budget.keys_only { Bytes::new() } else { row.value_bytes() },
                version: row.version(),
            });
        }
        (pairs, None)
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
