//! A fingerprint of the whole replicated state.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 128 bits over everything replicated. Not meant against an adversary: it finds replicas that went apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StateHash(u128);

impl StateHash {
    pub(super) const BYTES: usize = 16;

    pub(super) fn new(hash: u128) -> StateHash {
        StateHash(hash)
    }

    /// The hash as bytes, for a log entry or a snapshot.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }

    /// The inverse of [`to_bytes`](Self::to_bytes).
    pub fn from_bytes(bytes: [u8; 16]) -> StateHash {
        StateHash(u128::from_le_bytes(bytes))
    }
}

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}
