//! Merging sorted runs: the pairs of one partition from many sources, in order, within a memory budget.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use super::block;
use super::groups::Pairs;
use super::run_file::{Extent, RunWriter};
use super::source::{LocalSource, Source};
use super::task::Control;
use crate::logic::mapreduce::failure::{Cause, TaskFailure};
use crate::logic::mapreduce::merge::LoserTree;

/// A merge of more sources than this costs more in seeks and comparisons than another pass.
const MOST_SOURCES: usize = 512;
/// Buffers of a source beside its block: what is read from and what is unpacked.
const ROOM_BESIDE: usize = 4 << 10;

/// A source while it is read: the block, and where in it the next pair stands.
struct Cursor {
    from: Box<dyn Read + Send>,
    map: u32,
    raw: Vec<u8>,
    spare: Vec<u8>,
    room: usize,
    left: u64,
    key: std::ops::Range<usize>,
    value: std::ops::Range<usize>,
    /// The first eight bytes of the key: most comparisons end with them.
    prefix: u64,
    exhausted: bool,
}

impl Cursor {
    fn open(source: &dyn Source) -> Result<Self, TaskFailure> {
        let extent = source.extent();
        let from = source.open().map_err(|error| match error.raw_os_error() {
            // The file is there; this process has too many others.
            Some(libc::EMFILE | libc::ENFILE) => TaskFailure::machine(format!(
                "cannot open the output of map-{}: {error}; allow more open files (ulimit -n)",
                source.map()
            )),
            _ => lost(source.map(), &error),
        })?;
        let mut cursor = Self {
            from,
            map: source.map(),
            raw: Vec::new(),
            spare: Vec::new(),
            room: extent.block_room(),
            left: extent.length,
            key: 0..0,
            value: 0..0,
            prefix: 0,
            exhausted: false,
        };
        cursor.advance()?;
        Ok(cursor)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        &self.raw[self.key.clone()]
    }

    #[inline]
    fn value(&self) -> &[u8] {
        &self.raw[self.value.clone()]
    }

    /// Goes to the next pair. Returns the bytes that were read from the source for it.
    #[inline]
    fn advance(&mut self) -> Result<u64, TaskFailure> {
        let mut read = 0;
        if self.value.end == self.raw.len() {
            read = self.next_block()?;
            if self.exhausted {
                return Ok(0);
            }
        }
        (self.key, self.value) =
            block::pair(&self.raw, self.value.end).map_err(|error| lost(self.map, &error))?;
        self.prefix = prefix(self.key());
        Ok(read)
    }

    fn next_block(&mut self) -> Result<u64, TaskFailure> {
        if self.left == 0 {
            self.exhausted = true;
            return Ok(0);
        }
        let read = block::read_block(&mut *self.from, &mut self.raw, &mut self.spare, self.room)
            .and_then(|read| match self.left.checked_sub(read) {
                Some(left) if !self.raw.is_empty() => {
                    self.left = left;
                    Ok(read)
                }
                _ => Err(block::damaged("its blocks are not as long as its index says")),
            })
            .map_err(|error| lost(self.map, &error))?;
        self.value = 0..0;
        Ok(read)
    }
}

/// The first eight bytes of a key as a number that is ordered as they are.
#[inline]
pub(super) fn prefix(key: &[u8]) -> u64 {
    match key.first_chunk::<8>() {
        Some(bytes) => u64::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 8];
            bytes[..key.len()].copy_from_slice(key);
            u64::from_be_bytes(bytes)
        }
    }
}

fn lost(map: u32, error: &std::io::Error) -> TaskFailure {
    TaskFailure::lost(map, format!("cannot read the output of map-{map}: {error}"))
}

/// Reads sources through, and returns the map tasks of those that cannot be read or are damaged.
///
/// # Errors
/// When that cannot be found out now.
pub(super) fn lost_sources(sources: &[Arc<dyn Source>], control: &Control) -> Result<Vec<u32>, TaskFailure> {
    let mut lost = Vec::new();
    for source in sources.iter().filter(|source| source.extent().pairs > 0) {
        match read_through(&**source, control) {
            Err(TaskFailure { cause: Cause::Lost { map, .. }, .. }) => lost.push(map),
            other => other?,
        }
    }
    Ok(lost)
}

fn read_through(source: &dyn Source, control: &Control) -> Result<(), TaskFailure> {
    let mut cursor = Cursor::open(source)?;
    while !cursor.exhausted {
        if cursor.advance()? > 0 {
            control.beat();
            control.check()?;
        }
    }
    Ok(())
}

/// All pairs of some sources in the order of their keys; among equal keys, in the order of the sources.
pub(super) struct Merge {
    cursors: Vec<Cursor>,
    tree: LoserTree,
    /// Bytes read from the sources since somebody asked.
    read: u64,
}

impl Merge {
    /// Opens all sources, of which there must be some.
    pub(super) fn open(sources: &[Arc<dyn Source>]) -> Result<Self, TaskFailure> {
        let cursors = sources.iter().map(|source| Cursor::open(&**source)).collect::<Result<Vec<_>, _>>()?;
        let tree = LoserTree::new(cursors.len(), |a, b| first(&cursors, a, b));
        Ok(Self { cursors, tree, read: 0 })
    }

    /// Bytes read from the sources since the last call.
    pub(super) fn take_read(&mut self) -> u64 {
        std::mem::take(&mut self.read)
    }
}

#[inline]
fn first(cursors: &[Cursor], a: usize, b: usize) -> bool {
    let (x, y) = (&cursors[a], &cursors[b]);
    if x.exhausted || y.exhausted {
        return (x.exhausted, a) < (y.exhausted, b);
    }
    if x.prefix != y.prefix {
        return x.prefix < y.prefix;
    }
    match x.key().cmp(y.key()) {
        std::cmp::Ordering::Equal => a < b,
        order => order.is_lt(),
    }
}

impl Pairs for Merge {
    #[inline]
    fn peek(&self) -> Option<(&[u8], &[u8])> {
        let cursor = &self.cursors[self.tree.winner()];
        if cursor.exhausted { None } else { Some((cursor.key(), cursor.value())) }
    }

    #[inline]
    fn advance(&mut self) -> Result<(), TaskFailure> {
        let winner = self.tree.winner();
        self.read += self.cursors[winner].advance()?;
        let cursors = &self.cursors;
        self.tree.replay(|a, b| first(cursors, a, b));
        Ok(())
    }
}

/// How many sources of these can be merged at once within `memory` bytes; at least two.
fn fan_in(sources: &[Arc<dyn Source>], memory: usize) -> usize {
    // A compressed block is unpacked from a second buffer.
    let room = sources.iter().map(|source| 2 * source.extent().block_room() + ROOM_BESIDE).max().unwrap_or(1);
    (memory / room).clamp(2, MOST_SOURCES)
}

/// Merges neighbours into longer runs, until all that is left can be merged at once within `memory` bytes.
///
/// The runs are files that `name` names; whoever holds the returned sources removes them.
pub(super) fn reduce_sources(
    mut sources: Vec<Arc<dyn Source>>,
    memory: usize,
    compress: bool,
    control: &Control,
    mut name: impl FnMut() -> PathBuf,
) -> Result<Vec<Arc<dyn Source>>, TaskFailure> {
    sources.retain(|source| source.extent().pairs > 0);
    loop {
        let most = fan_in(&sources, memory);
        if sources.len() <= most {
            return Ok(sources);
        }
        // One pass: neighbours become one run, so that equal keys stay in the order of the sources, and only as many as
        // needed, so that nothing is copied for nothing.
        let mut merged: Vec<Arc<dyn Source>> = Vec::new();
        while merged.len() + sources.len() > most && sources.len() > 1 {
            let excess = merged.len() + sources.len() - most;
            let rest = sources.split_off((excess + 1).min(most).min(sources.len()));
            let group = std::mem::replace(&mut sources, rest);
            merged.push(merge_run(&group, name(), compress, control)?);
        }
        merged.append(&mut sources);
        sources = merged;
    }
}

fn merge_run(
    sources: &[Arc<dyn Source>],
    path: PathBuf,
    compress: bool,
    control: &Control,
) -> Result<Arc<dyn Source>, TaskFailure> {
    let mut merge = Merge::open(sources)?;
    let mut writer = RunWriter::create(path, 1, compress)?;
    while let Some((key, value)) = merge.peek() {
        writer.push(key, value)?;
        merge.advance()?;
        if merge.take_read() > 0 {
            control.beat();
            control.check()?;
        }
    }
    let (path, index) = writer.finish()?;
    let extent: Extent = index.0[0];
    Ok(Arc::new(OwnRun(LocalSource { map: sources[0].map(), path, extent })))
}

/// A run of this task, removed when nobody needs it any more.
struct OwnRun(LocalSource);

impl Source for OwnRun {
    fn map(&self) -> u32 {
        self.0.map
    }

    fn extent(&self) -> Extent {
        self.0.extent
    }

    fn open(&self) -> std::io::Result<Box<dyn Read + Send>> {
        self.0.open()
    }
}

impl Drop for OwnRun {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0.path);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn run(dir: &std::path::Path, map: u32, pairs: &[(Vec<u8>, Vec<u8>)]) -> Arc<dyn Source> {
        let mut writer =
            RunWriter::create(dir.join(format!("run-{map}")), 1, map.is_multiple_of(2)).expect("created");
        for (key, value) in pairs {
            writer.push(key, value).expect("written");
        }
        let (path, index) = writer.finish().expect("finished");
        Arc::new(LocalSource { map, path, extent: index.0[0] })
    }

    type Found = Vec<(Vec<u8>, Vec<u8>)>;

    fn contents(merge: &mut Merge) -> Result<Found, TaskFailure> {
        let mut found = Vec::new();
        while let Some((key, value)) = merge.peek() {
            found.push((key.to_vec(), value.to_vec()));
            merge.advance()?;
        }
        Ok(found)
    }

    #[test]
    fn many_sources_are_merged_in_passes_and_equal_keys_stay_in_order() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut random = fastrand::Rng::with_seed(3);
        let mut expected = Vec::new();
        let mut sources = Vec::new();
        for map in 0..37u32 {
            let mut keys: Vec<Vec<u8>> = (0..random.usize(0..400))
                .map(|_| (0..random.usize(0..11)).map(|_| random.u8(b'a'..=b'b')).collect())
                .collect();
            keys.sort();
            let value = |place: usize| format!("{map}.{place}").into_bytes();
            let pairs: Vec<_> =
                keys.into_iter().enumerate().map(|(place, key)| (key, value(place))).collect();
            expected.extend(pairs.iter().cloned().map(|(key, value)| (key, map, value)));
            sources.push(run(dir.path(), map, &pairs));
        }
        expected.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
        let expected: Vec<_> = expected.into_iter().map(|(key, _, value)| (key, value)).collect();

        for memory in [0, 100_000, 1 << 30] {
            let mut runs = 0;
            let name = || {
                runs += 1;
                dir.path().join(format!("merged-{memory}-{runs}"))
            };
            let few =
                reduce_sources(sources.clone(), memory, false, &Control::default(), name).expect("merged");
            assert!(few.len() <= fan_in(&few, memory));
            assert_eq!(
                contents(&mut Merge::open(&few).expect("opened")),
                Ok(expected.clone()),
                "{memory} bytes"
            );
            drop(few);
            assert!(runs == 0 || !dir.path().join(format!("merged-{memory}-1")).exists(), "a run was left");
        }
    }

    /// A source whose bytes are not those that were written.
    struct Bad {
        extent: Extent,
        bytes: Option<Vec<u8>>,
    }

    impl Source for Bad {
        fn map(&self) -> u32 {
            7
        }

        fn extent(&self) -> Extent {
            self.extent
        }

        fn open(&self) -> io::Result<Box<dyn Read + Send>> {
            match &self.bytes {
                Some(bytes) => Ok(Box::new(io::Cursor::new(bytes.clone()))),
                None => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    #[test]
    fn a_source_that_is_gone_short_or_damaged_names_its_map_task() {
        let dir = tempfile::tempdir().expect("a directory");
        let pairs: Vec<_> = (0..10_000u32).map(|n| (n.to_be_bytes().to_vec(), vec![0; 10])).collect();
        let good = run(dir.path(), 1, &pairs);
        let extent = good.extent();
        let mut bytes = Vec::new();
        good.open().expect("open").read_to_end(&mut bytes).expect("readable");
        let read = |bytes: Option<Vec<u8>>, extent: Extent| {
            let bad: Arc<dyn Source> = Arc::new(Bad { extent, bytes });
            Merge::open(&[bad]).and_then(|mut merge| contents(&mut merge))
        };
        assert_eq!(read(Some(bytes.clone()), extent), Ok(pairs));
        let cut = bytes[..bytes.len() - 1].to_vec();
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let longer = Extent { length: extent.length + 1, ..extent };
        let shorter = Extent { length: extent.length - 1, ..extent };
        let smaller = Extent { longest_block: 100, ..extent };
        for (bytes, extent) in [
            (None, extent),
            (Some(cut), extent),
            (Some(flipped), extent),
            (Some(bytes.clone()), longer),
            (Some(bytes.clone()), shorter),
            (Some(bytes), smaller),
        ] {
            assert_eq!(
                read(bytes, extent).expect_err("it is bad").cause,
                Cause::Lost { map: 7, more: vec![] }
            );
        }
    }
}
