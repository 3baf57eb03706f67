//! What can go wrong with storage, by what the caller does next.

use std::fmt;
use std::io;

/// A place in a file, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Name of the file within its directory.
    pub file: String,
    /// Offset in bytes.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.file, self.offset)
    }
}

/// What can be done when a part of what a replica stored is lost for good; for the end of a sentence.
pub(crate) const BEGIN_EMPTY: &str = "if every other node has its data, start this one with an empty data directory, \
    which the others refuse, saying how to let it in";

/// Whether there is no room: none on the device, or none for this user. Either way nothing is broken.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Why an operation on a running log or snapshot store failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The disk is full. Nothing of the request was written: it is refused, and may be tried again later.
    #[error(
        "the disk is full: {needed} bytes for {file} are refused. Free space on the device of the data directory"
    )]
    Full {
        /// File that was to be written.
        file: String,
        /// Bytes that were needed.
        needed: u64,
    },
    /// A read, write or sync failed. What is on disk is unknown, so nothing may be retried: the process must end,
    /// and start again from what is really there.
    #[error("{call} of {file} failed: {reason}")]
    Failed {
        /// The call that failed.
        call: &'static str,
        /// File or directory concerned.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// Stored bytes are not what was written.
    #[error("{place} is damaged: {found}. Do not delete the file; {BEGIN_EMPTY}")]
    Damaged {
        /// Where.
        place: Place,
        /// What was expected, and what is there.
        found: String,
    },
    /// A snapshot was deleted while it was being read, because newer ones exist. Read the newest instead.
    #[error("the snapshot {file} is gone: newer ones have replaced it")]
    Gone {
        /// The file.
        file: String,
    },
    /// Bytes received from another node are not a piece of the snapshot that they claim to be part of.
    #[error("refused a received snapshot chunk: {0}")]
    BadChunk(String),
    /// One request is larger than the file format can hold.
    #[error("a batch of {bytes} bytes exceeds the limit of {limit} bytes for one log frame")]
    TooLarge {
        /// Size of the request.
        bytes: u64,
        /// Largest that is possible.
        limit: u64,
    },
    /// The log has stopped: it was closed, or an earlier error latched it.
    #[error("the log has stopped")]
    Stopped,
}

impl StorageError {
    /// Whether the process must end, as opposed to a request that was refused without consequence.
    pub fn is_fatal(&self) -> bool {
        matches!(self, StorageError::Failed { .. } | StorageError::Damaged { .. } | StorageError::Stopped)
    }

    /// A failed call, told from a full disk, where nothing that is needed was touched.
    pub(crate) fn of_write(call: &'static str, file: &str, needed: u64, error: &io::Error) -> Self {
        if is_full(error) {
            return StorageError::Full { file: file.to_owned(), needed };
        }
        StorageError::failed(call, file, error)
    }

    /// A failed call, as the error that stops the log.
    pub(crate) fn failed(call: &'static str, file: &str, error: &io::Error) -> Self {
        StorageError::Failed { call, file: file.to_owned(), reason: error.to_string() }
    }

    /// Damage found in `file`.
    pub(crate) fn damaged(file: &str, offset: u64, found: impl Into<String>) -> Self {
        StorageError::Damaged { place: Place { file: file.to_owned(), offset }, found: found.into() }
    }
}

/// Why a log or a snapshot store did not open. The node does not start: it neither votes nor leads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A call of the operating system failed.
    #[error("cannot open the storage: {call} of {file} failed: {reason}")]
    Io {
        /// The call that failed.
        call: &'static str,
        /// File or directory concerned.
        file: String,
        /// What the operating system said.
        reason: String,
    },
    /// The directory is in use.
    #[error(
        "{directory} is in use by another process. Stop that process, or give this node its own data directory"
    )]
    Locked {
        /// The directory.
        directory: String,
    },
    /// There is no room for the segment that every start needs.
    #[error(
        "the disk is full: a start needs {needed} bytes for {file}. Free space on the device of the data directory"
    )]
    Full {
        /// File that was to be written.
        file: String,
        /// Bytes that were needed.
        needed: u64,
    },
    /// Bytes that were acknowledged are not there, or not what was written.
    #[error(
        "{place} is damaged: {found}. This replica cannot know what it promised, so it does not start. Do not \
         delete the file to force a start; {BEGIN_EMPTY}"
    )]
    Damaged {
        /// Where.
        place: Place,
        /// What was expected, and what is there.
        found: String,
    },
    /// There is no log, where there was one.
    #[error(
        "the log is missing: the directory `log` in the data directory holds no segment, but this node has kept its \
         votes and entries there. Without them it cannot know what it promised, so it does not start. Bring the files \
         back; where they are lost: {BEGIN_EMPTY}"
    )]
    Missing,
    /// The files were written by a newer program.
    #[error("{file} has format version {found}, this program reads up to {supported}. Start a newer quorate")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its version.
        found: u32,
        /// The newest version understood.
        supported: u32,
    },
    /// The directory belongs to another node.
    #[error("{file} belongs to node {found}, but this is node {expected}. Check node id and data directory")]
    OtherNode {
        /// The file.
        file: String,
        /// The node that wrote it.
        found: u64,
        /// The node that opens it.
        expected: u64,
    },
}

impl OpenError {
    /// A failed call while opening.
    pub(crate) fn io(call: &'static str, file: &str, error: &io::Error) -> Self {
        OpenError::Io { call, file: file.to_owned(), reason: error.to_string() }
    }

    /// Damage found in `file`.
    pub(crate) fn damaged(file: &str, offset: u64, found: impl Into<String>) -> Self {
        OpenError::Damaged { place: Place { file: file.to_owned(), offset }, found: found.into() }
    }
}

impl From<StorageError> for OpenError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full { file, needed } => OpenError::Full { file, needed },
            StorageError::Failed { call, file, reason } => OpenError::Io { call, file, reason },
            StorageError::Damaged { place, found } => OpenError::Damaged { place, found },
            other => OpenError::Io { call: "start", file: String::new(), reason: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_used_up_is_a_full_disk_and_other_errors_are_not() {
        for code in [libc::ENOSPC, libc::EDQUOT] {
            let error = StorageError::of_write("write", "f", 5, &io::Error::from_raw_os_error(code));
            assert_eq!(error, StorageError::Full { file: "f".to_owned(), needed: 5 });
        }
        assert!(StorageError::of_write("write", "f", 5, &io::Error::from_raw_os_error(libc::EIO)).is_fatal());
    }
}
