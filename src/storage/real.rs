//! A directory of the operating system as a [`Disk`].

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::directory::create_durably;
use super::disk::Disk;
use super::error::OpenError;

/// File whose lock says that the directory is in use. Not listed as a file of the disk.
const LOCK_FILE: &str = "LOCK";

/// What a direct write must be a multiple of: in its offset, its length, and the place of its data in memory. Blocks of
/// devices are not larger.
const DIRECT_ALIGN: usize = 4096;
/// Longer writes go through the cache: they are rare, and would need as much memory aligned.
const DIRECT_MAX: usize = 1 << 20;

thread_local! {
    /// Where direct writes get their alignment.
    static ALIGNED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A directory, locked against other processes for as long as this value lives.
pub struct RealDisk {
    path: PathBuf,
    directory: File,
    files: Mutex<HashMap<String, Arc<Open>>>,
    /// The file system has refused direct writes.
    no_direct: AtomicBool,
    /// Held open for its lock.
    _lock: File,
}

/// An open file.
struct Open {
    file: File,
    /// The same file past the page cache; `None` where the file system does not have that.
    direct: OnceLock<Option<File>>,
}

impl Open {
    fn new(file: File) -> Arc<Open> {
        Arc::new(Open { file, direct: OnceLock::new() })
    }
}

impl RealDisk {
    /// Opens a directory, creating it if necessary, and locks it.
    ///
    /// # Errors
    /// `Locked` if another process (or another `RealDisk` of this one) uses the directory, else `Io`.
    pub fn open(path: impl Into<PathBuf>) -> Result<RealDisk, OpenError> {
        let path = path.into();
        let shown = path.display().to_string();
        let io = |call| {
            let shown = shown.clone();
            move |error: io::Error| OpenError::io(call, &shown, &error)
        };
        create_durably(&path).map_err(io("create"))?;
        let directory = File::open(&path).map_err(io("open"))?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK_FILE))
            .map_err(io("create the lock file"))?;
        match lock.try_lock() {
            Ok(()) => {
                let (files, no_direct) = (Mutex::default(), AtomicBool::new(false));
                Ok(RealDisk { path, directory, files, no_direct, _lock: lock })
            }
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { directory: shown }),
            Err(TryLockError::Error(error)) => Err(OpenError::io("lock", &shown, &error)),
        }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<String, Arc<Open>>> {
        // The map is changed by single inserts and removals, so a panic elsewhere cannot leave it half-changed.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, name: &str) -> io::Result<Arc<Open>> {
        let mut files = self.files();
        if let Some(open) = files.get(name) {
            return Ok(Arc::clone(open));
        }
        let open = Open::new(OpenOptions::new().read(true).write(true).open(self.path.join(name))?);
        files.insert(name.to_owned(), Arc::clone(&open));
        Ok(open)
    }

    /// Writes past the page cache, durably; false if that is not possible, or not with this piece. A write of 8 to
    /// 16 KiB takes three fifths of the processor time of one through the cache, and three quarters of the time.
    #[cfg(target_os = "linux")]
    fn write_direct(&self, name: &str, open: &Open, offset: u64, data: &[u8]) -> io::Result<bool> {
        let fits = data.len() <= DIRECT_MAX
            && data.len().is_multiple_of(DIRECT_ALIGN)
            && offset.is_multiple_of(DIRECT_ALIGN as u64);
        if !fits || self.no_direct.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let reopen = || {
            let mut options = OpenOptions::new();
            options.write(true).custom_flags(libc::O_DIRECT).open(self.path.join(name)).ok()
        };
        let Some(direct) = open.direct.get_or_init(reopen) else { return Ok(false) };
        let written = ALIGNED.with_borrow_mut(|memory| {
            let start = aligned(memory, data.len());
            let aligned = &mut memory[start..start + data.len()];
            aligned.copy_from_slice(data);
            write_all_dsync(direct, offset, aligned)
        });
        match written {
            // The device wants another alignment, or the file system has no such write. What was written is written
            // again.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | libc::ENOSYS)) =>
            {
                self.no_direct.store(true, Ordering::Relaxed);
                Ok(false)
            }
            written => written.map(|()| true),
        }
    }
}

/// Makes room for `length` bytes in `memory`, and says where aligned ones begin.
fn aligned(memory: &mut Vec<u8>, length: usize) -> usize {
    if memory.len() < length + DIRECT_ALIGN {
        memory.resize(length + DIRECT_ALIGN, 0);
    }
    let address = memory.as_ptr().addr();
    address.next_multiple_of(DIRECT_ALIGN) - address
}

/// Writes all of `data`, durably. The file system may not have this: `EOPNOTSUPP` or `ENOSYS`, with nothing written.
#[cfg(target_os = "linux")]
fn write_all_dsync(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut written = 0;
    while written < data.len() {
        match write_dsync(file, offset + written as u64, &data[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes, in one call, part of `data` at least, durably.
#[cfg(target_os = "linux")]
fn write_dsync(file: &File, offset: u64, data: &[u8]) -> io::Result<usize> {
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the vector describes `data`, which is only read and outlives the call; the descriptor is open.
    let written = unsafe { libc::pwritev2(file.as_raw_fd(), &raw const part, 1, offset, libc::RWF_DSYNC) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

impl Disk for RealDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            let entry = entry?;
            if let Some(name) = entry.file_name().to_str()
                && name != LOCK_FILE
                && entry.file_type()?.is_file()
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.file(name)?.file.metadata()?.len())
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(self.path.join(name))?;
        self.files().insert(name.to_owned(), Open::new(file));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        self.files().remove(name);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        std::fs::rename(self.path.join(from), self.path.join(to))?;
        files.remove(to);
        if let Some(file) = files.remove(from) {
            files.insert(to.to_owned(), file);
        }
        Ok(())
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        self.file(name)?.file.set_len(length)
    }

    fn write(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        self.file(name)?.file.write_all_at(data, offset)
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file(name)?.file.read_exact_at(buffer, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.file(name)?.file.sync_data()
    }

    /// One call where the system has it: a write that returns when it is durable (`RWF_DSYNC`), past the page cache
    /// (`O_DIRECT`) if it is made of whole blocks.
    #[cfg(target_os = "linux")]
    fn write_durable(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let open = self.file(name)?;
        if self.write_direct(name, &open, offset, data)? {
            return Ok(());
        }
        match write_all_dsync(&open.file, offset, data) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS)) => {
                open.file.write_all_at(data, offset)?;
                open.file.sync_data()
            }
            result => result,
        }
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn available(&self) -> io::Result<u64> {
        let path = std::ffi::CString::new(self.path.as_os_str().as_bytes())?;
        let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
        // SAFETY: `path` is NUL-terminated and `stat` is writable memory of the right size.
        if unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call succeeded, so it has filled the structure.
        let stat = unsafe { stat.assume_init() };
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn evict(&self, name: &str) -> io::Result<()> {
        let open = self.file(name)?;
        // SAFETY: the descriptor is open for as long as `open` lives; the call touches no memory of ours.
        match unsafe { libc::posix_fadvise(open.file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) } {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_used_by_one_at_a_time() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("a/b");
        let first = RealDisk::open(&path).expect("a free directory");
        assert!(matches!(RealDisk::open(&path), Err(OpenError::Locked { .. })));
        drop(first);
        RealDisk::open(&path).expect("free again");
    }

    #[test]
    fn it_reads_what_it_writes_under_any_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = RealDisk::open(directory.path()).expect("a free directory");
        disk.create("a").expect("new");
        assert_eq!(disk.create("a").expect_err("exists").kind(), io::ErrorKind::AlreadyExists);
        disk.write("a", 3, b"later").expect("room");
        disk.write_durable("a", 0, b"now").expect("room");
        disk.rename("a", "b").expect("exists");
        disk.evict("b").expect("supported");
        let mut found = [0; 8];
        disk.read("b", 0, &mut found).expect("long enough");
        assert_eq!(&found, b"nowlater");
        assert_eq!(
            disk.read("b", 1, &mut found).expect_err("too short").kind(),
            io::ErrorKind::UnexpectedEof
        );
        assert_eq!((disk.size("b").expect("exists"), disk.list().expect("lists")), (8, vec!["b".to_owned()]));
        assert!(disk.available().expect("known") > 0);
        disk.truncate("b", 2).expect("exists");
        disk.remove("b").expect("exists");
        assert_eq!(disk.size("b").expect_err("gone").kind(), io::ErrorKind::NotFound);
    }
    #[test]
    fn whole_blocks_and_pieces_of_them_are_seen_in_the_order_of_their_writing() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let disk = RealDisk::open(directory.path()).expect("a free directory");
        disk.create("a").expect("new");
        let mut expected = vec![0; 5 * DIRECT_ALIGN];
        let writes =
            [(0, 5 * DIRECT_ALIGN), (100, 50), (0, DIRECT_ALIGN), (4096, 8192), (5000, 4096), (8192, 4096)];
        for (fill, (at, length)) in (1..).zip(writes) {
            let data = vec![fill; length];
            // By turns through the cache and, where it is whole blocks, past it.
            match fill % 2 {
                0 => disk.write("a", at as u64, &data).expect("room"),
                _ => disk.write_durable("a", at as u64, &data).expect("room"),
            }
            expected[at..at + length].copy_from_slice(&data);
            let mut found = vec![0; expected.len()];
            disk.read("a", 0, &mut found).expect("long enough");
            assert!(found == expected, "after write {fill}");
        }
        let beyond = vec![9; DIRECT_MAX + DIRECT_ALIGN];
        disk.write_durable("a", 0, &beyond).expect("room");
        assert_eq!(disk.size("a").expect("exists"), beyond.len() as u64);
    }

    #[test]
    fn memory_is_aligned_wherever_it_lies() {
        for length in [DIRECT_ALIGN, 3 * DIRECT_ALIGN, DIRECT_ALIGN] {
            let mut memory = Vec::new();
            let start = aligned(&mut memory, length);
            assert!(memory[start..start + length].as_ptr().addr().is_multiple_of(DIRECT_ALIGN));
        }
    }
}
