//! Snapshots: compacting the own log, sending a snapshot in chunks to a follower that lacks compacted entries, and
//! receiving one (paper, section 7). A transfer goes on where it was after a loss or a restart of the leader, because
//! every reply names the chunk wanted next.

use bytes::Bytes;

use super::config::Config;
use super::entry::{Payload, SnapshotMeta};
use super::membership_change::History;
use super::message::Message;
use super::output::StoreChunk;
use super::progress::{Mode, Transfer};
use super::replica::{LIMIT, Raft, State};
use crate::logic::ids::{Index, LogPosition, NodeId, Term};

/// A snapshot that this replica is receiving.
#[derive(Debug)]
pub(super) struct Incoming {
    transfer: u64,
    /// Chunks of different senders are never mixed: the same state may be cut differently.
    source: NodeId,
    /// The latest term in which it sent any.
    term: Term,
    meta: SnapshotMeta,
    /// Chunks below this one were given to the storage...
    received: u32,
    /// ...and below this one it has them.
    stored: u32,
    /// How many there are, once the last has come.
    total: Option<u32>,
}

/// Compaction.
impl Raft {
    pub(super) fn on_snapshot_taken(&mut self, position: LogPosition) {
        let newest = self.snapshot.as_ref().map_or(0, |meta| meta.last.index);
        let is_applied = position.index <= self.log.commit().min(self.log.handed());
        let is_own = self.log.position(position.index) == Some(position);
        if position.index <= newest || !is_applied || !is_own {
            return;
        }
        let Some(meta) = self.snapshot_meta(position.index) else { return };
        self.snapshot = Some(meta);
        self.cut(position.index);
        self.history.compact(position.index);
    }

    /// Compacts the log behind a snapshot, but only as far as it is durable.
    pub(super) fn cut(&mut self, snapshot: Index) {
        let Config { keep_entries, keep_bytes, .. } = self.config;
        let point = self.log.compaction_point(snapshot, keep_entries, keep_bytes);
        self.cut_later = self.log.durable() < point;
        let cut = point.min(self.log.durable()).min(self.needed_by_transfers());
        if cut > self.log.base().index {
            self.output.garbage.append(&mut self.log.compact(cut));
            self.output.compact = Some(self.log.base());
        }
    }

    /// The disk has got on: the rest of a cut for which it was too slow. Without it a log that has reached its limit
    /// would stay there, since it does not grow any more, and no next snapshot comes.
    pub(super) fn retry_cut(&mut self) {
        if let Some(meta) = self.snapshot.as_ref().filter(|meta| {
            self.cut_later && !mutant!(CutIsNotRetried) && meta.last.index <= self.log.durable()
        }) {
            self.cut(meta.last.index);
        }
    }

    /// What followers will need next once the snapshot on its way is installed: cut before it, and they would need
    /// another one at once. Memory has its limits, though.
    fn needed_by_transfers(&self) -> Index {
        let State::Leader(leading) = &self.state else { return Index::MAX };
        if self.log.bytes() > self.config.max_log_bytes / 2 {
            return Index::MAX;
        }
        let is_alive = |contact| self.now.saturating_sub(contact) < self.config.election_timeout.end;
        let transfers = leading.progress.values().filter_map(|progress| match &progress.mode {
            Mode::Snapshot(transfer) if is_alive(progress.contact) => Some(transfer.meta.last.index),
            _ => None,
        });
        transfers.min().unwrap_or(Index::MAX)
    }
}

/// The leader's side.
impl Raft {
    fn transfer_to(&mut self, node: NodeId, snapshot: LogPosition) -> Option<&mut Transfer> {
        let State::Leader(leading) = &mut self.state else { return None };
        match &mut leading.progress.get_mut(&node)?.mode {
            Mode::Snapshot(transfer) if transfer.meta.last == snapshot => Some(transfer),
            _ => None,
        }
    }

    pub(super) fn on_chunk_read(
        &mut self,
        to: NodeId,
        meta: SnapshotMeta,
        number: u32,
        last: bool,
        data: Bytes,
    ) {
        let Some(transfer) = self.transfer_to(to, meta.last) else { return };
        if last {
            transfer.total = Some(number.saturating_add(1));
        }
        self.send(to, Message::SnapshotChunk { meta, number, last, data });
    }

    /// The snapshot is gone: begin with the newest, if that is another one. If it is the newest that cannot be read,
    /// another one is to be taken, which needs a position of its own: the same state may be cut into other chunks, and
    /// the follower may have some of these.
    pub(super) fn on_chunk_unavailable(&mut self, to: NodeId, snapshot: LogPosition) {
        let (newest, now) = (self.snapshot.clone(), self.now);
        let Some(transfer) = self.transfer_to(to, snapshot) else { return };
        if let Some(meta) = newest.filter(|meta| meta.last != snapshot) {
            transfer.switch_to(meta, now);
        } else if self.log.last() == snapshot {
            self.append_own(Payload::Noop);
        }
    }

    pub(super) fn on_snapshot_reply(&mut self, from: NodeId, last: LogPosition, next: u32, installed: bool) {
        let (now, patience) = (self.now, self.config.election_timeout.end);
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.progress.get_mut(&from) else { return };
        progress.contact = now;
        match &mut progress.mode {
            Mode::Snapshot(transfer) if transfer.meta.last == last => {
                if installed {
                    progress.accept(last.index);
                    progress.probe_from(last.index + 1);
                } else {
                    transfer.on_reply(next, now, patience);
                }
            }
            _ => {}
        }
    }
}

/// The follower's side.
impl Raft {
    pub(super) fn on_chunk(
        &mut self,
        from: NodeId,
        meta: SnapshotMeta,
        number: u32,
        last: bool,
        data: Bytes,
    ) {
        let LogPosition { index, term } = meta.last;
        let makes_sense = meta.group == self.config.group
            && (1..=LIMIT).contains(&index)
            && (1..=self.hard_state.term).contains(&term)
            && !meta.membership.voters.is_empty();
        if !makes_sense || !self.follow(from) || self.is_not_needed(from, &meta) {
            return;
        }
        let now_in = self.hard_state.term;
        match self.incoming.as_mut().filter(|incoming| incoming.source == from) {
            // It is late. In a later term it is not: a restarted leader may have lost a snapshot that was not durable.
            Some(incoming)
                if incoming.meta.last.index > index
                    && (incoming.term == now_in || mutant!(NewerSnapshotOfTheDead)) =>
            {
                return;
            }
            Some(incoming) if incoming.meta == meta => incoming.term = now_in,
            _ if number == 0 => {
                self.transfers += 1;
                let transfer = self.transfers;
                let fresh = Incoming {
                    transfer,
                    source: from,
                    term: now_in,
                    meta,
                    received: 0,
                    stored: 0,
                    total: None,
                };
                self.incoming = Some(fresh);
            }
            _ => {
                return self
                    .send(from, Message::SnapshotReply { last: meta.last, next: 0, installed: false });
            }
        }
        let Some(incoming) = &mut self.incoming else { return };
        if number == incoming.received && incoming.total.is_none() {
            incoming.received += 1;
            incoming.total = last.then_some(incoming.received);
            let Incoming { transfer, meta, .. } = incoming;
            let (transfer, meta) = (*transfer, meta.clone());
            self.output.store_chunks.push(StoreChunk { transfer, meta, number, last, data });
        } else {
            let reply =
                Message::SnapshotReply { last: incoming.meta.last, next: incoming.stored, installed: false };
            self.send(from, reply);
        }
    }

    /// If this replica has everything that is in the snapshot, it says so and keeps its log.
    fn is_not_needed(&mut self, from: NodeId, meta: &SnapshotMeta) -> bool {
        let last = meta.last;
        if last.index > self.log.commit() {
            let has_tail = mutant!(SnapshotKeepsTail) && self.log.last().index >= last.index;
            if self.log.position(last.index) != Some(last) && !has_tail {
                return false;
            }
            self.log.commit_to(last.index);
        }
        self.promise(from, Message::SnapshotReply { last, next: 0, installed: true });
        true
    }

    pub(super) fn on_chunk_stored(&mut self, transfer: u64, number: u32) {
        let Some(incoming) = &mut self.incoming else { return };
        if incoming.transfer != transfer || incoming.stored != number {
            return;
        }
        incoming.stored += 1;
        let (source, last, next) = (incoming.source, incoming.meta.last, incoming.stored);
        if incoming.total == Some(next) {
            self.install();
        } else if self.leader == Some(source) {
            self.send(source, Message::SnapshotReply { last, next, installed: false });
        }
    }

    pub(super) fn on_snapshot_failed(&mut self, transfer: u64) {
        if let Some(incoming) = self.incoming.take_if(|incoming| incoming.transfer == transfer)
            && self.leader == Some(incoming.source)
        {
            let last = incoming.meta.last;
            self.send(incoming.source, Message::SnapshotReply { last, next: 0, installed: false });
        }
    }

    /// The snapshot is complete. The whole log gives way to it: had the log a matching entry at its last position,
    /// the snapshot would not be needed, so what lies behind conflicts or hangs in the air (paper, figure 13).
    fn install(&mut self) {
        let Some(Incoming { source, meta, .. }) = self.incoming.take() else { return };
        if self.is_not_needed(source, &meta) {
            return;
        }
        let last = meta.last;
        if last.index > self.log.handed() {
            self.output.load = Some(meta.clone());
        }
        self.log.reset(last);
        self.history = History::new(last.index, meta.membership.clone());
        self.snapshot = Some(meta.clone());
        self.install_on_disk(meta);
        if mutant!(SnapshotAcknowledgedBeforeSync) {
            return self.send(source, Message::SnapshotReply { last, next: 0, installed: true });
        }
        self.promise(source, Message::SnapshotReply { last, next: 0, installed: true });
    }
}
