//! The post office: carries packets between processes. It knows addresses, not protocols.
//!
//! Everything here is plain values and futures without actors: a supervised actor owns a listener, a link or a
//! connection by spawning its future, and kills it by dropping that.
//!
//! In reading order:
//!
//! * [`codec`]: frames and packets; `shape` looks over what arrives before anything is built from it.
//! * [`handshake`]: who may speak with whom, as pure judgements; [`opening`] performs it on a stream.
//! * [`transport`]: what carries bytes: TCP, or the network in [`memory`] for tests and simulations.
//! * `outbound`: [`Outbound`], the bounded queue in front of a writer; `writer` empties it, coalescing.
//! * [`connection`]: reads, writes and keeps alive, as one future; [`faults`] disturbs it on purpose.
//! * [`link`]: dials a peer for ever. [`listener`]: accepts. [`serve`]: an accepted connection from first to last byte.
//! * `reference`: [`Ref`], an actor wherever it lives. [`router`]: which actor serves which address.
//!   [`gate`]: what is let in from outside.
//!
//! Invariants:
//!
//! * Nothing from outside panics, is believed before its check, or makes memory grow beyond a small multiple of what
//!   was received. Queues, frames, handshakes, connections and open requests are bounded.
//! * Packets of one connection arrive in order, at most once. When it breaks, what was under way is lost: the senders
//!   (Raft, clerks) repeat themselves. Raft traffic that waited for a lost connection is dropped, for it is stale.
//! * Each node dials each other node, and speaks on its own connection only.
//! * Futures run on the current thread and need tokio's clock and reactor, nothing else; no global state. So the same
//!   code runs in a simulation, reproducibly.
//!
//! What it deliberately does not do: no retries but redialling, no deduplication, no request timeouts, no
//! encryption.

pub mod codec;
pub mod connection;
pub mod faults;
pub mod gate;
pub mod handshake;
pub mod link;
pub mod listener;
pub mod memory;
pub mod opening;
mod outbound;
mod quiet;
mod reference;
pub mod router;
pub mod serve;
mod settings;
mod shape;
pub mod transport;
mod writer;

pub use outbound::{Outbound, OutboundStats, SendError};
pub use quiet::QuietLog;
pub use reference::{Ref, Sink, Undelivered};
pub use settings::NetSettings;
pub use shape::{MAX_DEPTH, ShapeError};
