use super::*;
use crate::logic::kv::limits::caps::EXPIRIES_PER_APPLY;
use crate::logic::kv::row::RECORD_OVERHEAD;

#[test]
fn the_clock_never_runs_backwards() {
    let mut rig = Rig::new();
    rig.advance(500);
    rig.now_ms = 3;
    rig.change(put_for("k", "v", Lifetime::Ttl(10))).unwrap();
    assert_eq!(rig.machine.time_ms(), 1500);
    assert_eq!(rig.machine.next_deadline(), Some(1510));
}

#[test]
fn a_key_is_absent_from_its_deadline_on() {
    let mut rig = Rig::new();
    rig.change(put_for("k", "v", Lifetime::Ttl(100))).unwrap();
    rig.advance(99);
    assert_eq!(rig.get("k"), value("v", 1));
    rig.advance(1);
    assert_eq!(rig.get("k"), None);
    assert_eq!(rig.machine.stats().keys, 0);
}

#[test]
fn a_put_replaces_the_lifetime_and_an_append_keeps_it() {
    let mut rig = Rig::new();
    rig.change(put_for("a", "v", Lifetime::Ttl(100))).unwrap();
    rig.change(put_for("b", "v", Lifetime::Ttl(100))).unwrap();
    rig.change(append("a", "w")).unwrap();
    rig.change(put("b", "w")).unwrap();
    rig.advance(100);
    assert_eq!((rig.get("a"), rig.get("b")), (None, value("w", 2)));
}

#[test]
fn what_is_due_but_not_yet_removed_counts_as_absent() {
    let mut rig = Rig::new();
    let count = EXPIRIES_PER_APPLY + 20;
    for n in 0..count {
        rig.change(put_for(&format!("k{n:04}"), "v", Lifetime::Ttl(100))).unwrap();
    }
    let last = format!("k{:04}", count - 1);
    rig.now_ms += 100;
    // The first command removes what it can afford, which leaves the last keys in memory.
    assert_eq!(rig.change(append(&last, "new")), version(1));
    assert_eq!(rig.machine.stats().keys, 20);
    assert_eq!(rig.machine.next_deadline(), Some(1100), "a backlog shows as a deadline that has passed");
    let before = format!("k{:04}", count - 2);
    assert_eq!(rig.get(&before), None);
    assert_eq!(rig.change(put_if(&before, "x", Expect::Version(1))), Err(KvError::NoKey));
    assert_eq!(rig.machine.stats().keys, 1);
    assert_eq!(rig.get(&last), value("new", 1));
    rig.advance(1000);
    assert_eq!(rig.get(&last), value("new", 1), "the dead record's deadline is not the new one's");
    assert_eq!(rig.machine.next_deadline(), None);
}

#[test]
fn a_range_leaves_out_what_is_due() {
    let mut rig = Rig::new();
    for n in 0..EXPIRIES_PER_APPLY + 5 {
        rig.change(put_for(&format!("k{n:04}"), "v", Lifetime::Ttl(100))).unwrap();
    }
    rig.change(put("z", "v")).unwrap();
    rig.advance(100);
    assert_eq!(rig.machine.stats().keys, 6);
    let all = Query::Prefix { prefix: bytes(""), after: None, max_keys: 1, max_bytes: 0, keys_only: false };
    let Ok(Reply::Pairs { pairs, cursor }) = rig.machine.query(&all) else { panic!("a prefix query") };
    assert_eq!((pairs.len(), pairs[0].key.clone(), cursor), (1, bytes("z"), None));
}

#[test]
fn a_lease_holds_its_keys_as_long_as_it_is_renewed() {
    let mut rig = Rig::new();
    let lease = rig.grant(100);
    rig.change(put_for("a", "v", Lifetime::Lease(lease))).unwrap();
    rig.change(put_for("b", "v", Lifetime::Lease(lease))).unwrap();
    rig.advance(99);
    assert_eq!(rig.run(Command::RenewLease { lease }), Ok(Reply::Lease { lease, ttl_ms: 100 }));
    rig.advance(99);
    assert_eq!(rig.get("a"), value("v", 1));
    rig.change(put("b", "w")).unwrap();
    rig.advance(1);
    assert_eq!((rig.get("a"), rig.get("b")), (None, value("w", 2)));
    assert_eq!(rig.run(Command::RenewLease { lease }), Err(KvError::LeaseExpired));
}

#[test]
fn a_revoked_lease_takes_its_keys_along_at_once() {
    let mut rig = Rig::new();
    let lease = rig.grant(100);
    rig.change(put_for("k", "v", Lifetime::Lease(lease))).unwrap();
    assert_eq!(rig.run(Command::RevokeLease { lease }), Ok(Reply::Done));
    assert_eq!(rig.get("k"), None);
    assert_eq!(rig.change(put("k", "w")), version(1));
    assert_eq!(rig.run(Command::RevokeLease { lease }), Err(KvError::LeaseExpired));
    assert_eq!(rig.change(put_for("k", "v", Lifetime::Lease(lease))), Err(KvError::LeaseExpired));
    rig.advance(1000);
    assert_eq!(rig.get("k"), value("w", 1));
    assert_eq!(rig.machine.next_deadline(), None);
}

#[test]
fn the_keys_of_a_large_lease_are_removed_little_by_little() {
    let mut rig = Rig::new();
    let lease = rig.grant(100);
    for n in 0..3 * EXPIRIES_PER_APPLY {
        rig.change(put_for(&format!("k{n:04}"), "v", Lifetime::Lease(lease))).unwrap();
    }
    rig.run(Command::RevokeLease { lease }).unwrap();
    let mut left = vec![];
    while rig.machine.next_deadline().is_some() {
        assert_eq!(rig.get("k0700"), None);
        left.push(rig.machine.stats().keys as usize / EXPIRIES_PER_APPLY);
        rig.advance(0);
    }
    assert_eq!(left, [3, 2, 1, 0]);
    assert_eq!(rig.machine.stats().keys, 0);
}

#[test]
fn a_restore_goes_on_with_removing_an_ended_lease() {
    let mut rig = Rig::new();
    let lease = rig.grant(100);
    rig.change(put_for("k", "v", Lifetime::Lease(lease))).unwrap();
    rig.run(Command::RevokeLease { lease }).unwrap();
    rig.restart_from_snapshot(1 << 20);
    assert_eq!((rig.get("k"), rig.machine.stats().keys), (None, 1));
    rig.advance(0);
    assert_eq!(rig.machine.stats().keys, 0);
}

#[test]
fn lifetimes_of_any_length_are_taken() {
    let mut rig = Rig::new();
    rig.change(put_for("a", "v", Lifetime::Ttl(u64::MAX))).unwrap();
    rig.change(put_for("b", "v", Lifetime::Ttl(0))).unwrap();
    assert_eq!((rig.get("a"), rig.get("b")), (value("v", 1), None));
    rig.now_ms = u64::MAX;
    let lease = rig.grant(u64::MAX);
    assert_eq!(rig.run(Command::RenewLease { lease }), Err(KvError::LeaseExpired));
}

#[test]
fn the_next_deadline_is_the_earliest_of_keys_leases_and_sessions() {
    let mut rig = Rig::new();
    assert_eq!(rig.machine.next_deadline(), None);
    rig.change(put_for("k", "v", Lifetime::Ttl(300))).unwrap();
    assert_eq!(rig.machine.next_deadline(), Some(1300));
    rig.grant(200);
    assert_eq!(rig.machine.next_deadline(), Some(1200));
    rig.open(100, 1);
    assert_eq!(rig.machine.next_deadline(), Some(1100));
    rig.advance(300);
    assert_eq!(rig.machine.next_deadline(), None);
}

#[test]
fn a_restore_amid_a_backlog_removes_the_rest_in_the_same_order() {
    let mut rig = Rig::new();
    let leases = [rig.grant(90), rig.grant(80)];
    for n in 0..EXPIRIES_PER_APPLY as u64 {
        rig.open(50 + n % 3, 1);
        rig.change(put_for(&format!("t{n}"), "v", Lifetime::Ttl(70 + n % 5))).unwrap();
        rig.change(put_for(&format!("l{n}"), "v", Lifetime::Lease(leases[n as usize % 2]))).unwrap();
    }
    rig.now_ms += 100;
    let mut copy = Rig { machine: restored(&rig.machine, 500), now_ms: rig.now_ms };
    let mut rounds = 0;
    while rig.machine.next_deadline().is_some() {
        rig.advance(0);
        copy.advance(0);
        assert_eq!(copy.machine.stats(), rig.machine.stats());
        assert_eq!(copy.machine.hash(), rig.machine.hash());
        copy.restart_from_snapshot(500);
        rounds += 1;
    }
    assert_eq!((rounds, rig.machine.stats().keys, rig.machine.stats().sessions), (4, 0, 0));
}

#[test]
fn what_comes_in_batches_is_removed_as_fast() {
    const CHANGES: u64 = 4 * EXPIRIES_PER_APPLY as u64;
    let mut rig = Rig::new();
    for round in 0..20 {
        let key = |n| put_for(&format!("{round}.{n}"), "", Lifetime::Ttl(100));
        rig.run(Command::Batch((0..CHANGES).map(key).collect())).expect("it fits");
        rig.now_ms += 50;
        assert!(rig.machine.stats().keys <= 3 * CHANGES, "round {round}: {:?}", rig.machine.stats());
    }
}

#[test]
fn removing_what_is_due_counts_as_effort() {
    let mut rig = Rig::new();
    for n in 0..10 {
        rig.change(put_for(&n.to_string(), "", Lifetime::Ttl(100))).expect("it fits");
    }
    rig.advance(100);
    assert_eq!(rig.machine.effort(), 10 * RECORD_OVERHEAD);
    rig.advance(100);
    assert_eq!(rig.machine.effort(), 0);
}
