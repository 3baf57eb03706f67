//! The node's write-ahead log and its snapshots, on a real disk or a simulated faulty one.

mod batch;
mod collect;
mod disk;
mod error;
mod faults;
mod frame;
mod group;
mod log;
mod real;
mod record;
mod recover;
mod rules;
mod segment;
mod sim;
mod snapshot;
mod writer;

pub use crate::logic::raft::entry::SnapshotMark;
pub use batch::{Batch, Recovered, RecoveredGroup};
pub use disk::Disk;
pub use error::{OpenError, Place, StorageError};
pub use faults::{DiskFaults, FaultyDisk};
pub use log::{Log, LogOptions, LogStatistics};
pub use real::RealDisk;
#[doc(hidden)]
pub use rules::Rules;
pub use sim::SimDisk;
pub use snapshot::{Incoming, SnapshotReader, SnapshotStore, SnapshotWriter};
pub use writer::{Done, Fatal, LogWriter, Reloaded, WalHandle};
