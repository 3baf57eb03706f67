//! How fast the log gets entries onto the disk: `cargo bench --bench wal [directory] [seconds per case]`.
//!
//! Compares one durable write with a write and a sync, on written-out segments, for frames of several sizes and
//! alignments; then the log itself, and its thread. The cases take turns, so that a noisy moment hits all of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::logic::ids::{GroupId, NodeId};
use quorate::logic::raft::entry::{Entry, Payload};
use quorate::storage::{Batch, Disk, Log, LogOptions, LogWriter, RealDisk};

const ENTRY: usize = 300;
const FILE: u64 = 64 << 20;

type Case<'a> = (String, Box<dyn FnMut() + 'a>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let base = arguments.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.get(1).map_or(1.0, |text| text.parse().expect("seconds"));
    let directory = tempfile::tempdir_in(base).expect("a directory");
    let disk = RealDisk::open(directory.path().join("raw")).expect("a disk");
    disk.create("file").expect("a file");
    for at in (0..FILE).step_by(1 << 20) {
        disk.write_durable("file", at, &vec![0; 1 << 20]).expect("room");
    }
    let mut cases: Vec<Case<'_>> = Vec::new();
    for block in [512, 4096] {
        for entries in [1, 16, 64] {
            let frame = vec![0x5a; (entries * ENTRY + 64).next_multiple_of(block)];
            for one_call in [true, false] {
                let (disk, frame, mut at) = (&disk, frame.clone(), 0);
                let name = if one_call { "RWF_DSYNC" } else { "write+fdatasync" };
                cases.push((
                    format!("{name:<16} block {block:<5} entries {entries:<3}"),
                    Box::new(move || {
                        if one_call {
                            disk.write_durable("file", at, &frame).expect("room");
                        } else {
                            disk.write("file", at, &frame).and_then(|()| disk.sync("file")).expect("room");
                        }
                        at = (at + frame.len() as u64) % (FILE - (1 << 20));
                    }),
                ));
            }
        }
    }
    for block in [512, 4096] {
        for entries in [1, 16, 64] {
            let disk =
                RealDisk::open(directory.path().join(format!("log-{block}-{entries}"))).expect("a disk");
            let options = LogOptions { block, ..LogOptions::new(NodeId(1)) };
            let (mut log, _) = Log::open(Arc::new(disk), options).expect("a log");
            let mut index = 1;
            cases.push((
                format!("{:<16} block {block:<5} entries {entries:<3}", "Log::append"),
                Box::new(move || {
                    log.append(&[batch(&mut index, entries)]).expect("room");
                }),
            ));
        }
    }
    let disk = RealDisk::open(directory.path().join("thread")).expect("a disk");
    let fatal = Box::new(|error| panic!("{error}"));
    let (_writer, handle, _) =
        LogWriter::start(Arc::new(disk), LogOptions::new(NodeId(1)), fatal).expect("a log");
    let (mut index, (sender, receiver)) = (1, mpsc::channel());
    cases.push((
        format!("{:<16} one batch of 1 at a time", "LogWriter"),
        Box::new(move || {
            let sender = sender.clone();
            handle.submit(batch(&mut index, 1), Box::new(move |result| sender.send(result).expect("heard")));
            receiver.recv().expect("an answer").expect("room");
        }),
    ));
    measure(&mut cases, Duration::from_secs_f64(seconds));
}

/// Entries that replace the ones 20 frames back, so that nothing accumulates.
fn batch(index: &mut u64, entries: u64) -> Batch {
    if *index > 20 * entries {
        *index = 1;
    }
    let payload = Payload::Command(Bytes::from(vec![0x5a; ENTRY]));
    let entries = (*index..*index + entries)
        .map(|index| Entry { index, term: 1, payload: payload.clone() })
        .collect::<Vec<_>>();
    *index += entries.len() as u64;
    Batch { entries, ..Batch::new(GroupId(1)) }
}

fn measure(cases: &mut [Case<'_>], each: Duration) {
    const ROUNDS: u32 = 50;
    let mut times: BTreeMap<usize, Vec<u64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (number, (_, run)) in cases.iter_mut().enumerate() {
            let started = Instant::now();
            while started.elapsed() < each / ROUNDS {
                let call = Instant::now();
                run();
                let time = u64::try_from(call.elapsed().as_nanos()).expect("less than 500 years");
                times.entry(number).or_default().push(time);
            }
        }
    }
    // On a machine that is busy with something else, the fastest tenth says most about the disk.
    println!("{:<46} {:>9} {:>9} {:>9} {:>9}", "case", "syncs/s", "p10 us", "p50 us", "p99 us");
    for (number, mut times) in times {
        times.sort_unstable();
        let total: u64 = times.iter().sum();
        let rate = times.len() as f64 * 1e9 / total as f64;
        let at = |part: usize| times[(times.len() - 1) * part / 100] as f64 / 1e3;
        println!("{:<46} {rate:>9.0} {:>9.1} {:>9.1} {:>9.1}", cases[number].0, at(10), at(50), at(99));
    }
}
