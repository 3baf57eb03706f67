//! What survives a crash.

use bytes::Bytes;
use quorate::logic::ids::{Index, LogPosition};
use quorate::logic::raft::entry::{Entry, HardState, Payload, SnapshotMeta};
use quorate::logic::raft::{Input, Persist, StoreChunk};

/// The state machine of a node.
pub trait State: Clone + Default {
    /// A snapshot travels in pieces of so many bytes.
    const CHUNK_BYTES: usize;
    /// Applies the next entry.
    fn apply(&mut self, entry: &Entry);
    /// The last index applied.
    fn applied(&self) -> Index;
    /// Equal for equal states.
    fn digest(&self) -> u64;
    /// The whole state, as a snapshot holds it.
    fn bytes(&self) -> Vec<u8>;
    /// Reads what [`State::bytes`] wrote.
    fn from_bytes(bytes: &[u8]) -> Self;
}

/// A state machine whose state is a digest of all that it has applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub applied: Index,
    pub digest: u64,
}

impl State for Machine {
    const CHUNK_BYTES: usize = 4;

    fn apply(&mut self, entry: &Entry) {
        assert_eq!(entry.index, self.applied + 1, "entries are applied one by one");
        self.applied = entry.index;
        let mut mix = |byte: u8| self.digest = (self.digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        entry.term.to_le_bytes().into_iter().for_each(&mut mix);
        match &entry.payload {
            Payload::Noop => mix(0),
            Payload::Command(data) => data.iter().copied().for_each(mix),
            Payload::Membership(membership) => membership.to_bytes().into_iter().for_each(mix),
        }
    }

    fn applied(&self) -> Index {
        self.applied
    }

    fn digest(&self) -> u64 {
        self.digest
    }

    fn bytes(&self) -> Vec<u8> {
        [self.applied.to_le_bytes(), self.digest.to_le_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (applied, digest) = bytes.split_at(8);
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        Machine { applied: number(applied), digest: number(digest) }
    }
}

/// Something to be written, in order.
pub enum Write<S> {
    Persist(Persist),
    Chunk(StoreChunk),
    Snapshot(SnapshotMeta, S),
    Compact(LogPosition),
}

/// The disk of a node.
#[derive(Default)]
pub struct Disk<S> {
    pub hard_state: HardState,
    pub snapshot: Option<(SnapshotMeta, S)>,
    pub entries: Vec<Entry>,
    /// A snapshot on its way in: number of the transfer and the bytes so far.
    pub incoming: Option<(u64, Vec<u8>)>,
    /// The last snapshot that came in completely.
    pub received: Option<(SnapshotMeta, S)>,
}

impl<S: State> Disk<S> {
    /// Carries out a write and says what the replica is to be told.
    pub fn write(&mut self, write: Write<S>) -> Option<Input> {
        match write {
            Write::Persist(persist) => Some(self.persist(persist)),
            Write::Chunk(chunk) => Some(self.store_chunk(chunk)),
            Write::Snapshot(meta, machine) => {
                let position = meta.last;
                if self.snapshot.as_ref().is_none_or(|(newest, _)| newest.last.index < position.index) {
                    self.snapshot = Some((meta, machine));
                }
                Some(Input::SnapshotTaken { position })
            }
            Write::Compact(position) => {
                self.entries.retain(|entry| entry.index > position.index);
                None
            }
        }
    }

    fn persist(&mut self, persist: Persist) -> Input {
        if let Some(meta) = persist.snapshot {
            self.entries.clear();
            if self.snapshot.as_ref().is_none_or(|(current, _)| *current != meta) {
                let received = self.received.clone().expect("a snapshot was received");
                assert_eq!(received.0, meta, "another snapshot is to be installed than was received");
                self.snapshot = Some(received);
            }
        }
        if let Some(hard_state) = persist.hard_state {
            assert!(hard_state.term >= self.hard_state.term, "the stored term went back");
            let revoked = hard_state.term == self.hard_state.term
                && self.hard_state.vote.is_some()
                && hard_state.vote != self.hard_state.vote;
            assert!(!revoked, "a vote was changed within a term: {:?} to {hard_state:?}", self.hard_state);
            self.hard_state = hard_state;
        }
        if let Some(first) = persist.entries.first() {
            let first = first.index;
            self.entries.truncate(self.entries.partition_point(|entry| entry.index < first));
            let last = self.last_index();
            assert!(first <= last + 1, "a gap between {last} and {first} in the stored log");
            self.entries.extend(persist.entries);
        }
        Input::Persisted { ticket: persist.ticket }
    }

    fn last_index(&self) -> Index {
        let snapshot = self.snapshot.as_ref().map_or(0, |(meta, _)| meta.last.index);
        self.entries.last().map_or(snapshot, |entry| entry.index)
    }

    fn store_chunk(&mut self, chunk: StoreChunk) -> Input {
        let StoreChunk { transfer, meta, number, last, data } = chunk;
        if number == 0 {
            self.incoming = Some((transfer, Vec::new()));
        }
        let Some((current, bytes)) = &mut self.incoming else { return Input::SnapshotFailed { transfer } };
        assert_eq!(*current, transfer, "chunks of two transfers are mixed");
        assert_eq!(bytes.len(), number as usize * S::CHUNK_BYTES, "chunks come one by one");
        bytes.extend_from_slice(&data);
        if last {
            let machine = S::from_bytes(bytes);
            assert_eq!(machine.applied(), meta.last.index, "the snapshot is not what its description says");
            self.received = Some((meta, machine));
        }
        Input::ChunkStored { transfer, number }
    }

    /// A chunk of the newest snapshot, if that is the one asked for, and whether it is the last.
    pub fn read_chunk(&self, snapshot: LogPosition, number: u32) -> Option<(SnapshotMeta, Bytes, bool)> {
        let (meta, machine) = self.snapshot.as_ref().filter(|(meta, _)| meta.last == snapshot)?;
        let bytes = machine.bytes();
        let start = number as usize * S::CHUNK_BYTES;
        let end = bytes.len().min(start + S::CHUNK_BYTES);
        let data = bytes.get(start..end).filter(|data| !data.is_empty())?;
        Some((meta.clone(), Bytes::copy_from_slice(data), end == bytes.len()))
    }

    /// Whether that is the newest snapshot.
    pub fn has_snapshot(&self, last: LogPosition) -> bool {
        self.snapshot.as_ref().is_some_and(|(meta, _)| meta.last == last)
    }

    /// Whether the entry at `position` is here, itself or in a snapshot.
    pub fn holds(&self, position: LogPosition) -> bool {
        self.snapshot.as_ref().is_some_and(|(meta, _)| meta.last.index >= position.index)
            || self
                .entries
                .binary_search_by_key(&position.index, |entry| entry.index)
                .is_ok_and(|at| self.entries[at].term == position.term)
    }
}
