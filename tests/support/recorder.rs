//! Clients that do a bit of everything to a few keys at a time, and remember what they were told and when: a history
//! for the judge (`quorate::logic::verify`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use quorate::logic::clerk::Op;
use quorate::logic::kv::command::{Change, Changed, Command, Expect, Lifetime, Query, Reply, Version};
use quorate::logic::verify::{Action, Answer, Operation, Refusal};
use quorate::messages::client::{self, Consistency};
use quorate::{Client, Error};
use tokio::task::JoinHandle;

/// Operations after which the clients go on to other keys, so that no key's history becomes long.
const PER_EPOCH: u64 = 1500;
/// Keys of an epoch, of each of these kinds: never deleted; of anything; never deleted, with conditions only.
const PER_KIND: u64 = 8;

/// What clients share.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// Operations begun.
    begun: AtomicU64,
    acknowledged: AtomicU64,
}

/// Clients at work.
pub struct Recorder {
    began: Instant,
    shared: Arc<Shared>,
    /// For each client when its last success was called.
    successes: Vec<Arc<Mutex<Option<Instant>>>>,
    tasks: Vec<JoinHandle<Vec<Operation>>>,
}

impl Recorder {
    /// Lets each of these clients work, with pauses of `pause` at most. A client without a session must be among
    /// `stateless`: it does only what may be repeated without one.
    pub fn start(clients: Vec<Client>, stateless: Vec<Client>, pause: Duration, seed: u64) -> Recorder {
        let mut recorder = Recorder {
            began: Instant::now(),
            shared: Arc::default(),
            successes: Vec::new(),
            tasks: Vec::new(),
        };
        let sessions = clients.into_iter().map(|client| (client, true));
        let all = sessions.chain(stateless.into_iter().map(|client| (client, false)));
        for (me, (client, session)) in (0..).zip(all) {
            let success = Arc::new(Mutex::new(None));
            recorder.successes.push(success.clone());
            let worker = Worker {
                client,
                me,
                session,
                rng: Rng::with_seed(seed.wrapping_mul(1000) + me),
                began: recorder.began,
                shared: recorder.shared.clone(),
                epoch: 0,
                versions: BTreeMap::new(),
            };
            recorder.tasks.push(tokio::spawn(worker.run(pause, success)));
        }
        recorder
    }

    /// Operations that were answered so far, other than by "unknown".
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until every client had an operation answered that it called after `moment`; false if that does not happen
    /// within a minute.
    pub async fn all_have_succeeded_since(&self, moment: Instant) -> bool {
        let since = |success: &Arc<Mutex<Option<Instant>>>| {
            success.lock().expect("no client panics").is_some_and(|last| last > moment)
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if self.successes.iter().all(since) {
                return true;
            }
            assert!(self.tasks.iter().all(|task| !task.is_finished()), "a client has failed");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Stops the clients, and returns what they remember.
    pub async fn finish(self) -> Vec<Operation> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut history = Vec::new();
        for task in self.tasks {
            history.extend(task.await.expect("a client ends well"));
        }
        history
    }
}

struct Worker {
    client: Client,
    me: u64,
    session: bool,
    rng: Rng,
    began: Instant,
    shared: Arc<Shared>,
    /// The versions that it has seen last, of the keys of its epoch.
    epoch: u64,
    versions: BTreeMap<Bytes, Version>,
}

impl Worker {
    async fn run(mut self, pause: Duration, success: Arc<Mutex<Option<Instant>>>) -> Vec<Operation> {
        let mut history = Vec::new();
        while !self.shared.stop.load(Ordering::Relaxed) {
            let number = self.shared.begun.fetch_add(1, Ordering::Relaxed);
            let action = self.pick(number);
            let called = Instant::now();
            let result = perform(&self.client, &action).await;
            let answer = Answer::of(&action, &result);
            let operation = Operation {
                client: self.me,
                call: nanos(called - self.began),
                returned: nanos(self.began.elapsed()),
                action,
                answer,
            };
            self.learn(&operation);
            if !matches!(operation.answer, Answer::Unknown | Answer::Failed) {
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                *success.lock().expect("nobody panics with it") = Some(called);
            }
            history.push(operation);
            tokio::time::sleep(pause.mul_f64(self.rng.f64())).await;
        }
        history
    }

    fn key(&mut self, number: u64, kind: u64) -> Bytes {
        format!("{}/{}", number / PER_EPOCH, kind * PER_KIND + self.rng.u64(0..PER_KIND)).into()
    }

    fn pick(&mut self, number: u64) -> Action {
        if self.epoch != number / PER_EPOCH {
            self.epoch = number / PER_EPOCH;
            self.versions.clear();
        }
        let kind = if self.session { self.rng.u64(0..3) } else { 2 };
        let key = self.key(number, kind);
        match (kind, self.rng.u8(0..20)) {
            (_, 0..8) => Action::Get { key },
            (0, 8..12) => Action::Change(put(key, self.value(number), Expect::Any)),
            (0, 12..16) => {
                Action::Change(Change::Append { key, value: self.value(number), expect: Expect::Any })
            }
            (1, 8..11) => Action::Change(put(key, self.value(number), Expect::Any)),
            (1, 11..14) => {
                let expect = if self.rng.bool() { Expect::Any } else { self.expect(&key) };
                Action::Change(Change::Delete { key, expect })
            }
            // A batch joins its keys for the judge, so it takes neighbours only.
            (1, 14..16) => {
                let first = PER_KIND + self.rng.u64(0..PER_KIND / 2) * 2;
                let key = |number: u64, at: u64| format!("{}/{}", number / PER_EPOCH, first + at);
                let (one, other) = (Bytes::from(key(number, 0)), Bytes::from(key(number, 1)));
                let expect = self.expect(&other);
                let value = self.value(number);
                let append = Change::Append { key: one, value: value.clone(), expect: Expect::Any };
                Action::Batch(vec![append, put(other, value, expect)])
            }
            _ => {
                let expect = self.expect(&key);
                Action::Change(put(key, self.value(number), expect))
            }
        }
    }

    /// No two values are equal.
    fn value(&self, number: u64) -> Bytes {
        format!("{}.{number};", self.me).into()
    }

    fn expect(&self, key: &Bytes) -> Expect {
        match self.versions.get(key) {
            None | Some(0) => Expect::Absent,
            Some(version) => Expect::Version(*version),
        }
    }

    fn learn(&mut self, operation: &Operation) {
        let version = match &operation.answer {
            Answer::Found { version: Some(version), .. } => *version,
            Answer::Absent | Answer::Refused { why: Refusal::NoKey, .. } => 0,
            Answer::Refused { why: Refusal::Version { actual: Some(actual) }, .. } => *actual,
            Answer::Done(changed) => match changed[..] {
                [Some(Changed::Version(version))] => version,
                _ => 0,
            },
            _ => return,
        };
        // What a batch made of its keys is not looked into.
        if matches!(operation.action, Action::Batch(_)) {
            return;
        }
        if let Some(key) = operation.action.keys().next() {
            self.versions.insert(key.clone(), version);
        }
    }
}

fn put(key: Bytes, value: Bytes, expect: Expect) -> Change {
    Change::Put { key, value, expect, lifetime: Lifetime::Forever }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).expect("a test of less than centuries")
}

/// Carries an action out through the client library.
pub async fn perform(client: &Client, action: &Action) -> Result<Reply, Error> {
    let op = match action {
        Action::Get { key } => {
            let query = Query::Get { key: key.clone() };
            Op::Read { query, consistency: Consistency::Linearizable, node: None }
        }
        Action::Change(change) => Op::Write(Command::Change(change.clone())),
        Action::Batch(changes) => Op::Write(Command::Batch(changes.clone())),
    };
    match client.call(op).await? {
        client::Answer::Kv(reply) => Ok(reply),
        other => panic!("a node answered {other:?} to {action:?}"),
    }
}
