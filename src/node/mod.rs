//! Composition: configuration, putting a node together, running node processes, logging.

pub mod client;
pub mod config;
pub mod exit;
pub mod identity;
pub mod launcher;
pub mod logging;
