//! When the peer takes snapshots, and what it makes of chunks that come and go.

use actix::prelude::*;

use super::RaftPeer;
use crate::actors::snapshots::{ChunkRead, ChunkStored};
use crate::logic::raft::Input;
use crate::messages::group::{SnapshotTaken, TakeSnapshot, TakenSnapshot};
use crate::storage::Batch;

impl RaftPeer {
    pub(super) fn consider_snapshot(&mut self) {
        // As much log as there is state: so snapshots at most double what is written, however large the state.
        let worth_it = self.log_bytes > 0 && self.log_bytes >= self.snapshot_bytes;
        let due = self.log_bytes >= self.spec.snapshot_after_bytes || self.heavy;
        if !self.snapshotting && worth_it && due {
            self.snapshotting = self.spec.take_snapshot.tell(TakeSnapshot).is_ok();
        }
    }

    fn snapshot_taken(&mut self, TakenSnapshot { mark, bytes }: TakenSnapshot, ctx: &mut Context<Self>) {
        self.snapshot_bytes = bytes;
        let position = mark.meta.last;
        if self.newest_snapshot.as_ref().is_some_and(|newest| newest.meta.last.index >= position.index) {
            // One that came from the leader meanwhile is newer.
            return;
        }
        let mut batch = Batch::new(self.spec.group);
        batch.snapshot = Some(mark.clone());
        let snapshots = self.spec.snapshots.clone();
        let durable = mark.clone();
        self.spec.wal.submit(
            batch,
            Box::new(move |result| {
                if result.is_ok() {
                    snapshots.retain(durable);
                }
            }),
        );
        self.newest_snapshot = Some(mark);
        self.log_bytes = 0;
        self.feed(Input::SnapshotTaken { position }, ctx);
    }
}

impl Handler<ChunkRead> for RaftPeer {
    type Result = ();

    fn handle(&mut self, read: ChunkRead, ctx: &mut Self::Context) {
        if read.life == self.life {
            self.feed(read.input, ctx);
        }
    }
}

impl Handler<ChunkStored> for RaftPeer {
    type Result = ();

    fn handle(&mut self, stored: ChunkStored, ctx: &mut Self::Context) {
        if stored.life == self.life {
            if stored.complete.is_some() {
                self.received = stored.complete;
            }
            self.feed(stored.input, ctx);
        }
    }
}

impl Handler<SnapshotTaken> for RaftPeer {
    type Result = ();

    fn handle(&mut self, taken: SnapshotTaken, ctx: &mut Self::Context) {
        self.snapshotting = false;
        match taken.result {
            Ok(taken) => self.snapshot_taken(taken, ctx),
            Err(error) => {
                // Try again after as much log again, rather than at once.
                self.log_bytes = 0;
                tracing::warn!(group = %self.spec.group, error, "no snapshot was taken");
            }
        }
    }
}
