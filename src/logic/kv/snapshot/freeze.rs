//! Writing a snapshot.

use std::ops::Bound;
use std::sync::Arc;

use imbl::OrdMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{CHECKSUM_BYTES, CLAIM, END, FORMAT, HEADER, LEASE, MAGIC, NUMBER_BYTES, RECORD, REPLY, SESSION};
use crate::logic::ids::{GroupId, Index};
use crate::logic::kv::command::{LeaseId, Outcome, SessionId};
use crate::logic::kv::key::Key;
use crate::logic::kv::lease::Lease;
use crate::logic::kv::machine::Machine;
use crate::logic::kv::row::Row;
use crate::logic::kv::session::Session;
use crate::logic::kv::state_hash::StateHash;

/// Everything replicated, as of one applied index. Shares memory with the machine until that changes it; dropping the
/// last copy of a large state takes a while, so drop it where it was written.
#[derive(Clone)]
pub struct Frozen {
    group: GroupId,
    applied: Index,
    time_ms: u64,
    rows: OrdMap<Key, Row>,
    rows_digest: u128,
    leases: OrdMap<LeaseId, Lease>,
    sessions: OrdMap<SessionId, Arc<Session>>,
}

impl Frozen {
    pub(in crate::logic::kv) fn of(machine: &Machine) -> Frozen {
        Frozen {
            group: machine.group,
            applied: machine.applied,
            time_ms: machine.time_ms,
            rows: machine.rows.map().clone(),
            rows_digest: machine.rows.digest(),
            leases: machine.leases.table().clone(),
            sessions: machine.sessions.table().clone(),
        }
    }

    /// The last index whose effect is in here.
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The hash of this state; the same as [`Machine::hash`] when it was taken.
    pub fn hash(&self) -> StateHash {
        let mut hasher = Xxh3::new();
        let mut item = Vec::new();
        put_header(&mut item, self);
        hasher.update(&item);
        hasher.update(&(self.rows.len() as u64).to_le_bytes());
        hasher.update(&self.rows_digest.to_le_bytes());
        for (id, lease) in &self.leases {
            item.clear();
            put_lease(&mut item, *id, lease);
            hasher.update(&item);
        }
        for (id, session) in self.sessions.iter().filter(|_| !mutant!(SnapshotWithoutSessions)) {
            item.clear();
            put_session(&mut item, *id, session);
            for (seq, outcome) in session.replies.iter().filter(|_| !mutant!(SnapshotWithoutReplies)) {
                put_reply(&mut item, *seq, outcome);
            }
            hasher.update(&(item.len() as u64).to_le_bytes());
            hasher.update(&item);
        }
        StateHash::new(hasher.digest128())
    }

    /// The state as chunks of at most `max_chunk_bytes`, or of one item where that alone is longer. They are made one
    /// at a time, when asked for.
    pub fn chunks(self, max_chunk_bytes: usize) -> Chunks {
        Chunks { frozen: self, max_chunk_bytes, number: 0, next: Next::Header }
    }
}

/// What the next item is.
enum Next {
    Header,
    Leases(Bound<LeaseId>),
    Sessions(Bound<SessionId>),
    /// Replies of this session, from this number on.
    Replies(SessionId, u64),
    Rows(Bound<Key>),
    End,
    Nothing,
}

/// See [`Frozen::chunks`].
pub struct Chunks {
    frozen: Frozen,
    max_chunk_bytes: usize,
    number: u32,
    next: Next,
}

impl Iterator for Chunks {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        if matches!(self.next, Next::Nothing) {
            return None;
        }
        let mut chunk = Chunk::new(self.number, self.max_chunk_bytes);
        while !matches!(self.next, Next::Nothing) {
            match self.frozen.fill(&self.next, &mut chunk) {
                Filled::All(next) => self.next = next,
                Filled::UpTo(next) => {
                    self.next = next;
                    break;
                }
            }
        }
        self.number += 1;
        Some(chunk.seal())
    }
}

/// How far the chunk took what was to come.
enum Filled {
    /// All of it; this comes next.
    All(Next),
    /// The chunk is full; go on here.
    UpTo(Next),
}

impl Frozen {
    fn fill(&self, next: &Next, chunk: &mut Chunk) -> Filled {
        match next {
            Next::Header => {
                chunk.item(HEADER, |out| put_header(out, self));
                Filled::All(Next::Leases(Bound::Unbounded))
            }
            Next::Leases(from) => {
                for (id, lease) in self.leases.range((*from, Bound::Unbounded)) {
                    let tag = if lease.claim.is_some() { CLAIM } else { LEASE };
                    if !chunk.item(tag, |out| put_lease(out, *id, lease)) {
                        return Filled::UpTo(Next::Leases(Bound::Included(*id)));
                    }
                }
                Filled::All(Next::Sessions(Bound::Unbounded))
            }
            Next::Sessions(_) if mutant!(SnapshotWithoutSessions) => {
                Filled::All(Next::Rows(Bound::Unbounded))
            }
            Next::Replies(id, _) if mutant!(SnapshotWithoutReplies) => {
                Filled::All(Next::Sessions(Bound::Excluded(*id)))
            }
            Next::Sessions(from) => {
                let Some((id, session)) = self.sessions.range((*from, Bound::Unbounded)).next() else {
                    return Filled::All(Next::Rows(Bound::Unbounded));
                };
                if !chunk.item(SESSION, |out| put_session(out, *id, session)) {
                    return Filled::UpTo(Next::Sessions(Bound::Included(*id)));
                }
                Filled::All(Next::Replies(*id, 0))
            }
            Next::Replies(id, from) => {
                for (seq, outcome) in self.sessions.get(id).into_iter().flat_map(|s| s.replies.range(*from..))
                {
                    if !chunk.item(REPLY, |out| put_reply(out, *seq, outcome)) {
                        return Filled::UpTo(Next::Replies(*id, *seq));
                    }
                }
                Filled::All(Next::Sessions(Bound::Excluded(*id)))
            }
            Next::Rows(from) => {
                for (key, row) in self.rows.range::<_, Key>((from.as_ref(), Bound::Unbounded)) {
                    if !chunk.item(RECORD, |out| out.extend_from_slice(row.body())) {
                        return Filled::UpTo(Next::Rows(Bound::Included(key.clone())));
                    }
                }
                Filled::All(Next::End)
            }
            Next::End => {
                let hash = self.hash();
                match chunk.item(END, |out| out.extend_from_slice(&hash.to_bytes())) {
                    true => Filled::All(Next::Nothing),
                    false => Filled::UpTo(Next::End),
                }
            }
            Next::Nothing => Filled::All(Next::Nothing),
        }
    }
}

fn put_header(out: &mut Vec<u8>, frozen: &Frozen) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&FORMAT.to_le_bytes());
    out.extend_from_slice(&frozen.group.0.to_le_bytes());
    out.extend_from_slice(&frozen.applied.to_le_bytes());
    out.extend_from_slice(&frozen.time_ms.to_le_bytes());
}

fn put_lease(out: &mut Vec<u8>, id: LeaseId, lease: &Lease) {
    out.extend_from_slice(&id.group.0.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
    out.extend_from_slice(&lease.ttl_ms.to_le_bytes());
    out.extend_from_slice(&lease.deadline_ms.to_le_bytes());
    if let Some(claim) = &lease.claim {
        let lock = claim.lock.as_slice();
        out.extend_from_slice(&(lock.len() as u32).to_le_bytes());
        out.extend_from_slice(lock);
        out.extend_from_slice(&claim.owner);
    }
}

fn put_session(out: &mut Vec<u8>, id: SessionId, session: &Session) {
    out.extend_from_slice(&id.group.0.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
    out.extend_from_slice(&session.ttl_ms.to_le_bytes());
    out.extend_from_slice(&session.window.to_le_bytes());
    out.extend_from_slice(&session.touched_ms.to_le_bytes());
    out.extend_from_slice(&session.acked_below.to_le_bytes());
}

fn put_reply(out: &mut Vec<u8>, seq: u64, outcome: &Outcome) {
    out.extend_from_slice(&seq.to_le_bytes());
    rmp_serde::encode::write(out, outcome).expect("an outcome has a MessagePack form, and memory takes it");
}

/// A chunk being written.
struct Chunk {
    bytes: Vec<u8>,
    max_bytes: usize,
}

impl Chunk {
    const EMPTY: usize = CHECKSUM_BYTES + NUMBER_BYTES;

    fn new(number: u32, max_bytes: usize) -> Chunk {
        let mut bytes = Vec::with_capacity(max_bytes.min(super::DEFAULT_CHUNK_BYTES));
        bytes.extend_from_slice(&[0; CHECKSUM_BYTES]);
        bytes.extend_from_slice(&number.to_le_bytes());
        Chunk { bytes, max_bytes }
    }

    /// Adds an item unless it no longer fits; the first one always does.
    fn item(&mut self, tag: u8, body: impl FnOnce(&mut Vec<u8>)) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[tag, 0, 0, 0, 0]);
        body(&mut self.bytes);
        if self.bytes.len() > self.max_bytes && start > Self::EMPTY {
            self.bytes.truncate(start);
            return false;
        }
        let length = (self.bytes.len() - start - 5) as u32;
        self.bytes[start + 1..start + 5].copy_from_slice(&length.to_le_bytes());
        true
    }

    fn seal(mut self) -> Vec<u8> {
        let checksum = xxh3_64(&self.bytes[CHECKSUM_BYTES..]);
        self.bytes[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        self.bytes
    }
}
