//! Pure cores.

pub mod clerk;
pub mod ids;
pub mod kv;
pub mod raft;
pub mod restart;
