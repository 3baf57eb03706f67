//! Connections, links and listeners over a network in memory, on a paused clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quorate::logic::ids::{GroupId, NodeId};
use quorate::logic::kv::command::{Query, Reply};
use quorate::logic::raft::message::{Envelope, Message};
use quorate::messages::client::*;
use quorate::messages::wire::{Hello, PROTOCOL_VERSION, Packet};
use quorate::net::codec::Codec;
use quorate::net::connection::{Connection, Disconnect};
use quorate::net::faults::LinkFaults;
use quorate::net::handshake::{Identity, Peer, Refusal, anybody, at_once, client_hello};
use quorate::net::link::{Backoff, Link, LinkEvent};
use quorate::net::listener::Listener;
use quorate::net::memory::MemoryNetwork;
use quorate::net::opening::{OpenError, accept, dial};
use quorate::net::router::{Ask, Router};
use quorate::net::serve::serve;
use quorate::net::transport::{Stream, TcpTransport};
use quorate::net::{NetSettings, Outbound, QuietLog, Ref, SendError, Undelivered};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep};

const GROUP: GroupId = GroupId(1);

/// Runs on one thread with a paused clock: time passes only when everybody waits.
fn simulate<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    LocalSet::new().block_on(&runtime.expect("a runtime"), work)
}

fn identity(node: u64) -> Identity {
    Identity { cluster: "test".to_owned(), node: NodeId(node), store: 100 + node }
}

fn addresses() -> Vec<(NodeId, String)> {
    (1..=3).map(|node| (NodeId(node), format!("n{node}:1"))).collect()
}

fn vote(from: u64, to: u64, term: u64) -> Envelope {
    let body = Message::VoteReply { pre: false, granted: true };
    Envelope { group: GROUP, from: NodeId(from), to: NodeId(to), term, body }
}

fn get(id: u64) -> Request {
    let query = Query::Get { key: "key".into() };
    Request { id, group: GROUP, body: RequestBody::Read { query, consistency: Consistency::Stale } }
}

fn done(id: u64) -> Response {
    Response { id, result: Ok(Answer::Kv(Reply::Done)) }
}

/// A node without actors: a listener whose connections pass a gate.
struct Node {
    router: Arc<Router>,
    raft: Rc<RefCell<Vec<Envelope>>>,
    ends: Rc<RefCell<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts node `number` at `n<number>:1`. Requests are answered at once, unless `mute`.
async fn start(network: &MemoryNetwork, number: u64, settings: NetSettings, mute: bool) -> Node {
    let name = format!("n{number}");
    let router = Router::new(identity(number), addresses());
    let (letters, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    router.register_raft(
        GROUP,
        Arc::new(move |envelopes| {
            letters.send(envelopes).expect("the test listens");
            Ok(())
        }),
    );
    router.register_kv(
        GROUP,
        Arc::new(move |asks: Vec<Ask>| {
            for ask in asks.iter().filter(|_| !mute) {
                ask.reply.tell(done(ask.request.id)).expect("the client is there");
            }
            Ok(())
        }),
    );
    let transport = network.host(&name);
    let listener = Listener::bind(&*transport, &format!("{name}:1"), &settings).await.expect("free address");
    let raft = Rc::new(RefCell::new(Vec::new()));
    let ends = Rc::new(RefCell::new(Vec::new()));
    let (inbox, log, post) = (raft.clone(), ends.clone(), router.clone());
    let task = spawn_local(async move {
        let connections = LocalSet::new();
        connections.spawn_local(async move {
            while let Some(envelopes) = arrived.recv().await {
                inbox.borrow_mut().extend(envelopes);
            }
        });
        let serve = listener.run(|accepted| {
            let (router, settings, log) = (post.clone(), settings.clone(), log.clone());
            connections.spawn_local(async move {
                let judge = router.clone();
                let known = move |node, store| at_once(judge.check_store(node, store));
                let served = serve(accepted, router, &known, &settings, &QuietLog::default()).await;
                let end = served.map_or_else(|error| error.to_string(), |end| end.to_string());
                log.borrow_mut().push(end);
            });
        });
        connections.run_until(serve).await;
    });
    Node { router, raft, ends, task }
}

/// Dials node 1 from host `client`, believing everybody.
async fn call(
    network: &MemoryNetwork,
    hello: &Hello,
    expected: Option<u64>,
) -> Result<Connection, OpenError> {
    let transport = network.host("client");
    let expected = expected.map(NodeId);
    dial(&*transport, "n1:1", hello, expected, &anybody, &NetSettings::default())
        .await
        .map(|(connection, _)| connection)
}

/// A running client connection, its queue, and what came back.
struct Client {
    outbound: Outbound,
    received: Rc<RefCell<Vec<Packet>>>,
    end: JoinHandle<Disconnect>,
}

fn run(connection: Connection, settings: &NetSettings) -> Client {
    let outbound = Outbound::new(settings, true);
    let received = Rc::new(RefCell::new(Vec::new()));
    let (queue, inbox) = (outbound.clone(), received.clone());
    let end = spawn_local(async move {
        let faults = LinkFaults::default();
        let sink = |packets| {
            inbox.borrow_mut().extend(packets);
            Ok(())
        };
        connection.run(&queue, &faults, sink).await
    });
    Client { outbound, received, end }
}

/// A link from node 2 to node 1, and what it says.
struct Linked {
    outbound: Outbound,
    faults: Arc<LinkFaults>,
    events: Rc<RefCell<Vec<(Duration, String)>>>,
    task: JoinHandle<()>,
}

fn link(network: &MemoryNetwork, settings: NetSettings) -> Linked {
    let outbound = Outbound::new(&settings, false);
    let faults = Arc::new(LinkFaults::new(7));
    let link = Link {
        to: NodeId(1),
        address: "n1:1".to_owned(),
        hello: identity(2).hello(),
        transport: network.host("n2"),
        settings,
        outbound: outbound.clone(),
        faults: faults.clone(),
        seed: 3,
    };
    let events = Rc::new(RefCell::new(Vec::new()));
    let log = events.clone();
    let begin = Instant::now();
    let task = spawn_local(async move {
        let say = |event: LinkEvent| {
            let text = match event {
                LinkEvent::Up { node, store } => format!("up {node} {store}"),
                LinkEvent::Down { reason } => format!("down: {reason}"),
                LinkEvent::Failed { reason } => format!("failed: {reason}"),
                LinkEvent::Packets(packets) => format!("packets: {packets:?}"),
            };
            log.borrow_mut().push((begin.elapsed(), text));
        };
        link.run(&anybody, say).await;
    });
    Linked { outbound, faults, events, task }
}

impl Linked {
    fn last(&self) -> String {
        self.events.borrow().last().map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

/// Lets everything happen that takes no time, or at most a millisecond.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[test]
fn a_client_asks_and_is_answered_in_order() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let _node = start(&network, 1, settings.clone(), false).await;
        let connection = call(&network, &client_hello(""), None).await.expect("welcome");
        assert_eq!(connection.peer(), Peer::Node { node: NodeId(1), store: 101 });
        let client = run(connection, &settings);
        for id in 0..1000 {
            client.outbound.try_send(get(id)).expect("room");
        }
        settle().await;
        let expected: Vec<_> = (0..1000).map(|id| Packet::Response(done(id))).collect();
        assert_eq!(*client.received.borrow(), expected);
        assert_eq!(client.outbound.stats().waiting, 0);
        assert_eq!(client.outbound.stats().waiting_bytes, 0);
    });
}

#[test]
fn both_sides_learn_why_a_handshake_is_refused() {
    let cases: Vec<(Hello, Option<u64>, &str)> = vec![
        (client_hello("elsewhere"), None, "cluster `elsewhere` was named, this is cluster `test`"),
        (
            Hello { version: 99, ..client_hello("") },
            None,
            "protocol version 99 was offered, 1 is spoken here",
        ),
        (Hello { cluster: "other".to_owned(), ..identity(2).hello() }, Some(1), "cluster `other` was named"),
        (identity(9).hello(), Some(1), "n9 is none of the nodes of this cluster"),
        (identity(1).hello(), Some(1), "n1 is the number of both sides"),
        (identity(2).hello(), Some(3), "n3 was expected at this address, but n1 answered"),
    ];
    for (hello, expected, words) in cases {
        simulate(async {
            let network = MemoryNetwork::new(1);
            let node = start(&network, 1, NetSettings::default(), false).await;
            let error = call(&network, &hello, expected).await.expect_err(words).to_string();
            assert!(error.contains(words), "the dialler should hear `{words}`, not `{error}`");
            settle().await;
            let ends = node.ends.borrow();
            assert!(ends[0].contains(words), "the acceptor should know `{words}`: {ends:?}");
        });
    }
}

#[test]
fn a_node_with_another_data_directory_is_refused() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let _node = start(&network, 1, NetSettings::default(), false).await;
        call(&network, &identity(2).hello(), Some(1)).await.expect("first time");
        call(&network, &identity(2).hello(), Some(1)).await.expect("the same again");
        let replaced = Hello { store: 999, ..identity(2).hello() };
        let error = call(&network, &replaced, Some(1)).await.expect_err("replaced");
        assert!(error.to_string().contains("bring the old one back"), "{error}");
        assert!(matches!(error, OpenError::Goodbye { new_store: true, .. }), "{error:?}");
    });
}

#[test]
fn the_dialler_checks_the_data_directory_too() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let _node = start(&network, 1, NetSettings::default(), false).await;
        let known = |node, actual| at_once(Err(Refusal::Store { node, known: 5, actual }));
        let transport = network.host("n2");
        let hello = identity(2).hello();
        let error = dial(&*transport, "n1:1", &hello, None, &known, &NetSettings::default()).await;
        assert!(matches!(error, Err(OpenError::Refused(Refusal::Store { actual: 101, .. }))));
    });
}

/// The first frame that arrives on a raw stream.
async fn first_frame(stream: &mut Stream) -> Packet {
    let mut buffer = bytes::BytesMut::new();
    loop {
        if let Some(packet) = Codec::new(1 << 20).decode(&mut buffer).expect("a frame") {
            return packet;
        }
        assert!(stream.reader.read_buf(&mut buffer).await.expect("open") > 0, "closed without a word");
    }
}

#[test]
fn a_silent_caller_is_sent_away_after_the_time_limit() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let _node = start(&network, 1, settings.clone(), false).await;
        let begin = Instant::now();
        let mut stream = network.host("client").dial("n1:1").await.expect("open");
        let Packet::Goodbye { reason, .. } = first_frame(&mut stream).await else { panic!("a goodbye") };
        assert!(reason.contains("the handshake took longer"), "{reason}");
        assert!(begin.elapsed() >= settings.handshake_timeout);
        assert!(begin.elapsed() < settings.handshake_timeout + Duration::from_millis(10));
    });
}

#[test]
fn a_stranger_may_not_send_a_large_first_frame() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let _node = start(&network, 1, NetSettings::default(), false).await;
        let mut stream = network.host("client").dial("n1:1").await.expect("open");
        stream.writer.write_all(&5000u32.to_be_bytes()).await.expect("written");
        let Packet::Goodbye { reason, .. } = first_frame(&mut stream).await else { panic!("a goodbye") };
        assert!(reason.contains("5000 bytes is above the limit"), "{reason}");
    });
}

#[test]
fn requests_sent_right_behind_the_hello_are_not_lost() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let _node = start(&network, 1, NetSettings::default(), false).await;
        let mut stream = network.host("client").dial("n1:1").await.expect("open");
        let mut bytes = bytes::BytesMut::new();
        let codec = Codec::new(1 << 20);
        codec.encode(&Packet::Hello(client_hello("")), &mut bytes).expect("fits");
        codec.encode(&Packet::Request(get(5)), &mut bytes).expect("fits");
        stream.writer.write_all(&bytes).await.expect("written");
        let mut buffer = bytes::BytesMut::new();
        let mut packets = Vec::new();
        while packets.len() < 2 {
            stream.reader.read_buf(&mut buffer).await.expect("open");
            while let Some(packet) = codec.decode(&mut buffer).expect("a frame") {
                packets.push(packet);
            }
        }
        assert!(matches!(&packets[0], Packet::Welcome(welcome)
            if welcome.version == PROTOCOL_VERSION && welcome.nodes == addresses()));
        assert_eq!(packets[1], Packet::Response(done(5)));
    });
}

#[test]
fn dialling_a_black_hole_ends_in_time() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let _node = start(&network, 1, NetSettings::default(), false).await;
        network.partition(&["client"], &["n1"], true);
        let error = call(&network, &client_hello(""), None).await.expect_err("nobody answers");
        assert!(matches!(error, OpenError::TimedOut { what: "connecting", .. }), "{error}");
    });
}

#[test]
fn an_idle_connection_stays_and_a_half_open_one_is_noticed_by_both() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let node = start(&network, 1, settings.clone(), false).await;
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        sleep(Duration::from_secs(3600)).await;
        assert!(!client.end.is_finished(), "pings keep it alive");
        assert!(client.received.borrow().is_empty(), "and stay inside");

        network.partition(&["client"], &["n1"], true);
        let cut = Instant::now();
        let end = client.end.await.expect("no panic");
        assert!(matches!(end, Disconnect::Silent(_)), "{end}");
        assert!(cut.elapsed() <= settings.idle_timeout);
        sleep(settings.idle_timeout).await;
        assert_eq!(*node.ends.borrow(), ["nothing heard for 4s"]);
    });
}

#[test]
fn a_cut_in_one_direction_is_noticed() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let node = start(&network, 1, settings.clone(), false).await;
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        network.cut("client", "n1");
        let end = client.end.await.expect("no panic");
        // The node hears nothing, closes, and that is what the client hears.
        assert!(matches!(end, Disconnect::Closed | Disconnect::Silent(_)), "{end}");
        assert_eq!(node.ends.borrow()[0], "nothing heard for 4s");
    });
}

#[test]
fn a_link_comes_up_goes_down_and_comes_up_again() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let link = link(&network, settings.clone());
        sleep(Duration::from_secs(60)).await;
        let failures = link.events.borrow().len();
        // Pauses of half a second on average, after the first few.
        assert!((90..200).contains(&failures), "{failures} attempts in a minute");
        let early = link.events.borrow().iter().filter(|(at, _)| *at < Duration::from_millis(200)).count();
        assert!(early >= 3, "the first attempts come quickly: {early}");
        assert!(link.last().contains("cannot connect"), "{}", link.last());

        let node = start(&network, 1, settings.clone(), false).await;
        sleep(settings.retry_cap).await;
        assert_eq!(link.last(), "up n1 101");
        link.outbound.try_send(vote(2, 1, 5)).expect("up");
        settle().await;
        assert_eq!(*node.raft.borrow(), [vote(2, 1, 5)]);

        sleep(Duration::from_secs(5)).await;
        network.break_connections("n1", "n2");
        sleep(settings.retry_first + Duration::from_millis(5)).await;
        assert_eq!(link.last(), "up n1 101", "after a healthy time the first attempt comes at once");
        let events = link.events.borrow();
        assert!(events[events.len() - 2].1.starts_with("down: "), "{events:?}");
    });
}

#[test]
fn stale_raft_traffic_is_dropped_and_requests_are_kept() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let link = link(&network, settings.clone());
        assert_eq!(link.outbound.try_send(vote(2, 1, 1)), Err(SendError::Down));
        link.outbound.try_send(get(1)).expect("requests wait");
        let node = start(&network, 1, settings.clone(), false).await;
        sleep(settings.retry_cap).await;
        assert!(link.last().contains("Response"), "the request was sent after all: {}", link.last());

        // The way is blocked before anybody knows: what is queued now is stale when it opens again.
        network.partition(&["n2"], &["n1"], true);
        let mut sent = 0u64;
        let long = "x".repeat(10_000);
        while link.outbound.stats().waiting < 100 {
            sent += 1;
            link.outbound.try_send(vote(2, 1, sent)).expect("room");
            link.outbound.try_send(Packet::Goodbye { reason: long.clone(), new_store: false }).expect("room");
            settle().await;
        }
        link.task.abort();
        settle().await;
        let stats = link.outbound.stats();
        assert!(stats.lost_down > 1, "votes that were not written are gone: {stats:?}");
        assert!(stats.waiting >= 30, "the others wait: {stats:?}");
        assert_eq!(link.outbound.try_send(vote(2, 1, 1)), Err(SendError::Down));
        assert!(node.raft.borrow().is_empty());
    });
}

#[test]
fn a_link_ends_when_its_queue_is_closed() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let node = start(&network, 1, settings.clone(), false).await;
        let link = link(&network, settings.clone());
        settle().await;
        link.outbound.close();
        sleep(settings.retry_cap).await;
        assert!(link.task.is_finished());
        assert_eq!(link.last(), "down: closed on this side");
        assert_eq!(*node.ends.borrow(), ["closed by the other side: closed on this side"]);
        assert_eq!(link.outbound.try_send(get(1)), Err(SendError::Closed));
    });
}

#[test]
fn faults_on_purpose() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let node = start(&network, 1, settings.clone(), false).await;
        let link = link(&network, settings.clone());
        settle().await;
        let terms = || node.raft.borrow().iter().map(|envelope| envelope.term).collect::<Vec<_>>();

        link.faults.set_delay_ms(300);
        let sent = Instant::now();
        for term in 1..=3 {
            link.outbound.try_send(vote(2, 1, term)).expect("up");
            sleep(Duration::from_millis(50)).await;
        }
        link.faults.set_delay_ms(0);
        link.outbound.try_send(vote(2, 1, 4)).expect("up");
        sleep(Duration::from_millis(299).saturating_sub(sent.elapsed())).await;
        assert!(terms().is_empty(), "nothing arrives before its time");
        sleep(Duration::from_millis(200)).await;
        assert_eq!(terms(), [1, 2, 3, 4], "and the order stays");

        node.raft.borrow_mut().clear();
        link.faults.set_drop_permille(500);
        for term in 0..1000 {
            link.outbound.try_send(vote(2, 1, term)).expect("up");
        }
        settle().await;
        assert!((400..600).contains(&terms().len()), "{}", terms().len());
        assert!(terms().is_sorted());
        assert_eq!(link.outbound.stats().waiting, 0);

        node.raft.borrow_mut().clear();
        link.faults.set_drop_permille(1000);
        for term in 0..100 {
            link.outbound.try_send(vote(2, 1, term)).expect("up");
        }
        sleep(Duration::from_secs(60)).await;
        assert!(terms().is_empty());
        assert_eq!(link.events.borrow().len(), 1, "keep-alives are spared");
    });
}

#[test]
fn a_queue_is_bounded_by_packets_and_bytes() {
    let settings = NetSettings { queue_packets: 10, queue_bytes: 10_000, ..NetSettings::default() };
    let queue = Outbound::new(&settings, true);
    for id in 0..10 {
        queue.try_send(get(id)).expect("room");
    }
    assert_eq!(queue.try_send(get(10)), Err(SendError::Full));
    assert_eq!(queue.stats().refused_full, 1);

    let queue = Outbound::new(&settings, true);
    queue.try_send(Packet::Goodbye { reason: "x".repeat(9_000), new_store: false }).expect("room");
    assert_eq!(
        queue.try_send(Packet::Goodbye { reason: "x".repeat(2_000), new_store: false }),
        Err(SendError::Full)
    );
    queue.try_send(get(1)).expect("room for a small one");

    let settings = NetSettings { max_frame: 5_000, ..settings };
    let queue = Outbound::new(&settings, true);
    assert_eq!(
        queue.try_send(Packet::Goodbye { reason: "x".repeat(6_000), new_store: false }),
        Err(SendError::TooLarge)
    );
}

/// It may read as fast as its network can, and would ask for all of it again if it were cut off.
#[test]
fn a_client_that_asks_for_more_than_the_queue_holds_is_told_to_ask_later() {
    let value = |id| {
        let value = Reply::Value { value: vec![0; 4_000].into(), version: 1 };
        Packet::Response(Response { id, result: Ok(Answer::Kv(value)) })
    };
    let settings = NetSettings { queue_packets: 20, queue_bytes: 10_000, ..NetSettings::default() };
    let queue = Outbound::new(&settings, true);
    for id in 0..20 {
        queue.try_send(value(id)).expect("its place is kept");
    }
    let stats = queue.stats();
    assert_eq!((stats.waiting, stats.refused_full), (20, 0));
    assert!(stats.waiting_bytes < 13_000, "{stats:?}");
    assert_eq!(queue.try_send(value(20)), Err(SendError::Full), "packets are bounded, too");
}

#[test]
fn a_response_too_large_for_a_frame_becomes_an_error() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings { max_frame: 50_000, ..NetSettings::default() };
        let node = start(&network, 1, settings.clone(), true).await;
        node.router.register_kv(
            GROUP,
            Arc::new(|asks: Vec<Ask>| {
                for ask in asks {
                    let value = Reply::Value { value: vec![0; 60_000].into(), version: 1 };
                    let response = Response { id: ask.request.id, result: Ok(Answer::Kv(value)) };
                    ask.reply.tell(response).expect("replaced");
                }
                Ok(())
            }),
        );
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        client.outbound.try_send(get(3)).expect("room");
        settle().await;
        let received = client.received.borrow();
        let [Packet::Response(Response { id: 3, result: Err(ServerError::Invalid(text)) })] = &received[..]
        else {
            panic!("{received:?}");
        };
        assert!(text.contains("50000 bytes"), "{text}");
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_off() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings { queue_packets: 100, max_in_flight: 10_000, ..NetSettings::default() };
        let node = start(&network, 1, settings.clone(), true).await;
        node.router.register_kv(
            GROUP,
            Arc::new(|asks: Vec<Ask>| {
                for ask in asks {
                    // The refusal of the queue is what the test is about.
                    let _ = ask.reply.tell(done(ask.request.id));
                }
                Ok(())
            }),
        );
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        network.cut("n1", "client");
        for id in 0..20_000 {
            if client.outbound.try_send(get(id)).is_err() {
                settle().await;
            }
        }
        settle().await;
        assert_eq!(*node.ends.borrow(), ["responses pile up unread"]);
    });
}

#[test]
fn too_many_requests_and_connections_are_refused_politely() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings { max_in_flight: 10, max_connections: 2, ..NetSettings::default() };
        let _node = start(&network, 1, settings.clone(), true).await;
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        for id in 0..15 {
            client.outbound.try_send(get(id)).expect("room");
        }
        settle().await;
        let busy = |id| {
            let limit = "max_requests_per_connection".to_owned();
            Packet::Response(Response { id, result: Err(ServerError::Busy { limit }) })
        };
        assert_eq!(*client.received.borrow(), (10..15).map(busy).collect::<Vec<_>>());

        let second = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        let error = call(&network, &client_hello(""), None).await.expect_err("full");
        assert!(error.to_string().contains("all 2 connections are in use"), "{error}");
        call(&network, &identity(2).hello(), Some(1)).await.expect("clients do not keep the other nodes out");
        second.outbound.close();
        sleep(Duration::from_millis(10)).await;
        call(&network, &client_hello(""), None).await.expect("a place is free again");
    });
}

#[test]
fn nobody_speaks_in_the_name_of_another() {
    let cases = [
        (client_hello(""), vote(2, 1, 1), "a client may not send Raft messages"),
        (identity(2).hello(), vote(3, 1, 1), "n2 sent a Raft message in the name of n3"),
        (identity(2).hello(), vote(2, 3, 1), "n2 sent a Raft message for n3 to n1"),
    ];
    for (hello, envelope, words) in cases {
        simulate(async {
            let network = MemoryNetwork::new(1);
            let settings = NetSettings::default();
            let node = start(&network, 1, settings.clone(), false).await;
            let client = run(call(&network, &hello, Some(1)).await.expect("welcome"), &settings);
            client.outbound.try_send(envelope).expect("room");
            let end = client.end.await.expect("no panic").to_string();
            assert!(end.contains(words), "{end}");
            assert!(node.raft.borrow().is_empty());
        });
    }
}

#[test]
fn unknown_groups_are_counted_or_answered() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let node = start(&network, 1, settings.clone(), false).await;
        let client = run(call(&network, &identity(2).hello(), Some(1)).await.expect("welcome"), &settings);
        let elsewhere = GroupId(77);
        client.outbound.try_send(Envelope { group: elsewhere, ..vote(2, 1, 1) }).expect("room");
        client.outbound.try_send(Request { group: elsewhere, ..get(8) }).expect("room");
        client.outbound.try_send(get(9)).expect("room");
        settle().await;
        let refused = Packet::Response(Response { id: 8, result: Err(ServerError::NoSuchGroup) });
        let received = client.received.borrow();
        assert!(received.contains(&refused) && received.contains(&Packet::Response(done(9))), "{received:?}");
        assert_eq!(node.router.stats().unknown_group, 1);
    });
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        simulate(async {
            let network = MemoryNetwork::new(seed);
            let settings = NetSettings::default();
            let ms = Duration::from_millis;
            network.set_delay("n2", "n1", ms(1)..=ms(40));
            network.set_delay("n1", "n2", ms(1)..=ms(40));
            let _node = start(&network, 1, settings.clone(), false).await;
            let link = link(&network, settings);
            for id in 0..300 {
                let _ = link.outbound.try_send(get(id));
                if id % 50 == 7 {
                    network.partition(&["n1"], &["n2"], id % 100 == 7);
                }
                if id == 120 {
                    network.break_connections("n1", "n2");
                }
                sleep(ms(97)).await;
            }
            link.events.borrow().clone()
        })
    };
    let first = history(1);
    assert!(first.len() > 100, "{}", first.len());
    assert_eq!(first, history(1));
    assert_ne!(first, history(2));
}

#[test]
fn references_look_the_same_near_and_far() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let near = start(&network, 2, settings.clone(), false).await;
        let far = start(&network, 1, settings.clone(), false).await;
        assert_eq!(near.router.raft(NodeId(1)).err(), Some(SendError::NoRoute));
        let link = link(&network, settings);
        near.router.set_link(NodeId(1), link.outbound.clone());
        settle().await;
        for (to, inbox) in [(1, &far.raft), (2, &near.raft)] {
            let peer: Ref<Envelope> = near.router.raft(NodeId(to)).expect("known");
            peer.tell_all(vec![vote(2, to, 1), vote(2, to, 2)]).expect("delivered");
            near.router.post([vote(2, to, 3), vote(2, 3, 9)]);
            settle().await;
            assert_eq!(*inbox.borrow(), [vote(2, to, 1), vote(2, to, 2), vote(2, to, 3)]);
        }
        assert_eq!(near.router.stats().no_route, 2);
    });
}

#[test]
fn requests_that_nobody_answers_are_forgotten_after_a_while() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings { max_in_flight: 10, ..NetSettings::default() };
        let node = start(&network, 1, settings.clone(), true).await;
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        for id in 0..10 {
            client.outbound.try_send(get(id)).expect("room");
        }
        settle().await;
        // The actor that held them is replaced by one that answers.
        node.router.register_kv(
            GROUP,
            Arc::new(|asks: Vec<Ask>| {
                asks.iter()
                    .try_for_each(|ask| ask.reply.tell(done(ask.request.id)))
                    .expect("the client is there");
                Ok(())
            }),
        );
        client.outbound.try_send(get(10)).expect("room");
        settle().await;
        assert!(matches!(
            client.received.borrow()[..],
            [Packet::Response(Response { id: 10, result: Err(_) })]
        ));
        sleep(Duration::from_secs(60)).await;
        for id in 11..100 {
            client.outbound.try_send(get(id)).expect("room");
            settle().await;
        }
        let received = client.received.borrow();
        assert_eq!(received[1..], (11..100).map(|id| Packet::Response(done(id))).collect::<Vec<_>>());
    });
}

#[test]
fn an_actor_that_takes_nothing_makes_the_client_try_later() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let settings = NetSettings::default();
        let node = start(&network, 1, settings.clone(), true).await;
        node.router
            .register_kv(GROUP, Arc::new(|messages| Err(Undelivered { messages, why: SendError::Full })));
        let client = run(call(&network, &client_hello(""), None).await.expect("welcome"), &settings);
        client.outbound.try_send(get(1)).expect("room");
        settle().await;
        let busy = ServerError::Busy { limit: "mailbox".to_owned() };
        assert_eq!(*client.received.borrow(), [Packet::Response(Response { id: 1, result: Err(busy) })]);
        assert_eq!(node.router.stats().undelivered, 1);
    });
}

#[test]
fn the_log_is_not_flooded() {
    simulate(async {
        let log = QuietLog::new(Duration::from_secs(30));
        assert_eq!(log.admit("refused"), Some(0));
        assert_eq!(log.admit("refused"), None);
        assert_eq!(log.admit("refused"), None);
        assert_eq!(log.admit("another"), Some(0));
        sleep(Duration::from_secs(30)).await;
        assert_eq!(log.admit("refused"), Some(2), "and says how often it was silent");
        let admitted = (0..1000).filter(|line| log.admit(&line.to_string()).is_some()).count();
        assert!(admitted < 100, "{admitted} different lines at once");
        assert_eq!(log.admit("refused"), None, "others do not make it forget");
    });
}

#[test]
fn pauses_are_jittered_and_grow_up_to_their_cap() {
    let (first, cap) = (Duration::from_millis(30), Duration::from_secs(1));
    let mut longest = [Duration::ZERO; 10];
    for seed in 0..200 {
        let mut pauses = Backoff::new(first, cap, seed);
        for (attempt, longest) in longest.iter_mut().enumerate() {
            let (pause, bound) = (pauses.next(), (first * (1 << attempt)).min(cap));
            assert!(pause <= bound && !pause.is_zero(), "{pause:?} of {bound:?}");
            *longest = pause.max(*longest);
        }
        pauses.reset();
        assert!(pauses.next() <= first);
    }
    assert!(longest[9] > cap / 2 && longest[0] > first / 2, "{longest:?}");
}

#[test]
fn words_of_strangers_are_fit_for_the_log() {
    simulate(async {
        let network = MemoryNetwork::new(1);
        let node = start(&network, 1, NetSettings::default(), false).await;
        let hello = client_hello(&format!("a\nb\u{1b}[31m{}", "x".repeat(3000)));
        let error = call(&network, &hello, None).await.expect_err("another cluster").to_string();
        settle().await;
        for text in [&error, &node.ends.borrow()[0]] {
            assert!(!text.contains(char::is_control) && text.len() < 1000, "{text}");
        }
    });
}

/// Not on the paused clock: the real network.
#[test]
fn over_real_sockets() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let settings = NetSettings::default();
        let listener = Listener::bind(&TcpTransport, "127.0.0.1:0", &settings).await.expect("a free port");
        let address = listener.local_address();
        let server = settings.clone();
        spawn_local(listener.run(move |accepted| {
            let settings = server.clone();
            spawn_local(async move {
                let (me, log) = (identity(1), QuietLog::default());
                let opened = accept(accepted.stream, &me, addresses(), &anybody, None, &settings, &log).await;
                let outbound = Outbound::new(&settings, true);
                let echo = outbound.clone();
                let sink =
                    |packets: Vec<Packet>| echo.try_send_all(packets).map_err(|error| error.to_string());
                opened.expect("a client").run(&outbound, &LinkFaults::default(), sink).await;
            });
        }));
        let hello = client_hello("test");
        let dialled = dial(&TcpTransport, &address, &hello, None, &anybody, &settings).await;
        let (connection, welcome) = dialled.expect("welcome");
        assert_eq!(welcome.nodes, addresses());
        let outbound = Outbound::new(&settings, true);
        let big = Packet::Request(Request {
            id: 2,
            group: GROUP,
            body: RequestBody::Read {
                query: Query::Get { key: vec![7; 2 << 20].into() },
                consistency: Consistency::Stale,
            },
        });
        outbound.try_send(get(1)).expect("room");
        outbound.try_send(big.clone()).expect("room");
        let mut received = Vec::new();
        let (queue, sent) = (outbound.clone(), vec![Packet::Request(get(1)), big]);
        let sink = |packets| {
            received.extend(packets);
            if received.len() == 2 {
                queue.close();
            }
            Ok(())
        };
        let end = connection.run(&outbound, &LinkFaults::default(), sink).await;
        assert!(matches!(end, Disconnect::Stopped), "{end}");
        assert_eq!(received, sent);
    });
}
