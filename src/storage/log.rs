//! The write-ahead log.

use std::sync::Arc;

use super::batch::{Batch, Recovered, RecoveredGroup};
use super::disk::Disk;
use super::error::{OpenError, StorageError};
use crate::logic::ids::{GroupId, NodeId};

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The node whose log it is; a log of another node is refused.
    pub node: NodeId,
    /// Length of a segment file in bytes.
    pub segment_bytes: u64,
}

impl LogOptions {
    /// The defaults for a node.
    pub fn new(node: NodeId) -> Self {
        LogOptions { node, segment_bytes: 64 << 20 }
    }
}

/// The log of a node: synchronous, one owner, no threads.
pub struct Log {}

impl Log {
    /// Opens.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(_disk: Arc<dyn Disk>, _options: LogOptions) -> Result<(Log, Recovered), OpenError> {
        unimplemented!()
    }

    /// Writes all batches as one frame; durable on return.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn append(&mut self, _batches: &[Batch]) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Collects garbage and prepares spare segments. To be called after appends.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn maintain(&mut self) -> Result<(), StorageError> {
        unimplemented!()
    }

    /// Reads the state of a group back from the files.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn reload(&self, _group: GroupId) -> Result<RecoveredGroup, StorageError> {
        unimplemented!()
    }

    /// Groups that keep old segments alive and should take a snapshot.
    pub fn heavy_groups(&self) -> &[GroupId] {
        unimplemented!()
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        unimplemented!()
    }
}
