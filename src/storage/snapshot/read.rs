//! Reading a snapshot, to restore from it or to send it.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, CHUNK_HEADER, FOOTER, Summary};
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::entry::SnapshotMeta;
use crate::storage::disk::Disk;
use crate::storage::error::StorageError;

/// A complete snapshot, open for reading.
pub struct SnapshotReader {
    disk: Arc<dyn Disk>,
    mark: SnapshotMark,
    /// Offset and stored length of every chunk.
    chunks: Vec<(u64, usize)>,
}

impl SnapshotReader {
    pub(super) fn open(disk: Arc<dyn Disk>, mark: &SnapshotMark) -> Result<SnapshotReader, StorageError> {
        let mut reader = SnapshotReader { disk, mark: mark.clone(), chunks: Vec::new() };
        let header = format::encode_header(&mark.meta);
        let found = reader.bytes(0, header.len())?;
        if found != header {
            let reason = format!(
                "expected the header of {} at {}, found {}",
                mark.meta.group,
                mark.meta.last,
                format::describe_header(&found)
            );
            return Err(reader.damaged(0, reason));
        }
        let mut summary = Summary::new(&header);
        let mut offset = header.len() as u64;
        loop {
            let head = reader.bytes(offset, CHUNK_HEADER)?;
            let Some(length) = format::chunk_length(&head) else { break };
            summary.add(&head);
            reader.chunks.push((offset, CHUNK_HEADER + length));
            offset += (CHUNK_HEADER + length) as u64;
        }
        let footer = reader.bytes(offset, FOOTER)?;
        if footer != summary.encode() || summary.digest() != mark.digest {
            let reason =
                format!("the footer, the chunks and the digest {:08x} in the log do not agree", mark.digest);
            return Err(reader.damaged(offset, reason));
        }
        Ok(reader)
    }

    /// What the snapshot stands for.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.mark.meta
    }

    /// Number of chunks, at least 1.
    pub fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("chunks are numbered in 32 bits")
    }

    /// The data of a chunk, verified.
    ///
    /// # Errors
    /// `Damaged` if it does not verify; `Gone` if the file was deleted; else `Failed`.
    ///
    /// # Panics
    /// If there is no chunk of this number.
    pub fn chunk(&self, number: u32) -> Result<Bytes, StorageError> {
        Ok(self.stored_chunk(number)?.slice(CHUNK_HEADER..))
    }

    /// A chunk as it is stored, with its checksum, verified: what a leader sends, and [`super::Incoming::store`] takes.
    ///
    /// # Errors
    /// As [`SnapshotReader::chunk`].
    ///
    /// # Panics
    /// If there is no chunk of this number.
    pub fn stored_chunk(&self, number: u32) -> Result<Bytes, StorageError> {
        let (offset, length) = self.chunks[number as usize];
        let stored = self.bytes(offset, length)?;
        match format::verify_chunk(&stored, number) {
            Ok(_) => Ok(Bytes::from(stored)),
            Err(reason) => Err(self.damaged(offset, format!("chunk {number}: {reason}"))),
        }
    }

    fn bytes(&self, offset: u64, length: usize) -> Result<Vec<u8>, StorageError> {
        let mut buffer = vec![0; length];
        match self.disk.read(&self.mark.name, offset, &mut buffer) {
            Ok(()) => Ok(buffer),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(self.damaged(offset, "the file ends here, too early".to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(StorageError::Gone { file: self.mark.name.clone() })
            }
            Err(error) => Err(StorageError::failed("read", &self.mark.name, &error)),
        }
    }

    fn damaged(&self, offset: u64, reason: String) -> StorageError {
        StorageError::damaged(&self.mark.name, offset, reason)
    }
}
