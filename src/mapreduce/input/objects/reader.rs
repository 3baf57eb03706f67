//! The bytes of an object, by requests for one piece after the other.
//!
//! Nothing depends on a connection that lives for long: a task may take minutes over what it has read. While a piece is
//! handed out, the next one is under way.

use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use object_store::path::Path;
use object_store::{GetOptions, ObjectStore};

use super::background::{self, Pending, in_time};
use super::trouble::Trouble;
use crate::mapreduce::task::Control;

/// Bytes of one piece.
const PIECE: u64 = 2 << 20;
/// Behind the end of a split, which its last line may cross, so many bytes are asked for at once.
const OVERHANG: u64 = 64 << 10;

/// What a reader keeps in memory, in bytes: the piece that is handed out, and the next one.
pub(in crate::mapreduce::input) const MEMORY: usize = 2 * PIECE as usize;

/// Reads an object from an offset on.
pub(super) struct Reader<'a> {
    store: Arc<dyn ObjectStore>,
    path: Path,
    url: String,
    control: &'a Control,
    /// What is left of the current piece.
    piece: Bytes,
    /// The piece behind it, and where it begins.
    ahead: Option<(u64, Pending<Piece>)>,
    /// Where the piece begins that is asked for next.
    next: u64,
    /// The end of what is likely to be wanted.
    until: u64,
    /// The object as it was at the first request.
    version: Option<Version>,
}

struct Piece {
    bytes: Bytes,
    version: Version,
}

/// What tells an object from one that has taken its place.
#[derive(Clone, PartialEq, Eq)]
struct Version {
    tag: Option<String>,
    size: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        url: &str,
        wanted: Range<u64>,
        control: &'a Control,
    ) -> Self {
        Self {
            store,
            path,
            url: url.to_string(),
            control,
            piece: Bytes::new(),
            ahead: None,
            next: wanted.start,
            until: wanted.end,
            version: None,
        }
    }

    /// The next piece; an empty one at the end of the object.
    fn advance(&mut self) -> io::Result<Bytes> {
        let Some((at, pending)) = self.ahead.take().map(Ok).or_else(|| self.ask().transpose()).transpose()?
        else {
            return Ok(Bytes::new());
        };
        let piece = pending.wait(self.control).map_err(|trouble| self.failed(at, &trouble))?;
        if *self.version.get_or_insert_with(|| piece.version.clone()) != piece.version {
            return Err(self.failed(at, &Trouble::Replaced));
        }
        self.next = self.next.min(piece.version.size);
        if self.next < self.until {
            self.ahead = self.ask()?;
        }
        Ok(piece.bytes)
    }

    /// Asks for the next piece, unless the object ends before it.
    fn ask(&mut self) -> io::Result<Option<(u64, Pending<Piece>)>> {
        let start = self.next;
        let size = self.version.as_ref().map_or(u64::MAX, |version| version.size);
        if start >= size {
            return Ok(None);
        }
        let length = match self.until.saturating_add(OVERHANG).saturating_sub(start) {
            0 => OVERHANG,
            wanted => wanted.min(PIECE),
        };
        self.next = (start + length).min(size);
        let request = fetch(self.store.clone(), self.path.clone(), start..self.next, self.version.clone());
        let pending = background::start(request).map_err(|trouble| self.failed(start, &trouble))?;
        Ok(Some((start, pending)))
    }

    fn failed(&self, at: u64, trouble: &Trouble) -> io::Error {
        io::Error::other(trouble.failure(&self.url, &format!("read {} at byte {at}", self.url)))
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() && !buffer.is_empty() {
            self.piece = self.advance()?;
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// One request.
async fn fetch(
    store: Arc<dyn ObjectStore>,
    path: Path,
    range: Range<u64>,
    version: Option<Version>,
) -> Result<Piece, Trouble> {
    let options = GetOptions {
        range: Some(range.clone().into()),
        // A weak tag never matches in a condition; it is compared when the answer is here.
        if_match: version.and_then(|version| version.tag).filter(|tag| !tag.starts_with("W/")),
        ..GetOptions::default()
    };
    let (version, bytes) = in_time(async {
        let answer = store.get_opts(&path, options).await?;
        let version = Version { tag: answer.meta.e_tag.clone(), size: answer.meta.size };
        Ok((version, answer.bytes().await?))
    })
    .await?;
    if bytes.len() as u64 != range.end.min(version.size).saturating_sub(range.start) {
        return Err(Trouble::Short);
    }
    Ok(Piece { bytes, version })
}
