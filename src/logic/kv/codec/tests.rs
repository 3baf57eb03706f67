use proptest::prelude::*;

use super::*;
use crate::logic::kv::command::Outcome;
use crate::logic::kv::machine::Machine;
use crate::logic::kv::tests::{GROUP, arbitrary::log_command, bytes, put};

fn reason(encoded: &[u8]) -> String {
    match LogCommand::decode(&Bytes::copy_from_slice(encoded)) {
        Err(KvError::Malformed(why)) => why,
        other => panic!("{encoded:?} was read as {other:?}"),
    }
}

#[test]
fn the_bytes_of_a_put_are_pinned() {
    let command = LogCommand {
        time_ms: 300,
        stamp: Some(Stamp { session: SessionId { group: GroupId(1), index: 2 }, seq: 3, acked_below: 4 }),
        command: Command::Change(put("key", "v")),
    };
    let expected = [1, 1, 0xac, 2, 1, 2, 3, 4, 0, 0, 3, b'k', b'e', b'y', 1, b'v', 0, 0];
    assert_eq!(command.encode()[..], expected);
}

#[test]
fn the_bytes_of_a_claim_and_of_a_fence_are_pinned() {
    let claim = Command::Claim { lock: bytes("l"), owner: bytes("me"), ttl_ms: 300, queue: true };
    let fence = Command::Change(Change::Fence { lock: bytes("l"), token: 300 });
    for (command, expected) in [
        (claim, &[1, 0, 5, 10, 1, b'l', 2, b'm', b'e', 0xac, 2, 1][..]),
        (fence, &[1, 0, 5, 0, 4, 1, b'l', 0xac, 2]),
    ] {
        assert_eq!(LogCommand { time_ms: 5, stamp: None, command }.encode()[..], *expected);
    }
}

#[test]
fn values_share_the_memory_of_the_entry() {
    let command = LogCommand { time_ms: 1, stamp: None, command: Command::Change(put("key", "value")) };
    let encoded = command.encode();
    let Command::Change(change) = LogCommand::decode(&encoded).unwrap().command else { panic!("a change") };
    assert!(encoded.as_ptr_range().contains(&change.key().as_ptr()));
    assert_eq!(change.value(), Some(&bytes("value")));
}

#[test]
fn everything_but_the_one_form_is_refused() {
    let advance = LogCommand { time_ms: 5, stamp: None, command: Command::Advance }.encode();
    assert_eq!(advance[..], [1, 0, 5, 9]);
    for (encoded, why) in [
        (&[][..], "cut short"),
        (&[2, 0, 5, 9], "unknown format"),
        (&[1, 2, 5, 9], "unknown flags"),
        (&[1, 0, 5, 77], "unknown command"),
        (&[1, 0, 5, 9, 0], "bytes behind the end"),
        (&[1, 0, 0x85, 0, 9], "shortest form"),
        (&[1, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 9], "64 bits"),
        (&[1, 1, 5, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 1, 9], "32 bits"),
        (&[1, 0, 5, 1, 0xff, 0xff, 0xff, 0x7f, 2, 0, 0], "more changes than bytes"),
        (&[1, 0, 5, 0, 2, 0xff, 0xff, 0xff, 0x7f, 0], "cut short"),
        (&[1, 0, 5, 0, 9, 0], "unknown change"),
        (&[1, 0, 5, 0, 2, 0, 9], "unknown condition"),
        (&[1, 0, 5, 0, 0, 0, 0, 0, 9], "unknown lifetime"),
        (&[1, 0, 5, 10, 0, 0, 9, 2], "neither yes nor no"),
    ] {
        assert!(
            reason(encoded).starts_with(why) || reason(encoded).contains(why),
            "{encoded:?}: {}",
            reason(encoded)
        );
    }
}

#[test]
fn the_largest_numbers_survive() {
    let command = LogCommand {
        time_ms: u64::MAX,
        stamp: None,
        command: Command::OpenSessionAs { ttl_ms: u64::MAX, window: u32::MAX },
    };
    assert_eq!(LogCommand::decode(&command.encode()), Ok(command));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_command_is_read_as_it_was_written(command in log_command()) {
        prop_assert_eq!(LogCommand::decode(&command.encode()), Ok(command));
    }

    #[test]
    fn a_command_that_is_cut_short_is_refused(command in log_command()) {
        let encoded = command.encode();
        for length in 0..encoded.len() {
            prop_assert!(LogCommand::decode(&encoded.slice(..length)).is_err());
        }
    }

    #[test]
    fn any_bytes_are_a_command_in_its_one_form_or_refused(
        command in log_command(),
        noise in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..4),
        garbage in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut flipped = command.encode().to_vec();
        for (at, byte) in noise {
            let at = usize::from(at) % flipped.len();
            flipped[at] = byte;
        }
        let mut machine = Machine::new(GROUP);
        for (index, encoded) in (1..).zip([Bytes::from(flipped), Bytes::from(garbage)]) {
            if let Ok(command) = LogCommand::decode(&encoded) {
                prop_assert_eq!(command.encode(), &encoded);
            }
            let _: Outcome = machine.apply(index, &encoded);
        }
    }
}
