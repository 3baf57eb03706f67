//! Blocks: the unit in which pairs are written, checked, compressed and read.
//!
//! ```text
//! block   stored length u32 | raw length u32 | CRC-32 u32 of both lengths and the stored bytes | stored bytes
//! raw     pairs: key length varint | value length varint | key | value
//! ```
//!
//! Numbers are little-endian. The stored bytes are the raw ones, or fewer: then they are an lz4 block. A block
//! holds whole pairs and is about 64 KiB long, or as long as its only pair.

use std::io::{self, Read};

use crate::logic::mapreduce::job::Limits;

/// A block is closed as soon as it has so many bytes.
pub(super) const BLOCK: usize = 64 << 10;
/// No block is longer, whatever a file says: the longest pair and what stands around it.
pub(super) const LONGEST_BLOCK: usize = *Limits::RECORD_BYTES.end() as usize + BLOCK;
/// Bytes before the stored ones.
pub(super) const HEADER: usize = 12;

/// Collects pairs and turns them into the bytes of a block.
#[derive(Debug)]
pub(super) struct BlockBuilder {
    /// Room for the header, then the raw bytes.
    bytes: Vec<u8>,
    packed: Vec<u8>,
    compress: bool,
}

impl BlockBuilder {
    pub(super) fn new(compress: bool) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + BLOCK + BLOCK / 4);
        bytes.resize(HEADER, 0);
        Self { bytes, packed: Vec::new(), compress }
    }

    #[inline]
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        push_pair(&mut self.bytes, key, value);
    }

    /// Bytes of pairs that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - HEADER
    }

    /// The bytes of the block, header included. Call [`clear`](Self::clear) afterwards.
    pub(super) fn seal(&mut self) -> &[u8] {
        let raw = self.len();
        if self.compress {
            self.packed.resize(HEADER + lz4_flex::block::get_maximum_output_size(raw), 0);
            let stored = lz4_flex::block::compress_into(&self.bytes[HEADER..], &mut self.packed[HEADER..])
                .expect("there is room for the worst case");
            if stored < raw {
                self.packed.truncate(HEADER + stored);
                return head(&mut self.packed, raw);
            }
        }
        head(&mut self.bytes, raw)
    }

    pub(super) fn clear(&mut self) {
        self.bytes.truncate(HEADER);
        // One long pair must not hold its memory for ever.
        self.bytes.shrink_to(2 * BLOCK);
        self.packed.clear();
        self.packed.shrink_to(2 * BLOCK);
    }
}

/// Writes the header before the stored bytes.
fn head(block: &mut [u8], raw: usize) -> &[u8] {
    let (header, stored) = block.split_at_mut(HEADER);
    header[..4].copy_from_slice(&length(stored.len()).to_le_bytes());
    header[4..8].copy_from_slice(&length(raw).to_le_bytes());
    let checksum = checksum(&header[..8], stored);
    header[8..].copy_from_slice(&checksum.to_le_bytes());
    block
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a block is shorter than 4 GiB")
}

fn checksum(lengths: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(lengths);
    hasher.update(stored);
    hasher.finalize()
}

/// Reads the next block into `raw`; `spare` is where it is unpacked from.
///
/// `most` is what a block may have in raw bytes.
///
/// # Errors
/// What the reader says, or that the bytes are not those that were written.
pub(super) fn read_block(
    from: &mut dyn Read,
    raw: &mut Vec<u8>,
    spare: &mut Vec<u8>,
    most: usize,
) -> io::Result<u64> {
    let mut header = [0; HEADER];
    from.read_exact(&mut header)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let (stored, length) = (word(0) as usize, word(4) as usize);
    if stored > length || length > most.min(LONGEST_BLOCK) {
        return Err(damaged("a block has an impossible length"));
    }
    let target = if stored == length { &mut *raw } else { &mut *spare };
    target.resize(stored, 0);
    from.read_exact(target)?;
    if checksum(&header[..8], target) != word(8) {
        return Err(damaged("the checksum of a block is wrong"));
    }
    if stored < length {
        raw.resize(length, 0);
        match lz4_flex::block::decompress_into(spare, raw) {
            Ok(found) if found == length => {}
            _ => return Err(damaged("a block cannot be decompressed")),
        }
    }
    Ok((HEADER + stored) as u64)
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Appends a pair as it stands in a block.
#[inline]
pub(super) fn push_pair(bytes: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    push_varint(bytes, key.len());
    push_varint(bytes, value.len());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
}

/// Where the pair that begins at `at` has its key and its value.
#[inline]
pub(super) fn pair(
    raw: &[u8],
    mut at: usize,
) -> io::Result<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let key = varint(raw, &mut at)?;
    let value = varint(raw, &mut at)?;
    let middle = at + key;
    if raw.len() < middle + value {
        return Err(damaged("a pair is longer than its block"));
    }
    Ok((at..middle, middle..middle + value))
}

#[inline]
fn push_varint(bytes: &mut Vec<u8>, number: usize) {
    let mut number = length(number);
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

#[inline]
fn varint(bytes: &[u8], at: &mut usize) -> io::Result<usize> {
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let Some(byte) = bytes.get(*at) else { break };
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number as usize);
        }
    }
    Err(damaged("a length is not one"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], most: usize) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let mut from = bytes;
        let (mut raw, mut spare, mut pairs) = (Vec::new(), Vec::new(), Vec::new());
        while !from.is_empty() {
            read_block(&mut from, &mut raw, &mut spare, most)?;
            let mut at = 0;
            while at < raw.len() {
                let (key, value) = pair(&raw, at)?;
                at = value.end;
                pairs.push((raw[key].to_vec(), raw[value].to_vec()));
            }
        }
        Ok(pairs)
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn pairs() -> impl Strategy<Value = Pairs> {
        let bytes = || proptest::collection::vec(0u8..4, 0..200);
        proptest::collection::vec((bytes(), bytes()), 0..20)
    }

    fn block(pairs: &Pairs, compress: bool) -> Vec<u8> {
        let mut builder = BlockBuilder::new(compress);
        for (key, value) in pairs {
            builder.push(key, value);
        }
        builder.seal().to_vec()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pairs in pairs(), compress in any::<bool>()) {
            prop_assert_eq!(read(&block(&pairs, compress), LONGEST_BLOCK).expect("readable"), pairs);
        }

        #[test]
        fn a_flipped_bit_is_noticed(pairs in pairs(), compress in any::<bool>(), at in any::<prop::sample::Index>(),
                                    bit in 0u8..8) {
            let mut bytes = block(&pairs, compress);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(read(&bytes, LONGEST_BLOCK).is_err());
        }

        #[test]
        fn any_bytes_are_an_error_or_pairs(bytes in proptest::collection::vec(any::<u8>(), 0..60), at in 0usize..60) {
            let _ = read(&bytes, LONGEST_BLOCK);
            let _ = pair(&bytes, at);
        }
    }

    #[test]
    fn a_length_that_nobody_announced_allocates_nothing() {
        let bytes = block(&vec![(vec![0; 1000], vec![])], false);
        assert!(read(&bytes, 1001).is_err());
        assert!(read(&bytes, 1003).is_ok());
    }
}
