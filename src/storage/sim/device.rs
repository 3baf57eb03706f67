//! What a simulated file and a simulated directory remember, and what is left of them.

use std::collections::BTreeMap;
use std::ops::Range;

use super::image::Image;

/// What a device writes at once.
pub(super) const PIECE: usize = 512;

/// A file.
#[derive(Default)]
pub(super) struct File {
    /// What a read shows.
    pub cache: Image,
    /// What the device holds.
    pub durable: Image,
    /// Byte ranges, aligned to pieces, that were written since the last sync.
    pub dirty: Vec<Range<usize>>,
    /// A failed sync has left clean pages that the device does not hold.
    pub diverged: bool,
}

/// A change of names.
#[derive(Clone)]
pub(super) enum DirectoryOp {
    Create(String, u64),
    Rename(String, u64),
    Remove(String),
}

impl DirectoryOp {
    /// Applies the operation; one whose premise was lost does nothing.
    pub fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            DirectoryOp::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            DirectoryOp::Rename(to, id) => {
                names.retain(|_, other| other != id);
                names.insert(to.clone(), *id);
            }
            DirectoryOp::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

impl File {
    /// Copies a range of the cache to the device.
    pub fn persist(&mut self, range: Range<usize>) {
        let end = range.end.min(self.cache.len());
        if range.start >= end {
            return;
        }
        self.durable.copy(&self.cache, range.start..end);
    }

    /// Persists a random subset of the dirty pieces and calls everything clean.
    pub fn keep_some(&mut self, rng: &mut fastrand::Rng) {
        // All, none, or any subset: the extremes are more likely than chance would make them.
        let mood = rng.u8(0..4);
        for range in std::mem::take(&mut self.dirty) {
            for start in range.step_by(PIECE) {
                if mood == 0 || (mood > 1 && rng.bool()) {
                    self.persist(start..start + PIECE);
                }
            }
        }
    }

    /// Writes into the cache.
    pub fn put(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        self.cache.write(offset, data);
        self.dirty.push(offset / PIECE * PIECE..end);
    }

    /// Drops clean pages: they show what the device holds again.
    pub fn evict(&mut self) {
        if !self.diverged {
            return;
        }
        let mut fresh = self.durable.clone();
        if fresh.len() < self.cache.len() {
            fresh.resize(self.cache.len());
        }
        for range in &self.dirty {
            let end = range.end.min(self.cache.len());
            fresh.copy(&self.cache, range.start.min(end)..end);
        }
        self.cache = fresh;
        self.diverged = false;
    }
}
