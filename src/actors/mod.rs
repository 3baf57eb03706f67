//! (tour of the room)

pub mod supervision;
