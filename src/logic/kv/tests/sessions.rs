use super::*;

fn stamp(session: SessionId, seq: u64, acked_below: u64) -> Option<Stamp> {
    Some(Stamp { session, seq, acked_below })
}

fn add(text: &str) -> Command {
    Command::Change(append("k", text))
}

#[test]
fn a_session_is_named_by_the_entry_that_opened_it() {
    let mut rig = Rig::new();
    rig.advance(0);
    let outcome = rig.run(Command::OpenSessionAs { ttl_ms: 500, window: 9 });
    let session = SessionId { group: GROUP, index: 2 };
    assert_eq!(outcome, Ok(Reply::Session { session, ttl_ms: 500, window: 9 }));
}

#[test]
fn a_retry_gets_the_first_answer_and_takes_no_effect() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), version(1));
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), version(1));
    assert_eq!(rig.log(stamp(session, 2, 1), add("b")), version(2));
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), version(1));
    assert_eq!(rig.get("k"), value("ab", 2));
}

#[test]
fn a_retry_after_a_restore_is_answered_from_the_snapshot() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    rig.log(stamp(session, 1, 1), add("a")).unwrap();
    let refused = rig.log(stamp(session, 2, 1), Command::Change(put_if("k", "x", Expect::Absent)));
    rig.restart_from_snapshot(1 << 20);
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), version(1));
    assert_eq!(rig.log(stamp(session, 2, 1), Command::Change(put_if("k", "x", Expect::Absent))), refused);
    assert_eq!(rig.get("k"), value("a", 1));
}

#[test]
fn an_error_is_kept_for_retries_too() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    let command = Command::Change(put_if("k", "x", Expect::Version(3)));
    assert_eq!(rig.log(stamp(session, 1, 1), command.clone()), Err(KvError::NoKey));
    for _ in 0..3 {
        rig.change(put("k", "y")).unwrap();
    }
    assert_eq!(rig.log(stamp(session, 1, 1), command), Err(KvError::NoKey));
    assert_eq!(rig.get("k"), value("y", 3));
}

#[test]
fn numbers_may_come_in_any_order() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    for (seq, expected) in [(3, 1), (1, 2), (2, 3), (3, 1), (1, 2), (2, 3)] {
        assert_eq!(rig.log(stamp(session, seq, 1), add("x")), version(expected));
    }
}

#[test]
fn an_acknowledged_number_is_a_duplicate_and_its_reply_is_forgotten() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    for seq in 1..=3 {
        rig.log(stamp(session, seq, 1), add("x")).unwrap();
    }
    rig.log(stamp(session, 4, 3), add("x")).unwrap();
    let kept: Vec<u64> = rig.machine.sessions.table()[&session].replies.keys().copied().collect();
    assert_eq!(kept, [3, 4]);
    assert_eq!(rig.log(stamp(session, 2, 1), add("x")), Err(KvError::Duplicate));
    assert_eq!(rig.log(stamp(session, 0, 1), add("x")), Err(KvError::Duplicate));
    assert_eq!(rig.log(stamp(session, 3, 1), add("x")), version(3));
    assert_eq!(rig.get("k"), value("xxxx", 4));
}

#[test]
fn a_full_window_refuses_new_numbers_until_something_is_acknowledged() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 2);
    rig.log(stamp(session, 1, 1), add("a")).unwrap();
    rig.log(stamp(session, 2, 1), add("b")).unwrap();
    let refused = rig.log(stamp(session, 3, 1), add("c"));
    assert!(
        matches!(refused, Err(KvError::Limit { limit, max: 2, asked: 3, .. }) if limit == "session_window")
    );
    assert_eq!(rig.log(stamp(session, 2, 1), add("b")), version(2));
    assert_eq!(rig.log(stamp(session, 0, 2), Command::KeepAlive), Ok(Reply::Done));
    assert_eq!(rig.log(stamp(session, 3, 1), add("c")), version(3));
    assert_eq!(rig.get("k"), value("abc", 3));
}

#[test]
fn a_command_of_an_unknown_session_takes_no_effect() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    let others = [
        SessionId { index: session.index + 1, ..session },
        SessionId { group: GroupId(GROUP.0 + 1), ..session },
    ];
    for other in others {
        for command in [add("x"), Command::KeepAlive, Command::CloseSession] {
            assert_eq!(rig.log(stamp(other, 1, 1), command), Err(KvError::SessionExpired));
        }
    }
    assert_eq!(rig.get("k"), None);
}

#[test]
fn a_session_expires_when_untouched_for_its_time() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    rig.now_ms += 999;
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), version(1));
    rig.now_ms += 999;
    assert_eq!(rig.log(stamp(session, 0, 1), Command::KeepAlive), Ok(Reply::Done));
    rig.now_ms += 1000;
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), Err(KvError::SessionExpired));
    assert_eq!(rig.machine.stats().sessions, 0);
    assert_eq!(rig.get("k"), value("a", 1));
}

#[test]
fn a_closed_session_is_gone() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    rig.log(stamp(session, 1, 1), add("a")).unwrap();
    assert_eq!(rig.log(stamp(session, 2, 1), Command::CloseSession), Ok(Reply::Done));
    assert_eq!(rig.log(stamp(session, 1, 1), add("a")), Err(KvError::SessionExpired));
    assert_eq!(rig.machine.stats().sessions, 0);
    assert_eq!(rig.machine.next_deadline(), None);
}

#[test]
fn commands_about_a_session_need_its_stamp() {
    let mut rig = Rig::new();
    for command in [Command::KeepAlive, Command::CloseSession] {
        assert!(matches!(rig.run(command), Err(KvError::Malformed(_))));
    }
}

#[test]
fn granting_a_lease_in_a_session_is_exactly_once() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 8);
    let first = rig.log(stamp(session, 1, 1), Command::GrantLease { ttl_ms: 700 });
    assert_eq!(rig.log(stamp(session, 1, 1), Command::GrantLease { ttl_ms: 700 }), first);
    assert_eq!(rig.machine.stats().leases, 1);
}

#[test]
fn terms_are_kept_within_the_caps() {
    let mut rig = Rig::new();
    for (asked, given) in [(0, 1), (u32::MAX, 4096)] {
        let outcome = rig.run(Command::OpenSessionAs { ttl_ms: u64::MAX, window: asked });
        assert!(matches!(outcome, Ok(Reply::Session { window, .. }) if window == given));
    }
    assert!(matches!(rig.run(Command::OpenSession), Ok(Reply::Session { ttl_ms: 60_000, window: 1024, .. })));
}

/// A client that never acknowledges must not fill the memory of every replica unseen.
#[test]
fn kept_replies_count_as_bytes_of_the_store() {
    let mut rig = Rig::new();
    let session = rig.open(1000, 10);
    let send = |rig: &mut Rig, seq, acked_below| {
        let checks = vec![Change::Check { key: bytes("k"), expect: Expect::Absent }; 100];
        assert!(rig.log(stamp(session, seq, acked_below), Command::Batch(checks)).is_ok());
        rig.machine.stats().bytes
    };
    let one = send(&mut rig, 1, 1);
    assert!(one > 1000, "{one}");
    assert_eq!(send(&mut rig, 2, 1), 2 * one);
    assert_eq!(send(&mut rig, 2, 1), 2 * one, "a retry keeps nothing more");
    assert_eq!(restored(&rig.machine, 1000).stats().bytes, 2 * one);
    assert_eq!(send(&mut rig, 3, 3), one);
    rig.advance(1000);
    assert_eq!((rig.machine.stats().sessions, rig.machine.stats().bytes), (0, 0));
}
