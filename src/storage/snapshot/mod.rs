//! Snapshot files: written beside and renamed into place, checked in every byte, sent chunk by chunk.
//!
//! A snapshot counts only when the log says so: first the file is made durable under its final name, then a
//! [`SnapshotMark`] goes into the log, and only when that is durable is the log compacted and the older snapshot
//! deleted. The mark carries the digest of the file, so that log and file cannot disagree unnoticed.

mod format;
mod read;
mod receive;
mod write;

use std::sync::Arc;

use super::disk::Disk;
use super::error::{OpenError, StorageError};
use super::segment::discard;
use crate::logic::ids::{GroupId, LogPosition};
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::entry::SnapshotMeta;

pub use read::SnapshotReader;
pub use receive::Incoming;
pub use write::SnapshotWriter;

/// Snapshots of a group that are kept: a follower may still be receiving the one before the newest.
const KEPT: usize = 2;

/// The snapshots of a node: one directory for all groups. May be used from any thread.
#[derive(Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    bytes_per_second: Option<u64>,
}

/// What a file name of the directory says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// A complete snapshot.
    Complete(GroupId, LogPosition),
    /// One being received.
    Part(GroupId),
    /// One being written.
    Unfinished,
    Other,
}

impl Name {
    fn parse(name: &str) -> Name {
        let Some((stem, kind)) = name.rsplit_once('.') else { return Name::Other };
        let mut numbers = stem.split('-').map(|field| field.parse::<u64>().ok());
        let mut number = || numbers.next().flatten();
        let group = number().and_then(|group| u32::try_from(group).ok()).map(GroupId);
        let (Some(group), Some(index), Some(term)) = (group, number(), number()) else { return Name::Other };
        let last = LogPosition { index, term };
        match kind {
            "snap" => Name::Complete(group, last),
            "part" => Name::Part(group),
            "tmp" => Name::Unfinished,
            _ => Name::Other,
        }
    }
}

/// Name of a file without its ending.
fn stem(meta: &SnapshotMeta) -> String {
    format!("{}-{}-{}", meta.group.0, meta.last.index, meta.last.term)
}

/// Name of a complete snapshot. With the digest in it, a received snapshot never replaces an own one of the same
/// position that the log may already name.
fn complete_name(meta: &SnapshotMeta, digest: u32) -> String {
    format!("{}-{digest}.snap", stem(meta))
}

impl SnapshotStore {
    /// Opens the directory and removes what was not written or received to its end. `bytes_per_second` limits the
    /// writing of own snapshots.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(disk: Arc<dyn Disk>, bytes_per_second: Option<u64>) -> Result<SnapshotStore, OpenError> {
        let directory = "the snapshot directory";
        disk.sync_dir().map_err(|error| OpenError::io("sync", directory, &error))?;
        let names = disk.list().map_err(|error| OpenError::io("list", directory, &error))?;
        for name in names {
            if matches!(Name::parse(&name), Name::Unfinished | Name::Part(_)) {
                discard(&*disk, &name)?;
            }
        }
        Ok(SnapshotStore { disk, bytes_per_second })
    }

    /// Starts writing a snapshot of the own state. Blocks on the disk: not for a thread that must answer.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn create(&self, meta: SnapshotMeta) -> Result<SnapshotWriter, StorageError> {
        SnapshotWriter::create(Arc::clone(&self.disk), meta, self.bytes_per_second)
    }

    /// Opens the snapshot that the log names, after checking header, structure and digest. Chunks are verified when
    /// they are read.
    ///
    /// # Errors
    /// `Damaged` if file and mark disagree; `Gone` if the file is deleted; else `Failed`.
    pub fn read(&self, mark: &SnapshotMark) -> Result<SnapshotReader, StorageError> {
        SnapshotReader::open(Arc::clone(&self.disk), mark)
    }

    /// Starts receiving a snapshot. Deletes what earlier attempts of the group left: another sender may cut the same
    /// state into other chunks, so what is there must not be mixed with what comes. An earlier [`Incoming`] of the
    /// group must be dropped by now: dropped later, it would delete the new file.
    ///
    /// # Errors
    /// See [`StorageError`].
    pub fn receive(&self, meta: SnapshotMeta) -> Result<Incoming, StorageError> {
        for name in self.list()? {
            if matches!(Name::parse(&name), Name::Part(group) if group == meta.group) {
                discard(&*self.disk, &name)?;
            }
        }
        let name = format!("{}.part", stem(&meta));
        Incoming::open(Arc::clone(&self.disk), meta, name)
    }

    /// Deletes what is older than the two newest snapshots of each mark's group. To be called with marks that are
    /// durable in the log; files newer than the mark are left alone.
    ///
    /// # Errors
    /// `Failed` from the disk.
    pub fn retain(&self, marks: &[SnapshotMark]) -> Result<(), StorageError> {
        let names = self.list()?;
        for mark in marks {
            let mut older: Vec<(LogPosition, &String)> = names
                .iter()
                .filter(|name| **name != mark.name)
                .filter_map(|name| match Name::parse(name) {
                    Name::Complete(group, last) if group == mark.meta.group => Some((last, name)),
                    _ => None,
                })
                .filter(|(last, _)| *last <= mark.meta.last)
                .collect();
            older.sort_unstable();
            older.truncate(older.len().saturating_sub(KEPT - 1));
            for (_, name) in older {
                discard(&*self.disk, name)?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, StorageError> {
        self.disk.list().map_err(|error| StorageError::failed("list", "the snapshot directory", &error))
    }
}

/// Gives a finished file its final name, durably.
fn publish(
    disk: &dyn Disk,
    meta: SnapshotMeta,
    from: &str,
    digest: u32,
) -> Result<SnapshotMark, StorageError> {
    disk.sync(from).map_err(|error| StorageError::failed("sync", from, &error))?;
    let name = complete_name(&meta, digest);
    disk.rename(from, &name).map_err(|error| StorageError::failed("rename", from, &error))?;
    disk.sync_dir().map_err(|error| StorageError::failed("sync", "the snapshot directory", &error))?;
    Ok(SnapshotMark { meta, name, digest })
}

#[cfg(test)]
mod tests;
