//! Composition: configuration, putting a node together, running node processes, logging.

pub mod assembly;
pub mod client;
pub mod config;
pub mod exit;
mod group;
pub mod identity;
pub mod launcher;
pub mod logging;
pub mod run;
mod settings;
