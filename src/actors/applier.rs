//! The applier of a group: the replicated store, and the questions to it.

mod observing;
mod restore;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};

use actix::prelude::*;
use tokio::sync::oneshot;

pub use restore::{RestoreError, Restored};

use super::background::Background;
use super::supervision::Port;
use super::tap::{Seen, TapPoint};
use crate::logic::ids::{GroupId, Index, LogPosition};
use crate::logic::kv::Machine;
use crate::logic::kv::command::{LeaseId, Outcome, Query, Reply};
use crate::logic::raft::entry::{Entry, Payload, SnapshotMark, SnapshotMeta};
use crate::logic::raft::membership::Membership;
use crate::messages::group::{
    Answers, Applied, ApplierStatus, Committed, Install, Queries, SnapshotTaken, TakeSnapshot, TakenSnapshot,
};
use crate::storage::{SnapshotStore, StorageError};

/// Entries applied before other actors of the thread get their turn: a restart may bring hundreds of thousands.
const APPLY_SLICE: usize = 1024;

/// What those may cost together, as [`Machine::effort`] counts it, but one always passes: an append to a long value
/// takes milliseconds, and a client may have a thousand of them under way.
const APPLY_EFFORT: u64 = 1 << 20;

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
    /// The thread that reads snapshots: it is not held up by the rate at which they are written.
    pub reader: Background,
    /// Bytes of a snapshot's chunk.
    pub chunk_bytes: usize,
    /// Who watches.
    pub tap: TapPoint,
}

/// The applier of a group.
pub struct Applier {
    spec: ApplierSpec,
    state: Restored,
    queue: VecDeque<Entry>,
    report_upto: Index,
    waiting: BTreeMap<Index, Vec<Queries>>,
    /// Questions whose index is applied: who asked, and what is not answered yet.
    due: VecDeque<(u64, std::vec::IntoIter<Query>)>,
    /// Whether it comes back for the rest.
    answering: bool,
    applying: bool,
    /// Snapshots of the leader's that are being read; entries go on behind the last of them.
    installing: usize,
    /// Who asked for the status since the one under way was begun.
    observers: Vec<oneshot::Sender<ApplierStatus>>,
    /// Whether there is one under way.
    observing: bool,
}

/// To itself: the store that a snapshot of the leader's was read into.
#[derive(Message)]
#[rtype(result = "()")]
struct Installed(Result<Restored, RestoreError>);

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
            answering: false,
            applying: false,
            installing: 0,
            observers: Vec::new(),
            observing: false,
        }
    }

    /// Applies a slice of the queue, reports it, and comes back for the rest after the other actors.
    fn apply_slice(&mut self, ctx: &mut Context<Self>) {
        self.applying = false;
        if self.installing > 0 {
            return;
        }
        let (mut outcomes, mut granted) = (Vec::new(), Vec::new());
        let (mut entries, mut effort) = (0, 0);
        while entries < APPLY_SLICE
            && effort < APPLY_EFFORT
            && let Some(entry) = self.queue.pop_front()
        {
            entries += 1;
            let position = entry.position();
            let outcome = self.apply(entry);
            effort += self.state.machine.effort();
            granted.extend_from_slice(self.state.machine.granted());
            if position.index <= self.report_upto {
                outcomes.push((position, outcome));
            }
        }
        self.report(outcomes, granted);
        self.take_due(ctx);
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
        let position = entry.position();
        self.state.last = position;
        let outcome = match entry.payload {
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
        };
        let hash = || self.state.machine.hash();
        self.spec.tap.show(self.spec.group, || Seen::Applied { position, hash: hash() });
        outcome
    }

    fn show_loaded(&self) {
        let Restored { machine, last, .. } = &self.state;
        self.spec.tap.show(self.spec.group, || Seen::Loaded { last: *last, hash: machine.hash() });
    }

    fn report(&self, outcomes: Vec<(LogPosition, Outcome)>, granted: Vec<LeaseId>) {
        let machine = &self.state.machine;
        let applied = Applied {
            outcomes,
            upto: self.state.last,
            time_ms: machine.time_ms(),
            next_deadline: machine.next_deadline(),
            stats: machine.stats(),
            granted,
            places: machine.places(),
        };
        let _ = self.spec.applied.tell(applied);
    }

    fn take_due(&mut self, ctx: &mut Context<Self>) {
        while let Some(first) = self.waiting.first_entry() {
            if *first.key() > self.state.last.index {
                break;
            }
            for Queries { id, queries, .. } in first.remove() {
                self.due.push_back((id, queries.into_iter()));
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
            && let Some((id, mut queries)) = self.due.pop_front()
        {
            let mut outcomes = Vec::with_capacity(queries.len());
            while bytes < ANSWER_SLICE
                && let Some(query) = queries.next()
            {
                let (outcome, passed) = self.state.machine.look_up(&query);
                bytes += weight(&outcome, passed);
                outcomes.push(outcome);
            }
            let _ = self.spec.answers.tell(Answers { id, outcomes });
            if queries.len() > 0 {
                // Those who asked for little need not wait for those who asked for much.
                self.due.push_back((id, queries));
            }
        }
        if !self.due.is_empty() {
            self.answering = true;
            let turn = tokio::task::yield_now().into_actor(self);
            ctx.spawn(turn.map(|(), applier, ctx| applier.answer_slice(ctx)));
        }
    }

    /// Freezes the store, which costs next to nothing, and writes the frozen copy on another thread.
    fn take_snapshot(&self, life: u64) {
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
            // Whatever happens, the Raft peer must hear of it: until then it asks for no other.
            let result = catch_unwind(AssertUnwindSafe(write))
                .map_err(|_| "writing it panicked".to_owned())
                .and_then(|result| result.map_err(|error| error.to_string()));
            let _ = taken.tell(SnapshotTaken { life, result });
        });
    }

    /// Reads a snapshot of the leader's on another thread; meanwhile nothing is applied or answered. What is queued is
    /// in it, and the Raft peer has let go of that.
    fn install(&mut self, snapshot: SnapshotMark, ctx: &mut Context<Self>) {
        self.installing += 1;
        let covered = std::mem::take(&mut self.queue);
        self.spec.writer.run(move || drop(covered));
        let (group, store) = (self.spec.group, self.spec.store.clone());
        let me = ctx.address();
        self.spec.reader.run(move || {
            me.do_send(Installed(Restored::read(group, &store, Some(&snapshot), Membership::default())));
        });
    }
}

/// What an answer takes in memory, roughly, what a connection has to send, and what it took to find; `passed`: records
/// that were looked at and left out.
fn weight(outcome: &Outcome, passed: usize) -> usize {
    const ANY: usize = 128;
    const PAIR: usize = 128;
    /// Counting those who wait for a lock means looking at each.
    const WAITING: usize = 32;
    const PASSED: usize = 32;
    let more = match outcome {
        Ok(Reply::Value { value, .. }) => value.len(),
        Ok(Reply::Pairs { pairs, .. }) => {
            pairs.iter().map(|pair| PAIR + pair.key.len() + pair.value.len()).sum()
        }
        Ok(Reply::Lock { waiting, .. }) => usize::try_from(*waiting).unwrap_or(usize::MAX) * WAITING,
        _ => 0,
    };
    ANY + more + passed * PASSED
}

impl Drop for Applier {
    /// A large store takes a while to drop, and the next life waits for the end of this one.
    fn drop(&mut self) {
        let empty = Machine::new(self.spec.group);
        let machine = std::mem::replace(&mut self.state.machine, empty);
        let queue = std::mem::take(&mut self.queue);
        self.spec.writer.run(move || drop((machine, queue)));
    }
}

impl Actor for Applier {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.show_loaded();
        self.report(Vec::new(), Vec::new());
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
        self.waiting.entry(queries.index).or_default().push(queries);
        if self.installing == 0 {
            self.take_due(ctx);
        }
    }
}

impl Handler<TakeSnapshot> for Applier {
    type Result = ();

    fn handle(&mut self, TakeSnapshot { life }: TakeSnapshot, _: &mut Self::Context) {
        if self.installing > 0 {
            let result = Err("a snapshot of the leader's is being installed".to_owned());
            let _ = self.spec.taken.tell(SnapshotTaken { life, result });
        } else {
            self.take_snapshot(life);
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
        self.installing -= 1;
        match installed.0 {
            Ok(state) => {
                let before = std::mem::replace(&mut self.state, state);
                self.show_loaded();
                // A large store takes a while to drop.
                self.spec.writer.run(move || drop(before));
                self.apply_slice(ctx);
            }
            // A later one has replaced it, and perhaps its file.
            Err(_) if self.installing > 0 => {}
            // The file was verified when it was received. Whatever it is, this life cannot go on without it.
            Err(error) => panic!("an installed snapshot cannot be read: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::kv::command::{Change, Command, Expect, Lifetime, LogCommand};
    use crate::storage::SimDisk;
    use bytes::Bytes;
    use std::sync::Arc;

    /// Plays the KV server and the Raft peer: notes what it is told.
    #[derive(Default)]
    struct Others {
        upto: Index,
        answered: Vec<usize>,
    }

    impl Actor for Others {
        type Context = Context<Self>;
    }

    impl Handler<Applied> for Others {
        type Result = ();
        fn handle(&mut self, applied: Applied, _: &mut Self::Context) {
            self.upto = applied.upto.index;
        }
    }

    impl Handler<Answers> for Others {
        type Result = ();
        fn handle(&mut self, answers: Answers, _: &mut Self::Context) {
            self.answered.push(answers.outcomes.len());
        }
    }

    impl Handler<SnapshotTaken> for Others {
        type Result = ();
        fn handle(&mut self, _: SnapshotTaken, _: &mut Self::Context) {}
    }

    #[derive(Message)]
    #[rtype(result = "(Index, Vec<usize>)")]
    struct Heard;

    impl Handler<Heard> for Others {
        type Result = MessageResult<Heard>;
        fn handle(&mut self, _: Heard, _: &mut Self::Context) -> Self::Result {
            MessageResult((self.upto, self.answered.clone()))
        }
    }

    const GROUP: GroupId = GroupId(1);

    fn put(index: Index) -> Entry {
        let (key, value) = (Bytes::from(format!("{index:08}")), Bytes::from_static(b"v"));
        let change = Change::Put { key, value, expect: Expect::Any, lifetime: Lifetime::Forever };
        let command = LogCommand { time_ms: 0, stamp: None, command: Command::Change(change) };
        Entry { index, term: 1, payload: Payload::Command(command.encode()) }
    }

    fn rig() -> (Applier, Addr<Others>) {
        let store = SnapshotStore::open(Arc::new(SimDisk::new(1)), None).expect("an empty disk");
        let others = Others::default().start();
        let spec = ApplierSpec {
            group: GROUP,
            applied: others.clone().recipient().into(),
            answers: others.clone().recipient().into(),
            taken: others.clone().recipient().into(),
            store: store.clone(),
            writer: Background::start("writer").expect("a thread"),
            reader: Background::start("reader").expect("a thread"),
            chunk_bytes: 1000,
            tap: TapPoint::default(),
        };
        let state = Restored::read(GROUP, &store, None, Membership::default()).expect("the empty store");
        (Applier::new(spec, state), others)
    }

    /// A snapshot of a store to which so many entries were applied.
    fn snapshot(store: &SnapshotStore, entries: Index) -> SnapshotMark {
        let mut machine = Machine::new(GROUP);
        (1..=entries).for_each(|index| machine.skip(index));
        let last = LogPosition { index: entries, term: 1 };
        let meta = SnapshotMeta { group: GROUP, last, membership: Membership::default() };
        let mut writer = store.create(meta).expect("room");
        machine.freeze().chunks(1000).for_each(|chunk| writer.push(&chunk).expect("room"));
        writer.finish().expect("room")
    }

    #[test]
    fn a_second_snapshot_may_come_while_the_first_is_being_read() {
        System::new().block_on(async {
            let (applier, others) = rig();
            let store = applier.spec.store.clone();
            let applier = applier.start();
            for index in [100, 200] {
                applier.do_send(Install { snapshot: snapshot(&store, index) });
            }
            applier.do_send(Committed { entries: vec![put(201)], report: false });
            while others.send(Heard).await.expect("it runs").0 < 201 {
                assert!(applier.connected(), "the applier panicked");
                tokio::task::yield_now().await;
            }
        });
    }

    /// Reading one takes a while, and there may be several.
    #[test]
    fn what_is_queued_before_a_snapshot_comes_is_not_kept_until_it_is_read() {
        System::new().block_on(async {
            let (applier, _others) = rig();
            let ApplierSpec { store, reader, writer, .. } = applier.spec.clone();
            let (go_on, held) = std::sync::mpsc::channel::<()>();
            reader.run(move || held.recv().unwrap_or_default());
            let applier = applier.start();
            let command = Bytes::from(vec![0; 100]);
            let entry = Entry { index: 101, term: 1, payload: Payload::Command(command.clone()) };
            applier.do_send(Install { snapshot: snapshot(&store, 100) });
            applier.do_send(Committed { entries: vec![entry], report: false });
            applier.send(Install { snapshot: snapshot(&store, 200) }).await.expect("it runs");
            let (swept, done) = oneshot::channel();
            writer.run(move || swept.send(()).expect("it waits"));
            done.await.expect("the writer runs");
            assert!(command.is_unique());
            drop(go_on);
        });
    }

    #[test]
    fn long_ranges_are_answered_in_slices() {
        const KEYS: u64 = 10_000;
        System::new().block_on(async {
            let (applier, others) = rig();
            let applier = applier.start();
            applier.do_send(Committed { entries: (1..=KEYS).map(put).collect(), report: false });
            let (prefix, after) = (Bytes::new(), None);
            let all = Query::Prefix { prefix, after, max_keys: 0, max_bytes: 0, keys_only: true };
            applier.do_send(Queries { id: 7, index: KEYS, queries: vec![all; 5] });
            loop {
                let answered = others.send(Heard).await.expect("it runs").1;
                assert!(answered.iter().all(|count| *count <= 2), "{answered:?}");
                if answered.iter().sum::<usize>() == 5 {
                    break;
                }
                assert!(applier.connected(), "the applier panicked");
                tokio::task::yield_now().await;
            }
        });
    }
}
