use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::logic::ids::GroupId;
use crate::logic::kv::command::{Command, Lifetime, Stamp};
use crate::logic::kv::machine::Machine;
use crate::logic::kv::tests::{GROUP, Rig, arbitrary::log, put, put_for, restored, value};

/// A bit of everything.
fn rig() -> Rig {
    let mut rig = Rig::new();
    let lease = rig.grant(700);
    rig.grant(900);
    for owner in ["ann", "bob", ""] {
        rig.claim("a lock", owner, 800);
    }
    for window in 1..4 {
        let session = rig.open(5000, 8 * window);
        for seq in 1..6 {
            let stamp = Stamp { session, seq, acked_below: seq / 2 };
            rig.log(Some(stamp), Command::Change(put(&format!("s{seq}"), "by a session"))).unwrap();
        }
    }
    for n in 0..40 {
        rig.change(put_for(&format!("k{n}"), "v", Lifetime::Ttl(1000 + n))).unwrap();
        rig.change(put_for(&format!("l{n}"), "v", Lifetime::Lease(lease))).unwrap();
    }
    rig
}

fn chunks(machine: &Machine, max_chunk_bytes: usize) -> Vec<Vec<u8>> {
    machine.freeze().chunks(max_chunk_bytes).collect()
}

fn restore(chunks: &[Vec<u8>]) -> Result<Machine, RestoreError> {
    let mut restorer = Restorer::new(GROUP);
    for chunk in chunks {
        restorer.chunk(chunk)?;
    }
    restorer.finish()
}

/// A chunk of these items, correctly numbered and summed.
fn forged(number: u32, items: &[(u8, &[u8])]) -> Vec<u8> {
    let mut rest = number.to_le_bytes().to_vec();
    for (tag, body) in items {
        rest.push(*tag);
        rest.extend_from_slice(&(body.len() as u32).to_le_bytes());
        rest.extend_from_slice(body);
    }
    [xxh3_64(&rest).to_le_bytes().to_vec(), rest].concat()
}

fn header() -> Vec<u8> {
    [&MAGIC[..], &FORMAT.to_le_bytes(), &GROUP.0.to_le_bytes(), &9u64.to_le_bytes(), &8u64.to_le_bytes()]
        .concat()
}

#[test]
fn an_empty_store_survives() {
    let machine = Machine::new(GROUP);
    let copy = restored(&machine, DEFAULT_CHUNK_BYTES);
    assert_eq!((copy.hash(), copy.applied(), copy.stats()), (machine.hash(), 0, machine.stats()));
}

#[test]
fn everything_survives_whatever_the_length_of_chunks() {
    let rig = rig();
    for max_chunk_bytes in [0, 1, 50, 100, 333, 4096, DEFAULT_CHUNK_BYTES] {
        let copy = restored(&rig.machine, max_chunk_bytes);
        assert_eq!(copy.hash(), rig.machine.hash());
        assert_eq!(copy.stats(), rig.machine.stats());
        assert_eq!(copy.next_deadline(), rig.machine.next_deadline());
        assert_eq!(chunks(&copy, max_chunk_bytes), chunks(&rig.machine, max_chunk_bytes));
    }
}

#[test]
fn a_chunk_is_longer_than_allowed_only_for_one_large_item() {
    let mut rig = rig();
    rig.change(put("large", &"x".repeat(1000))).unwrap();
    let chunks = chunks(&rig.machine, 200);
    let long: Vec<&Vec<u8>> = chunks.iter().filter(|chunk| chunk.len() > 200).collect();
    assert!(chunks.len() > 10 && long.len() == 1, "{} chunks, {} long", chunks.len(), long.len());
    assert!(long[0].len() < 1200);
}

#[test]
fn a_frozen_copy_does_not_see_what_comes_after_it() {
    let mut rig = rig();
    let (frozen, hash) = (rig.machine.freeze(), rig.machine.hash());
    rig.change(put("s1", "later")).unwrap();
    rig.advance(100_000);
    assert_ne!(rig.machine.hash(), hash);
    assert_eq!(frozen.hash(), hash);
    let chunks: Vec<_> = std::iter::from_fn({
        let mut chunks = frozen.chunks(300);
        move || chunks.next()
    })
    .collect();
    let copy = restore(&chunks).unwrap();
    assert_eq!(copy.hash(), hash);
    rig.machine = copy;
    assert_eq!(rig.get("s1"), value("by a session", 3));
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let chunks = chunks(&rig().machine, 700);
    for (number, at) in
        chunks.iter().enumerate().flat_map(|(n, chunk)| (0..chunk.len()).map(move |at| (n, at)))
    {
        let mut damaged = chunks.clone();
        damaged[number][at] ^= 1 << (at % 8);
        assert_eq!(restore(&damaged).err(), Some(RestoreError::Damaged { number: number as u32 }));
    }
}

#[test]
fn missing_repeated_and_swapped_chunks_are_found() {
    let chunks = chunks(&rig().machine, 700);
    assert!(chunks.len() > 4);
    let out_of_order = |expected, found| Some(RestoreError::OutOfOrder { expected, found });
    let mut swapped = chunks.clone();
    swapped.swap(1, 2);
    assert_eq!(restore(&swapped).err(), out_of_order(1, 2));
    let mut missing = chunks.clone();
    missing.remove(2);
    assert_eq!(restore(&missing).err(), out_of_order(2, 3));
    let mut repeated = chunks.clone();
    repeated.insert(2, chunks[1].clone());
    assert_eq!(restore(&repeated).err(), out_of_order(2, 1));
    assert_eq!(restore(&chunks[..chunks.len() - 1]).err(), Some(RestoreError::Incomplete));
    assert_eq!(restore(&[]).err(), Some(RestoreError::Incomplete));
    let short: Vec<_> = chunks.iter().map(|chunk| chunk[..chunk.len() - 1].to_vec()).collect();
    assert_eq!(restore(&short).err(), Some(RestoreError::Damaged { number: 0 }));
}

#[test]
fn a_failed_restore_stays_failed() {
    let chunks = chunks(&rig().machine, 700);
    let mut restorer = Restorer::new(GROUP);
    let error = restorer.chunk(&chunks[1]).unwrap_err();
    assert_eq!(restorer.chunk(&chunks[0]), Err(error.clone()));
    assert_eq!(restorer.finish().err(), Some(error));
}

#[test]
fn the_snapshot_of_another_group_is_refused() {
    let other = GroupId(GROUP.0 + 1);
    let chunks = chunks(&Machine::new(other), 700);
    assert_eq!(restore(&chunks).err(), Some(RestoreError::OtherGroup { expected: GROUP, found: other }));
}

#[test]
fn the_state_must_have_the_hash_that_was_saved() {
    let end = forged(0, &[(HEADER, &header()), (END, &[7; 16])]);
    assert!(matches!(restore(&[end]), Err(RestoreError::OtherHash { .. })));
}

#[test]
fn well_summed_nonsense_is_refused() {
    let lease = |index: u64| [&GROUP.0.to_le_bytes()[..], &index.to_le_bytes(), &[1; 16]].concat();
    let session = [&lease(4)[..], &[0; 12]].concat();
    let claim = [&lease(4)[..], &5u32.to_le_bytes(), b"lock"].concat();
    let mut nested = vec![0; 8];
    nested.extend([0x81, 0xa3, b'E', b'r', b'r'].repeat(5000));
    let record = [&[0u8][..], &1u64.to_le_bytes(), &[0; 12], &3u32.to_le_bytes(), b"keyvalue"].concat();
    let head = header();
    type Items<'a> = &'a [(u8, &'a [u8])];
    let cases: &[(Items<'_>, &str)] = &[
        (&[(LEASE, &lease(1))], "it does not begin with the header"),
        (&[(HEADER, &head[..11])], "cut short"),
        (&[(HEADER, &head[..20])], "cut short"),
        (&[(HEADER, &[&head[..], b"x"].concat())], "bytes behind an item"),
        (&[(HEADER, &head), (HEADER, &head)], "an unknown item, or one in the wrong place"),
        (&[(HEADER, &head), (77, &[])], "an unknown item, or one in the wrong place"),
        (&[(HEADER, &head), (LEASE, &lease(2)), (LEASE, &lease(2))], "leases out of order"),
        (&[(HEADER, &head), (LEASE, &lease(10))], "an id from the future"),
        (&[(HEADER, &head), (CLAIM, &lease(2))], "cut short"),
        (&[(HEADER, &head), (CLAIM, &claim)], "cut short"),
        (&[(HEADER, &head), (REPLY, &[0; 9])], "a reply without a session"),
        (&[(HEADER, &head), (SESSION, &session), (SESSION, &session)], "sessions out of order"),
        (&[(HEADER, &head), (SESSION, &session), (REPLY, &nested)], "not an outcome"),
        (&[(HEADER, &head), (RECORD, &record[..24])], "not a record"),
        (&[(HEADER, &head), (RECORD, &record[..25])], "not a record"),
        (&[(HEADER, &head), (RECORD, &record), (RECORD, &record)], "records out of order"),
        (
            &[(HEADER, &head), (RECORD, &record), (LEASE, &lease(1))],
            "an unknown item, or one in the wrong place",
        ),
        (&[(HEADER, &head), (END, &[0; 16]), (RECORD, &record)], "something behind the end"),
    ];
    for (items, why) in cases {
        assert_eq!(restore(&[forged(0, items)]).err(), Some(RestoreError::Malformed { number: 0, why }));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_make_a_machine(garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(restore(&[garbage]).is_err());
    }

    #[test]
    fn random_items_never_panic(
        log in log(40),
        flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 1..4),
    ) {
        let mut machine = Machine::new(GROUP);
        for (index, command) in (1..).zip(log) {
            machine.apply_command(index, command).ok();
        }
        let mut chunk = chunks(&machine, DEFAULT_CHUNK_BYTES).remove(0);
        let start = CHECKSUM_BYTES;
        for (at, byte) in flips {
            let at = start + usize::from(at) % (chunk.len() - start);
            chunk[at] = byte;
        }
        let checksum = xxh3_64(&chunk[start..]);
        chunk[..start].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(copy) = restore(&[chunk]) {
            prop_assert_eq!(copy.hash(), machine.hash());
        }
    }
}
