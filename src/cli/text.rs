//! Keys, values, durations and leases as people write and read them.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::logic::hex;
use crate::logic::ids::GroupId;
use crate::logic::kv::command::LeaseId;

/// Reads a duration such as `250ms`, `30s`, `5m`, `2h` or `1d`.
///
/// # Errors
/// A sentence, when it is not one.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    const FORM: &str = "write a number and a unit: 250ms, 30s, 5m, 2h or 1d";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" => return Err(format!("{text:?} has no unit; {FORM}")),
        _ => return Err(format!("{text:?} is not a duration; {FORM}")),
    };
    let number: u64 = number.parse().map_err(|_| format!("{text:?} is not a duration; {FORM}"))?;
    let millis = number.checked_mul(millis).ok_or_else(|| format!("{text:?} is too long"))?;
    Ok(Duration::from_millis(millis))
}

/// The same in milliseconds, at least 1: a time to live.
pub(super) fn parse_ttl_ms(text: &str) -> Result<u64, String> {
    match u64::try_from(parse_duration(text)?.as_millis()) {
        Ok(0) => Err("a time to live of 0 would be over at once".into()),
        Ok(ms) => Ok(ms),
        Err(_) => Err(format!("{text:?} is too long")),
    }
}

/// Reads a lease as `quorate lease grant` prints it: `GROUP:INDEX`.
pub(super) fn parse_lease(text: &str) -> Result<LeaseId, String> {
    let parts =
        text.split_once(':').and_then(|(group, index)| Some((group.parse().ok()?, index.parse().ok()?)));
    match parts {
        Some((group, index)) => Ok(LeaseId { group: GroupId(group), index }),
        None => {
            Err(format!("{text:?} is not a lease; write what `quorate lease grant` printed, such as 1:42"))
        }
    }
}

/// A lease as [`parse_lease`] reads it.
pub(super) fn lease_text(lease: LeaseId) -> String {
    format!("{}:{}", lease.group.0, lease.index)
}

/// Reads hexadecimal bytes.
pub(super) fn parse_hex(text: &str) -> Result<Bytes, String> {
    match hex::read(text) {
        Some(bytes) => Ok(bytes.into()),
        None => Err(format!("{text:?} is not hexadecimal; write two digits for each byte, such as 00ff")),
    }
}

/// A key or value of the command line: its UTF-8 bytes, or with `--hex` the bytes it spells.
pub(super) fn parse_bytes(text: &str, hex: bool) -> Result<Bytes, String> {
    if hex { parse_hex(text) } else { Ok(Bytes::copy_from_slice(text.as_bytes())) }
}

/// What an escaped text keeps as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// Line ends and tabs: for one value shown on a terminal.
    Lines,
    /// Neither: for a field of a line.
    Nothing,
}

/// Bytes as printable text. Backslashes, control characters and what is not UTF-8 are escaped as `\\`, `\n`, `\t`,
/// `\r` and `\xNN`, so that different bytes give different texts and no byte can play with the terminal.
pub(super) fn escape(bytes: &[u8], keep: Keep) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\n' | '\t' if keep == Keep::Lines => text.push(c),
                '\n' => text.push_str("\\n"),
                '\t' => text.push_str("\\t"),
                '\r' => text.push_str("\\r"),
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => escape_raw(c.encode_utf8(&mut [0; 4]).as_bytes(), &mut text),
                c => text.push(c),
            }
        }
        escape_raw(chunk.invalid(), &mut text);
    }
    text
}

fn escape_raw(bytes: &[u8], text: &mut String) {
    for byte in bytes {
        let _ = write!(text, "\\x{byte:02x}");
    }
}

/// Puts bytes into a JSON object: as `name` where they are UTF-8, else in hexadecimal as `name_hex`.
pub(super) fn json_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => object.insert(name.into(), text.into()),
        Err(_) => object.insert(format!("{name}_hex"), hex::write(bytes).into()),
    };
}

/// A size for people.
pub(super) fn size_text(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut size = bytes as f64;
    while size >= 1024.0 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{size:.1} {}", UNITS[unit]) }
}

/// A duration for people, coarse.
pub(super) fn age_text(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        s @ 3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        s => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in
            ["", "5", "s", "-1s", "1.5s", "1 s", "1w", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_ttl_ms("0s").is_err());
    }

    #[test]
    fn hexadecimal_is_read_as_it_is_written() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_hex(&hex::write(&bytes)), Ok(Bytes::from(bytes)));
        assert_eq!(parse_hex("FFfe"), Ok(Bytes::from_static(&[0xff, 0xfe])));
        for bad in ["f", "fg", "0x00", "+1", "é"] {
            assert!(parse_hex(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn keys_are_their_utf8_bytes_unless_they_are_hexadecimal() {
        assert_eq!(parse_bytes("ff", false), Ok(Bytes::from_static(b"ff")));
        assert_eq!(parse_bytes("ff", true), Ok(Bytes::from_static(&[0xff])));
        assert_eq!(parse_bytes("é", false), Ok(Bytes::from_static(&[0xc3, 0xa9])));
        assert_eq!(parse_bytes("", false), Ok(Bytes::new()));
    }

    #[test]
    fn escaped_text_cannot_play_with_the_terminal_and_keeps_bytes_apart() {
        assert_eq!(
            escape(b"a\\b\n\t\r\x1b[2J\xff\xc3\xa9", Keep::Nothing),
            "a\\\\b\\n\\t\\r\\x1b[2J\\xff\u{e9}"
        );
        assert_eq!(escape(b"a\n\tb\x07", Keep::Lines), "a\n\tb\\x07");
        assert_eq!(escape("\u{9b}".as_bytes(), Keep::Lines), "\\xc2\\x9b");
    }

    #[test]
    fn leases_are_read_as_they_are_written() {
        let lease = LeaseId { group: GroupId(7), index: 42 };
        assert_eq!(parse_lease(&lease_text(lease)), Ok(lease));
        for bad in ["", "7", "7:", ":1", "a:b", "-1:2"] {
            assert!(parse_lease(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_and_ages_are_short() {
        let sizes = [0, 1023, 1024, 1536, 5 << 30].map(size_text);
        assert_eq!(sizes, ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "5.0 GiB"]);
        let ages = [999, 61_000, 3_660_000, 90_000_000].map(age_text);
        assert_eq!(ages, ["0s", "1m01s", "1h01m", "1d01h"]);
    }
}
