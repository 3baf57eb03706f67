//! What actors say to each other.

pub mod admin;
pub mod client;
pub mod encoding;
pub mod group;
pub mod wire;
