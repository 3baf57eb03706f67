//! Bodies for fuzzing: each is given any bytes, and must come back without a panic and without taking much memory.
//!
//! `tests/fuzz.rs` runs them on bytes that it makes up, and measures their memory; `cargo fuzz` runs them with the
//! coverage of the code as its guide (see `docs/testing.md`). Where a checksum would turn away whatever is made up,
//! there is a second body that gives the bytes a right one, so that what is behind the checksum is reached, too.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::kv::command::LogCommand;
use quorate::logic::kv::{Machine, Restorer};
use quorate::logic::raft::entry::{SnapshotMark, SnapshotMeta};
use quorate::logic::raft::membership::Membership;
use quorate::logic::verify::line;
use quorate::messages::encoding;
use quorate::net::codec::Codec;
use quorate::node::config::Config;
use quorate::storage::{Disk, Log, LogOptions, SimDisk, SnapshotStore};

/// A body.
pub type Body = fn(&[u8]);

/// All bodies, by the names of their targets.
pub const BODIES: [(&str, Body); 12] = [
    ("stream", stream),
    ("packet", packet),
    ("command", command),
    ("log_file", log_file),
    ("log_records", log_records),
    ("snapshot_file", snapshot_file),
    ("snapshot_chunks", snapshot_chunks),
    ("store_items", store_items),
    ("config", config),
    ("arguments", arguments),
    ("batch", batch),
    ("history", history),
];

/// Largest frame of [`stream`]; the limit is the receiver's choice.
const MAX_FRAME: usize = 1 << 20;

/// What arrives at a port, in pieces; the first byte says how long they are.
pub fn stream(data: &[u8]) {
    let Some((step, data)) = data.split_first() else { return };
    let codec = Codec::new(MAX_FRAME);
    let mut buffer = BytesMut::new();
    for piece in data.chunks(usize::from(*step) + 1) {
        buffer.extend_from_slice(piece);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// The inside of a frame: any message. What is understood is written as it is read.
pub fn packet(data: &[u8]) {
    let Ok(packet) = encoding::read(data) else { return };
    let mut written = BytesMut::new();
    encoding::write(&packet, &mut written).expect("what was read can be written");
    assert_eq!(encoding::read(&written).expect("what was written can be read"), packet);
}

/// A command of the log, and what the store makes of it, twice.
pub fn command(data: &[u8]) {
    let encoded = Bytes::copy_from_slice(data);
    if let Ok(command) = LogCommand::decode(&encoded) {
        let again = LogCommand::decode(&command.encode());
        assert_eq!(again.as_ref(), Ok(&command), "what was read is written as it was");
    }
    let (mut machine, mut other) = (Machine::new(GroupId(1)), Machine::new(GroupId(1)));
    for index in 1..=2 {
        assert_eq!(machine.apply(index, &encoded), other.apply(index, &encoded));
    }
    assert_eq!(machine.hash(), other.hash());
}

fn file(disk: &SimDisk, name: &str, content: &[u8]) {
    disk.create(name).expect("a new file");
    disk.write(name, 0, content).expect("room");
    disk.sync(name).expect("a healthy disk");
    disk.sync_dir().expect("a healthy disk");
}

const BLOCK: usize = 512;

fn open_log(segment: &[u8]) {
    let disk = Arc::new(SimDisk::new(1));
    file(&disk, "00000001.wal", segment);
    let options = LogOptions { segment_bytes: 16 << 10, block: BLOCK as u32, ..LogOptions::new(NodeId(1)) };
    // A log that opens can be opened again, and holds the same.
    if let Ok((log, recovered)) = Log::open(disk.clone(), options.clone()) {
        drop(log);
        let (_, again) = Log::open(disk, options).expect("what was opened once opens again");
        assert_eq!(format!("{:?}", recovered.groups), format!("{:?}", again.groups));
    }
}

/// A segment of the log.
pub fn log_file(data: &[u8]) {
    open_log(data);
}

/// The records in the frames of a segment whose header, places and checksums are right (`docs/storage.md`). The bytes
/// are the payloads of the frames; two bytes before each say how long it is.
pub fn log_records(data: &[u8]) {
    const SEGMENT: u64 = 1;
    let mut segment = b"QUORWAL\0".to_vec();
    segment.extend_from_slice(&1_u32.to_le_bytes());
    segment.extend_from_slice(&(BLOCK as u32).to_le_bytes());
    for number in [SEGMENT, 1, 1] {
        segment.extend_from_slice(&number.to_le_bytes());
    }
    segment.extend_from_slice(&[0; 4]);
    segment.extend_from_slice(&crc32fast::hash(&segment).to_le_bytes());
    let mut rest = data;
    for sequence in 1_u64.. {
        segment.resize(segment.len().next_multiple_of(BLOCK), 0);
        let Some((length, behind)) = rest.split_first_chunk::<2>() else { break };
        let (payload, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)).min(behind.len()));
        rest = behind;
        let length = (payload.len() as u32).to_le_bytes();
        let mut checked = SEGMENT.to_le_bytes().to_vec();
        checked.extend_from_slice(&sequence.to_le_bytes());
        checked.extend_from_slice(&length);
        checked.extend_from_slice(payload);
        segment.extend_from_slice(&length);
        segment.extend_from_slice(&crc32fast::hash(&checked).to_le_bytes());
        segment.extend_from_slice(&sequence.to_le_bytes());
        segment.extend_from_slice(payload);
    }
    open_log(&segment);
}

fn meta() -> SnapshotMeta {
    let membership = Membership::of_voters([NodeId(1)]);
    SnapshotMeta { group: GroupId(1), last: LogPosition { index: 7, term: 2 }, membership }
}

/// Reads a whole snapshot, and restores it.
fn read_snapshot(content: &[u8], digest: u32) {
    let disk = Arc::new(SimDisk::new(1));
    let name = format!("1-7-2-{digest}.snap");
    file(&disk, &name, content);
    let store = SnapshotStore::open(disk, None).expect("a directory with a snapshot");
    let Ok(reader) = store.read(&SnapshotMark { meta: meta(), name, digest }) else { return };
    let mut restorer = Restorer::new(GroupId(1));
    for number in 0..reader.chunk_count() {
        let Ok(chunk) = reader.chunk(number) else { return };
        if restorer.chunk(&chunk).is_err() {
            return;
        }
    }
    let _ = restorer.finish();
}

/// A snapshot file; its digest is where it stands in a footer.
pub fn snapshot_file(data: &[u8]) {
    let footer = data.len().checked_sub(16).and_then(|at| data.get(at..at + 4));
    let digest = footer.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().expect("four bytes")));
    read_snapshot(data, digest);
}

/// The chunks of a snapshot file with a right header, footer and checksums; two bytes before each say how long it is.
pub fn snapshot_chunks(data: &[u8]) {
    let disk = Arc::new(SimDisk::new(1));
    let store = SnapshotStore::open(disk.clone(), None).expect("an empty directory");
    let mut writer = store.create(meta()).expect("room");
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let (chunk, behind) = behind.split_at(usize::from(u16::from_le_bytes(*length)).min(behind.len()));
        writer.push(chunk).expect("room");
        rest = behind;
    }
    let Ok(mark) = writer.finish() else { return };
    let size = usize::try_from(disk.size(&mark.name).expect("it was written")).expect("a small file");
    let mut content = vec![0; size];
    disk.read(&mark.name, 0, &mut content).expect("it was written");
    read_snapshot(&content, mark.digest);
}

/// The items of a store's snapshot, in one chunk with a right checksum.
pub fn store_items(data: &[u8]) {
    let rest = [&0_u32.to_le_bytes(), data].concat();
    let chunk = [&xxhash_rust::xxh3::xxh3_64(&rest).to_le_bytes()[..], &rest].concat();
    let mut restorer = Restorer::new(GroupId(1));
    if restorer.chunk(&chunk).is_ok()
        && let Ok(machine) = restorer.finish()
    {
        let chunks: Vec<Vec<u8>> = machine.freeze().chunks(1 << 20).collect();
        let mut again = Restorer::new(GroupId(1));
        for chunk in &chunks {
            again.chunk(chunk).expect("what was restored can be saved");
        }
        assert_eq!(again.finish().expect("and restored again").hash(), machine.hash());
    }
}

/// A configuration file.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(problems) = Config::parse(&text, "fuzz") {
        assert!(!problems.to_string().is_empty(), "a refusal says why");
    }
}

/// The words of a command line, one a line: keys, values, durations, leases, addresses.
pub fn arguments(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Err(why) = quorate::cli::check_words(text.lines()) {
        assert!(!why.is_empty(), "a refusal says why");
    }
}

/// The changes of `quorate batch`.
pub fn batch(data: &[u8]) {
    if let Err(problems) = quorate::cli::parse_changes(&String::from_utf8_lossy(data)) {
        assert!(!problems.is_empty(), "a refusal says why");
    }
}

/// A line of a history. What is understood is written as it is read.
pub fn history(data: &[u8]) {
    let Ok(operation) = line::parse(&String::from_utf8_lossy(data)) else { return };
    let written = line::write(&operation);
    let again = line::parse(&written).expect("what was written can be read");
    assert_eq!(line::write(&again), written);
}
