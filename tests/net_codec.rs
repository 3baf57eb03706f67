//! Frames: what is encoded is decoded again, and nothing that arrives can panic or allocate without bound.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use proptest::prelude::*;
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::kv::command::*;
use quorate::logic::raft::entry::{Entry, Payload, SnapshotMeta};
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::{AppendOutcome, Envelope, Message};
use quorate::messages::admin::*;
use quorate::messages::client::*;
use quorate::messages::wire::{Hello, Packet, Welcome};
use quorate::net::codec::{Codec, CodecError, HEADER};

const MAX_FRAME: usize = 4 << 20;

/// Counts the bytes that the current thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

// SAFETY: every call is passed on to the system's allocator unchanged; the counters are plain thread-local numbers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // A thread that is ending has no counters any more, and needs none.
        let _ = HELD.try_with(|held| {
            held.set(held.get() + layout.size() as isize);
            let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
        });
        // SAFETY: as asked.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        let _ = HELD.try_with(|held| held.set(held.get() - layout.size() as isize));
        // SAFETY: as asked.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory, in bytes, that `work` held above what was held before.
fn peak_of<T>(work: impl FnOnce() -> T) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    drop(work());
    (PEAK.get() - before).max(0) as usize
}

fn blob(rng: &mut Rng) -> Bytes {
    let length = if rng.u8(0..8) == 0 { rng.usize(0..70_000) } else { rng.usize(0..40) };
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

/// Numbers of all encoded lengths.
fn number(rng: &mut Rng) -> u64 {
    let bits = rng.u32(0..64);
    rng.u64(..) >> bits
}

fn text(rng: &mut Rng) -> String {
    let length = rng.usize(0..50);
    std::iter::repeat_with(|| rng.char('a'..'ö')).take(length).collect()
}

fn some<T>(rng: &mut Rng, make: impl FnOnce(&mut Rng) -> T) -> Option<T> {
    rng.bool().then(|| make(rng))
}

fn list<T>(rng: &mut Rng, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    let length = rng.usize(0..20);
    (0..length).map(|_| make(rng)).collect()
}

fn group(rng: &mut Rng) -> GroupId {
    GroupId(number(rng) as u32)
}

fn position(rng: &mut Rng) -> LogPosition {
    LogPosition { index: number(rng), term: number(rng) }
}

fn members(rng: &mut Rng) -> Membership {
    let mut set = || list(rng, |rng| NodeId(number(rng))).into_iter().collect::<BTreeSet<_>>();
    Membership { voters: set(), outgoing: set(), learners: set() }
}

fn entry(rng: &mut Rng) -> Entry {
    let payload = match rng.u8(0..3) {
        0 => Payload::Noop,
        1 => Payload::Command(blob(rng)),
        _ => Payload::Membership(members(rng)),
    };
    Entry { index: number(rng), term: number(rng), payload }
}

fn raft(rng: &mut Rng) -> Message {
    match rng.u8(0..8) {
        0 => Message::RequestVote { last: position(rng), pre: rng.bool(), transfer: rng.bool() },
        1 => Message::VoteReply { pre: rng.bool(), granted: rng.bool() },
        2 => Message::Append {
            prev: position(rng),
            entries: list(rng, entry),
            commit: number(rng),
            round: number(rng),
        },
        3 => Message::AppendReply {
            outcome: AppendOutcome::Accepted { matched: number(rng) },
            round: number(rng),
        },
        4 => Message::AppendReply {
            outcome: AppendOutcome::Rejected { prev: number(rng), hint: position(rng) },
            round: number(rng),
        },
        5 => Message::SnapshotChunk {
            meta: SnapshotMeta { group: group(rng), last: position(rng), membership: members(rng) },
            number: number(rng) as u32,
            last: rng.bool(),
            data: blob(rng),
        },
        6 => Message::SnapshotReply { last: position(rng), next: number(rng) as u32, installed: rng.bool() },
        _ => Message::TimeoutNow,
    }
}

fn expect(rng: &mut Rng) -> Expect {
    match rng.u8(0..3) {
        0 => Expect::Any,
        1 => Expect::Absent,
        _ => Expect::Version(number(rng)),
    }
}

fn lease(rng: &mut Rng) -> LeaseId {
    LeaseId { group: group(rng), index: number(rng) }
}

fn change(rng: &mut Rng) -> Change {
    let (key, expect) = (blob(rng), expect(rng));
    match rng.u8(0..4) {
        0 => Change::Append { key, value: blob(rng), expect },
        1 => Change::Delete { key, expect },
        2 => Change::Check { key, expect },
        _ => {
            let lifetime = match rng.u8(0..3) {
                0 => Lifetime::Forever,
                1 => Lifetime::Ttl(number(rng)),
                _ => Lifetime::Lease(lease(rng)),
            };
            Change::Put { key, value: blob(rng), expect, lifetime }
        }
    }
}

fn session(rng: &mut Rng) -> SessionId {
    SessionId { group: group(rng), index: number(rng) }
}

fn command(rng: &mut Rng) -> Command {
    match rng.u8(0..9) {
        0 => Command::Batch(list(rng, change)),
        1 => Command::OpenSession,
        2 => Command::KeepAlive,
        3 => Command::CloseSession,
        4 => Command::GrantLease { ttl_ms: number(rng) },
        5 => Command::RenewLease { lease: lease(rng) },
        6 => Command::RevokeLease { lease: lease(rng) },
        7 => Command::Advance,
        _ => Command::Change(change(rng)),
    }
}

fn query(rng: &mut Rng) -> Query {
    let (max_keys, max_bytes) = (number(rng) as u32, number(rng) as u32);
    match rng.u8(0..3) {
        0 => Query::Get { key: blob(rng) },
        1 => Query::Range {
            start: blob(rng),
            end: some(rng, blob),
            max_keys,
            max_bytes,
            keys_only: rng.bool(),
        },
        _ => Query::Prefix {
            prefix: blob(rng),
            after: some(rng, blob),
            max_keys,
            max_bytes,
            keys_only: rng.bool(),
        },
    }
}

fn request(rng: &mut Rng) -> RequestBody {
    match rng.u8(0..4) {
        0 => RequestBody::Admin(AdminRequest::Chaos(Chaos::Hang { actor: text(rng), ms: number(rng) })),
        1 => RequestBody::Admin(AdminRequest::TransferLeader { to: some(rng, |rng| NodeId(number(rng))) }),
        2 => {
            let consistency = *rng
                .choice(&[Consistency::Linearizable, Consistency::Lease, Consistency::Stale])
                .expect("three");
            RequestBody::Read { query: query(rng), consistency }
        }
        _ => {
            let stamp =
                some(rng, |rng| Stamp { session: session(rng), seq: number(rng), acked_below: number(rng) });
            RequestBody::Write { stamp, command: command(rng) }
        }
    }
}

fn changed(rng: &mut Rng) -> Changed {
    match rng.u8(0..3) {
        0 => Changed::Version(number(rng)),
        1 => Changed::Deleted { existed: rng.bool() },
        _ => Changed::Held,
    }
}

fn reply(rng: &mut Rng) -> Reply {
    match rng.u8(0..7) {
        0 => Reply::Changed(changed(rng)),
        1 => Reply::Batch(list(rng, changed)),
        2 => Reply::Session { session: session(rng), ttl_ms: number(rng), window: number(rng) as u32 },
        3 => Reply::Lease { lease: lease(rng), ttl_ms: number(rng) },
        4 => Reply::Done,
        5 => Reply::Value { value: blob(rng), version: number(rng) },
        _ => {
            let pair = |rng: &mut Rng| Pair { key: blob(rng), value: blob(rng), version: number(rng) };
            Reply::Pairs { pairs: list(rng, pair), cursor: some(rng, blob) }
        }
    }
}

fn kv_error(rng: &mut Rng) -> KvError {
    match rng.u8(0..8) {
        0 => KvError::NoKey,
        1 => KvError::Version { actual: number(rng) },
        2 => KvError::Batch { position: number(rng) as u32, error: Box::new(kv_error(rng)) },
        3 => KvError::Limit { limit: text(rng), what: text(rng), max: number(rng), asked: number(rng) },
        4 => KvError::SessionExpired,
        5 => KvError::Duplicate,
        6 => KvError::LeaseExpired,
        _ => KvError::Malformed(text(rng)),
    }
}

fn tree(rng: &mut Rng, depth: usize) -> ActorStatus {
    let children = if depth == 0 { Vec::new() } else { vec![tree(rng, depth - 1), tree(rng, 0)] };
    ActorStatus {
        name: text(rng),
        state: text(rng),
        generation: number(rng),
        restarts: number(rng),
        last_cause: some(rng, text),
        children,
    }
}

fn result(rng: &mut Rng) -> Result<Answer, ServerError> {
    match rng.u8(0..10) {
        0 => Err(ServerError::NotLeader { leader: some(rng, |rng| NodeId(number(rng))) }),
        1 => Err(ServerError::Busy { limit: text(rng) }),
        2 => Err(ServerError::Unknown),
        3 => Err(ServerError::NoSuchGroup),
        4 => Err(ServerError::Invalid(text(rng))),
        5 => Err(ServerError::Refused(kv_error(rng))),
        6 => Ok(Answer::Admin(Box::new(AdminReply::Tree(tree(rng, 10))))),
        _ => Ok(Answer::Kv(reply(rng))),
    }
}

fn packet(rng: &mut Rng) -> Packet {
    match rng.u8(0..10) {
        0 => Packet::Hello(Hello {
            version: number(rng) as u32,
            cluster: text(rng),
            node: some(rng, |rng| NodeId(number(rng))),
            store: number(rng),
        }),
        1 => Packet::Welcome(Welcome {
            version: number(rng) as u32,
            cluster: text(rng),
            node: NodeId(number(rng)),
            store: number(rng),
            nodes: list(rng, |rng| (NodeId(number(rng)), text(rng))),
        }),
        2 => Packet::Goodbye { reason: text(rng) },
        3 => Packet::Ping(number(rng)),
        4 => Packet::Pong(number(rng)),
        5 | 6 => Packet::Request(Request { id: number(rng), group: group(rng), body: request(rng) }),
        7 | 8 => Packet::Response(Response { id: number(rng), result: result(rng) }),
        _ => Packet::Raft(Envelope {
            group: group(rng),
            from: NodeId(number(rng)),
            to: NodeId(number(rng)),
            term: number(rng),
            body: raft(rng),
        }),
    }
}

fn frame(packet: &Packet) -> BytesMut {
    let mut buffer = BytesMut::new();
    Codec::new(MAX_FRAME).encode(packet, &mut buffer).expect("a small packet fits");
    buffer
}

/// A frame with this body, right or wrong.
fn raw(body: &[u8]) -> BytesMut {
    let mut buffer = BytesMut::new();
    buffer.put_u32(body.len() as u32);
    buffer.extend_from_slice(body);
    buffer
}

fn decode(mut bytes: BytesMut) -> Result<Option<Packet>, CodecError> {
    Codec::new(MAX_FRAME).decode(&mut bytes)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is encoded comes back, in order, however the bytes are cut; and its cost is a tight upper bound.
    #[test]
    fn packets_survive_the_way(seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let packets = list(&mut rng, packet);
        let codec = Codec::new(MAX_FRAME);
        let mut wire = BytesMut::new();
        for packet in &packets {
            let before = wire.len();
            codec.encode(packet, &mut wire).expect("fits");
            let length = wire.len() - before - HEADER;
            prop_assert!(packet.cost() >= length, "{length} bytes cost only {}: {packet:?}", packet.cost());
            prop_assert!(packet.cost() <= length + length / 8 + 1024 + 32 * packets.len() * 20);
        }
        let (mut buffer, mut arrived) = (BytesMut::new(), Vec::new());
        while !wire.is_empty() || !buffer.is_empty() {
            let cut = rng.usize(0..=wire.len().min(5000));
            buffer.unsplit(wire.split_to(cut));
            while let Some(packet) = codec.decode(&mut buffer).expect("well-formed") {
                arrived.push(packet);
            }
        }
        prop_assert_eq!(arrived, packets);
    }

    /// A frame that was damaged is refused or means something; it never panics and never takes much memory.
    #[test]
    fn damaged_frames_are_harmless(seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let mut bytes = frame(&packet(&mut rng));
        for _ in 0..rng.usize(1..6) {
            let at = rng.usize(HEADER..bytes.len());
            bytes[at] = if rng.bool() { bytes[at] ^ (1 << rng.u8(0..8)) } else { rng.u8(..) };
        }
        let length = bytes.len();
        let peak = peak_of(|| decode(bytes));
        prop_assert!(peak <= 64 * length + 4096, "{peak} bytes for a frame of {length}");
    }

    /// The same for bytes that never were a frame.
    #[test]
    fn noise_is_harmless(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let peak = peak_of(|| decode(raw(&body)));
        prop_assert!(peak <= 64 * body.len() + 4096, "{peak} bytes for {}", body.len());
    }

    /// A frame that is cut short is waited for; one whose length was made shorter is refused.
    #[test]
    fn truncated_frames(seed: u64) {
        let mut rng = Rng::with_seed(seed);
        let bytes = frame(&packet(&mut rng));
        let cut = rng.usize(0..bytes.len());
        prop_assert!(matches!(decode(BytesMut::from(&bytes[..cut])), Ok(None)));
        let body = &bytes[HEADER..];
        let cut = rng.usize(0..body.len());
        prop_assert!(decode(raw(&body[..cut])).is_err());
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_at_its_header() {
    let codec = Codec::new(1000);
    let mut header = BytesMut::from(&1001u32.to_be_bytes()[..]);
    assert!(matches!(codec.decode(&mut header), Err(CodecError::TooLong { length: 1001, limit: 1000 })));
    let mut huge = BytesMut::from(&[0xff; 4][..]);
    assert!(matches!(codec.decode(&mut huge), Err(CodecError::TooLong { .. })));
}

#[test]
fn an_announced_frame_takes_no_memory_before_it_arrives() {
    let peak = peak_of(|| {
        let mut buffer = BytesMut::from(&(MAX_FRAME as u32).to_be_bytes()[..]);
        assert!(matches!(Codec::new(MAX_FRAME).decode(&mut buffer), Ok(None)));
        buffer
    });
    assert!(peak < 256, "{peak}");
}

#[test]
fn a_packet_above_the_limit_leaves_the_buffer_as_it_was() {
    let mut buffer = BytesMut::from(&b"before"[..]);
    let packet = Packet::Goodbye { reason: "x".repeat(2000) };
    let error = Codec::new(1000).encode(&packet, &mut buffer).expect_err("too long");
    assert!(matches!(error, CodecError::TooLong { .. }), "{error}");
    assert_eq!(&buffer[..], b"before");
}

#[test]
fn bytes_behind_the_packet_are_refused() {
    let mut body = frame(&Packet::Ping(7)).split_off(HEADER);
    body.put_u8(0xc0);
    assert!(decode(raw(&body)).is_err());
    assert!(decode(raw(&[])).is_err());
}

#[test]
fn announced_lengths_are_not_believed() {
    // {"Welcome": {"nodes": [2^32 - 1 elements]}}, and the same with a map, a text and bytes.
    for header in [0xdd_u8, 0xdf, 0xdb, 0xc6] {
        let mut body = vec![0x81, 0xa7];
        body.extend_from_slice(b"Welcome");
        body.extend_from_slice(&[0x81, 0xa5]);
        body.extend_from_slice(b"nodes");
        body.extend_from_slice(&[header, 0xff, 0xff, 0xff, 0xff, 0x00]);
        let peak = peak_of(|| assert!(decode(raw(&body)).is_err()));
        assert!(peak < 4096, "{peak} bytes for header {header:#x}");
    }
}

#[test]
fn nesting_is_limited() {
    // A million arrays inside each other, where an unknown field is skipped.
    let mut body = vec![0x81, 0xa5];
    body.extend_from_slice(b"Hello");
    body.extend_from_slice(&[0x81, 0xa1, b'?']);
    body.extend(std::iter::repeat_n(0x91, 1_000_000));
    body.push(0xc0);
    let error = decode(raw(&body)).expect_err("too deep");
    assert!(error.to_string().contains("nested deeper"), "{error}");

    // The errors of batches of batches, beyond anything that makes sense.
    let mut error = KvError::NoKey;
    for _ in 0..40 {
        error = KvError::Batch { position: 0, error: Box::new(error) };
    }
    let deep = Packet::Response(Response { id: 1, result: Err(ServerError::Refused(error)) });
    assert!(decode(frame(&deep)).is_err());
}

#[test]
fn a_new_field_does_not_disturb_an_old_reader() {
    // {"Hello": {"version": 1, "colour": "red"}}
    let mut body = vec![0x81, 0xa5];
    body.extend_from_slice(b"Hello");
    body.push(0x82);
    body.extend_from_slice(b"\xa7version\x01\xa6colour\xa3red");
    let Ok(Some(Packet::Hello(hello))) = decode(raw(&body)) else { panic!("a hello") };
    assert_eq!(hello, Hello { version: 1, cluster: String::new(), node: None, store: 0 });
}
