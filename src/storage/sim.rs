//! A simulated disk that fails as disks do, from a seed.
//!
//! Each file has two images: what the page cache shows, and what the device holds. Names have two images as well.
//! A power loss keeps any subset of the unsynced 512-byte pieces and of the unsynced directory operations; a
//! crash of the process keeps the cache. A failed sync does what ext4 does: it reports the error once, leaves a random
//! part of the data on the device, and counts all pages as clean, so that the next sync reports success.

mod device;
mod image;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::device::{DirectoryOp, File, PIECE};
use super::disk::Disk;

/// The simulated disk. Clones of the `Arc` around it stand for the same device across simulated restarts.
pub struct SimDisk {
    state: Mutex<State>,
}

struct State {
    rng: fastrand::Rng,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    unsynced: Vec<DirectoryOp>,
    files: BTreeMap<u64, File>,
    next_file: u64,
    used: u64,
    capacity: u64,
    calls: u64,
    power_off_at: Option<u64>,
    stop_at_directory_sync: Option<u32>,
    fail_sync_in: Option<u32>,
    fail_write_in: Option<u32>,
    longest_sync: Duration,
    latency: Duration,
    lies: bool,
}

impl SimDisk {
    /// An empty disk without limit of space. The same seed and the same calls give the same faults.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            state: Mutex::new(State {
                rng: fastrand::Rng::with_seed(seed),
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                unsynced: Vec::new(),
                files: BTreeMap::new(),
                next_file: 0,
                used: 0,
                capacity: u64::MAX,
                calls: 0,
                power_off_at: None,
                stop_at_directory_sync: None,
                fail_sync_in: None,
                fail_write_in: None,
                longest_sync: Duration::ZERO,
                latency: Duration::ZERO,
                lies: false,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of the code under test is part of what is simulated; the state is changed in whole steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power fails: what was not synced is kept or lost, piece by piece.
    pub fn power_loss(&self) {
        let state = &mut *self.state();
        state.settle();
        let State { rng, durable_names, unsynced, files, names, .. } = state;
        for op in unsynced.drain(..) {
            if rng.bool() {
                op.apply(durable_names);
            }
        }
        names.clone_from(durable_names);
        for file in files.values_mut() {
            file.keep_some(rng);
            file.cache.clone_from(&file.durable);
            file.diverged = false;
        }
        files.retain(|id, _| names.values().any(|name| name == id));
        state.used = state.files.values().map(|file| file.cache.len() as u64).sum();
    }

    /// The process ends at once, the machine lives on: the cache is kept.
    pub fn process_crash(&self) {
        self.state().settle();
    }

    /// Every call after the next `calls` ones fails, until [`SimDisk::power_loss`] or [`SimDisk::process_crash`].
    pub fn stop_after(&self, calls: u64) {
        let mut state = self.state();
        state.power_off_at = Some(state.calls + calls);
    }

    /// As [`SimDisk::stop_after`], at the `n`-th sync of the directory from now, which does not happen (0: the next).
    pub fn stop_at_directory_sync(&self, n: u32) {
        self.state().stop_at_directory_sync = Some(n);
    }

    /// The `n`-th sync from now fails (0: the next).
    pub fn fail_sync_in(&self, n: u32) {
        self.state().fail_sync_in = Some(n);
    }

    /// The `n`-th write from now fails, after a random part of it (0: the next).
    pub fn fail_write_in(&self, n: u32) {
        self.state().fail_write_in = Some(n);
    }

    /// Limits the disk to `bytes` more than it holds now.
    pub fn limit_space(&self, bytes: u64) {
        let mut state = self.state();
        state.capacity = state.used.saturating_add(bytes);
    }

    /// Takes a limit of space away.
    pub fn unlimit_space(&self) {
        self.state().capacity = u64::MAX;
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.state().used
    }

    /// Names and lengths of all files, in ascending order.
    pub fn files(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let length = |id: &u64| state.files.get(id).map_or(0, |file| file.cache.len() as u64);
        state.names.iter().map(|(name, id)| (name.clone(), length(id))).collect()
    }

    /// From now on syncs succeed and do nothing: a disk that must not be trusted, to see that this is noticed.
    pub fn lie_about_syncs(&self) {
        self.state().lies = true;
    }

    /// Flips one bit of what the device holds.
    ///
    /// # Panics
    /// If the file does not exist or is shorter.
    pub fn flip_bit(&self, name: &str, offset: u64, bit: u8) {
        let mut state = self.state();
        let offset = usize::try_from(offset).expect("an offset within a simulated file");
        let file = state.file(name).expect("a file of the simulated disk");
        file.cache.flip(offset, bit);
        file.durable.flip(offset, bit);
    }

    /// Lets each sync take up to `longest`, reported by [`SimDisk::take_latency`].
    pub fn set_latency(&self, longest: Duration) {
        self.state().longest_sync = longest;
    }

    /// Simulated time spent in syncs since the last call. Nothing sleeps: the simulation delays the completion.
    pub fn take_latency(&self) -> Duration {
        std::mem::take(&mut self.state().latency)
    }
}

impl State {
    /// Forgets planned faults, at the end of a simulated life.
    fn settle(&mut self) {
        self.power_off_at = None;
        self.stop_at_directory_sync = None;
        self.fail_sync_in = None;
        self.fail_write_in = None;
    }

    /// Counts a call, and fails it if the machine has stopped. True if it stops during this very call.
    fn enter(&mut self) -> io::Result<bool> {
        let now = self.calls;
        self.calls += 1;
        match self.power_off_at {
            Some(at) if now > at => Err(stopped()),
            Some(at) => Ok(now == at),
            None => Ok(false),
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let id = *self.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.files.get_mut(&id).expect("every name has its file"))
    }

    /// Applies a directory operation, unless the machine stops just before it.
    fn directory(&mut self, op: DirectoryOp) -> io::Result<()> {
        let stopping = self.enter()?;
        if stopping && self.rng.bool() {
            return Err(stopped());
        }
        op.apply(&mut self.names);
        self.unsynced.push(op);
        if stopping { Err(stopped()) } else { Ok(()) }
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated machine has stopped")
}

fn due(countdown: &mut Option<u32>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        state.enter()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        let mut state = self.state();
        state.enter()?;
        Ok(state.file(name)?.cache.len() as u64)
    }

    fn create(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = state.next_file;
        state.next_file += 1;
        state.files.insert(id, File::default());
        state.directory(DirectoryOp::Create(name.to_owned(), id))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        let length = state.file(name)?.cache.len() as u64;
        state.directory(DirectoryOp::Remove(name.to_owned()))?;
        state.used = state.used.saturating_sub(length);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.directory(DirectoryOp::Rename(to.to_owned(), id))
    }

    fn truncate(&self, name: &str, length: u64) -> io::Result<()> {
        let mut state = self.state();
        state.enter()?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        let file = state.file(name)?;
        let before = file.cache.len() as u64;
        file.cache.resize(length);
        // Lengths are simplified: a cut is durable at once. Only files that hold nothing needed are cut.
        file.durable.resize(file.durable.len().min(length));
        state.used = (state.used + length as u64).saturating_sub(before);
        Ok(())
    }

    fn write(&self, name: &str, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let stopping = state.enter()?;
        let failing = due(&mut state.fail_write_in);
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let (used, capacity) = (state.used, state.capacity);
        let room = usize::try_from(capacity.saturating_sub(used)).unwrap_or(usize::MAX);
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = state.files.get_mut(&id).expect("every name has its file");
        let before = file.cache.len();
        if stopping || failing {
            for (n, piece) in data.chunks(PIECE).enumerate() {
                if state.rng.bool() && offset + n * PIECE + piece.len() <= before {
                    file.put(offset + n * PIECE, piece);
                }
            }
            return Err(if stopping { stopped() } else { io::Error::other("simulated write error") });
        }
        let fits = data.len().min((before + room.min(usize::MAX - before)).saturating_sub(offset));
        file.put(offset, &data[..fits]);
        state.used += file.cache.len().saturating_sub(before) as u64;
        if fits < data.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn read(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        state.enter()?;
        let file = state.file(name)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        if file.cache.read(offset, buffer) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let stopping = state.enter()?;
        if !state.longest_sync.is_zero() {
            let longest = u64::try_from(state.longest_sync.as_nanos()).unwrap_or(u64::MAX);
            state.latency += Duration::from_nanos(state.rng.u64(0..=longest));
        }
        let failing = due(&mut state.fail_sync_in);
        let id = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let file = state.files.get_mut(&id).expect("every name has its file");
        if stopping {
            return Err(stopped());
        }
        if failing {
            file.keep_some(&mut state.rng);
            file.diverged = true;
            return Err(io::Error::other("simulated sync error"));
        }
        if state.lies {
            return Ok(());
        }
        for range in std::mem::take(&mut file.dirty) {
            file.persist(range);
        }
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut stopping = state.enter()?;
        if due(&mut state.stop_at_directory_sync) {
            state.power_off_at = Some(state.calls - 1);
            stopping = true;
        }
        if stopping {
            return Err(stopped());
        }
        for op in state.unsynced.drain(..) {
            op.apply(&mut state.durable_names);
        }
        Ok(())
    }

    fn available(&self) -> io::Result<u64> {
        let mut state = self.state();
        state.enter()?;
        Ok(state.capacity.saturating_sub(state.used))
    }

    fn evict(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.enter()?;
        let file = state.file(name)?;
        file.evict();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
