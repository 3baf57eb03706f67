//! All records in key order, and what is derived from them: their digest, their size, and who falls due when.

use std::collections::BTreeSet;

use imbl::OrdMap;

use super::command::LeaseId;
use super::key::Key;
use super::row::{Life, Row};

/// The records. `map` is replicated state and persistent (cloning it is one reference count); all else follows from it.
#[derive(Default)]
pub(super) struct Rows {
    map: OrdMap<Key, Row>,
    /// Sum of the records' digests, so that neither the order of the records nor the way to them matters.
    digest: u128,
    bytes: u64,
    by_deadline: BTreeSet<(u64, Key)>,
    by_lease: BTreeSet<(LeaseId, Key)>,
}

impl Rows {
    pub(super) fn get(&self, key: &[u8]) -> Option<&Row> {
        self.map.get(key)
    }

    pub(super) fn map(&self) -> &OrdMap<Key, Row> {
        &self.map
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The only way to change a record: puts `row` (which must have this key) in place of what is there, and returns
    /// that. Replacing it with what was returned undoes the change.
    pub(super) fn replace(&mut self, key: Key, row: Option<Row>) -> Option<Row> {
        let life = row.as_ref().map_or(Life::Forever, Row::life);
        if let Some(row) = &row {
            self.digest = self.digest.wrapping_add(row.digest());
            self.bytes += row.footprint();
        }
        let old = match row {
            Some(row) => self.map.insert(key.clone(), row),
            None => self.map.remove(key.as_slice()),
        };
        if let Some(old) = &old {
            self.digest = self.digest.wrapping_sub(old.digest());
            self.bytes -= old.footprint();
        }
        let old_life = old.as_ref().map_or(Life::Forever, Row::life);
        if old_life != life {
            self.reindex(&key, old_life, life);
        }
        old
    }

    fn reindex(&mut self, key: &Key, old: Life, new: Life) {
        match old {
            Life::Forever => false,
            Life::Until(deadline_ms) => self.by_deadline.remove(&(deadline_ms, key.clone())),
            Life::Leased(lease) => self.by_lease.remove(&(lease, key.clone())),
        };
        match new {
            Life::Forever => false,
            Life::Until(deadline_ms) => self.by_deadline.insert((deadline_ms, key.clone())),
            Life::Leased(lease) => self.by_lease.insert((lease, key.clone())),
        };
    }

    /// When the first record falls due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// The record that is due first, if it is due at `now_ms`.
    pub(super) fn first_due(&self, now_ms: u64) -> Option<Key> {
        let (deadline_ms, key) = self.by_deadline.first()?;
        (*deadline_ms <= now_ms).then(|| key.clone())
    }

    /// The first record attached to the lease.
    pub(super) fn first_of_lease(&self, lease: LeaseId) -> Option<Key> {
        let from = (lease, Key::new(&[]));
        let (found, key) = self.by_lease.range(from..).next()?;
        (*found == lease).then(|| key.clone())
    }

    /// The lease of every record that is attached to one.
    pub(super) fn leases(&self) -> impl Iterator<Item = LeaseId> {
        self.by_lease.iter().map(|(lease, _)| *lease)
    }
}
