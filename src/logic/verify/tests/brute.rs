//! A judge that is too simple to be wrong: it tries every order, on a store that is a map.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::*;

/// Values and versions; what is absent is not in it.
pub(super) type Store = BTreeMap<Bytes, (Bytes, Version)>;

/// What the store answers. `versions` are counted also where the model shows none.
pub(super) fn carry_out(store: &mut Store, action: &Action) -> Answer {
    if let Action::Get { key } = action {
        return match store.get(key) {
            Some((value, version)) => Answer::Found { value: value.clone(), version: Some(*version) },
            None => Answer::Absent,
        };
    }
    let mut copy = store.clone();
    let mut done = Vec::new();
    for (position, change) in (0..).zip(action.changes()) {
        match carry_out_one(&mut copy, change) {
            Ok(changed) => done.push(Some(changed)),
            Err(why) => return Answer::Refused { position: Some(position), why },
        }
    }
    *store = copy;
    Answer::Done(done)
}

fn carry_out_one(store: &mut Store, change: &Change) -> Result<Changed, Refusal> {
    let actual = store.get(change.key()).map_or(0, |(_, version)| *version);
    let expect = match change {
        Change::Put { expect, .. } | Change::Append { expect, .. } => expect,
        Change::Delete { expect, .. } | Change::Check { expect, .. } => expect,
    };
    let expected = match expect {
        Expect::Any => actual,
        Expect::Absent => 0,
        Expect::Version(version) => *version,
    };
    if expected != actual {
        let there = Refusal::Version { actual: Some(actual) };
        return Err(if actual == 0 { Refusal::NoKey } else { there });
    }
    let value = match change {
        Change::Put { value, .. } => value.clone(),
        Change::Append { value, .. } => {
            let before = store.get(change.key()).map_or(&[][..], |(value, _)| &value[..]);
            [before, &value[..]].concat().into()
        }
        Change::Delete { key, .. } => {
            return Ok(Changed::Deleted { existed: store.remove(key).is_some() });
        }
        Change::Check { .. } => return Ok(Changed::Held),
    };
    store.insert(change.key().clone(), (value, actual + 1));
    Ok(Changed::Version(actual + 1))
}

/// Whether an answer says nothing else than what the store answered.
fn agrees(model: Model, told: &Answer, truth: &Answer) -> bool {
    match (told, truth) {
        (Answer::Maybe | Answer::Unknown, _) => true,
        (Answer::Found { value, version }, Answer::Found { value: true_value, version: true_version }) => {
            value == true_value && (version.is_none() || version == true_version)
        }
        (Answer::Found { value, .. }, Answer::Absent) => model == Model::Append && value.is_empty(),
        (Answer::Absent, Answer::Found { value, .. }) => model == Model::Append && value.is_empty(),
        (Answer::Absent, Answer::Absent) => true,
        (Answer::Done(told), Answer::Done(truth)) => {
            told.iter().zip(truth).all(|(told, truth)| told.is_none() || told == truth)
        }
        (Answer::Refused { position, why }, Answer::Refused { position: at, why: because }) => {
            let vague =
                matches!((why, because), (Refusal::Version { actual: None }, Refusal::Version { .. }));
            (position.is_none() || position == at) && (vague || why == because)
        }
        _ => false,
    }
}

/// Whether there is an order, found by trying all of them.
pub(super) fn linearizable(model: Model, operations: &[Operation]) -> bool {
    let counts = |operation: &&Operation| operation.answer != Answer::Failed;
    let operations: Vec<&Operation> = operations.iter().filter(counts).collect();
    try_all(model, &operations, &mut vec![false; operations.len()], &Store::new())
}

fn try_all(model: Model, operations: &[&Operation], taken: &mut [bool], store: &Store) -> bool {
    let is_open = |operation: &Operation| operation.answer == Answer::Unknown;
    if (0..operations.len()).all(|at| taken[at] || is_open(operations[at])) {
        return true;
    }
    for at in 0..operations.len() {
        let operation = operations[at];
        let too_early = (0..operations.len()).any(|other| {
            !taken[other] && !is_open(operations[other]) && operations[other].returned < operation.call
        });
        if taken[at] || too_early {
            continue;
        }
        let mut store = store.clone();
        let truth = carry_out(&mut store, &operation.action);
        if agrees(model, &operation.answer, &truth) {
            taken[at] = true;
            if try_all(model, operations, taken, &store) {
                return true;
            }
            taken[at] = false;
        }
    }
    false
}
