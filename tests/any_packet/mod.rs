//! Any packet, from a seed: every message, with fields of all lengths.

use std::collections::BTreeSet;

use bytes::Bytes;
use fastrand::Rng;
use quorate::logic::ids::{GroupId, LogPosition, NodeId};
use quorate::logic::kv::command::*;
use quorate::logic::raft::entry::{Entry, Payload, SnapshotMeta};
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::{AppendOutcome, Envelope, Message};
use quorate::messages::admin::*;
use quorate::messages::client::*;
use quorate::messages::wire::{Hello, Packet, Welcome};

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

pub fn list<T>(rng: &mut Rng, mut make: impl FnMut(&mut Rng) -> T) -> Vec<T> {
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

pub fn command(rng: &mut Rng) -> Command {
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

pub fn packet(rng: &mut Rng) -> Packet {
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
        2 => Packet::Goodbye { reason: text(rng), new_store: rng.bool() },
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
