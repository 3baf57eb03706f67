//! The core of the KV server: who waits for what, and what time the leader writes into the log.
//!
//! * [`pending`]: the bounded table of commands under way, from proposal to outcome.
//! * [`pace`]: when what waits is passed on.
//! * [`clock`]: the log clock.
//! * [`turns`]: those who wait for their turn at a lock.
//!
//! Invariants:
//! 1. Every caller that was admitted is handed back exactly once.
//! 2. A caller is told "not executed" only when its entry can never be committed: it was refused, or another entry
//!    was committed at its index (the log matching property makes index and term a unique name).
//!
//! What this deliberately does not do: it never sees a connection (callers are an opaque type), it does not
//! deduplicate (the session table of the store does), and it does not time callers out (the clerk does),
//! except for those who said themselves how long they wait for a lock.

pub mod clock;
pub mod pace;
pub mod pending;
pub mod turns;
