//! What clients asked for and were told: one record for each call.

use std::time::Duration;

use bytes::Bytes;

use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Change, Changed, Expect, LeaseId, Lifetime, Reply, Version};
use crate::logic::verify::{Action, Answer, Operation};
use crate::node::client::Versioned;

/// The key that clients take under leases.
pub(super) const LOCK: Bytes = Bytes::from_static(b"lock");

/// A call that has ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// Which client.
    pub client: u32,
    /// When it began, since the simulation began.
    pub begun: Duration,
    /// When it ended.
    pub ended: Duration,
    /// How many calls of all clients had begun or ended before it began...
    pub before: u64,
    /// ...and before it ended: the order of events, also of those at one instant.
    pub after: u64,
    /// What was asked.
    pub ask: Ask,
    /// What came of it.
    pub told: Result<Told, ClerkError>,
}

/// What was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The value of a key, linearizably or from the leader's lease.
    Get(Bytes),
    /// A put, whatever is there.
    Put(Bytes, Bytes),
    /// A put if the key has this version.
    PutIf(Bytes, Bytes, Version),
    /// A removal.
    Delete(Bytes),
    /// An addition at the end.
    Append(Bytes, Bytes),
    /// A lease of so many milliseconds.
    Grant(u64),
    /// A put under this lease if the key is absent: the key is taken by whoever succeeds.
    Take(Bytes, Bytes, LeaseId),
    /// More time for the lease under which a key is taken.
    Renew(Bytes, LeaseId),
    /// The end of a lease, so that the key under it is free.
    Release(Bytes, LeaseId),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The new version of the key.
    Version(Version),
    /// The value, if there is one.
    Value(Option<Versioned>),
    /// Whether there was something to remove.
    Deleted(bool),
    /// A lease of so many milliseconds.
    Lease(LeaseId, u64),
    /// Done.
    Done,
}

impl Call {
    /// As an operation to be judged; `None`: the judge does not know of leases. Time is the order of events.
    pub fn operation(&self) -> Option<Operation> {
        let change = |change| Some(Action::Change(change));
        let put = |key: &Bytes, value: &Bytes, expect| {
            let (key, value) = (key.clone(), value.clone());
            change(Change::Put { key, value, expect, lifetime: Lifetime::Forever })
        };
        let action = match &self.ask {
            Ask::Get(key) if *key != LOCK => Some(Action::Get { key: key.clone() }),
            Ask::Put(key, value) => put(key, value, Expect::Any),
            Ask::PutIf(key, value, version) => put(key, value, Expect::Version(*version)),
            Ask::Delete(key) => change(Change::Delete { key: key.clone(), expect: Expect::Any }),
            Ask::Append(key, value) => {
                change(Change::Append { key: key.clone(), value: value.clone(), expect: Expect::Any })
            }
            _ => None,
        }?;
        let reply = match self.told.clone() {
            Ok(Told::Version(version)) => Ok(Reply::Changed(Changed::Version(version))),
            Ok(Told::Value(Some(Versioned { value, version }))) => Ok(Reply::Value { value, version }),
            Ok(Told::Value(None)) => Err(ClerkError::NotFound),
            Ok(Told::Deleted(existed)) => Ok(Reply::Changed(Changed::Deleted { existed })),
            Ok(Told::Lease(..) | Told::Done) => Ok(Reply::Done),
            Err(error) => Err(error),
        };
        let answer = Answer::of(&action, &reply);
        let client = u64::from(self.client);
        Some(Operation { client, call: self.before, returned: self.after, action, answer })
    }
}

impl Ask {
    /// The key that it is about.
    pub fn key(&self) -> Option<Bytes> {
        match self {
            Ask::Get(key)
            | Ask::Put(key, _)
            | Ask::PutIf(key, ..)
            | Ask::Delete(key)
            | Ask::Append(key, _)
            | Ask::Take(key, ..)
            | Ask::Renew(key, _)
            | Ask::Release(key, _) => Some(key.clone()),
            Ask::Grant(_) => None,
        }
    }

    /// In a word, for people.
    pub fn describe(&self) -> String {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        match self {
            Ask::Get(key) => format!("get {}", text(key)),
            Ask::Put(key, value) => format!("put {} {}", text(key), text(value)),
            Ask::PutIf(key, value, version) => {
                format!("put {} {} if at version {version}", text(key), text(value))
            }
            Ask::Delete(key) => format!("delete {}", text(key)),
            Ask::Append(key, value) => format!("append {} {}", text(key), text(value)),
            Ask::Grant(ttl) => format!("grant a lease of {ttl} ms"),
            Ask::Take(key, ..) => format!("take {}", text(key)),
            Ask::Renew(key, _) => format!("renew the lease of {}", text(key)),
            Ask::Release(key, _) => format!("release {}", text(key)),
        }
    }
}

impl Told {
    /// In a word, for people.
    pub fn describe(&self) -> String {
        match self {
            Told::Version(version) => format!("version {version}"),
            Told::Value(None) => "absent".to_owned(),
            Told::Value(Some(found)) => {
                let value = String::from_utf8_lossy(&found.value);
                let shown: String =
                    value.chars().rev().take(24).collect::<Vec<_>>().into_iter().rev().collect();
                let dots = if shown.len() < value.len() { "..." } else { "" };
                format!("{dots}{shown} at version {}", found.version)
            }
            Told::Deleted(existed) => if *existed { "deleted" } else { "was absent" }.to_owned(),
            Told::Lease(..) => "granted".to_owned(),
            Told::Done => "done".to_owned(),
        }
    }
}
