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
/// at most by how much faster the leader's clock runs. It may be gone from when its holder began to release it. That
/// can be judged in the end only: a call that frees a key may end after the call that then takes it.
#[derive(Default)]
pub struct LeaseExclusion {
    leases: BTreeMap<LeaseId, Holding>,
    takes: Vec<Take>,
}

struct Holding {
    ttl: Duration,
    until: Duration,
    released: Option<Duration>,
}

/// A key was taken, at some moment while the call was under way.
struct Take {
    client: u32,
    key: Bytes,
    lease: LeaseId,
    before: u64,
    after: u64,
    ended: Duration,
}

impl Invariant for LeaseExclusion {
    fn name(&self) -> &'static str {
        "lease exclusion"
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        match (&call.ask, &call.told) {
            (Ask::Grant(_), Ok(Told::Lease(id, ttl))) => {
                let ttl = Duration::from_millis(*ttl).div_f64(FASTEST_CLOCK);
                self.leases.insert(*id, Holding { ttl, until: call.begun + ttl, released: None });
            }
            (Ask::Renew(_, id), Ok(_)) => {
                if let Some(holding) = self.leases.get_mut(id) {
                    holding.until = holding.until.max(call.begun + holding.ttl);
                }
            }
            // Whatever came of it.
            (Ask::Release(_, id), _) => {
                if let Some(holding) = self.leases.get_mut(id) {
                    holding.released = Some(call.begun);
                }
            }
            (Ask::Take(key, _, lease), Ok(_)) => self.takes.push(Take {
                client: call.client,
                key: key.clone(),
                lease: *lease,
                before: call.before,
                after: call.after,
                ended: call.ended,
            }),
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), String> {
        for taken in &self.takes {
            let Some(holding) = self.leases.get(&taken.lease) else { continue };
            let until = holding.released.map_or(holding.until, |released| released.min(holding.until));
            let again = |other: &&Take| {
                other.key == taken.key
                    && other.lease != taken.lease
                    && other.before > taken.after
                    && other.ended < until
            };
            if let Some(other) = self.takes.iter().find(again) {
                return Err(format!(
                    "client {} takes {} by {:?}, which client {} holds until {until:?} at least",
                    other.client,
                    String::from_utf8_lossy(&other.key),
                    other.ended,
                    taken.client
                ));
            }
        }
        Ok(())
    }
}
