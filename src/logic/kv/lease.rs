//! Leases: a time to live that many keys share, and that its holder may start anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::OrdMap;

use super::command::LeaseId;
use super::lock::Claim;

/// A lease that lives, or that is due and not yet removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) ttl_ms: u64,
    /// It is dead from this log time on.
    pub(super) deadline_ms: u64,
    /// Its place in the queue of a lock, if it has one.
    pub(super) claim: Option<Arc<Claim>>,
}

/// All leases. `table` is replicated state; the rest follows from it and from the records.
#[derive(Default)]
pub(super) struct Leases {
    table: OrdMap<LeaseId, Lease>,
    by_deadline: BTreeSet<(u64, LeaseId)>,
    /// Leases that ended and may still have records attached, which are removed little by little. A lease without
    /// records may or may not be in here: that makes no difference to anything.
    ended: BTreeSet<LeaseId>,
}

impl Leases {
    pub(super) fn table(&self) -> &OrdMap<LeaseId, Lease> {
        &self.table
    }

    /// Whether the lease lives at `now_ms`.
    pub(super) fn is_alive(&self, id: LeaseId, now_ms: u64) -> bool {
        self.table.get(&id).is_some_and(|lease| lease.deadline_ms > now_ms)
    }

    /// Adds a lease or replaces it.
    pub(super) fn set(&mut self, id: LeaseId, lease: Lease) {
        let deadline_ms = lease.deadline_ms;
        self.by_deadline.insert((deadline_ms, id));
        if let Some(old) = self.table.insert(id, lease)
            && old.deadline_ms != deadline_ms
        {
            self.by_deadline.remove(&(old.deadline_ms, id));
        }
    }

    /// Starts the time of a living lease anew and returns its time to live; `None` when it is dead.
    pub(super) fn renew(&mut self, id: LeaseId, now_ms: u64) -> Option<u64> {
        let lease = self.table.get(&id).filter(|lease| lease.deadline_ms > now_ms)?.clone();
        let ttl_ms = lease.ttl_ms;
        if !mutant!(RenewalsAreLost) {
            self.set(id, Lease { deadline_ms: now_ms.saturating_add(ttl_ms), ..lease });
        }
        Some(ttl_ms)
    }

    /// Ends the lease, and returns what it was. Its records are absent from now on and remain to be removed.
    pub(super) fn end(&mut self, id: LeaseId) -> Option<Lease> {
        let lease = self.table.remove(&id)?;
        self.by_deadline.remove(&(lease.deadline_ms, id));
        self.ended.insert(id);
        Some(lease)
    }

    /// Takes note that a record is attached to a lease; matters when the lease is no longer known.
    pub(super) fn note_attached(&mut self, id: LeaseId) {
        if !self.table.contains_key(&id) {
            self.ended.insert(id);
        }
    }

    /// An ended lease whose records may remain.
    pub(super) fn first_ended(&self) -> Option<LeaseId> {
        self.ended.first().copied()
    }

    /// No record is attached to this ended lease any more.
    pub(super) fn forget_ended(&mut self, id: LeaseId) {
        self.ended.remove(&id);
    }

    /// When the first lease falls due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// The lease that is due first, if it is due at `now_ms`.
    pub(super) fn first_due(&self, now_ms: u64) -> Option<LeaseId> {
        let (deadline_ms, id) = self.by_deadline.first()?;
        (*deadline_ms <= now_ms).then_some(*id)
    }
}
