//! How a command stands in the log.
//!
//! A put travels through the log tens of thousands of times a second, so the form is binary rather than a map of names:
//! writing it is one allocation, and reading it copies nothing (keys and values are slices of the entry's bytes).
//!
//! ```text
//! command  := FORMAT(u8) flags(u8: 1 = stamped) time [group index seq acked_below] tag(u8) body
//! change   := tag(u8) bytes(key) ...            bytes := length, then so many bytes
//! numbers  := unsigned LEB128, shortest form only
//! ```
//!
//! Every command has exactly one form: longer numbers, unknown tags and flags, and bytes behind the end are refused.

use bytes::Bytes;

use super::command::{Change, Command, Expect, KvError, LeaseId, Lifetime, LogCommand, SessionId, Stamp};
use crate::logic::ids::GroupId;

/// First byte of every encoded command; another number is another format.
const FORMAT: u8 = 1;
/// Flag: the command has a stamp.
const STAMPED: u8 = 1;
/// No change takes fewer bytes: tag, empty key, condition.
const MIN_CHANGE_BYTES: usize = 3;

impl LogCommand {
    /// The command as bytes for a log entry. One allocation.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64 + command_bytes(&self.command));
        out.push(FORMAT);
        out.push(if self.stamp.is_some() { STAMPED } else { 0 });
        put_number(&mut out, self.time_ms);
        if let Some(stamp) = &self.stamp {
            put_number(&mut out, stamp.session.group.0.into());
            put_number(&mut out, stamp.session.index);
            put_number(&mut out, stamp.seq);
            put_number(&mut out, stamp.acked_below);
        }
        put_command(&mut out, &self.command);
        Bytes::from(out)
    }

    /// Reads what [`encode`](Self::encode) wrote. Keys and values share the memory of `encoded`.
    ///
    /// # Errors
    /// [`KvError::Malformed`] when the bytes are anything else.
    pub fn decode(encoded: &Bytes) -> Result<LogCommand, KvError> {
        let mut reader = Reader { data: encoded, at: 0 };
        reader.log_command().map_err(|why| KvError::Malformed(format!("{why}, near byte {}", reader.at)))
    }
}

/// An upper bound, up to a few bytes, of what the command's body takes.
fn command_bytes(command: &Command) -> usize {
    match command {
        Command::Change(change) => change_bytes(change),
        Command::Batch(changes) => changes.iter().map(change_bytes).sum(),
        Command::Claim { lock, owner, .. } => lock.len() + owner.len(),
        _ => 0,
    }
}

fn change_bytes(change: &Change) -> usize {
    48 + change.key().len() + change.value().map_or(0, Bytes::len)
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_lease(out: &mut Vec<u8>, lease: LeaseId) {
    put_number(out, lease.group.0.into());
    put_number(out, lease.index);
}

fn put_command(out: &mut Vec<u8>, command: &Command) {
    match command {
        Command::Change(change) => {
            out.push(0);
            put_change(out, change);
        }
        Command::Batch(changes) => {
            out.push(1);
            put_number(out, changes.len() as u64);
            for change in changes {
                put_change(out, change);
            }
        }
        Command::OpenSession => out.push(2),
        Command::OpenSessionAs { ttl_ms, window } => {
            out.push(3);
            put_number(out, *ttl_ms);
            put_number(out, (*window).into());
        }
        Command::KeepAlive => out.push(4),
        Command::CloseSession => out.push(5),
        Command::GrantLease { ttl_ms } => {
            out.push(6);
            put_number(out, *ttl_ms);
        }
        Command::RenewLease { lease } => {
            out.push(7);
            put_lease(out, *lease);
        }
        Command::RevokeLease { lease } => {
            out.push(8);
            put_lease(out, *lease);
        }
        Command::Advance => out.push(9),
        Command::Claim { lock, owner, ttl_ms, queue } => {
            out.push(10);
            put_bytes(out, lock);
            put_bytes(out, owner);
            put_number(out, *ttl_ms);
            out.push((*queue).into());
        }
    }
}

fn put_change(out: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Put { key, value, expect, lifetime } => {
            out.push(0);
            put_bytes(out, key);
            put_bytes(out, value);
            put_expect(out, *expect);
            put_lifetime(out, *lifetime);
        }
        Change::Append { key, value, expect } => {
            out.push(1);
            put_bytes(out, key);
            put_bytes(out, value);
            put_expect(out, *expect);
        }
        Change::Delete { key, expect } => {
            out.push(2);
            put_bytes(out, key);
            put_expect(out, *expect);
        }
        Change::Check { key, expect } => {
            out.push(3);
            put_bytes(out, key);
            put_expect(out, *expect);
        }
        Change::Fence { lock, token } => {
            out.push(4);
            put_bytes(out, lock);
            put_number(out, *token);
        }
    }
}

fn put_expect(out: &mut Vec<u8>, expect: Expect) {
    match expect {
        Expect::Any => out.push(0),
        Expect::Absent => out.push(1),
        Expect::Version(version) => {
            out.push(2);
            put_number(out, version);
        }
    }
}

fn put_lifetime(out: &mut Vec<u8>, lifetime: Lifetime) {
    match lifetime {
        Lifetime::Forever => out.push(0),
        Lifetime::Ttl(ttl_ms) => {
            out.push(1);
            put_number(out, ttl_ms);
        }
        Lifetime::Lease(lease) => {
            out.push(2);
            put_lease(out, lease);
        }
    }
}

/// What is wrong with the bytes.
type Why = &'static str;

struct Reader<'a> {
    data: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn log_command(&mut self) -> Result<LogCommand, Why> {
        if self.byte()? != FORMAT {
            return Err("unknown format");
        }
        let flags = self.byte()?;
        if flags & !STAMPED != 0 {
            return Err("unknown flags");
        }
        let time_ms = self.number()?;
        let stamp = if flags & STAMPED == 0 { None } else { Some(self.stamp()?) };
        let command = self.command()?;
        if self.left() > 0 {
            return Err("bytes behind the end");
        }
        Ok(LogCommand { time_ms, stamp, command })
    }

    fn left(&self) -> usize {
        self.data.len() - self.at
    }

    fn byte(&mut self) -> Result<u8, Why> {
        let byte = *self.data.get(self.at).ok_or("cut short")?;
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64, Why> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err("number above 64 bits");
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err("number not in its shortest form")
                } else {
                    Ok(number)
                };
            }
        }
        Err("number above 64 bits")
    }

    fn number32(&mut self) -> Result<u32, Why> {
        u32::try_from(self.number()?).map_err(|_| "number above 32 bits")
    }

    fn yes_or_no(&mut self) -> Result<bool, Why> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("neither yes nor no"),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, Why> {
        let length = self.number()?;
        if length > self.left() as u64 {
            return Err("cut short");
        }
        let start = self.at;
        self.at += length as usize;
        Ok(self.data.slice(start..self.at))
    }

    fn stamp(&mut self) -> Result<Stamp, Why> {
        let session = SessionId { group: GroupId(self.number32()?), index: self.number()? };
        Ok(Stamp { session, seq: self.number()?, acked_below: self.number()? })
    }

    fn lease(&mut self) -> Result<LeaseId, Why> {
        Ok(LeaseId { group: GroupId(self.number32()?), index: self.number()? })
    }

    fn command(&mut self) -> Result<Command, Why> {
        Ok(match self.byte()? {
            0 => Command::Change(self.change()?),
            1 => Command::Batch(self.changes()?),
            2 => Command::OpenSession,
            3 => Command::OpenSessionAs { ttl_ms: self.number()?, window: self.number32()? },
            4 => Command::KeepAlive,
            5 => Command::CloseSession,
            6 => Command::GrantLease { ttl_ms: self.number()? },
            7 => Command::RenewLease { lease: self.lease()? },
            8 => Command::RevokeLease { lease: self.lease()? },
            9 => Command::Advance,
            10 => Command::Claim {
                lock: self.bytes()?,
                owner: self.bytes()?,
                ttl_ms: self.number()?,
                queue: self.yes_or_no()?,
            },
            _ => return Err("unknown command"),
        })
    }

    fn changes(&mut self) -> Result<Vec<Change>, Why> {
        let count = self.number()?;
        if count > (self.left() / MIN_CHANGE_BYTES) as u64 {
            return Err("more changes than bytes");
        }
        (0..count).map(|_| self.change()).collect()
    }

    fn change(&mut self) -> Result<Change, Why> {
        let tag = self.byte()?;
        let key = self.bytes()?;
        Ok(match tag {
            0 => {
                Change::Put { key, value: self.bytes()?, expect: self.expect()?, lifetime: self.lifetime()? }
            }
            1 => Change::Append { key, value: self.bytes()?, expect: self.expect()? },
            2 => Change::Delete { key, expect: self.expect()? },
            3 => Change::Check { key, expect: self.expect()? },
            4 => Change::Fence { lock: key, token: self.number()? },
            _ => return Err("unknown change"),
        })
    }

    fn expect(&mut self) -> Result<Expect, Why> {
        Ok(match self.byte()? {
            0 => Expect::Any,
            1 => Expect::Absent,
            2 => Expect::Version(self.number()?),
            _ => return Err("unknown condition"),
        })
    }

    fn lifetime(&mut self) -> Result<Lifetime, Why> {
        Ok(match self.byte()? {
            0 => Lifetime::Forever,
            1 => Lifetime::Ttl(self.number()?),
            2 => Lifetime::Lease(self.lease()?),
            _ => return Err("unknown lifetime"),
        })
    }
}

#[cfg(test)]
mod tests;
