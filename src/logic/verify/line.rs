//! How an operation stands in a file: one JSON object a line. The format is described in `docs/history.md`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::operation::{Action, Answer, Operation, Refusal};
use crate::logic::hex;
use crate::logic::kv::command::{Change, Changed, Expect, Lifetime, Version};

/// A line as it is written, before its parts are looked at together.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Line {
    client: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<u64>,
    #[serde(rename = "return", skip_serializing_if = "Option::is_none")]
    returned: Option<u64>,
    op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<LineChange>>,
    result: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    results: Option<Vec<LineResult>>,
}

/// A change of a batch.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LineChange {
    op: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect: Option<Version>,
}

/// What came of a change of a batch.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LineResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    existed: Option<bool>,
}

/// Reads a line.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub fn parse(line: &str) -> Result<Operation, String> {
    if !line.trim_start().starts_with('{') {
        return Err("a line must be one JSON object: {\"client\": ...}".into());
    }
    let line: Line = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let Line { client, call, returned, .. } = line;
    let call = call.ok_or("call is missing: the time at which the client called")?;
    let (action, answer) = match line.op.as_str() {
        "get" => parse_get(line)?,
        "batch" => parse_batch(line)?,
        _ => parse_single(line)?,
    };
    let returned = match (returned, &answer) {
        (Some(returned), _) => returned,
        (None, Answer::Unknown | Answer::Failed) => u64::MAX,
        (None, _) => return Err("return is missing: the time at which the answer was there".into()),
    };
    Ok(Operation { client, call, returned, action, answer })
}

fn parse_get(line: Line) -> Result<(Action, Answer), String> {
    absent(&[
        ("expect", line.expect.is_some()),
        ("changes", line.changes.is_some()),
        ("existed", line.existed.is_some()),
        ("position", line.position.is_some()),
        ("results", line.results.is_some()),
    ])?;
    let key = bytes("key", line.key, line.key_hex)?.ok_or("key is missing")?;
    let value = bytes("value", line.value, line.value_hex)?;
    let answer = match (line.result.as_str(), value, line.version) {
        ("ok", Some(value), version) => Answer::Found { value, version },
        ("ok", None, _) => return Err("value is missing: a get that is \"ok\" tells a value".into()),
        ("no_key", None, None) => Answer::Absent,
        ("unknown", None, None) => Answer::Unknown,
        ("failed", None, None) => Answer::Failed,
        ("no_key" | "unknown" | "failed", ..) => {
            return Err(format!("{:?} comes without a value and a version", line.result));
        }
        _ => return Err(format!("{:?} is no result of a get: ok, no_key, unknown or failed", line.result)),
    };
    Ok((Action::Get { key }, answer))
}

fn parse_single(line: Line) -> Result<(Action, Answer), String> {
    absent(&[
        ("changes", line.changes.is_some()),
        ("position", line.position.is_some()),
        ("results", line.results.is_some()),
    ])?;
    let LineResult { version, existed } = LineResult { version: line.version, existed: line.existed };
    let change = LineChange {
        op: line.op,
        key: line.key,
        key_hex: line.key_hex,
        value: line.value,
        value_hex: line.value_hex,
        expect: line.expect,
    };
    let change = change.read()?;
    let answer = match line.result.as_str() {
        "ok" => Answer::Done(vec![LineResult { version, existed }.read(&change)?]),
        result => refused(result, version, existed, None)?,
    };
    Ok((Action::Change(change), answer))
}

fn parse_batch(line: Line) -> Result<(Action, Answer), String> {
    absent(&[
        ("key", line.key.is_some() || line.key_hex.is_some()),
        ("value", line.value.is_some() || line.value_hex.is_some()),
        ("expect", line.expect.is_some()),
    ])?;
    let changes = line.changes.ok_or("changes is missing: the changes of the batch")?;
    let changes = changes.into_iter().map(LineChange::read).collect::<Result<Vec<_>, _>>()?;
    let answer = match (line.result.as_str(), line.results) {
        ("ok", None) if line.version.is_none() && line.existed.is_none() => {
            Answer::Done(vec![None; changes.len()])
        }
        ("ok", Some(results)) if results.len() == changes.len() => {
            let read = results.into_iter().zip(&changes).map(|(result, change)| result.read(change));
            Answer::Done(read.collect::<Result<_, _>>()?)
        }
        ("ok", Some(_)) => return Err("results must be as many as changes".into()),
        ("ok", None) => return Err("what a batch made stands in results".into()),
        (_, Some(_)) => return Err("results belongs to a batch that is \"ok\"".into()),
        (result, None) => refused(result, line.version, line.existed, line.position)?,
    };
    Ok((Action::Batch(changes), answer))
}

/// Reads any result of changes but "ok".
fn refused(
    result: &str,
    actual: Option<Version>,
    existed: Option<bool>,
    position: Option<u32>,
) -> Result<Answer, String> {
    absent(&[("existed", existed.is_some()), ("version", actual.is_some() && result != "version")])?;
    let why = match result {
        "no_key" => Refusal::NoKey,
        "version" => Refusal::Version { actual },
        _ => {
            absent(&[("position", position.is_some())])?;
            return match result {
                "maybe" => Ok(Answer::Maybe),
                "unknown" => Ok(Answer::Unknown),
                "failed" => Ok(Answer::Failed),
                "" => Err("result is missing".into()),
                _ => Err(format!(
                    "{result:?} is no result of a change: ok, no_key, version, maybe, unknown or failed"
                )),
            };
        }
    };
    Ok(Answer::Refused { position, why })
}

impl LineChange {
    fn read(self) -> Result<Change, String> {
        let key = bytes("key", self.key, self.key_hex)?.ok_or("key is missing")?;
        let value = bytes("value", self.value, self.value_hex)?;
        let expect = match self.expect {
            None => Expect::Any,
            Some(0) => Expect::Absent,
            Some(version) => Expect::Version(version),
        };
        match (self.op.as_str(), value) {
            ("put", Some(value)) => Ok(Change::Put { key, value, expect, lifetime: Lifetime::Forever }),
            ("append", Some(value)) => Ok(Change::Append { key, value, expect }),
            ("delete", None) => Ok(Change::Delete { key, expect }),
            ("check", None) => Ok(Change::Check { key, expect }),
            ("put" | "append", None) => Err(format!("value is missing: {} needs one", self.op)),
            ("delete" | "check", Some(_)) => Err(format!("{} takes no value", self.op)),
            ("", _) => Err("op is missing".into()),
            _ => Err(format!("{:?} is no op: get, put, append, delete, check or batch", self.op)),
        }
    }

    fn write(change: &Change) -> LineChange {
        let (op, expect) = match change {
            Change::Put { expect, .. } => ("put", expect),
            Change::Append { expect, .. } => ("append", expect),
            Change::Delete { expect, .. } => ("delete", expect),
            Change::Check { expect, .. } => ("check", expect),
        };
        let expect = match expect {
            Expect::Any => None,
            Expect::Absent => Some(0),
            Expect::Version(version) => Some(*version),
        };
        let (key, key_hex) = text(change.key());
        let (value, value_hex) = change.value().map_or((None, None), text);
        LineChange { op: op.into(), key, key_hex, value, value_hex, expect }
    }
}

impl LineResult {
    fn read(self, change: &Change) -> Result<Option<Changed>, String> {
        let makes = matches!(change, Change::Put { .. } | Change::Append { .. });
        let deletes = matches!(change, Change::Delete { .. });
        match (self.version, self.existed) {
            (None, None) if makes || deletes => Ok(None),
            (None, None) => Ok(Some(Changed::Held)),
            (Some(version), None) if makes => Ok(Some(Changed::Version(version))),
            (None, Some(existed)) if deletes => Ok(Some(Changed::Deleted { existed })),
            _ => {
                Err("put and append tell a version, delete tells whether the key existed, check nothing"
                    .into())
            }
        }
    }

    fn write(changed: Option<Changed>) -> LineResult {
        match changed {
            Some(Changed::Version(version)) => LineResult { version: Some(version), existed: None },
            Some(Changed::Deleted { existed }) => LineResult { version: None, existed: Some(existed) },
            Some(Changed::Held) | None => LineResult::default(),
        }
    }
}

/// Refuses fields that do not belong there.
fn absent(fields: &[(&str, bool)]) -> Result<(), String> {
    match fields.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(format!("{name} does not belong to this op and result")),
        None => Ok(()),
    }
}

fn bytes(name: &str, plain: Option<String>, digits: Option<String>) -> Result<Option<Bytes>, String> {
    match (plain, digits) {
        (None, None) => Ok(None),
        (Some(plain), None) => Ok(Some(plain.into())),
        (None, Some(digits)) => match hex::read(&digits) {
            Some(bytes) => Ok(Some(bytes.into())),
            None => Err(format!("{name}_hex is not hexadecimal: two digits for each byte")),
        },
        (Some(_), Some(_)) => Err(format!("give {name} or {name}_hex, not both")),
    }
}

/// Bytes as text where they are UTF-8, else as hexadecimal: the one or the other.
fn text(bytes: &Bytes) -> (Option<String>, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (Some(text.to_owned()), None),
        Err(_) => (None, Some(hex::write(bytes))),
    }
}

/// Writes an operation as a line that [`parse`] reads as the same, without a line end.
pub fn write(operation: &Operation) -> String {
    let Operation { client, call, returned, action, answer } = operation;
    let mut line = Line { client: *client, call: Some(*call), returned: Some(*returned), ..Line::default() };
    match action {
        Action::Get { key } => {
            line.op = "get".into();
            (line.key, line.key_hex) = text(key);
        }
        Action::Change(change) => {
            let LineChange { op, key, key_hex, value, value_hex, expect } = LineChange::write(change);
            line = Line { op, key, key_hex, value, value_hex, expect, ..line };
        }
        Action::Batch(changes) => {
            line.op = "batch".into();
            line.changes = Some(changes.iter().map(LineChange::write).collect());
        }
    }
    write_answer(&mut line, action, answer);
    serde_json::to_string(&line).expect("numbers, texts and lists can be written")
}

fn write_answer(line: &mut Line, action: &Action, answer: &Answer) {
    let result = match answer {
        Answer::Found { value, version } => {
            (line.value, line.value_hex) = text(value);
            line.version = *version;
            "ok"
        }
        Answer::Absent => "no_key",
        Answer::Done(changed) => {
            if matches!(action, Action::Batch(_)) {
                line.results = Some(changed.iter().copied().map(LineResult::write).collect());
            } else {
                let told = LineResult::write(changed.first().copied().flatten());
                (line.version, line.existed) = (told.version, told.existed);
            }
            "ok"
        }
        Answer::Refused { position, why } => {
            line.position = *position;
            match why {
                Refusal::NoKey => "no_key",
                Refusal::Version { actual } => {
                    line.version = *actual;
                    "version"
                }
            }
        }
        Answer::Maybe => "maybe",
        Answer::Unknown => "unknown",
        Answer::Failed => "failed",
    };
    if matches!(answer, Answer::Unknown | Answer::Failed) {
        line.returned = None;
    }
    line.result = result.into();
}
