//! The bodies of `fuzz/`, on bytes that are made up: noise, and good input that was damaged. None may panic, none may
//! take much more memory than it was given.
//!
//! Short by default. Longer: `QUORATE_FUZZ_CASES=1000000 cargo test --profile soak --test fuzz`. What a run used is repeated by
//! `QUORATE_FUZZ_SEED`. With the coverage of the code as a guide: `cargo +nightly fuzz run packet`, see docs/testing.md.

mod any_packet;
#[path = "../fuzz/src/lib.rs"]
mod bodies;
mod counting;

use bodies::{BODIES, Body};
use bytes::BytesMut;
use fastrand::Rng;
use quorate::logic::ids::GroupId;
use quorate::logic::kv::Machine;
use quorate::logic::kv::command::{Change, Command, Expect, Lifetime, LogCommand};
use quorate::net::codec::{Codec, HEADER};

/// Bytes that a body may hold for each byte that it is given, and whatever it is given. A command line or a log builds
/// things of its own; what counts is that no length that is only claimed is believed.
const PER_BYTE: usize = 512;
const ALWAYS: usize = 4 << 20;

fn from_environment(name: &str, otherwise: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return otherwise };
    text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number"))
}

/// Runs a body on noise and on damaged copies of good input; one that is slow takes its share of the cases only.
fn fuzz(name: &str, share: u64, good: impl Fn(&mut Rng) -> Vec<u8>) {
    let (_, body): &(_, Body) = BODIES.iter().find(|(known, _)| *known == name).expect("a body of this name");
    let cases = from_environment("QUORATE_FUZZ_CASES", 2000).div_ceil(share);
    let first = from_environment("QUORATE_FUZZ_SEED", 0);
    for seed in first..first + cases {
        let mut rng = Rng::with_seed(seed);
        let mut data = good(&mut rng);
        match rng.u8(0..8) {
            0 => {}
            1 => {
                let length = rng.usize(0..600);
                data = std::iter::repeat_with(|| rng.u8(..)).take(length).collect();
            }
            _ => damage(&mut data, &mut rng),
        }
        let length = data.len();
        let mut outcome = Ok(());
        let peak = counting::peak_of(|| outcome = std::panic::catch_unwind(|| body(&data)));
        if let Err(cause) = outcome {
            eprintln!("{name}: QUORATE_FUZZ_SEED={seed}: \"{}\"", data.escape_ascii());
            std::panic::resume_unwind(cause);
        }
        let most = ALWAYS + PER_BYTE * length;
        assert!(peak <= most, "{name}: QUORATE_FUZZ_SEED={seed}: {peak} bytes of memory for {length}");
    }
}

/// Flips, overwrites, cuts, repeats and inserts.
fn damage(data: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..6) {
        let at = rng.usize(0..=data.len());
        match rng.u8(0..7) {
            0 => data.truncate(at),
            1 => data.insert(at, rng.u8(..)),
            2 => data.splice(at..at, std::iter::repeat_n(rng.u8(..), rng.usize(0..40))).for_each(drop),
            3 => {
                let again = data[at..data.len().min(at + rng.usize(0..40))].to_vec();
                data.splice(at..at, again).for_each(drop);
            }
            // A length or a number that is as large as it gets.
            4 => data[at..].iter_mut().take(rng.usize(1..9)).for_each(|byte| *byte = 0xff),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = if rng.bool() { *byte ^ (1 << rng.u8(0..8)) } else { rng.u8(..) };
                }
            }
        }
    }
}

fn frame(rng: &mut Rng) -> Vec<u8> {
    let mut frame = BytesMut::new();
    Codec::new(16 << 20).encode(&any_packet::packet(rng), &mut frame).expect("a small packet");
    frame.to_vec()
}

fn log_command(rng: &mut Rng) -> LogCommand {
    LogCommand { time_ms: rng.u64(..), stamp: None, command: any_packet::command(rng) }
}

fn lines(rng: &mut Rng, lines: &[&str], most: usize) -> Vec<u8> {
    let count = rng.usize(0..=most);
    let mut pick = || *rng.choice(lines).expect("there are lines");
    (0..count).map(|_| format!("{}\n", pick())).collect::<String>().into_bytes()
}

#[test]
fn streams_of_frames() {
    fuzz("stream", 1, |rng| {
        let frames = (0..rng.usize(0..4)).flat_map(|_| frame(rng)).collect::<Vec<u8>>();
        [&[rng.u8(..)], &frames[..]].concat()
    });
}

#[test]
fn messages() {
    fuzz("packet", 1, |rng| frame(rng).split_off(HEADER));
}

#[test]
fn commands() {
    fuzz("command", 1, |rng| log_command(rng).encode().to_vec());
}

/// Real segments, as the simulated disk holds them after some appends.
fn segment(rng: &mut Rng) -> Vec<u8> {
    use quorate::logic::ids::NodeId;
    use quorate::storage::{Disk, Log, LogOptions, SimDisk};
    let disk = std::sync::Arc::new(SimDisk::new(1));
    let options = LogOptions { segment_bytes: 16 << 10, block: 512, ..LogOptions::new(NodeId(1)) };
    let (mut log, _) = Log::open(disk.clone(), options).expect("an empty disk");
    for index in 1..=rng.u64(0..5) {
        let batch = storage_batch(index, rng);
        log.append(&[batch]).expect("room");
    }
    drop(log);
    let name =
        disk.list().expect("a list").into_iter().find(|name| name.ends_with(".wal")).expect("a segment");
    let mut content = vec![0; disk.size(&name).expect("it is there") as usize];
    disk.read(&name, 0, &mut content).expect("it is there");
    content
}

fn storage_batch(index: u64, rng: &mut Rng) -> quorate::storage::Batch {
    use quorate::logic::raft::entry::{Entry, Payload};
    let payload = Payload::Command(log_command(rng).encode());
    quorate::storage::Batch {
        entries: vec![Entry { index, term: 1, payload }],
        ..quorate::storage::Batch::new(GroupId(1))
    }
}

#[test]
fn segments_of_the_log() {
    fuzz("log_file", 4, segment);
}

/// The payloads of the frames of a real segment, each with its length before it.
fn payloads(rng: &mut Rng) -> Vec<u8> {
    let segment = segment(rng);
    let mut out = Vec::new();
    let mut at = 512;
    while let Some(head) = segment.get(at..at + 16) {
        let length = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let Some(payload) = segment.get(at + 16..at + 16 + length).filter(|_| length > 0) else { break };
        out.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
        out.extend_from_slice(payload);
        at = (at + 16 + length).next_multiple_of(512);
    }
    assert!(!out.is_empty(), "a segment begins with a frame");
    out
}

#[test]
fn records_of_the_log() {
    fuzz("log_records", 4, payloads);
}

/// The chunks of a store that holds something.
fn store_chunks(rng: &mut Rng) -> Vec<Vec<u8>> {
    let mut machine = Machine::new(GroupId(1));
    for index in 1..=7 {
        let change = Change::Put {
            key: format!("k{}", rng.u8(0..5)).into(),
            value: format!("v{index}").into(),
            expect: Expect::Any,
            lifetime: Lifetime::Forever,
        };
        let command = match rng.u8(0..4) {
            0 => Command::OpenSessionAs { ttl_ms: 1000, window: 8 },
            1 => Command::GrantLease { ttl_ms: 1000 },
            _ => Command::Change(change),
        };
        let _ = machine.apply_command(index, LogCommand { time_ms: index, stamp: None, command });
    }
    machine.freeze().chunks(if rng.bool() { 40 } else { 1 << 20 }).collect()
}

fn with_lengths(chunks: &[Vec<u8>]) -> Vec<u8> {
    chunks.iter().flat_map(|chunk| [&(chunk.len() as u16).to_le_bytes(), &chunk[..]].concat()).collect()
}

#[test]
fn snapshot_files() {
    use quorate::logic::ids::{LogPosition, NodeId};
    use quorate::logic::raft::entry::SnapshotMeta;
    use quorate::logic::raft::membership::Membership;
    use quorate::storage::{Disk, SimDisk, SnapshotStore};
    fuzz("snapshot_file", 4, |rng| {
        let disk = std::sync::Arc::new(SimDisk::new(1));
        let store = SnapshotStore::open(disk.clone(), None).expect("an empty disk");
        let membership = Membership::of_voters([NodeId(1)]);
        let last = LogPosition { index: 7, term: 2 };
        let mut writer = store.create(SnapshotMeta { group: GroupId(1), last, membership }).expect("room");
        for chunk in store_chunks(rng) {
            writer.push(&chunk).expect("room");
        }
        let mark = writer.finish().expect("room");
        let mut content = vec![0; disk.size(&mark.name).expect("it is there") as usize];
        disk.read(&mark.name, 0, &mut content).expect("it is there");
        content
    });
}

#[test]
fn chunks_of_snapshots() {
    fuzz("snapshot_chunks", 4, |rng| with_lengths(&store_chunks(rng)));
}

#[test]
fn items_of_the_store() {
    fuzz("store_items", 1, |rng| {
        let chunks = store_chunks(rng);
        chunks.first().map_or(Vec::new(), |chunk| chunk[12..].to_vec())
    });
}

#[test]
fn configurations() {
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/reference.toml"));
    let reference = reference.expect("the reference");
    let all: Vec<&str> = reference.lines().map(|line| line.trim_start_matches("# ")).collect();
    fuzz("config", 4, |rng| if rng.bool() { reference.clone().into_bytes() } else { lines(rng, &all, 40) });
}

#[test]
fn command_lines() {
    const WORDS: [&str; 34] = [
        "put",
        "get",
        "append",
        "cas",
        "del",
        "range",
        "batch",
        "lease",
        "status",
        "chaos",
        "bench",
        "verify",
        "config",
        "up",
        "node",
        "k",
        "v",
        "--hex",
        "00ff",
        "zz",
        "--ttl",
        "30s",
        "99999999999999999999d",
        "-1ms",
        "1.5h",
        "--lease",
        "1:42",
        "4294967296:1",
        "--endpoints",
        "127.0.0.1:7101,[::1]:1",
        "--json",
        "--node",
        "18446744073709551616",
        "--",
    ];
    fuzz("arguments", 4, |rng| lines(rng, &WORDS, 8));
}

#[test]
fn batches() {
    const LINES: [&str; 8] = [
        "put k v",
        r#"put "a key" "\x00\xff\n" version=0 ttl=30s"#,
        "put k v lease=1:42",
        "append k v version=7",
        "del k",
        "check k version=18446744073709551615",
        r#"{"op": "put", "key_hex": "00ff", "value": "v", "version": 0, "ttl": "30s"}"#,
        "# a comment",
    ];
    fuzz("batch", 1, |rng| lines(rng, &LINES, 5));
}

#[test]
fn histories() {
    const LINES: [&str; 5] = [
        r#"{"client":1,"call":10,"return":25,"op":"put","key":"k","value":"v","expect":0,"result":"ok","version":1}"#,
        r#"{"call":12,"return":30,"op":"get","key_hex":"00ff","result":"ok","value_hex":"ff","version":1}"#,
        r#"{"call":26,"op":"append","key":"k","value":"w","result":"unknown"}"#,
        r#"{"call":1,"return":2,"op":"batch","changes":[{"op":"check","key":"k","expect":3}],"result":"ok","results":[{}]}"#,
        r#"{"call":1,"return":2,"op":"delete","key":"k","result":"version","version":18446744073709551615}"#,
    ];
    fuzz("history", 1, |rng| lines(rng, &LINES, 1));
}

#[test]
fn every_body_has_a_test_and_a_target() {
    let source = include_str!("fuzz.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/fuzz_targets");
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/Cargo.toml"))
        .expect("it is there");
    for (name, _) in BODIES {
        assert!(source.contains(&format!("fuzz(\"{name}\", ")), "no test runs {name}");
        let target = std::fs::read_to_string(format!("{folder}/{name}.rs")).expect("a target");
        assert!(target.contains(&format!("quorate_fuzz::{name}(data)")), "{target}");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in fuzz/Cargo.toml");
    }
}
