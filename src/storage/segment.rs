//! Segment files: their names, the spares held ready, starting a new one.
//!
//! A file becomes a segment in this order, each step durable before the next: written out with zeros (or recycled),
//! header and first frame written, renamed. So a file with the name of a segment always has a good beginning,
//! and a crash in between leaves a spare.

use std::io;

use super::collect::ROUNDS;
use super::disk::Disk;
use super::error::{StorageError, is_full};
use super::frame::{self, FRAME_HEADER, SegmentHeader};
use super::log::{Log, Reserve, Segment};
use super::record;
use crate::logic::raft::entry::HardState;

/// Bytes written and synced at a time while a spare is prepared, so that appends are not held up behind it.
const STEP: usize = 1 << 20;

/// Name of the segment with this number.
pub(super) fn segment_name(id: u32) -> String {
    format!("{id:08x}.wal")
}

fn spare_name(number: u64) -> String {
    format!("{number:016x}.free")
}

/// What a file of the log's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileKind {
    Segment(u32),
    Spare(u64),
    Other,
}

/// Reads a file name.
pub(super) fn file_kind(name: &str) -> FileKind {
    let segment = name.strip_suffix(".wal").and_then(|id| u32::from_str_radix(id, 16).ok());
    if let Some(id) = segment.filter(|id| segment_name(*id) == name) {
        return FileKind::Segment(id);
    }
    let spare = name.strip_suffix(".free").and_then(|number| u64::from_str_radix(number, 16).ok());
    spare.filter(|number| spare_name(*number) == name).map_or(FileKind::Other, FileKind::Spare)
}

/// A file that holds nothing, ready to become a segment.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    name: String,
    /// Its length, all of it written; that of a segment at least.
    bytes: u64,
}

/// The spares of a log.
#[derive(Debug, Default)]
pub(super) struct Spares {
    ready: Vec<Spare>,
    next: u64,
    preparing: usize,
    discard: Vec<String>,
    /// The disk was full when a spare was to be prepared; not tried again before the next segment.
    refused: bool,
}

impl Spares {
    /// Takes note of a spare found at a start.
    pub fn found(&mut self, number: u64, bytes: u64) {
        self.ready.push(Spare { name: spare_name(number), bytes });
        self.next = self.next.max(number + 1);
    }

    /// Bytes of all spares.
    pub fn bytes(&self) -> u64 {
        self.ready.iter().map(|spare| spare.bytes).sum()
    }

    fn fresh_name(&mut self) -> String {
        self.next += 1;
        spare_name(self.next - 1)
    }
}

/// Work that may be done on another thread, beside appends.
#[derive(Clone, Debug)]
pub(super) enum Chore {
    /// Create a file and write it out.
    Prepare { name: String, bytes: u64 },
    /// Delete a file.
    Discard { name: String },
}

impl Chore {
    /// Does it.
    ///
    /// # Errors
    /// `Full` leaves nothing behind; any other error is fatal.
    pub fn run(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        match self {
            Chore::Prepare { name, bytes } => {
                disk.create(name).map_err(|error| StorageError::of_write("create", name, *bytes, &error))?;
                write_out(disk, name, 0, *bytes).or_else(|error| {
                    if !error.is_fatal() {
                        discard(disk, name)?;
                    }
                    Err(error)
                })
            }
            Chore::Discard { name } => discard(disk, name),
        }
    }
}

/// Writes zeros from `from` to `to`, durably, after asking whether there is room.
fn write_out(disk: &dyn Disk, name: &str, from: u64, to: u64) -> Result<(), StorageError> {
    let room = disk.available().map_err(|error| StorageError::failed("statvfs", name, &error))?;
    if room < to - from {
        return Err(StorageError::Full { file: name.to_owned(), needed: to - from });
    }
    let zeros = vec![0; STEP.min(usize::try_from(to - from).unwrap_or(STEP))];
    let mut at = from;
    while at < to {
        let step = zeros.len().min(usize::try_from(to - at).unwrap_or(STEP));
        disk.write_durable(name, at, &zeros[..step])
            .map_err(|error| StorageError::of_write("write out", name, to - from, &error))?;
        at += step as u64;
    }
    Ok(())
}

/// Deletes a file, releasing its blocks step by step: deleting a large file at once holds up the device.
pub(super) fn discard(disk: &dyn Disk, name: &str) -> Result<(), StorageError> {
    const CUT: u64 = 8 << 20;
    let failed = |error: io::Error| StorageError::failed("delete", name, &error);
    let mut length = disk.size(name).map_err(failed)?;
    while length > CUT {
        length -= CUT;
        disk.truncate(name, length).map_err(failed)?;
    }
    disk.remove(name).map_err(failed)
}

impl Log {
    /// Starts a segment with room for a frame of `frame_bytes`.
    ///
    /// # Errors
    /// `Full` leaves the log as it was; any other error stops it.
    pub(super) fn start_segment(&mut self, frame_bytes: u64, reserve: Reserve) -> Result<(), StorageError> {
        let id = self.segments.back().map_or(1, |segment| segment.id + 1);
        self.encode_head(id);
        let head = self.buffer.len() as u64;
        let bytes = self.options.segment_bytes.max(head + frame_bytes);
        let spare = self.take_spare(bytes, reserve)?;
        let name = segment_name(id);
        if !self.options.rules.head_before_name {
            self.disk.rename(&spare.name, &name).map_err(|error| self.fail("rename", &name, &error))?;
            self.disk.sync_dir().map_err(|error| self.fail("sync", "the log directory", &error))?;
        }
        let target = if self.options.rules.head_before_name { &spare.name } else { &name };
        if let Err(error) = self.disk.write_durable(target, 0, &self.buffer) {
            if is_full(&error) {
                self.spares.ready.push(spare.clone());
                return Err(StorageError::Full { file: spare.name, needed: head });
            }
            return Err(self.fail("write", &spare.name, &error));
        }
        if self.options.rules.head_before_name {
            self.disk.rename(&spare.name, &name).map_err(|error| self.fail("rename", &name, &error))?;
            self.disk.sync_dir().map_err(|error| self.fail("sync", "the log directory", &error))?;
        }
        self.segments.push_back(Segment { id, bytes: spare.bytes });
        self.active = name;
        self.offset = head;
        self.seq += 1;
        self.spares.refused = false;
        if reserve == Reserve::Keep {
            self.rounds = ROUNDS;
        }
        Ok(())
    }

    /// Encodes header and first frame of a segment: the state of every group.
    fn encode_head(&mut self, id: u32) {
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        let block = self.options.block;
        SegmentHeader { id, node: self.options.node, block, first_seq: self.seq }.encode(&mut out);
        let start = out.len();
        out.resize(start + FRAME_HEADER, 0);
        record::encode_begin(&mut out, self.groups.len());
        for (group, log) in &self.groups {
            let mut meta = log.meta(*group);
            if !self.options.rules.repeat_hard_state {
                meta.hard_state = HardState::default();
            }
            record::encode_meta(&mut out, &meta);
        }
        frame::seal(&mut out, start, self.salt(id), self.seq, block);
        self.buffer = out;
    }

    /// A spare of at least `bytes`. Writing frames into it cannot fill the disk: all its blocks are written.
    fn take_spare(&mut self, bytes: u64, reserve: Reserve) -> Result<Spare, StorageError> {
        let reserved = usize::from(reserve == Reserve::Keep);
        let mut spare = if self.spares.ready.len() > reserved {
            self.spares.ready.remove(0)
        } else {
            let name = self.spares.fresh_name();
            let chore = Chore::Prepare { name: name.clone(), bytes };
            chore.run(&*self.disk).inspect_err(|error| self.stopped |= error.is_fatal())?;
            Spare { name, bytes }
        };
        if spare.bytes < bytes {
            if let Err(error) = write_out(&*self.disk, &spare.name, spare.bytes, bytes) {
                self.stopped |= error.is_fatal();
                self.spares.ready.push(spare);
                return Err(error);
            }
            spare.bytes = bytes;
        }
        Ok(spare)
    }

    /// Gives up the lowest segment, which holds nothing live.
    pub(super) fn release_lowest(&mut self) -> Result<(), StorageError> {
        let segment = self.segments.pop_front().expect("only called when there is a lowest segment");
        self.live.forget(segment.id);
        self.statistics.released += 1;
        let name = segment_name(segment.id);
        let spare = self.spares.fresh_name();
        self.disk.rename(&name, &spare).map_err(|error| self.fail("rename", &name, &error))?;
        if self.options.rules.sync_name_before_reuse {
            self.disk.sync_dir().map_err(|error| self.fail("sync", "the log directory", &error))?;
        }
        let wanted = self.spares.ready.len() + self.spares.preparing < self.options.spares;
        // Segments may have been shorter when this one was begun.
        if wanted && segment.bytes >= self.options.segment_bytes {
            self.spares.ready.push(Spare { name: spare, bytes: segment.bytes });
        } else {
            self.spares.discard.push(spare);
        }
        self.spares.refused = false;
        Ok(())
    }

    /// Work to be done beside appends; each is to be reported with [`Log::finish`].
    pub(super) fn chores(&mut self) -> Vec<Chore> {
        let surplus = self.spares.ready.len().saturating_sub(self.options.spares);
        self.spares.discard.extend(self.spares.ready.drain(..surplus).map(|spare| spare.name));
        let discards = self.spares.discard.drain(..).map(|name| Chore::Discard { name });
        let mut chores: Vec<Chore> = discards.collect();
        while !self.spares.refused && self.spares.ready.len() + self.spares.preparing < self.options.spares {
            self.spares.preparing += 1;
            let name = self.spares.fresh_name();
            chores.push(Chore::Prepare { name, bytes: self.options.segment_bytes });
        }
        chores
    }

    /// Takes over the result of a chore.
    ///
    /// # Errors
    /// The chore's error, if it is fatal: it stops the log.
    pub(super) fn finish(
        &mut self,
        chore: Chore,
        result: Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        if let Chore::Prepare { name, bytes } = chore {
            self.spares.preparing -= 1;
            match &result {
                Ok(()) => self.spares.ready.push(Spare { name, bytes }),
                Err(_) => self.spares.refused = true,
            }
        }
        match result {
            Err(error) if error.is_fatal() => {
                self.stopped = true;
                Err(error)
            }
            _ => Ok(()),
        }
    }
}
