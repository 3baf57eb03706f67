//! What the store costs with a million keys of 256 bytes: processor time an operation, and the pauses of applying while
//! another thread writes a snapshot. All figures are processor time of the thread, so a busy machine distorts them only
//! by what it does to caches.
//! `cargo bench --bench store`.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use quorate::logic::ids::GroupId;
use quorate::logic::kv::command::{Change, Command, Expect, Lifetime, LogCommand, Query, SessionId, Stamp};
use quorate::logic::kv::snapshot::DEFAULT_CHUNK_BYTES;
use quorate::logic::kv::{Machine, Restorer};

const GROUP: GroupId = GroupId(1);
const KEYS: u64 = 1_000_000;
const ROUNDS: u64 = 500_000;

fn main() {
    let mut machine = Machine::new(GROUP);
    let mut random = fastrand::Rng::with_seed(1);
    let opened = LogCommand { time_ms: 0, stamp: None, command: Command::OpenSession };
    machine.apply_command(1, opened).expect("a session");

    // Every key once, in an order that jumps about.
    let keys: Vec<u64> = (0..KEYS).map(|n| n * 7919 % KEYS).collect();
    timed("encode a put", &keys, |key| drop(black_box(encoded_put(*key, None))));
    insert_all(&mut machine, &keys);

    let picks: Vec<u64> = (0..ROUNDS).map(|_| random.u64(0..KEYS)).collect();
    let entries: Vec<Bytes> = picks.iter().map(|key| encoded_put(*key, None)).collect();
    timed("decode a put", &entries, |entry| drop(black_box(LogCommand::decode(entry))));
    timed("apply a put, key exists", &entries, |entry| apply(&mut machine, entry));
    let stamped: Vec<Bytes> =
        (1..).zip(&picks).map(|(seq, key)| encoded_put(*key, Some(stamp(seq)))).collect();
    timed("apply a put of a session", &stamped, |entry| apply(&mut machine, entry));
    let gets: Vec<Query> = picks.iter().map(|key| Query::Get { key: name(*key) }).collect();
    timed("get", &gets, |query| drop(black_box(machine.query(query))));

    let took = measured(|| {
        black_box(machine.hash());
    });
    println!("{:<32} {took:>10.1?}", "state hash");
    while_a_snapshot_is_written(&mut machine, &entries);
}

fn insert_all(machine: &mut Machine, keys: &[u64]) {
    // Entries are made in pieces, so that not all of them lie in memory beside the store.
    let mut took = Duration::ZERO;
    for piece in keys.chunks(10_000) {
        let entries: Vec<Bytes> = piece.iter().map(|key| encoded_put(*key, None)).collect();
        took += measured(|| entries.iter().for_each(|entry| apply(machine, entry)));
    }
    report("apply a put, key is new", took, KEYS);
}

fn while_a_snapshot_is_written(machine: &mut Machine, entries: &[Bytes]) {
    let before = cpu_time();
    let frozen = machine.freeze();
    println!("{:<32} {:>10.1?}", "freeze", cpu_time() - before);
    let writer = thread::spawn(move || {
        let mut chunks = Vec::new();
        let took = measured(|| chunks.extend(frozen.chunks(DEFAULT_CHUNK_BYTES)));
        (chunks, took)
    });
    let mut pauses: Vec<Duration> = Vec::with_capacity(entries.len());
    let took = measured(|| {
        while !writer.is_finished() || pauses.len() < entries.len() / 4 {
            let entry = &entries[pauses.len() % entries.len()];
            pauses.push(measured(|| apply(machine, entry)));
        }
    });
    report("apply a put after the freeze", took, pauses.len() as u64);
    pauses.sort();
    println!("{:<32} {:>10.1?}", "  half within", pauses[pauses.len() / 2]);
    println!("{:<32} {:>10.1?}", "  99.9 % within", pauses[pauses.len() * 999 / 1000]);
    println!("{:<32} {:>10.1?}", "  worst", pauses[pauses.len() - 1]);
    let (chunks, took) = writer.join().expect("the writer does not panic");
    let bytes: usize = chunks.iter().map(Vec::len).sum();
    println!("{:<32} {took:>10.1?} ({} chunks, {} MiB)", "write the snapshot", chunks.len(), bytes >> 20);
    let took = measured(|| {
        let mut restorer = Restorer::new(GROUP);
        chunks.iter().for_each(|chunk| restorer.chunk(chunk).expect("a chunk as it was made"));
        drop(black_box(restorer.finish().expect("a whole snapshot")));
    });
    println!("{:<32} {took:>10.1?}", "restore and drop it");
}

/// Processor time of this thread so far: other processes on the machine do not count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call only writes to the structure that it is given, which outlives it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "this system does not measure the processor time of threads");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn measured(run: impl FnOnce()) -> Duration {
    let before = cpu_time();
    run();
    cpu_time() - before
}

fn timed<T>(what: &str, items: &[T], run: impl FnMut(&T)) {
    report(what, measured(|| items.iter().for_each(run)), items.len() as u64);
}

fn report(what: &str, took: Duration, count: u64) {
    println!("{what:<32} {:>7} ns", took.as_nanos() / u128::from(count));
}

fn apply(machine: &mut Machine, entry: &Bytes) {
    machine.apply(machine.applied() + 1, entry).expect("an unconditional put succeeds");
}

fn name(key: u64) -> Bytes {
    Bytes::from(format!("user/{key:012}"))
}

fn stamp(seq: u64) -> Stamp {
    let session = SessionId { group: GROUP, index: 1 };
    Stamp { session, seq, acked_below: seq.saturating_sub(64).max(1) }
}

fn encoded_put(key: u64, stamp: Option<Stamp>) -> Bytes {
    static VALUE: [u8; 256] = [7; 256];
    let change = Change::Put {
        key: name(key),
        value: Bytes::from_static(&VALUE),
        expect: Expect::Any,
        lifetime: Lifetime::Forever,
    };
    LogCommand { time_ms: 1, stamp, command: Command::Change(change) }.encode()
}
