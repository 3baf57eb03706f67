//! Reading entries back, and giving up old segments.

use std::collections::BTreeMap;

use super::batch::{Batch, RecoveredGroup};
use super::error::StorageError;
use super::frame::{self, FRAME_HEADER};
use super::group::Position;
use super::log::{Log, Reserve};
use super::record;
use crate::logic::ids::{GroupId, Index};

/// Rounds of relocation for each segment that appends start. A round empties at least one segment and fills a quarter
/// of one at most, so two keep up; more would let the log chase its own tail when much is live.
pub(super) const ROUNDS: u32 = 2;

/// Bytes read at a time: frames of a quiet log are small, and a call for each would take most of the time.
const WINDOW: u64 = 256 << 10;

/// A piece of a segment in memory.
#[derive(Default)]
struct Window {
    segment: u32,
    /// Offset in the segment.
    start: u32,
    bytes: Vec<u8>,
}

impl Window {
    /// What there is of the segment from the frame of this entry on.
    fn at(&self, position: &Position) -> &[u8] {
        let ahead = position.frame.checked_sub(self.start).filter(|_| position.segment == self.segment);
        ahead.and_then(|ahead| self.bytes.get(ahead as usize..)).unwrap_or_default()
    }
}

impl Log {
    /// Reads the state of a group back from the files; the default for a group that was never written to.
    ///
    /// # Errors
    /// `Failed`, or `Damaged` if a checksum does not match. Both are fatal.
    pub fn reload(&self, group: GroupId) -> Result<RecoveredGroup, StorageError> {
        if self.stopped {
            return Err(StorageError::Stopped);
        }
        let mut groups = self.read_groups([group])?;
        Ok(groups.remove(&group).unwrap_or_default())
    }

    /// Reads several groups, every frame once.
    pub(super) fn read_groups(
        &self,
        ids: impl IntoIterator<Item = GroupId>,
    ) -> Result<BTreeMap<GroupId, RecoveredGroup>, StorageError> {
        let mut wanted: Vec<(GroupId, Index, Position)> = Vec::new();
        let mut groups = BTreeMap::new();
        for id in ids {
            let Some(group) = self.groups.get(&id) else { continue };
            let recovered = RecoveredGroup {
                hard_state: group.hard_state,
                snapshot: group.snapshot.clone(),
                compacted: group.compacted,
                entries: Vec::with_capacity(group.positions.len()),
            };
            groups.insert(id, recovered);
            let indexed = (group.first..).zip(&group.positions);
            wanted.extend(indexed.map(|(index, position)| (id, index, *position)));
        }
        // A group's positions ascend with its indexes, so its entries come out in order.
        wanted.sort_unstable_by_key(|(_, _, position)| (position.segment, position.at));
        let mut window = Window::default();
        let mut read = None;
        for (id, index, position) in wanted {
            if read != Some((position.segment, position.frame)) {
                self.read_frame(&position, &mut window)?;
                read = Some((position.segment, position.frame));
            }
            let start = (position.at - position.frame) as usize;
            let entry = window
                .at(&position)
                .get(start..start + position.length as usize)
                .ok_or("an entry outside its frame")
                .and_then(|bytes| record::decode_entry(index, bytes));
            let file = || self.name_of(position.segment);
            let entry = entry.map_err(|reason| {
                StorageError::damaged(
                    &file(),
                    position.at.into(),
                    format!("{reason}, expected entry {index} of {id}"),
                )
            })?;
            groups.get_mut(&id).expect("inserted above").entries.push(entry);
        }
        Ok(groups)
    }

    /// Brings the frame of a live entry into the window, and verifies it.
    fn read_frame(&self, position: &Position, window: &mut Window) -> Result<(), StorageError> {
        let whole = window.at(position);
        let held = frame::claims(whole).is_some_and(|(length, _)| whole.len() >= FRAME_HEADER + length);
        if !held {
            self.move_window(position, window)?;
        }
        if frame::open(window.at(position), self.salt(position.segment)).is_some() {
            return Ok(());
        }
        let found =
            "the frame there was written by this node, its checksum does not match, but it was acknowledged";
        Err(StorageError::damaged(&self.name_of(position.segment), u64::from(position.frame), found))
    }

    /// Reads the file from a frame on: a good piece, or all of the frame if that is longer.
    fn move_window(&self, position: &Position, window: &mut Window) -> Result<(), StorageError> {
        let name = self.name_of(position.segment);
        let offset = u64::from(position.frame);
        let failed = |error| StorageError::failed("read", &name, &error);
        let rest = self.disk.size(&name).map_err(failed)?.saturating_sub(offset);
        let mut length = rest.min(WINDOW);
        loop {
            window.bytes.resize(usize::try_from(length).expect("a segment fits in memory"), 0);
            self.disk.read(&name, offset, &mut window.bytes).map_err(failed)?;
            (window.segment, window.start) = (position.segment, position.frame);
            let claimed =
                frame::claims(&window.bytes).map_or(0, |(length, _)| (FRAME_HEADER + length) as u64);
            if claimed <= length || claimed > rest {
                return Ok(());
            }
            length = claimed;
        }
    }

    /// Gives up segments that hold nothing live, moves small groups out of old ones, and sees to the spares. To be
    /// called after appends, when nobody waits: it is what keeps the log bounded.
    ///
    /// # Errors
    /// Fatal ones only: a full disk is no error here.
    pub fn maintain(&mut self) -> Result<(), StorageError> {
        self.collect()?;
        for chore in self.chores() {
            let result = chore.run(&*self.disk);
            self.finish(chore, result)?;
        }
        Ok(())
    }

    /// As [`Log::maintain`], without the work that can be done elsewhere.
    pub(super) fn collect(&mut self) -> Result<(), StorageError> {
        if self.stopped {
            return Err(StorageError::Stopped);
        }
        loop {
            while self.segments.len() > 1 && self.live.in_segment(self.segments[0].id) == 0 {
                self.release_lowest()?;
            }
            if self.segments.len() <= self.options.keep_segments {
                self.heavy.clear();
                return Ok(());
            }
            if !self.relocate()? {
                return Ok(());
            }
        }
    }

    /// Moves the groups that keep the lowest segment alive to the end of the log. False if that is not possible now.
    fn relocate(&mut self) -> Result<bool, StorageError> {
        let lowest = self.segments[0].id;
        let state = (lowest, self.live.in_segment(lowest));
        if self.rounds == 0 || self.considered == Some(state) {
            return Ok(false);
        }
        let mut blockers: Vec<(u64, GroupId)> = self
            .groups
            .iter()
            .filter(|(_, log)| log.positions.front().is_some_and(|position| position.segment == lowest))
            .map(|(id, log)| (log.bytes, *id))
            .collect();
        blockers.sort_unstable();
        let mut total: u64 = blockers.iter().map(|(bytes, _)| bytes).sum();
        self.heavy.clear();
        while let Some((bytes, id)) = blockers.last()
            && (*bytes > self.options.relocate_bytes || total > self.options.segment_bytes / 4)
        {
            total -= bytes;
            self.heavy.push(*id);
            blockers.pop();
        }
        if !self.heavy.is_empty() {
            self.considered = Some(state);
            return Ok(false);
        }
        self.rounds -= 1;
        for (_, id) in blockers {
            match self.move_group(id, lowest) {
                Err(error) if !error.is_fatal() => return Ok(false),
                other => other?,
            }
        }
        Ok(true)
    }

    /// Writes the whole log of a group again. Entries replace everything from their index on, so this is an append.
    fn move_group(&mut self, id: GroupId, lowest: u32) -> Result<(), StorageError> {
        let group = self.read_groups([id])?.remove(&id).unwrap_or_default();
        let mut batch = Batch { entries: group.entries, ..Batch::new(id) };
        if !self.options.rules.relocate_whole_logs {
            let positions = &self.groups[&id].positions;
            batch.entries.truncate(positions.iter().filter(|position| position.segment == lowest).count());
        }
        // The space that this needs comes back with the segment that it empties.
        self.append_within(&[batch], Reserve::Use)?;
        self.statistics.relocated += 1;
        Ok(())
    }
}
