//! Everything that storage asks of a disk: one flat directory of files.

use std::io;

/// A directory of files with explicit durability. Nothing is durable before the call that makes it so: file
/// contents and length by [`Disk::sync`] (or [`Disk::write_durable`]), names by [`Disk::sync_dir`].
///
/// A full disk is `io::ErrorKind::StorageFull`, or `QuotaExceeded`. Any other error leaves the state of the file
/// unknown.
pub trait Disk: Send + Sync {
    /// Names of all files, in ascending order.
    ///
    /// # Errors
    /// What the operating system reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Length of a file in bytes.
    ///
    /// # Errors
    /// What the operating system reports.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// Creates an empty file.
    ///
    /// # Errors
    /// `AlreadyExists`, or what the operating system reports.
    fn create(&self, name: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the operating system reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Gives a file another name, replacing the file that had it.
    ///
    /// # Errors
    /// What the operating system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Cuts a file to `length` bytes, or extends it with zeros.
    ///
    /// # Errors
    /// What the operating system reports.
    fn truncate(&self, name: &str, length: u64) -> io::Result<()>;

    /// Writes all of `data` at `offset`, extending the file if necessary.
    ///
    /// # Errors
    /// `StorageFull`, or what the operating system reports; part of the data may have been written.
    fn write(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is shorter, or what the operating system reports.
    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Makes contents and length of a file durable.
    ///
    /// # Errors
    /// What the operating system reports. It must not be tried again: the pages count as clean after a failure,
    /// so a second call would report success for data that are gone.
    fn sync(&self, name: &str) -> io::Result<()>;

    /// Writes and makes durable, in one call if the disk can.
    ///
    /// # Errors
    /// As [`Disk::write`] and [`Disk::sync`].
    fn write_durable(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write(name, offset, data)?;
        self.sync(name)
    }

    /// Makes all creations, renames and removals durable.
    ///
    /// # Errors
    /// What the operating system reports.
    fn sync_dir(&self) -> io::Result<()>;

    /// Bytes that can still be written before the disk is full.
    ///
    /// # Errors
    /// What the operating system reports.
    fn available(&self) -> io::Result<u64>;

    /// Drops clean cached pages of a file, so that the next read shows what the device holds.
    ///
    /// # Errors
    /// What the operating system reports.
    fn evict(&self, name: &str) -> io::Result<()>;
}
