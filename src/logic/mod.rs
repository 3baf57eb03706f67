//! Pure cores.

pub mod desk;
pub mod ids;
pub mod kv;
pub mod raft;
