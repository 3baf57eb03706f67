//! Pure cores: every decision of Quorate, and nothing else.
//!
//! A core is a value with one door: it is given an input (a message, a command, "so much time has passed", "this is
//! durable now") and returns what is to be done. The actors around the cores do it. So every rule can be tested line by
//! line, without a runtime, and a history that went wrong can be played again from its seed.
//!
//! In reading order:
//!
//! * [`ids`]: nodes, groups, terms, log positions. [`hex`]: bytes as hexadecimal text.
//! * [`raft`]: consensus. One replica of a replicated log.
//! * [`kv`]: the replicated store. What the entries of that log mean.
//! * [`desk`]: who waits for which entry at the leader, and what time is written into the log.
//! * [`clerk`]: the client. It finds the leader, repeats what got lost, and knows what a failure means.
//! * [`restart`]: how often, and after what delay, something that failed is started again.
//! * [`verify`]: the judge. Whether what clients were told can be the work of one store.
//!
//! Invariants:
//! 1. The same inputs in the same order give the same outputs: no clock, no randomness but from a seed, no
//!    collection whose order is not fixed. Replicas depend on it as much as tests do.
//! 2. Whatever comes from outside is checked and answered with a `Result`. A panic is a mistake of this room, or of a
//!    shell that broke the contract of a door.
//! 3. Nothing here blocks, and everything that a peer or client can make grow has a bound.
//!
//! What it deliberately does not do: no sockets, files, threads, actors or logging (`tests/tidy.rs` looks), and no
//! choice of limits and timeouts: they come in with the configuration of each core.

pub mod clerk;
pub mod desk;
pub mod hex;
pub mod ids;
pub mod kv;
pub mod raft;
pub mod restart;
pub mod verify;
