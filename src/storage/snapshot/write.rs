//! Writing a snapshot of the own state.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{self, CHUNK_HEADER, MAX_CHUNK, Summary};
use super::{publish, stem};
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::entry::SnapshotMeta;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;

/// Bytes after which the file is synced. One large sync at the end would hold up the log for a tenth of a second.
pub(super) const SYNC_EVERY: u64 = 1 << 20;

/// A snapshot being written. Dropping it unfinished deletes the file.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    meta: SnapshotMeta,
    /// Name of the unfinished file; `None` once it has its final one.
    name: Option<String>,
    offset: u64,
    unsynced: u64,
    summary: Summary,
    buffer: Vec<u8>,
    bytes_per_second: Option<u64>,
    started: Instant,
}

impl SnapshotWriter {
    pub(super) fn create(
        disk: Arc<dyn Disk>,
        meta: SnapshotMeta,
        bytes_per_second: Option<u64>,
    ) -> Result<SnapshotWriter, StorageError> {
        let name = format!("{}.tmp", stem(&meta));
        // An earlier attempt that ended in a panic may have left its file.
        if disk.size(&name).is_ok() {
            disk.remove(&name).map_err(|error| StorageError::failed("delete", &name, &error))?;
        }
        let header = format::encode_header(&meta);
        let of_write = |error| StorageError::of_write("create", &name, header.len() as u64, &error);
        disk.create(&name).and_then(|()| disk.write(&name, 0, &header)).map_err(of_write)?;
        Ok(SnapshotWriter {
            disk,
            meta,
            name: Some(name),
            offset: header.len() as u64,
            unsynced: 0,
            summary: Summary::new(&header),
            buffer: Vec::new(),
            bytes_per_second,
            started: Instant::now(),
        })
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// `Full` if there is no room: the snapshot is to be given up, nothing else is affected. Else `Failed`.
    ///
    /// # Panics
    /// If the chunk is larger than 64 MiB.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), StorageError> {
        assert!(chunk.len() <= MAX_CHUNK, "a snapshot chunk is at most 64 MiB");
        self.buffer.clear();
        format::encode_chunk(&mut self.buffer, self.summary.count, chunk);
        self.summary.add(&self.buffer[..CHUNK_HEADER]);
        let stored = std::mem::take(&mut self.buffer);
        let result = self.write(&stored);
        self.buffer = stored;
        self.keep_to_rate();
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        let name = self.name.as_deref().expect("a writer that is not finished has its file");
        let of_write = |error| StorageError::of_write("write", name, bytes.len() as u64, &error);
        self.disk.write(name, self.offset, bytes).map_err(of_write)?;
        self.offset += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if self.unsynced >= SYNC_EVERY {
            self.disk.sync(name).map_err(of_write)?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// Waits as long as the file is ahead of the permitted rate.
    fn keep_to_rate(&self) {
        if let Some(rate) = self.bytes_per_second {
            let due = Duration::from_secs_f64(self.offset as f64 / rate.max(1) as f64);
            if let Some(wait) = due.checked_sub(self.started.elapsed()) {
                std::thread::sleep(wait);
            }
        }
    }

    /// Completes the file; durable on return. A snapshot without chunks gets an empty one, so that there is always a
    /// last chunk to send.
    ///
    /// # Errors
    /// As [`SnapshotWriter::push`].
    pub fn finish(mut self) -> Result<SnapshotMark, StorageError> {
        if self.summary.count == 0 {
            self.push(&[])?;
        }
        let footer = self.summary.encode();
        self.write(&footer)?;
        let name = self.name.as_deref().expect("a writer that is not finished has its file");
        let mark = publish(&*self.disk, self.meta.clone(), name, self.summary.digest())?;
        self.name = None;
        Ok(mark)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if let Some(name) = &self.name
            && let Err(error) = self.disk.remove(name)
        {
            tracing::warn!(%name, %error, "cannot delete an unfinished snapshot; the next start does");
        }
    }
}
