//! Receiving a snapshot from the leader, chunk by chunk.

use std::sync::Arc;

use super::format::{self, CHUNK_HEADER, Summary};
use super::publish;
use super::write::SYNC_EVERY;
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::entry::SnapshotMeta;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;

/// A snapshot being received. Dropping it keeps what was stored, for a later attempt.
pub struct Incoming {
    disk: Arc<dyn Disk>,
    meta: SnapshotMeta,
    name: String,
    offset: u64,
    unsynced: u64,
    summary: Summary,
    complete: bool,
}

impl Incoming {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        meta: SnapshotMeta,
        name: String,
    ) -> Result<Incoming, StorageError> {
        let header = format::encode_header(&meta);
        let (offset, summary) = (header.len() as u64, Summary::new(&header));
        let mut incoming = Incoming { disk, meta, name, offset, unsynced: 0, summary, complete: false };
        if incoming.disk.size(&incoming.name).is_ok() {
            let mut found = vec![0; header.len()];
            let read = incoming.disk.read(&incoming.name, 0, &mut found);
            if read.is_ok() && found == header {
                incoming.resume();
                return Ok(incoming);
            }
            let failed = |error| StorageError::failed("delete", &incoming.name, &error);
            incoming.disk.remove(&incoming.name).map_err(failed)?;
        }
        let of_write = |error| StorageError::of_write("create", &incoming.name, offset, &error);
        incoming.disk.create(&incoming.name).map_err(of_write)?;
        incoming.disk.write(&incoming.name, 0, &header).map_err(of_write)?;
        Ok(incoming)
    }

    /// Takes over the chunks that an earlier attempt stored, as far as they verify. All but the last of them, since the
    /// file does not say whether that was the last of the snapshot: the sender has to say it again.
    fn resume(&mut self) {
        let mut stored = Vec::new();
        let mut before = None;
        while self.stored_at(self.offset, &mut stored)
            && format::verify_chunk(&stored, self.summary.count).is_ok()
        {
            before = Some((self.offset, self.summary.clone()));
            self.summary.add(&stored[..CHUNK_HEADER]);
            self.offset += stored.len() as u64;
        }
        if let Some((offset, summary)) = before {
            (self.offset, self.summary) = (offset, summary);
        }
    }

    /// Reads what may be a stored chunk.
    fn stored_at(&self, offset: u64, stored: &mut Vec<u8>) -> bool {
        stored.resize(CHUNK_HEADER, 0);
        if self.disk.read(&self.name, offset, stored).is_err() {
            return false;
        }
        let Some(length) = format::chunk_length(stored) else { return false };
        stored.resize(CHUNK_HEADER + length, 0);
        self.disk.read(&self.name, offset, stored).is_ok()
    }

    /// What the snapshot will stand for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// Number of the chunk wanted next: the chunks below it are stored.
    pub fn next(&self) -> u32 {
        self.summary.count
    }

    /// Whether the last chunk is stored.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Stores a chunk in its stored form. A chunk other than the wanted one is ignored: it is late, or early.
    ///
    /// # Errors
    /// `BadChunk` if it does not verify, `Full` if there is no room: it may be sent again. Else `Failed`.
    pub fn store(&mut self, number: u32, data: &[u8], last: bool) -> Result<(), StorageError> {
        if number != self.next() || self.complete {
            return Ok(());
        }
        if let Err(reason) = format::verify_chunk(data, number) {
            return Err(StorageError::BadChunk(format!("chunk {number} of {}: {reason}", self.name)));
        }
        self.write(data)?;
        self.summary.add(&data[..CHUNK_HEADER]);
        self.complete = last;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let of_write = |error| StorageError::of_write("write", &self.name, bytes.len() as u64, &error);
        self.disk.write(&self.name, self.offset, bytes).map_err(of_write)?;
        self.offset += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.disk.sync(&self.name).map_err(of_write)?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Completes the file; durable on return.
    ///
    /// # Errors
    /// As [`Incoming::store`].
    ///
    /// # Panics
    /// If chunks are missing.
    pub fn finish(mut self) -> Result<SnapshotMark, StorageError> {
        assert!(self.complete, "a snapshot is finished before its last chunk is stored");
        let footer = self.summary.encode();
        self.write(&footer)?;
        // An earlier attempt may have left more behind.
        let failed = |error| StorageError::failed("truncate", &self.name, &error);
        self.disk.truncate(&self.name, self.offset).map_err(failed)?;
        publish(&*self.disk, self.meta.clone(), &self.name, self.summary.digest())
    }
}
