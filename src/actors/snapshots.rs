//! The snapshot desk of a group: chunks on their way in and out, on a thread that may block.

use std::sync::{Arc, Mutex, PoisonError};

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
#[derive(Default)]
struct Open {
    outgoing: Option<(SnapshotMark, SnapshotReader)>,
    incoming: Option<(StoreKey, Incoming)>,
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
        SnapshotDesk { store, thread, read, stored, open: Arc::default() }
    }

    /// Reads a chunk of the snapshot `newest` for a follower.
    pub(crate) fn read(&self, life: u64, wanted: ChunkWanted, newest: Option<SnapshotMark>) {
        let desk = self.clone();
        self.thread.run(move || {
            let input = desk.read_now(wanted, newest);
            let _ = desk.read.tell(ChunkRead { life, input });
        });
    }

    fn read_now(&self, wanted: ChunkWanted, newest: Option<SnapshotMark>) -> Input {
        let unavailable = Input::ChunkUnavailable { to: wanted.to, snapshot: wanted.snapshot };
        let Some(mark) = newest.filter(|mark| mark.meta.last == wanted.snapshot) else {
            return unavailable;
        };
        match self.read_chunk(&mark, wanted.number) {
            Ok((data, last)) => {
                Input::ChunkRead { to: wanted.to, meta: mark.meta, number: wanted.number, last, data }
            }
            Err(error) => {
                tracing::error!(snapshot = mark.name, %error, "a chunk cannot be sent");
                unavailable
            }
        }
    }

    fn read_chunk(&self, mark: &SnapshotMark, number: u32) -> Result<(bytes::Bytes, bool), StorageError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.outgoing.as_ref().is_none_or(|(opened, _)| opened != mark) {
            open.outgoing = Some((mark.clone(), self.store.read(mark)?));
        }
        let (_, reader) = open.outgoing.as_ref().expect("it was opened just now");
        Ok((reader.stored_chunk(number)?, number + 1 >= reader.chunk_count()))
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
        if chunk.number == 0 || open.incoming.as_ref().is_none_or(|(opened, _)| *opened != key) {
            open.incoming = Some((key, self.store.receive(chunk.meta)?));
        }
        let (_, incoming) = open.incoming.as_mut().expect("it was opened just now");
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
