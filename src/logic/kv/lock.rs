//! Locks: queues of leases.
//!
//! A place in the queue of a lock is a lease that names the lock. The holder is the first of them that lives, and its
//! token is the index of the entry that gave it its place. So nothing is ever handed over: when the holder's lease
//! ends, by its own wish or by log time, whoever stands behind it *is* the holder, on every replica, from that log time
//! on. Places are in the order of the log, so the token grows from holder to holder, and a fence that compares it with
//! the holder's own is exact (Burrows, "The Chubby lock service", section 2.4: sequencers).
//!
//! The claims are replicated state, as a part of their leases; the queues follow from them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use imbl::OrdMap;

use super::command::{Command, Holder, KvError, LeaseId, Outcome, Reply, Token};
use super::key::Key;
use super::lease::Lease;
use super::limits::{at_most, caps};
use super::machine::Machine;
use super::row::RECORD_OVERHEAD;

/// What a lease claims: a place in the queue of a lock.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) lock: Key,
    /// Who asked for it. Asking again finds the same place.
    pub(super) owner: Bytes,
}

impl Claim {
    /// Memory that the claim stands for, in bytes, roughly.
    fn footprint(&self) -> u64 {
        (self.lock.as_slice().len() + self.owner.len()) as u64 + RECORD_OVERHEAD
    }
}

/// Who has a place in the queue of which lock. A copy costs next to nothing.
#[derive(Clone, Default)]
pub struct Places(OrdMap<(Key, Bytes), LeaseId>);

impl Places {
    /// Whether this is a claim of an owner who has a place already: it takes up no room.
    pub fn has_that_of(&self, command: &Command) -> bool {
        match command {
            Command::Claim { lock, owner, .. } => self.find(lock, owner).is_some(),
            _ => false,
        }
    }

    fn find(&self, lock: &[u8], owner: &Bytes) -> Option<LeaseId> {
        self.0.get(&(Key::new(lock), owner.clone())).copied()
    }
}

/// The queues of all locks. A place whose lease is due stays until the lease is removed, and counts as absent.
#[derive(Default)]
pub(super) struct Locks {
    queues: BTreeMap<Key, BTreeSet<LeaseId>>,
    owners: Places,
    bytes: u64,
}

impl Locks {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn join(&mut self, claim: &Claim, lease: LeaseId) {
        self.bytes += claim.footprint();
        self.queues.entry(claim.lock.clone()).or_default().insert(lease);
        self.owners.0.insert((claim.lock.clone(), claim.owner.clone()), lease);
    }

    /// Returns whether it was the first.
    fn leave(&mut self, claim: &Claim, lease: LeaseId) -> bool {
        let Some(queue) = self.queues.get_mut(&claim.lock) else { return false };
        let first = queue.first() == Some(&lease);
        if !queue.remove(&lease) {
            return false;
        }
        if queue.is_empty() {
            self.queues.remove(&claim.lock);
        }
        self.bytes -= claim.footprint();
        // The owner may have a younger place, taken when this one was due and not yet removed.
        let owner = (claim.lock.clone(), claim.owner.clone());
        if self.owners.0.get(&owner) == Some(&lease) {
            self.owners.0.remove(&owner);
        }
        first
    }

    /// The places in a lock's queue, in order, those that are due included.
    fn places(&self, lock: &[u8]) -> impl Iterator<Item = LeaseId> {
        self.queues.get(lock).into_iter().flat_map(|queue| queue.iter().copied())
    }
}

impl Machine {
    /// Leases that became holders of their locks with the last entry applied, because whoever stood before them
    /// left; for those who wait for it. A claim that finds its lock free learns that from its own reply.
    pub fn granted(&self) -> &[LeaseId] {
        &self.granted
    }

    /// Who has a place in the queue of which lock; for the server's door.
    pub fn places(&self) -> Places {
        self.locks.owners.clone()
    }

    /// Who holds a lock, and how many places before it are due.
    fn holder_behind(&self, lock: &[u8]) -> (Option<LeaseId>, usize) {
        let mut passed = 0;
        let holder = self.locks.places(lock).find(|lease| {
            let alive = self.leases.is_alive(*lease, self.time_ms);
            passed += usize::from(!alive);
            alive
        });
        (holder, passed)
    }

    /// Who holds a lock, for a command. What is due before it is removed: it would be by and by in any case, and so no
    /// number of commands looks at a dead place twice.
    fn settle_holder(&mut self, lock: &[u8]) -> Option<LeaseId> {
        loop {
            let first = self.locks.places(lock).next()?;
            if self.leases.is_alive(first, self.time_ms) {
                return Some(first);
            }
            self.end_lease(first);
            self.upkeep += RECORD_OVERHEAD;
        }
    }

    /// Takes a place in the queue of a lock, or finds the one that the owner has and starts its time anew.
    pub(super) fn claim_lock(&mut self, lock: &[u8], owner: &Bytes, ttl_ms: u64, queue: bool) -> Outcome {
        at_most("max_key_bytes", "the lock's bytes", caps::KEY_BYTES, lock.len() as u64)?;
        at_most("max_key_bytes", "the owner's bytes", caps::KEY_BYTES, owner.len() as u64)?;
        if let Some(lease) = self.locks.owners.find(lock, owner)
            && let Some(ttl_ms) = self.leases.renew(lease, self.time_ms)
        {
            let held = self.settle_holder(lock) == Some(lease);
            return Ok(Reply::Claim { lease, ttl_ms, held });
        }
        if !queue && let Some(holder) = self.settle_holder(lock) {
            return Err(KvError::LockHeld { token: holder.index });
        }
        let claim = Arc::new(Claim { lock: Key::new(lock), owner: Bytes::copy_from_slice(owner) });
        let lease = self.new_lease(ttl_ms, Some(claim.clone()))?;
        self.locks.join(&claim, lease);
        Ok(Reply::Claim { lease, ttl_ms, held: self.settle_holder(lock) == Some(lease) })
    }

    /// Adds a lease, named by the entry being applied.
    pub(super) fn new_lease(&mut self, ttl_ms: u64, claim: Option<Arc<Claim>>) -> Result<LeaseId, KvError> {
        let asked = self.leases.table().len() as u64 + 1;
        at_most("max_leases", "leases", caps::LEASES, asked)?;
        let lease = LeaseId { group: self.group, index: self.applied };
        let deadline_ms = self.time_ms.saturating_add(ttl_ms);
        self.leases.set(lease, Lease { ttl_ms, deadline_ms, claim });
        Ok(lease)
    }

    /// The only way for a lease to go: with it goes its place in a queue, and the next one may become the holder.
    pub(super) fn end_lease(&mut self, id: LeaseId) {
        let Some(claim) = self.leases.end(id).and_then(|lease| lease.claim) else { return };
        let next = self.locks.leave(&claim, id).then(|| self.locks.places(claim.lock.as_slice()).next());
        // One that is due itself says so when it is removed.
        self.granted.extend(next.flatten().filter(|next| self.leases.is_alive(*next, self.time_ms)));
    }

    /// Fails unless the lock is held under this token.
    pub(super) fn check_fence(&mut self, lock: &[u8], token: Token) -> Result<(), KvError> {
        match self.settle_holder(lock) {
            Some(holder) if holder.index == token => Ok(()),
            holder => Err(KvError::Fenced { holder: holder.map(|lease| lease.index) }),
        }
    }

    /// Whether it is the turn of a lease that claims a lock; and how many dead places were looked at.
    pub(super) fn turn(&self, lease: LeaseId) -> (Outcome, usize) {
        if !self.leases.is_alive(lease, self.time_ms) {
            return (Err(KvError::LeaseExpired), 0);
        }
        let Some(claim) = self.leases.table().get(&lease).and_then(|lease| lease.claim.as_ref()) else {
            return (Err(KvError::Malformed("the lease claims no lock".to_owned())), 0);
        };
        let (holder, passed) = self.holder_behind(claim.lock.as_slice());
        (Ok(Reply::Turn { held: holder == Some(lease) }), passed)
    }

    /// What is to be seen of a lock; and how many dead places were looked at.
    pub(super) fn lock_status(&self, lock: &[u8]) -> (Reply, usize) {
        let (mut holder, mut waiting, mut passed) = (None, 0, 0);
        for place in self.locks.places(lock) {
            match (self.leases.is_alive(place, self.time_ms), holder) {
                (false, _) => passed += 1,
                (true, None) => holder = Some(place),
                (true, Some(_)) => waiting += 1,
            }
        }
        (Reply::Lock { holder: holder.and_then(|id| self.holder_status(id)), waiting }, passed)
    }

    fn holder_status(&self, id: LeaseId) -> Option<Holder> {
        let lease = self.leases.table().get(&id)?;
        let owner = lease.claim.as_ref()?.owner.clone();
        Some(Holder { lease: id, owner, left_ms: lease.deadline_ms.saturating_sub(self.time_ms) })
    }
}
