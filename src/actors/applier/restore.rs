//! The state that an applier starts from, read from a snapshot.

use thiserror::Error;

use crate::logic::ids::{GroupId, LogPosition};
use crate::logic::kv::{Machine, Restorer};
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::membership::Membership;
use crate::storage::{SnapshotStore, StorageError};

/// The state that an applier starts from.
pub struct Restored {
    /// The store.
    pub machine: Machine,
    /// What is applied.
    pub last: LogPosition,
    /// The membership in force there.
    pub membership: Membership,
}

/// Why a snapshot cannot be restored.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// What is stored is not what was written: reading it again is of no use.
    #[error("{0}")]
    Damaged(String),
    /// There is no such file.
    #[error("the snapshot {0} is gone")]
    Gone(String),
    /// Anything else: the next attempt may succeed.
    #[error("{0}")]
    Failed(String),
}

impl From<StorageError> for RestoreError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Damaged { .. } => RestoreError::Damaged(error.to_string()),
            StorageError::Gone { file } => RestoreError::Gone(file),
            _ => RestoreError::Failed(error.to_string()),
        }
    }
}

impl Restored {
    /// Reads a snapshot; blocks. `None`: the empty store.
    ///
    /// # Errors
    /// See [`RestoreError`].
    pub fn read(
        group: GroupId,
        store: &SnapshotStore,
        mark: Option<&SnapshotMark>,
        bootstrap: Membership,
    ) -> Result<Self, RestoreError> {
        let Some(mark) = mark else {
            return Ok(Restored {
                machine: Machine::new(group),
                last: LogPosition::default(),
                membership: bootstrap,
            });
        };
        let reader = store.read(mark)?;
        // The file is whole, so what does not make sense in it was written so.
        let senseless = |error: &dyn std::fmt::Display| {
            RestoreError::Damaged(format!("the snapshot {} cannot be restored: {error}", mark.name))
        };
        let mut restorer = Restorer::new(group);
        for number in 0..reader.chunk_count() {
            let chunk = reader.chunk(number)?;
            restorer.chunk(&chunk).map_err(|error| senseless(&error))?;
        }
        let machine = restorer.finish().map_err(|error| senseless(&error))?;
        Ok(Restored { machine, last: mark.meta.last, membership: mark.meta.membership.clone() })
    }
}
