//! Reads: they wait for a barrier (that the leader still leads), then for the applier; nothing is written.

use super::{Caller, KvServer};
use crate::logic::desk::pace::is_worth_a_round;
use crate::logic::ids::Index;
use crate::logic::kv::command::Query;
use crate::messages::client::{Consistency, ServerError};
use crate::messages::group::{Queries, ReadBarrier, Refusal};

/// Reads that share one barrier: who asked, and what.
pub(super) type ReadBatch = (Vec<Caller>, Vec<Query>);

/// Marks the numbers of read batches, which share a message with those of proposals.
const READ_BATCH: u64 = 1 << 63;

impl KvServer {
    pub(super) fn take_read(&mut self, caller: Caller, query: Query, consistency: Consistency) {
        if consistency != Consistency::Stale && !self.leadership.leads {
            return caller.answer(Err(self.not_leader()));
        }
        let query = match self.spec.limits.admit_query(query) {
            Ok(query) => query,
            Err(error) => return caller.answer(Err(ServerError::Refused(error))),
        };
        if self.reading >= self.spec.max_pending_requests {
            return caller.answer(Err(ServerError::Busy { limit: "max_pending_requests".into() }));
        }
        let batch = match consistency {
            Consistency::Linearizable if mutant!(ServesStaleReads) => &mut self.stale,
            Consistency::Lease if mutant!(ServesLeaseReadsStale) => &mut self.stale,
            Consistency::Linearizable => &mut self.linearizable,
            Consistency::Lease => &mut self.leased,
            Consistency::Stale => &mut self.stale,
        };
        self.reading += 1;
        batch.0.push(caller);
        batch.1.push(query);
    }

    pub(super) fn pass_on_reads(&mut self) {
        if is_worth_a_round(self.linearizable.0.len(), 0, self.confirming) {
            self.ask_barrier_for_all();
        }
    }

    pub(super) fn ask_barrier_for_all(&mut self) {
        let linearizable = std::mem::take(&mut self.linearizable);
        self.ask_barrier(linearizable, false);
    }

    pub(super) fn ask_barrier(&mut self, batch: ReadBatch, lease: bool) {
        if batch.0.is_empty() {
            return;
        }
        let id = self.next_batch();
        if self.spec.barrier.tell(ReadBarrier { id, lease }).is_ok() {
            self.confirming += batch.0.len();
            self.at_barrier.insert(id, batch);
        } else {
            self.refuse_reads(batch.0, Refusal::NotLeader);
        }
    }

    pub(super) fn ask_applier(&mut self, (callers, queries): ReadBatch, index: Index) {
        if callers.is_empty() {
            return;
        }
        let id = self.next_batch();
        if self.spec.queries.tell(Queries { id, index, queries }).is_ok() {
            self.at_applier.insert(id, callers.into_iter());
        } else {
            self.refuse_reads(callers, Refusal::NotLeader);
        }
    }

    fn next_batch(&mut self) -> u64 {
        self.next_batch += 1;
        READ_BATCH | self.next_batch
    }

    pub(super) fn refuse_reads(&mut self, callers: Vec<Caller>, refusal: Refusal) {
        self.reading -= callers.len();
        for caller in callers {
            caller.answer(Err(self.error(refusal)));
        }
    }
}
