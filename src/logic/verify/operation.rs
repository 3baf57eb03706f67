//! What a client asked, when, and what it was told.

use std::fmt;

use bytes::Bytes;

use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Change, Changed, Expect, Reply, Version};

/// One call of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who called. Only a name for the verdict: a client may have several calls under way.
    pub client: u64,
    /// When it called, by a clock that all clients of the history share; the unit is free.
    pub call: u64,
    /// When the answer was there; not before the call. Without meaning for [`Answer::Unknown`] and [`Answer::Failed`].
    pub returned: u64,
    /// What it asked for.
    pub action: Action,
    /// What it was told.
    pub answer: Answer,
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The value of a key.
    Get {
        /// The key.
        key: Bytes,
    },
    /// One change. Only changes that last: lifetimes are not judged.
    Change(Change),
    /// Several changes, all or none, in order.
    Batch(Vec<Change>),
}

impl Action {
    /// The changes, if it is not a get.
    pub fn changes(&self) -> &[Change] {
        match self {
            Action::Get { .. } => &[],
            Action::Change(change) => std::slice::from_ref(change),
            Action::Batch(changes) => changes,
        }
    }

    /// The keys that it reads or changes; a key may occur several times.
    pub fn keys(&self) -> impl Iterator<Item = &Bytes> {
        let read = if let Action::Get { key } = self { Some(key) } else { None };
        read.into_iter().chain(self.changes().iter().map(Change::key))
    }
}

/// What a client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a get: the key has this value.
    Found {
        /// The value.
        value: Bytes,
        /// Its version, where it was told.
        version: Option<Version>,
    },
    /// To a get: there is no such key.
    Absent,
    /// Carried out; for each change what was told of it.
    Done(Vec<Option<Changed>>),
    /// Surely not carried out, because a condition did not hold.
    Refused {
        /// Which change of a batch, starting at 0; `None` where it was not told.
        position: Option<u32>,
        /// Why.
        why: Refusal,
    },
    /// The lab's `ErrMaybe`: carried out, or refused at some moment between call and return; nothing happens later.
    Maybe,
    /// No answer: carried out at any time after the call, even after the client gave up, or never.
    Unknown,
    /// Surely not carried out, for a reason that does not concern the store.
    Failed,
}

/// Which condition did not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The key is absent, and a version above 0 was expected.
    NoKey,
    /// The key exists, with another version than the one expected.
    Version {
        /// The version that it has, where it was told.
        actual: Option<Version>,
    },
}

impl Answer {
    /// What the result of a call of the client library says to this action.
    pub fn of(action: &Action, result: &Result<Reply, ClerkError>) -> Answer {
        match result {
            Ok(Reply::Value { value, version }) => {
                Answer::Found { value: value.clone(), version: Some(*version) }
            }
            Ok(Reply::Changed(changed)) => Answer::Done(vec![Some(*changed)]),
            Ok(Reply::Batch(changed)) => Answer::Done(changed.iter().copied().map(Some).collect()),
            Ok(_) => Answer::Failed,
            Err(ClerkError::NotFound) if matches!(action, Action::Get { .. }) => Answer::Absent,
            Err(ClerkError::Batch { position, error }) => match refusal(error) {
                Some(why) => Answer::Refused { position: Some(*position), why },
                None => Answer::Failed,
            },
            Err(error) if error.is_maybe() => Answer::Unknown,
            Err(error) => match refusal(error) {
                Some(why) => Answer::Refused { position: None, why },
                None => Answer::Failed,
            },
        }
    }
}

fn refusal(error: &ClerkError) -> Option<Refusal> {
    match error {
        ClerkError::NotFound => Some(Refusal::NoKey),
        ClerkError::VersionMismatch { actual } => Some(Refusal::Version { actual: Some(*actual) }),
        _ => None,
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.action {
            Action::Get { key } => write!(f, "get {}", shown(key))?,
            Action::Change(change) => write_change(f, change)?,
            Action::Batch(changes) => {
                for (position, change) in changes.iter().enumerate() {
                    f.write_str(if position == 0 { "batch of " } else { ", " })?;
                    write_change(f, change)?;
                }
            }
        }
        write!(f, " by client {}, called at {}, ", self.client, self.call)?;
        match &self.answer {
            Answer::Unknown => return f.write_str("never answered"),
            Answer::Failed => return f.write_str("failed"),
            _ => write!(f, "answered at {} with ", self.returned)?,
        }
        write_answer(f, &self.answer)
    }
}

fn write_change(f: &mut fmt::Formatter<'_>, change: &Change) -> fmt::Result {
    let (name, expect) = match change {
        Change::Put { expect, .. } => ("put", expect),
        Change::Append { expect, .. } => ("append", expect),
        Change::Delete { expect, .. } => ("delete", expect),
        Change::Check { expect, .. } => ("check", expect),
    };
    write!(f, "{name} {}", shown(change.key()))?;
    if let Some(value) = change.value() {
        write!(f, " {}", shown(value))?;
    }
    match expect {
        Expect::Any => Ok(()),
        Expect::Absent => f.write_str(" if absent"),
        Expect::Version(version) => write!(f, " if at version {version}"),
    }
}

fn write_answer(f: &mut fmt::Formatter<'_>, answer: &Answer) -> fmt::Result {
    match answer {
        Answer::Found { value, version: None } => write!(f, "{}", shown(value)),
        Answer::Found { value, version: Some(version) } => {
            write!(f, "{} at version {version}", shown(value))
        }
        Answer::Absent | Answer::Refused { why: Refusal::NoKey, .. } => f.write_str("\"no such key\""),
        Answer::Done(changes) => match changes[..] {
            [Some(Changed::Version(version))] => write!(f, "version {version}"),
            [Some(Changed::Deleted { existed })] => write!(f, "existed: {existed}"),
            _ => f.write_str("\"done\""),
        },
        Answer::Refused { why: Refusal::Version { actual: Some(actual) }, .. } => {
            write!(f, "\"it has version {actual}\"")
        }
        Answer::Refused { .. } => f.write_str("\"it has another version\""),
        Answer::Maybe => f.write_str("\"maybe\""),
        Answer::Unknown | Answer::Failed => Ok(()),
    }
}

/// Bytes as short text in quotes that cannot play with a terminal.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 40;
    match bytes {
        _ if bytes.len() <= LONGEST => format!("\"{}\"", bytes.escape_ascii()),
        _ => format!("\"{}...\" ({} bytes)", bytes[..LONGEST].escape_ascii(), bytes.len()),
    }
}
