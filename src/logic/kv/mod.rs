//! The replicated store: what a group's log means.
//!
//! A [`Machine`] is given the committed entries of its group in order and comes, on every replica, to the same state
//! and the same outcomes. It reads no clock (time is in the commands), draws no random number, and looks at no
//! configuration.
//!
//! In reading order:
//!
//! * [`command`], `answer`: the vocabulary. What may be asked for, what may be answered; also the client protocol.
//! * [`codec`]: how a command stands in the log.
//! * [`machine`]: applying commands. Exactly-once, expiry. `change`: conditions, batches.
//! * `session`, `lease`: the two tables that time works on; `lock`: the queues that leases stand in.
//! * `key`, `row`, `rows`: the records. One persistent map and what is derived from it.
//! * `query`: reading, with a budget and a cursor.
//! * [`snapshot`]: freezing the state in no time, writing it in chunks, reading it back.
//! * [`state_hash`]: a fingerprint by which replicas notice that they went apart.
//! * [`limits`]: what a server lets in, and what the machine itself enforces. Read it before adding a limit.
//!
//! # Rules
//!
//! * *Replicated state* is the records, the leases and what they claim, the sessions with their kept replies, log time
//!   and the applied index. All of it is in snapshots and in the state hash. Everything else (deadline indices, sums)
//!   follows from it and is built anew by a restore.
//! * A key, lease or session that is due *is* absent, to reads and writes alike, from that log time on. That its memory
//!   is freed later, a bounded number with each command, nobody can tell.
//! * Versions are the lab's: absent is 0, a put of an absent key makes 1. So a key that was deleted (or expired) and
//!   created again counts from 1 again, and a condition on a version cannot tell the two lives apart. Who needs a
//!   number that only ever grows keeps the key and overwrites it, or uses the index in a lease's id, as locks do for
//!   their fencing tokens.
//! * A command of a session takes effect once, however often and however late it arrives, in whatever order; a command
//!   of a session that is not known takes none. Outcomes that are errors are kept for retries as well.
//! * No content of an entry or snapshot makes the machine panic. Calling it out of order does: that is our own bug.
//!
//! # Not done here
//!
//! Admission beyond constant caps (the server's door, see [`limits`]), ownership of keys (sharding), waiting for reads
//! to be safe (consensus), and deciding when time should pass without traffic: for that the leader looks at
//! [`Machine::next_deadline`](machine::Machine::next_deadline) and proposes
//! [`Command::Advance`](command::Command::Advance).

mod answer;
mod change;
pub mod codec;
pub mod command;
mod key;
mod lease;
pub mod limits;
mod lock;
pub mod machine;
mod query;
mod row;
mod rows;
mod session;
pub mod snapshot;
pub mod state_hash;

pub use limits::Limits;
pub use lock::Places;
pub use machine::{Machine, Stats};
pub use snapshot::{Frozen, RestoreError, Restorer};
pub use state_hash::StateHash;

#[cfg(test)]
mod tests;
