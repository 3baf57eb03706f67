//! The Raft peer of a group: feeds the core, and does what it says in the order in which it says it.
//! `snapshotting` is what it does about snapshots, `observing` what it says of itself, `timing` how it tells the time.

mod observing;
mod snapshotting;
mod timing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix::prelude::*;

use super::background::Background;
use super::clock::NodeClock;
use super::snapshots::{Schedule, SnapshotDesk};
use super::supervision::Port;
use super::tap::{Seen, TapPoint};
use crate::logic::ids::{GroupId, Index, LogPosition, NodeId};
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::message::Envelope;
use crate::logic::raft::{self, Input, Output, Persist, Raft, Role};
use crate::messages::group::{
    Committed, FromPeers, Install, Leadership, Propose, ReadBarrier, Refusal, RoleChanged, TakeSnapshot,
    TransferLeader, Verdicts,
};
use crate::net::Ref;
use crate::storage::{Batch, StorageError, WalHandle};

/// How often the log is asked whether it wants a snapshot of this group.
const HEAVY_TICK: Duration = Duration::from_secs(1);

/// Requests that the peer makes of the core for itself: nobody waits for the answer.
const NOBODY: u64 = u64::MAX;

/// What a Raft peer is given.
#[derive(Clone)]
pub struct RaftPeerSpec {
    /// The group.
    pub group: GroupId,
    /// The node.
    pub node: NodeId,
    /// Time since the node started.
    pub clock: NodeClock,
    /// The node's log.
    pub wal: WalHandle,
    /// The other members.
    pub peers: BTreeMap<NodeId, Ref<Envelope>>,
    /// The KV server.
    pub verdicts: Port<Verdicts>,
    /// The KV server.
    pub role: Port<RoleChanged>,
    /// The applier.
    pub committed: Port<Committed>,
    /// The applier.
    pub install: Port<Install>,
    /// The applier.
    pub take_snapshot: Port<TakeSnapshot>,
    /// This peer itself: how the log's thread reports.
    pub persisted: Port<Persisted>,
    /// Snapshots on their way in and out.
    pub snapshots: SnapshotDesk,
    /// A thread that may be busy, for freeing what takes a while to free.
    pub sweeper: Background,
    /// Take a snapshot when the log has grown by so many bytes since the last, and by as many as the state has...
    pub snapshot_after_bytes: u64,
    /// ...or by so many, however large the state: well below what the core keeps in memory before it refuses proposals.
    pub snapshot_at_most_bytes: u64,
    /// The term in which the peer led when its last life ended; 0: it did not.
    pub led: Arc<AtomicU64>,
    /// Who watches.
    pub tap: TapPoint,
}

/// From the log's thread: the batch with that ticket is durable, or will never be.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Persisted {
    /// Which life of the peer asked; the answer to an earlier one is void.
    pub life: u64,
    /// Which batch.
    pub ticket: u64,
    /// Whether it is durable.
    pub result: Result<(), StorageError>,
}

/// The Raft peer of a group.
pub struct RaftPeer {
    spec: RaftPeerSpec,
    life: u64,
    core: Raft,
    told: Duration,
    flushing: bool,
    /// When the core is told the time next, by the node's clock.
    timer: Option<(Duration, SpawnHandle)>,
    /// What the KV server is to be told of.
    untold: Option<Leadership>,
    last_accepted: Index,
    schedule: Schedule,
    /// Whether old segments of the log are kept for this group alone.
    heavy: bool,
    /// Up to where the stored log was given up because of that.
    trimmed: Index,
    newest_snapshot: Option<SnapshotMark>,
    previous_snapshot: Option<SnapshotMark>,
    received: Option<SnapshotMark>,
    /// The newest snapshot, if it cannot be read: another one is to take its place.
    unreadable: Option<LogPosition>,
}

/// To itself, once the mailbox is drained.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl RaftPeer {
    /// A peer in its `life`-th life around a core that was restored from disk.
    ///
    /// `log_bytes`: bytes in the log since `newest_snapshot`.
    pub fn new(
        spec: RaftPeerSpec,
        life: u64,
        core: Raft,
        newest_snapshot: Option<SnapshotMark>,
        log_bytes: u64,
    ) -> Self {
        let told = spec.clock.now();
        let schedule = Schedule::new(spec.snapshot_after_bytes, spec.snapshot_at_most_bytes, log_bytes);
        RaftPeer {
            spec,
            life,
            core,
            told,
            flushing: false,
            timer: None,
            untold: None,
            last_accepted: 0,
            schedule,
            heavy: false,
            trimmed: 0,
            newest_snapshot,
            previous_snapshot: None,
            received: None,
            unreadable: None,
        }
    }

    fn feed(&mut self, input: Input, ctx: &mut Context<Self>) {
        if !self.flushing {
            self.flushing = true;
            // A batch begins with the time, so that timers count from when it came.
            self.tick();
            ctx.notify(Flush);
        }
        self.core.step(input);
    }

    /// Tells the core the time, and performs what it wants done by now.
    fn flush(&mut self, ctx: &mut Context<Self>) {
        self.flushing = false;
        self.tick();
        let output = self.core.ready();
        let commit = self.core.commit();
        self.spec.tap.show(self.spec.group, || Seen::Output { commit, output: &output });
        self.perform(output);
        self.consider_snapshot();
        self.set_timer(ctx);
    }

    /// Performs the fields of an output in their order.
    fn perform(&mut self, output: Output) {
        let Output {
            persist,
            send,
            store_chunks,
            accepted,
            refused,
            load,
            committed,
            reads,
            snapshot_wanted,
            compact,
            garbage,
            role,
        } = output;
        if let Some(persist) = persist {
            self.persist(persist);
        }
        for envelope in send {
            if let Some(peer) = self.spec.peers.get(&envelope.to) {
                // A full or broken link loses it; Raft repeats what matters.
                let _ = peer.tell(envelope);
            }
        }
        for chunk in store_chunks {
            self.spec.snapshots.store(self.life, chunk);
        }
        if let Some((_, position)) = accepted.last() {
            self.last_accepted = position.index;
        }
        self.tell_verdicts(accepted, refused, reads);
        if let Some(meta) = load {
            let snapshot = self.newest_snapshot.clone().filter(|mark| mark.meta == meta);
            let snapshot = snapshot.expect("the core loads the snapshot that it asked to persist");
            let _ = self.spec.install.tell(Install { snapshot });
        }
        if !committed.is_empty() {
            let report = committed[0].index <= self.last_accepted;
            let _ = self.spec.committed.tell(Committed { entries: committed, report });
        }
        for wanted in snapshot_wanted {
            self.spec.snapshots.read(self.life, wanted, self.snapshot_at(wanted.snapshot));
        }
        if let Some(position) = compact {
            self.compact(position);
        }
        if !garbage.is_empty() {
            self.spec.sweeper.run(move || drop(garbage));
        }
        if let Some(change) = role {
            tracing::info!(group = %self.spec.group, role = ?change.role, term = change.term,
                leader = change.leader.map(|node| node.0), "role changed");
            let leadership =
                Leadership { leads: change.role == Role::Leader, term: change.term, leader: change.leader };
            self.untold = Some(leadership);
        }
        // The KV server starts last, so it may not be there yet; but without this it would serve nobody.
        if let Some(leadership) = self.untold
            && self.spec.role.tell(RoleChanged(leadership)).is_ok()
        {
            self.untold = None;
        }
    }

    fn persist(&mut self, persist: Persist) {
        let Persist { ticket, snapshot, hard_state, entries } = persist;
        let mut batch = Batch::new(self.spec.group);
        if let Some(meta) = snapshot {
            let received = self.received.take();
            // Without one just received it is that of the start, which the stored log does not fit.
            let mark = received.or_else(|| self.newest_snapshot.clone()).filter(|mark| mark.meta == meta);
            let mark = mark.expect("the core installs the snapshot just received, or that of its start");
            batch.reset = Some(meta.last);
            batch.snapshot = Some(mark.clone());
            self.supersede(mark);
            self.schedule.replaced();
        }
        let installed = batch.snapshot.clone();
        batch.hard_state = hard_state;
        self.schedule.grown(entries.iter().map(|entry| entry.cost() as u64).sum());
        batch.entries = entries;
        self.submit(batch, ticket, installed);
    }

    /// `installed`: a snapshot that the batch makes the current one, and older ones superfluous.
    fn submit(&self, batch: Batch, ticket: u64, installed: Option<SnapshotMark>) {
        let (port, life) = (self.spec.persisted.clone(), self.life);
        let snapshots = self.spec.snapshots.clone();
        let done = move |result: Result<(), StorageError>| {
            if let Some(mark) = installed.filter(|_| result.is_ok()) {
                snapshots.retain(mark);
            }
            // A peer that is gone rereads the log when it comes back.
            let _ = port.tell(Persisted { life, ticket, result });
        };
        self.spec.wal.submit(batch, Box::new(done));
    }

    /// Drops the stored log behind a snapshot, in the same frame as the mark that makes it superfluous.
    fn compact(&mut self, position: LogPosition) {
        let mut batch = Batch::new(self.spec.group);
        batch.compact_to = Some(position);
        self.spec.wal.submit(batch, Box::new(|_| {}));
    }

    fn tell_verdicts(
        &mut self,
        accepted: Vec<(u64, LogPosition)>,
        refused: Vec<(u64, raft::Refusal)>,
        reads: Vec<(u64, Index)>,
    ) {
        let refused: Vec<_> = refused
            .into_iter()
            .filter(|(id, _)| *id != NOBODY)
            .map(|(id, why)| (id, translate(why)))
            .collect();
        if !(accepted.is_empty() && refused.is_empty() && reads.is_empty()) {
            let _ = self.spec.verdicts.tell(Verdicts { accepted, refused, reads });
        }
    }
}

fn translate(refusal: raft::Refusal) -> Refusal {
    match refusal {
        raft::Refusal::Busy { limit } => Refusal::Busy(limit),
        raft::Refusal::Transferring => Refusal::Busy("leadership transfer under way"),
        _ => Refusal::NotLeader,
    }
}

impl Drop for RaftPeer {
    /// A long log takes a while to drop, and the next life waits for the end of this one.
    fn drop(&mut self) {
        let led = if self.core.role() == Role::Leader { self.core.term() } else { 0 };
        self.spec.led.store(led, Ordering::Relaxed);
        let log = self.core.give_up_log();
        self.spec.sweeper.run(move || drop(log));
    }
}

impl Actor for RaftPeer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        // A core that was told to campaign need not wait for the first tick.
        self.flushing = true;
        ctx.notify(Flush);
        ctx.run_interval(HEAVY_TICK, |peer, ctx| {
            peer.heavy = peer.spec.wal.heavy_groups().contains(&peer.spec.group);
            peer.flush(ctx);
        });
    }
}

impl Handler<Flush> for RaftPeer {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) {
        self.flush(ctx);
    }
}

impl Handler<FromPeers> for RaftPeer {
    type Result = ();

    fn handle(&mut self, FromPeers(envelopes): FromPeers, ctx: &mut Self::Context) {
        for envelope in envelopes {
            self.feed(Input::Message(envelope), ctx);
        }
    }
}

impl Handler<Propose> for RaftPeer {
    type Result = ();

    fn handle(&mut self, Propose(proposals): Propose, ctx: &mut Self::Context) {
        for proposal in proposals {
            self.feed(Input::Propose { id: proposal.id, command: proposal.command }, ctx);
        }
    }
}

impl Handler<ReadBarrier> for RaftPeer {
    type Result = ();

    fn handle(&mut self, read: ReadBarrier, ctx: &mut Self::Context) {
        self.feed(Input::Read { id: read.id, lease: read.lease }, ctx);
    }
}

impl Handler<TransferLeader> for RaftPeer {
    type Result = ();

    fn handle(&mut self, transfer: TransferLeader, ctx: &mut Self::Context) {
        self.feed(Input::TransferLeader { id: NOBODY, to: transfer.to }, ctx);
    }
}

impl Handler<Persisted> for RaftPeer {
    type Result = ();

    fn handle(&mut self, persisted: Persisted, ctx: &mut Self::Context) {
        if persisted.life != self.life {
            return;
        }
        match persisted.result {
            Ok(()) => {
                let ticket = persisted.ticket;
                self.spec.tap.show(self.spec.group, || Seen::Durable { ticket });
                self.feed(Input::Persisted { ticket }, ctx);
            }
            Err(error) => {
                // If that was fatal, the process ends. If the write was refused (the disk is full), this life of the
                // group is over all the same: the next one goes on from what the log really holds.
                tracing::error!(group = %self.spec.group, %error, "the log did not take a write");
                ctx.stop();
            }
        }
    }
}
