//! Receiving a snapshot from the leader, chunk by chunk.

use std::sync::Arc;

use super::format::{self, CHUNK_HEADER, Summary};
use super::publish;
use super::write::SYNC_EVERY;
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::entry::SnapshotMeta;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;
use crate::storage::segment::discard;

/// A snapshot being received. Dropping it unfinished deletes the file: it is never resumed.
pub struct Incoming {
    disk: Arc<dyn Disk>,
    meta: SnapshotMeta,
    name: String,
    /// The file has its final name.
    published: bool,
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
        let of_write = |name: &str, error| StorageError::of_write("create", name, offset, &error);
        disk.create(&name).map_err(|error| of_write(&name, error))?;
        let (unsynced, published, complete) = (0, false, false);
        let incoming = Incoming { disk, meta, name, published, offset, unsynced, summary, complete };
        incoming.disk.write(&incoming.name, 0, &header).map_err(|error| of_write(&incoming.name, error))?;
        Ok(incoming)
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
        let mark = publish(&*self.disk, self.meta.clone(), &self.name, self.summary.digest())?;
        self.published = true;
        Ok(mark)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = discard(&*self.disk, &self.name)
        {
            tracing::warn!(%error, "cannot delete a snapshot that was not received; the next start does");
        }
    }
}
