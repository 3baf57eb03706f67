//! Exactly once: numbers, retries, the window, expiry.

use super::super::*;
use super::rig::*;
use crate::logic::kv::command::{Command, Expect, KvError, SessionId};
use crate::messages::client::{RequestBody, ServerError};

fn numbers(sent: &[Sent]) -> Vec<(u64, u64)> {
    sent.iter().filter_map(|(_, request)| stamp(request)).map(|s| (s.seq, s.acked_below)).collect()
}

fn expired<T>() -> Result<T, ServerError> {
    refused(KvError::SessionExpired)
}

#[test]
fn a_session_is_opened_when_the_first_change_needs_it() {
    let mut rig = Rig::new(ClerkOptions::default());
    rig.up(1);
    rig.call(1, get(), None);
    let read = rig.sent1();
    assert!(matches!(read.1.body, RequestBody::Read { .. }));
    rig.answer(&read, refused(KvError::NoKey));
    rig.call(2, append(Expect::Any), None);
    rig.call(3, append(Expect::Any), None);
    let open = rig.sent1();
    rig.answer(&open, opened(7, 8));
    let sent = rig.sent();
    assert_eq!(numbers(&sent), [(1, 1), (2, 1)]);
    assert_eq!(stamp(&sent[0].1).map(|s| s.session), Some(SessionId { group: GROUP, index: 7 }));
    rig.answer(&sent[0], version(1));
    rig.call(4, append(Expect::Any), None);
    assert_eq!(numbers(&rig.sent()), [(3, 2)]);
}

#[test]
fn retries_carry_the_same_number() {
    let mut rig = Rig::session(8);
    rig.call(1, append(Expect::Any), None);
    let request = rig.sent1();
    assert_eq!(numbers(std::slice::from_ref(&request)), [(2, 2)]);
    rig.answer(&request, Err(ServerError::Unknown));
    let request = rig.next_sent();
    assert_eq!(numbers(std::slice::from_ref(&request)), [(2, 2)]);
    rig.down(request.0);
    let request = rig.next_sent();
    assert_eq!(numbers(std::slice::from_ref(&request)), [(2, 2)]);
    rig.answer(&request, not_leader(None));
    let request = rig.next_sent();
    assert_eq!(numbers(std::slice::from_ref(&request)), [(2, 2)]);
    // The machine answers for whichever attempt took effect: the refusal is the truth, not a `Maybe`.
    rig.answer(&request, refused(KvError::Version { actual: 4 }));
    assert_eq!(rig.result(), Err(ClerkError::VersionMismatch { actual: 4 }));
}

#[test]
fn a_limit_at_the_door_says_nothing_of_an_earlier_attempt() {
    let limit = || KvError::Limit {
        limit: "max_store_bytes".to_owned(),
        what: "the store's bytes".to_owned(),
        max: 1,
        asked: 2,
    };
    let mut rig = Rig::session(8);
    rig.call(1, append(Expect::Any), None);
    let request = rig.sent1();
    rig.answer(&request, refused(limit()));
    assert!(matches!(rig.result(), Err(ClerkError::Limit { .. })), "the only attempt was surely refused");
    rig.call(2, append(Expect::Any), None);
    let request = rig.sent1();
    rig.answer(&request, Err(ServerError::Unknown));
    let request = rig.next_sent();
    rig.answer(&request, refused(limit()));
    assert_eq!(rig.result(), Err(ClerkError::Maybe), "the first attempt may have been carried out");
}

#[test]
fn any_attempt_may_bring_the_answer() {
    let mut rig = Rig::session(8);
    rig.call(1, append(Expect::Any), None);
    let first = rig.sent1();
    rig.wait(ms(1060));
    let second = rig.sent1();
    assert_ne!(first.1.id, second.1.id);
    rig.answer(&first, version(2));
    assert!(rig.result().is_ok());
    rig.answer(&second, version(2));
    assert_eq!(rig.results(), []);
}

#[test]
fn calls_beyond_the_window_wait() {
    let mut rig = Rig::session(2);
    (1..=4).for_each(|id| rig.call(id, append(Expect::Any), None));
    let sent = rig.sent();
    assert_eq!(numbers(&sent), [(2, 2), (3, 2)]);
    // The machine keeps replies from the lowest unanswered number on.
    rig.answer(&sent[1], version(3));
    assert_eq!(rig.sent(), []);
    rig.answer(&sent[0], version(2));
    assert_eq!(numbers(&rig.sent()), [(4, 4), (5, 4)]);
    // Reads need no place in it.
    rig.call(5, get(), None);
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn a_call_that_was_given_up_is_acknowledged() {
    let mut rig = Rig::session(8);
    rig.call(1, append(Expect::Any), Some(ms(100)));
    assert_eq!(rig.sent().len(), 1);
    rig.wait(ms(100));
    assert!(matches!(rig.result(), Err(ClerkError::Timeout { maybe: true, .. })));
    rig.call(2, append(Expect::Any), None);
    assert_eq!(numbers(&rig.sent()), [(3, 3)]);
}

#[test]
fn an_idle_session_is_kept_alive() {
    let mut rig = Rig::session(8);
    rig.wait(ms(995));
    assert_eq!(rig.sent(), []);
    rig.wait(ms(5));
    let keep = rig.sent1();
    assert!(matches!(keep.1.body, RequestBody::Write { command: Command::KeepAlive, stamp: Some(_) }));
    rig.answer(&keep, done());
    rig.wait(ms(600));
    rig.call(1, append(Expect::Any), None);
    let request = rig.sent1();
    rig.answer(&request, version(2));
    rig.wait(ms(995));
    assert_eq!(rig.sent(), [], "a command keeps it alive as well");
    rig.wait(ms(10));
    assert!(matches!(rig.sent1().1.body, RequestBody::Write { command: Command::KeepAlive, .. }));
    assert!(rig.results().iter().all(|(id, _)| *id == 1));
}

/// The machine has not seen the command, so the session's time goes on.
#[test]
fn what_the_door_refuses_does_not_keep_a_session_alive() {
    let mut rig = Rig::session(8);
    rig.wait(ms(600));
    rig.call(1, append(Expect::Any), None);
    let request = rig.sent1();
    let full = KvError::Limit { limit: "max_store_bytes".into(), what: "bytes".into(), max: 1, asked: 2 };
    rig.answer(&request, refused(full));
    rig.wait(ms(400));
    assert!(matches!(rig.sent1().1.body, RequestBody::Write { command: Command::KeepAlive, .. }));
}

#[test]
fn what_surely_was_not_executed_moves_to_a_new_session() {
    let mut rig = Rig::session(8);
    rig.call(1, append(Expect::Any), None);
    rig.call(2, append(Expect::Any), None);
    let sent = rig.sent();
    rig.answer(&sent[0], expired());
    let open = rig.sent1();
    assert!(matches!(open.1.body, RequestBody::Write { command: Command::OpenSession, stamp: None }));
    rig.answer(&sent[1], expired());
    rig.answer(&open, opened(99, 8));
    let again = rig.sent();
    assert_eq!(numbers(&again), [(1, 1), (2, 1)]);
    assert!(again.iter().all(|(_, r)| stamp(r).is_some_and(|s| s.session.index == 99)));
    again.iter().for_each(|request| rig.answer(request, version(2)));
    assert!(rig.results().into_iter().all(|(_, outcome)| outcome.is_ok()));
}

#[test]
fn what_may_have_been_executed_in_a_lost_session_is_maybe() {
    let mut rig = Rig::session(8);
    rig.call(1, append(Expect::Any), None);
    let first = rig.sent1();
    rig.answer(&first, Err(ServerError::Unknown));
    let second = rig.next_sent();
    rig.answer(&second, expired());
    assert_eq!(rig.result(), Err(ClerkError::Maybe));
    assert_eq!(rig.sent(), [], "nobody needs a session now");
}

#[test]
fn calls_that_wait_are_sorted_out_when_the_session_is_lost() {
    let mut rig = Rig::session(8);
    (1..=3).for_each(|id| rig.call(id, append(Expect::Any), None));
    let sent = rig.sent();
    // The first is deposed (of unknown fate) and waits, the second surely was not executed and waits.
    rig.answer(&sent[0], Err(ServerError::Unknown));
    rig.answer(&sent[1], not_leader(None));
    rig.answer(&sent[2], expired());
    assert_eq!(rig.results(), [(1, Err(ClerkError::Maybe))]);
    let open = rig.next_sent();
    rig.answer(&open, opened(99, 8));
    assert_eq!(numbers(&rig.sent()), [(1, 1), (2, 1)]);
}

#[test]
fn the_open_request_is_retried_like_any_other() {
    let mut rig = Rig::new(ClerkOptions::default());
    rig.all_up();
    rig.call(1, put(Expect::Any), None);
    let open = rig.sent1();
    rig.down(open.0);
    let open = rig.next_sent();
    rig.answer(&open, not_leader(Some(3)));
    let open = rig.next_sent();
    assert_eq!(open.0, 3);
    rig.answer(&open, opened(5, 4));
    assert_eq!(numbers(&rig.sent()), [(1, 1)]);
}

#[test]
fn when_no_session_can_be_had_the_calls_that_wait_are_told_why() {
    let mut rig = Rig::new(ClerkOptions::default());
    rig.up(1);
    rig.call(1, put(Expect::Any), None);
    let open = rig.sent1();
    let limit =
        |limit: &str| KvError::Limit { limit: limit.into(), what: "sessions".into(), max: 1, asked: 2 };
    rig.answer(&open, refused(limit("max_sessions")));
    assert_eq!(rig.result(), Err(limit("max_sessions").into()));
    rig.call(2, put(Expect::Any), None);
    assert!(matches!(rig.sent1().1.body, RequestBody::Write { command: Command::OpenSession, .. }));
}

#[test]
fn an_abandoned_call_frees_its_place() {
    let mut rig = Rig::session(1);
    rig.call(1, append(Expect::Any), None);
    rig.call(2, append(Expect::Any), None);
    assert_eq!(numbers(&rig.sent()), [(2, 2)]);
    rig.step(Input::Abandon(vec![CallId(1)]));
    assert_eq!(numbers(&rig.sent()), [(3, 3)]);
}

#[test]
fn a_session_can_be_closed() {
    let mut rig = Rig::session(8);
    rig.call(1, Op::Write(Command::CloseSession), None);
    let close = rig.sent1();
    assert_eq!(numbers(std::slice::from_ref(&close)), [(2, 2)]);
    rig.answer(&close, done());
    rig.call(2, Op::Write(Command::CloseSession), None);
    assert_eq!(rig.results().into_iter().filter(|(_, outcome)| outcome.is_ok()).count(), 2);
    rig.wait(ms(5000));
    assert_eq!(rig.sent(), [], "what is closed is not kept alive");
    rig.call(3, append(Expect::Any), None);
    assert_eq!(stamp(&rig.sent1().1), None, "a new one is opened");
}
