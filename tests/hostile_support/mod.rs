//! A peer that keeps to no rules: raw frames over TCP, and the material for wrong ones.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fastrand::Rng;
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::kv::command::*;
use quorate::logic::raft::message::{Envelope, Message};
use quorate::messages::admin::AdminRequest;
use quorate::messages::client::*;
use quorate::messages::wire::{Hello, Packet, Welcome};
use quorate::net::codec::Codec;
use quorate::net::handshake::client_hello;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nobody waits longer for a node: it hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub const GROUP: GroupId = GroupId(1);

/// One side of a connection, without any manners of its own.
pub struct Raw {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Raw {
    pub async fn dial(address: &str) -> Raw {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = stream.expect("the system accepts in time").expect("somebody listens");
        Raw { stream, buffer: BytesMut::new() }
    }

    /// Introduces itself so, and returns the answer; `None` when there was none.
    pub async fn introduced(address: &str, hello: Hello) -> (Raw, Option<Packet>) {
        let mut raw = Raw::dial(address).await;
        raw.send(&frame(&Packet::Hello(hello))).await;
        let answer = raw.packet().await;
        (raw, answer)
    }

    /// A client that was let in.
    pub async fn client(address: &str) -> Raw {
        Raw::welcomed(address, client_hello("")).await.0
    }

    pub async fn welcomed(address: &str, hello: Hello) -> (Raw, Welcome) {
        match Raw::introduced(address, hello).await {
            (raw, Some(Packet::Welcome(welcome))) => (raw, welcome),
            (_, other) => panic!("{address} does not welcome: {other:?}"),
        }
    }

    /// Sends what the other side takes; that it has gone shows when reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("the node takes bytes");
    }

    /// Whether everything was taken before the other side closed, or stopped to read for so long.
    pub async fn push(&mut self, bytes: &[u8], within: Duration) -> bool {
        matches!(timeout(within, self.stream.write_all(bytes)).await, Ok(Ok(())))
    }

    /// Ends this side's half.
    pub async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// The next packet; `None` when the node has closed.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn packet(&mut self) -> Option<Packet> {
        timeout(PATIENCE, self.next()).await.expect("the node answers or closes")
    }

    async fn next(&mut self) -> Option<Packet> {
        loop {
            let packet = Codec::new(64 << 20).decode(&mut self.buffer).expect("a node sends good frames");
            if packet.is_some() {
                return packet;
            }
            self.buffer.reserve(64 << 10);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next packet that is not a ping, which is answered.
    pub async fn word(&mut self) -> Option<Packet> {
        loop {
            match self.packet().await {
                Some(Packet::Ping(number)) => self.send(&frame(&Packet::Pong(number))).await,
                other => return other,
            }
        }
    }

    /// Asks, and waits for the answer.
    pub async fn ask(&mut self, request: Request) -> Result<Answer, ServerError> {
        let id = request.id;
        self.send(&frame(&Packet::Request(request))).await;
        match self.word().await {
            Some(Packet::Response(response)) if response.id == id => response.result,
            other => panic!("no response to request {id}: {other:?}"),
        }
    }

    /// Waits until the node closes, and returns its parting word.
    pub async fn end(mut self) -> Option<String> {
        let mut reason = None;
        while let Some(packet) = self.packet().await {
            if let Packet::Goodbye { reason: said, .. } = packet {
                reason = Some(said);
            }
        }
        reason
    }

    /// Whether the node still answers on this connection.
    pub async fn lives(&mut self, number: u64) -> bool {
        self.send(&frame(&Packet::Ping(number))).await;
        while let Some(packet) = self.word().await {
            if packet == Packet::Pong(number) {
                return true;
            }
        }
        false
    }
}

pub fn frame(packet: &Packet) -> Bytes {
    let mut bytes = BytesMut::new();
    Codec::new(64 << 20).encode(packet, &mut bytes).expect("it fits");
    bytes.freeze()
}

/// A frame with this body, right or wrong.
pub fn framed(body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u32(u32::try_from(body.len()).expect("short"));
    bytes.put_slice(body);
    bytes.freeze()
}

/// A frame with JSON's idea of a packet: any names, numbers and shapes.
pub fn framed_json(value: &serde_json::Value) -> Bytes {
    framed(&rmp_serde::to_vec_named(value).expect("MessagePack holds all of JSON"))
}

pub fn noise(rng: &mut Rng, most: usize) -> Bytes {
    let length = rng.usize(0..most);
    std::iter::repeat_with(|| rng.u8(..)).take(length).collect()
}

pub fn request(id: u64, body: RequestBody) -> Request {
    Request { id, group: GROUP, body }
}

pub fn write(command: Command) -> RequestBody {
    RequestBody::Write { stamp: None, command }
}

pub fn stamped(session: SessionId, seq: u64, acked_below: u64, command: Command) -> RequestBody {
    RequestBody::Write { stamp: Some(Stamp { session, seq, acked_below }), command }
}

pub fn read(query: Query) -> RequestBody {
    RequestBody::Read { query, consistency: Consistency::Linearizable }
}

pub fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Change {
    Change::Put { key: key.into(), value: value.into(), expect: Expect::Any, lifetime: Lifetime::Forever }
}

/// The largest answer there is.
pub fn everything() -> Query {
    Query::Range { start: Bytes::new(), end: None, max_keys: u32::MAX, max_bytes: u32::MAX, keys_only: false }
}

pub fn raft(from: u64, to: u64, body: Message) -> Packet {
    let (from, to) = (NodeId(from), NodeId(to));
    Packet::Raft(Envelope { group: GROUP, from, to, term: 0, body })
}

/// A well-formed packet of every kind that a client or node may send after its handshake.
pub fn packets() -> Vec<Packet> {
    let stamp = Stamp { session: SessionId { group: GROUP, index: 3 }, seq: 1, acked_below: 1 };
    let session = RequestBody::Write { stamp: Some(stamp), command: Command::KeepAlive };
    let batch = vec![put("h/a", "1"), Change::Check { key: "h/a".into(), expect: Expect::Version(1) }];
    let prefix = Query::Prefix {
        prefix: "h/".into(),
        after: Some("h/a".into()),
        max_keys: 2,
        max_bytes: 9,
        keys_only: true,
    };
    let bodies = [
        write(Command::Change(put("h/x", "y"))),
        write(Command::Batch(batch)),
        write(Command::OpenSession),
        write(Command::GrantLease { ttl_ms: 1000 }),
        session,
        read(Query::Get { key: "h/x".into() }),
        read(prefix),
        RequestBody::Admin(AdminRequest::Status),
        RequestBody::Admin(AdminRequest::Tree),
    ];
    let mut packets: Vec<Packet> = bodies.into_iter().map(|body| Packet::Request(request(7, body))).collect();
    packets.push(raft(
        1,
        2,
        Message::Append { prev: LogPosition { index: 1, term: 1 }, entries: vec![], commit: 1, round: 1 },
    ));
    packets.push(Packet::Pong(1));
    packets
}
