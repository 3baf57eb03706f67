//! The rules of retrying without a session: what may be sent again, and what a refusal means after that.
//!
//! They are those of a clerk whose server keeps nothing per client. A conditional change disturbs its own condition, so
//! it takes effect at most once as long as nobody deletes the key in between (versions start anew after a delete). A
//! change without a condition is not repeated, even where doing it twice is as good as doing it once: the second time
//! may come after what somebody else did meanwhile, and undo it.

use super::call::Op;
use super::error::ClerkError;
use crate::logic::kv::command::{Change, Command, Expect, KvError};

/// Whether the operation may be sent again without a session after a transmission whose fate is unknown.
pub(super) fn repeatable(op: &Op) -> bool {
    match op {
        Op::Read { .. } | Op::MapReduce(_) => true,
        Op::Admin { .. } => !op.has_effect(),
        Op::Write(command) => match command {
            Command::Change(change) => guards_itself(change) || mutant!(RetriesWithoutSession),
            Command::Batch(changes) => batch_repeatable(changes),
            // A session or lease opened twice leaves one behind that expires by itself; the others are idempotent.
            _ => true,
        },
    }
}

/// One change that guards itself guards them all, since they are applied all or none; but not if another change of the
/// batch may make its condition true again. A batch that changes nothing needs no guard.
fn batch_repeatable(changes: &[Change]) -> bool {
    let looks_only = |change: &Change| matches!(change, Change::Check { .. } | Change::Fence { .. });
    let writes_to = |key: &[u8]| changes.iter().filter(|c| !looks_only(c) && c.key()[..] == *key).count();
    changes.iter().any(|change| guards_itself(change) && writes_to(change.key()) == 1)
        || changes.iter().all(looks_only)
}

/// Whether carrying out the change makes its own condition false.
fn guards_itself(change: &Change) -> bool {
    match change {
        Change::Put { expect, .. } | Change::Append { expect, .. } | Change::Delete { expect, .. } => {
            // Deleting what must be absent changes nothing, so it guards nothing.
            *expect != Expect::Any
                && !(matches!(change, Change::Delete { .. })
                    && matches!(expect, Expect::Absent | Expect::Version(0)))
        }
        Change::Check { .. } | Change::Fence { .. } => false,
    }
}

/// What a refusal means to the caller. `certain`: no other transmission of the command can have been carried out, or
/// a session stands for it.
pub(super) fn refusal(op: &Op, certain: bool, error: KvError) -> ClerkError {
    if certain || !op.has_effect() || mutant!(SureOfRefusals) {
        return error.into();
    }
    match (op, &error) {
        // An owner that has a place finds it again, so whoever is refused has none.
        (Op::Write(Command::Claim { .. }), KvError::LockHeld { .. }) | (_, KvError::Malformed(_)) => {
            error.into()
        }
        _ => ClerkError::Maybe,
    }
}
