//! How long the judge takes for a million operations on a thousand keys: as lines that are read, then judged, as they
//! are, and with one stale read planted among them; decided by versions, and by search where no versions are told.
//! `cargo bench --bench verify`.

use std::time::Instant;

use quorate::logic::kv::command::{Change, Changed, Expect, Lifetime};
use quorate::logic::verify::{Action, Answer, DEFAULT_BUDGET, History, Model, Operation, Report, line};

const OPERATIONS: u64 = 1_000_000;
const KEYS: u64 = 1_000;
/// Clients that have a call under way at any time.
const CLIENTS: u64 = 16;
/// How far calls and returns are from the moment at which the operation takes effect, at most.
const REACH: u64 = 50 * CLIENTS;

fn main() {
    for model in [Model::Versioned, Model::Append] {
        let mut operations = history(model);
        let lines: Vec<String> = operations.iter().map(line::write).collect();
        let bytes: usize = lines.iter().map(String::len).sum();
        let began = Instant::now();
        for line in &lines {
            line::parse(line).expect("a line as it was written");
        }
        println!("{model:?}: {OPERATIONS} lines, {} MB, read in {:.2?}", bytes / 1_000_000, began.elapsed());
        report("as it is", model, &operations);
        let planted = plant(&mut operations);
        println!("planted in operation {planted}: {}", operations[planted]);
        report("with one stale read", model, &operations);
    }
}

fn report(what: &str, model: Model, operations: &[Operation]) {
    let copy = operations.to_vec();
    let began = Instant::now();
    let mut history = History::new(model);
    for (number, operation) in (0..).zip(copy) {
        history.add(number, operation).expect("it belongs to the model");
    }
    let mut report = Report::default();
    for part in history.into_parts() {
        report.add(part.check(DEFAULT_BUDGET));
    }
    println!(
        "{model:?}, {what}: judged in {:.2?}: linearizable: {}, {} keys by versions, {} by search",
        began.elapsed(),
        report.is_linearizable(),
        report.direct,
        report.searched
    );
    for violation in &report.violations {
        println!("  {}", violation.why);
    }
}

/// Half puts, half gets, as one store would answer, each call reaching beyond its moment on both sides.
fn history(model: Model) -> Vec<Operation> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut store = vec![(String::new(), 0); KEYS as usize];
    let operation = |number: u64| {
        let at = random.usize(0..store.len());
        let key = format!("key-{at:04}").into();
        let told = |version: u64| (model == Model::Versioned).then_some(version);
        let (action, answer) = if random.bool() {
            store[at] = (format!("value-{number}"), store[at].1 + 1);
            let value = store[at].0.clone().into();
            let change = Change::Put { key, value, expect: Expect::Any, lifetime: Lifetime::Forever };
            (Action::Change(change), Answer::Done(vec![told(store[at].1).map(Changed::Version)]))
        } else if store[at].1 == 0 {
            (Action::Get { key }, Answer::Absent)
        } else {
            let found = Answer::Found { value: store[at].0.clone().into(), version: told(store[at].1) };
            (Action::Get { key }, found)
        };
        let moment = number * 100 + REACH;
        let (call, returned) = (moment - random.u64(0..=REACH), moment + random.u64(0..=REACH));
        Operation { client: number % CLIENTS, call, returned, action, answer }
    };
    (0..OPERATIONS).map(operation).collect()
}

/// Lets a get in the middle tell what an earlier get of the same key told, before the last put. Tells which.
fn plant(operations: &mut [Operation]) -> usize {
    let (old, key) = (operations.len() / 2..)
        .find_map(|at| match (&operations[at].action, &operations[at].answer) {
            (Action::Get { key }, Answer::Found { .. }) => Some((at, key.clone())),
            _ => None,
        })
        .expect("half of the operations are gets");
    let replaced = |operation: &Operation| {
        matches!(&operation.action, Action::Change(Change::Put { key: other, .. }) if *other == key)
            && operation.call > operations[old].returned
    };
    let put = (old..operations.len()).find(|at| replaced(&operations[*at])).expect("the key is put again");
    let reads = |operation: &Operation| {
        matches!(&operation.action, Action::Get { key: other } if *other == key)
            && operation.call > operations[put].returned
    };
    let stale = (put..operations.len()).find(|at| reads(&operations[*at])).expect("the key is read again");
    operations[stale].answer = operations[old].answer.clone();
    stale
}
