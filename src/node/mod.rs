//! Composition: configuration, putting a node together, running node processes, logging.

pub mod config;
