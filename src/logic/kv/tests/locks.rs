//! Locks: who holds them, who comes next, and what a fence lets through.

use super::*;
use crate::logic::kv::limits::{Limits, caps};
use crate::logic::kv::row::RECORD_OVERHEAD;

fn fenced(lock: &str, holder: LeaseId, change: Change) -> Command {
    Command::Batch(vec![Change::Fence { lock: bytes(lock), token: holder.index }, change])
}

fn refused(holder: Option<LeaseId>) -> Outcome {
    let error = Box::new(KvError::Fenced { holder: holder.map(|lease| lease.index) });
    Err(KvError::Batch { position: 0, error })
}

fn done() -> Outcome {
    Ok(Reply::Done)
}

fn revoke(lease: LeaseId) -> Command {
    Command::RevokeLease { lease }
}

fn turn(rig: &Rig, lease: LeaseId) -> Outcome {
    rig.machine.query(&Query::Turn { lease, wait_ms: 0 })
}

fn held(held: bool) -> Outcome {
    Ok(Reply::Turn { held })
}

#[test]
fn the_first_who_asks_holds_the_lock_and_the_others_follow_in_order() {
    let mut rig = Rig::new();
    let (ann, holds) = rig.claim("l", "ann", 100);
    assert!(holds);
    let (bob, bob_holds) = rig.claim("l", "bob", 100);
    let (cid, cid_holds) = rig.claim("l", "cid", 100);
    assert!(!bob_holds && !cid_holds);
    assert!(ann.index < bob.index && bob.index < cid.index);
    assert_eq!(rig.machine.granted(), []);
    // One that leaves from the middle changes nothing for the others.
    assert_eq!(rig.run(revoke(bob)), done());
    assert_eq!((rig.machine.granted(), turn(&rig, cid)), (&[][..], held(false)));
    assert_eq!(rig.run(revoke(ann)), done());
    assert_eq!((rig.machine.granted(), turn(&rig, cid)), (&[cid][..], held(true)));
    assert_eq!(turn(&rig, ann), Err(KvError::LeaseExpired));
    rig.advance(1);
    assert_eq!(rig.machine.granted(), [], "said once");
}

#[test]
fn locks_of_different_names_and_keys_have_nothing_to_do_with_each_other() {
    let mut rig = Rig::new();
    let (one, first) = rig.claim("l1", "ann", 100);
    let (two, second) = rig.claim("l2", "bob", 100);
    assert!(first && second);
    assert_eq!(rig.change(put("l1", "a key")), version(1));
    assert_eq!(rig.run(fenced("l2", one, put("k", "v"))), refused(Some(two)));
    assert!(rig.run(fenced("l1", one, put("k", "v"))).is_ok());
}

#[test]
fn a_holder_that_is_not_heard_of_loses_the_lock_by_log_time() {
    let mut rig = Rig::new();
    let (ann, _) = rig.claim("l", "ann", 100);
    rig.advance(60);
    let (bob, _) = rig.claim("l", "bob", 100);
    rig.advance(39);
    assert!(rig.run(fenced("l", ann, put("k", "by ann"))).is_ok());
    // The put itself brings the time: nothing has been removed yet.
    rig.now_ms += 1;
    assert_eq!(rig.run(fenced("l", ann, put("k", "too late"))), refused(Some(bob)));
    assert_eq!(rig.machine.granted(), [bob]);
    assert!(rig.run(fenced("l", bob, put("k", "by bob"))).is_ok());
    assert_eq!(rig.get("k"), value("by bob", 2));
    rig.advance(1000);
    assert_eq!(rig.run(fenced("l", bob, put("k", "too late"))), refused(None));
}

#[test]
fn a_waiter_that_is_not_heard_of_is_passed_over() {
    let mut rig = Rig::new();
    let (ann, _) = rig.claim("l", "ann", 1000);
    let (bob, _) = rig.claim("l", "bob", 100);
    let (cid, _) = rig.claim("l", "cid", 1000);
    rig.advance(500);
    assert_eq!(turn(&rig, bob), Err(KvError::LeaseExpired));
    assert_eq!(rig.run(revoke(ann)), done());
    assert_eq!(rig.machine.granted(), [cid]);
}

#[test]
fn when_all_are_due_at_once_the_last_one_standing_is_told() {
    let mut rig = Rig::new();
    for n in 0..600 {
        rig.claim("l", &n.to_string(), 100);
    }
    let (last, _) = rig.claim("l", "last", 10_000);
    // More than one command removes; until then nobody may be told, though the lock is that one's already.
    rig.now_ms += 200;
    let mut told = Vec::new();
    for step in 0..3 {
        assert!(rig.change(put("k", "v")).is_ok(), "step {step}");
        told.extend_from_slice(rig.machine.granted());
    }
    assert_eq!(told, [last]);
}

/// Each fence of a batch asks for the holder; they may not all walk past the same dead places.
#[test]
fn whoever_asks_for_the_holder_removes_the_dead_before_it() {
    const DEAD: usize = 3 * caps::EXPIRIES_PER_APPLY;
    let mut rig = Rig::new();
    for n in 0..DEAD {
        rig.claim("l", &n.to_string(), 100);
    }
    let (last, _) = rig.claim("l", "last", 10_000);
    rig.now_ms += 200;
    let fence = || Change::Fence { lock: bytes("l"), token: last.index };
    assert!(rig.run(Command::Batch(vec![fence(), fence(), fence()])).is_ok());
    assert_eq!((rig.machine.stats().leases, rig.machine.granted()), (1, &[last][..]));
    assert!(rig.machine.effort() >= (DEAD as u64 + 3) * RECORD_OVERHEAD, "{}", rig.machine.effort());
    assert_eq!(rig.run(Command::Batch(vec![fence()])).map(drop), Ok(()));
    assert_eq!(rig.machine.effort(), RECORD_OVERHEAD, "nothing dead is left to pass");
}

#[test]
fn dead_places_that_a_question_passes_are_counted() {
    const DEAD: usize = 2 * caps::EXPIRIES_PER_APPLY;
    let mut rig = Rig::new();
    for n in 0..DEAD {
        rig.claim("l", &n.to_string(), 100);
    }
    let (last, _) = rig.claim("l", "last", 10_000);
    rig.advance(200);
    let left = DEAD - caps::EXPIRIES_PER_APPLY;
    let (status, passed) = rig.machine.look_up(&Query::Lock { lock: bytes("l") });
    assert!(matches!(status, Ok(Reply::Lock { holder: Some(holder), waiting: 0 }) if holder.lease == last));
    assert_eq!(passed, left);
    let turn = Query::Turn { lease: last, wait_ms: 0 };
    assert_eq!(rig.machine.look_up(&turn), (held(true), left));
}

#[test]
fn asking_again_finds_the_same_place_and_keeps_it_alive() {
    let mut rig = Rig::new();
    let (ann, _) = rig.claim("l", "ann", 100);
    let (bob, _) = rig.claim("l", "bob", 100);
    rig.advance(60);
    assert_eq!(rig.claim("l", "bob", 5), (bob, false));
    rig.advance(60);
    assert_eq!(rig.machine.granted(), [bob], "ann did not ask again");
    let (ann_again, holds) = rig.claim("l", "ann", 100);
    assert!(ann_again.index > ann.index && !holds, "a new place, at the end");
    // Of another lock: another place.
    assert!(rig.claim("m", "bob", 100).1);
}

#[test]
fn who_does_not_want_to_wait_is_refused_and_leaves_no_trace() {
    let mut rig = Rig::new();
    let claim =
        |owner: &str| Command::Claim { lock: bytes("l"), owner: bytes(owner), ttl_ms: 9, queue: false };
    let Ok(Reply::Claim { lease, held: true, .. }) = rig.run(claim("ann")) else { panic!("it is free") };
    assert_eq!(rig.run(claim("bob")), Err(KvError::LockHeld { token: lease.index }));
    assert_eq!(rig.machine.stats().leases, 1);
    let Ok(Reply::Lock { holder: Some(holder), waiting: 0 }) =
        rig.machine.query(&Query::Lock { lock: bytes("l") })
    else {
        panic!("it is held")
    };
    assert_eq!((holder.lease, &holder.owner[..], holder.left_ms), (lease, &b"ann"[..], 9));
}

#[test]
fn a_batch_behind_a_fence_is_all_or_nothing() {
    let mut rig = Rig::new();
    let (ann, _) = rig.claim("l", "ann", 100);
    let late = vec![put("a", "1"), Change::Fence { lock: bytes("l"), token: ann.index + 1 }, put("b", "1")];
    let error = Box::new(KvError::Fenced { holder: Some(ann.index) });
    assert_eq!(rig.run(Command::Batch(late)), Err(KvError::Batch { position: 1, error }));
    assert_eq!((rig.get("a"), rig.get("b")), (None, None));
}

#[test]
fn queues_take_up_room_and_give_it_back() {
    let mut rig = Rig::new();
    let limits = Limits { max_store_bytes: 500, ..Limits::default() };
    let claim =
        || Command::Claim { lock: "l".repeat(100).into(), owner: bytes("ann"), ttl_ms: 1000, queue: true };
    assert!(limits.admit(claim(), &rig.machine.stats()).is_ok());
    for owner in 0..3 {
        rig.claim(&"l".repeat(100), &owner.to_string(), 1000);
    }
    let refused = limits.admit(claim(), &rig.machine.stats());
    assert!(matches!(refused, Err(KvError::Limit { ref limit, .. }) if limit == "max_store_bytes"));
    rig.advance(1000);
    assert_eq!((rig.machine.stats().bytes, rig.machine.stats().leases), (0, 0));
}

#[test]
fn the_door_looks_at_claims_as_at_keys_and_leases() {
    let limits = Limits { max_key_bytes: 3, max_lease_ttl_ms: 1000, ..Limits::default() };
    let stats = Machine::new(GROUP).stats();
    let admit = |lock: &str, owner: &str, ttl_ms| {
        limits.admit(Command::Claim { lock: bytes(lock), owner: bytes(owner), ttl_ms, queue: true }, &stats)
    };
    assert!(
        admit("long", "o", 600).is_err()
            && admit("l", "long", 600).is_err()
            && admit("l", "o", 1001).is_err()
    );
    let Ok(Command::Claim { ttl_ms: 500, .. }) = admit("l", "o", 1) else { panic!("raised to the least") };
}
