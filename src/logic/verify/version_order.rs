//! The fast way: answers that tell versions tell the order of the changes, and it need only be compared with time.
//!
//! On a key that is never deleted, version 1 was made before version 2, and so on; whoever saw version 2 stands between
//! the changes that made 2 and 3. So the order is known but for the place of reads of the same version among each other.
//! It is the order of a linearizable history exactly if no operation had returned before one was called that stands
//! earlier. That takes a sort and a pass.
//!
//! Only two kinds of operations have no fixed place. A change of unknown fate fills the gap that it fits, if it is the
//! only one that does. A refusal that does not say what version there was (the lab's `ErrVersion`, and an `ErrMaybe`
//! that was not carried out) must stand before the version that it expected was made, or after it was replaced: with
//! the moments of the others as early as possible, either the latter is possible, or the change must wait for it. The
//! moments only ever move to later, so this ends, and what it ends in is the earliest solution there is.
//!
//! Where this does not decide (deletes, batches, several changes for one gap) the answer is `None`, and the search does.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::history::Part;
use super::model::Model;
use super::operation::{Action, Answer, Operation, Refusal, shown};
use super::verdict::Verdict;
use crate::logic::kv::command::{Change, Changed, Expect, Version};

/// Rounds in which refusals may move changes to later. More than a few are never seen.
const MAX_ROUNDS: usize = 100;

/// Judges a part by its versions; `None` when they do not decide.
pub(super) fn decide(part: &Part) -> Option<Verdict> {
    let one_life = part.operations.iter().all(|numbered| keeps_counting(&numbered.operation));
    if part.model != Model::Versioned || part.keys.len() != 1 || !one_life {
        return None;
    }
    let mut sorted = Sorted::default();
    for at in 0..part.operations.len() {
        if let Err(stop) = sorted.add(at, &part.operations[at].operation) {
            return stop.verdict(part);
        }
    }
    match sorted
        .fill_gaps(part)
        .and_then(|()| sorted.check_values(part))
        .and_then(|()| sorted.check_times(part))
    {
        Ok(()) => Some(Verdict::Linearizable),
        Err(stop) => stop.verdict(part),
    }
}

/// Whether an operation surely did not delete its key: versions would start anew, and no longer tell the order.
fn keeps_counting(operation: &Operation) -> bool {
    match &operation.action {
        Action::Get { .. } => true,
        Action::Change(Change::Delete { .. }) => match &operation.answer {
            Answer::Done(changed) => changed[..] == [Some(Changed::Deleted { existed: false })],
            answer => matches!(answer, Answer::Refused { .. }),
        },
        Action::Change(_) => true,
        Action::Batch(_) => false,
    }
}

/// Why the fast way ends early.
enum Stop {
    /// These operations contradict each other, or what the versions say.
    Contradiction(Vec<usize>, String),
    /// The versions do not decide.
    NotDecided,
}

impl Stop {
    fn verdict(self, part: &Part) -> Option<Verdict> {
        match self {
            Stop::Contradiction(operations, why) => Some(Verdict::violation(part, &operations, why)),
            Stop::NotDecided => None,
        }
    }
}

/// A refusal that did not say what version there was.
struct Vague {
    at: usize,
    /// The version that was expected, and was not there.
    expected: Version,
    /// Whether the key surely existed.
    exists: bool,
    /// Whether it is an `ErrMaybe`: then it may have been carried out instead.
    maybe: bool,
}

/// The operations of a part by what their answers say.
#[derive(Default)]
struct Sorted {
    /// Which change made a version.
    made: BTreeMap<Version, usize>,
    /// Who saw a version and left it alone.
    saw: BTreeMap<Version, Vec<usize>>,
    vague: Vec<Vague>,
    /// Changes of unknown fate by the version that they would make.
    open: BTreeMap<Version, Vec<usize>>,
    /// Changes of unknown fate without a condition.
    open_anywhere: Vec<usize>,
}

impl Sorted {
    fn add(&mut self, at: usize, operation: &Operation) -> Result<(), Stop> {
        let change = match (&operation.action, &operation.answer) {
            (Action::Get { .. }, Answer::Found { version: Some(version), .. }) => {
                return self.saw(at, *version);
            }
            (Action::Get { .. }, Answer::Absent) => return self.saw(at, 0),
            (Action::Get { .. }, _) | (Action::Batch(_), _) => return Err(Stop::NotDecided),
            (Action::Change(change), _) => change,
        };
        let expected = match change {
            Change::Put { expect, .. } | Change::Append { expect, .. } => version_of(*expect),
            Change::Delete { expect, .. } | Change::Check { expect, .. } => version_of(*expect),
        };
        let makes = matches!(change, Change::Put { .. } | Change::Append { .. });
        match &operation.answer {
            Answer::Refused { why, .. } => self.refused(at, expected, *why),
            Answer::Done(changed) if makes => self.done(at, expected, changed),
            Answer::Done(changed) => match (expected, &changed[..]) {
                (_, [Some(Changed::Deleted { .. })]) => self.saw(at, 0),
                (Some(expected), [None | Some(Changed::Held)]) => self.saw(at, expected),
                // Nothing says which version a check without a condition has seen.
                _ => Err(Stop::NotDecided),
            },
            Answer::Maybe | Answer::Unknown if !makes => Err(Stop::NotDecided),
            Answer::Maybe => {
                let Some(expected) = expected else { return Err(Stop::NotDecided) };
                self.open.entry(expected.saturating_add(1)).or_default().push(at);
                self.vague.push(Vague { at, expected, exists: false, maybe: true });
                Ok(())
            }
            Answer::Unknown => {
                match expected {
                    Some(expected) => self.open.entry(expected.saturating_add(1)).or_default().push(at),
                    None => self.open_anywhere.push(at),
                }
                Ok(())
            }
            Answer::Found { .. } | Answer::Absent | Answer::Failed => Err(Stop::NotDecided),
        }
    }

    fn saw(&mut self, at: usize, version: Version) -> Result<(), Stop> {
        self.saw.entry(version).or_default().push(at);
        Ok(())
    }

    fn done(
        &mut self,
        at: usize,
        expected: Option<Version>,
        changed: &[Option<Changed>],
    ) -> Result<(), Stop> {
        let made = match (expected, changed) {
            (_, [Some(Changed::Version(made))]) => *made,
            (Some(expected), [None]) => expected.saturating_add(1),
            _ => return Err(Stop::NotDecided),
        };
        if made == 0 || expected.is_some_and(|expected| expected != made - 1) {
            let why = "the version that it made does not follow the one that it expected".to_owned();
            return Err(Stop::Contradiction(vec![at], why));
        }
        match self.made.insert(made, at) {
            None => Ok(()),
            Some(other) => {
                Err(Stop::Contradiction(vec![other, at], format!("both made version {made} of the key")))
            }
        }
    }

    fn refused(&mut self, at: usize, expected: Option<Version>, why: Refusal) -> Result<(), Stop> {
        let Some(expected) = expected else {
            let why = "a change without a condition was refused for one".to_owned();
            return Err(Stop::Contradiction(vec![at], why));
        };
        let contradiction = match why {
            Refusal::NoKey if expected > 0 => return self.saw(at, 0),
            Refusal::Version { actual: Some(actual) } if actual > 0 && actual != expected => {
                return self.saw(at, actual);
            }
            Refusal::Version { actual: None } => {
                self.vague.push(Vague { at, expected, exists: true, maybe: false });
                return Ok(());
            }
            Refusal::NoKey => "it wanted the key to be absent, and was refused because it is",
            Refusal::Version { .. } => "it was refused although the version is said to be the one expected",
        };
        Err(Stop::Contradiction(vec![at], contradiction.to_owned()))
    }

    /// The highest version that was made or seen.
    fn top(&self) -> Version {
        let made = self.made.last_key_value().map_or(0, |(version, _)| *version);
        made.max(self.saw.last_key_value().map_or(0, |(version, _)| *version))
    }

    /// Finds the change behind every version whose making nobody was told of.
    fn fill_gaps(&mut self, part: &Part) -> Result<(), Stop> {
        let top = self.top();
        let open = self.open_anywhere.len() + self.open.values().map(Vec::len).sum::<usize>();
        let mut gaps = Vec::new();
        let mut version = 0;
        while version < top {
            version += 1;
            if !self.made.contains_key(&version) {
                gaps.push(version);
            }
            if gaps.len() > open {
                return Err(self.nobody(part, gaps[open.min(gaps.len() - 1)]));
            }
        }
        for gap in gaps {
            let at = self.filler(part, gap)?;
            self.made.insert(gap, at);
            self.open_anywhere.retain(|other| *other != at);
            self.vague.retain(|vague| vague.at != at);
        }
        // An ErrMaybe that expected the last version may have made one that nobody saw.
        if self.vague.iter().any(|vague| vague.maybe && vague.expected == top) {
            return Err(Stop::NotDecided);
        }
        Ok(())
    }

    /// The one change of unknown fate that can have made a version.
    fn filler(&self, part: &Part, gap: Version) -> Result<usize, Stop> {
        let read = self.value_read(part, gap);
        let conditional = self.open.get(&gap).into_iter().flatten();
        let mut fitting =
            conditional.chain(&self.open_anywhere).copied().filter(|at| match (change(part, *at), read) {
                (Change::Put { value, .. }, Some(read)) => value == read,
                (Change::Append { value, .. }, Some(read)) => read.ends_with(value),
                _ => true,
            });
        match (fitting.next(), fitting.next()) {
            (Some(at), None) => Ok(at),
            (Some(_), Some(_)) => Err(Stop::NotDecided),
            (None, _) => Err(self.nobody(part, gap)),
        }
    }

    /// The value that a get of this version was told.
    fn value_read<'a>(&self, part: &'a Part, version: Version) -> Option<&'a Bytes> {
        self.saw.get(&version)?.iter().find_map(|at| value_found(part, *at))
    }

    fn nobody(&self, part: &Part, version: Version) -> Stop {
        let witness = self.saw.range(version..).flat_map(|(_, seen)| seen).next();
        let witness = witness.or_else(|| self.made.range(version..).map(|(_, at)| at).next());
        let witness = *witness.expect("somebody saw or made this version, or a later one");
        let value = match self.value_read(part, version) {
            Some(value) => format!(" with the value {}", shown(value)),
            None => String::new(),
        };
        let name = part.name(witness);
        let why = format!("nobody can have made version {version}{value}, which {name} takes for granted");
        Stop::Contradiction(vec![witness], why)
    }

    /// Whether every get was told the value that belongs to its version.
    fn check_values(&self, part: &Part) -> Result<(), Stop> {
        // The pieces that make up the value: what was put last, and what was appended since.
        let mut pieces: Vec<&Bytes> = Vec::new();
        for (version, at) in &self.made {
            match change(part, *at) {
                Change::Append { value, .. } => pieces.push(value),
                Change::Put { value, .. } => pieces = vec![value],
                Change::Delete { .. } | Change::Check { .. } => return Err(Stop::NotDecided),
            }
            for reader in self.saw.get(version).into_iter().flatten() {
                if value_found(part, *reader).is_some_and(|found| !is_made_of(found, &pieces)) {
                    let (reader_name, name) = (part.name(*reader), part.name(*at));
                    let why = format!("{reader_name} does not tell what {name} made of the key");
                    return Err(Stop::Contradiction(vec![*reader, *at], why));
                }
            }
        }
        Ok(())
    }

    /// Whether the order agrees with time.
    fn check_times(&self, part: &Part) -> Result<(), Stop> {
        let mut pushed: BTreeMap<Version, (u64, usize)> = BTreeMap::new();
        for _ in 0..MAX_ROUNDS {
            let earliest = self.earliest(part, &pushed)?;
            let before = pushed.clone();
            for vague in &self.vague {
                self.place(part, vague, &earliest, &mut pushed)?;
            }
            if pushed == before {
                return Ok(());
            }
        }
        Err(Stop::NotDecided)
    }

    /// For each version the earliest moment at which it can have been made, and the operation that it waits for.
    fn earliest(
        &self,
        part: &Part,
        pushed: &BTreeMap<Version, (u64, usize)>,
    ) -> Result<Vec<(u64, usize)>, Stop> {
        let mut earliest = vec![(0, usize::MAX)];
        let mut latest = (0, usize::MAX);
        let wait = |latest: &mut (u64, usize), moment: u64, at: usize| {
            if latest.1 == usize::MAX || moment > latest.0 {
                *latest = (moment, at);
            }
        };
        for version in 0..=self.top() {
            if let Some(at) = self.made.get(&version) {
                if let Some((moment, waits_for)) = pushed.get(&version) {
                    wait(&mut latest, *moment, *waits_for);
                }
                in_time(part, *at, latest)?;
                wait(&mut latest, part.operations[*at].operation.call, *at);
                earliest.push(latest);
            }
            let seen = self.saw.get(&version).map_or(&[][..], |seen| &seen[..]);
            for at in seen {
                in_time(part, *at, latest)?;
            }
            for at in seen {
                wait(&mut latest, part.operations[*at].operation.call, *at);
            }
        }
        Ok(earliest)
    }

    /// Finds a place for a vague refusal: after its version was replaced if possible, else before it was made.
    fn place(
        &self,
        part: &Part,
        vague: &Vague,
        earliest: &[(u64, usize)],
        pushed: &mut BTreeMap<Version, (u64, usize)>,
    ) -> Result<(), Stop> {
        let Operation { call, returned, .. } = part.operations[vague.at].operation;
        let by = |version: Version| {
            let version = usize::try_from(version).ok()?;
            earliest.get(version).filter(|(moment, _)| *moment <= returned)
        };
        let expected = vague.expected;
        let exists_in_time = !vague.exists || by(1).is_some();
        if exists_in_time && (expected > self.top() || by(expected.saturating_add(1)).is_some()) {
            return Ok(());
        }
        let lowest = if vague.exists { 2 } else { 1 };
        if expected < lowest || expected > self.top() || !exists_in_time {
            let why = format!("{} was refused, but the condition held all the time", part.name(vague.at));
            return Err(Stop::Contradiction(vec![vague.at], why));
        }
        let push = pushed.entry(expected).or_insert((call, vague.at));
        if call > push.0 {
            *push = (call, vague.at);
        }
        Ok(())
    }
}

/// Refuses an operation that had returned before another, which stands earlier in the order, was called.
fn in_time(part: &Part, at: usize, latest: (u64, usize)) -> Result<(), Stop> {
    let (moment, earlier) = latest;
    let operation = &part.operations[at].operation;
    if earlier == usize::MAX || operation.answer == Answer::Unknown || operation.returned >= moment {
        return Ok(());
    }
    let (name, earlier_name) = (part.name(at), part.name(earlier));
    let what = match part.operations[earlier].operation.action {
        Action::Get { .. } => "a stale read: ",
        _ => "",
    };
    let why = format!(
        "{what}{earlier_name} belongs before {name} by the versions of the key, but was called after that had returned"
    );
    Err(Stop::Contradiction(vec![earlier, at], why))
}

fn version_of(expect: Expect) -> Option<Version> {
    match expect {
        Expect::Any => None,
        Expect::Absent => Some(0),
        Expect::Version(version) => Some(version),
    }
}

fn change(part: &Part, at: usize) -> &Change {
    let Action::Change(change) = &part.operations[at].operation.action else {
        unreachable!("only single changes make versions");
    };
    change
}

fn value_found(part: &Part, at: usize) -> Option<&Bytes> {
    match &part.operations[at].operation.answer {
        Answer::Found { value, .. } => Some(value),
        _ => None,
    }
}

fn is_made_of(value: &[u8], pieces: &[&Bytes]) -> bool {
    let mut rest = value;
    pieces.iter().all(|piece| match rest.strip_prefix(&piece[..]) {
        Some(behind) => {
            rest = behind;
            true
        }
        None => false,
    }) && rest.is_empty()
}
