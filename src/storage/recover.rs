//! Opening a log: reading the segments, and telling a torn last write from damage.
//!
//! A frame is written only when the one before it is durable. So at most the last frame of a log can be incomplete;
//! it was never acknowledged, and is dropped. If anything valid follows a bad frame, or the next segment says that
//! more frames existed, then bytes that were durable are gone: the log refuses to open.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use super::batch::Recovered;
use super::collect::ROUNDS;
use super::disk::Disk;
use super::error::OpenError;
use super::frame::{self, BadHeader, FRAME_HEADER, SegmentHeader, VERSION};
use super::group::{GroupLog, Live, Position};
use super::log::{Log, LogOptions, LogStatistics, Reserve, Segment};
use super::record::{Reader, Record};
use super::segment::{FileKind, Spares, discard, file_kind, segment_name};
use crate::logic::ids::GroupId;

/// State while the segments are read in order.
struct Replay<'a> {
    options: &'a LogOptions,
    groups: BTreeMap<GroupId, GroupLog>,
    live: Live,
    /// Sequence number of the next frame; `None` before the first segment.
    seq: Option<u64>,
    notes: Vec<String>,
}

/// One segment in memory.
struct Image {
    id: u32,
    name: String,
    bytes: Vec<u8>,
}

/// See [`Log::open`].
pub(super) fn open(disk: Arc<dyn Disk>, options: LogOptions) -> Result<(Log, Recovered), OpenError> {
    let io = |call, file: &str, error| OpenError::io(call, file, &error);
    if options.rules.sync_names_at_open {
        disk.sync_dir().map_err(|error| io("sync", "the log directory", error))?;
    }
    let (ids, spares) = inventory(&*disk, &options)?;
    if ids.is_empty() && options.begun {
        return Err(OpenError::Missing);
    }
    let mut replay = Replay {
        options: &options,
        groups: BTreeMap::new(),
        live: Live::default(),
        seq: None,
        notes: Vec::new(),
    };
    let mut segments = VecDeque::new();
    for id in ids {
        let image = load(&*disk, id, &options)?;
        segments.push_back(Segment { id, bytes: image.bytes.len() as u64 });
        replay.segment(&image)?;
    }
    let lowest = segments.front().map_or_else(String::new, |segment| segment_name(segment.id));
    replay.check_complete(&lowest)?;
    let Replay { groups, live, seq, notes, .. } = replay;
    let mut log = Log {
        disk,
        groups,
        live,
        segments,
        active: String::new(),
        offset: 0,
        seq: seq.unwrap_or(1),
        spares,
        buffer: Vec::new(),
        heavy: Vec::new(),
        rounds: ROUNDS,
        considered: None,
        stopped: false,
        statistics: LogStatistics::default(),
        options,
    };
    // Never append to the old end: a torn frame may be there.
    log.start_segment(0, Reserve::Use)?;
    let ids: Vec<GroupId> = log.groups.keys().copied().collect();
    let groups = log.read_groups(ids)?;
    Ok((log, Recovered { groups, notes }))
}

/// Numbers of the segments, ascending, and the spares.
fn inventory(disk: &dyn Disk, options: &LogOptions) -> Result<(Vec<u32>, Spares), OpenError> {
    let mut ids = Vec::new();
    let mut spares = Spares::default();
    for name in disk.list().map_err(|error| OpenError::io("list", "the log directory", &error))? {
        match file_kind(&name) {
            FileKind::Segment(id) => ids.push(id),
            FileKind::Spare(number) => {
                // Its length may be news to the device; appends rely on it.
                disk.sync(&name).map_err(|error| OpenError::io("sync", &name, &error))?;
                let bytes = disk.size(&name).map_err(|error| OpenError::io("stat", &name, &error))?;
                // One that is shorter was cut off while it was written out, or is of the time when segments were. It
                // cannot be relied on when the disk is full; and what it takes may be needed before the first append.
                if bytes < options.segment_bytes {
                    discard(disk, &name)?;
                } else {
                    spares.found(number, bytes);
                }
            }
            FileKind::Other => {}
        }
    }
    for pair in ids.windows(2) {
        if pair[1] != pair[0] + 1 {
            let missing = segment_name(pair[0] + 1);
            let found = format!("the file is missing, although {} exists", segment_name(pair[1]));
            return Err(OpenError::damaged(&missing, 0, found));
        }
    }
    Ok((ids, spares))
}

/// Reads a segment as the device has it.
fn load(disk: &dyn Disk, id: u32, options: &LogOptions) -> Result<Image, OpenError> {
    let name = segment_name(id);
    let io = |call| {
        let name = name.clone();
        move |error| OpenError::io(call, &name, &error)
    };
    if options.rules.sync_files_at_open {
        disk.sync(&name).map_err(io("sync"))?;
    }
    if options.rules.evict_at_open {
        disk.evict(&name).map_err(io("evict"))?;
    }
    let length = disk.size(&name).map_err(io("stat"))?;
    if length > u64::from(u32::MAX) {
        return Err(OpenError::damaged(&name, 0, format!("{length} bytes, expected less than 4 GiB")));
    }
    let mut bytes = vec![0; usize::try_from(length).expect("checked to be below 4 GiB")];
    disk.read(&name, 0, &mut bytes).map_err(io("read"))?;
    Ok(Image { id, name, bytes })
}

impl Replay<'_> {
    /// Replays a segment.
    fn segment(&mut self, image: &Image) -> Result<(), OpenError> {
        let header = self.header(image)?;
        let first_seq = header.first_seq;
        let (block, mut offset, mut seq) = (header.block as usize, header.block as usize, first_seq);
        while let Some((found, payload)) = self.frame(image, offset, seq) {
            let at = u32::try_from(offset + FRAME_HEADER).expect("a segment is shorter than 4 GiB");
            self.payload(image, at, payload, seq == first_seq)?;
            seq = found + 1;
            offset += (FRAME_HEADER + payload.len()).next_multiple_of(block);
        }
        if seq == first_seq {
            let found = "the first frame of the segment does not verify, but it was durable before the file was named";
            return Err(OpenError::damaged(&image.name, offset as u64, found));
        }
        self.check_tail(image, offset, block, seq)?;
        self.seq = Some(seq);
        Ok(())
    }

    /// Reads and checks a segment header.
    fn header(&self, image: &Image) -> Result<SegmentHeader, OpenError> {
        let name = &image.name;
        let header = SegmentHeader::decode(&image.bytes).map_err(|bad| match bad {
            BadHeader::Damaged => OpenError::damaged(name, 0, "the segment header does not verify"),
            BadHeader::Newer(found) => {
                OpenError::NewerFormat { file: name.clone(), found, supported: VERSION }
            }
        })?;
        if header.node != self.options.node {
            let (found, expected) = (header.node.0, self.options.node.0);
            return Err(OpenError::OtherNode { file: name.clone(), found, expected });
        }
        if header.id != image.id {
            let found = format!("the header is that of {}", segment_name(header.id));
            return Err(OpenError::damaged(name, 0, found));
        }
        match self.seq {
            Some(seq) if seq != header.first_seq && self.options.rules.tie_frames_to_their_place => {
                let first = header.first_seq;
                let before = segment_name(image.id - 1);
                let found = format!(
                    "the segment begins with frame {first}, but {before} ends before frame {seq}: \
                     acknowledged frames at its end are gone"
                );
                Err(OpenError::damaged(name, 0, found))
            }
            _ => Ok(header),
        }
    }

    /// The frame at `offset`, if it verifies and is the expected one.
    fn frame<'b>(&self, image: &'b Image, offset: usize, seq: u64) -> Option<(u64, &'b [u8])> {
        let rules = &self.options.rules;
        let salt = if rules.tie_frames_to_their_place { image.id } else { 0 };
        frame::open(image.bytes.get(offset..)?, salt)
            .filter(|(found, _)| *found == seq || !rules.tie_frames_to_their_place)
    }

    /// Makes sure that what follows the last good frame is a torn write at most.
    fn check_tail(&mut self, image: &Image, end: usize, block: usize, seq: u64) -> Result<(), OpenError> {
        let most = seq + (image.bytes.len() / block) as u64;
        for offset in (end..image.bytes.len()).step_by(block) {
            let bytes = &image.bytes[offset..];
            // The claimed number is compared first, so that old frames in a recycled file cost nothing.
            let Some((_, claimed)) = frame::claims(bytes) else { break };
            if (seq..=most).contains(&claimed) && frame::open(bytes, image.id).is_some() {
                let found =
                    format!("frame {seq} does not verify, but frame {claimed} follows at byte {offset}");
                return Err(OpenError::damaged(&image.name, end as u64, found));
            }
        }
        if let Some((length, claimed)) = frame::claims(&image.bytes[end.min(image.bytes.len())..])
            && claimed == seq
            && length > 0
        {
            self.notes.push(format!(
                "{} at byte {end}: dropped a torn last write (frame {seq}); it was never acknowledged",
                image.name
            ));
        }
        Ok(())
    }

    /// Replays the records of a frame whose payload begins at byte `at` of the segment.
    fn payload(&mut self, image: &Image, at: u32, payload: &[u8], first: bool) -> Result<(), OpenError> {
        let bad = |reason: &str| {
            OpenError::damaged(&image.name, at.into(), format!("a frame that verifies holds {reason}"))
        };
        let mut reader = Reader::new(payload);
        let mut announced = None;
        let mut described = 0;
        while let Some(record) = reader.record().map_err(bad)? {
            match record {
                Record::Begin { groups } if first && announced.is_none() => announced = Some(groups),
                Record::Meta(meta) if announced.is_some() => {
                    described += 1;
                    let known = match self.groups.get(&meta.group) {
                        Some(group) => group.meta(meta.group) == meta,
                        None => self.seq.is_none(),
                    };
                    if !known {
                        return Err(bad(&format!(
                            "another state of {} than the segments before",
                            meta.group
                        )));
                    }
                    self.groups.entry(meta.group).or_insert_with(|| GroupLog::from_meta(&meta));
                }
                record if !first => self.record(image, at, record).map_err(|reason| bad(&reason))?,
                _ => return Err(bad("a record that does not belong at the beginning of a segment")),
            }
        }
        if first && (announced != Some(described) || self.groups.len() != described as usize) {
            return Err(bad("the states of fewer groups than there are"));
        }
        Ok(())
    }

    /// Replays a record.
    fn record(&mut self, image: &Image, payload_at: u32, record: Record) -> Result<(), String> {
        let live = &mut self.live;
        match record {
            Record::HardState { group, hard_state } => {
                self.groups.entry(group).or_default().hard_state = hard_state;
            }
            Record::Snapshot { mark } => {
                let group = self.groups.entry(mark.meta.group).or_default();
                group.snapshot = Some(mark);
            }
            Record::Compact { group, to, keep_tail } => {
                let group = self.groups.entry(group).or_default();
                if keep_tail {
                    group.can_compact(to)?;
                }
                group.compact(to, keep_tail, live);
            }
            Record::Entries { group, first, spans } => {
                let group = self.groups.entry(group).or_default();
                group.accepts(first)?;
                if !self.options.rules.accept_missing_beginning && group.first > group.compacted.index + 1 {
                    return Err("entries behind a gap".to_owned());
                }
                group.cut(first, live);
                for (index, span) in (first..).zip(spans) {
                    let (frame, at) = (payload_at - FRAME_HEADER as u32, payload_at + span.at);
                    let position =
                        Position { term: span.term, segment: image.id, frame, at, length: span.length };
                    group.push(index, position, live);
                }
            }
            Record::Begin { .. } | Record::Meta(_) => {
                return Err("a record that belongs at the beginning of a segment".to_owned());
            }
        }
        Ok(())
    }

    /// Makes sure that no group lacks entries.
    fn check_complete(&self, lowest: &str) -> Result<(), OpenError> {
        for (id, group) in &self.groups {
            if group.has_gap() {
                let (from, to) = (group.compacted.index + 1, group.last.index);
                let found = format!("entries of {id} between {from} and {to} are in no segment");
                return Err(OpenError::damaged(lowest, 0, found));
            }
        }
        Ok(())
    }
}
