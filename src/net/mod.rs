//! (tour of the room)
