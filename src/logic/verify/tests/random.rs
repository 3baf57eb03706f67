//! Random histories: what one store did, seen through calls that overlap, is accepted; what was changed afterwards is
//! judged as the judge does that tries everything.

use proptest::prelude::*;

use super::brute::{Store, carry_out, linearizable};
use super::*;

/// What the histories are made of.
#[derive(Clone, Copy)]
struct Mix {
    model: Model,
    keys: u64,
    deletes: bool,
    batches: bool,
    /// How far calls reach beyond the moments at which they take effect.
    reach: u64,
    /// Answers of a hundred that are lost, or say less than they could.
    lost: u8,
}

fn pick_change(rng: &mut fastrand::Rng, mix: Mix, store: &Store, number: u64) -> Change {
    let key = bytes::Bytes::from(format!("k{}", rng.u64(0..mix.keys)));
    let version = store.get(&key).map_or(0, |(_, version)| *version);
    let expect = match rng.u8(0..4) {
        _ if mix.model == Model::Append => Expect::Any,
        0 => Expect::Any,
        1 if version == 0 => Expect::Absent,
        1 | 2 => Expect::Version(version),
        _ => Expect::Version(rng.u64(0..4)),
    };
    // Few different values, so that they do not give everything away.
    let value = bytes::Bytes::from(format!("{};", if rng.bool() { number } else { number % 3 }));
    match rng.u8(0..10) {
        0 if mix.deletes => Change::Delete { key, expect },
        1 if mix.batches => Change::Check { key, expect },
        2..5 => Change::Append { key, value, expect },
        _ => Change::Put { key, value, expect, lifetime: Lifetime::Forever },
    }
}

fn pick(rng: &mut fastrand::Rng, mix: Mix, store: &Store, number: u64) -> Action {
    match rng.u8(0..10) {
        0..4 => Action::Get { key: format!("k{}", rng.u64(0..mix.keys)).into() },
        4 if mix.batches => {
            Action::Batch((0..rng.u64(1..4)).map(|_| pick_change(rng, mix, store, number)).collect())
        }
        _ => Action::Change(pick_change(rng, mix, store, number)),
    }
}

/// A history as it comes from one store that does one thing at a time.
fn true_history(rng: &mut fastrand::Rng, mix: Mix, count: u64) -> Vec<Operation> {
    let mut store = Store::new();
    let mut operations = Vec::new();
    for number in 0..count {
        let action = pick(rng, mix, &store, number);
        let moment = mix.reach + number * 10;
        let (call, returned) = (moment - rng.u64(0..=mix.reach), moment + rng.u64(0..=mix.reach));
        let is_lost = rng.u8(0..100) < mix.lost;
        if is_lost && rng.bool() {
            // Lost on the way: it never took effect.
            operations.push(Operation { client: number, call, returned, action, answer: Answer::Unknown });
            continue;
        }
        let truth = carry_out(&mut store, &action);
        let answer = match is_lost {
            true if rng.bool() || matches!(action, Action::Get { .. }) => Answer::Unknown,
            true => Answer::Maybe,
            false => plain(rng, mix, truth),
        };
        operations.push(Operation { client: number, call, returned, action, answer });
    }
    rng.shuffle(&mut operations);
    operations
}

/// The answer as the model can tell it, and sometimes with less in it than there could be.
fn plain(rng: &mut fastrand::Rng, mix: Mix, truth: Answer) -> Answer {
    let vague = mix.model == Model::Append || rng.u8(0..100) < mix.lost;
    match truth {
        _ if !vague => truth,
        Answer::Found { value, .. } => Answer::Found { value, version: None },
        Answer::Done(changed) => Answer::Done(vec![None; changed.len()]),
        Answer::Refused { why: Refusal::Version { .. }, .. } => {
            Answer::Refused { position: None, why: Refusal::Version { actual: None } }
        }
        other => other,
    }
}

/// Changes one thing in one operation: now it may be a lie.
fn tamper(rng: &mut fastrand::Rng, operations: &mut [Operation]) {
    let at = rng.usize(0..operations.len());
    let other = rng.usize(0..operations.len());
    let moved = rng.u64(0..60);
    let borrowed = operations[other].answer.clone();
    let operation = &mut operations[at];
    match &mut operation.answer {
        Answer::Found { version: Some(version), .. } if rng.bool() => *version += 1,
        Answer::Found { value, .. } if rng.bool() => *value = format!("{};", rng.u8(0..4)).into(),
        answer @ Answer::Found { .. } if rng.bool() => *answer = Answer::Absent,
        Answer::Done(changed) if rng.bool() => {
            if let Some(Some(Changed::Version(version))) = changed.first_mut() {
                *version = (*version + rng.u64(0..3)).saturating_sub(1);
            }
        }
        Answer::Refused { why, .. } if rng.bool() => *why = Refusal::NoKey,
        answer
            if rng.bool()
                && Model::Versioned
                    .admits(&Operation { answer: borrowed.clone(), ..any_put(at) })
                    .is_ok() =>
        {
            if !matches!(operation.action, Action::Get { .. } | Action::Batch(_)) {
                *answer = borrowed;
            }
        }
        _ => {
            // The whole call at another time.
            let length = operation.returned - operation.call;
            operation.call = moved;
            operation.returned = moved + length;
        }
    }
}

fn any_put(at: usize) -> Operation {
    let change =
        Change::Put { key: key("k"), value: key("v"), expect: Expect::Any, lifetime: Lifetime::Forever };
    Operation {
        client: at as u64,
        call: 0,
        returned: u64::MAX,
        action: Action::Change(change),
        answer: Answer::Maybe,
    }
}

const MIXES: [Mix; 6] = [
    Mix { model: Model::Versioned, keys: 1, deletes: false, batches: false, reach: 25, lost: 0 },
    Mix { model: Model::Versioned, keys: 1, deletes: false, batches: false, reach: 30, lost: 30 },
    Mix { model: Model::Versioned, keys: 2, deletes: true, batches: false, reach: 25, lost: 20 },
    Mix { model: Model::Versioned, keys: 3, deletes: true, batches: true, reach: 25, lost: 20 },
    Mix { model: Model::Append, keys: 1, deletes: false, batches: false, reach: 25, lost: 0 },
    Mix { model: Model::Append, keys: 2, deletes: false, batches: true, reach: 25, lost: 20 },
];

fn mixes() -> impl Strategy<Value = Mix> {
    (0..MIXES.len()).prop_map(|number| MIXES[number])
}

impl std::fmt::Debug for Mix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = MIXES.iter().position(|mix| (mix.keys, mix.lost) == (self.keys, self.lost));
        write!(f, "mix {number:?} of {:?}", self.model)
    }
}

/// Operations of the append model must not tell of checks.
fn admitted(model: Model, operations: Vec<Operation>) -> Vec<Operation> {
    operations.into_iter().filter(|operation| model.admits(operation).is_ok()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_one_store_did_is_accepted(seed: u64, mix in mixes(), count in 1..60_u64) {
        let operations = true_history(&mut fastrand::Rng::with_seed(seed), mix, count);
        prop_assume!(operations.iter().all(|operation| mix.model.admits(operation).is_ok()));
        prop_assert!(judged(mix.model, &operations), "{operations:#?}");
    }

    #[test]
    fn what_was_tampered_with_is_judged_as_by_trying_everything(seed: u64, mix in mixes(), count in 2..8_u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut operations = true_history(&mut rng, mix, count);
        for _ in 0..rng.u8(1..3) {
            tamper(&mut rng, &mut operations);
        }
        let operations = admitted(mix.model, operations);
        let expected = linearizable(mix.model, &operations);
        prop_assert_eq!(judged(mix.model, &operations), expected, "{:#?}", operations);
    }
}

/// The comparison is worth something only if both verdicts occur, by both ways.
#[test]
fn both_verdicts_are_common() {
    let mut count = [[0; 2]; 2];
    for seed in 0..600 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mix = MIXES[seed as usize % MIXES.len()];
        let mut operations = true_history(&mut rng, mix, 7);
        tamper(&mut rng, &mut operations);
        let report = check(mix.model, admitted(mix.model, operations), DEFAULT_BUDGET).expect("admitted");
        count[usize::from(report.searched > 0)][usize::from(report.is_linearizable())] += 1;
    }
    assert!(count.iter().flatten().all(|count| *count > 30), "[direct, searched][bad, good]: {count:?}");
}
