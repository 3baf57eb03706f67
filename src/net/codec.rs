//! Frames: a big-endian u32 length, and that many bytes of MessagePack. Pure: bytes in, packets out.

use bytes::{Buf, BufMut, BytesMut};
use thiserror::Error;

use super::shape::{self, ShapeError};
use crate::messages::encoding;
use crate::messages::wire::Packet;

/// Bytes of the length in front of every frame.
pub const HEADER: usize = 4;

/// Why bytes are not a frame, or a packet cannot become one. The connection cannot go on after a decoding error:
/// where the next frame begins is no longer certain.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The frame, or the packet to be sent, is longer than allowed.
    #[error("a frame of {length} bytes is above the limit of {limit}")]
    TooLong {
        /// Length announced or needed, without the header.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The frame is not exactly one well-formed MessagePack value.
    #[error("malformed frame: {0}")]
    Shape(#[from] ShapeError),
    /// The value is not a packet.
    #[error("not a packet: {0}")]
    Packet(#[from] encoding::EncodingError),
}

/// Encodes and decodes frames up to a size.
#[derive(Clone, Copy, Debug)]
pub struct Codec {
    max_frame: usize,
}

impl Codec {
    /// A codec for frames of at most `max_frame` bytes, the header not counted.
    pub fn new(max_frame: usize) -> Self {
        Codec { max_frame: max_frame.min(u32::MAX as usize) }
    }

    /// The longest frame allowed, in bytes, without the header.
    pub fn max_frame(&self) -> usize {
        self.max_frame
    }

    /// Takes the first frame out of `buffer`, or `None` while it is incomplete (then nothing is taken).
    ///
    /// It allocates nothing but the packet, whose size is bounded by that of the frame: announced lengths are
    /// compared with the bytes that are really there before anything believes them.
    ///
    /// # Errors
    /// When the frame is too long (noticed at its header) or malformed. The buffer is then of no more use.
    pub fn decode(&self, buffer: &mut BytesMut) -> Result<Option<Packet>, CodecError> {
        let Some((header, rest)) = buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = u32::from_be_bytes(*header) as usize;
        if length > self.max_frame {
            return Err(CodecError::TooLong { length, limit: self.max_frame });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        shape::check(body)?;
        let packet = encoding::read(body)?;
        buffer.advance(HEADER + length);
        Ok(Some(packet))
    }

    /// Appends the packet's frame to `buffer`, which is left as it was on error.
    ///
    /// # Errors
    /// When the frame would be too long.
    pub fn encode(&self, packet: &Packet, buffer: &mut BytesMut) -> Result<(), CodecError> {
        let start = buffer.len();
        buffer.put_bytes(0, HEADER);
        let written = encoding::write(packet, buffer);
        let length = buffer.len() - start - HEADER;
        if written.is_err() || length > self.max_frame {
            buffer.truncate(start);
            written?;
            return Err(CodecError::TooLong { length, limit: self.max_frame });
        }
        let header = u32::try_from(length).expect("max_frame is at most u32::MAX").to_be_bytes();
        buffer[start..start + HEADER].copy_from_slice(&header);
        Ok(())
    }
}
