//! Watches a simulation: hashes everything that happens, keeps the book, checks the invariants, writes the timeline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::book::{Book, Replica};
use super::history::Call;
use super::invariants::{self, Invariant, Moment};
use super::trace::{Kind, Line, TraceHash, Who};
use crate::actors::tap::{Seen, Tap};
use crate::logic::ids::{GroupId, NodeId};

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, since the simulation began.
    pub at: Duration,
    /// Which rule.
    pub rule: String,
    /// How, in a sentence.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} s: {} is violated: {}", self.at.as_secs_f64(), self.rule, self.what)
    }
}

/// The watcher. Clones are the same one.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<State>>);

struct State {
    start: Instant,
    hash: TraceHash,
    steps: u64,
    book: Book,
    invariants: Vec<Box<dyn Invariant>>,
    violations: Vec<Violation>,
    /// `None`: nobody wants to read it.
    timeline: Option<Vec<Line>>,
}

impl Watch {
    /// Watches a group of so many voters from now on. `timeline`: whether it is written.
    pub fn new(voters: usize, timeline: bool) -> Watch {
        Watch(Arc::new(Mutex::new(State {
            start: Instant::now(),
            hash: TraceHash::default(),
            steps: 0,
            book: Book::new(voters),
            invariants: invariants::all(),
            violations: Vec::new(),
            timeline: timeline.then(Vec::new),
        })))
    }

    /// The tap of a node.
    pub fn tap(&self, node: NodeId) -> Arc<dyn Tap> {
        Arc::new(NodeTap { watch: self.clone(), node })
    }

    /// Notes something for people, and in the hash.
    pub fn note(&self, who: Who, kind: Kind, text: impl FnOnce() -> String) {
        let mut state = self.state();
        let at = state.start.elapsed();
        let text = text();
        state.hash.mix(at.as_nanos() as u64);
        state.hash.mix_bytes(text.as_bytes());
        state.write(at, who, kind, || text);
    }

    /// Checks a call that has ended.
    pub fn call(&self, call: &Call) {
        let mut guard = self.state();
        let state = &mut *guard;
        let at = state.start.elapsed();
        let told = match &call.told {
            Ok(told) => told.describe(),
            Err(error) => error.to_string(),
        };
        state.hash.mix(at.as_nanos() as u64);
        state.hash.mix_bytes(told.as_bytes());
        let took = call.ended - call.begun;
        let kind = if call.told.is_ok() { Kind::Call } else { Kind::FailedCall };
        state.write(at, Who::Client(call.client), kind, || {
            format!("{}: {told} ({:.0} ms)", call.ask.describe(), took.as_secs_f64() * 1000.0)
        });
        let broken = check_all(&mut state.invariants, |rule| rule.call(call));
        state.report(at, broken);
    }

    /// All calls have ended: judges what could not be judged before.
    pub fn end(&self) {
        let mut guard = self.state();
        let state = &mut *guard;
        let at = state.start.elapsed();
        let broken = check_all(&mut state.invariants, |rule| rule.end());
        state.report(at, broken);
    }

    /// Reports a violation that was found elsewhere.
    pub fn violation(&self, rule: &str, what: String) {
        let mut state = self.state();
        let at = state.start.elapsed();
        state.report(at, vec![(rule.to_owned(), what)]);
    }

    /// The process of a node has ended.
    pub fn down(&self, node: NodeId) {
        self.state().book.note_down(node);
    }

    /// What is known of a replica; `None` before its first start.
    pub fn replica<T>(&self, node: NodeId, look: impl FnOnce(&Replica) -> T) -> Option<T> {
        self.state().book.replicas.get(&node).map(look)
    }

    /// The rules that were broken, in order.
    pub fn violations(&self) -> Vec<Violation> {
        self.state().violations.clone()
    }

    /// Whether a rule was broken.
    pub fn is_violated(&self) -> bool {
        !self.state().violations.is_empty()
    }

    /// A hash over everything that happened: the same for the same seed.
    pub fn hash(&self) -> u64 {
        self.state().hash.value()
    }

    /// How many steps of replicas were looked at.
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// Time since the simulation began.
    pub fn now(&self) -> Duration {
        self.state().start.elapsed()
    }

    /// Takes out the timeline.
    pub fn take_timeline(&self) -> Vec<Line> {
        self.state().timeline.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_all(
    rules: &mut [Box<dyn Invariant>],
    mut check: impl FnMut(&mut dyn Invariant) -> Result<(), String>,
) -> Vec<(String, String)> {
    let broken = rules.iter_mut().filter_map(|rule| {
        let what = check(&mut **rule).err()?;
        Some((rule.name().to_owned(), what))
    });
    broken.collect()
}

impl State {
    fn write(&mut self, at: Duration, who: Who, kind: Kind, text: impl FnOnce() -> String) {
        if let Some(timeline) = &mut self.timeline {
            timeline.push(Line { at, who, kind, text: text() });
        }
    }

    fn report(&mut self, at: Duration, broken: Vec<(String, String)>) {
        for (rule, what) in broken {
            self.write(at, Who::World, Kind::Violation, || format!("{rule} is violated: {what}"));
            self.violations.push(Violation { at, rule, what });
        }
    }

    fn see(&mut self, node: NodeId, seen: &Seen<'_>) {
        let at = self.start.elapsed();
        self.steps += 1;
        self.hash.mix(at.as_nanos() as u64);
        self.hash.mix(node.0);
        self.hash.mix_seen(seen);
        self.book.note(node, seen);
        let book = &self.book;
        let broken = check_all(&mut self.invariants, |rule| rule.replica(&Moment { at, node, seen, book }));
        self.report(at, broken);
        if let Seen::Output { output, .. } = seen {
            self.book.note_committed(&output.committed);
        }
        if self.timeline.is_some()
            && let Some(text) = super::trace::describe(seen)
        {
            self.write(at, Who::Node(node), Kind::of(seen), || text);
        }
    }
}

struct NodeTap {
    watch: Watch,
    node: NodeId,
}

impl Tap for NodeTap {
    fn see(&self, _: GroupId, seen: Seen<'_>) {
        self.watch.state().see(self.node, &seen);
    }
}
