//! Snapshot files.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::SnapshotMark;
use super::disk::Disk;
use super::error::{OpenError, StorageError};
use crate::logic::raft::entry::SnapshotMeta;

/// The snapshots of a node: one directory for all groups.
#[derive(Clone)]
pub struct SnapshotStore {}

impl SnapshotStore {
    /// Opens the directory and removes what unfinished writers left.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(_disk: Arc<dyn Disk>, _bytes_per_second: Option<u64>) -> Result<SnapshotStore, OpenError> {
        unimplemented!()
    }

    /// Starts writing a snapshot.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn create(&self, _meta: SnapshotMeta) -> Result<SnapshotWriter, StorageError> {
        unimplemented!()
    }

    /// Opens a snapshot for reading.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn read(&self, _mark: &SnapshotMark) -> Result<SnapshotReader, StorageError> {
        unimplemented!()
    }

    /// Starts, or continues, receiving a snapshot.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn receive(&self, _meta: SnapshotMeta) -> Result<Incoming, StorageError> {
        unimplemented!()
    }

    /// Deletes snapshots of the groups of `marks` that are older than the two newest; call when marks are durable.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn retain(&self, _marks: &[SnapshotMark]) -> Result<(), StorageError> {
        unimplemented!()
    }
}

/// A snapshot being written.
pub struct SnapshotWriter {}

impl SnapshotWriter {
    /// Appends a chunk of at most 1 MiB.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn push(&mut self, _chunk: &[u8]) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Completes the file; durable on return.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn finish(self) -> Result<SnapshotMark, StorageError> {
        unimplemented!()
    }
}

/// A complete snapshot, open for reading.
pub struct SnapshotReader {}

impl SnapshotReader {
    /// Number of chunks.
    pub fn chunk_count(&self) -> u32 {
        unimplemented!()
    }

    /// The data of a chunk, verified.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn chunk(&self, _number: u32) -> Result<Bytes, StorageError> {
        unimplemented!()
    }

    /// A chunk as it is stored, with its checksum, verified: what a leader sends.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn stored_chunk(&self, _number: u32) -> Result<Bytes, StorageError> {
        unimplemented!()
    }
}

/// A snapshot being received.
pub struct Incoming {}

impl Incoming {
    /// Number of the chunk wanted next.
    pub fn next(&self) -> u32 {
        unimplemented!()
    }

    /// Stores a chunk in its stored form. A chunk other than the wanted one is ignored.
    ///
    /// # Errors
    /// `BadChunk` if it does not verify; else see [`StorageError`].
    pub fn store(&mut self, _number: u32, _data: &[u8], _last: bool) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Whether the last chunk is stored.
    pub fn is_complete(&self) -> bool {
        unimplemented!()
    }

    /// Completes the file; durable on return.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn finish(self) -> Result<SnapshotMark, StorageError> {
        unimplemented!()
    }
}
