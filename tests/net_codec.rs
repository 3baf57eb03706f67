//! Frames: what is encoded is decoded again, and nothing that arrives can panic or allocate without bound.

mod any_packet;
mod counting;

use any_packet::{list, packet};
use bytes::{BufMut, Bytes, BytesMut};
use counting::peak_of;
use fastrand::Rng;
use proptest::prelude::*;
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::kv::command::{Change, Command, Expect, KvError, Lifetime, Reply};
use quorate::logic::raft::entry::{Entry, Payload, SnapshotMeta};
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::{Envelope, Message};
use quorate::messages::client::{Answer, Request, RequestBody, Response, ServerError};
use quorate::messages::mapreduce::MapReduceReply;
use quorate::messages::wire::{Hello, Packet};
use quorate::net::codec::{Codec, CodecError, HEADER};

const MAX_FRAME: usize = 4 << 20;

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

/// Each message that can be large, with this payload.
fn carriers(payload: &Bytes) -> [Packet; 5] {
    let entry = Entry { index: 1, term: 1, payload: Payload::Command(payload.clone()) };
    let last = LogPosition { index: 1, term: 1 };
    let meta = SnapshotMeta { group: GroupId(1), last, membership: Membership::default() };
    let raft =
        |body| Packet::Raft(Envelope { group: GroupId(1), from: NodeId(1), to: NodeId(2), term: 1, body });
    let put = Change::Put {
        key: Bytes::from_static(b"key"),
        value: payload.clone(),
        expect: Expect::Any,
        lifetime: Lifetime::Forever,
    };
    let body = RequestBody::Write { stamp: None, command: Command::Change(put) };
    let respond = |answer| Packet::Response(Response { id: 1, result: Ok(answer) });
    [
        raft(Message::Append { prev: last, entries: vec![entry], commit: 1, round: 1 }),
        raft(Message::SnapshotChunk { meta, number: 1, last: false, data: payload.clone() }),
        Packet::Request(Request { id: 1, group: GroupId(1), body }),
        respond(Answer::Kv(Reply::Value { value: payload.clone(), version: 1 })),
        respond(Answer::MapReduce(MapReduceReply::Chunk { bytes: payload.clone(), size: 1 })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is encoded comes back, in order, however the bytes are cut; and its cost is an upper bound: at most
    /// seven times as much, if it is all of the smallest parts (a batch in which nothing changed).
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
            prop_assert!(packet.cost() <= 7 * length + 256, "{length} bytes cost {}: {packet:?}", packet.cost());
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

    /// What packets carry for others is counted once.
    #[test]
    fn a_payload_costs_its_length(length in 0..200_000usize) {
        for packet in carriers(&Bytes::from(vec![7; length])) {
            let encoded = frame(&packet).len() - HEADER;
            prop_assert!(encoded >= length);
            prop_assert!((encoded..encoded + 256).contains(&packet.cost()), "{encoded} cost {}", packet.cost());
        }
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
    let packet = Packet::Goodbye { reason: "x".repeat(2000), new_store: false };
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
