//! A command of a session takes effect once, and in the order in which its client had it acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Invariant;
use crate::sim::history::{Ask, Call, Told};

/// Looks at keys that are only appended to, with tokens `CLIENT.NUMBER;` of which each is appended by one call. A read
/// must show each token at most once, and all that were acknowledged before it began, those of a client in their order.
/// (One that was not acknowledged may come late.)
#[derive(Default)]
pub struct ExactlyOnce {
    /// By key and token: when it was acknowledged.
    acknowledged: BTreeMap<Bytes, BTreeMap<String, u64>>,
}

impl Invariant for ExactlyOnce {
    fn name(&self) -> &'static str {
        "exactly once"
    }

    fn call(&mut self, call: &Call) -> Result<(), String> {
        match (&call.ask, &call.told) {
            (Ask::Append(key, token), Ok(_)) => {
                let token = String::from_utf8_lossy(token).trim_end_matches(';').to_owned();
                self.acknowledged.entry(key.clone()).or_default().insert(token, call.after);
                Ok(())
            }
            (Ask::Get(key), Ok(Told::Value(found))) if key.starts_with(b"log") => {
                let value = found.as_ref().map_or(&[][..], |found| &found.value);
                self.check(key, value, call.before).map_err(|what| {
                    format!("client {} reads {} and finds {what}", call.client, String::from_utf8_lossy(key))
                })
            }
            _ => Ok(()),
        }
    }
}

impl ExactlyOnce {
    fn check(&self, key: &Bytes, value: &[u8], before: u64) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut latest: BTreeMap<&str, u64> = BTreeMap::new();
        let none = BTreeMap::new();
        let acknowledged = self.acknowledged.get(key).unwrap_or(&none);
        let text = std::str::from_utf8(value).map_err(|_| "bytes that nobody wrote".to_owned())?;
        for token in text.split_terminator(';') {
            if !seen.insert(token) {
                return Err(format!("the token {token} twice"));
            }
            let parts = token.split_once('.').and_then(|(who, number)| Some((who, number.parse().ok()?)));
            let (who, number) = parts.ok_or_else(|| format!("{token:?}, which nobody wrote"))?;
            if acknowledged.contains_key(token)
                && let Some(last) = latest.insert(who, number).filter(|last| *last > number)
            {
                return Err(format!("the token {token} behind {who}.{last}"));
            }
        }
        match acknowledged.iter().find(|(token, when)| **when < before && !seen.contains(token.as_str())) {
            Some((token, _)) => Err(format!("no token {token}, which was acknowledged before")),
            None => Ok(()),
        }
    }
}
