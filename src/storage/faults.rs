//! Faults of a real disk at run time, for chaos tests: slow writes, a hang, a failing sync, a full disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::disk::Disk;

/// The controls. Every clone steers the same disk, from any thread, while it is in use.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults(Arc<Controls>);

#[derive(Debug)]
struct Controls {
    delay_ms: AtomicU64,
    hang_ms: AtomicU64,
    fail_sync: AtomicBool,
    room: AtomicU64,
}

impl Default for Controls {
    fn default() -> Self {
        Controls {
            delay_ms: AtomicU64::new(0),
            hang_ms: AtomicU64::new(0),
            fail_sync: AtomicBool::new(false),
            room: AtomicU64::new(u64::MAX),
        }
    }
}

impl DiskFaults {
    /// Controls of a disk without faults.
    pub fn new() -> DiskFaults {
        DiskFaults::default()
    }

    /// Every write takes this much longer, in whole milliseconds; zero ends it.
    pub fn delay_writes(&self, by: Duration) {
        self.0.delay_ms.store(milliseconds(by), Ordering::Relaxed);
    }

    /// The next write hangs for this long, once, in whole milliseconds.
    pub fn hang_once(&self, time: Duration) {
        self.0.hang_ms.store(milliseconds(time), Ordering::Relaxed);
    }

    /// The next sync fails, after the data were written.
    pub fn fail_next_sync(&self) {
        self.0.fail_sync.store(true, Ordering::Relaxed);
    }

    /// The disk is full after this many more bytes; `None` ends it.
    pub fn limit_space(&self, bytes: Option<u64>) {
        self.0.room.store(bytes.unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn before_write(&self) {
        let hang = if self.0.hang_ms.load(Ordering::Relaxed) == 0 {
            0
        } else {
            self.0.hang_ms.swap(0, Ordering::Relaxed)
        };
        let wait = hang + self.0.delay_ms.load(Ordering::Relaxed);
        if wait > 0 {
            std::thread::sleep(Duration::from_millis(wait));
        }
    }

    fn before_sync(&self) -> io::Result<()> {
        if self.0.fail_sync.load(Ordering::Relaxed) && self.0.fail_sync.swap(false, Ordering::Relaxed) {
            return Err(io::Error::other("injected sync error"));
        }
        Ok(())
    }

    /// Takes room for bytes that extend a file.
    fn take_room(&self, bytes: u64) -> io::Result<()> {
        let take = |room: u64| if room == u64::MAX { Some(room) } else { room.checked_sub(bytes) };
        self.0
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .map(|_| ())
            .map_err(|_| io::ErrorKind::StorageFull.into())
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// A disk with faults to order.
pub struct FaultyDisk {
    inner: Arc<dyn Disk>,
    faults: DiskFaults,
}

impl FaultyDisk {
    /// Puts the controls in front of a disk.
    pub fn new(inner: Arc<dyn Disk>, faults: DiskFaults) -> FaultyDisk {
        FaultyDisk { inner, faults }
    }

    fn admit(&self, name: &str, offset: u64, length: usize) -> io::Result<()> {
        self.faults.before_write();
        if self.faults.0.room.load(Ordering::Relaxed) == u64::MAX {
            return Ok(());
        }
        let end = offset.saturating_add(length as u64);
        self.faults.take_room(end.saturating_sub(self.inner.size(name)?))
    }
}

impl Disk for FaultyDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.inner.size(name)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        self.inner.create(name)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.inner.truncate(name, length)
    }

    fn write(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        self.admit(name, offset, data.len())?;
        self.inner.write(name, offset, data)
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.inner.read(name, offset, buffer)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.faults.before_sync()?;
        self.inner.sync(name)
    }

    fn write_durable(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        self.admit(name, offset, data.len())?;
        if let Err(error) = self.faults.before_sync() {
            self.inner.write(name, offset, data)?;
            return Err(error);
        }
        self.inner.write_durable(name, offset, data)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.inner.sync_dir()
    }

    fn available(&self) -> io::Result<u64> {
        let room = self.faults.0.room.load(Ordering::Relaxed);
        Ok(self.inner.available()?.min(room))
    }

    fn evict(&self, name: &str) -> io::Result<()> {
        self.inner.evict(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::SimDisk;

    fn disk() -> (FaultyDisk, DiskFaults) {
        let faults = DiskFaults::new();
        let disk = FaultyDisk::new(Arc::new(SimDisk::new(1)), faults.clone());
        disk.create("f").expect("a new file");
        (disk, faults)
    }

    #[test]
    fn a_full_disk_refuses_only_what_extends_a_file() {
        let (disk, faults) = disk();
        disk.write("f", 0, &[1; 100]).expect("no limit yet");
        faults.limit_space(Some(50));
        assert_eq!(disk.available().expect("known"), 50);
        disk.write("f", 20, &[2; 80]).expect("nothing new is needed");
        disk.write("f", 100, &[2; 50]).expect("just enough");
        let error = disk.write("f", 150, &[2; 1]).expect_err("full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        faults.limit_space(None);
        disk.write("f", 150, &[2; 1]).expect("room again");
    }

    #[test]
    fn a_sync_fails_once() {
        let (disk, faults) = disk();
        faults.fail_next_sync();
        disk.write_durable("f", 0, &[1]).expect_err("ordered to fail");
        disk.write_durable("f", 0, &[1]).expect("once only");
    }
}
