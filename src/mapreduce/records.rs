//! The lines of a split.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use super::input;
use super::task::Control;
use super::zstd::ZstdFrames;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::split::{Compression, Split};

/// Bytes asked of the file at once.
const READ: usize = 256 << 10;

/// Reads the lines that begin in a split, one after the other.
pub(super) struct Records<'a> {
    from: Box<dyn Read + Send + 'a>,
    file: String,
    buffer: Vec<u8>,
    /// What of the buffer has not been given out.
    start: usize,
    filled: usize,
    /// Where `start` is in the file (decompressed).
    offset: u64,
    /// Lines that begin here or later belong to others.
    end: u64,
    compression: Compression,
    longest: usize,
    at_end_of_file: bool,
    /// Lines that are not given out, by where they begin.
    passed_over: BTreeSet<u64>,
    /// Those of them that were met.
    skipped: Vec<u64>,
    control: &'a Control,
}

impl<'a> Records<'a> {
    /// Opens the file of a split and goes to its first line. That and reading on end soon after the task was cancelled.
    pub(super) fn open(split: &Split, longest: u32, control: &'a Control) -> Result<Self, TaskFailure> {
        let (from, end) =
            open(split, control).map_err(|error| cannot_read(&split.file, split.offset, &error))?;
        let before = u64::from(split.offset > 0);
        let mut records = Self {
            from,
            file: split.file.clone(),
            buffer: vec![0; READ.min(usize::try_from(end - split.offset).unwrap_or(READ)).max(4 << 10)],
            start: 0,
            filled: 0,
            offset: split.offset - before,
            end,
            compression: split.compression,
            longest: longest as usize,
            at_end_of_file: false,
            passed_over: BTreeSet::new(),
            skipped: Vec::new(),
            control,
        };
        if before > 0 {
            // The line that the byte before the split belongs to is another's.
            records.skip_line()?;
        }
        Ok(records)
    }

    /// The next line, without its end, and where it begins. `None` after the last of the split.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<(u64, &[u8])>, TaskFailure> {
        while self.offset < self.end && self.passed_over.remove(&self.offset) {
            self.skipped.push(self.offset);
            self.skip_line()?;
        }
        if self.offset >= self.end {
            return Ok(None);
        }
        let mut searched = 0;
        let length = loop {
            let unread = &self.buffer[self.start..self.filled];
            if let Some(length) = memchr::memchr(b'\n', &unread[searched..]) {
                break searched + length;
            }
            searched = unread.len();
            if self.at_end_of_file {
                if searched == 0 {
                    return self.ended().map(|()| None);
                }
                break searched;
            }
            if searched > self.longest {
                return Err(self.too_long());
            }
            self.fill()?;
        };
        if length > self.longest {
            return Err(self.too_long());
        }
        let (line, offset) = (self.start..self.start + length, self.offset);
        self.start = (line.end + 1).min(self.filled);
        self.offset += (self.start - line.start) as u64;
        Ok(Some((offset, &self.buffer[line])))
    }

    /// Lines that begin at these places are not given out. They may be longer than the limit.
    pub(super) fn pass_over(&mut self, places: BTreeSet<u64>) {
        self.passed_over = places;
    }

    /// The places of the lines that were not given out so far.
    pub(super) fn take_skipped(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.skipped)
    }

    /// Where the next line begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Only the lines that begin in the next `bytes` bytes are read.
    pub(super) fn shorten(&mut self, bytes: u64) {
        self.end = self.end.min(self.offset.saturating_add(bytes));
    }

    fn skip_line(&mut self) -> Result<(), TaskFailure> {
        loop {
            let unread = &self.buffer[self.start..self.filled];
            let (skipped, found) = match memchr::memchr(b'\n', unread) {
                Some(length) => (length + 1, true),
                None => (unread.len(), false),
            };
            self.start += skipped;
            self.offset += skipped as u64;
            if found || self.at_end_of_file {
                return Ok(());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), TaskFailure> {
        self.control.check()?;
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        if self.filled == self.buffer.len() {
            self.buffer.resize((2 * self.filled).min(self.longest + READ), 0);
        }
        let read = loop {
            match self.from.read(&mut self.buffer[self.filled..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let read = read.map_err(|error| cannot_read(&self.file, self.offset + self.filled as u64, &error))?;
        self.filled += read;
        self.at_end_of_file = read == 0;
        Ok(())
    }

    /// The file ends where lines of the split might still begin. How long it is when unpacked, nobody knows before.
    fn ended(&self) -> Result<(), TaskFailure> {
        if self.compression != Compression::Plain {
            return Ok(());
        }
        Err(TaskFailure::hopeless(format!(
            "{} is shorter than when the job was planned: it ends before byte {}; do not change inputs while a job \
             runs",
            self.file, self.end
        )))
    }

    fn too_long(&self) -> TaskFailure {
        let failure = TaskFailure::hopeless(format!(
            "{}: the line at byte {} is longer than {} bytes; if that is no mistake, raise --max-record",
            self.file, self.offset, self.longest
        ));
        failure.at(Some(self.offset))
    }
}

/// The bytes of a split from its first one (or the one before), and where the split ends in them.
fn open<'a>(split: &Split, control: &'a Control) -> io::Result<(Box<dyn Read + Send + 'a>, u64)> {
    let end = match split.compression {
        Compression::Plain => split.offset.saturating_add(split.length),
        _ => u64::MAX,
    };
    let from = input::open(&split.file, split.offset.saturating_sub(1), end, control)?;
    let from: Box<dyn Read + Send + 'a> = match split.compression {
        Compression::Plain => from,
        Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(from)),
        Compression::Zstd => Box::new(ZstdFrames::new(from)),
    };
    Ok((from, end))
}

fn cannot_read(file: &str, offset: u64, error: &io::Error) -> TaskFailure {
    if let Some(failure) = input::failure_behind(error) {
        return failure.clone();
    }
    let message = match error.kind() {
        // A decoder says it in its own words, or in none.
        io::ErrorKind::UnexpectedEof => {
            format!("{file}: the file ends within compressed data, at byte {offset}")
        }
        _ => format!("cannot read {file} at byte {offset}: {error}"),
    };
    TaskFailure::hopeless(message)
}

/// The bytes of the lines of a plain split of a file: what a user can cut out to look at.
pub(super) fn lines_of(split: &Split) -> io::Result<Range<u64>> {
    let start_of_line = |at: u64| -> io::Result<u64> {
        if at == 0 {
            return Ok(0);
        }
        let mut file = File::open(&split.file)?;
        file.seek(SeekFrom::Start(at - 1))?;
        let mut reader = io::BufReader::new(file);
        Ok(at - 1 + io::BufRead::skip_until(&mut reader, b'\n')? as u64)
    };
    Ok(start_of_line(split.offset)?..start_of_line(split.offset.saturating_add(split.length))?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logic::mapreduce::failure::Cause;
    use crate::logic::mapreduce::split::{InputFile, cut};

    fn lines(split: &Split, longest: u32) -> Result<Vec<(u64, Vec<u8>)>, TaskFailure> {
        let control = Control::default();
        let mut records = Records::open(split, longest, &control)?;
        let mut found = Vec::new();
        while let Some((offset, line)) = records.next()? {
            found.push((offset, line.to_vec()));
        }
        Ok(found)
    }

    /// The lines of a text and where they begin, as a plain program finds them.
    fn expected(text: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut offset = 0;
        let pieces = text.split_inclusive(|byte| *byte == b'\n').map(|line| {
            let start = offset;
            offset += line.len() as u64;
            (start, line.strip_suffix(b"\n").unwrap_or(line).to_vec())
        });
        pieces.collect()
    }

    proptest! {
        #[test]
        fn every_line_belongs_to_exactly_one_split(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..300),
            size in 1u64..60,
        ) {
            let file = tempfile::NamedTempFile::new().expect("a file");
            std::fs::write(file.path(), &text).expect("written");
            let path = file.path().to_str().expect("UTF-8").to_string();
            let mut found = Vec::new();
            let mut cut_out = Vec::new();
            for split in cut(&[InputFile { path, length: text.len() as u64 }], size) {
                let of_split = lines(&split, 1024).expect("readable");
                let range = lines_of(&split).expect("readable");
                prop_assert_eq!(expected(&text[range.start as usize..range.end as usize]).len(), of_split.len());
                cut_out.push(range);
                found.extend(of_split);
            }
            prop_assert_eq!(found, expected(&text));
            prop_assert!(cut_out.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_told_and_not_taken_for_a_short_one() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let text = b"one\ntwo\nthree\nfour\n";
        let path = file.path().to_str().expect("UTF-8").to_string();
        for size in 1..=text.len() as u64 {
            let splits = cut(&[InputFile { path: path.clone(), length: text.len() as u64 }], size);
            for left in 0..text.len() {
                std::fs::write(file.path(), &text[..left]).expect("written");
                let failures: Vec<_> = splits.iter().filter_map(|split| lines(split, 1024).err()).collect();
                assert!(!failures.is_empty(), "{left} bytes are left, in splits of {size}");
                let told =
                    |failure: &TaskFailure| failure.message.contains("is shorter than when the job was");
                assert!(failures.iter().all(|failure| told(failure) && failure.cause == Cause::Hopeless));
            }
            std::fs::write(file.path(), text).expect("written");
            assert!(splits.iter().all(|split| lines(split, 1024).is_ok()));
        }
    }

    #[test]
    fn lines_longer_than_the_buffer_are_read_up_to_the_limit() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let long = vec![b'x'; 3 * READ];
        std::fs::write(file.path(), [&b"a\n"[..], &long, b"\nb"].concat()).expect("written");
        let path = file.path().to_str().expect("UTF-8").to_string();
        let length = 3 * READ as u64 + 4;
        let split = Split { file: path, offset: 0, length, compression: Compression::Plain };
        let found = lines(&split, 3 * READ as u32).expect("readable");
        let lengths: Vec<(u64, usize)> = found.iter().map(|(offset, line)| (*offset, line.len())).collect();
        assert_eq!(lengths, [(0, 1), (2, 3 * READ), (3 + 3 * READ as u64, 1)]);

        let failure = lines(&split, 3 * READ as u32 - 1).expect_err("too long");
        assert!(failure.message.contains("the line at byte 2 is longer than"), "{failure}");
        assert_eq!(failure.record, Some(2));

        let control = Control::default();
        let mut records = Records::open(&split, 4 << 10, &control).expect("readable");
        records.pass_over([2, 3, length].into());
        let mut next = || records.next().expect("readable").map(|(offset, line)| (offset, line.to_vec()));
        assert_eq!(next(), Some((0, b"a".to_vec())));
        assert_eq!(next(), Some((3 + 3 * READ as u64, b"b".to_vec())), "what is passed over has no limit");
        assert_eq!(next(), None);
        assert_eq!(records.take_skipped(), [2]);
    }
}
