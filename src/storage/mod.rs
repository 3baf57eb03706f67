//! The node's write-ahead log and its snapshots, on a real disk or a simulated faulty one.

mod batch;
mod disk;
mod error;
mod log;
mod snapshot;
mod writer;

pub use batch::{Batch, Recovered, RecoveredGroup, SnapshotMark};
pub use disk::Disk;
pub use error::{OpenError, Place, StorageError};
pub use log::{Log, LogOptions};
pub use snapshot::{Incoming, SnapshotReader, SnapshotStore, SnapshotWriter};
pub use writer::{Done, Fatal, LogWriter, Reloaded, WalHandle};
