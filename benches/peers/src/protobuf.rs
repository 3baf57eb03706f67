//! The few messages of etcd's API that a measurement needs, in the protocol buffers encoding.

use anyhow::Context as _;
use bytes::{Buf, BufMut, BytesMut};

/// Kinds of fields, the low three bits of a tag.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

fn put_bytes(out: &mut BytesMut, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | BYTES);
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// `PutRequest { key = 1, value = 2 }`
pub fn put_request(out: &mut BytesMut, key: &[u8], value: &[u8]) {
    put_bytes(out, 1, key);
    put_bytes(out, 2, value);
}

/// `RangeRequest { key = 1 }`: one key, and linearizable, which is the default.
pub fn range_request(out: &mut BytesMut, key: &[u8]) {
    put_bytes(out, 1, key);
}

#[derive(Debug, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn varint(rest: &mut &[u8]) -> anyhow::Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = rest.try_get_u8().context("a number is cut off")?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    anyhow::bail!("a number of more than 64 bits")
}

/// The next field of a message and its number; `None` at the end.
fn field<'a>(rest: &mut &'a [u8]) -> anyhow::Result<Option<(u64, Value<'a>)>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let tag = varint(rest)?;
    let value = match tag & 7 {
        VARINT => Value::Number(varint(rest)?),
        FIXED64 => Value::Number(rest.try_get_u64_le()?),
        FIXED32 => Value::Number(rest.try_get_u32_le()?.into()),
        BYTES => {
            let length = usize::try_from(varint(rest)?)?;
            let (bytes, after) = rest.split_at_checked(length).context("a field is cut off")?;
            *rest = after;
            Value::Bytes(bytes)
        }
        kind => anyhow::bail!("a field of unknown kind {kind}"),
    };
    Ok(Some((tag >> 3, value)))
}

/// The last occurrence of a field: the one that counts, where a field may occur once.
fn find<'a>(mut message: &'a [u8], wanted: u64) -> anyhow::Result<Option<Value<'a>>> {
    let mut found = None;
    while let Some((number, value)) = field(&mut message)? {
        if number == wanted {
            found = Some(value);
        }
    }
    Ok(found)
}

fn number(message: &[u8], wanted: u64) -> anyhow::Result<u64> {
    match find(message, wanted)? {
        None => Ok(0),
        Some(Value::Number(number)) => Ok(number),
        Some(Value::Bytes(_)) => anyhow::bail!("field {wanted} is not a number"),
    }
}

fn bytes(message: &[u8], wanted: u64) -> anyhow::Result<&[u8]> {
    match find(message, wanted)? {
        None => Ok(&[]),
        Some(Value::Bytes(bytes)) => Ok(bytes),
        Some(Value::Number(_)) => anyhow::bail!("field {wanted} is a number"),
    }
}

/// The value in a `RangeResponse { kvs = 2: KeyValue { value = 5 } }`; `None` when there is no such key.
pub fn range_value(response: &[u8]) -> anyhow::Result<Option<&[u8]>> {
    match find(response, 2)? {
        None => Ok(None),
        Some(Value::Bytes(pair)) => bytes(pair, 5).map(Some),
        Some(Value::Number(_)) => anyhow::bail!("the answer is no range"),
    }
}

/// What a member says about itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Status {
    pub member: u64,
    /// 0: none is known.
    pub leader: u64,
}

/// `StatusResponse { header = 1: ResponseHeader { member_id = 2 }, leader = 4 }`
pub fn status(response: &[u8]) -> anyhow::Result<Status> {
    Ok(Status { member: number(bytes(response, 1)?, 2)?, leader: number(response, 4)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_encoded_as_others_encode_them() {
        let mut out = BytesMut::new();
        put_request(&mut out, b"k1", &[b'v'; 256]);
        assert_eq!(&out[..7], b"\x0a\x02k1\x12\x80\x02");
        assert_eq!(out.len(), 7 + 256);
        out.clear();
        range_request(&mut out, b"k1");
        assert_eq!(&out[..], b"\x0a\x02k1");
    }

    #[test]
    fn the_value_of_a_range_is_found_among_other_fields() {
        // header { revision: 300 }, kvs { key: "k", mod_revision: 7, value: "abc" }, count: 1
        let response = b"\x0a\x03\x18\xac\x02\x12\x0a\x0a\x01k\x18\x07\x2a\x03abc\x20\x01";
        assert_eq!(range_value(response).expect("whole"), Some(&b"abc"[..]));
        assert_eq!(range_value(b"\x0a\x03\x18\xac\x02").expect("whole"), None);
        for cut in 1..response.len() - 2 {
            let found = range_value(&response[..cut]);
            assert!(!matches!(found, Ok(Some(_))), "cut at {cut}: {found:?}");
        }
    }

    #[test]
    fn a_status_names_the_member_and_its_leader() {
        // header { member_id: 5 }, version: "3", leader: 9
        let response = b"\x0a\x02\x10\x05\x12\x013\x20\x09";
        assert_eq!(status(response).expect("whole"), Status { member: 5, leader: 9 });
        assert_eq!(status(b"\x0a\x02\x10\x05").expect("whole").leader, 0);
        assert!(status(&[0xff; 11]).is_err());
    }
}
