//! What the store is meant to do, one operation after the other.
//!
//! The model is written down without a look at the machine of `logic/kv`, so that it can judge it.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::operation::{Action, Answer, Operation, Refusal};
use crate::logic::kv::command::{Change, Changed, Expect, Lifetime, Version};

/// Bytes of different values that the search may hold for one part; appends without reads can make many.
const MAX_VALUE_BYTES: usize = 256 << 20;

/// Which store the history is judged by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model {
    /// Every key has a value and a version: absent is 0, the first put makes 1, each change adds 1, a delete makes the
    /// key absent. Changes may depend on a version. Quorate's own store, and the versioned store of the MIT labs.
    #[default]
    Versioned,
    /// A key has a value and nothing else; absent is the same as empty. Get, put and append; no conditions, no versions.
    Append,
}

impl Model {
    /// Whether an operation belongs to the model and makes sense in itself.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn admits(self, operation: &Operation) -> Result<(), String> {
        let Operation { call, returned, action, answer, .. } = operation;
        if returned < call && !matches!(answer, Answer::Unknown | Answer::Failed) {
            return Err(format!("it returned at {returned}, before its call at {call}"));
        }
        for change in action.changes() {
            if matches!(change, Change::Put { lifetime, .. } if *lifetime != Lifetime::Forever) {
                return Err("a put with a lifetime cannot be judged: the model knows no time".into());
            }
        }
        let fits = match (action, answer) {
            (_, Answer::Unknown | Answer::Failed) => true,
            (Action::Get { .. }, Answer::Found { .. } | Answer::Absent) => true,
            (Action::Get { .. }, _) | (_, Answer::Found { .. } | Answer::Absent) => false,
            (_, Answer::Done(changed)) => changed.len() == action.changes().len(),
            (_, Answer::Refused { position, .. }) => {
                position.is_none_or(|position| (position as usize) < action.changes().len())
            }
            (_, Answer::Maybe) => true,
        };
        if !fits {
            return Err("the answer does not belong to the question".into());
        }
        match self {
            Model::Append => admits_without_versions(action, answer),
            Model::Versioned => Ok(()),
        }
    }
}

fn admits_without_versions(action: &Action, answer: &Answer) -> Result<(), String> {
    let plain = |change: &Change| {
        matches!(change, Change::Put { expect: Expect::Any, .. } | Change::Append { expect: Expect::Any, .. })
    };
    if !action.changes().iter().all(plain) {
        return Err("the append model knows get, put and append, without conditions".into());
    }
    match answer {
        Answer::Found { version: Some(_), .. } => Err("the append model knows no versions".into()),
        Answer::Done(changed) if changed.iter().any(Option::is_some) => {
            Err("the append model knows no versions".into())
        }
        Answer::Refused { .. } => Err("the append model refuses nothing".into()),
        _ => Ok(()),
    }
}

/// A value by number, so that states are small and compared quickly. 0 is the empty value.
pub(super) type ValueId = u32;

/// All values that occur in a part, each once.
pub(super) struct Values {
    bytes: Vec<Bytes>,
    ids: BTreeMap<Bytes, ValueId>,
    joined: BTreeMap<(ValueId, ValueId), ValueId>,
    held: usize,
}

impl Values {
    pub(super) fn new() -> Self {
        let empty = Bytes::new();
        Values { bytes: vec![empty.clone()], ids: [(empty, 0)].into(), joined: BTreeMap::new(), held: 0 }
    }

    pub(super) fn id(&mut self, value: &Bytes) -> ValueId {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = ValueId::try_from(self.bytes.len()).expect("fewer values than fit into the budget");
        self.held += value.len();
        self.bytes.push(value.clone());
        self.ids.insert(value.clone(), id);
        id
    }

    pub(super) fn get(&self, id: ValueId) -> &Bytes {
        &self.bytes[id as usize]
    }

    fn join(&mut self, front: ValueId, back: ValueId) -> ValueId {
        if let Some(id) = self.joined.get(&(front, back)) {
            return *id;
        }
        let (first, second) = (self.get(front), self.get(back));
        let mut both = BytesMut::with_capacity(first.len() + second.len());
        both.extend_from_slice(first);
        both.extend_from_slice(second);
        let id = self.id(&both.freeze());
        self.joined.insert((front, back), id);
        id
    }

    /// Whether they have become more than a part may hold.
    pub(super) fn too_many(&self) -> bool {
        self.held > MAX_VALUE_BYTES
    }
}

/// A key as the model holds it. Without versions the version stays 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) version: Version,
    pub(super) value: ValueId,
}

/// A change of a cell, with its names replaced by numbers.
struct Edit {
    cell: usize,
    kind: Kind,
    expect: Expect,
}

enum Kind {
    Put(ValueId),
    Append(ValueId),
    Delete,
    Check,
}

/// An operation, with its names replaced by numbers, and with the answer that must come out.
pub(super) struct Step {
    get: Option<usize>,
    edits: Vec<Edit>,
    seen: Seen,
}

enum Seen {
    Found { value: ValueId, version: Option<Version> },
    Absent,
    Done(Vec<Option<Changed>>),
    Refused { position: Option<u32>, why: Refusal },
    Maybe,
    Unknown,
}

impl Step {
    /// `cell` tells the number of a key.
    pub(super) fn new(operation: &Operation, cell: impl Fn(&Bytes) -> usize, values: &mut Values) -> Step {
        let get = match &operation.action {
            Action::Get { key } => Some(cell(key)),
            _ => None,
        };
        let edits = operation.action.changes().iter().map(|change| {
            let (kind, expect) = match change {
                Change::Put { value, expect, .. } => (Kind::Put(values.id(value)), *expect),
                Change::Append { value, expect, .. } => (Kind::Append(values.id(value)), *expect),
                Change::Delete { expect, .. } => (Kind::Delete, *expect),
                Change::Check { expect, .. } => (Kind::Check, *expect),
            };
            Edit { cell: cell(change.key()), kind, expect }
        });
        let edits = edits.collect();
        let seen = match &operation.answer {
            Answer::Found { value, version } => Seen::Found { value: values.id(value), version: *version },
            Answer::Absent => Seen::Absent,
            Answer::Done(changed) => Seen::Done(changed.clone()),
            Answer::Refused { position, why } => Seen::Refused { position: *position, why: *why },
            Answer::Maybe => Seen::Maybe,
            Answer::Unknown | Answer::Failed => Seen::Unknown,
        };
        Step { get, edits, seen }
    }

    /// Whether it may be left out altogether.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.seen, Seen::Unknown)
    }

    /// Whether its answer says that it changed nothing. Such a step can be taken as soon as it fits: taking it later is
    /// never better.
    pub(super) fn is_observation(&self) -> bool {
        let changed = |changed: &Option<Changed>| match changed {
            Some(Changed::Held | Changed::Deleted { existed: false }) => false,
            Some(Changed::Version(_) | Changed::Deleted { existed: true }) | None => true,
        };
        match &self.seen {
            Seen::Found { .. } | Seen::Absent | Seen::Refused { .. } => true,
            Seen::Done(all) => !all.iter().any(changed),
            Seen::Maybe | Seen::Unknown => false,
        }
    }

    /// Takes the step. False, and nothing is changed, if that would not give the answer that was given.
    pub(super) fn take(&self, model: Model, cells: &mut [Cell], values: &mut Values) -> bool {
        if let Some(cell) = self.get {
            return self.fits_get(model, cells[cell]);
        }
        if let [edit] = &self.edits[..] {
            let before = cells[edit.cell];
            let outcome = apply(model, edit, cells, values);
            let fits = self.fits_one(outcome);
            if !fits {
                cells[edit.cell] = before;
            }
            return fits;
        }
        let before = cells.to_vec();
        let mut changed = Vec::with_capacity(self.edits.len());
        let mut refused = None;
        for (position, edit) in self.edits.iter().enumerate() {
            match apply(model, edit, cells, values) {
                Ok(one) => changed.push(one),
                Err(why) => {
                    refused = Some((position, why));
                    break;
                }
            }
        }
        let fits = match refused {
            None => self.fits_done(&changed),
            Some((position, why)) => self.fits_refused(position, why),
        };
        if !fits || refused.is_some() {
            cells.copy_from_slice(&before);
        }
        fits
    }

    fn fits_get(&self, model: Model, cell: Cell) -> bool {
        let exists = cell.version > 0 || model == Model::Append;
        match self.seen {
            Seen::Found { value, version } => {
                exists && value == cell.value && version.is_none_or(|version| version == cell.version)
            }
            Seen::Absent if model == Model::Append => cell.value == 0,
            Seen::Absent => !exists,
            _ => true,
        }
    }

    fn fits_one(&self, outcome: Result<Changed, Refusal>) -> bool {
        match outcome {
            Ok(changed) => self.fits_done(&[changed]),
            Err(why) => self.fits_refused(0, why),
        }
    }

    fn fits_done(&self, changed: &[Changed]) -> bool {
        match &self.seen {
            Seen::Done(told) => {
                told.iter().zip(changed).all(|(told, changed)| told.is_none_or(|told| told == *changed))
            }
            Seen::Maybe | Seen::Unknown => true,
            _ => false,
        }
    }

    fn fits_refused(&self, at: usize, because: Refusal) -> bool {
        match self.seen {
            Seen::Refused { position, why } => {
                let same = match (why, because) {
                    (Refusal::NoKey, Refusal::NoKey) => true,
                    (Refusal::Version { actual: None }, Refusal::Version { .. }) => true,
                    (why, because) => why == because,
                };
                same && position.is_none_or(|position| position as usize == at)
            }
            Seen::Maybe | Seen::Unknown => true,
            _ => false,
        }
    }
}

/// Carries out one change; a refusal changes nothing.
fn apply(model: Model, edit: &Edit, cells: &mut [Cell], values: &mut Values) -> Result<Changed, Refusal> {
    let cell = &mut cells[edit.cell];
    let wanted = match edit.expect {
        Expect::Any => cell.version,
        Expect::Absent => 0,
        Expect::Version(version) => version,
    };
    if wanted != cell.version {
        return Err(match cell.version {
            0 => Refusal::NoKey,
            actual => Refusal::Version { actual: Some(actual) },
        });
    }
    match edit.kind {
        Kind::Put(value) => cell.value = value,
        Kind::Append(value) => cell.value = values.join(cell.value, value),
        Kind::Delete => {
            let existed = cell.version > 0;
            *cell = Cell::default();
            return Ok(Changed::Deleted { existed });
        }
        Kind::Check => return Ok(Changed::Held),
    }
    if model == Model::Versioned {
        cell.version += 1;
    }
    Ok(Changed::Version(cell.version))
}
