//! The disk of a node: opening its log and its snapshots, and closing them.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::config::Config;
use super::environment::{Disks, Environment, LogMemory, LogOwner, OpenLog};
use super::exit::{DAMAGED, Failure, INTERNAL, UNAVAILABLE};
use super::identity::IdentityError;
use crate::logic::ids::NodeId;
use crate::storage::{
    Disk, DiskFaults, FaultyDisk, LogOptions, LogWriter, OpenError, Recovered, SnapshotStore, WalHandle,
    is_full,
};

/// What of a node is its disk.
pub(super) struct Storage {
    owner: Box<dyn LogOwner>,
    pub(super) wal: WalHandle,
    pub(super) snapshots: SnapshotStore,
    pub(super) faults: DiskFaults,
    /// Bytes on the disks.
    pub(super) bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
}

impl Storage {
    /// Opens both. A failure that the process must not survive goes to `ending`.
    pub(super) fn open(
        config: &Config,
        id: NodeId,
        environment: &dyn Environment,
        memory: &mut dyn LogMemory,
        ending: UnboundedSender<Failure>,
    ) -> Result<(Storage, Recovered), Failure> {
        let faults = DiskFaults::new();
        let Disks { log, snapshots, bytes } = environment.disks(config, id).map_err(storage_failure)?;
        let (log, snapshots) = (faulty(config, log, &faults), faulty(config, snapshots, &faults));
        let (segment_bytes, begun) = (config.storage.segment_bytes, memory.is_begun());
        let options = LogOptions { segment_bytes, begun, ..LogOptions::new(id) };
        let fatal = move |error: crate::storage::StorageError| {
            let text = format!(
                "the log cannot be written: {error}. The node stops: what reached the disk is unknown until it restarts"
            );
            let _ = ending.send(Failure::new(INTERNAL, text));
        };
        let log = environment.open_log(log, options, Box::new(fatal)).map_err(storage_failure)?;
        let OpenLog { owner, wal, recovered } = log;
        if !begun {
            note_begun(memory)?;
        }
        for note in &recovered.notes {
            tracing::warn!("{note}");
        }
        let rate = Some(config.storage.snapshot_rate_bytes_per_s).filter(|rate| *rate > 0);
        let snapshots = SnapshotStore::open(snapshots, rate).map_err(storage_failure)?;
        Ok((Storage { owner, wal, snapshots, faults, bytes }, recovered))
    }

    /// Writes what the log still has to write. Dropping what is returned does not stop that.
    pub(super) async fn close(&mut self) {
        // An error says that there was nobody to report that it is closed: so it is.
        let _ = self.owner.close().await;
    }
}

/// Closes the log on a thread of its own: a disk that hangs then holds up that thread, and not the end of the process.
pub(super) struct OwnThread(Option<LogWriter>);

impl OwnThread {
    pub(super) fn new(writer: LogWriter) -> Self {
        OwnThread(Some(writer))
    }
}

impl LogOwner for OwnThread {
    /// What is returned yields when the log's threads have ended, too.
    fn close(&mut self) -> oneshot::Receiver<()> {
        let (report, closed) = oneshot::channel();
        if let Some(writer) = self.0.take() {
            let close = move || {
                drop(writer);
                let _ = report.send(());
            };
            // Without a thread to be had, it is dropped here.
            let _ = std::thread::Builder::new().name("wal-close".to_owned()).spawn(close);
        }
        closed
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// The log is there and durable, and nothing has been promised yet. A full disk must not keep a node from its start,
/// if it has what it needs: the next one tries again.
fn note_begun(memory: &mut dyn LogMemory) -> Result<(), Failure> {
    match memory.note_begun() {
        Err(IdentityError::Io { action, path, source }) if is_full(&source) => {
            tracing::warn!(
                "cannot {action} {}: {source}; the loss of the log would not be noticed",
                path.display()
            );
            Ok(())
        }
        noted => Ok(noted?),
    }
}

fn faulty(config: &Config, disk: Arc<dyn Disk>, faults: &DiskFaults) -> Arc<dyn Disk> {
    if config.chaos.enabled {
        return Arc::new(FaultyDisk::new(disk, faults.clone()));
    }
    disk
}

/// Bytes of the files below a directory; what cannot be read counts as nothing.
pub(super) fn bytes_below(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

fn storage_failure(error: OpenError) -> Failure {
    let code = match error {
        OpenError::Damaged { .. }
        | OpenError::Missing
        | OpenError::NewerFormat { .. }
        | OpenError::OtherNode { .. } => DAMAGED,
        OpenError::Locked { .. } | OpenError::Full { .. } => UNAVAILABLE,
        OpenError::Io { .. } => INTERNAL,
    };
    Failure::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::logic::ids::GroupId;
    use crate::storage::{Batch, SimDisk};

    #[test]
    fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let faults = DiskFaults::new();
        let disk = Arc::new(FaultyDisk::new(Arc::new(SimDisk::new(1)), faults.clone()));
        let options = LogOptions { segment_bytes: 64 << 10, ..LogOptions::new(NodeId(1)) };
        let (writer, wal, _) = LogWriter::start(disk, options, Box::new(|_| {})).expect("an empty disk");
        faults.delay_writes(Duration::from_secs(1));
        let written = Arc::new(AtomicBool::new(false));
        let done = written.clone();
        let hard_state = crate::logic::raft::entry::HardState { term: 1, vote: None };
        let batch = Batch { hard_state: Some(hard_state), ..Batch::new(GroupId(1)) };
        wal.submit(batch, Box::new(move |_| done.store(true, Ordering::SeqCst)));
        let mut closed = OwnThread(Some(writer)).close();
        assert!(!written.load(Ordering::SeqCst), "the write hangs");
        assert!(closed.try_recv().is_err(), "and the log is not closed yet");
        closed.blocking_recv().expect("it is closed in the end");
        assert!(written.load(Ordering::SeqCst), "and nothing is lost");
    }
}
