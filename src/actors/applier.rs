//! The applier of a group: the replicated store, and the questions to it.

use std::collections::{BTreeMap, VecDeque};

use actix::prelude::*;

use super::background::Background;
use super::supervision::Port;
use crate::logic::ids::{GroupId, Index, LogPosition};
use crate::logic::kv::command::{Outcome, Query, Reply};
use crate::logic::kv::{Machine, Restorer};
use crate::logic::raft::entry::{Entry, Payload, SnapshotMark, SnapshotMeta};
use crate::logic::raft::membership::Membership;
use crate::messages::group::{
    Answers, Applied, ApplierStatus, Committed, Install, ObserveApplier, Queries, SnapshotTaken,
    TakeSnapshot, TakenSnapshot,
};
use crate::storage::{SnapshotStore, StorageError};

/// Entries applied before other actors of the thread get their turn: a restart may bring hundreds of thousands.
const APPLY_SLICE: usize = 1024;

/// Bytes of answers handed over before other actors get their turn: a thousand questions for everything must neither
/// be in memory at once nor keep the thread, and connections must come to send before more is put into their queues.
const ANSWER_SLICE: usize = 1 << 20;

/// What an applier is given.
#[derive(Clone)]
pub struct ApplierSpec {
    /// The group.
    pub group: GroupId,
    /// The KV server.
    pub applied: Port<Applied>,
    /// The KV server.
    pub answers: Port<Answers>,
    /// The Raft peer.
    pub taken: Port<SnapshotTaken>,
    /// Where snapshots are.
    pub store: SnapshotStore,
    /// The thread that writes snapshots.
    pub writer: Background,
    /// Bytes of a snapshot's chunk.
    pub chunk_bytes: usize,
}

/// The state that an applier starts from.
pub struct Restored {
    /// The store.
    pub machine: Machine,
    /// What is applied.
    pub last: LogPosition,
    /// The membership in force there.
    pub membership: Membership,
}

impl Restored {
    /// Reads a snapshot; blocks. `None`: the empty store.
    ///
    /// # Errors
    /// A sentence, when the snapshot cannot be read.
    pub fn read(
        group: GroupId,
        store: &SnapshotStore,
        mark: Option<&SnapshotMark>,
        bootstrap: Membership,
    ) -> Result<Self, String> {
        let Some(mark) = mark else {
            return Ok(Restored {
                machine: Machine::new(group),
                last: LogPosition::default(),
                membership: bootstrap,
            });
        };
        let reader = store.read(mark).map_err(|error| error.to_string())?;
        let mut restorer = Restorer::new(group);
        for number in 0..reader.chunk_count() {
            let chunk = reader.chunk(number).map_err(|error| error.to_string())?;
            restorer.chunk(&chunk).map_err(|error| error.to_string())?;
        }
        let machine = restorer.finish().map_err(|error| error.to_string())?;
        Ok(Restored { machine, last: mark.meta.last, membership: mark.meta.membership.clone() })
    }
}

/// The applier of a group.
pub struct Applier {
    spec: ApplierSpec,
    state: Restored,
    queue: VecDeque<Entry>,
    report_upto: Index,
    waiting: BTreeMap<Index, Vec<Queries>>,
    /// Batches that may be answered, the first perhaps in part already: number, and what is left.
    due: VecDeque<(u64, std::vec::IntoIter<Query>)>,
    applying: bool,
    answering: bool,
    installing: bool,
}

/// To itself: the store that a snapshot of the leader's was read into.
#[derive(Message)]
#[rtype(result = "()")]
struct Installed(Result<Restored, String>);

impl Applier {
    /// An applier over a restored state.
    pub fn new(spec: ApplierSpec, state: Restored) -> Self {
        Applier {
            spec,
            state,
            queue: VecDeque::new(),
            report_upto: 0,
            waiting: BTreeMap::new(),
            due: VecDeque::new(),
            applying: false,
            answering: false,
            installing: false,
        }
    }

    /// Applies a slice of the queue, reports it, and comes back for the rest after the other actors.
    fn apply_slice(&mut self, ctx: &mut Context<Self>) {
        self.applying = false;
        if self.installing {
            return;
        }
        let mut outcomes = Vec::new();
        for _ in 0..APPLY_SLICE {
            let Some(entry) = self.queue.pop_front() else {
                break;
            };
            let position = entry.position();
            if position.index <= self.state.last.index {
                // A snapshot that was installed meanwhile covers it.
                continue;
            }
            let outcome = self.apply(entry);
            if position.index <= self.report_upto {
                outcomes.push((position, outcome));
            }
        }
        self.report(outcomes);
        self.answer_due(ctx);
        if !self.queue.is_empty() {
            self.continue_later(ctx);
        }
    }

    fn continue_later(&mut self, ctx: &mut Context<Self>) {
        if !self.applying {
            self.applying = true;
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.spawn(turn.map(|(), applier, ctx| applier.apply_slice(ctx)));
        }
    }

    fn apply(&mut self, entry: Entry) -> Outcome {
        let expected = self.state.last.index + 1;
        assert_eq!(entry.index, expected, "committed entries arrive in index order, without a gap");
        self.state.last = entry.position();
        match entry.payload {
            Payload::Command(encoded) => self.state.machine.apply(entry.index, &encoded),
            Payload::Noop => {
                self.state.machine.skip(entry.index);
                Ok(Reply::Done)
            }
            Payload::Membership(membership) => {
                self.state.machine.skip(entry.index);
                self.state.membership = membership;
                Ok(Reply::Done)
            }
        }
    }

    fn report(&self, outcomes: Vec<(LogPosition, Outcome)>) {
        let machine = &self.state.machine;
        let applied = Applied {
            outcomes,
            upto: self.state.last,
            time_ms: machine.time_ms(),
            next_deadline: machine.next_deadline(),
            stats: machine.stats(),
        };
        let _ = self.spec.applied.tell(applied);
    }

    fn answer_due(&mut self, ctx: &mut Context<Self>) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.state.last.index {
                break;
            }
            for queries in first.remove() {
                self.due.push_back((queries.id, queries.queries.into_iter()));
            }
        }
        if !self.answering {
            self.answer_slice(ctx);
        }
    }

    /// Answers a slice of what is due, and comes back for the rest after the other actors.
    fn answer_slice(&mut self, ctx: &mut Context<Self>) {
        self.answering = false;
        let mut bytes = 0;
        while bytes < ANSWER_SLICE
            && !self.installing
            && let Some((id, mut queries)) = self.due.pop_front()
        {
            let mut outcomes = Vec::with_capacity(queries.len());
            while bytes < ANSWER_SLICE
                && let Some(query) = queries.next()
            {
                let outcome = self.state.machine.query(&query);
                bytes += weight(&outcome);
                outcomes.push(outcome);
            }
            let _ = self.spec.answers.tell(Answers { id, outcomes });
            if queries.len() > 0 {
                // Those who asked for little need not wait for those who asked for much.
                self.due.push_back((id, queries));
            }
        }
        if !self.due.is_empty() && !self.installing {
            self.answering = true;
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.spawn(turn.map(|(), applier, ctx| applier.answer_slice(ctx)));
        }
    }

    /// Freezes the store, which costs next to nothing, and writes the frozen copy on another thread.
    fn take_snapshot(&self) {
        let frozen = self.state.machine.freeze();
        let meta = SnapshotMeta {
            group: self.spec.group,
            last: self.state.last,
            membership: self.state.membership.clone(),
        };
        let (store, taken, chunk_bytes) =
            (self.spec.store.clone(), self.spec.taken.clone(), self.spec.chunk_bytes);
        self.spec.writer.run(move || {
            let write = || -> Result<TakenSnapshot, StorageError> {
                let mut writer = store.create(meta)?;
                let mut bytes = 0;
                for chunk in frozen.chunks(chunk_bytes) {
                    bytes += chunk.len() as u64;
                    writer.push(&chunk)?;
                }
                Ok(TakenSnapshot { mark: writer.finish()?, bytes })
            };
            let result = write().map_err(|error| error.to_string());
            let _ = taken.tell(SnapshotTaken { result });
        });
    }

    /// Reads a snapshot of the leader's on another thread; meanwhile nothing is applied or answered.
    fn install(&mut self, snapshot: SnapshotMark, ctx: &mut Context<Self>) {
        self.installing = true;
        let (group, store) = (self.spec.group, self.spec.store.clone());
        let me = ctx.address();
        self.spec.writer.run(move || {
            me.do_send(Installed(Restored::read(group, &store, Some(&snapshot), Membership::default())));
        });
    }
}

/// What an answer takes in memory, roughly, and what a connection has to send.
fn weight(outcome: &Outcome) -> usize {
    const PAIR: usize = 128;
    match outcome {
        Ok(Reply::Value { value, .. }) => value.len(),
        Ok(Reply::Pairs { pairs, .. }) => {
            pairs.iter().map(|pair| PAIR + pair.key.len() + pair.value.len()).sum()
        }
        _ => 0,
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.report(Vec::new());
    }
}

impl Handler<Committed> for Applier {
    type Result = ();

    fn handle(&mut self, committed: Committed, ctx: &mut Self::Context) {
        if let Some(last) = committed.entries.last().filter(|_| committed.report) {
            self.report_upto = last.index;
        }
        self.queue.extend(committed.entries);
        if !self.applying {
            self.apply_slice(ctx);
        }
    }
}

impl Handler<Queries> for Applier {
    type Result = ();

    fn handle(&mut self, queries: Queries, ctx: &mut Self::Context) {
        if queries.index <= self.state.last.index && !self.installing {
            self.due.push_back((queries.id, queries.queries.into_iter()));
            self.answer_due(ctx);
        } else {
            self.waiting.entry(queries.index).or_default().push(queries);
        }
    }
}

impl Handler<TakeSnapshot> for Applier {
    type Result = ();

    fn handle(&mut self, _: TakeSnapshot, _: &mut Self::Context) {
        if self.installing {
            let result = Err("a snapshot of the leader's is being installed".to_owned());
            let _ = self.spec.taken.tell(SnapshotTaken { result });
        } else {
            self.take_snapshot();
        }
    }
}

impl Handler<Install> for Applier {
    type Result = ();

    fn handle(&mut self, install: Install, ctx: &mut Self::Context) {
        self.install(install.snapshot, ctx);
    }
}

impl Handler<Installed> for Applier {
    type Result = ();

    fn handle(&mut self, installed: Installed, ctx: &mut Self::Context) {
        match installed.0 {
            Ok(state) => {
                self.installing = false;
                let before = std::mem::replace(&mut self.state, state);
                // A large store takes a while to drop.
                self.spec.writer.run(move || drop(before));
                self.apply_slice(ctx);
            }
            // The file was verified when it was received. Whatever it is, this life cannot go on without it.
            Err(error) => panic!("an installed snapshot cannot be read: {error}"),
        }
    }
}

impl Handler<ObserveApplier> for Applier {
    type Result = ApplierStatus;

    fn handle(&mut self, _: ObserveApplier, _: &mut Self::Context) -> ApplierStatus {
        let machine = &self.state.machine;
        ApplierStatus {
            applied: self.state.last.index,
            stats: machine.stats(),
            time_ms: machine.time_ms(),
            hash: machine.hash().to_string(),
        }
    }
}
