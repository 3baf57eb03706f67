//! Lines: what is written is read as the same; what is wrong is refused with a reason.

use proptest::prelude::*;

use super::*;

fn blob() -> impl Strategy<Value = bytes::Bytes> {
    prop_oneof![
        "[a-z\"\\\\\n]{0,6}".prop_map(bytes::Bytes::from),
        prop::collection::vec(any::<u8>(), 0..6).prop_map(bytes::Bytes::from),
    ]
}

fn change() -> impl Strategy<Value = Change> {
    let expect = prop_oneof![Just(Expect::Any), Just(Expect::Absent), (1..9_u64).prop_map(Expect::Version)];
    (0..4, blob(), blob(), expect).prop_map(|(kind, key, value, expect)| match kind {
        0 => Change::Put { key, value, expect, lifetime: Lifetime::Forever },
        1 => Change::Append { key, value, expect },
        2 => Change::Delete { key, expect },
        _ => Change::Check { key, expect },
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        blob().prop_map(|key| Action::Get { key }),
        change().prop_map(Action::Change),
        prop::collection::vec(change(), 0..4).prop_map(Action::Batch),
    ]
}

/// An answer to this action; `kind` and `number` choose it.
fn answer(action: &Action, kind: u8, number: Option<u64>, value: bytes::Bytes) -> Answer {
    let told = |change: &Change| match change {
        Change::Check { .. } => Some(Changed::Held),
        Change::Delete { .. } => number.map(|number| Changed::Deleted { existed: number % 2 == 0 }),
        _ => number.map(Changed::Version),
    };
    let position = match action {
        Action::Batch(changes) if !changes.is_empty() => number.map(|number| (number % 3) as u32),
        _ => None,
    };
    match (action, kind) {
        (_, 0) => Answer::Unknown,
        (_, 1) => Answer::Failed,
        (Action::Get { .. }, 2) => Answer::Absent,
        (Action::Get { .. }, _) => Answer::Found { value, version: number },
        (_, 2) => Answer::Maybe,
        (_, 3) => Answer::Refused { position, why: Refusal::NoKey },
        (_, 4) => Answer::Refused { position, why: Refusal::Version { actual: number } },
        _ => Answer::Done(action.changes().iter().map(told).collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        action in action(), kind in 0..7_u8, number in prop::option::of(any::<u64>()), value in blob(), times: (u64, u64, u64)
    ) {
        let answer = answer(&action, kind, number, value);
        let (client, call, returned) = times;
        let open = matches!(answer, Answer::Unknown | Answer::Failed);
        let returned = if open { u64::MAX } else { returned };
        let operation = Operation { client, call, returned, action, answer };
        let line = line::write(&operation);
        prop_assert!(!line.contains('\n'));
        prop_assert_eq!(line::parse(&line), Ok(operation), "{}", line);
    }

    #[test]
    fn any_text_is_answered(text in "[ -~é\\n]{0,80}") {
        let _ = line::parse(&text);
    }
}

#[test]
fn wrong_lines_are_refused_with_a_reason() {
    for (line, reason) in [
        ("", "one JSON object"),
        ("[]", "one JSON object"),
        ("{", "EOF"),
        (r#"{"call": 1, "return": 2, "op": "get", "key": "k", "result": "ok", "velue": "v"}"#, "velue"),
        (r#"{"return": 2, "op": "get", "key": "k", "result": "no_key"}"#, "call is missing"),
        (r#"{"call": 1, "op": "get", "key": "k", "result": "no_key"}"#, "return is missing"),
        (r#"{"call": -1, "return": 2, "op": "get", "key": "k", "result": "no_key"}"#, "-1"),
        (r#"{"call": 1, "return": 2, "op": "get", "key": "k"}"#, "\"\" is no result of a get"),
        (r#"{"call": 1, "return": 2, "op": "get", "key": "k", "result": "ok"}"#, "value is missing"),
        (
            r#"{"call": 1, "return": 2, "op": "get", "key": "k", "result": "no_key", "version": 1}"#,
            "comes without",
        ),
        (r#"{"call": 1, "return": 2, "op": "get", "result": "no_key"}"#, "key is missing"),
        (r#"{"call": 1, "return": 2, "op": "fly", "key": "k", "result": "ok"}"#, "\"fly\" is no op"),
        (r#"{"call": 1, "return": 2, "op": "put", "key": "k", "result": "ok"}"#, "put needs one"),
        (r#"{"call": 1, "return": 2, "op": "put", "key": "k", "value": "v"}"#, "result is missing"),
        (
            r#"{"call": 1, "return": 2, "op": "put", "key": "k", "value": "v", "result": "fine"}"#,
            "\"fine\" is no result",
        ),
        (
            r#"{"call": 1, "return": 2, "op": "put", "key": "k", "value": "v", "result": "ok", "existed": true}"#,
            "tell a version",
        ),
        (
            r#"{"call": 1, "return": 2, "op": "put", "key": "k", "key_hex": "00", "value": "v", "result": "ok"}"#,
            "not both",
        ),
        (
            r#"{"call": 1, "return": 2, "op": "put", "key_hex": "0", "value": "v", "result": "ok"}"#,
            "not hexadecimal",
        ),
        (
            r#"{"call": 1, "return": 2, "op": "put", "key": "k", "value": "v", "result": "maybe", "position": 0}"#,
            "position does not",
        ),
        (r#"{"call": 1, "return": 2, "op": "batch", "result": "ok"}"#, "changes is missing"),
        (
            r#"{"call": 1, "return": 2, "op": "batch", "changes": [], "results": [{}], "result": "ok"}"#,
            "as many",
        ),
        (
            r#"{"call": 1, "return": 2, "op": "batch", "key": "k", "changes": [], "result": "ok"}"#,
            "key does not",
        ),
    ] {
        let problem = line::parse(line).expect_err(line);
        assert!(problem.contains(reason), "{line}: {problem}");
    }
}
