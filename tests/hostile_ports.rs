//! Every port of a running cluster under attack, while an ordinary client is served: noise, cut and bent frames,
//! impostors, absurd requests, connections that say nothing or too much, and clients that never read.
//!
//! Afterwards no process was restarted, no actor has panicked, memory has not grown, the log is not full of it, and
//! replicas are equal. Short by default; a longer siege of another kind:
//! `QUORATE_FUZZ_ROUNDS=20 QUORATE_FUZZ_SEED=7 cargo test --test hostile_ports -- --nocapture`

mod hostile_support;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes};
use fastrand::Rng;
use hostile_support::*;
use quorate::Client;
use quorate::logic::ids::{GroupId, NodeId};
use quorate::logic::kv::command::*;
use quorate::logic::raft::message::Message;
use quorate::messages::admin::{AdminRequest, Chaos};
use quorate::messages::client::*;
use quorate::messages::wire::{Hello, PROTOCOL_VERSION, Packet};
use quorate::net::handshake::{MAX_HELLO, client_hello};
use serde_json::json;
use support::{Cluster, cluster_id, tail};

const NODES: usize = 3;
const MAX_CONNECTIONS: usize = 300;
/// A handshake that does not come is given up after this.
const HANDSHAKE: Duration = Duration::from_secs(1);
/// Leaders stay in office on a busy machine: some attacks are on the leader.
const CONFIG: &str = r#"
[raft]
election_timeout_min_ms = 1000
election_timeout_max_ms = 2000
[limits]
max_connections = 300
[net]
handshake_timeout_ms = 1000
idle_timeout_ms = 3000
queue_bytes = 8388608
[log]
level = "info,quorate::net=debug"
"#;

/// No node may hold more memory than this above what it held before.
const MAX_GROWTH_KIB: u64 = 64 << 10;
/// Nor, at any moment, more than this. The most that one packet takes is that of a frame full of tiny changes.
const MAX_PEAK_KIB: u64 = 192 << 10;
/// Short keys with empty values: the answer to "everything" costs a node much and the asker nothing.
const TINY_KEYS: usize = 20_000;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

/// A cluster, its attackers' means, and what it looked like before.
struct Siege {
    cluster: Cluster,
    rng: Rng,
    pids: Vec<i32>,
    /// Memory of each node before the first attack.
    before: Vec<u64>,
    witnessed: Arc<AtomicU64>,
    started: Instant,
}

/// Lines `Vm...:` of a process, in KiB.
fn memory(pid: i32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    let number = found.and_then(|rest| rest.split_whitespace().next()).expect("the line is there");
    number.parse().expect("KiB")
}

impl Siege {
    fn address(&mut self) -> String {
        self.rng.choice(&self.cluster.addresses).expect("there are nodes").clone()
    }

    fn pids(cluster: &Cluster) -> Vec<i32> {
        cluster.nodes().map(|node| cluster.pid(node).expect("the node runs")).collect()
    }

    /// Carries out an attack on the cluster, and looks how that stands afterwards.
    async fn suffer<T: std::fmt::Display>(&mut self, name: &str, attack: impl AsyncFnOnce(&mut Siege) -> T) {
        let (started, witnessed) = (Instant::now(), self.witnessed.load(Ordering::Relaxed));
        let what = attack(self).await;
        let took = started.elapsed();
        let pids = Siege::pids(&self.cluster);
        assert_eq!(pids, self.pids, "{name}: a process was restarted\n{}", tail(&self.cluster.log(), 60));
        let grown: Vec<i64> = pids
            .iter()
            .zip(&self.before)
            .map(|(pid, before)| memory(*pid, "VmRSS:") as i64 - *before as i64)
            .collect();
        let peaks: Vec<u64> = pids.iter().map(|pid| memory(*pid, "VmHWM:") >> 10).collect();
        let served = self.witnessed.load(Ordering::Relaxed) - witnessed;
        println!(
            "{name:>24}: {what}; {} ms, witness served {served} times, memory {:+?} KiB, peak {peaks:?} MiB",
            took.as_millis(),
            grown
        );
    }

    /// A client at the leader.
    async fn at_leader(&mut self) -> Raw {
        loop {
            for address in &self.cluster.addresses {
                let mut raw = Raw::client(address).await;
                let probe = read(Query::Get { key: "h/nothing".into() });
                match raw.ask(request(1, probe)).await {
                    Err(ServerError::NotLeader { .. }) => {}
                    _ => return raw,
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// An ordinary client: what it has written it must read.
async fn witness(client: Client, stop: Arc<AtomicBool>, count: Arc<AtomicU64>) -> Duration {
    let mut longest = Duration::ZERO;
    for number in 1_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        let key = format!("witness/{}", number % 50);
        let version = client.put(key.clone(), number.to_string()).await.expect("a put succeeds");
        assert_eq!(version, 1 + (number - 1) / 50, "{key}");
        let found = client.get(key.clone()).await.expect("a get succeeds").expect("it is there");
        assert_eq!((found.version, found.value), (version, Bytes::from(number.to_string())), "{key}");
        longest = longest.max(started.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    longest
}

#[tokio::test]
async fn nothing_that_comes_to_a_port_disturbs_a_cluster() {
    let seed = from_environment("QUORATE_FUZZ_SEED", 1);
    let rounds = from_environment("QUORATE_FUZZ_ROUNDS", 1);
    let cluster = Cluster::start(NODES, CONFIG);
    let client = cluster.client().await.with_deadline(Duration::from_secs(20));
    fill(&client).await;
    cluster.settled(&client).await;
    let (stop, witnessed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let witness = tokio::spawn(witness(client.clone(), stop.clone(), witnessed.clone()));
    // Buffers and pools of ordinary service are no growth.
    while witnessed.load(Ordering::Relaxed) < 500 {
        assert!(!witness.is_finished(), "the witness has failed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let pids = Siege::pids(&cluster);
    let before = pids.iter().map(|pid| memory(*pid, "VmRSS:")).collect();
    println!("seed {seed}, {rounds} rounds, memory before {before:?} KiB");
    let mut siege =
        Siege { cluster, rng: Rng::with_seed(seed), pids, before, witnessed, started: Instant::now() };
    for _ in 0..rounds {
        attack(&mut siege).await;
        assert!(!witness.is_finished(), "the witness has failed: {:?}", witness.await);
    }
    stop.store(true, Ordering::Relaxed);
    let longest = witness.await.expect("the ordinary client is served");
    println!("longest wait of the witness: {longest:?}");
    aftermath(&siege, &client).await;
}

async fn attack(siege: &mut Siege) {
    // First, for noise of the same kind may hide their warnings.
    siege.suffer("strangers", strangers).await;
    siege.suffer("impostors", impostors).await;
    siege.suffer("bad manners", bad_manners).await;
    siege.suffer("noise", noisy_strangers).await;
    siege.suffer("cut frames", cut_frames).await;
    siege.suffer("bent frames", bent_frames).await;
    siege.suffer("lengths", lengths).await;
    siege.suffer("depths", depths).await;
    siege.suffer("absurd requests", absurd_requests).await;
    siege.suffer("shapeless requests", shapeless_requests).await;
    siege.suffer("large frames", large_frames).await;
    siege.suffer("sessions", sessions).await;
    siege.suffer("open and drop", open_and_drop).await;
    siege.suffer("slow strangers", slow_strangers).await;
    siege.suffer("flood", flood).await;
    siege.suffer("silent clients", silent_clients).await;
    siege.suffer("asks, never reads", never_reads).await;
    siege.suffer("asks, never waits", never_waits).await;
}

async fn fill(client: &Client) {
    let keys: Vec<usize> = (0..TINY_KEYS).collect();
    for keys in keys.chunks(1000) {
        let changes = keys.iter().map(|key| put(format!("t{key:05}"), "")).collect();
        client.batch(changes).await.expect("a batch succeeds");
    }
    for key in 0..8 {
        client.put(format!("u{key}"), vec![b'x'; 512 << 10]).await.expect("a put succeeds");
    }
}

/// What must hold when all is over.
async fn aftermath(siege: &Siege, client: &Client) {
    let cluster = &siege.cluster;
    let settled = cluster.settled(client).await;
    for status in &settled {
        assert_eq!(
            status.restarts,
            0,
            "actors of {} were restarted\n{}",
            status.node,
            tail(&cluster.log(), 60)
        );
        assert_eq!(status.groups[0].hash, settled[0].groups[0].hash, "replicas differ");
    }
    let log = cluster.log();
    assert!(!log.contains("panicked"), "{}", tail(&log, 60));
    let warned = |what: &str| log.lines().any(|line| line.contains("WARN") && line.contains(what));
    for what in [
        "protocol version 2 was offered, 1 is spoken here",
        &format!("cluster `elsewhere` was named, this is cluster `{}`", cluster_id()),
        "all 300 connections are in use",
        "the handshake took longer than 1s",
        "a second handshake",
        "a client may not send Raft messages",
        "responses pile up unread",
    ] {
        assert!(warned(what), "no warning says {what:?}\n{}", tail(&log, 60));
    }
    let warnings = log.lines().filter(|line| line.contains("WARN")).count();
    let most = 100 * NODES * (1 + siege.started.elapsed().as_secs() as usize / 30);
    assert!(warnings <= most, "{warnings} warnings fill the log; {most} are plenty");
    println!("{warnings} warnings, {} lines in the log", log.lines().count());
    for (pid, before) in siege.pids.iter().zip(&siege.before) {
        let after = memory(*pid, "VmRSS:");
        assert!(after <= before + MAX_GROWTH_KIB, "process {pid} grew from {before} to {after} KiB");
        let peak = memory(*pid, "VmHWM:");
        assert!(peak <= before + MAX_PEAK_KIB, "process {pid} needed {peak} KiB, and {before} before");
    }
}

/// Bytes that mean nothing, from strangers that leave in every way.
async fn noisy_strangers(siege: &mut Siege) -> String {
    const STRANGERS: usize = 200;
    for _ in 0..STRANGERS {
        let mut raw = Raw::dial(&siege.address()).await;
        raw.send(&noise(&mut siege.rng, 6000)).await;
        match siege.rng.u8(0..3) {
            0 => drop(raw),
            1 => {
                raw.finish().await;
                raw.end().await;
            }
            _ => {
                raw.end().await;
            }
        }
    }
    format!("{STRANGERS} strangers")
}

/// Good frames that end at every position.
async fn cut_frames(siege: &mut Siege) -> String {
    let hello = frame(&Packet::Hello(client_hello(&cluster_id())));
    for length in 0..hello.len() {
        let mut raw = Raw::dial(&siege.address()).await;
        raw.send(&hello[..length]).await;
        raw.finish().await;
        assert_eq!(raw.end().await, None, "{length} bytes of a hello need no answer");
    }
    let mut cuts = hello.len();
    for packet in packets() {
        let whole = frame(&packet);
        let step = 1 + siege.rng.usize(0..3);
        for length in (0..whole.len()).step_by(step) {
            let mut raw = Raw::dial(&siege.address()).await;
            raw.send(&[&hello, &whole[..length]].concat()).await;
            raw.finish().await;
            assert_eq!(raw.end().await, None, "{length} bytes of {packet:?}");
            cuts += 1;
        }
    }
    format!("{cuts} cuts")
}

/// Good frames with some bytes replaced; every one is answered, ignored or refused, and the node can say which.
async fn bent_frames(siege: &mut Siege) -> String {
    const BENT: usize = 1500;
    let kinds = packets();
    let mut refused = 0;
    let mut raw = Raw::client(&siege.address()).await;
    for number in 0..BENT {
        let packet = siege.rng.choice(&kinds).expect("there are some");
        let mut bytes = frame(packet).to_vec();
        for _ in 0..siege.rng.usize(1..4) {
            let at = siege.rng.usize(4..bytes.len());
            bytes[at] = siege.rng.u8(..);
        }
        raw.send(&bytes).await;
        if !raw.lives(number as u64).await {
            refused += 1;
            raw = Raw::client(&siege.address()).await;
        }
    }
    assert!(refused > BENT / 4 && refused < BENT, "{refused} of {BENT} refused");
    format!("{BENT} frames, {refused} refused")
}

/// Announced lengths that cannot be.
async fn lengths(siege: &mut Siege) -> String {
    let mut count = 0;
    for length in [MAX_HELLO as u32 + 1, 1 << 20, 0x7fff_ffff, u32::MAX] {
        let mut raw = Raw::dial(&siege.address()).await;
        raw.send(&length.to_be_bytes()).await;
        let reason = raw.end().await.expect("it is told why");
        assert!(reason.contains("above the limit of 4096"), "{reason}");
        count += 1;
    }
    for length in [(16 << 20) + 1, 0x7fff_ffff, u32::MAX] {
        let mut raw = Raw::client(&siege.address()).await;
        raw.send(&length.to_be_bytes()).await;
        let reason = raw.end().await.expect("it is told why");
        assert!(reason.contains("above the limit of 16777216"), "{reason}");
        count += 1;
    }
    // A length that may be, of which next to nothing comes.
    for _ in 0..50 {
        let mut raw = Raw::client(&siege.address()).await;
        raw.send(&(16_u32 << 20).to_be_bytes()).await;
        raw.send(&[0x81]).await;
        count += 1;
    }
    // Inside the frame: strings, arrays and maps of thousands of millions.
    for body in [
        &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
        &[0xdf, 0xff, 0xff, 0xff, 0xff],
        &[0xdb, 0xff, 0xff, 0xff, 0xff],
        &[0xc6, 0xff, 0xff, 0xff, 0xff],
        &[0x81, 0xa4, b'P', b'i', b'n', b'g', 0xdd, 0xff, 0xff, 0xff, 0xff],
        &[],
    ] {
        let mut raw = Raw::client(&siege.address()).await;
        raw.send(&framed(body)).await;
        let reason = raw.end().await.expect("it is told why");
        assert!(reason.contains("malformed frame"), "{reason}");
        count += 1;
    }
    format!("{count} lengths")
}

async fn depths(siege: &mut Siege) -> String {
    let mut count = 0;
    for (open, close) in
        [(&[0x91][..], &[0xc0][..]), (&[0x81, 0xa1, b'a'], &[0xc0]), (&[0x81, 0xc0], &[0xc0])]
    {
        for depth in [65, 1000, 100_000] {
            let mut raw = Raw::client(&siege.address()).await;
            raw.send(&framed(&[open.repeat(depth), close.to_vec()].concat())).await;
            // What is not read when a connection is closed may cost the parting word.
            if let Some(reason) = raw.end().await {
                assert!(reason.contains("nested deeper than 64"), "{reason}");
            }
            count += 1;
        }
    }
    format!("{count} nests")
}

/// Other versions and clusters.
async fn strangers(siege: &mut Siege) -> String {
    let mut count = 0;
    for address in siege.cluster.addresses.clone() {
        for version in [0, 2, u32::MAX] {
            let (_, answer) = Raw::introduced(&address, Hello { version, ..client_hello("") }).await;
            let Some(Packet::Goodbye { reason, .. }) = answer else { panic!("{answer:?}") };
            let expected = format!("protocol version {version} was offered, 1 is spoken here");
            assert!(reason.starts_with(&expected), "{reason}");
            count += 1;
        }
        for cluster in ["elsewhere".to_owned(), "x".repeat(3000), "\x1b[2J\n".repeat(100)] {
            let (_, answer) = Raw::introduced(&address, client_hello(&cluster)).await;
            let Some(Packet::Goodbye { reason, .. }) = answer else { panic!("{answer:?}") };
            assert!(reason.contains(&format!("this is cluster `{}`", cluster_id())), "{reason}");
            assert!(!reason.contains(char::is_control) && reason.len() < 3000, "{reason:?}");
            count += 1;
        }
    }
    format!("{count} strangers")
}

/// Clients that pretend to be nodes.
async fn impostors(siege: &mut Siege) -> String {
    let addresses = siege.cluster.addresses.clone();
    let hello = |node: u64, store: u64| Hello {
        version: PROTOCOL_VERSION,
        cluster: cluster_id(),
        node: Some(NodeId(node)),
        store,
    };
    for (position, address) in addresses.iter().enumerate() {
        let me = position as u64 + 1;
        let other = me % 3 + 1;
        for (node, expected) in [
            (me, "is the number of both sides"),
            (other, "shows another data directory"),
            (99, "is none of the nodes of this cluster"),
            (0, "is none of the nodes of this cluster"),
            (u64::MAX, "is none of the nodes of this cluster"),
        ] {
            let (_, answer) = Raw::introduced(address, hello(node, 12345)).await;
            let Some(Packet::Goodbye { reason, .. }) = answer else { panic!("{node}: {answer:?}") };
            assert!(reason.contains(expected), "{node}: {reason}");
        }
        // The identity of a data directory is no secret. It opens the door, but only for its owner's messages.
        let (_, theirs) = Raw::welcomed(&addresses[other as usize - 1], client_hello("")).await;
        let third = 6 - me - other;
        for (packet, expected) in [
            (raft(third, me, Message::TimeoutNow), "in the name of"),
            (raft(other, third, Message::TimeoutNow), "sent a Raft message for"),
            (raft(u64::MAX, me, Message::TimeoutNow), "in the name of"),
            (Packet::Response(Response { id: 1, result: Err(ServerError::Unknown) }), "nothing was asked"),
        ] {
            let (mut raw, _) = Raw::welcomed(address, hello(other, theirs.store)).await;
            raw.send(&frame(&packet)).await;
            let reason = raw.end().await.expect("it is told why");
            assert!(reason.contains(expected), "{reason}");
        }
        let (mut raw, _) = Raw::welcomed(address, hello(other, theirs.store)).await;
        let mut unknown_group = raft(other, me, Message::TimeoutNow);
        let Packet::Raft(envelope) = &mut unknown_group else { unreachable!("it is one") };
        envelope.group = GroupId(77);
        raw.send(&frame(&unknown_group)).await;
        assert!(raw.lives(1).await, "a message for a group that is not here is dropped");
        raw.send(&framed(&noise(&mut siege.rng, 300))).await;
        raw.finish().await;
        raw.end().await;
    }
    "each node by the others and by strangers".to_owned()
}

/// Packets that do not belong where they are said.
async fn bad_manners(siege: &mut Siege) -> String {
    let (_, welcome) = Raw::welcomed(&siege.address(), client_hello("")).await;
    let response = Packet::Response(Response { id: 1, result: Err(ServerError::Unknown) });
    let packets = [
        (Packet::Hello(client_hello("")), "a second handshake"),
        (Packet::Welcome(welcome), "a second handshake"),
        (raft(1, 2, Message::TimeoutNow), "a client may not send Raft messages"),
        (response, "a response, but nothing was asked"),
    ];
    for (packet, expected) in &packets {
        for address in siege.cluster.addresses.clone() {
            let mut raw = Raw::client(&address).await;
            raw.send(&frame(packet)).await;
            let reason = raw.end().await.expect("it is told why");
            assert!(reason.contains(expected), "{reason}");
            if !matches!(packet, Packet::Hello(_)) {
                let mut raw = Raw::dial(&address).await;
                raw.send(&frame(packet)).await;
                let reason = raw.end().await.expect("it is told why");
                assert!(reason.contains("must be a hello"), "{reason}");
            }
        }
    }
    for _ in 0..100 {
        let mut raw = Raw::client(&siege.address()).await;
        raw.send(&framed(&noise(&mut siege.rng, 2000))).await;
        raw.finish().await;
        raw.end().await;
    }
    "packets out of place, and noise behind a handshake".to_owned()
}

type Verdict = fn(&Result<Answer, ServerError>) -> bool;

fn limit(result: &Result<Answer, ServerError>) -> Option<&str> {
    match result {
        Err(ServerError::Refused(KvError::Limit { limit, .. })) => Some(limit),
        Err(ServerError::Refused(KvError::Batch { error, .. })) => match &**error {
            KvError::Limit { limit, .. } => Some(limit),
            _ => None,
        },
        _ => None,
    }
}

fn refused(result: &Result<Answer, ServerError>) -> Option<&KvError> {
    match result {
        Err(ServerError::Refused(error)) => Some(error),
        _ => None,
    }
}

fn reply(result: &Result<Answer, ServerError>) -> Option<&Reply> {
    match result {
        Ok(Answer::Kv(reply)) => Some(reply),
        _ => None,
    }
}

/// Changes that make no sense, and what must come of them.
fn absurd_changes() -> Vec<(RequestBody, Verdict)> {
    let change = |change| write(Command::Change(change));
    let with =
        |lifetime, expect| change(Change::Put { key: "h/life".into(), value: "".into(), expect, lifetime });
    let lease = LeaseId { group: GroupId(9), index: u64::MAX };
    let deletes =
        |count| (0..count).map(|_| Change::Delete { key: "h".into(), expect: Expect::Any }).collect();
    let mebibyte = || vec![0; 1 << 20];
    vec![
        (change(put(mebibyte(), "")), |r| limit(r) == Some("max_key_bytes")),
        (change(put("h/long", vec![0; 4 << 20])), |r| limit(r) == Some("max_value_bytes")),
        (change(put("", "empty key")), |r| matches!(reply(r), Some(Reply::Changed(_)))),
        (with(Lifetime::Ttl(u64::MAX), Expect::Any), |r| limit(r) == Some("max_key_ttl_ms")),
        (with(Lifetime::Ttl(0), Expect::Any), |r| matches!(reply(r), Some(Reply::Changed(_)))),
        (with(Lifetime::Lease(lease), Expect::Any), |r| refused(r) == Some(&KvError::LeaseExpired)),
        (with(Lifetime::Forever, Expect::Version(u64::MAX)), |r| refused(r) == Some(&KvError::NoKey)),
        (write(Command::Batch(vec![])), |r| reply(r) == Some(&Reply::Batch(vec![]))),
        (write(Command::Batch(deletes(16_384))), |r| limit(r) == Some("max_batch_changes")),
        (write(Command::Batch(vec![put("h/1", mebibyte()), put("h/2", mebibyte()), put("h/3", "")])), |r| {
            limit(r) == Some("max_batch_bytes")
        }),
        (write(Command::Batch(vec![put("h/1", ""), put(mebibyte(), "")])), |r| {
            limit(r) == Some("max_key_bytes")
        }),
        (write(Command::Advance), |r| matches!(r, Err(ServerError::Invalid(_)))),
        (write(Command::KeepAlive), |r| matches!(refused(r), Some(KvError::Malformed(_)))),
        (write(Command::CloseSession), |r| matches!(refused(r), Some(KvError::Malformed(_)))),
        (write(Command::OpenSessionAs { ttl_ms: u64::MAX, window: u32::MAX }), |r| {
            matches!(reply(r), Some(Reply::Session { ttl_ms: 60_000, window: 1024, .. }))
        }),
        (write(Command::GrantLease { ttl_ms: 0 }), |r| {
            matches!(reply(r), Some(Reply::Lease { ttl_ms: 500, .. }))
        }),
        (write(Command::GrantLease { ttl_ms: u64::MAX }), |r| limit(r) == Some("max_lease_ttl_ms")),
        (write(Command::RenewLease { lease }), |r| refused(r) == Some(&KvError::LeaseExpired)),
        (write(Command::RevokeLease { lease }), |r| refused(r) == Some(&KvError::LeaseExpired)),
    ]
}

/// The same of questions.
fn absurd_questions() -> Vec<(RequestBody, Verdict)> {
    let range = |start: &'static str, end: Option<&'static str>, max| {
        let (start, end) = (start.into(), end.map(Into::into));
        read(Query::Range { start, end, max_keys: max, max_bytes: max, keys_only: true })
    };
    let prefix = |prefix: Vec<u8>, after: Option<&'static [u8]>| {
        let (prefix, after) = (prefix.into(), after.map(Bytes::from_static));
        read(Query::Prefix { prefix, after, max_keys: 0, max_bytes: 1, keys_only: false })
    };
    let nothing: Verdict = |r| reply(r) == Some(&Reply::Pairs { pairs: vec![], cursor: None });
    let some: Verdict = |r| matches!(reply(r), Some(Reply::Pairs { pairs, .. }) if !pairs.is_empty());
    let chaos = RequestBody::Admin(AdminRequest::Chaos(Chaos::Panic { actor: "*".to_owned() }));
    let transfer = |to| RequestBody::Admin(AdminRequest::TransferLeader { to: Some(NodeId(to)) });
    vec![
        (read(Query::Get { key: vec![0; 5000].into() }), |r| limit(r) == Some("max_key_bytes")),
        (read(Query::Get { key: vec![0; 8 << 20].into() }), |r| limit(r) == Some("max_key_bytes")),
        (range("z", Some("a"), 0), nothing),
        (range("a", Some("a"), 0), nothing),
        (range("", Some(""), 0), nothing),
        (range("", None, u32::MAX), some),
        (prefix(vec![0xff; 40], None), nothing),
        (prefix(b"t".to_vec(), Some(b"a")), some),
        (prefix(b"t".to_vec(), Some(b"z")), nothing),
        (prefix(vec![0; 5000], None), |r| limit(r) == Some("max_key_bytes")),
        (
            chaos,
            |r| matches!(r, Err(ServerError::Invalid(text)) if text.contains("faults on purpose are off")),
        ),
        (
            transfer(77),
            |r| matches!(r, Err(ServerError::Invalid(text)) if text.contains("not another voter")),
        ),
        (transfer(u64::MAX), |r| matches!(r, Err(ServerError::Invalid(_)))),
    ]
}

async fn absurd_requests(siege: &mut Siege) -> String {
    let requests: Vec<_> = absurd_changes().into_iter().chain(absurd_questions()).collect();
    let mut raw = siege.at_leader().await;
    for (number, (body, verdict)) in requests.iter().enumerate() {
        let result = raw.ask(request(u64::MAX - number as u64, body.clone())).await;
        let shown = |text: String| text.chars().take(300).collect::<String>();
        assert!(
            verdict(&result),
            "{} is answered {}",
            shown(format!("{body:?}")),
            shown(format!("{result:?}"))
        );
    }
    for group in [0, 2, u32::MAX] {
        for (body, _) in absurd_changes().into_iter().chain(absurd_questions()) {
            if matches!(body, RequestBody::Admin(_)) {
                continue;
            }
            let result = raw.ask(Request { id: 0, group: GroupId(group), body }).await;
            assert_eq!(result, Err(ServerError::NoSuchGroup), "group {group}");
        }
    }
    // At any node, several at a time and all under the same number: every one is answered.
    let mut raw = Raw::client(&siege.address()).await;
    let small: Vec<Bytes> = absurd_questions()
        .into_iter()
        .map(|(body, _)| frame(&Packet::Request(request(5, body))))
        .filter(|frame| frame.len() < 10_000)
        .collect();
    raw.send(&small.concat()).await;
    for _ in &small {
        let answer = raw.word().await;
        assert!(matches!(answer, Some(Packet::Response(Response { id: 5, .. }))), "{answer:?}");
    }
    format!("{} requests", requests.len() * 5 + small.len())
}

/// Requests that no version of the protocol has had: unknown names, wrong types, numbers out of range.
async fn shapeless_requests(siege: &mut Siege) -> String {
    let request = |body| json!({"Request": {"id": 1, "group": 1, "body": body}});
    let write = |command| request(json!({"Write": {"stamp": null, "command": command}}));
    let get = |key| request(json!({"Read": {"query": {"Get": {"key": key}}, "consistency": "Stale"}}));
    let refused = [
        json!("Fly"),
        json!({"Fly": 1}),
        json!({"Ping": 1, "Pong": 2}),
        json!({"Ping": -1}),
        json!({"Ping": 1.5}),
        json!({"Ping": "1"}),
        json!({"Request": []}),
        json!({"Request": {"id": -1, "group": 1, "body": {"Admin": "Status"}}}),
        json!({"Request": {"id": 1, "group": -1, "body": {"Admin": "Status"}}}),
        json!({"Request": {"id": 1, "group": 1_u64 << 32, "body": {"Admin": "Status"}}}),
        json!({"Request": {"id": 1, "group": 1}}),
        request(json!("Admin")),
        request(json!({"Admin": "Fly"})),
        request(json!({"Admin": {"Chaos": {"LinkDrop": {"peer": 1, "permille": 65536}}}})),
        request(json!({"Fly": {}})),
        write(json!("Fly")),
        write(json!({"Change": {"Fly": {"key": "k"}}})),
        write(json!({"Change": {"Put": {"key": "k"}}})),
        write(json!({"Change": {"Put": {"key": null, "value": "v"}}})),
        write(json!({"Change": {"Put": {"key": "k", "value": "v", "expect": {"Version": -1}}}})),
        write(json!({"Change": {"Put": {"key": "k", "value": "v", "lifetime": {"Ttl": -5}}}})),
        write(json!({"GrantLease": {"ttl_ms": 1e300}})),
        write(json!({"Batch": {"Put": {}}})),
        request(
            json!({"Write": {"stamp": {"session": 1, "seq": 1, "acked_below": 1}, "command": "KeepAlive"}}),
        ),
        get(json!(5)),
        get(json!({"a": 1})),
    ];
    for packet in &refused {
        let mut raw = Raw::client(&siege.address()).await;
        raw.send(&framed_json(packet)).await;
        let reason = raw.end().await.unwrap_or_else(|| panic!("{packet} is refused without a word"));
        assert!(reason.contains("not a packet"), "{packet}: {reason}");
    }
    let mut extended = request(json!({"Admin": "Status"}));
    extended["Request"]["colour"] = json!({"deep": [1, 2, {"x": null}]});
    let answered = [
        extended,
        get(json!("")),
        request(
            json!({"Read": {"query": {"Get": {"key": "k", "colour": -1}}, "mood": [], "consistency": "Stale"}}),
        ),
        write(json!({"Change": {"Delete": {"key": "h/none", "colour": 1.5}}})),
    ];
    for packet in &answered {
        let mut raw = Raw::client(&siege.address()).await;
        raw.send(&framed_json(packet)).await;
        let answer = raw.word().await;
        assert!(matches!(answer, Some(Packet::Response(Response { id: 1, .. }))), "{packet}: {answer:?}");
    }
    format!("{} refused, {} answered", refused.len(), answered.len())
}

/// Frames as large as may be, full of as much as goes in.
async fn large_frames(siege: &mut Siege) -> String {
    const MANY: usize = 16 << 20;
    let mut nils = vec![0xdd];
    nils.put_u32((MANY - 5) as u32);
    nils.resize(MANY, 0xc0);
    let deletes: Vec<Change> =
        (0..400_000).map(|_| Change::Delete { key: Bytes::new(), expect: Expect::Any }).collect();
    let batch = frame(&Packet::Request(request(1, write(Command::Batch(deletes)))));
    let frames =
        [framed(&nils), batch, frame(&Packet::Goodbye { reason: "x".repeat(MANY - 100), new_store: false })];
    for bytes in &frames {
        let address = siege.address();
        let mut raw = Raw::client(&address).await;
        raw.send(bytes).await;
        raw.finish().await;
        while raw.word().await.is_some() {}
    }
    let mut raw = siege.at_leader().await;
    raw.send(&frames[1]).await;
    let Some(Packet::Response(response)) = raw.word().await else { panic!("a batch is answered") };
    assert_eq!(limit(&response.result), Some("max_batch_changes"));
    format!("{} frames of up to {} MiB", frames.len() + 1, MANY >> 20)
}

/// Sessions used as nobody would.
async fn sessions(siege: &mut Siege) -> String {
    let mut raw = siege.at_leader().await;
    let opened = raw.ask(request(1, write(Command::OpenSession))).await;
    let Some(Reply::Session { session, .. }) = reply(&opened).cloned() else { panic!("{opened:?}") };
    let change = || Command::Change(put("h/session", "v"));
    for (seq, acked_below) in [(u64::MAX, 1), (u64::MAX, 0), (0, 0), (u64::MAX, u64::MAX)] {
        let result = raw.ask(request(2, stamped(session, seq, acked_below, change()))).await;
        let duplicate = refused(&result) == Some(&KvError::Duplicate);
        assert!(duplicate == (seq == 0) && (duplicate || reply(&result).is_some()), "{seq}: {result:?}");
    }
    let late = raw.ask(request(2, stamped(session, 5, 1, change()))).await;
    assert_eq!(refused(&late), Some(&KvError::Duplicate));
    for strange in [
        SessionId { group: GroupId(9), ..session },
        SessionId { index: u64::MAX, ..session },
        SessionId { index: 0, ..session },
    ] {
        for command in [change(), Command::KeepAlive, Command::CloseSession] {
            let result = raw.ask(request(3, stamped(strange, 1, 1, command))).await;
            assert_eq!(refused(&result), Some(&KvError::SessionExpired), "{strange:?}");
        }
    }
    let window = raw.ask(request(1, write(Command::OpenSession))).await;
    let Some(Reply::Session { session, window, .. }) = reply(&window).cloned() else { panic!("{window:?}") };
    for seq in 1..=u64::from(window) + 1 {
        let result = raw.ask(request(2, stamped(session, seq * 1000, 1, change()))).await;
        let full = limit(&result) == Some("session_window");
        assert!(full == (seq > u64::from(window)) && (full || result.is_ok()), "{seq}: {result:?}");
    }
    for _ in 0..200 {
        raw.ask(request(1, write(Command::OpenSession))).await.expect("a session is opened");
    }
    format!("a window of {window}, 202 sessions left behind")
}

/// Thousands of connections that come and go.
async fn open_and_drop(siege: &mut Siege) -> String {
    const WAVES: usize = 30;
    const WAVE: usize = 100;
    let hello = frame(&Packet::Hello(client_hello("")));
    let asking = [&hello[..], &frame(&Packet::Request(request(1, read(everything()))))].concat();
    for _ in 0..WAVES {
        let mut wave = Vec::with_capacity(WAVE);
        for _ in 0..WAVE {
            let mut raw = Raw::dial(&siege.address()).await;
            match siege.rng.u8(0..4) {
                0 => {}
                1 => raw.send(&hello).await,
                2 => raw.send(&hello[..20]).await,
                _ => raw.send(&asking).await,
            }
            wave.push(raw);
        }
    }
    format!("{} connections", WAVES * WAVE)
}

/// Strangers that take all places and say nothing, or one byte after the other, for ever.
async fn slow_strangers(siege: &mut Siege) -> String {
    const STRANGERS: usize = MAX_CONNECTIONS + 100;
    let address = siege.address();
    let hello = frame(&Packet::Hello(client_hello("")));
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS {
        strangers.push(Raw::dial(&address).await);
    }
    for length in 0..5 {
        for stranger in strangers.iter_mut().step_by(2) {
            stranger.send(&hello[length..=length]).await;
        }
        tokio::time::sleep(HANDSHAKE / 10).await;
    }
    let mut told = 0;
    for stranger in strangers {
        if let Some(reason) = stranger.end().await {
            assert_eq!(reason, "the handshake took longer than 1s");
            told += 1;
        }
    }
    assert!(told > MAX_CONNECTIONS / 2, "{told} were told why");
    Raw::client(&address).await;
    format!("{STRANGERS} strangers, {told} told to go")
}

/// More clients than there are places; afterwards there are places again.
async fn flood(siege: &mut Siege) -> String {
    const CLIENTS: usize = MAX_CONNECTIONS + 150;
    let (mut welcome, mut full, mut dropped) = (0, 0, 0);
    for address in siege.cluster.addresses.clone() {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let (raw, answer) = Raw::introduced(&address, client_hello("")).await;
            match answer {
                Some(Packet::Welcome(_)) => welcome += 1,
                Some(Packet::Goodbye { reason, .. }) => {
                    assert!(reason.starts_with("all 300 connections are in use"), "{reason}");
                    full += 1;
                }
                None => dropped += 1,
                Some(other) => panic!("{other:?}"),
            }
            clients.push(raw);
        }
        drop(clients);
        // They leave as fast as the node reads.
        loop {
            let (_, answer) = Raw::introduced(&address, client_hello("")).await;
            if matches!(answer, Some(Packet::Welcome(_))) {
                break;
            }
        }
    }
    assert!(welcome > 250 * NODES, "{welcome} were let in");
    assert!(full > 0, "nobody was told that the node is full");
    format!("{welcome} let in, {full} told that it is full, {dropped} dropped")
}

/// Clients that never say a word after their handshake, not even to a ping.
async fn silent_clients(siege: &mut Siege) -> String {
    const CLIENTS: usize = 200;
    let address = siege.address();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Raw::client(&address).await);
    }
    for client in clients {
        client.end().await;
    }
    format!("{CLIENTS} clients, all dropped")
}

/// Clients that ask for much and never read: their answers must not pile up.
async fn never_reads(siege: &mut Siege) -> String {
    let asking = frame(&Packet::Request(request(1, read(everything())))).repeat(200);
    // As much as may be under way.
    let mut raw = siege.at_leader().await;
    let whole = raw.push(&asking, Duration::from_secs(5)).await;
    assert!(whole, "200 questions are taken");
    let pong = frame(&Packet::Pong(0));
    while raw.push(&pong, Duration::from_secs(5)).await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // More than may be, for as long as somebody listens.
    let mut sent = 0;
    let mut raw = siege.at_leader().await;
    while raw.push(&asking, Duration::from_secs(5)).await {
        sent += 200;
        assert!(sent < 200_000, "the node reads for ever");
    }
    format!("dropped after 200 and after {sent} requests")
}

/// A client that asks for as much as may wait for it, all at once, and reads all answers.
async fn never_waits(siege: &mut Siege) -> String {
    const ASKED: usize = 6;
    let asking = frame(&Packet::Request(request(1, read(everything())))).repeat(ASKED);
    let mut raw = siege.at_leader().await;
    raw.send(&asking).await;
    let mut answered = 0;
    while let Some(Packet::Response(response)) = raw.word().await {
        assert!(response.result.is_ok(), "{:?}", response.result);
        answered += 1;
        if answered == ASKED {
            break;
        }
    }
    format!("{answered} of {ASKED} answered")
}
