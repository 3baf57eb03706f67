//! (tour of the room)

pub mod clerk;
pub mod supervision;
