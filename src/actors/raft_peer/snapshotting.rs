//! When the peer takes snapshots, and what it makes of chunks that come and go.

use actix::prelude::*;

use super::RaftPeer;
use crate::actors::snapshots::{ChunkRead, ChunkStored};
use crate::logic::ids::LogPosition;
use crate::logic::raft::Input;
use crate::logic::raft::entry::SnapshotMark;
use crate::messages::group::{SnapshotTaken, TakeSnapshot, TakenSnapshot};
use crate::storage::Batch;

impl RaftPeer {
    pub(super) fn consider_snapshot(&mut self) {
        if self.heavy {
            self.trim();
        }
        // Until something behind it is committed, another one would be of the same state.
        if self.unreadable.is_some_and(|last| last.index < self.core.commit()) {
            self.schedule.demand();
        }
        let pinned = self.heavy.then(|| self.spec.wal.disk_bytes());
        if self.schedule.is_due(self.told, pinned)
            && self.spec.take_snapshot.tell(TakeSnapshot { life: self.life }).is_ok()
        {
            self.schedule.begin(self.told);
        }
    }

    /// A chunk of a snapshot could not be read. If that is the newest, another one takes its place, made of the state
    /// that is in memory.
    fn replace_unreadable(&mut self, last: LogPosition) {
        if self.unreadable == Some(last) {
            return;
        }
        if let Some(mark) = self.newest_snapshot.as_ref().filter(|mark| mark.meta.last == last) {
            self.unreadable = Some(last);
            tracing::warn!(
                group = %self.spec.group, snapshot = mark.name,
                "the newest snapshot cannot be read; another one is taken of the state in memory"
            );
        }
    }

    /// Gives up the stored log behind the newest snapshot, which is otherwise kept for followers that are a little
    /// late: old segments are not worth that, and memory has it still.
    fn trim(&mut self) {
        let newest = self.newest_snapshot.as_ref().map(|mark| mark.meta.last);
        if let Some(last) = newest.filter(|last| last.index > self.trimmed) {
            self.trimmed = last.index;
            self.compact(last);
        }
    }

    pub(super) fn supersede(&mut self, newest: SnapshotMark) {
        if self.newest_snapshot.as_ref() != Some(&newest) {
            self.unreadable = None;
            self.previous_snapshot = self.newest_snapshot.replace(newest);
        }
    }

    /// The snapshot at this position, if it is the newest or the one before, which a follower may still be receiving.
    pub(super) fn snapshot_at(&self, last: LogPosition) -> Option<SnapshotMark> {
        let kept = [&self.newest_snapshot, &self.previous_snapshot];
        kept.into_iter().flatten().find(|mark| mark.meta.last == last).cloned()
    }

    fn snapshot_taken(&mut self, TakenSnapshot { mark, bytes }: TakenSnapshot, ctx: &mut Context<Self>) {
        self.schedule.taken(bytes);
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
        self.supersede(mark);
        self.feed(Input::SnapshotTaken { position }, ctx);
    }
}

impl Handler<ChunkRead> for RaftPeer {
    type Result = ();

    fn handle(&mut self, read: ChunkRead, ctx: &mut Self::Context) {
        if read.life == self.life {
            if let Input::ChunkUnavailable { snapshot, .. } = &read.input {
                self.replace_unreadable(*snapshot);
            }
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
        if taken.life != self.life {
            // The log that it is to be marked in may lack what it holds.
            return;
        }
        match taken.result {
            Ok(taken) => self.snapshot_taken(taken, ctx),
            Err(error) => {
                self.schedule.failed(self.told);
                tracing::warn!(group = %self.spec.group, error, "no snapshot was taken");
            }
        }
    }
}
