//! The lines of output of a task, from the first to a file that is durable.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::function::Emit;
use super::map::Sink;
use super::run_file::cannot_write;
use super::task::{Control, Part};
use crate::logic::mapreduce::counters::{self, Counters};
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::{Attempt, Setup};

/// What it keeps in memory, in bytes.
pub(super) const OUTPUT_BUFFER: usize = 1 << 20;
/// After so many bytes the kernel is asked to begin writing them.
const WRITE_BEHIND: u64 = 16 << 20;

/// The file of output while it is written; removed unless it is finished.
pub(super) struct Lines {
    file: BufWriter<File>,
    path: PathBuf,
    /// What it is to be called.
    name: String,
    separator: u8,
    pub(super) counters: Counters,
    /// Places of the records that were passed over.
    pub(super) skipped: Vec<u64>,
    lines: u64,
    bytes: u64,
    /// Up to here the kernel was asked to write.
    on_its_way: u64,
    failure: Option<TaskFailure>,
    finished: bool,
}

impl Lines {
    /// Creates the file of an attempt in a directory for attempts.
    pub(super) fn create(setup: &Setup, attempt: Attempt, attempts: &Path) -> Result<Self, TaskFailure> {
        let path = attempts.join(format!("{}-{attempt}", setup.id));
        let form = setup.job.output.form;
        let file = File::create(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self {
            file: BufWriter::with_capacity(OUTPUT_BUFFER, file),
            path,
            name: form.file_name(attempt.task),
            separator: form.separator(),
            counters: Counters::default(),
            skipped: Vec::new(),
            lines: 0,
            bytes: 0,
            on_its_way: 0,
            failure: None,
            finished: false,
        })
    }

    fn write(&mut self, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        self.file.write_all(key)?;
        if !value.is_empty() {
            self.file.write_all(&[self.separator])?;
            self.file.write_all(value)?;
            self.bytes += 1;
        }
        self.file.write_all(b"\n")?;
        self.bytes += (key.len() + value.len() + 1) as u64;
        self.lines += 1;
        if self.bytes - self.on_its_way >= WRITE_BEHIND {
            self.write_behind();
        }
        Ok(())
    }

    /// Lets the disk work while the merge goes on, so that little is left for the sync at the end.
    fn write_behind(&mut self) {
        let written = self.bytes - OUTPUT_BUFFER as u64;
        start_writing(self.file.get_ref(), self.on_its_way, written - self.on_its_way);
        self.on_its_way = written;
    }

    /// Makes the file durable.
    pub(super) fn finish(mut self, control: &Control) -> Result<Part, TaskFailure> {
        self.check()?;
        control.check()?;
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| cannot_write(&self.path, &error))?;
        self.counters.count(counters::OUTPUT_RECORDS, self.lines);
        self.counters.count(counters::OUTPUT_BYTES, self.bytes);
        self.finished = true;
        let (counters, skipped) = (std::mem::take(&mut self.counters), std::mem::take(&mut self.skipped));
        let name = std::mem::take(&mut self.name);
        Ok(Part { path: self.path.clone(), name, counters, skipped })
    }
}

impl Emit for Lines {
    fn emit(&mut self, key: &[u8], value: &[u8]) {
        if self.failure.is_none()
            && let Err(error) = self.write(key, value)
        {
            self.failure = Some(cannot_write(&self.path, &error));
        }
    }

    fn counter(&mut self, group: &str, name: &str, amount: u64) {
        self.counters.add(group, name, amount);
    }
}

impl Sink for Lines {
    fn check(&mut self) -> Result<(), TaskFailure> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed lies in a directory for attempts, and is removed with it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Asks the kernel to write a part of a file to the disk, without waiting. It is a hint; errors come with the sync.
#[cfg(target_os = "linux")]
fn start_writing(file: &File, from: u64, length: u64) {
    use std::os::fd::AsRawFd;
    let (Ok(from), Ok(length)) = (i64::try_from(from), i64::try_from(length)) else { return };
    // SAFETY: the call takes numbers only; the descriptor is open as long as the file is borrowed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), from, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}

#[cfg(not(target_os = "linux"))]
fn start_writing(_file: &File, _from: u64, _length: u64) {}
