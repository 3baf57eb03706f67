//! Composition: configuration, putting a node together, running node processes, the client library, logging.
//!
//! In reading order:
//!
//! * [`config`]: every key, its unit and its default. [`exit`]: exit codes. [`outlet`]: streams that
//!   may stall. [`logging`].
//! * [`identity`]: whose a data directory is.
//! * `settings`: from the configuration to the options of each room.
//! * [`environment`]: what a node takes from the world around it, so that there can be another one.
//! * [`assembly`], `disk` and `group`: a node's supervision tree, from its parts. `acquaintance`: whom it speaks with.
//! * [`run`]: one node as a process. [`launcher`]: many of them, restarted when they fail.
//! * `front`: listener and connections. `mapreduce`: a node's coordinator and worker; [`worker`]: a worker in a process
//!   of its own.
//! * [`client`]: the client library.
//!
//! Invariants:
//! 1. This is the only room that chooses: limits, timeouts, threads and policies are decided here and handed down.
//! 2. Nothing here runs in the life of a request.
//!
//! What it deliberately does not do: it contains no rule of consensus, storage or the network, and the launcher knows
//! nothing of a node but how its process ended.

mod acquaintance;
pub mod assembly;
pub mod client;
pub mod collect;
pub mod config;
mod disk;
pub mod environment;
pub mod exit;
mod front;
mod group;
pub mod identity;
pub mod launcher;
pub mod logging;
mod mapreduce;
pub mod outlet;
pub mod run;
mod settings;
pub mod worker;
