//! A record: one allocation that is at once what the map stores, what a snapshot holds and what the state hash covers.
//!
//! ```text
//! 0..16  digest of the rest        25..33 deadline, or index of the lease    37..41 length of the key
//! 16     kind of lifetime          33..37 group of the lease                 41..   key, value
//! 17..25 version
//! ```
//! Numbers are little-endian; fields that the kind of lifetime does not need are zero.

use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::command::{LeaseId, Version};
use crate::logic::ids::GroupId;

const DIGEST: usize = 16;
const HEADER: usize = 41;
const FOREVER: u8 = 0;
const UNTIL: u8 = 1;
const LEASED: u8 = 2;

/// Memory that a record needs besides its key and value, roughly: header, reference counts, its share of map nodes.
pub(super) const RECORD_OVERHEAD: u64 = 128;

/// How long a record stays, in terms of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Forever,
    /// Absent from this log time on.
    Until(u64),
    /// Absent from the end of the lease on.
    Leased(LeaseId),
}

/// A record; cloning shares it.
#[derive(Clone, Debug)]
pub(super) struct Row(Arc<[u8]>);

impl Row {
    /// Lays the record out in `scratch` and copies it into an allocation of exactly its size. The value comes in two
    /// parts, so that an append needs no copy of its own.
    pub(super) fn new(
        scratch: &mut Vec<u8>,
        key: &[u8],
        version: Version,
        life: Life,
        value: [&[u8]; 2],
    ) -> Row {
        let (kind, number, group) = match life {
            Life::Forever => (FOREVER, 0, 0),
            Life::Until(deadline_ms) => (UNTIL, deadline_ms, 0),
            Life::Leased(lease) => (LEASED, lease.index, lease.group.0),
        };
        scratch.clear();
        scratch.extend_from_slice(&[0; DIGEST]);
        scratch.push(kind);
        scratch.extend_from_slice(&version.to_le_bytes());
        scratch.extend_from_slice(&number.to_le_bytes());
        scratch.extend_from_slice(&group.to_le_bytes());
        scratch.extend_from_slice(&(key.len() as u32).to_le_bytes());
        scratch.extend_from_slice(key);
        scratch.extend_from_slice(value[0]);
        scratch.extend_from_slice(value[1]);
        Row::seal(scratch)
    }

    /// Reads a record's body back from a snapshot; `None` when no record looks like that.
    pub(super) fn from_body(scratch: &mut Vec<u8>, body: &[u8]) -> Option<Row> {
        scratch.clear();
        scratch.extend_from_slice(&[0; DIGEST]);
        scratch.extend_from_slice(body);
        if scratch.len() < HEADER {
            return None;
        }
        let row = Row::seal(scratch);
        let unused_is_zero = match row.0[DIGEST] {
            FOREVER => row.number() == 0 && row.lease_group() == 0,
            UNTIL => row.lease_group() == 0,
            LEASED => true,
            _ => false,
        };
        let fits = row.key_length() <= row.0.len() - HEADER;
        (unused_is_zero && fits && row.version() > 0).then_some(row)
    }

    fn seal(scratch: &mut [u8]) -> Row {
        let digest = xxh3_128(&scratch[DIGEST..]);
        scratch[..DIGEST].copy_from_slice(&digest.to_le_bytes());
        Row(Arc::from(&*scratch))
    }

    /// Everything but the digest: what a snapshot holds.
    pub(super) fn body(&self) -> &[u8] {
        &self.0[DIGEST..]
    }

    pub(super) fn digest(&self) -> u128 {
        u128::from_le_bytes(self.field(0))
    }

    pub(super) fn version(&self) -> Version {
        u64::from_le_bytes(self.field(17))
    }

    pub(super) fn life(&self) -> Life {
        match self.0[DIGEST] {
            UNTIL => Life::Until(self.number()),
            LEASED => Life::Leased(LeaseId { group: GroupId(self.lease_group()), index: self.number() }),
            _ => Life::Forever,
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0[HEADER..HEADER + self.key_length()]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.0[HEADER + self.key_length()..]
    }

    /// The value for a reply, without copying it.
    pub(super) fn value_bytes(&self) -> Bytes {
        struct Value(Row);
        impl AsRef<[u8]> for Value {
            fn as_ref(&self) -> &[u8] {
                self.0.value()
            }
        }
        Bytes::from_owner(Value(self.clone()))
    }

    /// Memory that the record stands for, in bytes.
    pub(super) fn footprint(&self) -> u64 {
        (self.0.len() - HEADER) as u64 + RECORD_OVERHEAD
    }

    fn number(&self) -> u64 {
        u64::from_le_bytes(self.field(25))
    }

    fn lease_group(&self) -> u32 {
        u32::from_le_bytes(self.field(33))
    }

    fn key_length(&self) -> usize {
        u32::from_le_bytes(self.field(37)) as usize
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0[at..at + N].try_into().expect("a record is at least as long as its header")
    }
}
