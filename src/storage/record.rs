//! The payload of a frame: records, each about one group.
//!
//! Everything is little-endian and of fixed width; `docs/storage.md` has the tables.

use bytes::Bytes;

use crate::logic::ids::{GroupId, Index, LogPosition, NodeId, Term};
use crate::logic::raft::entry::SnapshotMark;
use crate::logic::raft::entry::{Entry, HardState, Payload, SnapshotMeta};
use crate::logic::raft::membership::Membership;

const ENTRIES: u8 = 1;
const HARD_STATE: u8 = 2;
const COMPACT: u8 = 3;
const SNAPSHOT: u8 = 4;
const META: u8 = 5;
const BEGIN: u8 = 6;

const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes in front of an entry's data: term, kind, length.
const ENTRY_HEADER: usize = 13;
/// Bytes in front of the entries of a record: kind, group, first index, count.
const ENTRIES_HEADER: usize = 17;

/// Where an entry lies within the payload that it was decoded from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntrySpan {
    /// Term of the entry.
    pub term: Term,
    /// Offset of its header within the payload.
    pub at: u32,
    /// Length with header.
    pub length: u32,
}

/// State of a group when a segment was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupMeta {
    /// The group.
    pub group: GroupId,
    /// Term and vote.
    pub hard_state: HardState,
    /// Position before the first entry.
    pub compacted: LogPosition,
    /// Position of the last entry.
    pub last: LogPosition,
    /// The latest snapshot.
    pub snapshot: Option<SnapshotMark>,
}

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    /// Entries that replace everything from `first` on. Of a whole group's log when a segment is given up.
    Entries { group: GroupId, first: Index, spans: Vec<EntrySpan> },
    /// Term and vote.
    HardState { group: GroupId, hard_state: HardState },
    /// The log begins after `to`. Without `keep_tail`, everything behind it is dropped as well.
    Compact { group: GroupId, to: LogPosition, keep_tail: bool },
    /// A snapshot file is complete.
    Snapshot { mark: SnapshotMark },
    /// First record of a segment: how many groups follow.
    Begin { groups: u32 },
    /// State of a group at the beginning of a segment.
    Meta(GroupMeta),
}

/// Bytes that entries occupy as one record.
pub(crate) fn entries_size(entries: &[Entry]) -> usize {
    ENTRIES_HEADER + entries.iter().map(|entry| ENTRY_HEADER + data_size(&entry.payload)).sum::<usize>()
}

fn data_size(payload: &Payload) -> usize {
    match payload {
        Payload::Noop => 0,
        Payload::Command(data) => data.len(),
        Payload::Membership(membership) => 12 + membership.cost(),
    }
}

/// Upper bound of the bytes of every record but entries.
pub(crate) fn small_records_size(mark: Option<&SnapshotMark>) -> usize {
    const HARD_STATE_AND_TWO_COMPACTIONS: usize = 22 + 2 * 22;
    HARD_STATE_AND_TWO_COMPACTIONS
        + mark.map_or(0, |mark| 64 + mark.meta.membership.to_bytes().len() + mark.name.len())
}

/// Appends a record of entries, and tells `each` the span of every entry, relative to the start of `out`.
pub(crate) fn encode_entries(
    out: &mut Vec<u8>,
    group: GroupId,
    entries: &[Entry],
    mut each: impl FnMut(EntrySpan),
) {
    let first = entries.first().expect("a record of entries holds at least one").index;
    head(out, ENTRIES, group);
    put_u64(out, first);
    put_u32(out, length(entries.len()));
    for entry in entries {
        let at = out.len();
        put_u64(out, entry.term);
        match &entry.payload {
            Payload::Noop => put_data(out, NOOP, &[]),
            Payload::Command(data) => put_data(out, COMMAND, data),
            Payload::Membership(membership) => put_data(out, MEMBERSHIP, &membership.to_bytes()),
        }
        each(EntrySpan { term: entry.term, at: length(at), length: length(out.len() - at) });
    }
}

/// Appends a record of term and vote.
pub(crate) fn encode_hard_state(out: &mut Vec<u8>, group: GroupId, hard_state: HardState) {
    head(out, HARD_STATE, group);
    put_hard_state(out, hard_state);
}

/// Appends a record of compaction.
pub(crate) fn encode_compact(out: &mut Vec<u8>, group: GroupId, to: LogPosition, keep_tail: bool) {
    head(out, COMPACT, group);
    put_position(out, to);
    out.push(u8::from(keep_tail));
}

/// Appends a record of a snapshot.
pub(crate) fn encode_snapshot(out: &mut Vec<u8>, mark: &SnapshotMark) {
    head(out, SNAPSHOT, mark.meta.group);
    put_mark(out, mark);
}

/// Appends the record that every segment begins with.
pub(crate) fn encode_begin(out: &mut Vec<u8>, groups: usize) {
    head(out, BEGIN, GroupId(length(groups)));
}

/// Appends the state of a group.
pub(crate) fn encode_meta(out: &mut Vec<u8>, meta: &GroupMeta) {
    head(out, META, meta.group);
    put_hard_state(out, meta.hard_state);
    put_position(out, meta.compacted);
    put_position(out, meta.last);
    out.push(u8::from(meta.snapshot.is_some()));
    if let Some(mark) = &meta.snapshot {
        put_mark(out, mark);
    }
}

fn head(out: &mut Vec<u8>, kind: u8, group: GroupId) {
    out.push(kind);
    put_u32(out, group.0);
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_position(out: &mut Vec<u8>, position: LogPosition) {
    put_u64(out, position.index);
    put_u64(out, position.term);
}

fn put_hard_state(out: &mut Vec<u8>, hard_state: HardState) {
    put_u64(out, hard_state.term);
    out.push(u8::from(hard_state.vote.is_some()));
    put_u64(out, hard_state.vote.map_or(0, |node| node.0));
}

fn put_data(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.push(kind);
    put_u32(out, length(data.len()));
    out.extend_from_slice(data);
}

fn put_bytes(out: &mut Vec<u8>, data: &[u8]) {
    put_u32(out, length(data.len()));
    out.extend_from_slice(data);
}

fn put_mark(out: &mut Vec<u8>, mark: &SnapshotMark) {
    put_position(out, mark.meta.last);
    put_u32(out, mark.digest);
    put_bytes(out, mark.name.as_bytes());
    put_bytes(out, &mark.meta.membership.to_bytes());
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("batches are limited so that a frame fits u32")
}

/// A cursor over the payload of a verified frame. Errors say what is wrong: such a frame was written by another
/// program, or by a bug.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Decoded<T> = Result<T, &'static str>;

impl<'a> Reader<'a> {
    /// A cursor at the start of a payload.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// The next record, or `None` at the end.
    pub fn record(&mut self) -> Decoded<Option<Record>> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let kind = self.u8()?;
        let group = GroupId(self.u32()?);
        Ok(Some(match kind {
            ENTRIES => self.entries(group)?,
            HARD_STATE => Record::HardState { group, hard_state: self.hard_state()? },
            COMPACT => Record::Compact { group, to: self.position()?, keep_tail: self.flag()? },
            SNAPSHOT => Record::Snapshot { mark: self.mark(group)? },
            BEGIN => Record::Begin { groups: group.0 },
            META => Record::Meta(GroupMeta {
                group,
                hard_state: self.hard_state()?,
                compacted: self.position()?,
                last: self.position()?,
                snapshot: if self.flag()? { Some(self.mark(group)?) } else { None },
            }),
            _ => return Err("a record of an unknown kind"),
        }))
    }

    fn entries(&mut self, group: GroupId) -> Decoded<Record> {
        let first = self.u64()?;
        let count = self.u32()? as usize;
        if first == 0 || count == 0 || count > self.bytes.len() / ENTRY_HEADER {
            return Err("a record of entries with an impossible first index or count");
        }
        let mut spans = Vec::with_capacity(count);
        for _ in 0..count {
            let at = self.at;
            let term = self.u64()?;
            self.u8()?;
            self.bytes()?;
            spans.push(EntrySpan { term, at: length(at), length: length(self.at - at) });
        }
        Ok(Record::Entries { group, first, spans })
    }

    fn take(&mut self, count: usize) -> Decoded<&'a [u8]> {
        let end = self.at.checked_add(count).ok_or("a record with an impossible length")?;
        let taken = self.bytes.get(self.at..end).ok_or("a record that is cut short")?;
        self.at = end;
        Ok(taken)
    }

    fn u8(&mut self) -> Decoded<u8> {
        Ok(self.take(1)?[0])
    }

    fn flag(&mut self) -> Decoded<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err("a flag that is neither 0 nor 1"),
        }
    }

    fn u32(&mut self) -> Decoded<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")))
    }

    fn u64(&mut self) -> Decoded<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn bytes(&mut self) -> Decoded<&'a [u8]> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn position(&mut self) -> Decoded<LogPosition> {
        Ok(LogPosition { index: self.u64()?, term: self.u64()? })
    }

    fn hard_state(&mut self) -> Decoded<HardState> {
        let term = self.u64()?;
        let voted = self.flag()?;
        let node = NodeId(self.u64()?);
        Ok(HardState { term, vote: voted.then_some(node) })
    }

    fn mark(&mut self, group: GroupId) -> Decoded<SnapshotMark> {
        let last = self.position()?;
        let digest = self.u32()?;
        let name = String::from_utf8(self.bytes()?.to_vec()).map_err(|_| "a file name that is not UTF-8")?;
        let membership = Membership::from_bytes(self.bytes()?)?;
        Ok(SnapshotMark { meta: SnapshotMeta { group, last, membership }, name, digest })
    }
}

/// Decodes one entry from the bytes that its span covers.
pub(crate) fn decode_entry(index: Index, bytes: &[u8]) -> Decoded<Entry> {
    let mut reader = Reader::new(bytes);
    let term = reader.u64()?;
    let kind = reader.u8()?;
    let data = reader.bytes()?;
    let payload = match kind {
        NOOP => Payload::Noop,
        COMMAND => Payload::Command(Bytes::copy_from_slice(data)),
        MEMBERSHIP => Payload::Membership(Membership::from_bytes(data)?),
        _ => return Err("an entry of an unknown kind"),
    };
    Ok(Entry { index, term, payload })
}
