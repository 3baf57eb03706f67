//! batch: several changes, all or none; and the format in which they are written.

use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cluster::{ClusterArgs, explain};
use super::kv::{FenceArgs, changed_json, changed_text};
use super::output::Output;
use super::text::{parse_hex, parse_lease, parse_ttl_ms};
use crate::logic::kv::command::{Change, Expect, Lifetime, Version};
use crate::node::exit::{self, Failure};

/// More is never read; a node's own limit is lower.
const LONGEST_INPUT: u64 = 64 << 20;

/// Carry out several changes at once: all of them, in order, or none.
///
/// Reads one change a line, from standard input or a file, and prints what came of each. Each change sees the effect of
/// those before it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "A line is a change. Words are separated by blanks; a word in double quotes may hold blanks and the \
escapes
\\\" \\\\ \\n \\t \\r \\xNN. Empty lines and lines that begin with # are skipped.

  put KEY VALUE [version=N] [ttl=30s] [lease=1:42]
  append KEY VALUE [version=N]
  del KEY [version=N]
  check KEY version=N            changes nothing, but fails the batch unless the key has the version

version=0 means that the key must be absent. A line that begins with { is the same as JSON:

  {\"op\": \"put\", \"key\": \"k\", \"value\": \"v\", \"version\": 0, \"ttl\": \"30s\"}

with key_hex and value_hex for bytes that are not UTF-8.

Examples:
  quorate batch transfer.txt
  quorate batch < transfer.txt
  printf 'check lock version=3\\nput log \"one more\"\\ndel tmp\\n' | quorate batch"
)]
pub(super) struct Args {
    /// File with the changes; without it, standard input
    file: Option<PathBuf>,
    #[command(flatten)]
    fence: FenceArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let changes = parse(&self.read()?).map_err(|problems| Failure::usage(problems.join("\n")))?;
        if changes.is_empty() {
            return Err(Failure::usage(
                "there is no change in the input; see `quorate batch --help` for the format",
            ));
        }
        let fence = self.fence.fence;
        let results =
            self.cluster.run(async |cluster| cluster.fenced(fence).batch(changes).await.map_err(explain))?;
        let mut out = Output::new(self.cluster.json);
        if out.json {
            let results: Vec<Value> = results.into_iter().map(changed_json).collect();
            out.value(&json!({"results": results}))?;
        } else {
            for result in results {
                out.line(changed_text(result))?;
            }
        }
        out.flush()?;
        Ok(exit::OK)
    }

    fn read(&self) -> Result<String, Failure> {
        let mut text = String::new();
        let read = match &self.file {
            Some(path) => {
                std::fs::File::open(path).and_then(|file| file.take(LONGEST_INPUT).read_to_string(&mut text))
            }
            None => std::io::stdin().lock().take(LONGEST_INPUT).read_to_string(&mut text),
        };
        let from = self.file.as_ref().map_or("standard input".into(), |path| path.display().to_string());
        match read {
            Ok(length) if length as u64 == LONGEST_INPUT => Err(Failure::usage(format!(
                "{from} is longer than {LONGEST_INPUT} bytes; no batch may be that long"
            ))),
            Ok(_) => Ok(text),
            Err(error) => Err(Failure::usage(format!("cannot read {from}: {error}"))),
        }
    }
}

/// Reads changes in the format of `quorate batch`, one a line; `quorate batch --help` describes it.
///
/// # Errors
/// One sentence for each line that is not a change, with its number.
pub fn parse(text: &str) -> Result<Vec<Change>, Vec<String>> {
    let mut changes = Vec::new();
    let mut problems = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parsed = if line.starts_with('{') { parse_json(line) } else { parse_words(line) };
        match parsed {
            Ok(change) => changes.push(change),
            Err(problem) => problems.push(format!("line {}: {problem}", number + 1)),
        }
    }
    if problems.is_empty() { Ok(changes) } else { Err(problems) }
}

/// A change before its parts are checked against each other.
struct Draft {
    op: String,
    key: Bytes,
    value: Option<Bytes>,
    version: Option<Version>,
    lifetime: Lifetime,
}

impl Draft {
    fn finish(self) -> Result<Change, String> {
        let Self { op, key, value, version, lifetime } = self;
        let expect = match version {
            None => Expect::Any,
            Some(0) => Expect::Absent,
            Some(version) => Expect::Version(version),
        };
        let op = op.as_str();
        if lifetime != Lifetime::Forever && op != "put" {
            return Err(format!("{op} takes no ttl or lease"));
        }
        match (op, value) {
            ("put", Some(value)) => Ok(Change::Put { key, value, expect, lifetime }),
            ("append", Some(value)) => Ok(Change::Append { key, value, expect }),
            ("put" | "append", None) => Err(format!("{op} needs a value")),
            ("del", None) => Ok(Change::Delete { key, expect }),
            ("check", None) if version.is_some() => Ok(Change::Check { key, expect }),
            ("check", None) => Err("check needs a version: version=N, 0 for absent".into()),
            ("del" | "check", Some(_)) => Err(format!("{op} takes no value")),
            _ => Err(no_change(op)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonChange {
    op: String,
    key: Option<String>,
    key_hex: Option<String>,
    value: Option<String>,
    value_hex: Option<String>,
    version: Option<Version>,
    ttl: Option<String>,
    lease: Option<String>,
}

fn parse_json(line: &str) -> Result<Change, String> {
    let json: JsonChange = serde_json::from_str(line).map_err(|error| error.to_string())?;
    let bytes = |name: &str, text: Option<String>, hex: Option<String>| match (text, hex) {
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(hex)) => parse_hex(&hex).map(Some),
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(format!("give {name} or {name}_hex, not both")),
    };
    let key = bytes("key", json.key, json.key_hex)?.ok_or("key is missing")?;
    let value = bytes("value", json.value, json.value_hex)?;
    let lifetime = lifetime(json.ttl.as_deref(), json.lease.as_deref())?;
    Draft { op: json.op, key, value, version: json.version, lifetime }.finish()
}

fn lifetime(ttl: Option<&str>, lease: Option<&str>) -> Result<Lifetime, String> {
    match (ttl, lease) {
        (None, None) => Ok(Lifetime::Forever),
        (Some(ttl), None) => parse_ttl_ms(ttl).map(Lifetime::Ttl),
        (None, Some(lease)) => parse_lease(lease).map(Lifetime::Lease),
        (Some(_), Some(_)) => Err("give a ttl or a lease, not both".into()),
    }
}

const OPERATIONS: [&str; 4] = ["put", "append", "del", "check"];

fn no_change(op: &str) -> String {
    format!("{op:?} is not a change; use {}", OPERATIONS.join(", "))
}

fn parse_words(line: &str) -> Result<Change, String> {
    let mut words = split(line)?.into_iter();
    let op = words.next().map(|word| String::from_utf8_lossy(&word.bytes).into_owned()).unwrap_or_default();
    if !OPERATIONS.contains(&&*op) {
        return Err(no_change(&op));
    }
    let key = words.next().ok_or_else(|| format!("{op} needs a key"))?.bytes;
    let takes_value = matches!(op.as_str(), "put" | "append");
    let value = if takes_value { words.next().map(|word| word.bytes) } else { None };
    let (mut version, mut ttl, mut lease) = (None, None, None);
    for word in words {
        let text = String::from_utf8_lossy(&word.bytes).into_owned();
        let slot = match text.split_once('=') {
            Some(("version", _)) if !word.quoted => &mut version,
            Some(("ttl", _)) if !word.quoted => &mut ttl,
            Some(("lease", _)) if !word.quoted => &mut lease,
            _ => {
                return Err(format!("{text:?} is one word too many; put words with blanks in double quotes"));
            }
        };
        let given = text.split_once('=').map(|(_, given)| given.to_string());
        if std::mem::replace(slot, given).is_some() {
            return Err(format!("{text:?} says it a second time"));
        }
    }
    let version = match version {
        Some(text) => Some(text.parse().map_err(|_| format!("{text:?} is not a version"))?),
        None => None,
    };
    Draft { op, key, value, version, lifetime: lifetime(ttl.as_deref(), lease.as_deref())? }.finish()
}

struct Word {
    bytes: Bytes,
    /// A quoted word is never an option.
    quoted: bool,
}

fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let (bytes, quoted, behind) = match rest.strip_prefix('"') {
            Some(inside) => {
                let (bytes, behind) = unquote(inside)?;
                (bytes, true, behind)
            }
            None => {
                let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                (word.as_bytes().to_vec(), false, behind)
            }
        };
        if !behind.is_empty() && !behind.starts_with(char::is_whitespace) {
            return Err("there must be a blank behind a closing quote".into());
        }
        words.push(Word { bytes: bytes.into(), quoted });
        rest = behind.trim_start();
    }
    Ok(words)
}

/// The bytes up to the closing quote, and what stands behind it.
fn unquote(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    loop {
        let stop = rest.find(['"', '\\']).ok_or("a quote is not closed")?;
        bytes.extend_from_slice(&rest.as_bytes()[..stop]);
        let special = &rest[stop..];
        if let Some(behind) = special.strip_prefix('"') {
            return Ok((bytes, behind));
        }
        let escape = &special[1..];
        let (byte, length) = match escape.as_bytes().first() {
            Some(c @ (b'"' | b'\\')) => (*c, 1),
            Some(b'n') => (b'\n', 1),
            Some(b't') => (b'\t', 1),
            Some(b'r') => (b'\r', 1),
            Some(b'x') => {
                let digits = escape.get(1..3).ok_or("\\x needs two hexadecimal digits")?;
                (parse_hex(digits)?[0], 3)
            }
            _ => return Err(r#"a backslash must be followed by one of " \ n t r x"#.into()),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cli::text::{Keep, escape};
    use crate::logic::ids::GroupId;
    use crate::logic::kv::command::LeaseId;

    fn put(key: &'static [u8], value: &'static [u8], expect: Expect, lifetime: Lifetime) -> Change {
        Change::Put { key: Bytes::from_static(key), value: Bytes::from_static(value), expect, lifetime }
    }

    #[test]
    fn lines_of_both_kinds_are_changes() {
        let text = r#"
            # a comment
            put k v
            put "a key" "version=3" version=0 ttl=30s
            put k version=3 lease=1:42
            append k "\x00\xff\n\"\\"
            del k version=7
            check k version=0
            {"op": "put", "key": "k", "value_hex": "00ff", "version": 2, "ttl": "1s"}
            {"op": "del", "key_hex": "ff"}
        "#;
        let lease = Lifetime::Lease(LeaseId { group: GroupId(1), index: 42 });
        let key = || Bytes::from_static(b"k");
        let expected = vec![
            put(b"k", b"v", Expect::Any, Lifetime::Forever),
            put(b"a key", b"version=3", Expect::Absent, Lifetime::Ttl(30_000)),
            put(b"k", b"version=3", Expect::Any, lease),
            Change::Append { key: key(), value: Bytes::from_static(b"\x00\xff\n\"\\"), expect: Expect::Any },
            Change::Delete { key: key(), expect: Expect::Version(7) },
            Change::Check { key: key(), expect: Expect::Absent },
            put(b"k", b"\x00\xff", Expect::Version(2), Lifetime::Ttl(1000)),
            Change::Delete { key: Bytes::from_static(b"\xff"), expect: Expect::Any },
        ];
        assert_eq!(parse(text), Ok(expected));
    }

    #[test]
    fn every_wrong_line_is_reported_with_its_number() {
        let text = "put k\nput k v w\nput k \"v\nfly k\ncheck k\ndel\ndel k ttl=1s\nput k v version=x\nput k v ttl=5\n\
                    put k v version=1 version=2\n{\"op\": \"put\"}\n\
                    {\"op\": \"put\", \"key\": \"k\", \"valve\": \"v\"}\nput \"\\q\" v\n\
                    put \"k\"v w\nput k v ttl=1s lease=1:2\nput k v \"version=3\"";
        let problems = parse(text).expect_err("all wrong");
        assert_eq!(problems.len(), 16, "{problems:#?}");
        for (number, problem) in problems.iter().enumerate() {
            assert!(problem.starts_with(&format!("line {}: ", number + 1)), "{problem}");
        }
        let unknown = parse("frob a b").expect_err("no such change");
        assert_eq!(unknown, ["line 1: \"frob\" is not a change; use put, append, del, check"]);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[ -~\\n\\\\\"é]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn escaped_and_quoted_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let quoted = format!("del \"{}\"", escape(&bytes, Keep::Nothing).replace('"', "\\\""));
            prop_assert_eq!(parse_words(&quoted), Ok(Change::Delete { key: bytes.into(), expect: Expect::Any }));
        }
    }
}
