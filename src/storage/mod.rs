//! The node's write-ahead log and its snapshots, on a real disk or a simulated faulty one.
//!
//! One log for all groups of the node: whatever is pending becomes one frame, one durable write, one set of
//! completions. `docs/storage.md` has the files byte by byte, and the rules that make them safe.
//!
//! In reading order:
//!
//! * `disk`: what storage asks of a disk. `real` is a directory (`directory` creates it), `sim` a disk that fails from
//!   a seed, `faults` makes a real disk slow, full or faulty while it runs.
//! * `batch`, `error`: what goes in, what comes back, and what can go wrong.
//! * `frame`, `record`: the bytes of a segment, and of a frame's payload.
//! * `log`: appending. `group` is what it knows of a group, `segment` starts segments and keeps spares, `collect`
//!   reads back and gives up old segments, `recover` opens.
//! * `rules`: the rules as switches, so that the tests can show that each is needed.
//! * `writer`: the threads around the log, and the same without threads.
//! * `snapshot`: snapshot files.
//!
//! Invariants:
//!
//! * What was reported durable is there after any crash, or the log refuses to open and says where the damage is.
//! * A frame is whole or absent, for all its groups.
//! * Memory is never ahead of the disk where anybody could see it.
//! * After the first error of the disk nothing more is written by this process.
//!
//! It deliberately does not repair: a replica that lost something must not guess what it promised. It keeps no cache of
//! entries, knows nothing of commit indexes, and does not decide when to take a snapshot.

mod batch;
mod collect;
mod directory;
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
pub(crate) use directory::create_durably;
pub use disk::Disk;
pub(crate) use error::BEGIN_EMPTY;
pub(crate) use error::is_full;
pub use error::{OpenError, Place, StorageError};
pub use faults::{DiskFaults, FaultyDisk};
pub(crate) use log::MAX_SEGMENT;
pub use log::{Log, LogOptions, LogStatistics};
pub use real::RealDisk;
#[doc(hidden)]
pub use rules::Rules;
pub use sim::SimDisk;
pub use snapshot::{Incoming, SnapshotReader, SnapshotStore, SnapshotWriter};
pub use writer::{Completed, Done, Fatal, LogWriter, Reloaded, SteppedLog, WalHandle};
