//! MessagePack, the way Quorate writes it: structs as maps of field names, so that fields can be added; and how
//! many bytes a packet takes, without encoding it.

use std::io::{self, Write};

use bytes::BytesMut;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::client::{Answer, Request, RequestBody, Response, ServerError};
use super::mapreduce::MapReduceReply;
use super::wire::Packet;
use crate::logic::kv::command::{Change, Command, KvError, Query, Reply};
use crate::logic::raft::message::{Envelope, Message};

/// A packet that does not fit where it was to be written, or bytes that are not a packet.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct EncodingError(String);

/// Appends the packet's encoding to `out`.
///
/// # Errors
/// None that a packet of this program could cause; the serializer's type asks for it.
pub fn write(packet: &Packet, out: &mut BytesMut) -> Result<(), EncodingError> {
    out.reserve(packet.cost());
    let mut serializer = rmp_serde::Serializer::new(Appender(out)).with_struct_map();
    packet.serialize(&mut serializer).map_err(|error| EncodingError(error.to_string()))
}

/// The serializer writes in tiny pieces, so each must cost as little as possible.
struct Appender<'a>(&'a mut BytesMut);

impl Write for Appender<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the packet that `bytes` are.
///
/// # Errors
/// When the bytes are not a packet, are cut short, or do not end with it.
pub fn read(bytes: &[u8]) -> Result<Packet, EncodingError> {
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    let packet = Packet::deserialize(&mut deserializer).map_err(|error| EncodingError(error.to_string()))?;
    match IgnoredAny::deserialize(&mut deserializer) {
        Ok(_) => Err(EncodingError("more than a packet".to_owned())),
        Err(_) => Ok(packet),
    }
}

impl Packet {
    /// An upper bound of the packet's encoded length in bytes; what queues count. Payloads count once, small parts by
    /// the largest form they can take. It costs a walk over the packet, not over its payload.
    pub fn cost(&self) -> usize {
        match self {
            Packet::Ping(_) | Packet::Pong(_) => 16,
            Packet::Raft(envelope) => envelope_cost(envelope),
            Packet::Request(request) => request_cost(request),
            Packet::Response(response) => response_cost(response),
            Packet::Hello(_) | Packet::Welcome(_) | Packet::Goodbye { .. } => measured(self),
        }
    }
}

/// Length of a byte string or text of `len` bytes, with its longest header.
fn blob(len: usize) -> usize {
    5 + len
}

fn envelope_cost(envelope: &Envelope) -> usize {
    // Names, five numbers and the largest fixed part of any message.
    const FIXED: usize = 224;
    FIXED
        + match &envelope.body {
            // `Entry::cost` leaves out a few bytes of array and number headers.
            Message::Append { entries, .. } => entries.iter().map(|entry| entry.cost() + 8).sum(),
            Message::SnapshotChunk { meta, data, .. } => blob(data.len()) + 64 + meta.membership.cost(),
            _ => 0,
        }
}

fn request_cost(request: &Request) -> usize {
    const FIXED: usize = 176;
    FIXED
        + match &request.body {
            RequestBody::Write { command, .. } => command_cost(command),
            RequestBody::Read { query, .. } => query_cost(query),
            RequestBody::Admin(order) => measured(order),
            RequestBody::MapReduce(request) => measured(request),
        }
}

fn command_cost(command: &Command) -> usize {
    match command {
        Command::Change(change) => change_cost(change),
        Command::Batch(changes) => 16 + changes.iter().map(change_cost).sum::<usize>(),
        Command::Claim { lock, owner, .. } => 64 + blob(lock.len()) + blob(owner.len()),
        _ => 64,
    }
}

fn change_cost(change: &Change) -> usize {
    const FIXED: usize = 112;
    FIXED
        + match change {
            Change::Put { key, value, .. } | Change::Append { key, value, .. } => {
                blob(key.len()) + blob(value.len())
            }
            Change::Delete { key, .. } | Change::Check { key, .. } | Change::Fence { lock: key, .. } => {
                blob(key.len())
            }
        }
}

fn query_cost(query: &Query) -> usize {
    const FIXED: usize = 96;
    FIXED
        + match query {
            Query::Get { key } | Query::Lock { lock: key } => blob(key.len()),
            Query::Turn { .. } => 0,
            Query::Range { start, end, .. } => {
                blob(start.len()) + end.as_ref().map_or(1, |end| blob(end.len()))
            }
            Query::Prefix { prefix, after, .. } => {
                blob(prefix.len()) + after.as_ref().map_or(1, |after| blob(after.len()))
            }
        }
}

fn response_cost(response: &Response) -> usize {
    const FIXED: usize = 112;
    FIXED
        + match &response.result {
            Ok(Answer::Kv(reply)) => reply_cost(reply),
            Ok(Answer::Admin(reply)) => measured(reply),
            // Task output is most of what crosses the wire, so it is not walked over.
            Ok(Answer::MapReduce(MapReduceReply::Chunk { bytes, .. })) => 64 + blob(bytes.len()),
            Ok(Answer::MapReduce(reply)) => measured(reply),
            Err(ServerError::Refused(KvError::Batch { .. })) => measured(&response.result),
            Err(ServerError::Refused(KvError::Limit { limit, what, .. })) => {
                64 + blob(limit.len()) + blob(what.len())
            }
            Err(ServerError::Refused(KvError::Malformed(text)) | ServerError::Invalid(text)) => {
                blob(text.len())
            }
            Err(ServerError::Busy { limit }) => blob(limit.len()),
            Err(_) => 0,
        }
}

fn reply_cost(reply: &Reply) -> usize {
    match reply {
        Reply::Value { value, .. } => 32 + blob(value.len()),
        Reply::Pairs { pairs, cursor } => {
            let pairs: usize =
                pairs.iter().map(|pair| 32 + blob(pair.key.len()) + blob(pair.value.len())).sum();
            32 + pairs + cursor.as_ref().map_or(1, |cursor| blob(cursor.len()))
        }
        Reply::Batch(changed) => 16 + 32 * changed.len(),
        Reply::Lock { holder, .. } => 112 + holder.as_ref().map_or(0, |holder| blob(holder.owner.len())),
        _ => 64,
    }
}

/// The exact length of something rare.
fn measured(value: &impl Serialize) -> usize {
    struct Counter(usize);
    impl Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut serializer = rmp_serde::Serializer::new(Counter(0)).with_struct_map();
    value.serialize(&mut serializer).expect("counting never fails");
    serializer.into_inner().0
}
