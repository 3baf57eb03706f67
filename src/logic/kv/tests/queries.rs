use super::*;
use crate::logic::kv::command::Pair;
use crate::logic::kv::limits::caps;

fn rig() -> Rig {
    let mut rig = Rig::new();
    for key in ["", "a", "b", "ba", "bb", "c"] {
        rig.change(put(key, &format!("<{key}>"))).unwrap();
    }
    rig
}

fn pairs(rig: &Rig, query: Query) -> (String, Option<Bytes>) {
    let Ok(Reply::Pairs { pairs, cursor }) = rig.machine.query(&query) else {
        panic!("pairs were asked for")
    };
    let keys: Vec<_> = pairs.iter().map(|pair| String::from_utf8_lossy(&pair.key).into_owned()).collect();
    (keys.join(","), cursor)
}

fn range(start: &str, end: Option<&str>, max_keys: u32, max_bytes: u32) -> Query {
    Query::Range { start: bytes(start), end: end.map(bytes), max_keys, max_bytes, keys_only: false }
}

fn prefix(prefix: &[u8], after: Option<&str>, max_keys: u32) -> Query {
    let prefix = Bytes::copy_from_slice(prefix);
    Query::Prefix { prefix, after: after.map(bytes), max_keys, max_bytes: 0, keys_only: false }
}

#[test]
fn a_get_of_an_absent_key_is_no_key() {
    assert_eq!(rig().machine.query(&Query::Get { key: bytes("x") }), Err(KvError::NoKey));
}

#[test]
fn a_range_includes_its_start_and_excludes_its_end() {
    let rig = rig();
    assert_eq!(pairs(&rig, range("a", Some("bb"), 0, 0)), ("a,b,ba".into(), None));
    assert_eq!(pairs(&rig, range("", None, 0, 0)), (",a,b,ba,bb,c".into(), None));
    assert_eq!(pairs(&rig, range("b", Some("b"), 0, 0)), ("".into(), None));
    assert_eq!(pairs(&rig, range("c", Some("a"), 0, 0)), ("".into(), None));
}

#[test]
fn the_cursor_of_a_range_is_the_first_key_left_out() {
    let rig = rig();
    assert_eq!(pairs(&rig, range("a", None, 2, 0)), ("a,b".into(), Some(bytes("ba"))));
    assert_eq!(pairs(&rig, range("ba", None, 2, 0)), ("ba,bb".into(), Some(bytes("c"))));
    assert_eq!(pairs(&rig, range("c", None, 2, 0)), ("c".into(), None));
    assert_eq!(pairs(&rig, range("a", Some("ba"), 2, 0)), ("a,b".into(), None));
}

#[test]
fn the_byte_budget_counts_keys_and_values_and_lets_one_pair_through() {
    let rig = rig();
    assert_eq!(pairs(&rig, range("a", None, 0, 8)), ("a,b".into(), Some(bytes("ba"))));
    assert_eq!(pairs(&rig, range("a", None, 0, 7)), ("a".into(), Some(bytes("b"))));
    assert_eq!(pairs(&rig, range("a", None, 0, 1)), ("a".into(), Some(bytes("b"))));
    let keys = Query::Range { start: bytes("a"), end: None, max_keys: 0, max_bytes: 4, keys_only: true };
    let expected = ["a", "b", "ba"].map(|key| Pair { key: bytes(key), value: Bytes::new(), version: 1 });
    assert_eq!(
        rig.machine.query(&keys),
        Ok(Reply::Pairs { pairs: expected.to_vec(), cursor: Some(bytes("bb")) })
    );
}

#[test]
fn a_prefix_covers_exactly_the_keys_that_begin_with_it() {
    let mut rig = rig();
    assert_eq!(pairs(&rig, prefix(b"b", None, 0)), ("b,ba,bb".into(), None));
    assert_eq!(pairs(&rig, prefix(b"", None, 0)), (",a,b,ba,bb,c".into(), None));
    assert_eq!(pairs(&rig, prefix(b"x", None, 0)), ("".into(), None));
    let key = |key: &'static [u8]| Change::Append {
        key: Bytes::from_static(key),
        value: Bytes::new(),
        expect: Expect::Any,
    };
    for high in [&b"\xfe"[..], b"\xfe\xff", b"\xfe\xff\xff", b"\xff", b"\xff\xff"] {
        rig.change(key(high)).unwrap();
    }
    let count = |query| match rig.machine.query(&query) {
        Ok(Reply::Pairs { pairs, .. }) => pairs.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!((count(prefix(b"\xfe\xff", None, 0)), count(prefix(b"\xff", None, 0))), (2, 2));
}

#[test]
fn the_cursor_of_a_prefix_is_the_last_key_of_the_reply() {
    let rig = rig();
    assert_eq!(pairs(&rig, prefix(b"b", None, 2)), ("b,ba".into(), Some(bytes("ba"))));
    assert_eq!(pairs(&rig, prefix(b"b", Some("ba"), 2)), ("bb".into(), None));
    assert_eq!(pairs(&rig, prefix(b"b", Some("a"), 1)), ("b".into(), Some(bytes("b"))));
    assert_eq!(pairs(&rig, prefix(b"b", Some("z"), 0)), ("".into(), None));
}

/// Their time is over, and the log has not removed them yet.
#[test]
fn a_page_ends_after_so_many_dead_keys_and_the_next_one_goes_on_behind_them() {
    const DEAD: usize = caps::REPLY_PAIRS + 100;
    let mut rig = Rig::new();
    let keys: Vec<usize> = (0..DEAD + caps::EXPIRIES_PER_APPLY).collect();
    for keys in keys.chunks(10_000) {
        let puts = keys.iter().map(|n| put_for(&format!("k{n:06}"), "", Lifetime::Ttl(100))).collect();
        rig.run(Command::Batch(puts)).expect("it fits");
    }
    rig.change(put("z", "")).expect("it fits");
    rig.advance(100);
    assert_eq!(rig.machine.stats().keys as usize, DEAD + 1);
    let first = Query::Range { start: bytes(""), end: None, max_keys: 1, max_bytes: 0, keys_only: false };
    let (_, passed) = rig.machine.look_up(&first);
    assert_eq!(passed, caps::REPLY_PAIRS, "each is work for the server");
    let (none, cursor) = pairs(&rig, first);
    assert_eq!((none, cursor.is_some()), (String::new(), true));
    let start = cursor.unwrap_or_default();
    let next = Query::Range { start, end: None, max_keys: 1, max_bytes: 0, keys_only: false };
    assert_eq!(rig.machine.look_up(&next).1, 100, "none is looked at twice, none is left out");
    assert_eq!(pairs(&rig, next), ("z".into(), None));
    let (none, after) = pairs(&rig, prefix(b"", None, 1));
    assert_eq!((none, after.is_some()), (String::new(), true));
    let next = Query::Prefix { prefix: bytes(""), after, max_keys: 1, max_bytes: 0, keys_only: false };
    assert_eq!(rig.machine.look_up(&next).1, 100);
    assert_eq!(pairs(&rig, next), ("z".into(), None));
}
