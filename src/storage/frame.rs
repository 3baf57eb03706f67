//! The bytes of a segment: its header, and frames. `docs/storage.md` is the reference.

use crate::logic::ids::NodeId;

/// First bytes of every segment.
pub(crate) const MAGIC: [u8; 8] = *b"QUORWAL\0";
/// Version of the format that this program writes, and the newest that it reads.
pub(crate) const VERSION: u32 = 1;
/// Bytes of a segment header that carry information; it occupies a whole block.
pub(crate) const HEADER_BYTES: usize = 48;
/// Bytes in front of a frame's payload.
pub(crate) const FRAME_HEADER: usize = 16;

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Number of the segment, also in its name.
    pub id: u32,
    /// Node that wrote it.
    pub node: NodeId,
    /// Alignment of frames in bytes.
    pub block: u32,
    /// Sequence number of its first frame.
    pub first_seq: u64,
}

/// Why a segment header was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// The checksum does not match, or it is no header at all.
    Damaged,
    /// Written by a newer program.
    Newer(u32),
}

impl SegmentHeader {
    /// Appends the header, padded to a block.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.block.to_le_bytes());
        out.extend_from_slice(&u64::from(self.id).to_le_bytes());
        out.extend_from_slice(&self.node.0.to_le_bytes());
        out.extend_from_slice(&self.first_seq.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.resize(start + self.block as usize, 0);
    }

    /// Reads a header. The checksum is where it is in every version, so that a newer file is told from a damaged one.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, BadHeader> {
        let header = bytes.get(..HEADER_BYTES).ok_or(BadHeader::Damaged)?;
        if header[..8] != MAGIC || crc32fast::hash(&header[..44]) != u32_at(header, 44) {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(header, 8);
        if version > VERSION {
            return Err(BadHeader::Newer(version));
        }
        let block = u32_at(header, 12);
        let id = u32::try_from(u64_at(header, 16)).map_err(|_| BadHeader::Damaged)?;
        if !(512..=65536).contains(&block) || !block.is_power_of_two() {
            return Err(BadHeader::Damaged);
        }
        Ok(SegmentHeader { id, node: NodeId(u64_at(header, 24)), block, first_seq: u64_at(header, 32) })
    }
}

/// Checksum of a frame. The segment's id is part of it, so that a frame left in a recycled file does not verify.
fn checksum(segment: u32, seq: u64, payload: &[u8]) -> u32 {
    let mut salt = [0; 20];
    salt[..8].copy_from_slice(&u64::from(segment).to_le_bytes());
    salt[8..16].copy_from_slice(&seq.to_le_bytes());
    salt[16..].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt);
    hasher.update(payload);
    hasher.finalize()
}

/// Completes the frame that begins at `start` of `out`: [`FRAME_HEADER`] bytes to be filled, then the payload.
pub(crate) fn seal(out: &mut Vec<u8>, start: usize, segment: u32, seq: u64, block: u32) {
    let payload = &out[start + FRAME_HEADER..];
    let length = u32::try_from(payload.len()).expect("batches are limited so that a frame fits u32");
    assert!(length > 0, "a frame of length 0 reads as empty space");
    let crc = checksum(segment, seq, payload);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out[start + 8..start + 16].copy_from_slice(&seq.to_le_bytes());
    let padded = padded(out.len() - start, block);
    out.resize(start + padded, 0);
}

/// `bytes` rounded up to whole blocks.
pub(crate) fn padded(bytes: usize, block: u32) -> usize {
    bytes.next_multiple_of(block as usize)
}

/// Length and sequence number that the first bytes of a frame claim.
pub(crate) fn claims(bytes: &[u8]) -> Option<(usize, u64)> {
    let header = bytes.get(..FRAME_HEADER)?;
    Some((u32_at(header, 0) as usize, u64_at(header, 8)))
}

/// The payload of the frame at the start of `bytes`, if it verifies. `salt` is the segment's id.
pub(crate) fn open(bytes: &[u8], salt: u32) -> Option<(u64, &[u8])> {
    let (length, seq) = claims(bytes)?;
    if length == 0 {
        return None;
    }
    let payload = bytes.get(FRAME_HEADER..)?.get(..length)?;
    (checksum(salt, seq, payload) == u32_at(bytes, 4)).then_some((seq, payload))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_segment_are_as_documented() {
        let header = SegmentHeader { id: 7, node: NodeId(3), block: 512, first_seq: 41 };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        let frame = bytes.len();
        bytes.extend_from_slice(&[0; FRAME_HEADER]);
        bytes.extend_from_slice(b"payload");
        seal(&mut bytes, frame, 7, 41, 512);
        assert_eq!(bytes.len(), 1024);
        let documented = include_str!("../../docs/storage.md");
        assert!(documented.contains(&hex(&bytes[..48])), "header {}", hex(&bytes[..48]));
        assert!(documented.contains(&hex(&bytes[512..535])), "frame {}", hex(&bytes[512..535]));
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        assert_eq!(open(&bytes[512..], 7), Some((41, &b"payload"[..])));
        assert_eq!(open(&bytes[512..], 8), None, "a frame of another segment does not verify");
    }

    #[test]
    fn a_newer_header_is_told_from_a_damaged_one() {
        let mut bytes = Vec::new();
        SegmentHeader { id: 1, node: NodeId(1), block: 512, first_seq: 1 }.encode(&mut bytes);
        bytes[8] = 9;
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Damaged));
        let crc = crc32fast::hash(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::decode(&bytes), Err(BadHeader::Newer(9)));
    }

    fn hex(bytes: &[u8]) -> String {
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        pairs.join(" ")
    }
}
