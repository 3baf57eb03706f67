//! Reading a snapshot back.

use std::io::Cursor;
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use super::{CHECKSUM_BYTES, CLAIM, END, FORMAT, HEADER, LEASE, MAGIC, RECORD, REPLY, SESSION};
use crate::logic::ids::GroupId;
use crate::logic::kv::command::{LeaseId, Outcome, SessionId};
use crate::logic::kv::key::Key;
use crate::logic::kv::lease::Lease;
use crate::logic::kv::lock::Claim;
use crate::logic::kv::machine::Machine;
use crate::logic::kv::row::Row;
use crate::logic::kv::session::Session;
use crate::logic::kv::state_hash::StateHash;

/// Outcomes nest two deep (a batch's error holds a change's error); deeper nesting is no outcome.
const MAX_OUTCOME_DEPTH: usize = 16;

/// Why a snapshot cannot be used. None of them leaves a machine behind: fetch the snapshot again, or another one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// The chunk's bytes changed on the way.
    #[error("chunk {number} of the snapshot is damaged")]
    Damaged {
        /// Which chunk was expected.
        number: u32,
    },
    /// A chunk is missing, repeated, or in the wrong place.
    #[error("chunk {found} of the snapshot came where {expected} was expected")]
    OutOfOrder {
        /// Number of the chunk that was expected.
        expected: u32,
        /// Number of the chunk that came.
        found: u32,
    },
    /// The chunk arrived as it was sent, but says something that no snapshot says.
    #[error("chunk {number} of the snapshot is malformed: {why}")]
    Malformed {
        /// Which chunk.
        number: u32,
        /// What is wrong.
        why: &'static str,
    },
    /// It is the state of another group.
    #[error("the snapshot is of group {found}, not of {expected}")]
    OtherGroup {
        /// The group to be restored.
        expected: GroupId,
        /// The group of the snapshot.
        found: GroupId,
    },
    /// The last chunk has not come.
    #[error("the snapshot ends before its end")]
    Incomplete,
    /// What was restored is not what was saved.
    #[error("the snapshot's state has hash {actual}, not {expected}")]
    OtherHash {
        /// Hash in the snapshot.
        expected: StateHash,
        /// Hash of what was restored.
        actual: StateHash,
    },
}

/// Builds a machine from the chunks of a snapshot, in order.
pub struct Restorer {
    machine: Machine,
    /// Number of the chunk that comes next.
    number: u32,
    last: Last,
    failed: Option<RestoreError>,
}

/// The item before: what may follow it.
enum Last {
    Nothing,
    Header,
    Lease(LeaseId),
    Session(SessionId, Box<Session>),
    Record(Key),
    End(StateHash),
}

impl Restorer {
    /// Begins to restore the store of `group`.
    pub fn new(group: GroupId) -> Restorer {
        Restorer { machine: Machine::new(group), number: 0, last: Last::Nothing, failed: None }
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// A [`RestoreError`]; the same again for everything that comes after it.
    pub fn chunk(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let taken = self.take(chunk);
        self.failed = taken.as_ref().err().cloned();
        taken
    }

    /// The machine, once all chunks have been taken.
    ///
    /// # Errors
    /// A [`RestoreError`] when a chunk failed, when chunks are missing, or when the state is not the one saved.
    pub fn finish(self) -> Result<Machine, RestoreError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let Last::End(expected) = self.last else { return Err(RestoreError::Incomplete) };
        let mut machine = self.machine;
        machine.rows.leases().for_each(|lease| machine.leases.note_attached(lease));
        machine.scratch = Vec::new();
        let actual = machine.hash();
        if actual != expected {
            return Err(RestoreError::OtherHash { expected, actual });
        }
        Ok(machine)
    }

    fn take(&mut self, chunk: &[u8]) -> Result<(), RestoreError> {
        let damaged = RestoreError::Damaged { number: self.number };
        let Some((checksum, rest)) = chunk.split_first_chunk::<CHECKSUM_BYTES>() else { return Err(damaged) };
        if u64::from_le_bytes(*checksum) != xxh3_64(rest) {
            return Err(damaged);
        }
        let mut reader = Reader(rest);
        let number = self.number;
        let malformed = |why| RestoreError::Malformed { number, why };
        let found = reader.u32().map_err(malformed)?;
        if found != self.number {
            return Err(RestoreError::OutOfOrder { expected: self.number, found });
        }
        while !reader.0.is_empty() {
            let (tag, body) = reader.item().map_err(malformed)?;
            if tag == HEADER {
                let found = header_group(body).map_err(malformed)?;
                if found != self.machine.group {
                    return Err(RestoreError::OtherGroup { expected: self.machine.group, found });
                }
            }
            self.item(tag, Reader(body)).map_err(malformed)?;
        }
        self.number = self.number.checked_add(1).ok_or(damaged)?;
        Ok(())
    }

    fn item(&mut self, tag: u8, mut body: Reader<'_>) -> Result<(), Why> {
        // A reply belongs to the session before it; anything else ends that session.
        if tag == REPLY {
            let Last::Session(_, session) = &mut self.last else { return Err("a reply without a session") };
            return reply(session, body);
        }
        let last = match std::mem::replace(&mut self.last, Last::Nothing) {
            Last::Session(id, session) => {
                self.machine.sessions.add(id, *session);
                Place::Session(id)
            }
            Last::Nothing => Place::Start,
            Last::Header => Place::Header,
            Last::Lease(id) => Place::Lease(id),
            Last::Record(key) => Place::Record(key),
            Last::End(_) => return Err("something behind the end"),
        };
        self.last = match (tag, last) {
            (HEADER, Place::Start) => {
                body.0 = &body.0[HEADER_PREFIX..];
                self.machine.applied = body.u64()?;
                self.machine.time_ms = body.u64()?;
                Last::Header
            }
            (_, Place::Start) => return Err("it does not begin with the header"),
            (LEASE | CLAIM, last @ (Place::Header | Place::Lease(_))) => {
                let id = LeaseId { group: GroupId(body.u32()?), index: body.u64()? };
                self.known_index(id.group, id.index)?;
                if matches!(last, Place::Lease(before) if before >= id) {
                    return Err("leases out of order");
                }
                let (ttl_ms, deadline_ms) = (body.u64()?, body.u64()?);
                let claim = if tag == CLAIM { Some(Arc::new(claim(&mut body)?)) } else { None };
                claim.iter().for_each(|claim| self.machine.locks.join(claim, id));
                self.machine.leases.set(id, Lease { ttl_ms, deadline_ms, claim });
                Last::Lease(id)
            }
            (SESSION, last @ (Place::Header | Place::Lease(_) | Place::Session(_))) => {
                let id = SessionId { group: GroupId(body.u32()?), index: body.u64()? };
                self.known_index(id.group, id.index)?;
                if matches!(last, Place::Session(before) if before >= id) {
                    return Err("sessions out of order");
                }
                Last::Session(id, Box::new(session(&mut body)?))
            }
            (RECORD, last) => {
                let row = Row::from_body(&mut self.machine.scratch, body.0).ok_or("not a record")?;
                body.0 = &[];
                let key = Key::new(row.key());
                if matches!(last, Place::Record(before) if before >= key) {
                    return Err("records out of order");
                }
                self.machine.rows.replace(key.clone(), Some(row));
                Last::Record(key)
            }
            (END, _) => Last::End(StateHash::from_bytes(body.array::<{ StateHash::BYTES }>()?)),
            _ => return Err("an unknown item, or one in the wrong place"),
        };
        body.end()
    }

    /// Ids of this group are indices of its log, so none lies beyond what was applied.
    fn known_index(&self, group: GroupId, index: u64) -> Result<(), Why> {
        if group == self.machine.group && index > self.machine.applied {
            return Err("an id from the future");
        }
        Ok(())
    }
}

/// The item before, once it is complete.
enum Place {
    Start,
    Header,
    Lease(LeaseId),
    Session(SessionId),
    Record(Key),
}

/// Bytes of a header before the applied index.
const HEADER_PREFIX: usize = 12;

fn header_group(body: &[u8]) -> Result<GroupId, Why> {
    let mut body = Reader(body);
    if body.array()? != MAGIC {
        return Err("not a snapshot of a store");
    }
    if body.u32()? != FORMAT {
        return Err("a format that this version does not know");
    }
    Ok(GroupId(body.u32()?))
}

fn claim(body: &mut Reader<'_>) -> Result<Claim, Why> {
    let length = body.u32()? as usize;
    let (lock, owner) = body.0.split_at_checked(length).ok_or("cut short")?;
    body.0 = &[];
    Ok(Claim { lock: Key::new(lock), owner: Bytes::copy_from_slice(owner) })
}

fn session(body: &mut Reader<'_>) -> Result<Session, Why> {
    Ok(Session {
        ttl_ms: body.u64()?,
        window: body.u32()?,
        touched_ms: body.u64()?,
        acked_below: body.u64()?,
        replies: Default::default(),
    })
}

fn reply(session: &mut Session, mut body: Reader<'_>) -> Result<(), Why> {
    let seq = body.u64()?;
    if session.replies.last_key_value().is_some_and(|(before, _)| *before >= seq) {
        return Err("replies out of order");
    }
    let mut decoder = rmp_serde::Deserializer::new(Cursor::new(body.0));
    decoder.set_max_depth(MAX_OUTCOME_DEPTH);
    let outcome: Outcome = serde::Deserialize::deserialize(&mut decoder).map_err(|_| "not an outcome")?;
    if decoder.position() != body.0.len() as u64 {
        return Err("bytes behind an outcome");
    }
    session.replies.insert(seq, outcome);
    Ok(())
}

/// What is wrong.
type Why = &'static str;

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        let (array, rest) = self.0.split_first_chunk::<N>().ok_or("cut short")?;
        self.0 = rest;
        Ok(*array)
    }

    fn u32(&mut self) -> Result<u32, Why> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Why> {
        self.array().map(u64::from_le_bytes)
    }

    fn item(&mut self) -> Result<(u8, &'a [u8]), Why> {
        let [tag] = self.array()?;
        let length = self.u32()? as usize;
        let (body, rest) = self.0.split_at_checked(length).ok_or("cut short")?;
        self.0 = rest;
        Ok((tag, body))
    }

    fn end(&self) -> Result<(), Why> {
        if self.0.is_empty() { Ok(()) } else { Err("bytes behind an item") }
    }
}
