//! Consensus: one replica of a replicated log, as a pure value.
//!
//! It is the extended Raft paper's figure 2 and, from Ongaro's dissertation, pre-vote, quorum checks, reads without
//! log entries, leadership transfer, learners and joint membership changes; snapshots travel in chunks. Time,
//! randomness and identity come in from outside, so the same inputs always give the same outputs.
//!
//! # How it is driven
//! ```text
//!   inputs (messages, proposals, reads, ticks, "is durable") --> step  step  step ... --> ready --> one Output
//! ```
//! The shell feeds everything that has arrived and then takes one [`Output`], whose fields are carried out in their
//! order. So a batch of proposals costs one write and one message for each follower.
//!
//! # Files, in reading order
//! * [`entry`], [`membership`], [`message`]: the words. [`config`]: the knobs. [`input`], [`output`]: the door.
//! * `replica`: the state of a replica, `step`, `ready`, the term gate. `start`: from the disk. `durability`: what
//!   waits for the disk.
//! * `election`, `follower`, `leader`, `transfer`, `snapshot`: what it does, role by role.
//! * `log`, `progress`, `quorum`, `read`, `membership_change`: small parts with tests of their own.
//! * [`status`]: the picture for people.
//!
//! # What holds
//! * Nothing waits for the disk, and nothing that promises durability leaves before it: votes, acknowledgements and
//!   the own vote are held until their ticket is durable; a leader counts itself only for what is on its disk.
//!   Heartbeats, refusals, rehearsals and a leader's appends promise nothing and leave at once.
//! * A replica applies what is committed even if its own disk lags: committed entries are on a quorum of disks, so
//!   they outlive its crash, and after one it starts from its snapshot and is sent them again.
//! * Only an entry of the leader's own term is committed by counting; a match is only ever raised, by acceptances.
//! * The newest membership in the log is in force, committed or not; one change at a time, and none before the
//!   leader has committed an entry of its own term.
//! * Whatever comes from outside is checked; nonsense is dropped. `assert!` is for this module's own mistakes.
//!
//! # What it does not do
//! It keeps no table of clients, retries no proposals, does not forward requests to the leader, does not read or
//! write snapshots itself, and never looks into a command.

pub mod config;
mod durability;
mod election;
pub mod entry;
mod follower;
pub mod input;
mod leader;
mod log;
pub mod membership;
mod membership_change;
pub mod message;
pub mod output;
mod progress;
mod quorum;
mod read;
mod replica;
mod snapshot;
mod start;
pub mod status;
#[cfg(test)]
mod tests;
mod transfer;

pub use config::Config;
pub use input::{Input, Restored};
pub use membership_change::MembershipChange;
pub use output::{ChunkWanted, Output, Persist, Refusal, Role, RoleChange, StoreChunk};
pub use replica::Raft;
pub use start::StartError;
pub use status::{PeerMode, PeerStatus, Status};
