//! A key that was taken under a lease is nobody else's as long as the lease surely lives.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::Invariant;
use crate::logic::kv::command::LeaseId;
use crate::sim::history::{Ask, Call, Told};

/// Clocks of nodes, by which leases end, may run faster than time by this factor at most where leases are taken.
pub(in crate::sim) const FASTEST_CLOCK: f64 = 1.05;

/// A lease that was granted or renewed by a call lives for its time from when the call began: log time is behind that
/// at most by how much faster the leader's clock runs.
#[derive(Default)]
pub struct LeaseExclusion {
    leases: BTreeMap<LeaseId, Holding>,
    holders: BTreeMap<Bytes, (LeaseId, u32)>,
}

#[derive(Clone, Copy)]
struct Holding {
    ttl: Duration,
    until: Duration,
}

impl Invariant for LeaseExclusion {
    fn name(&self) -> &'static str {
        "lease exclusion"
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        match (&call.ask, &call.told) {
            (Ask::Grant(_), Ok(Told::Lease(id, ttl))) => {
                let ttl = Duration::from_millis(*ttl).div_f64(FASTEST_CLOCK);
                self.leases.insert(*id, Holding { ttl, until: call.begun + ttl });
            }
            (Ask::Renew(_, id), Ok(_)) => {
                if let Some(holding) = self.leases.get_mut(id) {
                    holding.until = holding.until.max(call.begun + holding.ttl);
                }
            }
            // Whatever came of it, the lease may be gone from when it began.
            (Ask::Release(_, id), _) => {
                if let Some(holding) = self.leases.get_mut(id) {
                    holding.until = holding.until.min(call.begun);
                }
            }
            (Ask::Take(key, _, id), Ok(_)) => return self.taken(call, key, *id),
            _ => {}
        }
        Ok(())
    }
}

impl LeaseExclusion {
    fn taken(&mut self, call: &Call, key: &Bytes, id: LeaseId) -> Result<(), String> {
        let before = self.holders.insert(key.clone(), (id, call.client));
        let Some((other, holder)) = before.filter(|(other, _)| *other != id) else { return Ok(()) };
        // It took effect before the call ended.
        match self.leases.get(&other) {
            Some(holding) if holding.until > call.ended => Err(format!(
                "client {} takes {} at {:?}, which client {holder} holds until {:?} at least",
                call.client,
                String::from_utf8_lossy(key),
                call.ended,
                holding.until
            )),
            _ => Ok(()),
        }
    }
}
