//! Versions of a key order all its changes, so linearizability is seen at once: whoever begins after another has ended
//! sees its version or a later one, and a change makes a version that nobody has seen before it began.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Invariant;
use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::Version;
use crate::sim::history::{Ask, Call, Told};

/// See the module. Looks at keys that are never removed, since a removed key begins anew at version 1.
#[derive(Default)]
pub struct Versions {
    keys: BTreeMap<Bytes, Key>,
}

#[derive(Default)]
struct Key {
    /// When a call ended, and the highest version that any call had seen by then.
    seen: Vec<(u64, Version)>,
    values: BTreeMap<Version, Bytes>,
    /// Versions made by changes that were acknowledged.
    made: BTreeMap<Version, u32>,
}

impl Invariant for Versions {
    fn name(&self) -> &'static str {
        "linearizability"
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        let (key, version, value, change) = match (&call.ask, &call.told) {
            (Ask::Get(key), Ok(Told::Value(None))) => (key, 0, None, false),
            (Ask::Get(key), Ok(Told::Value(Some(found)))) => (key, found.version, Some(&found.value), false),
            (Ask::Put(key, value) | Ask::PutIf(key, value, _), Ok(Told::Version(version))) => {
                (key, *version, Some(value), true)
            }
            (Ask::Append(key, _), Ok(Told::Version(version))) => (key, *version, None, true),
            (Ask::PutIf(key, ..), Err(ClerkError::VersionMismatch { actual })) => (key, *actual, None, false),
            _ => return Ok(()),
        };
        if key.starts_with(b"lock") || key.starts_with(b"gone") {
            return Ok(());
        }
        let known = self.keys.entry(key.clone()).or_default();
        known
            .check(call, version, value, change)
            .map_err(|what| format!("client {}: {}: {what}", call.client, call.ask.describe()))
    }
}

impl Key {
    fn check(
        &mut self,
        call: &Call,
        version: Version,
        value: Option<&Bytes>,
        change: bool,
    ) -> Result<(), String> {
        let begun = self.seen.partition_point(|(ended, _)| *ended < call.before);
        let floor = begun.checked_sub(1).map_or(0, |last| self.seen[last].1);
        let highest = self.seen.last().map_or(0, |(_, version)| *version).max(version);
        self.seen.push((call.after, highest));
        if version < floor || (change && version == floor) {
            let verb = if change { "made" } else { "saw" };
            return Err(format!("it {verb} version {version}, when version {floor} had been seen before"));
        }
        if change && let Some(other) = self.made.insert(version, call.client) {
            return Err(format!("it made version {version}, and so did client {other}"));
        }
        if let Some(value) = value {
            let first = self.values.entry(version).or_insert_with(|| value.clone());
            if first != value {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                return Err(format!("version {version} is {} and {}", text(first), text(value)));
            }
        }
        Ok(())
    }
}
