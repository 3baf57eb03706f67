//! The bytes of a snapshot file. `docs/storage.md` is the reference.

use crate::logic::ids::{GroupId, LogPosition};
use crate::logic::raft::entry::SnapshotMeta;
use crate::logic::raft::membership::Membership;

const MAGIC: [u8; 8] = *b"QUORSNAP";
const END: [u8; 8] = *b"QUOREND\0";
/// Version of the format.
pub(super) const VERSION: u32 = 1;
/// Largest data of a chunk. A chunk holds one item at least, however long, and the store's longest value is 8 MiB.
pub(super) const MAX_CHUNK: usize = 64 << 20;
/// Bytes in front of a chunk's data: length, checksum, number.
pub(super) const CHUNK_HEADER: usize = 12;
/// Bytes of the footer.
pub(super) const FOOTER: usize = 32;
/// Length field that begins the footer instead of a chunk.
const FOOTER_MARK: u32 = u32::MAX;
/// Bytes of a header without its membership.
const FIXED_HEADER: usize = 40;

/// The header of a snapshot with this meta data, complete with checksum.
pub(super) fn encode_header(meta: &SnapshotMeta) -> Vec<u8> {
    let membership = meta.membership.to_bytes();
    let mut out = Vec::with_capacity(FIXED_HEADER + membership.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&meta.group.0.to_le_bytes());
    out.extend_from_slice(&meta.last.index.to_le_bytes());
    out.extend_from_slice(&meta.last.term.to_le_bytes());
    let length = u32::try_from(membership.len()).expect("a membership is shorter than 4 GiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&membership);
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    out
}

/// What a header says: for messages about a header that is not the expected one.
pub(super) fn describe_header(bytes: &[u8]) -> String {
    let Some(fixed) = bytes.get(..36).filter(|fixed| fixed[..8] == MAGIC) else {
        return "no snapshot header".to_owned();
    };
    let version = u32_at(fixed, 8);
    if version > VERSION {
        return format!(
            "format version {version}, this program reads up to {VERSION}; start a newer quorate"
        );
    }
    let last = LogPosition { index: u64_at(fixed, 16), term: u64_at(fixed, 24) };
    let members = bytes.get(36..).and_then(|rest| Membership::from_bytes(rest.get(..rest.len() - 4)?).ok());
    format!("the header of {} at {last}, members {members:?}", GroupId(u32_at(fixed, 12)))
}

/// Appends a chunk in its stored form.
pub(super) fn encode_chunk(out: &mut Vec<u8>, number: u32, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a chunk is at most 64 MiB");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&chunk_crc(number, data).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(data);
}

fn chunk_crc(number: u32, data: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(data);
    hasher.finalize()
}

/// Verifies a chunk in its stored form and returns its data.
pub(super) fn verify_chunk(stored: &[u8], number: u32) -> Result<&[u8], &'static str> {
    let data = stored.get(CHUNK_HEADER..).ok_or("it is cut short")?;
    if data.len() > MAX_CHUNK || u32_at(stored, 0) as usize != data.len() {
        return Err("its length is not the one in its header");
    }
    if u32_at(stored, 8) != number {
        return Err("it has another number");
    }
    if chunk_crc(number, data) != u32_at(stored, 4) {
        return Err("its checksum does not match");
    }
    Ok(data)
}

/// Length of the data of the chunk whose header this is; `None` if it is the footer, or nonsense.
pub(super) fn chunk_length(header: &[u8]) -> Option<usize> {
    Some(u32_at(header, 0) as usize).filter(|length| *length <= MAX_CHUNK)
}

/// What the footer sums up.
#[derive(Clone)]
pub(super) struct Summary {
    /// Number of chunks.
    pub count: u32,
    /// Bytes of data.
    pub total: u64,
    hasher: crc32fast::Hasher,
}

impl Summary {
    /// Of a file with this header and no chunks yet.
    pub fn new(header: &[u8]) -> Summary {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(header);
        Summary { count: 0, total: 0, hasher }
    }

    /// Adds the next chunk, by its header.
    pub fn add(&mut self, header: &[u8]) {
        self.count += 1;
        self.total += u64::from(u32_at(header, 0));
        self.hasher.update(&header[..CHUNK_HEADER]);
    }

    /// Digest over the file's header and all chunk headers, and thereby over all data.
    pub fn digest(&self) -> u32 {
        self.hasher.clone().finalize()
    }

    /// The footer.
    pub fn encode(&self) -> [u8; FOOTER] {
        let mut out = [0; FOOTER];
        out[..4].copy_from_slice(&FOOTER_MARK.to_le_bytes());
        out[4..8].copy_from_slice(&self.count.to_le_bytes());
        out[8..16].copy_from_slice(&self.total.to_le_bytes());
        out[16..20].copy_from_slice(&self.digest().to_le_bytes());
        let crc = crc32fast::hash(&out[..20]);
        out[20..24].copy_from_slice(&crc.to_le_bytes());
        out[24..].copy_from_slice(&END);
        out
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
