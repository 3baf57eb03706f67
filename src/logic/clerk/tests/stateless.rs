//! The lab's clerk: no session, the server keeps nothing per client.

use super::super::*;
use super::rig::*;
use crate::logic::kv::command::{Change, Changed, Command, Expect, KvError, Reply};
use crate::messages::client::{Answer, ServerError};

/// How the fate of the first transmission becomes unknown.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Link,
    Silence,
    Deposed,
}

const LOSSES: [Loss; 3] = [Loss::Link, Loss::Silence, Loss::Deposed];

/// Makes the call, loses its first transmission, and answers the second, if there is one.
fn after(loss: Loss, op: Op, answer: Result<Answer, ServerError>) -> Outcome {
    let mut rig = Rig::stateless();
    rig.call(1, op, None);
    let first = rig.sent1();
    match loss {
        Loss::Link => rig.down(1),
        Loss::Silence => rig.wait(ms(1000)),
        Loss::Deposed => rig.answer(&first, Err(ServerError::Unknown)),
    }
    if rig.out.done.is_empty() {
        let second = rig.next_sent();
        rig.answer(&second, answer);
    }
    rig.result()
}

fn at_once(op: Op, answer: Result<Answer, ServerError>) -> Outcome {
    let mut rig = Rig::stateless();
    rig.call(1, op, None);
    let request = rig.sent1();
    assert_eq!(stamp(&request.1), None);
    rig.answer(&request, answer);
    rig.result()
}

fn mismatch<T>(actual: u64) -> Result<T, ServerError> {
    refused(KvError::Version { actual })
}

#[test]
fn the_first_transmission_is_answered_as_it_is() {
    let put = put(Expect::Version(3));
    assert_eq!(at_once(put.clone(), version(4)), Ok(Answer::Kv(Reply::Changed(Changed::Version(4)))));
    assert_eq!(at_once(put.clone(), mismatch(5)), Err(ClerkError::VersionMismatch { actual: 5 }));
    assert_eq!(at_once(put, refused(KvError::NoKey)), Err(ClerkError::NotFound));
}

#[test]
fn a_conditional_put_after_a_lost_transmission() {
    for loss in LOSSES {
        let put = || put(Expect::Version(3));
        assert_eq!(after(loss, put(), mismatch(4)), Err(ClerkError::Maybe), "{loss:?}");
        // It may have been carried out, and somebody else have deleted the key since.
        assert_eq!(after(loss, put(), refused(KvError::NoKey)), Err(ClerkError::Maybe), "{loss:?}");
        assert!(after(loss, put(), version(4)).is_ok(), "{loss:?}");
    }
}

#[test]
fn transmissions_that_surely_did_nothing_leave_no_doubt() {
    let mut rig = Rig::stateless();
    rig.call(1, put(Expect::Version(3)), None);
    let request = rig.sent1();
    rig.answer(&request, not_leader(Some(2)));
    let request = rig.sent1();
    rig.answer(&request, Err(ServerError::Busy { limit: "x".into() }));
    let request = rig.next_sent();
    rig.answer(&request, mismatch(4));
    assert_eq!(rig.result(), Err(ClerkError::VersionMismatch { actual: 4 }));
}

#[test]
fn doubt_stays_once_it_is_there() {
    let mut rig = Rig::stateless();
    rig.call(1, put(Expect::Version(3)), None);
    let request = rig.sent1();
    rig.answer(&request, Err(ServerError::Unknown));
    let request = rig.next_sent();
    rig.answer(&request, not_leader(Some(3)));
    let request = rig.next_sent();
    rig.answer(&request, mismatch(4));
    assert_eq!(rig.result(), Err(ClerkError::Maybe));
}

#[test]
fn only_what_guards_itself_is_repeated() {
    for loss in LOSSES {
        // A second time it might undo what somebody else has done since the first.
        assert_eq!(after(loss, put(Expect::Any), version(2)), Err(ClerkError::Maybe));
        assert_eq!(after(loss, delete(Expect::Any), done()), Err(ClerkError::Maybe));
        assert!(after(loss, append(Expect::Version(1)), version(2)).is_ok());
        assert_eq!(after(loss, append(Expect::Any), version(9)), Err(ClerkError::Maybe));
        assert_eq!(after(loss, get(), refused(KvError::NoKey)), Err(ClerkError::NotFound));
        // It may have been this very delete that removed the key.
        assert_eq!(after(loss, delete(Expect::Version(2)), refused(KvError::NoKey)), Err(ClerkError::Maybe));
    }
}

#[test]
fn a_batch_is_repeated_when_a_change_of_it_guards_it() {
    let change = |op| match op {
        Op::Write(Command::Change(change)) => change,
        _ => unreachable!("the rig makes changes"),
    };
    let check = Change::Check { key: key("g"), expect: Expect::Version(1) };
    let batch = |changes: &[Change]| Op::Write(Command::Batch(changes.to_vec()));
    let any = change(put(Expect::Any));
    let guarded = Change::Append { key: key("h"), value: key("v"), expect: Expect::Version(1) };
    let answer = || Ok(Answer::Kv(Reply::Batch(vec![])));
    for loss in LOSSES {
        assert_eq!(after(loss, batch(&[any.clone(), check.clone()]), answer()), Err(ClerkError::Maybe));
        assert!(after(loss, batch(&[any.clone(), guarded.clone()]), answer()).is_ok());
        assert!(after(loss, batch(std::slice::from_ref(&check)), answer()).is_ok());
        let rearmed = [change(delete(Expect::Any)), change(put(Expect::Absent)), any.clone()];
        assert_eq!(after(loss, batch(&rearmed), answer()), Err(ClerkError::Maybe));
        let error = KvError::Batch { position: 1, error: Box::new(KvError::Version { actual: 2 }) };
        let outcome = after(loss, batch(&[any.clone(), guarded.clone()]), refused(error));
        assert_eq!(outcome, Err(ClerkError::Maybe));
    }
    let error = KvError::Batch { position: 1, error: Box::new(KvError::NoKey) };
    let expected = ClerkError::Batch { position: 1, error: Box::new(ClerkError::NotFound) };
    assert_eq!(at_once(batch(&[any, guarded]), refused(error)), Err(expected));
}

#[test]
fn session_commands_are_not_a_callers_business() {
    for command in [Command::OpenSession, Command::KeepAlive, Command::Advance] {
        let mut rig = Rig::stateless();
        rig.call(1, Op::Write(command), None);
        assert!(matches!(rig.result(), Err(ClerkError::Invalid(_))));
    }
}
