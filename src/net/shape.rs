//! A look over a MessagePack value before anything is built from it.
//!
//! A decoder that believes an array header may set memory aside for four thousand million elements, or recurse until
//! the stack ends. This walk visits the headers only, allocates nothing, and lets pass exactly one value that fills
//! the frame, is not nested too deeply, and announces no more elements than there are bytes left.

use thiserror::Error;

/// Deepest nesting of arrays and maps. The deepest packet in use (a tree of supervisors) needs about 30.
pub const MAX_DEPTH: usize = 64;

/// What is wrong with the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// A value, or the contents that a header announces, would reach beyond the end.
    #[error("the value is cut short at byte {at}")]
    CutShort {
        /// Where the header of the value is.
        at: usize,
    },
    /// Arrays and maps inside each other, deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} at byte {at}")]
    TooDeep {
        /// Where the innermost header is.
        at: usize,
    },
    /// Bytes behind the value.
    #[error("bytes behind the value from byte {at} on")]
    Trailing {
        /// Where they begin.
        at: usize,
    },
    /// A type that the protocol does not use: an extension, or the byte that MessagePack never uses.
    #[error("type byte 0x{marker:02x} at byte {at} is not used by the protocol")]
    Unused {
        /// The type byte.
        marker: u8,
        /// Where it is.
        at: usize,
    },
}

/// What follows a type byte.
enum Header {
    /// This many bytes.
    Bytes(usize),
    /// This many values.
    Values(usize),
}

/// Checks that `body` is exactly one value, with lengths that can be true and a bounded depth.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(body: &[u8]) -> Result<(), ShapeError> {
    // How many values are still to come at each level, and in all.
    let mut open = [0usize; MAX_DEPTH];
    let mut depth = 0;
    let mut missing = 1usize;
    let mut at = 0;
    while missing > 0 {
        let (header, length) = header(body, at)?;
        missing -= 1;
        if depth > 0 {
            open[depth - 1] -= 1;
        }
        let behind = at + length;
        let left = body.len() - behind;
        match header {
            Header::Bytes(count) => {
                if count > left {
                    return Err(ShapeError::CutShort { at });
                }
                at = behind + count;
            }
            Header::Values(count) => {
                // Each value takes a byte at least; so all that is announced together must fit in what is left.
                if count > left || missing + count > left {
                    return Err(ShapeError::CutShort { at });
                }
                missing += count;
                if count > 0 {
                    if depth == MAX_DEPTH {
                        return Err(ShapeError::TooDeep { at });
                    }
                    open[depth] = count;
                    depth += 1;
                    at = behind;
                    continue;
                }
                at = behind;
            }
        }
        // The value was the last of its level, and perhaps that level the last of the one above.
        while depth > 0 && open[depth - 1] == 0 {
            depth -= 1;
        }
    }
    if at < body.len() { Err(ShapeError::Trailing { at }) } else { Ok(()) }
}

/// The header at `at`, and its own length.
fn header(body: &[u8], at: usize) -> Result<(Header, usize), ShapeError> {
    let marker = *body.get(at).ok_or(ShapeError::CutShort { at })?;
    let number = |width: usize| {
        let bytes = body.get(at + 1..at + 1 + width).ok_or(ShapeError::CutShort { at })?;
        Ok(bytes.iter().fold(0usize, |number, byte| number << 8 | usize::from(*byte)))
    };
    let low = |mask: u8| usize::from(marker & mask);
    Ok(match marker {
        // Small integers, nil and booleans are their own type byte.
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (Header::Bytes(0), 1),
        0x80..=0x8f => (Header::Values(2 * low(0x0f)), 1),
        0x90..=0x9f => (Header::Values(low(0x0f)), 1),
        0xa0..=0xbf => (Header::Bytes(low(0x1f)), 1),
        0xc4 | 0xd9 => (Header::Bytes(number(1)?), 2),
        0xc5 | 0xda => (Header::Bytes(number(2)?), 3),
        0xc6 | 0xdb => (Header::Bytes(number(4)?), 5),
        0xcc | 0xd0 => (Header::Bytes(1), 1),
        0xcd | 0xd1 => (Header::Bytes(2), 1),
        0xca | 0xce | 0xd2 => (Header::Bytes(4), 1),
        0xcb | 0xcf | 0xd3 => (Header::Bytes(8), 1),
        0xdc => (Header::Values(number(2)?), 3),
        0xdd => (Header::Values(number(4)?), 5),
        0xde => (Header::Values(2 * number(2)?), 3),
        0xdf => (Header::Values(number(4)?.saturating_mul(2)), 5),
        0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(ShapeError::Unused { marker, at }),
    })
}
