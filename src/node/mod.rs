//! (tour of the room)

pub mod client;
