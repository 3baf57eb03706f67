//! How inputs are cut into pieces for map tasks.
//!
//! A split is a range of bytes, cut without looking at the file. It owns the lines that *begin* in it: its reader
//! starts behind the first line end at or after `offset - 1`, and reads on over its end to finish its last line. So
//! every line belongs to exactly one split, wherever the cuts fall.

use serde::{Deserialize, Serialize};

/// No split is chosen larger than this: its pairs should fit into the memory of a task, so that one sort does.
const LARGEST_SPLIT: u64 = 64 << 20;
/// No split is chosen smaller than this: a task has a price.
const SMALLEST_SPLIT: u64 = 1 << 20;
/// So many tasks for each slot, so that no slot waits long for the last one.
const TASKS_PER_SLOT: u64 = 4;
/// The last piece of a file may be longer by a tenth of a split, so that no tiny one is left over.
const SLACK: u64 = 10;
/// A reducer is worth starting for so many bytes of input.
const BYTES_PER_REDUCER: u64 = 32 << 20;
/// A reducer need not read more than this.
const MOST_BYTES_PER_REDUCER: u64 = 1 << 30;

/// Ends of the names of files that are compressed in a way that is not read.
const UNREAD: [&str; 9] = ["bz2", "xz", "lzma", "lz4", "lzo", "snappy", "Z", "zip", "7z"];

/// How a file is compressed. Only the whole of a compressed file can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    /// It is not.
    Plain,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Compression {
    /// What the name of a file says.
    pub fn of(path: &str) -> Self {
        match path.rsplit_once('.') {
            Some((_, "gz")) => Self::Gzip,
            Some((_, "zst")) => Self::Zstd,
            _ => Self::Plain,
        }
    }

    /// Whether the name of a file says that its lines cannot be read.
    pub fn is_unread(path: &str) -> bool {
        path.rsplit_once('.').is_some_and(|(_, end)| UNREAD.contains(&end))
    }
}

/// Whether an input is an object in a store (`s3://bucket/key`) and not a path.
pub fn is_url(input: &str) -> bool {
    input.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// A file of input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    /// Its path, or the URL of an object.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
}

/// What one map task reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// The path of the file, or the URL of an object.
    pub file: String,
    /// Where the split begins, in bytes.
    pub offset: u64,
    /// How many bytes it has.
    pub length: u64,
    /// How the file is compressed; if it is, the split is the whole file.
    pub compression: Compression,
}

/// The size of splits for so much input on so many slots.
pub fn split_bytes(input_bytes: u64, slots: u32) -> u64 {
    let pieces = u64::from(slots.max(1)) * TASKS_PER_SLOT;
    input_bytes.div_ceil(pieces).clamp(SMALLEST_SPLIT, LARGEST_SPLIT)
}

/// The number of reducers for so much input on so many slots: one for little, one for each slot as soon as that pays,
/// more when one would get too much.
pub fn reducers(input_bytes: u64, slots: u32) -> u32 {
    let worthwhile = input_bytes.div_ceil(BYTES_PER_REDUCER).max(1);
    let needed = input_bytes.div_ceil(MOST_BYTES_PER_REDUCER).max(u64::from(slots.max(1)));
    let most = u64::from(super::job::MOST_REDUCERS);
    u32::try_from(worthwhile.min(needed).min(most)).expect("at most MOST_REDUCERS")
}

/// Cuts files into splits of about `split_bytes`. An empty file gives none.
pub fn cut(files: &[InputFile], split_bytes: u64) -> Vec<Split> {
    let split_bytes = split_bytes.max(1);
    let mut splits = Vec::new();
    for file in files {
        let compression = Compression::of(&file.path);
        let step = if compression == Compression::Plain { split_bytes } else { file.length.max(1) };
        let mut offset = 0;
        while offset < file.length {
            let left = file.length - offset;
            let length = if left <= step.saturating_add(step / SLACK) { left } else { step };
            splits.push(Split { file: file.path.clone(), offset, length, compression });
            offset += length;
        }
    }
    splits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, length: u64) -> InputFile {
        InputFile { path: path.into(), length }
    }

    proptest! {
        #[test]
        fn splits_cover_each_file_once_and_in_order(lengths in proptest::collection::vec(0u64..5000, 0..5),
                                                    size in 0u64..700) {
            let files: Vec<_> =
                lengths.iter().enumerate().map(|(i, length)| file(&format!("f{i}"), *length)).collect();
            let splits = cut(&files, size);
            for file in &files {
                let mut next = 0;
                for split in splits.iter().filter(|split| split.file == file.path) {
                    prop_assert_eq!(split.offset, next);
                    prop_assert!(split.length > 0 && split.length <= size.max(1) + size / 10);
                    next += split.length;
                }
                prop_assert_eq!(next, file.length);
            }
        }
    }

    #[test]
    fn a_compressed_file_is_one_split() {
        let splits = cut(&[file("a.gz", 1000), file("b.zst", 1000), file("c.txt", 1000)], 300);
        let found: Vec<_> = splits.iter().map(|s| (s.file.as_str(), s.length, s.compression)).collect();
        let plain = |length| ("c.txt", length, Compression::Plain);
        assert_eq!(found[..2], [("a.gz", 1000, Compression::Gzip), ("b.zst", 1000, Compression::Zstd)]);
        assert_eq!(found[2..], [plain(300), plain(300), plain(300), plain(100)]);
    }

    #[test]
    fn sizes_follow_the_input() {
        const MIB: u64 = 1 << 20;
        assert_eq!((split_bytes(10, 2), reducers(10, 2)), (MIB, 1));
        assert_eq!((split_bytes(0, 0), reducers(0, 0)), (MIB, 1));
        assert_eq!((split_bytes(80 * MIB, 2), reducers(80 * MIB, 2)), (10 * MIB, 2));
        assert_eq!((split_bytes(10_240 * MIB, 2), reducers(10_240 * MIB, 2)), (64 * MIB, 10));
        assert_eq!(reducers(u64::MAX, 2), super::super::job::MOST_REDUCERS);
    }
}
