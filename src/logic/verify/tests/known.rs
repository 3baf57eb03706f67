//! Histories that are known to be good or bad.

use super::*;

#[track_caller]
fn good(model: Model, lines: &str) {
    let operations = history(lines);
    assert!(judged(model, &operations), "{:#?}", check(model, operations, DEFAULT_BUDGET));
}

/// Bad, and the reason says this.
#[track_caller]
fn bad(model: Model, lines: &str, why: &str) {
    let operations = history(lines);
    assert!(!judged(model, &operations), "it is accepted");
    let report = check(model, operations, DEFAULT_BUDGET).expect("the operations make sense");
    assert_eq!(report.violations.len(), 1, "{report:#?}");
    assert!(report.violations[0].why.contains(why), "{}", report.violations[0].why);
}

const VERSIONED: Model = Model::Versioned;
const APPEND: Model = Model::Append;

#[test]
fn a_read_sees_what_was_written_before_it() {
    good(
        VERSIONED,
        r#"
        "call": 0, "return": 1, "op": "get", "result": "no_key"
        "call": 2, "return": 3, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 4, "return": 5, "op": "get", "result": "ok", "value": "a", "version": 1
        "#,
    );
    bad(
        VERSIONED,
        r#"
        "call": 2, "return": 3, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 4, "return": 5, "op": "get", "result": "no_key"
        "#,
        "a stale read: operation 2",
    );
}

#[test]
fn overlapping_calls_may_stand_in_any_order() {
    let lines = r#"
        "call": 0, "return": 10, "op": "put", "value": "a", "result": "ok", "version": 2
        "call": 0, "return": 10, "op": "put", "value": "b", "result": "ok", "version": 1
        "call": 1, "return": 9, "op": "get", "result": "no_key"
        "call": 11, "return": 12, "op": "get", "result": "ok", "value": "a"
        "#;
    good(VERSIONED, lines);
    bad(VERSIONED, &lines.replace("\"value\": \"a\"\n", "\"value\": \"b\"\n"), "operation 4");
}

#[test]
fn equal_times_overlap() {
    let lines = r#"
        "call": 0, "return": 5, "op": "put", "value": "a", "result": "ok", "version": 1
        "call": 5, "return": 6, "op": "get", "result": "no_key"
        "#;
    good(VERSIONED, lines);
    bad(VERSIONED, &lines.replace("\"call\": 5", "\"call\": 6"), "a stale read");
}

#[test]
fn reads_do_not_go_back_in_time() {
    bad(
        VERSIONED,
        r#"
        "call": 0, "return": 100, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 10, "return": 20, "op": "get", "result": "ok", "value": "a", "version": 1
        "call": 30, "return": 40, "op": "get", "result": "no_key"
        "#,
        "was called after that had returned",
    );
    bad(
        APPEND,
        r#"
        "call": 0, "return": 100, "op": "append", "value": "a", "result": "ok"
        "call": 10, "return": 20, "op": "get", "result": "ok", "value": "a"
        "call": 30, "return": 40, "op": "get", "result": "ok", "value": ""
        "#,
        "no order explains all answers",
    );
}

#[test]
fn a_version_is_made_once_and_holds_one_value() {
    bad(
        VERSIONED,
        r#"
        "call": 0, "return": 9, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 0, "return": 9, "op": "put", "value": "b", "expect": 0, "result": "ok", "version": 1
        "#,
        "both made version 1",
    );
    bad(
        VERSIONED,
        r#"
        "call": 0, "return": 9, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 0, "return": 9, "op": "get", "result": "ok", "value": "b", "version": 1
        "#,
        "does not tell what operation 1",
    );
    bad(
        VERSIONED,
        r#"
        "call": 0, "return": 9, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 0, "return": 9, "op": "get", "result": "ok", "value": "b", "version": 1000000000000
        "#,
        "nobody can have made version 2,",
    );
}

#[test]
fn a_change_of_unknown_fate_may_come_late_or_never_but_only_once() {
    let unknown = r#""call": 0, "op": "append", "value": "a", "result": "unknown""#;
    let get = |call: u64, value: &str| {
        format!(
            "\n\"call\": {call}, \"return\": {call}, \"op\": \"get\", \"result\": \"ok\", \"value\": \"{value}\""
        )
    };
    for model in [VERSIONED, APPEND] {
        good(model, &format!("{unknown}{}", get(1_000_000, "a")));
        good(model, unknown);
        bad(model, &format!("{unknown}{}", get(1_000_000, "aa")), "operation 2");
    }
    good(APPEND, &format!("{unknown}{}{}", get(10, ""), get(20, "a")));
    bad(APPEND, &format!("{unknown}{}{}", get(10, "a"), get(20, "")), "operation 3");
    // Before its call it cannot have happened.
    let late = unknown.replace("\"call\": 0", "\"call\": 50");
    bad(APPEND, &format!("{late}{}", get(10, "a")), "operation 2");
}

#[test]
fn a_maybe_was_carried_out_or_refused_within_the_call() {
    // Nothing else ever happened: it was carried out, though nobody saw it.
    let maybe = r#""call": 0, "return": 9, "op": "put", "value": "a", "expect": 0, "result": "maybe""#;
    good(VERSIONED, maybe);
    let read = r#""call": 10, "return": 11, "op": "get", "result": "no_key""#;
    bad(VERSIONED, &format!("{maybe}\n{read}"), "operation");
    let other =
        r#""call": 0, "return": 9, "op": "put", "value": "b", "expect": 0, "result": "ok", "version": 1"#;
    good(VERSIONED, &format!("{maybe}\n{other}"));
    // The other came too late to stand in its way, and is the first: so there was no moment to refuse it.
    let late = other.replace("\"call\": 0, \"return\": 9", "\"call\": 10, \"return\": 19");
    bad(VERSIONED, &format!("{maybe}\n{late}"), "operation");
    // An unknown one may have been lost instead.
    let unknown = maybe.replace("maybe", "unknown");
    good(VERSIONED, &format!("{unknown}\n{late}"));
}

#[test]
fn refusals_that_do_not_tell_the_version_need_a_moment_at_which_it_was_another() {
    let puts = r#"
        "call": 0, "return": 1, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 10, "return": 20, "op": "put", "value": "b", "expect": 1, "result": "ok", "version": 2
        "#;
    let refused = |call: u64, expect: u64| {
        format!(
            "{puts}\n\"call\": {call}, \"return\": {}, \"op\": \"put\", \"value\": \"c\", \"expect\": {expect}, \
             \"result\": \"version\"",
            call + 5
        )
    };
    good(VERSIONED, &refused(16, 1));
    good(VERSIONED, &refused(16, 2));
    good(VERSIONED, &refused(30, 1));
    bad(VERSIONED, &refused(3, 1), "the condition held all the time");
    bad(VERSIONED, &refused(30, 2), "");
    // Both at once: the second put must be after 16 for the one and before 14 for the other.
    let both = format!(
        "{}\n\"call\": 12, \"return\": 14, \"op\": \"put\", \"value\": \"c\", \"expect\": 1, \"result\": \"version\"",
        refused(16, 2)
    );
    bad(VERSIONED, &both, "");
}

#[test]
fn deletes_let_versions_begin_anew() {
    let lines = r#"
        "call": 0, "return": 1, "op": "put", "value": "a", "expect": 0, "result": "ok", "version": 1
        "call": 2, "return": 3, "op": "delete", "expect": 1, "result": "ok", "existed": true
        "call": 4, "return": 5, "op": "put", "value": "b", "expect": 0, "result": "ok", "version": 1
        "call": 6, "return": 7, "op": "get", "result": "ok", "value": "b", "version": 1
        "call": 8, "return": 9, "op": "delete", "expect": 2, "result": "version", "version": 1
        "#;
    good(VERSIONED, lines);
    bad(VERSIONED, &lines.replace("\"existed\": true", "\"existed\": false"), "both made version 1");
    bad(
        VERSIONED,
        &lines.replace("\"value\": \"b\", \"version\": 1", "\"value\": \"a\", \"version\": 1"),
        "operation 4",
    );
}

#[test]
fn a_batch_happens_at_one_moment() {
    let batch = r#"{"client": 1, "call": 0, "return": 50, "op": "batch", "result": "ok",
        "changes": [{"op": "put", "key": "x", "value": "1"}, {"op": "put", "key": "y", "value": "1"}],
        "results": [{"version": 1}, {"version": 1}]}"#
        .replace('\n', " ");
    let get = |call: u64, key: &str, answer: &str| {
        format!("\n{{\"call\": {call}, \"return\": {call}, \"op\": \"get\", \"key\": \"{key}\", {answer}}}")
    };
    let (one, none) = (r#""result": "ok", "value": "1", "version": 1"#, r#""result": "no_key""#);
    good(VERSIONED, &format!("{batch}{}{}", get(10, "x", none), get(20, "y", one)));
    good(VERSIONED, &format!("{batch}{}{}", get(10, "x", one), get(20, "y", one)));
    bad(
        VERSIONED,
        &format!("{batch}{}{}", get(10, "x", one), get(20, "y", none)),
        "\"x\" holds \"1\" at version 1",
    );
    let refused =
        r#"{"call": 60, "return": 61, "op": "batch", "result": "version", "version": 1, "position": 1,
        "changes": [{"op": "put", "key": "x", "value": "2"}, {"op": "check", "key": "y", "expect": 2}]}"#
            .replace('\n', " ");
    good(VERSIONED, &format!("{batch}\n{refused}{}", get(70, "x", one)));
    bad(
        VERSIONED,
        &format!("{batch}\n{}{}", refused.replace("\"position\": 1", "\"position\": 0"), get(70, "x", one)),
        "operation 2",
    );
}

#[test]
fn the_classic_histories_of_a_register() {
    // Herlihy and Wing's queue examples, told of a register: a value that is read must have been written, and an old one
    // does not come back.
    let write = |call: u64, value: &str| {
        format!(
            "\n\"call\": {call}, \"return\": {}, \"op\": \"put\", \"value\": \"{value}\", \"result\": \"ok\"",
            call + 10
        )
    };
    let read = |call: u64, value: &str| {
        format!(
            "\n\"call\": {call}, \"return\": {}, \"op\": \"get\", \"result\": \"ok\", \"value\": \"{value}\"",
            call + 1
        )
    };
    good(APPEND, &[write(0, "x"), write(5, "y"), read(20, "x"), read(22, "x")].concat());
    good(APPEND, &[write(0, "x"), write(5, "y"), read(20, "y"), read(22, "y")].concat());
    bad(APPEND, &[write(0, "x"), write(5, "y"), read(20, "x"), read(22, "y")].concat(), "operation");
    good(
        APPEND,
        &[write(0, "x"), write(0, "y"), write(4, "x"), read(8, "x"), read(9, "y"), read(20, "x")].concat(),
    );
    bad(APPEND, &[write(0, "x"), read(20, "z")].concat(), "operation 2");
}

#[test]
fn a_part_that_needs_too_many_steps_is_undecided() {
    // Sixteen appends at once, and a read that no order of them explains.
    let mut lines = String::new();
    for number in 0..16 {
        lines += &format!(
            "\"call\": 0, \"return\": 9, \"op\": \"append\", \"value\": \"{number};\", \"result\": \"ok\"\n"
        );
    }
    lines += "\"call\": 10, \"return\": 11, \"op\": \"get\", \"result\": \"ok\", \"value\": \"0;\"";
    let report = check(APPEND, history(&lines), 10_000).expect("the operations make sense");
    assert_eq!(report.undecided, [[key("k")]]);
    assert!(!report.is_linearizable());
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (model, line) in [
        (VERSIONED, r#""call": 5, "return": 4, "op": "get", "result": "no_key""#),
        (APPEND, r#""call": 5, "return": 6, "op": "put", "value": "a", "expect": 1, "result": "ok""#),
        (APPEND, r#""call": 5, "return": 6, "op": "put", "value": "a", "result": "ok", "version": 1"#),
        (APPEND, r#""call": 5, "return": 6, "op": "delete", "result": "ok""#),
    ] {
        assert!(check(model, history(line), 1).is_err(), "{line}");
    }
}

/// A store of its own kind for each key: what is wrong with one says nothing of the others, and is found among them.
#[test]
fn one_stale_read_among_many_keys_is_found() {
    let mut operations = Vec::new();
    for number in 0..20_000_u64 {
        let (key, round) = (format!("k{}", number % 100), number / 100);
        let change = Change::Put {
            key: key.clone().into(),
            value: format!("{round}").into(),
            expect: Expect::Any,
            lifetime: Lifetime::Forever,
        };
        let (call, returned) = (number * 10, number * 10 + 25);
        let answer = Answer::Done(vec![Some(Changed::Version(round + 1))]);
        operations.push(Operation { client: 1, call, returned, action: Action::Change(change), answer });
        let found = Answer::Found { value: format!("{round}").into(), version: Some(round + 1) };
        operations.push(Operation {
            client: 2,
            call: call + 30,
            returned: returned + 30,
            action: Action::Get { key: key.into() },
            answer: found,
        });
    }
    let good = check(VERSIONED, operations.clone(), DEFAULT_BUDGET).expect("the operations make sense");
    assert!(good.is_linearizable(), "{good:?}");
    assert_eq!((good.keys, good.operations, good.searched), (100, 40_000, 0));
    let stale = operations[20_001].answer.clone();
    operations[20_201].answer = stale;
    let bad = check(VERSIONED, operations, DEFAULT_BUDGET).expect("the operations make sense");
    assert_eq!(bad.violations.len(), 1);
    assert_eq!(bad.violations[0].keys, [key("k0")]);
    assert!(bad.violations[0].operations.contains(&20_202), "{:?}", bad.violations);
}
