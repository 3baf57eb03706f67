//! Random commands over few keys, sessions and leases, so that they meet each other.

use proptest::prelude::*;

use super::*;

const KEYS: &[&str] = &["", "a", "ab", "b", "a key that is too long to lie in a node of the map"];
pub(super) const LOCKS: &[&str] = &["", "a", "a lock whose name does not lie in a node of the map"];

fn key() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(KEYS).prop_map(bytes)
}

fn small_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..12).prop_map(Bytes::from)
}

fn expect() -> impl Strategy<Value = Expect> {
    prop_oneof![
        4 => Just(Expect::Any),
        1 => Just(Expect::Absent),
        3 => (0..4u64).prop_map(Expect::Version),
    ]
}

/// Ids of entries early in the log, some of which opened a session or granted a lease.
fn index() -> impl Strategy<Value = u64> {
    1..24u64
}

fn lease() -> impl Strategy<Value = LeaseId> {
    index().prop_map(|index| LeaseId { group: GROUP, index })
}

fn lifetime() -> impl Strategy<Value = Lifetime> {
    prop_oneof![
        3 => Just(Lifetime::Forever),
        2 => (0..60u64).prop_map(Lifetime::Ttl),
        4 => lease().prop_map(Lifetime::Lease),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (key(), small_bytes(), expect(), lifetime())
            .prop_map(|(key, value, expect, lifetime)| Change::Put { key, value, expect, lifetime }),
        2 => (key(), small_bytes(), expect())
            .prop_map(|(key, value, expect)| Change::Append { key, value, expect }),
        2 => (key(), expect()).prop_map(|(key, expect)| Change::Delete { key, expect }),
        1 => (key(), expect()).prop_map(|(key, expect)| Change::Check { key, expect }),
        1 => (lock(), index()).prop_map(|(lock, token)| Change::Fence { lock, token }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        12 => change().prop_map(Command::Change),
        5 => proptest::collection::vec(change(), 0..5).prop_map(Command::Batch),
        1 => Just(Command::OpenSession),
        3 => (1..80u64, 0..5u32).prop_map(|(ttl_ms, window)| Command::OpenSessionAs { ttl_ms, window }),
        1 => Just(Command::KeepAlive),
        1 => Just(Command::CloseSession),
        3 => (1..80u64).prop_map(|ttl_ms| Command::GrantLease { ttl_ms }),
        1 => lease().prop_map(|lease| Command::RenewLease { lease }),
        1 => lease().prop_map(|lease| Command::RevokeLease { lease }),
        1 => Just(Command::Advance),
        4 => claim(),
    ]
}

/// Locks have names like keys, and nothing else in common with them.
fn lock() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(LOCKS).prop_map(bytes)
}

fn claim() -> impl Strategy<Value = Command> {
    let owner = proptest::sample::select(&["", "ann", "bob", "cid"][..]).prop_map(bytes);
    (lock(), owner, 1..80u64, any::<bool>()).prop_map(|(lock, owner, ttl_ms, queue)| Command::Claim {
        lock,
        owner,
        ttl_ms,
        queue,
    })
}

fn stamp() -> impl Strategy<Value = Stamp> {
    (index(), 0..8u64, 0..4u64).prop_map(|(index, seq, acked_below)| Stamp {
        session: SessionId { group: GROUP, index },
        seq,
        acked_below,
    })
}

/// A command whose time is `time_ms` behind or ahead of nothing in particular; clocks of leaders differ.
pub(in crate::logic::kv) fn log_command() -> impl Strategy<Value = LogCommand> {
    (0..200u64, proptest::option::of(stamp()), command()).prop_map(|(time_ms, stamp, command)| LogCommand {
        time_ms,
        stamp,
        command,
    })
}

/// A log whose first entries open sessions and grant leases, and whose time moves on slowly, with jumps back.
pub(in crate::logic::kv) fn log(length: usize) -> impl Strategy<Value = Vec<LogCommand>> {
    proptest::collection::vec((log_command(), -3..6i64), 1..length).prop_map(|steps| {
        let mut now = 0i64;
        let steps = steps.into_iter().enumerate().map(|(position, (mut command, step))| {
            now = (now + step).max(0);
            command.time_ms = now as u64;
            if position < 6 {
                command.stamp = None;
                command.command = match position % 2 {
                    0 => Command::OpenSessionAs { ttl_ms: 100 + position as u64 * 20, window: 4 },
                    _ => Command::GrantLease { ttl_ms: 30 + position as u64 * 10 },
                };
            }
            command
        });
        steps.collect()
    })
}
