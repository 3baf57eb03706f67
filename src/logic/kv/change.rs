//! Changes of keys, one by one and in batches.

use super::command::{Change, Changed, Expect, KvError, Lifetime, Outcome, Reply, Version};
use super::key::Key;
use super::limits::{at_most, at_position, batch_bytes, caps};
use super::machine::Machine;
use super::row::{Life, RECORD_OVERHEAD, Row};

/// A scratch buffer that grew beyond this for one large value is given back.
const SCRATCH_KEPT: usize = 64 << 10;

/// What a change replaced: replacing it once more undoes the change.
type Undo = (Key, Option<Row>);

impl Machine {
    /// All or nothing. Keeping what was replaced is cheaper than working on a clone of the map, which would copy every
    /// node that the batch touches.
    pub(super) fn batch(&mut self, changes: &[Change]) -> Outcome {
        at_most("max_batch_changes", "changes in the batch", caps::BATCH_CHANGES, changes.len() as u64)?;
        at_most("max_batch_bytes", "the batch's bytes", caps::BATCH_BYTES, batch_bytes(changes))?;
        let mut results = Vec::with_capacity(changes.len());
        let mut undo: Vec<Undo> = Vec::with_capacity(changes.len());
        for (position, change) in changes.iter().enumerate() {
            match self.change(change) {
                Ok((changed, replaced)) => {
                    results.push(changed);
                    undo.extend(replaced);
                }
                Err(error) => {
                    if !mutant!(BatchByHalves) {
                        self.undo(undo);
                    }
                    return Err(at_position(position, error));
                }
            }
        }
        Ok(Reply::Batch(results))
    }

    fn undo(&mut self, replaced: Vec<Undo>) {
        for (key, row) in replaced.into_iter().rev() {
            self.rows.replace(key, row);
        }
    }

    pub(super) fn change(&mut self, change: &Change) -> Result<(Changed, Option<Undo>), KvError> {
        let key = change.key();
        at_most("max_key_bytes", "the key's bytes", caps::KEY_BYTES, key.len() as u64)?;
        self.effort += RECORD_OVERHEAD;
        let current = self.live(key);
        let version = current.map_or(0, Row::version);
        match change {
            Change::Put { value, expect, lifetime, .. } => {
                check(*expect, version)?;
                let life = self.life(*lifetime)?;
                self.write(key, version + 1, life, [value, &[]])
            }
            Change::Append { value, expect, .. } => {
                check(*expect, version)?;
                let current = current.cloned();
                let (life, start) =
                    current.as_ref().map_or((Life::Forever, &[][..]), |row| (row.life(), row.value()));
                self.write(key, version + 1, life, [start, value])
            }
            Change::Delete { expect, .. } => {
                check(*expect, version)?;
                let existed = version > 0;
                if mutant!(DeleteLeavesTheKey) && existed {
                    let (_, undo) = self.write(key, version, Life::Forever, [&[], &[]])?;
                    return Ok((Changed::Deleted { existed }, undo));
                }
                let undo =
                    existed.then(|| Key::new(key)).map(|key| (key.clone(), self.rows.replace(key, None)));
                Ok((Changed::Deleted { existed }, undo))
            }
            Change::Check { expect, .. } => {
                check(*expect, version)?;
                Ok((Changed::Held, None))
            }
            Change::Fence { lock, token } => {
                self.check_fence(lock, *token)?;
                Ok((Changed::Held, None))
            }
        }
    }

    fn write(
        &mut self,
        key: &[u8],
        version: Version,
        life: Life,
        value: [&[u8]; 2],
    ) -> Result<(Changed, Option<Undo>), KvError> {
        let asked = (value[0].len() + value[1].len()) as u64;
        at_most("max_value_bytes", "the value's bytes", caps::VALUE_BYTES, asked)?;
        self.effort += asked;
        at_most("max_batch_effort", "the bytes that the batch writes", caps::BATCH_EFFORT, self.effort)?;
        let row = Row::new(&mut self.scratch, key, version, life, value);
        if self.scratch.capacity() > SCRATCH_KEPT {
            self.scratch = Vec::new();
        }
        let key = Key::new(key);
        let old = self.rows.replace(key.clone(), Some(row));
        Ok((Changed::Version(version), Some((key, old))))
    }

    fn life(&self, lifetime: Lifetime) -> Result<Life, KvError> {
        match lifetime {
            Lifetime::Forever => Ok(Life::Forever),
            Lifetime::Ttl(ttl_ms) => Ok(Life::Until(self.time_ms.saturating_add(ttl_ms))),
            Lifetime::Lease(lease) if self.leases.is_alive(lease, self.time_ms) => Ok(Life::Leased(lease)),
            Lifetime::Lease(_) => Err(KvError::LeaseExpired),
        }
    }
}

/// The lab's rule for conditional changes; version 0 stands for an absent key.
fn check(expect: Expect, actual: Version) -> Result<(), KvError> {
    match expect {
        Expect::Any => Ok(()),
        Expect::Absent | Expect::Version(0) if actual == 0 => Ok(()),
        Expect::Version(version) if version == actual || mutant!(PutIgnoresVersion) => Ok(()),
        Expect::Version(_) if actual == 0 => Err(KvError::NoKey),
        Expect::Absent | Expect::Version(_) => Err(KvError::Version { actual }),
    }
}
