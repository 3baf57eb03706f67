//! The bytes in `docs/wire.md` are the bytes of the program.

use bytes::BytesMut;
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::kv::command::*;
use quorate::logic::mapreduce::job::{Attempt, TaskId};
use quorate::logic::mapreduce::record::JobId;
use quorate::logic::mapreduce::report::Work;
use quorate::logic::raft::entry::{Entry, Payload};
use quorate::logic::raft::message::{AppendOutcome, Envelope, Message};
use quorate::messages::admin::AdminRequest;
use quorate::messages::client::*;
use quorate::messages::mapreduce::{MAX_CHUNK, MapReduceReply, MapReduceRequest};
use quorate::messages::wire::{Hello, PROTOCOL_VERSION, Packet, Welcome};
use quorate::net::NetSettings;
use quorate::net::codec::Codec;
use quorate::net::handshake::{MAX_HELLO, client_hello};

const GROUP: GroupId = GroupId(1);
const SESSION: SessionId = SessionId { group: GROUP, index: 7 };

fn write(id: u64, stamp: Option<Stamp>, command: Command) -> Packet {
    Packet::Request(Request { id, group: GROUP, body: RequestBody::Write { stamp, command } })
}

fn read(id: u64, query: Query, consistency: Consistency) -> Packet {
    Packet::Request(Request { id, group: GROUP, body: RequestBody::Read { query, consistency } })
}

fn put(expect: Expect) -> Command {
    let (key, value) = ("greeting".into(), "hello".into());
    Command::Change(Change::Put { key, value, expect, lifetime: Lifetime::Forever })
}

fn answer(id: u64, reply: Reply) -> Packet {
    Packet::Response(Response { id, result: Ok(Answer::Kv(reply)) })
}

fn error(id: u64, error: ServerError) -> Packet {
    Packet::Response(Response { id, result: Err(error) })
}

fn raft(body: Message) -> Packet {
    Packet::Raft(Envelope { group: GROUP, from: NodeId(1), to: NodeId(2), term: 3, body })
}

/// Every example of the page.
fn examples() -> Vec<(&'static str, Packet)> {
    let nodes = (1..=3).map(|node| (NodeId(node), format!("127.0.0.1:700{node}"))).collect();
    let prefix = Query::Prefix {
        prefix: "user/".into(),
        after: Some("user/1".into()),
        max_keys: 2,
        max_bytes: 0,
        keys_only: false,
    };
    let pair =
        |key: &'static str, value: &'static str| Pair { key: key.into(), value: value.into(), version: 1 };
    let batch = vec![
        Change::Check { key: "owner".into(), expect: Expect::Version(2) },
        Change::Delete { key: "task".into(), expect: Expect::Any },
    ];
    let lease = |index| LeaseId { group: GROUP, index };
    let fenced = vec![
        Change::Fence { lock: "nightly".into(), token: 9 },
        Change::Put {
            key: "newest".into(),
            value: "3".into(),
            expect: Expect::Any,
            lifetime: Lifetime::Forever,
        },
    ];
    let fenced_off = KvError::Batch { position: 0, error: Box::new(KvError::Fenced { holder: Some(12) }) };
    let holder = Holder { lease: lease(12), owner: "other#01".into(), left_ms: 6500 };
    let work = Work { job: JobId(7), attempt: Attempt { task: TaskId::map(3), number: 1 } };
    vec![
        ("hello", Packet::Hello(client_hello("demo"))),
        (
            "welcome",
            Packet::Welcome(Welcome {
                version: PROTOCOL_VERSION,
                cluster: "demo".to_owned(),
                node: NodeId(1),
                store: 0x1122_3344_5566_7788,
                nodes,
            }),
        ),
        ("goodbye", Packet::Goodbye { reason: "no".to_owned(), new_store: false }),
        ("ping", Packet::Ping(1)),
        ("pong", Packet::Pong(1)),
        ("put", write(1, None, put(Expect::Any))),
        ("put-reply", answer(1, Reply::Changed(Changed::Version(1)))),
        ("cas", write(2, None, put(Expect::Version(1)))),
        ("cas-refused", error(2, ServerError::Refused(KvError::Version { actual: 4 }))),
        ("get", read(3, Query::Get { key: "greeting".into() }, Consistency::Linearizable)),
        ("get-reply", answer(3, Reply::Value { value: "hello".into(), version: 1 })),
        ("get-nothing", error(3, ServerError::Refused(KvError::NoKey))),
        ("prefix", read(4, prefix, Consistency::Linearizable)),
        (
            "prefix-reply",
            answer(
                4,
                Reply::Pairs {
                    pairs: vec![pair("user/2", "b"), pair("user/3", "c")],
                    cursor: Some("user/3".into()),
                },
            ),
        ),
        ("batch", write(5, None, Command::Batch(batch))),
        ("batch-reply", answer(5, Reply::Batch(vec![Changed::Held, Changed::Deleted { existed: true }]))),
        ("open-session", write(6, None, Command::OpenSession)),
        ("session", answer(6, Reply::Session { session: SESSION, ttl_ms: 60_000, window: 64 })),
        (
            "put-in-session",
            write(7, Some(Stamp { session: SESSION, seq: 1, acked_below: 1 }), put(Expect::Any)),
        ),
        (
            "keep-alive",
            write(8, Some(Stamp { session: SESSION, seq: 2, acked_below: 2 }), Command::KeepAlive),
        ),
        ("keep-alive-reply", answer(8, Reply::Done)),
        ("not-leader", error(9, ServerError::NotLeader { leader: Some(NodeId(2)) })),
        ("busy", error(9, ServerError::Busy { limit: "max_requests_per_connection".to_owned() })),
        ("unknown", error(9, ServerError::Unknown)),
        (
            "status",
            Packet::Request(Request { id: 10, group: GROUP, body: RequestBody::Admin(AdminRequest::Status) }),
        ),
        (
            "fetch",
            Packet::Request(Request {
                id: 11,
                group: GROUP,
                body: RequestBody::MapReduce(MapReduceRequest::Fetch { work, offset: 0, length: MAX_CHUNK }),
            }),
        ),
        (
            "chunk",
            Packet::Response(Response {
                id: 11,
                result: Ok(Answer::MapReduce(MapReduceReply::Chunk { bytes: "abc".into(), size: 3 })),
            }),
        ),
        (
            "node-hello",
            Packet::Hello(Hello {
                version: PROTOCOL_VERSION,
                cluster: "demo".to_owned(),
                node: Some(NodeId(1)),
                store: 0x1122_3344_5566_7788,
            }),
        ),
        (
            "append",
            raft(Message::Append {
                prev: LogPosition { index: 9, term: 2 },
                entries: vec![
                    Entry { index: 10, term: 3, payload: Payload::Noop },
                    Entry { index: 11, term: 3, payload: Payload::Command("abc".into()) },
                ],
                commit: 9,
                round: 5,
            }),
        ),
        (
            "append-reply",
            raft(Message::AppendReply { outcome: AppendOutcome::Accepted { matched: 11 }, round: 5 }),
        ),
        (
            "claim",
            write(
                11,
                None,
                Command::Claim {
                    lock: "nightly".into(),
                    owner: "host#7f".into(),
                    ttl_ms: 10_000,
                    queue: true,
                },
            ),
        ),
        ("claim-reply", answer(11, Reply::Claim { lease: lease(9), ttl_ms: 10_000, held: false })),
        ("turn", read(12, Query::Turn { lease: lease(9), wait_ms: 10_000 }, Consistency::Linearizable)),
        ("turn-reply", answer(12, Reply::Turn { held: true })),
        ("fenced", write(13, None, Command::Batch(fenced))),
        ("fenced-off", error(13, ServerError::Refused(fenced_off))),
        ("lock", read(14, Query::Lock { lock: "nightly".into() }, Consistency::Linearizable)),
        ("lock-reply", answer(14, Reply::Lock { holder: Some(holder), waiting: 2 })),
    ]
}

/// The blocks of the page that begin with "```hex name", as bytes. Text behind `#` is a comment.
fn blocks(page: &str) -> Vec<(String, Vec<u8>)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else { continue };
        let body = lines.by_ref().take_while(|line| *line != "```");
        let digits: String =
            body.flat_map(|line| line.split('#').next()).flat_map(str::split_whitespace).collect();
        assert!(digits.len().is_multiple_of(2), "block {name} ends in the middle of a byte");
        let bytes = (0..digits.len()).step_by(2).map(|at| {
            let pair = digits.get(at..at + 2).unwrap_or_else(|| panic!("block {name} has more than digits"));
            u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("block {name}: `{pair}` is not a byte"))
        });
        blocks.push((name.to_owned(), bytes.collect()));
    }
    blocks
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const PAGE: &str = include_str!("../docs/wire.md");

#[test]
fn the_examples_are_the_bytes_of_the_program() {
    let blocks = blocks(PAGE);
    let codec = Codec::new(NetSettings::default().max_frame);
    let mut wrong = Vec::new();
    for (name, packet) in examples() {
        let mut frame = BytesMut::new();
        codec.encode(&packet, &mut frame).expect("fits");
        let here: Vec<_> = blocks.iter().filter(|(block, _)| block == name).collect();
        if here.len() != 1 || here[0].1 != frame {
            wrong.push(format!("{name}: {} blocks; the frame is {}", here.len(), hex(&frame)));
        }
        assert_eq!(codec.decode(&mut frame).expect("well-formed"), Some(packet), "{name}");
    }
    for (name, _) in &blocks {
        if !examples().iter().any(|(example, _)| example == name) {
            wrong.push(format!("{name}: stands in the page only"));
        }
    }
    assert!(wrong.is_empty(), "docs/wire.md and the program differ:\n{}", wrong.join("\n"));
}

#[test]
fn the_limits_in_the_page_are_those_of_the_program() {
    let settings = NetSettings::default();
    for (name, value) in [
        ("protocol version", u64::from(PROTOCOL_VERSION)),
        ("longest frame", settings.max_frame as u64),
        ("longest hello", MAX_HELLO as u64),
        ("handshake", settings.handshake_timeout.as_millis() as u64),
        ("ping after", settings.ping_after.as_millis() as u64),
        ("dead after", settings.idle_timeout.as_millis() as u64),
        ("connections of a node", settings.max_connections as u64),
        ("unanswered requests of a connection", settings.max_in_flight as u64),
    ] {
        let row = format!("| {name} | {value} ");
        assert!(PAGE.contains(&row), "docs/wire.md should have a row that begins with `{row}`");
    }
}
