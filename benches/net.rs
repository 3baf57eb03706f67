//! What a connection carries over the loopback: frames one way, and requests with their responses.
//!
//! `cargo bench --bench net`. Both ends share one thread, as the actors of a node share theirs. The last column is the
//! processor time of an operation, both ends together; unlike the rate it means something on a busy machine.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate::logic::ids::{GroupId, NodeId};
use quorate::logic::kv::command::{Change, Changed, Command, Expect, Lifetime, Query, Reply};
use quorate::messages::client::{Answer, Consistency, Request, RequestBody, Response};
use quorate::messages::wire::Packet;
use quorate::net::connection::Connection;
use quorate::net::faults::LinkFaults;
use quorate::net::handshake::{Identity, anybody, client_hello};
use quorate::net::listener::Listener;
use quorate::net::opening::{accept, dial};
use quorate::net::transport::TcpTransport;
use quorate::net::{NetSettings, Outbound, QuietLog, SendError};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        codec();
        one_way("gets", 2_000_000, get).await;
        one_way("puts of 256 bytes", 1_000_000, put).await;
        for (window, count) in [(1, 50_000), (64, 500_000), (1024, 1_000_000)] {
            round_trips(window, count).await;
        }
    });
}

fn put(id: u64) -> Packet {
    thread_local!(static VALUE: Bytes = Bytes::from(vec![7; 256]));
    let change = Change::Put {
        key: Bytes::from_static(b"benchmark/key"),
        value: VALUE.with(Bytes::clone),
        expect: Expect::Any,
        lifetime: Lifetime::Forever,
    };
    let body = RequestBody::Write { stamp: None, command: Command::Change(change) };
    Packet::Request(Request { id, group: GroupId(1), body })
}

fn get(id: u64) -> Packet {
    let query = Query::Get { key: Bytes::from_static(b"benchmark/key") };
    let body = RequestBody::Read { query, consistency: Consistency::Linearizable };
    Packet::Request(Request { id, group: GroupId(1), body })
}

fn answer(id: u64) -> Response {
    Response { id, result: Ok(Answer::Kv(Reply::Changed(Changed::Version(1)))) }
}

/// Wall time and processor time since it was started.
struct Watch(Instant, Duration);

impl Watch {
    fn start() -> Self {
        Watch(Instant::now(), processor_time())
    }

    fn report(&self, what: &str, count: u64) {
        let (wall, processor) = (self.0.elapsed(), processor_time() - self.1);
        let rate = count as f64 / wall.as_secs_f64();
        println!("{what:<36} {rate:>10.0} /s {:>8} ns", processor.as_nanos() / u128::from(count));
    }
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes to `time`, which lives long enough, and nowhere else.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the clock exists on every Unix");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn codec() {
    let codec = quorate::net::codec::Codec::new(4 << 20);
    for (name, packet) in [("response", Packet::Response(answer(1))), ("put of 256 bytes", put(1))] {
        let count = 500_000;
        let mut buffer = bytes::BytesMut::new();
        let watch = Watch::start();
        for _ in 0..count {
            codec.encode(&packet, &mut buffer).expect("fits");
        }
        watch.report(&format!("encode {name} ({} bytes)", buffer.len() as u64 / count), count);
        let watch = Watch::start();
        while codec.decode(&mut buffer).expect("well-formed").is_some() {}
        watch.report(&format!("decode {name}"), count);
    }
}

/// A connection over the loopback: the dialler's end and the acceptor's.
async fn pair(settings: &NetSettings) -> (Connection, Connection) {
    let listener = Listener::bind(&TcpTransport, "127.0.0.1:0", settings).await.expect("a free port");
    let address = listener.local_address();
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let mut sender = Some(sender);
    let accepting = spawn_local(listener.run(move |accepted| {
        let _ = sender.take().expect("one connection").send(accepted);
    }));
    let server = async {
        let accepted = receiver.await.expect("a connection");
        let me = Identity { cluster: "bench".to_owned(), node: NodeId(1), store: 1 };
        let log = QuietLog::default();
        accept(accepted.stream, &me, Vec::new(), &anybody, None, settings, &log).await.expect("a client")
    };
    let hello = client_hello("");
    let (dialled, accepted) =
        tokio::join!(dial(&TcpTransport, &address, &hello, None, &anybody, settings), server);
    accepting.abort();
    (dialled.expect("welcome").0, accepted)
}

async fn one_way(what: &str, count: u64, make: impl Fn(u64) -> Packet) {
    let settings = NetSettings::default();
    let (sending, receiving) = pair(&settings).await;
    let outbound = Outbound::new(&settings, true);
    let queue = outbound.clone();
    let sender = spawn_local(async move {
        let end = sending.run(&queue, &LinkFaults::default(), |_| Ok(())).await;
        queue.close();
        panic!("the sender's end is closed: {end}");
    });
    let finished = Rc::new(Notify::new());
    let signal = finished.clone();
    let receiver = spawn_local(async move {
        let mut received = 0;
        let idle = Outbound::new(&NetSettings::default(), true);
        let sink = |packets: Vec<Packet>| {
            received += packets.len() as u64;
            if received == count {
                signal.notify_one();
            }
            Ok(())
        };
        let end = receiving.run(&idle, &LinkFaults::default(), sink).await;
        panic!("the receiver's end is closed: {end}");
    });
    let watch = Watch::start();
    let mut sent = 0;
    while sent < count {
        match outbound.try_send(make(sent)) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    finished.notified().await;
    watch.report(&format!("one way, {what}"), count);
    sender.abort();
    receiver.abort();
}

async fn round_trips(window: u64, count: u64) {
    let settings = NetSettings::default();
    let (client, server) = pair(&settings).await;
    let answers = Outbound::new(&settings, true);
    let serving = spawn_local(async move {
        let replies = answers.clone();
        let sink = |packets: Vec<Packet>| {
            for packet in packets {
                if let Packet::Request(request) = packet {
                    replies.try_send(answer(request.id)).map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        };
        server.run(&answers, &LinkFaults::default(), sink).await;
    });
    let outbound = Outbound::new(&settings, true);
    let received = Cell::new(0u64);
    let next = Cell::new(window);
    let watch = Watch::start();
    for id in 0..window {
        outbound.try_send(put(id)).expect("room");
    }
    let sink = |packets: Vec<Packet>| {
        received.set(received.get() + packets.len() as u64);
        for _ in packets {
            if next.get() < count {
                outbound.try_send(put(next.get())).map_err(|error| error.to_string())?;
                next.set(next.get() + 1);
            }
        }
        if received.get() == count {
            outbound.close();
        }
        Ok(())
    };
    client.run(&outbound, &LinkFaults::default(), sink).await;
    watch.report(&format!("put and response, {window} under way"), count);
    serving.abort();
}
