//! The log on real files: flipped bits, missing and foreign files, bounded space.

mod storage_model;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::raft::entry::{Entry, Payload, SnapshotMeta};
use quorate::logic::raft::membership::Membership;
use quorate::storage::{Batch, Disk, Log, LogOptions, OpenError, RealDisk, Recovered, SimDisk, SnapshotMark};
use storage_model::Model;

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, block: 512, relocate_bytes: 2000, ..LogOptions::new(NodeId(1)) }
}

fn open(path: &Path) -> Result<(Log, Recovered), OpenError> {
    let disk = RealDisk::open(path).expect("a directory of our own");
    Log::open(Arc::new(disk), options())
}

/// Writes a log of several segments and groups. Returns what was acknowledged before the last append, and after it.
fn write_log(path: &Path) -> (Model, Model) {
    let mut rng = fastrand::Rng::with_seed(7);
    let (mut before, mut model) = (Model::default(), Model::default());
    for _ in 0..2 {
        let (mut log, _) = open(path).expect("an undamaged log");
        for _ in 0..60 {
            let mut next = model.clone();
            let batches: Vec<Batch> = (0..3)
                .map(|_| {
                    let batch = next.random_batch(GroupId(rng.u32(0..4)), &mut rng);
                    next.apply(&batch);
                    batch
                })
                .collect();
            log.append(&batches).expect("room");
            before = std::mem::replace(&mut model, next);
            log.maintain().expect("a healthy disk");
        }
    }
    // The last frame is an acknowledged append, not a relocation.
    let (mut log, _) = open(path).expect("an undamaged log");
    let mut next = model.clone();
    let batch = next.random_batch(GroupId(0), &mut rng);
    next.apply(&batch);
    log.append(&[batch]).expect("room");
    before.clone_from(&model);
    (before, next)
}

fn copy(from: &Path, to: &Path) -> Vec<String> {
    fs::create_dir_all(to).expect("a directory");
    let mut names = Vec::new();
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a plain name");
        fs::copy(entry.path(), to.join(&name)).expect("room");
        if name != "LOCK" {
            names.push(name);
        }
    }
    names.sort_unstable();
    names
}

#[test]
fn a_flipped_bit_is_refused_with_its_place_or_harmless() {
    let directory = tempfile::tempdir().expect("a directory");
    let (before, after) = write_log(&directory.path().join("log"));
    let mut rng = fastrand::Rng::with_seed(11);
    let (mut refused, mut harmless, mut last_lost) = (0, 0, 0);
    for trial in 0..1000 {
        let copied = directory.path().join(format!("{trial}"));
        let names = copy(&directory.path().join("log"), &copied);
        let name = &names[rng.usize(0..names.len())];
        let mut bytes = fs::read(copied.join(name)).expect("a file");
        let at = rng.usize(0..bytes.len());
        bytes[at] ^= 1 << rng.u8(0..8);
        fs::write(copied.join(name), bytes).expect("room");
        match open(&copied) {
            Err(OpenError::Damaged { place, .. }) => {
                refused += 1;
                assert!(names.contains(&place.file), "{place} names a file");
                assert!(name.ends_with(".wal"), "a flip in {name} is harmless");
            }
            Err(error) => panic!("byte {at} of {name}: {error}"),
            Ok((_, recovered)) => {
                let found = Model::of(recovered.groups);
                if found == after {
                    harmless += 1;
                } else {
                    assert_eq!(
                        found, before,
                        "byte {at} of {name}: more than the last frame is lost, or wrong"
                    );
                    last_lost += 1;
                }
            }
        }
        fs::remove_dir_all(&copied).expect("our own");
    }
    println!("{refused} refused, {harmless} harmless, {last_lost} lost the last frame only");
    assert!(refused > 200 && harmless > 100 && last_lost < 20, "{refused} {harmless} {last_lost}");
}

#[test]
fn a_missing_or_exchanged_segment_is_noticed() {
    let directory = tempfile::tempdir().expect("a directory");
    write_log(&directory.path().join("log"));
    let copied = |name: &str| {
        let path = directory.path().join(name);
        let names = copy(&directory.path().join("log"), &path);
        let segments: Vec<String> = names.into_iter().filter(|name| name.ends_with(".wal")).collect();
        assert!(segments.len() >= 3, "{segments:?}");
        (path, segments)
    };
    let (path, segments) = copied("middle");
    fs::remove_file(path.join(&segments[1])).expect("ours");
    assert!(matches!(open(&path), Err(OpenError::Damaged { place, .. }) if place.file == segments[1]));
    let (path, segments) = copied("first");
    fs::remove_file(path.join(&segments[0])).expect("ours");
    assert!(matches!(open(&path), Err(OpenError::Damaged { .. })));
    let (path, segments) = copied("exchanged");
    fs::copy(path.join(&segments[0]), path.join(&segments[1])).expect("ours");
    assert!(matches!(open(&path), Err(OpenError::Damaged { place, .. }) if place.file == segments[1]));
    let (path, segments) = copied("short");
    fs::OpenOptions::new()
        .write(true)
        .open(path.join(&segments[1]))
        .and_then(|file| file.set_len(600))
        .expect("ours");
    assert!(matches!(open(&path), Err(OpenError::Damaged { .. })));
}

#[test]
fn the_log_of_another_node_or_of_the_future_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    drop(open(directory.path()).expect("a new log"));
    let disk = Arc::new(RealDisk::open(directory.path()).expect("a free directory"));
    let other = Log::open(disk, LogOptions { node: NodeId(2), ..options() });
    assert!(matches!(other, Err(OpenError::OtherNode { found: 1, expected: 2, .. })));
    let path = directory.path().join("00000001.wal");
    let mut bytes = fs::read(&path).expect("a segment");
    bytes[8] = 2;
    let crc = crc32fast::hash(&bytes[..44]);
    bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).expect("room");
    assert!(matches!(open(directory.path()), Err(OpenError::NewerFormat { found: 2, supported: 1, .. })));
}

fn entry(index: u64, length: usize) -> Entry {
    Entry { index, term: 1, payload: Payload::Command(Bytes::from(vec![1; length])) }
}

fn compacted(group: GroupId, index: u64) -> Batch {
    let last = LogPosition { index, term: 1 };
    let meta = SnapshotMeta { group, last, membership: Membership::default() };
    let mark = SnapshotMark { meta, name: "s".to_owned(), digest: 0 };
    Batch { snapshot: Some(mark), compact_to: Some(last), ..Batch::new(group) }
}

#[test]
fn space_is_bounded_while_groups_compact_and_an_idle_group_stays() {
    let (mut log, _) = Log::open(Arc::new(SimDisk::new(1)), options()).expect("a new log");
    let (busy, idle) = (GroupId(1), GroupId(2));
    log.append(&[Batch { entries: vec![entry(1, 50)], ..Batch::new(idle) }]).expect("room");
    let mut most = 0;
    for index in 1..=5000 {
        log.append(&[Batch { entries: vec![entry(index, 200)], ..Batch::new(busy) }]).expect("room");
        if index % 20 == 0 {
            log.append(&[compacted(busy, index - 10)]).expect("room");
        }
        log.maintain().expect("healthy");
        most = most.max(log.disk_bytes());
    }
    let options = options();
    let bound = (options.keep_segments + options.spares + 2) as u64 * options.segment_bytes;
    assert!(most <= bound, "{most} bytes on disk, expected at most {bound}");
    assert_eq!(log.reload(idle).expect("healthy").entries, [entry(1, 50)]);
    assert!(log.statistics().relocated > 0 && log.statistics().released > 100);
    assert!(log.heavy_groups().is_empty());
}

#[test]
fn a_group_that_never_compacts_is_named() {
    let (mut log, _) = Log::open(Arc::new(SimDisk::new(1)), options()).expect("a new log");
    let group = GroupId(5);
    for index in 1..=500 {
        log.append(&[Batch { entries: vec![entry(index, 200)], ..Batch::new(group) }]).expect("room");
        log.maintain().expect("healthy");
    }
    assert_eq!(log.heavy_groups(), [group]);
    log.append(&[compacted(group, 500)]).expect("room");
    log.maintain().expect("healthy");
    assert!(log.heavy_groups().is_empty());
    assert_eq!(log.reload(group).expect("healthy").last().index, 500);
}

#[test]
fn a_start_needs_no_free_space_while_a_spare_is_left() {
    let disk = Arc::new(SimDisk::new(1));
    let mut indexes = BTreeMap::from([(GroupId(1), 0)]);
    let (mut log, _) = Log::open(Arc::clone(&disk) as Arc<_>, options()).expect("a new log");
    log.maintain().expect("healthy");
    disk.limit_space(0);
    let refused = loop {
        let index = indexes[&GroupId(1)] + 1;
        match log.append(&[Batch { entries: vec![entry(index, 900)], ..Batch::new(GroupId(1)) }]) {
            Ok(()) => indexes.insert(GroupId(1), index),
            Err(error) => break error,
        };
        log.maintain().expect("a full disk is no failure");
    };
    assert!(!refused.is_fatal(), "{refused}");
    drop(log);
    disk.power_loss();
    disk.limit_space(0);
    let (_, recovered) = Log::open(disk, options()).expect("the reserved spare is there");
    assert_eq!(recovered.groups[&GroupId(1)].last().index, indexes[&GroupId(1)]);
}

#[test]
fn a_spare_that_is_too_short_is_not_counted_on() {
    let disk = Arc::new(SimDisk::new(1));
    let (mut log, _) = Log::open(Arc::clone(&disk) as Arc<_>, options()).expect("a new log");
    log.maintain().expect("healthy");
    drop(log);
    let spares = disk.files().into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".free"));
    let spares: Vec<String> = spares.collect();
    // A crash while the one that is taken first was written out.
    disk.truncate(&spares[0], 512).expect("a file");
    disk.limit_space(0);
    let (mut log, _) = Log::open(Arc::clone(&disk) as Arc<_>, options()).expect("the other is whole");
    disk.unlimit_space();
    log.maintain().expect("healthy");
    let least = disk.files().into_iter().map(|(_, bytes)| bytes).min();
    assert_eq!(least, Some(options().segment_bytes), "{:?}", disk.files());
}

#[test]
fn the_segments_of_a_log_that_had_shorter_ones_are_no_spares() {
    let disk = Arc::new(SimDisk::new(1));
    let (mut log, _) = Log::open(Arc::clone(&disk) as Arc<_>, options()).expect("a new log");
    log.maintain().expect("healthy");
    drop(log);
    let longer = LogOptions { segment_bytes: 2 * options().segment_bytes, ..options() };
    let (mut log, _) = Log::open(Arc::clone(&disk) as Arc<_>, longer.clone()).expect("room");
    log.maintain().expect("healthy");
    let least = disk.files().into_iter().map(|(_, bytes)| bytes).min();
    assert_eq!(least, Some(longer.segment_bytes), "{:?}", disk.files());
}

#[test]
fn a_log_that_is_missing_is_told_from_one_that_was_never_begun() {
    let disk = || Arc::new(SimDisk::new(1));
    let begun = LogOptions { begun: true, ..options() };
    assert!(matches!(Log::open(disk(), begun.clone()), Err(OpenError::Missing)));
    let disk = disk();
    Log::open(Arc::clone(&disk) as Arc<_>, options()).expect("a new log");
    Log::open(disk, begun).expect("it is there");
}
