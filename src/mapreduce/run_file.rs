//! Files of sorted pairs: map output, and runs that did not fit into memory.
//!
//! ```text
//! file    blocks of partition 0 | blocks of partition 1 | ... | index | CRC-32 u32 of the index | partitions u32 |
//!         "QMRFILE1"
//! index   for each partition: offset u64 | length u64 | pairs u64 | raw bytes u64 | longest block u64
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::block::{BLOCK, BlockBuilder, HEADER, LONGEST_BLOCK, damaged};
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::job::MOST_REDUCERS;

const MAGIC: &[u8; 8] = b"QMRFILE1";
const ENTRY: usize = 40;
const TRAILER: usize = 16;

/// Where a partition lies in a file, and how much it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Where its first block begins, in bytes.
    pub offset: u64,
    /// Bytes of all its blocks.
    pub length: u64,
    /// How many pairs it has.
    pub pairs: u64,
    /// Bytes of its pairs before compression.
    pub raw_bytes: u64,
    /// The most raw bytes that one of its blocks has: what a reader needs room for.
    pub longest_block: u64,
}

/// Where each partition lies, by its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index(pub Vec<Extent>);

impl Index {
    /// Reads the index from the end of a file.
    ///
    /// # Errors
    /// If the file cannot be read, or is not a whole file of sorted pairs.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut trailer = [0; TRAILER];
        file.seek(SeekFrom::Start(
            length.checked_sub(TRAILER as u64).ok_or_else(|| damaged("it is too short"))?,
        ))?;
        file.read_exact(&mut trailer)?;
        let partitions = u32::from_le_bytes(trailer[4..8].try_into().expect("four bytes"));
        if &trailer[8..] != MAGIC || partitions > MOST_REDUCERS {
            return Err(damaged("it does not end as a file of sorted pairs"));
        }
        let size = partitions as usize * ENTRY;
        let start = length.checked_sub((TRAILER + size) as u64).ok_or_else(|| damaged("it is too short"))?;
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = vec![0; size];
        file.read_exact(&mut bytes)?;
        if crc32fast::hash(&bytes).to_le_bytes() != trailer[..4] {
            return Err(damaged("the checksum of the index is wrong"));
        }
        Ok(Self(bytes.chunks_exact(ENTRY).map(Extent::decode).collect()))
    }

    /// Bytes of all partitions.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|extent| extent.length).sum()
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|extent| extent.encode()).collect();
        let checksum = crc32fast::hash(&bytes);
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(u32::try_from(self.0.len()).expect("at most MOST_REDUCERS").to_le_bytes());
        bytes.extend(MAGIC);
        bytes
    }
}

impl Extent {
    fn encode(&self) -> impl Iterator<Item = u8> {
        [self.offset, self.length, self.pairs, self.raw_bytes, self.longest_block]
            .into_iter()
            .flat_map(u64::to_le_bytes)
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |n: usize| u64::from_le_bytes(bytes[8 * n..8 * n + 8].try_into().expect("eight bytes"));
        Self { offset: word(0), length: word(1), pairs: word(2), raw_bytes: word(3), longest_block: word(4) }
    }

    /// The room for its longest block, never more than any block may need.
    pub(super) fn block_room(&self) -> usize {
        usize::try_from(self.longest_block).unwrap_or(usize::MAX).min(LONGEST_BLOCK)
    }
}

/// Writes pairs that come sorted by partition and key.
///
/// A file that is not finished is removed when the writer is dropped.
#[derive(Debug)]
pub(super) struct RunWriter {
    file: File,
    path: PathBuf,
    block: BlockBuilder,
    index: Index,
    partitions: u32,
    current: Extent,
    finished: bool,
}

impl RunWriter {
    pub(super) fn create(path: PathBuf, partitions: u32, compress: bool) -> Result<Self, TaskFailure> {
        let file = File::create(&path).map_err(|error| cannot_write(&path, &error))?;
        Ok(Self {
            file,
            path,
            block: BlockBuilder::new(compress),
            index: Index(Vec::with_capacity(partitions as usize)),
            partitions,
            current: Extent::default(),
            finished: false,
        })
    }

    /// Closes partitions until `partition` is the one that is written.
    pub(super) fn advance_to(&mut self, partition: u32) -> Result<(), TaskFailure> {
        assert!(partition < self.partitions, "the partition exists");
        while self.index.0.len() < partition as usize {
            self.close_partition()?;
        }
        assert_eq!(self.index.0.len(), partition as usize, "partitions are written in order");
        Ok(())
    }

    /// The partition that is written.
    pub(super) fn partition(&self) -> u32 {
        u32::try_from(self.index.0.len()).expect("at most MOST_REDUCERS")
    }

    #[inline]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> Result<(), TaskFailure> {
        let length = key.len() + value.len();
        if self.block.len() > 0 && self.block.len() + length > BLOCK {
            self.close_block()?;
        }
        self.block.push(key, value);
        self.current.pairs += 1;
        Ok(())
    }

    fn close_block(&mut self) -> Result<(), TaskFailure> {
        let raw = self.block.len() as u64;
        if raw == 0 {
            return Ok(());
        }
        let bytes = self.block.seal();
        debug_assert!(bytes.len() >= HEADER);
        self.file.write_all(bytes).map_err(|error| cannot_write(&self.path, &error))?;
        self.current.length += bytes.len() as u64;
        self.current.raw_bytes += raw;
        self.current.longest_block = self.current.longest_block.max(raw);
        self.block.clear();
        Ok(())
    }

    fn close_partition(&mut self) -> Result<(), TaskFailure> {
        self.close_block()?;
        let next = Extent { offset: self.current.offset + self.current.length, ..Extent::default() };
        self.index.0.push(std::mem::replace(&mut self.current, next));
        Ok(())
    }

    /// Closes the file.
    pub(super) fn finish(mut self) -> Result<(PathBuf, Index), TaskFailure> {
        while self.index.0.len() < self.partitions as usize {
            self.close_partition()?;
        }
        let end = self.index.encode();
        self.file.write_all(&end).map_err(|error| cannot_write(&self.path, &error))?;
        self.finished = true;
        Ok((self.path.clone(), std::mem::take(&mut self.index)))
    }
}

impl Drop for RunWriter {
    fn drop(&mut self) {
        if !self.finished {
            // It is of no use to anybody; what cannot be removed lies in a scratch directory.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// What a task says when a file cannot be written.
pub fn cannot_write(path: &Path, error: &io::Error) -> TaskFailure {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; make room, or choose a directory on another disk"
        }
        _ => "",
    };
    TaskFailure::machine(format!("cannot write {}: {error}{remedy}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path, partitions: u32) -> (PathBuf, Index) {
        let mut writer = RunWriter::create(dir.join("run"), partitions, false).expect("created");
        for n in 0..3000u32 {
            writer.advance_to(n / 1000 * 2).expect("in order");
            writer.push(&n.to_be_bytes(), &[7; 100]).expect("written");
        }
        writer.finish().expect("finished")
    }

    #[test]
    fn the_index_stands_in_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, index) = written(dir.path(), 6);
        assert_eq!(Index::read(&path).expect("an index"), index);
        let pairs: Vec<u64> = index.0.iter().map(|extent| extent.pairs).collect();
        assert_eq!(pairs, [1000, 0, 1000, 0, 1000, 0]);
        assert!(index.0.iter().all(|extent| extent.longest_block <= BLOCK as u64 + 10));
    }

    #[test]
    fn a_file_that_was_cut_or_changed_has_no_index() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, _) = written(dir.path(), 6);
        let whole = std::fs::read(&path).expect("readable");
        for cut in [0, 1, 15, 16, 100, whole.len() - 1] {
            std::fs::write(&path, &whole[..cut]).expect("written");
            assert!(Index::read(&path).is_err(), "cut to {cut}");
        }
        for at in [whole.len() - 20, whole.len() - 12, whole.len() - 1] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).expect("written");
            assert!(Index::read(&path).is_err(), "changed at {at}");
        }
    }

    #[test]
    fn a_file_that_is_not_finished_does_not_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let writer = RunWriter::create(dir.path().join("run"), 1, false).expect("created");
        drop(writer);
        assert!(!dir.path().join("run").exists());
    }
}
