//! Whether the order that versions tell agrees with time.
//!
//! A refusal that does not say what version there was must stand before the version that it expected was made, or after
//! it was replaced. With the moments of all others as early as possible, either the latter is possible, or the making
//! must wait for the refusal. Moments only ever move to later, so this ends, and in the earliest solution there is.

use std::collections::BTreeMap;

use super::{Part, Sorted, Stop, Vague};
use crate::logic::kv::command::Version;
use crate::logic::verify::operation::{Action, Answer, Operation};

/// Rounds in which refusals may move changes to later. More than a few are never seen.
const MAX_ROUNDS: usize = 100;

impl Sorted {
    /// Whether the order agrees with time.
    pub(super) fn check_times(&self, part: &Part) -> Result<(), Stop> {
        let mut pushed: BTreeMap<Version, (u64, usize)> = BTreeMap::new();
        for _ in 0..MAX_ROUNDS {
            let earliest = self.earliest(part, &pushed);
            // What the refusals pushed is not proved as long as a change that nobody saw may explain them.
            let earliest = if pushed.is_empty() { earliest? } else { self.unless_open(earliest)? };
            let before = pushed.clone();
            for vague in &self.vague {
                let placed = self.place(part, vague, &earliest, &mut pushed);
                self.unless_open(placed)?;
            }
            if pushed == before {
                return Ok(());
            }
        }
        Err(Stop::NotDecided)
    }

    /// Takes a contradiction back if a change of unknown fate may have followed the last version.
    fn unless_open<T>(&self, result: Result<T, Stop>) -> Result<T, Stop> {
        let open = !self.open_anywhere.is_empty() || self.open.contains_key(&self.top().saturating_add(1));
        if open { result.map_err(|_| Stop::NotDecided) } else { result }
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
