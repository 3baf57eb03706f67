//! What a coordinator keeps in the store, below a prefix of its own.
//!
//! ```text
//! office                   who is in office; its version fences every write
//! job/0000000007/head      that the job exists; written last
//! job/0000000007/plan/3    a piece of its plan (MessagePack)
//! job/0000000007/log/12    records, and when they were written (MessagePack)
//! ```
//!
//! Numbers in keys have ten digits, so that keys are in the order of their numbers.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::store::{LocalStore, StoreError};
use crate::logic::ids::NodeId;
use crate::logic::kv::command::{Change, Expect, Lifetime, Pair, Version};
use crate::logic::mapreduce::job::Plan;
use crate::logic::mapreduce::record::{JobId, Record};

/// Below it stands everything that concerns MapReduce.
pub const PREFIX: &str = "_quorate/mapreduce/";

/// Bytes of one piece of a plan, and about the most of one value with records, unless a single record has more: of a
/// task that counts under a thousand long names.
const PIECE: usize = 256 << 10;
/// Pieces and changes in one batch.
const PIECES_PER_BATCH: usize = 4;
const DELETES_PER_BATCH: usize = 64;
/// The least that the store's limits must be. Below it, what is to be written would be refused again and again, and no
/// job would get on.
pub const LEAST_LIMITS: [(&str, i64); 4] = [
    ("max_key_bytes", 64),
    ("max_value_bytes", 512 << 10),
    ("max_batch_bytes", 2 << 20),
    ("max_batch_changes", DELETES_PER_BATCH as i64 + 1),
];
/// A plan of more pieces is refused: it must fit into a frame, and into memory.
const MOST_PIECES: usize = 32;

/// A job as it stands in the store.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Who submitted it, when, and in how many pieces its plan is.
    pub head: Head,
    /// What there is to do.
    pub plan: Plan,
    /// What has happened, and when, in milliseconds of Unix time.
    pub records: Vec<(u64, Record)>,
    /// The number of the next value with records.
    pub next: u64,
}

/// That a job exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Drawn by whoever submitted it.
    pub token: u64,
    /// When, in milliseconds of Unix time.
    pub submitted_ms: u64,
    /// Pieces of its plan.
    pub pieces: u64,
}

/// The journal of a coordinator in office.
#[derive(Clone)]
pub struct Journal {
    store: LocalStore,
    /// The version of the office that this coordinator entered with.
    token: Version,
}

impl Journal {
    /// Enters the office: from now on nobody who entered before can write.
    ///
    /// # Errors
    /// When somebody else is faster, or the store does not serve.
    pub async fn enter(store: LocalStore, node: NodeId) -> Result<Journal, StoreError> {
        let known = store.get(office()).await?.map_or(0, |(_, version)| version);
        let value = Bytes::from(node.to_string());
        let enter =
            Change::Put { key: office(), value, expect: Expect::Version(known), lifetime: Lifetime::Forever };
        store.batch(vec![enter]).await?;
        Ok(Journal { store, token: known + 1 })
    }

    /// The fencing token of this term of office: it grows with every one.
    pub fn token(&self) -> u64 {
        self.token
    }

    /// All jobs, and the highest number that was ever used. A job that cannot be read is left out, with a word in the
    /// log. What is left of one that was being submitted or removed when its coordinator died is removed.
    ///
    /// # Errors
    /// When the store does not serve, or this coordinator is out of office.
    pub async fn load(&self) -> Result<(BTreeMap<JobId, Stored>, JobId), StoreError> {
        let pairs = self.store.scan(key("job/")).await?;
        let mut parts: BTreeMap<JobId, Vec<(String, Bytes)>> = BTreeMap::new();
        for Pair { key, value, .. } in pairs {
            if let Some((job, name)) = parse(&key) {
                parts.entry(job).or_default().push((name, value));
            }
        }
        let highest = parts.last_key_value().map_or(JobId(0), |(job, _)| *job);
        let mut jobs = BTreeMap::new();
        for (job, parts) in parts {
            match assemble(&parts) {
                Ok(Some(stored)) => drop(jobs.insert(job, stored)),
                Ok(None) => self.delete(parts.iter().map(|(name, _)| delete(job, name)).collect()).await?,
                Err(error) => tracing::error!(%job, error, "what the store has of a job cannot be read"),
            }
        }
        Ok((jobs, highest))
    }

    /// Writes a new job: the plan in pieces, then that it exists.
    ///
    /// # Errors
    /// When this coordinator is out of office, or the store does not serve.
    pub async fn create(&self, job: JobId, head: Head, pieces: Vec<Bytes>) -> Result<(), StoreError> {
        let changes: Vec<Change> =
            pieces.into_iter().zip(0..).map(|(piece, n)| put(job, &format!("plan/{n:010}"), piece)).collect();
        for batch in changes.chunks(PIECES_PER_BATCH) {
            self.write(batch.to_vec()).await?;
        }
        self.write(vec![put(job, "head", encode(&head))]).await
    }

    /// Writes records of a job as its value number `next`, and those after it. Returns the next free number.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub async fn append(
        &self,
        job: JobId,
        mut next: u64,
        records: Vec<(u64, Record)>,
    ) -> Result<u64, StoreError> {
        for values in in_values(records).chunks(PIECES_PER_BATCH) {
            let number = |offset: usize| next + offset as u64;
            let puts = values.iter().enumerate();
            let puts = puts.map(|(n, value)| put(job, &format!("log/{:010}", number(n)), value.clone()));
            let puts = puts.collect();
            self.write(puts).await?;
            next += values.len() as u64;
        }
        Ok(next)
    }

    /// Removes all that stands of a job. The head goes first, so that a job is never there by half.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub async fn remove(&self, job: JobId, pieces: u64, values: u64) -> Result<(), StoreError> {
        let plans = (0..pieces).map(|n| delete(job, &format!("plan/{n:010}")));
        let logs = (0..values).map(|n| delete(job, &format!("log/{n:010}")));
        self.delete([delete(job, "head")].into_iter().chain(plans).chain(logs).collect()).await
    }

    async fn delete(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        for batch in changes.chunks(DELETES_PER_BATCH) {
            self.write(batch.to_vec()).await?;
        }
        Ok(())
    }

    /// Makes the changes if this coordinator is still in office.
    async fn write(&self, mut changes: Vec<Change>) -> Result<(), StoreError> {
        changes.insert(0, Change::Check { key: office(), expect: Expect::Version(self.token) });
        self.store.batch(changes).await
    }
}

/// A plan in pieces that the store takes.
///
/// # Errors
/// When it is too large.
pub fn pieces(plan: &Plan) -> Result<Vec<Bytes>, String> {
    let bytes = encode(plan);
    if bytes.len() > MOST_PIECES * PIECE {
        let (size, most) = (bytes.len() >> 20, (MOST_PIECES * PIECE) >> 20);
        return Err(format!(
            "the plan of the job has {size} MiB, above {most}: make its splits larger, or its inputs fewer"
        ));
    }
    Ok((0..bytes.len()).step_by(PIECE).map(|at| bytes.slice(at..bytes.len().min(at + PIECE))).collect())
}

/// Records as values that the store takes.
fn in_values(records: Vec<(u64, Record)>) -> Vec<Bytes> {
    let mut values = Vec::new();
    let mut value: Vec<(u64, Record)> = Vec::new();
    let mut bytes = 0;
    for record in records {
        let more = encode(&record).len();
        if bytes + more > PIECE && !value.is_empty() {
            values.push(encode(&std::mem::take(&mut value)));
            bytes = 0;
        }
        bytes += more;
        value.push(record);
    }
    if !value.is_empty() {
        values.push(encode(&value));
    }
    values
}

fn assemble(parts: &[(String, Bytes)]) -> Result<Option<Stored>, String> {
    let Some((_, head)) = parts.iter().find(|(name, _)| name == "head") else { return Ok(None) };
    let head: Head = decode(head)?;
    let values = |prefix: &'static str| parts.iter().filter(move |(name, _)| name.starts_with(prefix));
    let mut plan = Vec::new();
    values("plan/").for_each(|(_, piece)| plan.extend_from_slice(piece));
    let mut records: Vec<(u64, Record)> = Vec::new();
    for (_, value) in values("log/") {
        records.extend(decode::<Vec<(u64, Record)>>(value)?);
    }
    let next = values("log/").count() as u64;
    Ok(Some(Stored { head, plan: decode(&plan)?, records, next }))
}

fn office() -> Bytes {
    key("office")
}

fn key(name: &str) -> Bytes {
    format!("{PREFIX}{name}").into()
}

fn put(job: JobId, name: &str, value: Bytes) -> Change {
    let key = key(&format!("job/{:010}/{name}", job.0));
    Change::Put { key, value, expect: Expect::Absent, lifetime: Lifetime::Forever }
}

fn delete(job: JobId, name: &str) -> Change {
    Change::Delete { key: key(&format!("job/{:010}/{name}", job.0)), expect: Expect::Any }
}

fn parse(key: &[u8]) -> Option<(JobId, String)> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?.strip_prefix("job/")?;
    let (number, name) = text.split_once('/')?;
    Some((JobId(number.parse().ok()?), name.to_owned()))
}

fn encode(value: &impl Serialize) -> Bytes {
    rmp_serde::to_vec_named(value).expect("plain data can be written").into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    rmp_serde::from_slice(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mapreduce::job::{Attempt, Limits, TaskId};
    use crate::logic::mapreduce::record::Yield;

    #[test]
    fn whatever_tasks_count_is_within_the_least_that_the_store_lets_in() {
        let counted = |names: u32| {
            let mut result = Yield::default();
            let name = |n: u32| format!("{n:0128}");
            (0..names).for_each(|n| result.counters.add(&name(n), &name(n), u64::MAX));
            result
        };
        let skipped = vec![u64::MAX; Limits::MOST_SKIPPED as usize];
        let (small, large, most) = (counted(1), counted(960), Yield { skipped, ..counted(2000) });
        let attempt = Attempt { task: TaskId::map(u32::MAX), number: u32::MAX };
        let done = |result: &Yield| (u64::MAX, Record::Done { attempt, result: result.clone() });
        let records = [&small, &most, &small, &large, &most, &most, &small].map(done).to_vec();
        let values = in_values(records.clone());
        let read = values.iter().flat_map(|value| decode::<Vec<(u64, Record)>>(value).expect("readable"));
        assert_eq!(read.collect::<Vec<_>>(), records);
        let longest = values.iter().map(Bytes::len).max().expect("there are some") as i64;
        let least = |name| LEAST_LIMITS.iter().find(|limit| limit.0 == name).expect("it is a limit").1;
        assert!(longest <= least("max_value_bytes"), "{longest}");
        let whole_batch = PIECES_PER_BATCH as i64 * (longest + 2 * least("max_key_bytes"));
        assert!(whole_batch <= least("max_batch_bytes"), "{whole_batch}");
        let name = format!("plan/{:010}", u64::from(u32::MAX));
        assert!(
            put(JobId(u32::MAX.into()), &name, Bytes::new()).key().len() as i64 <= least("max_key_bytes")
        );
    }

    #[test]
    fn names_of_keys_are_read_back() {
        for name in ["head", "plan/0000000003", "log/0000000012"] {
            let change = put(JobId(7), name, Bytes::new());
            assert_eq!(parse(change.key()), Some((JobId(7), name.to_owned())));
        }
        assert_eq!(parse(b"_quorate/mapreduce/office"), None);
        assert_eq!(parse(b"job/1/head"), None);
    }
}
