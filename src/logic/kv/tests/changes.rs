use super::*;
use crate::logic::kv::limits::caps;

#[test]
fn a_put_that_expects_nothing_there_creates_version_one() {
    for expect in [Expect::Any, Expect::Absent, Expect::Version(0)] {
        let mut rig = Rig::new();
        assert_eq!(rig.change(put_if("k", "a", expect)), version(1));
        assert_eq!(rig.get("k"), value("a", 1));
    }
}

#[test]
fn a_put_that_expects_a_version_of_an_absent_key_gets_no_key() {
    let mut rig = Rig::new();
    assert_eq!(rig.change(put_if("k", "a", Expect::Version(1))), Err(KvError::NoKey));
    assert_eq!(rig.get("k"), None);
}

#[test]
fn a_put_with_the_current_version_makes_the_next() {
    let mut rig = Rig::new();
    for expected in 0..5 {
        let outcome = rig.change(put_if("k", &expected.to_string(), Expect::Version(expected)));
        assert_eq!(outcome, version(expected + 1));
    }
    assert_eq!(rig.get("k"), value("4", 5));
}

#[test]
fn a_put_with_another_version_changes_nothing_and_names_the_current_one() {
    let mut rig = Rig::new();
    rig.change(put("k", "a")).unwrap();
    rig.change(put("k", "b")).unwrap();
    for expect in [Expect::Absent, Expect::Version(0), Expect::Version(1), Expect::Version(3)] {
        assert_eq!(rig.change(put_if("k", "x", expect)), Err(KvError::Version { actual: 2 }));
    }
    assert_eq!(rig.get("k"), value("b", 2));
}

#[test]
fn an_append_creates_the_key_and_then_adds_at_the_end() {
    let mut rig = Rig::new();
    assert_eq!(rig.change(append("k", "a")), version(1));
    assert_eq!(rig.change(append("k", "bc")), version(2));
    assert_eq!(rig.get("k"), value("abc", 2));
    let conditional = Change::Append { key: bytes("k"), value: bytes("d"), expect: Expect::Version(1) };
    assert_eq!(rig.change(conditional), Err(KvError::Version { actual: 2 }));
}

#[test]
fn a_value_grows_by_appending_up_to_the_cap_and_no_further() {
    let mut rig = Rig::new();
    let half = "x".repeat(caps::VALUE_BYTES as usize / 2);
    rig.change(append("k", &half)).unwrap();
    rig.change(append("k", &half)).unwrap();
    let Err(KvError::Limit { limit, max, asked, .. }) = rig.change(append("k", "!")) else {
        panic!("a value above the cap")
    };
    assert_eq!((limit.as_str(), max, asked), ("max_value_bytes", caps::VALUE_BYTES, caps::VALUE_BYTES + 1));
    assert_eq!(
        rig.get("k").map(|(value, version)| (value.len() as u64, version)),
        Some((caps::VALUE_BYTES, 2))
    );
}

#[test]
fn a_delete_says_whether_the_key_existed() {
    let mut rig = Rig::new();
    assert_eq!(rig.change(delete_if("k", Expect::Any)), deleted(false));
    assert_eq!(rig.change(delete_if("k", Expect::Absent)), deleted(false));
    rig.change(put("k", "a")).unwrap();
    assert_eq!(rig.change(delete_if("k", Expect::Any)), deleted(true));
    assert_eq!(rig.get("k"), None);
}

#[test]
fn a_conditional_delete_follows_the_rules_of_a_conditional_put() {
    let mut rig = Rig::new();
    assert_eq!(rig.change(delete_if("k", Expect::Version(1))), Err(KvError::NoKey));
    rig.change(put("k", "a")).unwrap();
    assert_eq!(rig.change(delete_if("k", Expect::Version(2))), Err(KvError::Version { actual: 1 }));
    assert_eq!(rig.change(delete_if("k", Expect::Absent)), Err(KvError::Version { actual: 1 }));
    assert_eq!(rig.change(delete_if("k", Expect::Version(1))), deleted(true));
}

#[test]
fn a_key_that_is_created_again_starts_at_version_one() {
    let mut rig = Rig::new();
    rig.change(put("k", "a")).unwrap();
    rig.change(put("k", "b")).unwrap();
    rig.change(delete_if("k", Expect::Any)).unwrap();
    assert_eq!(rig.change(put_if("k", "c", Expect::Version(2))), Err(KvError::NoKey));
    assert_eq!(rig.change(put_if("k", "c", Expect::Version(0))), version(1));
}

#[test]
fn a_batch_sees_its_own_earlier_changes() {
    let mut rig = Rig::new();
    let outcome = rig.run(Command::Batch(vec![
        put_if("a", "1", Expect::Absent),
        append("a", "2"),
        Change::Check { key: bytes("a"), expect: Expect::Version(2) },
        delete_if("a", Expect::Version(2)),
        put_if("a", "3", Expect::Absent),
        put("b", "4"),
    ]));
    let expected = vec![
        Changed::Version(1),
        Changed::Version(2),
        Changed::Held,
        Changed::Deleted { existed: true },
        Changed::Version(1),
        Changed::Version(1),
    ];
    assert_eq!(outcome, Ok(Reply::Batch(expected)));
    assert_eq!((rig.get("a"), rig.get("b")), (value("3", 1), value("4", 1)));
}

#[test]
fn a_batch_that_fails_leaves_no_trace_and_names_the_position() {
    let mut rig = Rig::new();
    let lease = rig.grant(5000);
    rig.change(put_for("leased", "x", Lifetime::Lease(lease))).unwrap();
    rig.change(put_for("timed", "y", Lifetime::Ttl(5000))).unwrap();
    let (stats, deadline) = (rig.machine.stats(), rig.machine.next_deadline());
    let digest = rig.machine.rows.digest();
    let outcome = rig.run(Command::Batch(vec![
        put("leased", "changed"),
        delete_if("timed", Expect::Any),
        put("new", "z"),
        delete_if("new", Expect::Any),
        Change::Check { key: bytes("nowhere"), expect: Expect::Version(1) },
    ]));
    assert_eq!(outcome, Err(KvError::Batch { position: 4, error: Box::new(KvError::NoKey) }));
    assert_eq!((rig.get("leased"), rig.get("timed"), rig.get("new")), (value("x", 1), value("y", 1), None));
    assert_eq!(rig.machine.rows.digest(), digest);
    assert_eq!(rig.machine.next_deadline(), deadline);
    assert_eq!((rig.machine.stats().keys, rig.machine.stats().bytes), (stats.keys, stats.bytes));
    rig.advance(5000);
    assert_eq!((rig.get("leased"), rig.get("timed")), (None, None));
}

#[test]
fn an_empty_batch_succeeds() {
    assert_eq!(Rig::new().run(Command::Batch(vec![])), Ok(Reply::Batch(vec![])));
}

#[test]
fn a_batch_above_the_caps_is_refused_as_a_whole() {
    let mut rig = Rig::new();
    let many = vec![put("k", ""); caps::BATCH_CHANGES as usize + 1];
    assert!(
        matches!(rig.run(Command::Batch(many)), Err(KvError::Limit { limit, .. }) if limit == "max_batch_changes")
    );
    let large = vec![put("k", &"x".repeat(6 << 20)); 3];
    assert!(
        matches!(rig.run(Command::Batch(large)), Err(KvError::Limit { limit, .. }) if limit == "max_batch_bytes")
    );
    assert_eq!(rig.get("k"), None);
}

/// Some bytes of request would otherwise keep every replica for seconds, whenever the log is applied.
#[test]
fn a_batch_that_writes_a_long_value_again_and_again_is_refused_as_a_whole() {
    let mut rig = Rig::new();
    let long = "x".repeat(6 << 20);
    assert_eq!(rig.change(put("k", &long)), version(1));
    let digest = rig.machine.rows.digest();
    let appends = |count| Command::Batch(vec![append("k", "y"); count]);
    match rig.run(appends(1000)) {
        Err(KvError::Batch { position: 5, error }) => {
            assert!(matches!(*error, KvError::Limit { limit, .. } if limit == "max_batch_effort"));
        }
        other => panic!("the batch came to {other:?}"),
    }
    assert!(rig.machine.effort() > caps::BATCH_EFFORT);
    assert_eq!(rig.machine.rows.digest(), digest);
    assert!(rig.run(appends(5)).is_ok());
    assert!(rig.run(Command::Batch(vec![append("short", "y"); 1000])).is_ok());
}

#[test]
fn a_key_above_the_cap_is_refused_and_one_at_the_cap_is_kept() {
    let mut rig = Rig::new();
    let longest = "k".repeat(caps::KEY_BYTES as usize);
    assert_eq!(rig.change(put(&longest, "v")), version(1));
    assert_eq!(rig.get(&longest), value("v", 1));
    let outcome = rig.change(put(&(longest + "k"), "v"));
    assert!(matches!(outcome, Err(KvError::Limit { limit, .. }) if limit == "max_key_bytes"));
}

#[test]
fn bytes_that_are_no_command_get_an_error_and_count_as_applied() {
    let mut rig = Rig::new();
    rig.change(put("k", "v")).unwrap();
    let outcome = rig.machine.apply(2, &Bytes::from_static(b"\x01nonsense"));
    assert!(matches!(outcome, Err(KvError::Malformed(_))));
    assert_eq!(rig.machine.applied(), 2);
    assert_eq!(rig.change(put("k", "w")), version(2));
}

#[test]
#[should_panic(expected = "one by one")]
fn a_gap_in_the_indices_is_a_bug_of_the_caller() {
    Rig::new().machine.skip(2);
}

#[test]
fn figures_follow_the_records() {
    let mut rig = Rig::new();
    rig.change(put("key", "value")).unwrap();
    let one = rig.machine.stats();
    assert_eq!((one.keys, one.bytes, one.applied, one.time_ms), (1, 8 + 128, 1, 1000));
    rig.change(append("key", "more")).unwrap();
    assert_eq!(rig.machine.stats().bytes, one.bytes + 4);
    rig.change(delete_if("key", Expect::Any)).unwrap();
    assert_eq!((rig.machine.stats().keys, rig.machine.stats().bytes), (0, 0));
}

#[test]
fn a_value_in_a_reply_outlives_its_record() {
    let mut rig = Rig::new();
    rig.change(put("k", "first")).unwrap();
    let reply = rig.machine.query(&Query::Get { key: bytes("k") });
    rig.change(put("k", "second")).unwrap();
    assert_eq!(reply, Ok(Reply::Value { value: bytes("first"), version: 1 }));
}
