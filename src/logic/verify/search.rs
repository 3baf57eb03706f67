//! The general way: trying orders.
//!
//! The algorithm of Wing and Gong (Testing and verifying concurrent objects, 1993) with the memory of Lowe (Testing for
//! linearizability, 2017): a depth-first search over the orders that time allows, which never enters twice a point
//! at which the same operations were taken and the same state was reached.
//!
//! Two things keep it short. Answers that change nothing are taken as soon as they fit, without a choice. And calls
//! whose fate is unknown are tried last, because most of them are not needed.

use std::collections::BTreeSet;

use super::history::Part;
use super::model::{Cell, Model, Step, Values};
use super::operation::{Answer, shown};
use super::verdict::Verdict;

/// Searches for an order of the operations of a part, which are sorted by their calls.
pub(super) fn search(part: &Part, steps: &[Step], values: Values, budget: u64) -> Verdict {
    Search::new(part, steps, values, budget).run()
}

/// A step that was taken, and how to take it back.
struct Taken {
    step: usize,
    before: Vec<Cell>,
    bound: usize,
    /// Where to look for another choice; `None` when there was no choice.
    resume: Option<Place>,
}

/// A place in the list of events, in the sweep over answered calls or in the one over unanswered calls.
#[derive(Clone, Copy)]
struct Place {
    open: bool,
    event: usize,
}

struct Search<'a> {
    part: &'a Part,
    model: Model,
    steps: &'a [Step],
    values: Values,
    timeline: Timeline,
    cells: Vec<Cell>,
    taken: Vec<Taken>,
    /// Steps at or behind this one were not taken.
    bound: usize,
    /// Answered calls that are not taken yet.
    left: usize,
    visited: BTreeSet<Box<[u64]>>,
    budget: u64,
    deepest: Option<Deepest>,
}

/// The point at which most answers were explained.
struct Deepest {
    left: usize,
    cells: Vec<Cell>,
    /// The answered call that had to be taken here, and did not fit.
    stuck: usize,
}

impl<'a> Search<'a> {
    fn new(part: &'a Part, steps: &'a [Step], values: Values, budget: u64) -> Self {
        Search {
            part,
            model: part.model,
            steps,
            values,
            timeline: Timeline::new(part),
            cells: vec![Cell::default(); part.keys.len()],
            taken: Vec::new(),
            bound: 0,
            left: steps.iter().filter(|step| !step.is_open()).count(),
            visited: BTreeSet::new(),
            budget,
            deepest: None,
        }
    }

    fn run(mut self) -> Verdict {
        let mut from = None;
        loop {
            if self.left == 0 {
                return Verdict::Linearizable;
            }
            if self.budget == 0 || self.values.too_many() {
                return Verdict::Undecided;
            }
            if self.observe() || self.choose(from) {
                from = None;
                continue;
            }
            self.remember_deepest();
            match self.take_back() {
                Some(resume) => from = Some(resume),
                None => return self.explain(),
            }
        }
    }

    /// Takes every answer that changes nothing and fits now. Tells whether there was one.
    fn observe(&mut self) -> bool {
        let taken = self.taken.len();
        let mut event = self.timeline.first();
        while let Some(step) = self.timeline.call(event) {
            if self.steps[step].is_observation() && self.fits(step) {
                self.push(step, Vec::new(), None);
            }
            // If that was the first return, the walk ends here, and the next one goes on.
            event = self.timeline.next[event];
        }
        self.taken.len() > taken
    }

    /// Takes the next choice that leads to a point where the search has not been. Tells whether there was one.
    fn choose(&mut self, from: Option<Place>) -> bool {
        let mut place = from.unwrap_or(Place { open: false, event: self.timeline.first() });
        loop {
            let Some(step) = self.timeline.call(place.event) else {
                if place.open {
                    return false;
                }
                place = Place { open: true, event: self.timeline.first() };
                continue;
            };
            place.event = self.timeline.next[place.event];
            let is_choice = self.steps[step].is_open() == place.open && !self.steps[step].is_observation();
            if is_choice && self.enter(step, place) {
                return true;
            }
        }
    }

    /// Whether the step gives the answer that was given; if so, its effect is there.
    fn fits(&mut self, step: usize) -> bool {
        self.budget = self.budget.saturating_sub(1);
        self.steps[step].take(self.model, &mut self.cells, &mut self.values)
    }

    fn enter(&mut self, step: usize, resume: Place) -> bool {
        let before = self.cells.clone();
        if !self.fits(step) {
            return false;
        }
        if self.steps[step].is_open() && self.cells == before {
            return false;
        }
        self.push(step, before, Some(resume));
        if self.visited.insert(self.point()) {
            return true;
        }
        self.pop();
        false
    }

    fn push(&mut self, step: usize, before: Vec<Cell>, resume: Option<Place>) {
        self.timeline.lift(step);
        self.taken.push(Taken { step, before, bound: self.bound, resume });
        self.bound = self.bound.max(step + 1);
        self.left -= usize::from(!self.steps[step].is_open());
    }

    /// Takes back the last step; returns its other choices, if it was a choice.
    fn pop(&mut self) -> Option<Option<Place>> {
        let Taken { step, before, bound, resume } = self.taken.pop()?;
        self.timeline.put_back(step);
        if resume.is_some() {
            self.cells = before;
        }
        self.bound = bound;
        self.left += usize::from(!self.steps[step].is_open());
        Some(resume)
    }

    /// Takes back everything up to the last choice.
    fn take_back(&mut self) -> Option<Place> {
        loop {
            if let Some(resume) = self.pop()? {
                return Some(resume);
            }
        }
    }

    /// Where the search is: which steps were taken, and the state.
    fn point(&self) -> Box<[u64]> {
        let mut point = vec![self.bound as u64];
        let mut event = self.timeline.first();
        while event != Timeline::END {
            if let Some(step) = self.timeline.call(event) {
                if step >= self.bound {
                    break;
                }
                point.push(step as u64);
            }
            event = self.timeline.next[event];
        }
        point.extend(self.cells.iter().flat_map(|cell| [cell.version, u64::from(cell.value)]));
        point.into()
    }

    fn remember_deepest(&mut self) {
        if self.deepest.as_ref().is_some_and(|deepest| deepest.left <= self.left) {
            return;
        }
        let stuck = self.timeline.first_return().expect("an answered call is left");
        self.deepest = Some(Deepest { left: self.left, cells: self.cells.clone(), stuck });
    }

    fn explain(self) -> Verdict {
        let Deepest { left, cells, stuck } = self.deepest.expect("the search has come to an end somewhere");
        let answered = self.steps.iter().filter(|step| !step.is_open()).count();
        let state = self.part.keys.iter().zip(&cells).map(|(key, cell)| {
            let value = shown(self.values.get(cell.value));
            match (self.model, cell.version) {
                (Model::Append, _) => format!("{} holds {value}", shown(key)),
                (Model::Versioned, 0) => format!("{} is absent", shown(key)),
                (Model::Versioned, version) => format!("{} holds {value} at version {version}", shown(key)),
            }
        });
        let why = format!(
            "no order explains all answers; the best explains {} of {answered}, after which {}, and then {} cannot follow",
            answered - left,
            state.collect::<Vec<_>>().join(", "),
            self.part.name(stuck),
        );
        Verdict::violation(self.part, &[stuck], why)
    }
}

/// The calls and returns that are left, in the order of time: a doubly linked list, so that steps can be taken out and
/// put back. Only what was called before the first return may come next.
struct Timeline {
    /// The step of each event; event 0 is both ends of the list.
    step: Vec<usize>,
    is_call: Vec<bool>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// The events of each step; the return is `END` where there is none.
    call_of: Vec<usize>,
    return_of: Vec<usize>,
}

impl Timeline {
    const END: usize = 0;

    fn new(part: &Part) -> Self {
        let mut events = Vec::with_capacity(2 * part.operations.len());
        for (step, numbered) in part.operations.iter().enumerate() {
            let operation = &numbered.operation;
            events.push((operation.call, 0, step));
            if operation.answer != Answer::Unknown {
                events.push((operation.returned, 1, step));
            }
        }
        // At equal times calls come first: such operations overlap.
        events.sort_unstable();
        let count = events.len() + 1;
        let mut timeline = Timeline {
            step: vec![0; count],
            is_call: vec![false; count],
            next: (0..count).map(|event| (event + 1) % count).collect(),
            previous: (0..count).map(|event| (event + count - 1) % count).collect(),
            call_of: vec![Self::END; part.operations.len()],
            return_of: vec![Self::END; part.operations.len()],
        };
        for (event, (_, kind, step)) in (1..).zip(events) {
            timeline.step[event] = step;
            timeline.is_call[event] = kind == 0;
            let events = if kind == 0 { &mut timeline.call_of } else { &mut timeline.return_of };
            events[step] = event;
        }
        timeline
    }

    fn first(&self) -> usize {
        self.next[Self::END]
    }

    /// The step whose call this event is.
    fn call(&self, event: usize) -> Option<usize> {
        self.is_call[event].then(|| self.step[event])
    }

    fn first_return(&self) -> Option<usize> {
        let mut event = self.first();
        while self.is_call[event] {
            event = self.next[event];
        }
        (event != Self::END).then(|| self.step[event])
    }

    fn lift(&mut self, step: usize) {
        for event in [self.call_of[step], self.return_of[step]] {
            if event != Self::END {
                let (previous, next) = (self.previous[event], self.next[event]);
                self.next[previous] = next;
                self.previous[next] = previous;
            }
        }
    }

    /// Undoes the last `lift` that was not undone yet.
    fn put_back(&mut self, step: usize) {
        for event in [self.return_of[step], self.call_of[step]] {
            if event != Self::END {
                let (previous, next) = (self.previous[event], self.next[event]);
                self.next[previous] = event;
                self.previous[next] = event;
            }
        }
    }
}
