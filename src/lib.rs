//! Quorate: a replicated key/value store of supervised actix actors.
//!
//! The rooms of the house, and the one direction in which they may import each other:
//!
//! ```text
//! cli, main -> node -> actors -> { net, storage } -> messages -> logic
//! ```
//!
//! * [`logic`]: pure cores. No actor, socket, file, clock or thread.
//! * [`messages`]: what actors say to each other, as plain data; the wire frame.
//! * [`net`]: the bridge between processes. It knows addresses, not protocols.
//! * [`storage`]: the write-ahead log, snapshots, the real disk and the simulated one.
//! * [`actors`]: shells around the cores, and supervision.
//! * [`node`]: configuration, and putting a node together.
//! * [`cli`]: the commands of the binary.

pub mod actors;
pub mod cli;
pub mod logic;
pub mod messages;
pub mod net;
pub mod node;
pub mod storage;

pub use logic::clerk::ClerkError as Error;
pub use node::client::{Client, ClientOptions};
