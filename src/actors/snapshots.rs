//! The snapshot desk of a group: chunks on their way in and out, on a thread that may block.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix::Message;

use super::background::Background;
use super::supervision::Port;
use crate::logic::raft::{ChunkWanted, Input, StoreChunk};
use crate::storage::{Incoming, SnapshotMark, SnapshotReader, SnapshotStore, StorageError};

/// The answer to a wanted chunk, ready for the core.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ChunkRead {
    /// Which life of the peer asked.
    pub life: u64,
    /// What to tell the core.
    pub input: Input,
}

/// What became of a chunk that was to be stored, ready for the core.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ChunkStored {
    /// Which life of the peer asked.
    pub life: u64,
    /// What to tell the core.
    pub input: Input,
    /// The snapshot, when this was its last chunk: the file is complete, durable and verified.
    pub complete: Option<SnapshotMark>,
}

/// Reads and writes chunks for one Raft peer, in the order in which it asks.
#[derive(Clone)]
pub struct SnapshotDesk {
    store: SnapshotStore,
    thread: Background,
    read: Port<ChunkRead>,
    stored: Port<ChunkStored>,
    open: Arc<Mutex<Open>>,
}

/// What is open at the moment; touched on the thread only.
struct Open {
    outgoing: Option<(SnapshotMark, SnapshotReader)>,
    incoming: Option<(StoreKey, Incoming)>,
    thread: Background,
}

impl Drop for Open {
    /// What is not received to its end is deleted, which may block.
    fn drop(&mut self) {
        if let Some(incoming) = self.incoming.take() {
            self.thread.run(move || drop(incoming));
        }
    }
}

/// Which transfer is on its way in, of which life of the peer.
type StoreKey = (u64, u64);

impl SnapshotDesk {
    /// A desk over `store` that reports to these ports.
    pub fn new(
        store: SnapshotStore,
        thread: Background,
        read: Port<ChunkRead>,
        stored: Port<ChunkStored>,
    ) -> Self {
        let open = Open { outgoing: None, incoming: None, thread: thread.clone() };
        SnapshotDesk { store, thread, read, stored, open: Arc::new(Mutex::new(open)) }
    }

    /// Reads a chunk of a snapshot for a follower; `None`: it is not kept any more.
    pub(crate) fn read(&self, life: u64, wanted: ChunkWanted, snapshot: Option<SnapshotMark>) {
        let desk = self.clone();
        self.thread.run(move || {
            if let Some(input) = desk.read_now(wanted, snapshot) {
                let _ = desk.read.tell(ChunkRead { life, input });
            }
        });
    }

    /// The answer to the core; `None`: none is needed.
    fn read_now(&self, wanted: ChunkWanted, snapshot: Option<SnapshotMark>) -> Option<Input> {
        let unavailable = Input::ChunkUnavailable { to: wanted.to, snapshot: wanted.snapshot };
        let Some(mark) = snapshot.filter(|mark| mark.meta.last == wanted.snapshot) else {
            return Some(unavailable);
        };
        match self.read_chunk(&mark, wanted.number) {
            Ok(Some((data, last))) => {
                Some(Input::ChunkRead { to: wanted.to, meta: mark.meta, number: wanted.number, last, data })
            }
            // It was asked for before it was known how many there are. The snapshot is not gone for that.
            Ok(None) => None,
            Err(error) => {
                tracing::error!(snapshot = mark.name, %error, "a chunk cannot be sent");
                Some(unavailable)
            }
        }
    }

    /// The chunk, and whether it is the last; `None` behind that.
    fn read_chunk(
        &self,
        mark: &SnapshotMark,
        number: u32,
    ) -> Result<Option<(bytes::Bytes, bool)>, StorageError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.outgoing.as_ref().is_none_or(|(opened, _)| opened != mark) {
            open.outgoing = Some((mark.clone(), self.store.read(mark)?));
        }
        let (_, reader) = open.outgoing.as_ref().expect("it was opened just now");
        if number >= reader.chunk_count() {
            return Ok(None);
        }
        Ok(Some((reader.stored_chunk(number)?, number + 1 == reader.chunk_count())))
    }

    /// Stores a chunk of a snapshot of the leader's.
    pub(crate) fn store(&self, life: u64, chunk: StoreChunk) {
        let desk = self.clone();
        self.thread.run(move || {
            let (transfer, number, snapshot) = (chunk.transfer, chunk.number, chunk.meta.last);
            let message = match desk.store_now(life, chunk) {
                Ok(complete) => {
                    ChunkStored { life, input: Input::ChunkStored { transfer, number }, complete }
                }
                Err(error) => {
                    tracing::warn!(%snapshot, number, %error, "a chunk of a snapshot was not stored");
                    desk.open.lock().unwrap_or_else(PoisonError::into_inner).incoming = None;
                    ChunkStored { life, input: Input::SnapshotFailed { transfer }, complete: None }
                }
            };
            let _ = desk.stored.tell(message);
        });
    }

    fn store_now(&self, life: u64, chunk: StoreChunk) -> Result<Option<SnapshotMark>, StorageError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (life, chunk.transfer);
        if chunk.number == 0 {
            // Its file goes before the new one comes, which may have the same name.
            open.incoming = None;
            open.incoming = Some((key, self.store.receive(chunk.meta)?));
        }
        let Some((_, incoming)) = open.incoming.as_mut().filter(|(opened, _)| *opened == key) else {
            // It was on its way here when that failed; the leader begins anew.
            return Err(StorageError::BadChunk("one before it was not stored".to_owned()));
        };
        incoming.store(chunk.number, &chunk.data, chunk.last)?;
        if !chunk.last {
            return Ok(None);
        }
        let (_, incoming) = open.incoming.take().expect("it is open");
        incoming.finish().map(Some)
    }

    /// Deletes what the durable snapshot `newest` makes superfluous.
    pub(crate) fn retain(&self, newest: SnapshotMark) {
        let desk = self.clone();
        self.thread.run(move || {
            desk.open.lock().unwrap_or_else(PoisonError::into_inner).outgoing = None;
            if let Err(error) = desk.store.retain(std::slice::from_ref(&newest)) {
                tracing::warn!(%error, "old snapshots were not deleted");
            }
        });
    }
}

/// Pause after a snapshot that could not be taken, and between those that are demanded: a disk that damages one may
/// damage them all.
const RETRY: Duration = Duration::from_secs(5);

/// When a group's next snapshot of its own state is due.
pub(crate) struct Schedule {
    after: u64,
    at_most: u64,
    /// Bytes in the log since the newest snapshot.
    log: u64,
    /// The same when the snapshot under way began.
    begun_at: u64,
    under_way: bool,
    demanded: bool,
    /// Size of the latest snapshot that was taken in this life.
    state: u64,
    not_before: Duration,
}

impl Schedule {
    /// Due when the log has grown by `after` bytes since the last one, and by as many as the state has, so that
    /// snapshots at most double what is written; but in any case at `at_most`, because the log is kept in memory.
    /// `log`: bytes since the snapshot that there is.
    pub(crate) fn new(after: u64, at_most: u64, log: u64) -> Self {
        Schedule {
            after,
            at_most,
            log,
            begun_at: 0,
            under_way: false,
            demanded: false,
            state: 0,
            not_before: Duration::ZERO,
        }
    }

    /// The log has grown.
    pub(crate) fn grown(&mut self, bytes: u64) {
        self.log += bytes;
    }

    /// One is needed, however little the log has grown. If there is one under way, that will do.
    pub(crate) fn demand(&mut self) {
        self.demanded = !self.under_way;
    }

    /// `pinned`: bytes of the node's log, when old segments of it are kept for this group alone. As much of that as
    /// there is state is worth a snapshot, too.
    pub(crate) fn is_due(&self, now: Duration, pinned: Option<u64>) -> bool {
        let enough = self.after.max(self.state).min(self.at_most);
        let in_the_way = pinned.is_some_and(|bytes| bytes >= self.state);
        let is_worth_it = self.demanded || (self.log > 0 && (self.log >= enough || in_the_way));
        !self.under_way && now >= self.not_before && is_worth_it
    }

    /// One was asked for.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.under_way = true;
        if std::mem::take(&mut self.demanded) {
            self.not_before = now + RETRY;
        }
        self.begun_at = self.log;
    }

    /// It was taken, and its state has so many bytes.
    pub(crate) fn taken(&mut self, state: u64) {
        self.under_way = false;
        self.state = state;
        self.log = self.log.saturating_sub(self.begun_at);
    }

    /// It was not taken. The log may have reached its limit and grow no more, so time decides about the next attempt.
    pub(crate) fn failed(&mut self, now: Duration) {
        self.under_way = false;
        self.not_before = now + RETRY;
    }

    /// A snapshot of the leader's has taken the place of the log.
    pub(crate) fn replaced(&mut self) {
        self.log = 0;
        self.begun_at = 0;
    }
}

#[cfg(test)]
mod tests {
    use actix::{Actor, Context, Handler};

    use super::*;
    use crate::actors::supervision::Slot;
    use crate::logic::ids::{GroupId, LogPosition, NodeId};
    use crate::logic::raft::entry::SnapshotMeta;
    use crate::logic::raft::membership::Membership;
    use crate::storage::SimDisk;

    const NOW: Duration = Duration::from_secs(100);

    struct Nobody;

    impl Actor for Nobody {
        type Context = Context<Self>;
    }

    impl Handler<ChunkRead> for Nobody {
        type Result = ();
        fn handle(&mut self, _: ChunkRead, _: &mut Self::Context) {}
    }

    impl Handler<ChunkStored> for Nobody {
        type Result = ();
        fn handle(&mut self, _: ChunkStored, _: &mut Self::Context) {}
    }

    /// The core does not know how many chunks there are before it was given the last one.
    #[test]
    fn a_chunk_behind_the_last_is_not_answered() {
        let store = SnapshotStore::open(Arc::new(SimDisk::new(1)), None).expect("an empty disk");
        let last = LogPosition { index: 5, term: 1 };
        let membership = Membership::of_voters([NodeId(1)]);
        let meta = SnapshotMeta { group: GroupId(1), last, membership };
        let mut writer = store.create(meta).expect("there is room");
        writer.push(b"the only chunk").expect("there is room");
        let mark = writer.finish().expect("there is room");
        let nobody = Slot::<Nobody>::new("nobody");
        let thread = Background::queue(|_| {});
        let desk = SnapshotDesk::new(store, thread, nobody.port(), nobody.port());
        let read =
            |number| desk.read_now(ChunkWanted { to: NodeId(2), snapshot: last, number }, Some(mark.clone()));
        assert!(matches!(read(0), Some(Input::ChunkRead { number: 0, last: true, .. })));
        assert!(read(1).is_none());
    }

    /// It was on its way to the thread when the one before it could not be stored.
    #[test]
    fn a_chunk_behind_one_that_failed_is_refused() {
        let store = SnapshotStore::open(Arc::new(SimDisk::new(1)), None).expect("an empty disk");
        let meta = SnapshotMeta {
            group: GroupId(1),
            last: LogPosition { index: 5, term: 1 },
            membership: Membership::of_voters([NodeId(1)]),
        };
        let nobody = Slot::<Nobody>::new("nobody");
        let desk = SnapshotDesk::new(store, Background::queue(|_| {}), nobody.port(), nobody.port());
        let chunk = |number, last| StoreChunk {
            transfer: 1,
            meta: meta.clone(),
            number,
            last,
            data: bytes::Bytes::from_static(b"not a chunk"),
        };
        assert!(matches!(desk.store_now(1, chunk(0, false)), Err(StorageError::BadChunk(_))));
        desk.open.lock().expect("no test panics with it").incoming = None;
        assert!(matches!(desk.store_now(1, chunk(1, true)), Err(StorageError::BadChunk(_))));
    }

    /// Both have the same name while they are received.
    #[test]
    fn a_transfer_that_begins_anew_keeps_its_file() {
        let (from, to) = (Arc::new(SimDisk::new(1)), Arc::new(SimDisk::new(2)));
        let meta = SnapshotMeta {
            group: GroupId(1),
            last: LogPosition { index: 5, term: 1 },
            membership: Membership::of_voters([NodeId(1)]),
        };
        let store = SnapshotStore::open(from, None).expect("an empty disk");
        let mut writer = store.create(meta.clone()).expect("there is room");
        writer.push(b"one").expect("there is room");
        writer.push(b"two").expect("there is room");
        let mark = writer.finish().expect("there is room");
        let reader = store.read(&mark).expect("it is complete");
        let nobody = Slot::<Nobody>::new("nobody");
        let store = SnapshotStore::open(to, None).expect("an empty disk");
        let desk = SnapshotDesk::new(store, Background::queue(|_| {}), nobody.port(), nobody.port());
        let chunk = |transfer, number| StoreChunk {
            transfer,
            meta: meta.clone(),
            number,
            last: number == 1,
            data: reader.stored_chunk(number).expect("verified"),
        };
        assert_eq!(desk.store_now(1, chunk(1, 0)).expect("good"), None);
        assert_eq!(desk.store_now(1, chunk(2, 0)).expect("good"), None);
        assert_eq!(desk.store_now(1, chunk(2, 1)).expect("good"), Some(mark));
    }

    #[test]
    fn as_much_log_as_state_but_not_more_than_memory_takes() {
        let mut schedule = Schedule::new(10, 1000, 0);
        schedule.grown(9);
        assert!(!schedule.is_due(NOW, None));
        schedule.grown(1);
        assert!(schedule.is_due(NOW, None));
        schedule.begin(NOW);
        schedule.grown(300);
        assert!(!schedule.is_due(NOW, None), "one at a time");
        schedule.taken(400);
        assert!(!schedule.is_due(NOW, None), "300 bytes of log are less than the state");
        schedule.grown(100);
        assert!(schedule.is_due(NOW, None));
        schedule.begin(NOW);
        schedule.taken(1 << 40);
        schedule.grown(999);
        assert!(!schedule.is_due(NOW, None));
        schedule.grown(1);
        assert!(schedule.is_due(NOW, None), "however large the state");
    }

    #[test]
    fn a_failure_is_followed_by_another_attempt_though_the_log_grows_no_more() {
        let mut schedule = Schedule::new(10, 1000, 10);
        assert!(schedule.is_due(NOW, None));
        schedule.begin(NOW);
        schedule.failed(NOW);
        assert!(!schedule.is_due(NOW, None));
        assert!(schedule.is_due(NOW + RETRY, None));
    }

    #[test]
    fn a_snapshot_that_is_demanded_needs_no_log_but_is_not_taken_without_a_pause() {
        let mut schedule = Schedule::new(10, 1000, 0);
        schedule.demand();
        assert!(schedule.is_due(NOW, None));
        schedule.begin(NOW);
        schedule.taken(500);
        assert!(!schedule.is_due(NOW + RETRY, None), "it was taken");
        schedule.demand();
        assert!(!schedule.is_due(NOW, None));
        assert!(schedule.is_due(NOW + RETRY, None));
    }

    #[test]
    fn old_segments_that_outgrow_the_state_are_worth_a_snapshot() {
        let mut schedule = Schedule::new(10, 1000, 10);
        schedule.begin(NOW);
        schedule.taken(500);
        assert!(!schedule.is_due(NOW, Some(600)), "nothing was written since the last one");
        schedule.grown(1);
        assert!(!schedule.is_due(NOW, Some(499)));
        assert!(schedule.is_due(NOW, Some(500)));
    }
}
