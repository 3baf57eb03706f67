//! The thread that writes the log.

use std::sync::Arc;

use super::batch::{Batch, Recovered, RecoveredGroup};
use super::disk::Disk;
use super::error::{OpenError, StorageError};
use super::log::LogOptions;
use crate::logic::ids::GroupId;

/// What is called on the log's thread once a batch is durable, or failed.
pub type Done = Box<dyn FnOnce(Result<(), StorageError>) + Send>;
/// What is called on the log's thread with the state of a group.
pub type Reloaded = Box<dyn FnOnce(Result<RecoveredGroup, StorageError>) + Send>;
/// What is called once, on the log's thread, when storage has failed and the process must end.
pub type Fatal = Box<dyn FnOnce(StorageError) + Send>;

/// Owner of the log's threads. Dropping it writes what is queued and joins them.
pub struct LogWriter {}

impl LogWriter {
    /// Opens the log and starts its threads.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn start(
        _disk: Arc<dyn Disk>,
        _options: LogOptions,
        _fatal: Fatal,
    ) -> Result<(LogWriter, WalHandle, Recovered), OpenError> {
        unimplemented!()
    }
}

/// The way to the log's thread.
#[derive(Clone)]
pub struct WalHandle {}

impl WalHandle {
    /// Queues a batch.
    pub fn submit(&self, _batch: Batch, _done: Done) {
        unimplemented!()
    }

    /// Queues a read of a group's state, behind everything submitted before.
    pub fn reload(&self, _group: GroupId, _done: Reloaded) {
        unimplemented!()
    }

    /// Bytes submitted and not yet durable.
    pub fn pending_bytes(&self) -> usize {
        unimplemented!()
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> u64 {
        unimplemented!()
    }

    /// Groups that keep old segments alive and should take a snapshot.
    pub fn heavy_groups(&self) -> Vec<GroupId> {
        unimplemented!()
    }
}
