//! Consensus.

pub mod entry;
pub mod membership;
pub mod message;
