//! What actors say to each other: plain data, one file a conversation.
//!
//! In reading order:
//!
//! * [`client`]: clerk and KV server. Requests and responses, correlated by number; [`admin`] is the part of it that
//!   concerns a node rather than its store, [`mapreduce`] the part that concerns jobs and their workers.
//! * [`group`]: KV server, Raft peer and applier of one group. It stays within a process, so it is not serialized.
//! * [`wire`]: what may stand in a frame between processes: the handshake, and a request, response or Raft message.
//! * [`encoding`]: MessagePack as it is written here, and the size of a packet without encoding it.
//!
//! What members of a group and what commands say stands with the cores that define it: [`logic::raft::message`] and
//! [`logic::kv::command`].
//!
//! Invariants:
//! 1. Messages within a group carry batches, so that a hop between actors is paid once for many requests.
//! 2. What crosses the wire may gain fields with defaults and variants, nothing else, without a new
//!    [`PROTOCOL_VERSION`](wire::PROTOCOL_VERSION). `docs/wire.md` has every byte, and a test compares it.
//! 3. No message holds what only one process has (a channel, an address of an actor).
//!
//! What it deliberately does not do: it decides nothing, and checks nothing but that bytes are a packet. Whether a
//! packet may be believed is judged at [`net::gate`](crate::net::gate).
//!
//! [`logic::raft::message`]: crate::logic::raft::message
//! [`logic::kv::command`]: crate::logic::kv::command

pub mod admin;
pub mod client;
pub mod encoding;
pub mod group;
pub mod mapreduce;
pub mod wire;
