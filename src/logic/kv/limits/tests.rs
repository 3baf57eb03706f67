use super::*;
use crate::logic::kv::command::{Expect, LeaseId};
use crate::logic::kv::tests::{GROUP, bytes, delete_if, put, put_for};

fn refused(limits: &Limits, command: Command, stats: &Stats) -> String {
    match limits.admit(command, stats) {
        Err(KvError::Limit { limit, max, asked, .. }) => {
            assert!(asked > max);
            limit
        }
        Err(KvError::Batch { position, error }) => format!("{position}: {error}"),
        other => panic!("not refused: {other:?}"),
    }
}

fn small() -> Limits {
    Limits {
        max_key_bytes: 4,
        max_value_bytes: 8,
        max_batch_changes: 2,
        max_batch_bytes: 12,
        max_store_bytes: 1000,
        max_sessions: 2,
        max_leases: 2,
        ..Limits::default()
    }
}

#[test]
fn the_defaults_are_without_problems() {
    assert_eq!(Limits::default().problems(), Vec::<String>::new());
}

#[test]
fn all_problems_are_named_at_once() {
    let limits =
        Limits { max_key_bytes: 0, session_window: 5000, min_lease_ttl_ms: u64::MAX, ..Limits::default() };
    let names: Vec<_> =
        limits.problems().iter().map(|p| p.split(' ').next().unwrap_or_default().to_owned()).collect();
    assert_eq!(names, ["max_key_bytes", "session_window", "min_lease_ttl_ms"]);
}

#[test]
fn limits_come_from_a_configuration_that_names_only_some_and_no_others() {
    let limits: Limits = toml::from_str("max_key_bytes = 77").unwrap();
    assert_eq!(limits, Limits { max_key_bytes: 77, ..Limits::default() });
    assert!(toml::from_str::<Limits>("max_keybytes = 77").is_err());
}

#[test]
fn sizes_are_checked() {
    let (limits, stats) = (small(), Stats::default());
    let change = |change| refused(&limits, Command::Change(change), &stats);
    assert_eq!(change(put("12345", "")), "max_key_bytes");
    assert_eq!(change(delete_if("12345", Expect::Any)), "max_key_bytes");
    assert_eq!(change(put("1234", "123456789")), "max_value_bytes");
    assert_eq!(change(put_for("k", "", Lifetime::Ttl(u64::MAX))), "max_key_ttl_ms");
    let batch = |changes| refused(&limits, Command::Batch(changes), &stats);
    assert_eq!(batch(vec![put("k", ""); 3]), "max_batch_changes");
    assert_eq!(batch(vec![put("123", "1234"); 2]), "max_batch_bytes");
    assert!(batch(vec![put("k", ""), put("12345", "")]).starts_with("1: the key's bytes would be 5"));
    let fine = Command::Batch(vec![put("1234", "12"); 2]);
    assert_eq!(limits.admit(fine.clone(), &stats), Ok(fine));
}

#[test]
fn a_full_store_lets_in_what_does_not_make_it_grow() {
    let limits = small();
    let stats = Stats { bytes: 1000 - 128 - 3, ..Stats::default() };
    assert!(limits.admit(Command::Change(put("k", "vv")), &stats).is_ok());
    assert_eq!(refused(&limits, Command::Change(put("k", "vvv")), &stats), "max_store_bytes");
    let full = Stats { bytes: 5000, ..stats };
    let check = Change::Check { key: bytes("k"), expect: Expect::Any };
    let lease = LeaseId { group: GROUP, index: 1 };
    for command in [
        Command::Change(delete_if("k", Expect::Any)),
        Command::Batch(vec![check, delete_if("k", Expect::Any)]),
        Command::RevokeLease { lease },
        Command::CloseSession,
        Command::KeepAlive,
        Command::Advance,
    ] {
        assert_eq!(limits.admit(command.clone(), &full), Ok(command));
    }
}

#[test]
fn the_terms_of_a_session_are_the_servers() {
    let limits = Limits { session_ttl_ms: 5, session_window: 6, ..small() };
    let stats = Stats { sessions: 1, ..Stats::default() };
    for wish in [Command::OpenSession, Command::OpenSessionAs { ttl_ms: 9, window: 9 }] {
        assert_eq!(limits.admit(wish, &stats), Ok(Command::OpenSessionAs { ttl_ms: 5, window: 6 }));
    }
    assert_eq!(refused(&limits, Command::OpenSession, &Stats { sessions: 2, ..stats }), "max_sessions");
}

#[test]
fn a_short_lease_is_lengthened_and_a_long_one_refused() {
    let (limits, stats) = (small(), Stats::default());
    let grant = |ttl_ms| Command::GrantLease { ttl_ms };
    assert_eq!(limits.admit(grant(1), &stats), Ok(grant(500)));
    assert_eq!(limits.admit(grant(501), &stats), Ok(grant(501)));
    assert_eq!(refused(&limits, grant(u64::MAX), &stats), "max_lease_ttl_ms");
    assert_eq!(refused(&limits, grant(500), &Stats { leases: 2, ..stats }), "max_leases");
}

#[test]
fn a_query_gets_the_servers_byte_budget() {
    let limits = Limits { max_reply_bytes: 100, ..small() };
    let range =
        |max_bytes| Query::Range { start: bytes("a"), end: None, max_keys: 0, max_bytes, keys_only: false };
    assert_eq!(limits.admit_query(range(0)), Ok(range(100)));
    assert_eq!(limits.admit_query(range(7)), Ok(range(7)));
    assert_eq!(limits.admit_query(range(101)), Ok(range(100)));
    assert!(limits.admit_query(Query::Get { key: bytes("12345") }).is_err());
    let prefix =
        |after| Query::Prefix { prefix: bytes("a"), after, max_keys: 0, max_bytes: 1, keys_only: false };
    assert!(limits.admit_query(prefix(Some(bytes("12345")))).is_err());
}
