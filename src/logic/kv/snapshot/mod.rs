//! Snapshots: the replicated state as a stream of chunks, and back.
//!
//! A [`Frozen`] copy is taken between two commands in no time and may be written out by another thread while the
//! machine goes on. Equal states make equal chunks.
//!
//! ```text
//! chunk    := checksum(u64, xxh3 of the rest) number(u32: 0, 1, ...) item ...
//! item     := tag(u8) length(u32) body
//! 1 HEADER  := MAGIC(4) format(u32) group(u32) applied(u64) time_ms(u64)                     once, first
//! 2 LEASE   := group(u32) index(u64) ttl_ms(u64) deadline_ms(u64)                            in order of ids
//! 3 SESSION := group(u32) index(u64) ttl_ms(u64) window(u32) touched_ms(u64) acked_below(u64)    in order of ids
//! 4 REPLY   := seq(u64) outcome(MessagePack)                       of the session before it, in order of seq
//! 5 RECORD  := see `row.rs`, without the digest                                              in order of keys
//! 6 END     := state hash(16)                                                                once, last
//! 7 CLAIM   := as LEASE, then length of the lock's name(u32) name owner   among the leases
//! ```
//! Numbers are little-endian. A chunk is as long as the writer was allowed; only a single large item makes it longer.

mod freeze;
mod restore;

pub use freeze::{Chunks, Frozen};
pub use restore::{RestoreError, Restorer};

/// Good length of a chunk in bytes.
pub const DEFAULT_CHUNK_BYTES: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"QKVS";
const FORMAT: u32 = 1;

const HEADER: u8 = 1;
const LEASE: u8 = 2;
const SESSION: u8 = 3;
const REPLY: u8 = 4;
const RECORD: u8 = 5;
const END: u8 = 6;
const CLAIM: u8 = 7;

const CHECKSUM_BYTES: usize = 8;
const NUMBER_BYTES: usize = 4;

#[cfg(test)]
mod tests;
