//! The write-ahead log of a node: appending.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;

use super::batch::{Batch, Recovered};
use super::disk::Disk;
use super::error::{OpenError, StorageError};
use super::frame::{self, FRAME_HEADER};
use super::group::{GroupLog, Live, Position};
use super::record;
use super::rules::Rules;
use super::segment::{Spares, segment_name};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::raft::entry::{Entry, HardState};

/// Largest frame, padding included: offsets within a file are kept in 32 bits.
const MAX_FRAME: u64 = 1 << 30;

/// Longest segment that may be asked for: a frame more still has its offsets in 32 bits.
pub(crate) const MAX_SEGMENT: u64 = 2 << 30;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The node whose log it is; a log of another node is refused.
    pub node: NodeId,
    /// Length of a segment file in bytes, at most 2 GiB. Only a frame that is larger gets a longer file.
    pub segment_bytes: u64,
    /// Alignment of frames in bytes: 512, or another power of two up to 65536.
    pub block: u32,
    /// Segments that are kept before groups are moved out of the lowest one; at least 1.
    pub keep_segments: usize,
    /// Written-out spare segments that are held ready, at least 1. One of them is reserved for a start on a full disk.
    pub spares: usize,
    /// A group whose log is larger is not moved out of an old segment, but named as heavy.
    pub relocate_bytes: u64,
    /// The log was begun in an earlier life: a directory without one has lost it.
    pub begun: bool,
    /// For tests.
    #[doc(hidden)]
    pub rules: Rules,
}

impl LogOptions {
    /// The defaults for a node: 64 MiB segments, four of them, and two spares.
    pub fn new(node: NodeId) -> Self {
        LogOptions {
            node,
            segment_bytes: 64 << 20,
            block: 4096,
            keep_segments: 4,
            spares: 2,
            relocate_bytes: 2 << 20,
            begun: false,
            rules: Rules::default(),
        }
    }
}

/// A segment file of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// Number, ascending without gaps.
    pub id: u32,
    /// Length of the file, all of it written at least once.
    pub bytes: u64,
}

/// Whether a new segment may take the spare that is reserved for a start on a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reserve {
    Keep,
    Use,
}

/// The log of a node: synchronous, one owner, no threads.
///
/// An error that is fatal ([`StorageError::is_fatal`]) stops the log for good: what is on disk is unknown until it is
/// opened again.
pub struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: LogOptions,
    pub(super) groups: BTreeMap<GroupId, GroupLog>,
    pub(super) live: Live,
    /// Ascending; the last one is being written.
    pub(super) segments: VecDeque<Segment>,
    /// Name of the last segment.
    pub(super) active: String,
    /// Where the next frame begins.
    pub(super) offset: u64,
    /// Sequence number of the next frame.
    pub(super) seq: u64,
    pub(super) spares: Spares,
    pub(super) buffer: Vec<u8>,
    pub(super) heavy: Vec<GroupId>,
    /// Rounds of relocation that may still be made for the segments that appends have started.
    pub(super) rounds: u32,
    /// Lowest segment and its live entries when heavy groups were found in it.
    pub(super) considered: Option<(u32, u64)>,
    pub(super) stopped: bool,
    pub(super) statistics: LogStatistics,
}

/// Counters since the log was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatistics {
    /// Frames written by appends.
    pub frames: u64,
    /// Segments given up.
    pub released: u64,
    /// Groups moved out of an old segment.
    pub relocated: u64,
}

impl Log {
    /// Opens the log in `disk`, or begins one in an empty directory, and starts a new segment.
    ///
    /// # Errors
    /// `Damaged` or `Missing` if something that was acknowledged is not there; else see [`OpenError`].
    ///
    /// # Panics
    /// If the options are outside their ranges.
    pub fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Log, Recovered), OpenError> {
        assert!(
            options.block.is_power_of_two() && (512..=65536).contains(&options.block),
            "block out of range"
        );
        assert!(options.segment_bytes <= MAX_SEGMENT, "a segment is at most 2 GiB");
        assert!(options.keep_segments >= 1 && options.spares >= 1, "at least one segment and one spare");
        super::recover::open(disk, options)
    }

    /// Writes the changes of all batches as one frame, in order; durable on return.
    ///
    /// # Errors
    /// `Full` and `TooLarge` refuse the whole call without effect. Any other error is fatal.
    ///
    /// # Panics
    /// If a batch does not follow from the state of its group (see [`Batch`]).
    pub fn append(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        if self.stopped {
            return Err(StorageError::Stopped);
        }
        self.append_within(batches, Reserve::Keep)
    }

    /// As [`Log::append`], saying which spares may be used.
    pub(super) fn append_within(&mut self, batches: &[Batch], reserve: Reserve) -> Result<(), StorageError> {
        if !self.options.rules.one_unsynced_frame && batches.len() > 1 {
            return self.append_two_frames(batches);
        }
        self.make_room(batches, reserve)?;
        self.encode(batches);
        if self.buffer.len() == FRAME_HEADER {
            return Ok(());
        }
        self.seal();
        let written = if mutant!(NeverSyncs) {
            self.disk.write(&self.active, self.offset, &self.buffer)
        } else {
            self.disk.write_durable(&self.active, self.offset, &self.buffer)
        };
        if let Err(error) = written
            && (self.options.rules.stop_at_failed_sync || self.disk.sync(&self.active).is_err())
        {
            return Err(self.fail("write", &self.active.clone(), &error));
        }
        self.advance();
        Ok(())
    }

    /// What [`Rules::one_unsynced_frame`] forbids.
    fn append_two_frames(&mut self, batches: &[Batch]) -> Result<(), StorageError> {
        let (first, rest) = batches.split_at(1);
        self.make_room(batches, Reserve::Keep)?;
        self.encode(first);
        self.seal();
        if let Err(error) = self.disk.write(&self.active, self.offset, &self.buffer) {
            return Err(self.fail("write", &self.active.clone(), &error));
        }
        self.advance();
        self.options.rules.one_unsynced_frame = true;
        let result = self.append_within(rest, Reserve::Keep);
        self.options.rules.one_unsynced_frame = false;
        result
    }

    /// Makes sure that a frame with these batches fits the last segment, starting another one if need be.
    fn make_room(&mut self, batches: &[Batch], reserve: Reserve) -> Result<(), StorageError> {
        let bound = FRAME_HEADER + batches.iter().map(size_bound).sum::<usize>();
        let bytes = frame::padded(bound, self.options.block) as u64;
        if bytes > MAX_FRAME {
            return Err(StorageError::TooLarge { bytes, limit: MAX_FRAME });
        }
        let active = self.segments.back().expect("an open log has a segment");
        if self.offset + bytes > active.bytes {
            self.start_segment(bytes, reserve)?;
        }
        Ok(())
    }

    /// Encodes the batches into the buffer and takes them over into memory: if the frame cannot be written, the log
    /// stops, so memory is never ahead of the disk where it could be seen.
    fn encode(&mut self, batches: &[Batch]) {
        let mut out = std::mem::take(&mut self.buffer);
        out.clear();
        out.resize(FRAME_HEADER, 0);
        for batch in batches {
            self.encode_batch(&mut out, batch);
        }
        self.buffer = out;
    }

    fn encode_batch(&mut self, out: &mut Vec<u8>, batch: &Batch) {
        let id = batch.group;
        let group = self.groups.entry(id).or_default();
        if let Some(hard_state) = batch.hard_state {
            assert_forward(id, group.hard_state, hard_state);
            record::encode_hard_state(out, id, hard_state);
            group.hard_state = hard_state;
        }
        if let Some(mark) = &batch.snapshot {
            assert_eq!(mark.meta.group, id, "the snapshot of one group marked in another");
            record::encode_snapshot(out, mark);
            group.snapshot = Some(mark.clone());
        }
        let covered = group.snapshot.as_ref().map_or(0, |mark| mark.meta.last.index);
        if let Some(to) = batch.reset {
            assert!(to.index <= covered, "{id}: the log is reset to {to} without a snapshot of it");
            assert!(to.index >= group.compacted.index, "{id}: an older snapshot ({to}) is installed");
            let keep_tail = to.index <= group.last.index && group.term_at(to.index) == Some(to.term);
            record::encode_compact(out, id, to, keep_tail);
            group.compact(to, keep_tail, &mut self.live);
        }
        if let Some(first) = batch.entries.first() {
            if let Err(reason) = group.accepts(first.index) {
                panic!("{id}: {reason}");
            }
            group.cut(first.index, &mut self.live);
            let segment = self.segments.back().expect("an open log has a segment").id;
            let frame = u32::try_from(self.offset).expect("segments are shorter than 4 GiB");
            let mut index = first.index;
            record::encode_entries(out, id, &batch.entries, |span| {
                let at = frame + span.at;
                let position = Position { term: span.term, segment, frame, at, length: span.length };
                group.push(index, position, &mut self.live);
                index += 1;
            });
            let consecutive = batch.entries.last().map(|entry| entry.index + 1) == Some(index);
            assert!(consecutive, "{id}: the entries of a batch are not consecutive");
        }
        if let Some(to) = batch.compact_to
            && to.index > group.compacted.index
        {
            assert!(to.index <= covered, "{id}: the log is compacted to {to} without a snapshot of it");
            if let Err(reason) = group.can_compact(to) {
                panic!("{id}: compaction: {reason}");
            }
            record::encode_compact(out, id, to, true);
            group.compact(to, true, &mut self.live);
        }
    }

    fn seal(&mut self) {
        let id = self.segments.back().expect("an open log has a segment").id;
        let salt = self.salt(id);
        frame::seal(&mut self.buffer, 0, salt, self.seq, self.options.block);
    }

    fn advance(&mut self) {
        self.offset += self.buffer.len() as u64;
        self.seq += 1;
        self.statistics.frames += 1;
    }

    /// What the checksums of a segment's frames include.
    pub(super) fn salt(&self, segment: u32) -> u32 {
        if self.options.rules.tie_frames_to_their_place { segment } else { 0 }
    }

    /// Stops the log.
    pub(super) fn fail(&mut self, call: &'static str, file: &str, error: &io::Error) -> StorageError {
        self.stopped = true;
        StorageError::failed(call, file, error)
    }

    /// Counters since the log was opened.
    pub fn statistics(&self) -> LogStatistics {
        self.statistics
    }

    /// Groups that keep old segments from being given up and are too large to be moved: they should take a snapshot.
    pub fn heavy_groups(&self) -> &[GroupId] {
        &self.heavy
    }

    /// Bytes of all segments and spares on disk.
    pub fn disk_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.spares.bytes()
    }

    /// Name of a segment of this log, for errors.
    pub(super) fn name_of(&self, segment: u32) -> String {
        segment_name(segment)
    }
}

/// Upper bound of the bytes that a batch adds to a frame.
fn size_bound(batch: &Batch) -> usize {
    record::small_records_size(batch.snapshot.as_ref()) + entries_bound(&batch.entries)
}

fn entries_bound(entries: &[Entry]) -> usize {
    if entries.is_empty() { 0 } else { record::entries_size(entries) }
}

/// Raft's first promise: the term does not go back, and a vote within a term does not change.
fn assert_forward(group: GroupId, old: HardState, new: HardState) {
    let kept = new.term > old.term || (new.term == old.term && (old.vote.is_none() || old.vote == new.vote));
    assert!(kept, "{group}: term and vote would go back from {old:?} to {new:?}");
}
