//! Tests of the machine as a whole: its rules one by one, and all of them against a naive model.

pub(super) mod arbitrary;
mod changes;
mod locks;
mod model;
mod queries;
mod sessions;
mod time;

use bytes::Bytes;

use super::command::{
    Change, Changed, Command, Expect, KvError, LeaseId, Lifetime, LogCommand, Outcome, Query, Reply,
    SessionId, Stamp, Version,
};
use super::machine::Machine;
use super::snapshot::Restorer;
use crate::logic::ids::GroupId;

pub(super) const GROUP: GroupId = GroupId(7);

/// A machine together with the time of the next command.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) now_ms: u64,
}

impl Rig {
    pub(super) fn new() -> Rig {
        Rig { machine: Machine::new(GROUP), now_ms: 1000 }
    }

    /// Through the log's encoding, as in life.
    pub(super) fn log(&mut self, stamp: Option<Stamp>, command: Command) -> Outcome {
        let encoded = LogCommand { time_ms: self.now_ms, stamp, command }.encode();
        self.machine.apply(self.machine.applied() + 1, &encoded)
    }

    pub(super) fn run(&mut self, command: Command) -> Outcome {
        self.log(None, command)
    }

    pub(super) fn change(&mut self, change: Change) -> Outcome {
        self.run(Command::Change(change))
    }

    pub(super) fn advance(&mut self, by_ms: u64) {
        self.now_ms += by_ms;
        assert_eq!(self.run(Command::Advance), Ok(Reply::Done));
    }

    pub(super) fn get(&self, key: &str) -> Option<(String, Version)> {
        match self.machine.query(&Query::Get { key: bytes(key) }) {
            Ok(Reply::Value { value, version }) => {
                Some((String::from_utf8(value.to_vec()).expect("tests store text"), version))
            }
            Err(KvError::NoKey) => None,
            other => panic!("a get came to {other:?}"),
        }
    }

    pub(super) fn open(&mut self, ttl_ms: u64, window: u32) -> SessionId {
        match self.run(Command::OpenSessionAs { ttl_ms, window }) {
            Ok(Reply::Session { session, .. }) => session,
            other => panic!("opening a session came to {other:?}"),
        }
    }

    pub(super) fn grant(&mut self, ttl_ms: u64) -> LeaseId {
        match self.run(Command::GrantLease { ttl_ms }) {
            Ok(Reply::Lease { lease, .. }) => lease,
            other => panic!("granting a lease came to {other:?}"),
        }
    }

    /// Takes a place in the queue of a lock; whether it holds the lock.
    pub(super) fn claim(&mut self, lock: &str, owner: &str, ttl_ms: u64) -> (LeaseId, bool) {
        let claim = Command::Claim { lock: bytes(lock), owner: bytes(owner), ttl_ms, queue: true };
        match self.run(claim) {
            Ok(Reply::Claim { lease, held, .. }) => (lease, held),
            other => panic!("a claim came to {other:?}"),
        }
    }

    /// Goes on with a machine restored from a snapshot of this one.
    pub(super) fn restart_from_snapshot(&mut self, chunk_bytes: usize) {
        self.machine = restored(&self.machine, chunk_bytes);
    }
}

pub(super) fn restored(machine: &Machine, chunk_bytes: usize) -> Machine {
    let mut restorer = Restorer::new(machine.group());
    for chunk in machine.freeze().chunks(chunk_bytes) {
        restorer.chunk(&chunk).expect("a chunk as it was made");
    }
    restorer.finish().expect("a whole snapshot")
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put(key: &str, value: &str) -> Change {
    put_if(key, value, Expect::Any)
}

pub(super) fn put_if(key: &str, value: &str, expect: Expect) -> Change {
    Change::Put { key: bytes(key), value: bytes(value), expect, lifetime: Lifetime::Forever }
}

pub(super) fn put_for(key: &str, value: &str, lifetime: Lifetime) -> Change {
    Change::Put { key: bytes(key), value: bytes(value), expect: Expect::Any, lifetime }
}

pub(super) fn append(key: &str, value: &str) -> Change {
    Change::Append { key: bytes(key), value: bytes(value), expect: Expect::Any }
}

pub(super) fn delete_if(key: &str, expect: Expect) -> Change {
    Change::Delete { key: bytes(key), expect }
}

pub(super) fn version(version: Version) -> Outcome {
    Ok(Reply::Changed(Changed::Version(version)))
}

pub(super) fn deleted(existed: bool) -> Outcome {
    Ok(Reply::Changed(Changed::Deleted { existed }))
}

pub(super) fn value(text: &str, version: Version) -> Option<(String, Version)> {
    Some((text.to_owned(), version))
}
