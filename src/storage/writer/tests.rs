use std::sync::mpsc::{Receiver, channel};

use bytes::Bytes;

use super::*;
use crate::logic::ids::NodeId;
use crate::logic::raft::entry::{Entry, HardState, Payload};
use crate::storage::{DiskFaults, FaultyDisk, SimDisk};

struct Running {
    writer: Option<LogWriter>,
    handle: WalHandle,
    fatal: Receiver<StorageError>,
    recovered: Recovered,
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 8192, block: 512, ..LogOptions::new(NodeId(1)) }
}

fn start(disk: Arc<dyn Disk>) -> Running {
    let (sender, fatal) = channel();
    let report = Box::new(move |error| sender.send(error).expect("the test listens"));
    let (writer, handle, recovered) = LogWriter::start(disk, options(), report).expect("a log that opens");
    Running { writer: Some(writer), handle, fatal, recovered }
}

fn entries(group: u32, indexes: std::ops::RangeInclusive<u64>) -> Batch {
    let payload = Payload::Command(Bytes::from_static(&[9; 100]));
    let entries = indexes.map(|index| Entry { index, term: 1, payload: payload.clone() }).collect();
    Batch { entries, ..Batch::new(GroupId(group)) }
}

/// Submits and returns where the answer comes.
fn submit(handle: &WalHandle, batch: Batch) -> Receiver<Result<(), StorageError>> {
    let (sender, receiver) = channel();
    handle.submit(batch, Box::new(move |result| sender.send(result).expect("the test listens")));
    receiver
}

fn reload(handle: &WalHandle, group: u32) -> RecoveredGroup {
    let (sender, receiver) = channel();
    handle.reload(GroupId(group), Box::new(move |result| sender.send(result).expect("the test listens")));
    receiver.recv().expect("an answer").expect("a healthy log")
}

#[test]
fn completions_come_in_order_and_what_they_promise_is_kept() {
    let disk = Arc::new(SimDisk::new(3));
    let mut running = start(Arc::clone(&disk) as Arc<dyn Disk>);
    let (sender, order) = channel();
    for index in 1..=300 {
        let sender = sender.clone();
        let done = Box::new(move |result: Result<(), StorageError>| {
            result.expect("a healthy disk");
            sender.send(index).expect("the test listens");
        });
        running.handle.submit(entries(1, index..=index), done);
    }
    assert_eq!(order.iter().take(300).collect::<Vec<u64>>(), (1..=300).collect::<Vec<u64>>());
    assert_eq!(running.handle.pending_bytes(), 0);
    assert_eq!(reload(&running.handle, 1).entries.len(), 300);
    running.writer = None;
    disk.power_loss();
    assert_eq!(start(disk).recovered.groups[&GroupId(1)].entries.len(), 300);
}

#[test]
fn closing_writes_what_is_queued_and_refuses_the_rest() {
    let disk = Arc::new(SimDisk::new(3));
    let mut running = start(Arc::clone(&disk) as Arc<dyn Disk>);
    let queued = submit(&running.handle, entries(1, 1..=5));
    running.writer = None;
    assert_eq!(queued.recv().expect("an answer"), Ok(()));
    let late = submit(&running.handle, entries(1, 6..=6));
    assert_eq!(late.recv().expect("an answer"), Err(StorageError::Stopped));
    assert!(running.fatal.try_recv().is_err(), "closing is no failure");
}

#[test]
fn a_failed_sync_is_fatal_and_never_retried() {
    let faults = DiskFaults::new();
    let sim = Arc::new(SimDisk::new(3));
    let disk = Arc::new(FaultyDisk::new(Arc::clone(&sim) as Arc<dyn Disk>, faults.clone()));
    let running = start(disk);
    submit(&running.handle, entries(1, 1..=1)).recv().expect("an answer").expect("healthy");
    // A reload is answered after the spares are asked for; one more write may meet the fault instead of ours.
    faults.fail_next_sync();
    let mut index = 2;
    while submit(&running.handle, entries(1, index..=index)).recv().expect("an answer").is_ok() {
        index += 1;
    }
    assert!(matches!(running.fatal.recv(), Ok(StorageError::Failed { .. })));
    let after = submit(&running.handle, entries(1, index..=index)).recv().expect("an answer");
    assert_eq!(after, Err(StorageError::Stopped));
    assert_eq!(running.handle.pending_bytes(), 0);
}

#[test]
fn a_bug_in_a_batch_stops_the_log_instead_of_leaving_callers_waiting() {
    let running = start(Arc::new(SimDisk::new(3)));
    let gap = submit(&running.handle, entries(1, 5..=5));
    assert!(matches!(running.fatal.recv(), Ok(StorageError::Failed { .. })));
    assert_eq!(gap.recv().expect("an answer"), Err(StorageError::Stopped));
}

#[test]
fn a_full_disk_refuses_a_group_until_it_reloads() {
    let disk = Arc::new(SimDisk::new(3));
    let running = start(Arc::clone(&disk) as Arc<dyn Disk>);
    disk.limit_space(0);
    let mut index = 0;
    let refusal = loop {
        index += 1;
        match submit(&running.handle, entries(1, index..=index)).recv().expect("an answer") {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(refusal, StorageError::Full { .. }), "{refusal}");
    // Even a small batch that would fit is refused now: it builds on the refused one.
    let next = submit(&running.handle, entries(1, index + 1..=index + 1)).recv().expect("an answer");
    assert!(matches!(next, Err(StorageError::Full { .. })));
    assert!(running.handle.is_full());
    assert_eq!(reload(&running.handle, 1).last().index, index - 1);
    disk.limit_space(u64::MAX);
    submit(&running.handle, entries(1, index..=index)).recv().expect("an answer").expect("room again");
    assert!(!running.handle.is_full());
    let vote = HardState { term: 2, vote: None };
    let other = Batch { hard_state: Some(vote), ..Batch::new(GroupId(2)) };
    submit(&running.handle, other).recv().expect("an answer").expect("room again");
    assert!(running.fatal.try_recv().is_err());
}
