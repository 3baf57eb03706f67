//! put, get, append, cas, del: one key at a time.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::cluster::{ClusterArgs, explain, unexpected};
use super::output::Output;
use super::text::{self, Keep, escape, json_bytes};
use crate::logic::ids::NodeId;
use crate::logic::kv::command::{Change, Changed, Expect, LeaseId, Lifetime, Query, Reply, Version};
use crate::messages::client::Consistency;
use crate::node::client::Fence;
use crate::node::exit::{self, Failure};

/// More is never read from a file or standard input; a node's own limit is lower.
const LONGEST_VALUE: u64 = 64 << 20;

/// Set a key to a value.
///
/// Prints the key's new version. Arguments are UTF-8; other bytes come from --hex, --stdin or --file.
#[derive(Debug, clap::Args)]
#[command(override_usage = "quorate put [OPTIONS] <KEY> <VALUE | --stdin | --file PATH>")]
#[command(after_help = "Examples:
  quorate put greeting hello
  quorate put session:7 alice --ttl 30s       gone 30 seconds after it was last put
  quorate put worker:1 here --lease 1:42      gone when the lease ends, see `quorate lease`
  quorate put photo --file cat.jpg
  quorate put blob --stdin < data.bin
  quorate put --hex 00ff 0102                 key and value in hexadecimal
  quorate put -- dash --value                 behind -- nothing is an option")]
pub(super) struct PutArgs {
    /// The key
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// Let the key live so long (250ms, 30s, 5m, 2h, 1d), counted anew by every put
    #[arg(long, value_name = "TIME", value_parser = text::parse_ttl_ms, conflicts_with = "lease")]
    ttl: Option<u64>,
    /// Let the key live as long as a lease
    #[arg(long, value_name = "LEASE", value_parser = text::parse_lease)]
    lease: Option<LeaseId>,
    #[command(flatten)]
    fence: FenceArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Print the value of a key.
///
/// To a pipe or file the value's bytes go exactly as they are; on a terminal unprintable ones are escaped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate get greeting
  quorate get photo > cat.jpg
  quorate get greeting --json                     with the version
  quorate get greeting --consistency lease        from the leader's lease, where raft.lease_reads is on
  quorate get greeting --consistency stale --node 2    whatever n2 has applied, however old")]
pub(super) struct GetArgs {
    /// The key
    key: String,
    /// The key is hexadecimal
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Add bytes at the end of a key's value.
///
/// An absent key counts as empty. Prints the key's new version.
#[derive(Debug, clap::Args)]
#[command(override_usage = "quorate append [OPTIONS] <KEY> <VALUE | --stdin | --file PATH>")]
#[command(after_help = "Examples:
  quorate append log 'one more line'
  quorate append log more --version 3     only if the key has version 3")]
pub(super) struct AppendArgs {
    /// The key
    key: String,
    #[command(flatten)]
    value: ValueArgs,
    /// Only if the key has this version; 0: only if it is absent
    #[arg(long, value_name = "N")]
    version: Option<Version>,
    #[command(flatten)]
    fence: FenceArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Set a key to a value if it has the given version (compare and set).
///
/// Prints the key's new version. Exit code 1: the key has another version.
#[derive(Debug, clap::Args)]
#[command(override_usage = "quorate cas [OPTIONS] <KEY> <VERSION> <VALUE | --stdin | --file PATH>")]
#[command(after_help = "Examples:
  quorate cas greeting 0 hello      only if the key is absent
  quorate cas greeting 1 goodbye    only if it has version 1")]
pub(super) struct CasArgs {
    /// The key
    key: String,
    /// The version it must have; 0: it must be absent
    version: Version,
    #[command(flatten)]
    value: ValueArgs,
    /// Let the key live so long, counted anew by every put
    #[arg(long, value_name = "TIME", value_parser = text::parse_ttl_ms, conflicts_with = "lease")]
    ttl: Option<u64>,
    /// Let the key live as long as a lease
    #[arg(long, value_name = "LEASE", value_parser = text::parse_lease)]
    lease: Option<LeaseId>,
    #[command(flatten)]
    fence: FenceArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Delete a key.
///
/// Deleting an absent key without --version succeeds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate del greeting
  quorate del greeting --version 2    only if it has version 2")]
pub(super) struct DelArgs {
    /// The key
    key: String,
    /// The key is hexadecimal
    #[arg(long)]
    hex: bool,
    /// Only if the key has this version
    #[arg(long, value_name = "N")]
    version: Option<Version>,
    #[command(flatten)]
    fence: FenceArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Where a value comes from.
#[derive(Debug, clap::Args)]
struct ValueArgs {
    #[command(flatten)]
    source: ValueSource,
    /// The key and the value of the command line are hexadecimal
    #[arg(long)]
    hex: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct ValueSource {
    /// The value
    // No other dash: a misspelt option must not become a value.
    #[arg(allow_negative_numbers = true)]
    value: Option<String>,
    /// Read the value from standard input
    #[arg(long)]
    stdin: bool,
    /// Read the value from a file
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

/// Under which lock.
#[derive(Debug, clap::Args)]
pub(super) struct FenceArgs {
    /// Only if this lock is held under this token; a command of `quorate lock` writes --fence "$QUORATE_LOCK"
    #[arg(long, value_name = "LOCK:TOKEN", value_parser = text::parse_fence)]
    pub(super) fence: Option<Fence>,
}

/// How fresh an answer must be.
#[derive(Debug, clap::Args)]
pub(super) struct ReadArgs {
    /// How fresh the answer must be
    #[arg(long, value_enum, default_value = "linearizable")]
    consistency: Freshness,
    /// Ask this node, with --consistency stale
    #[arg(long, value_name = "ID", value_parser = super::cluster::parse_node)]
    node: Option<NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Freshness {
    /// Reflects every write that was acknowledged before
    Linearizable,
    /// The same as long as the nodes' clocks run at about the same speed
    Lease,
    /// Whatever the asked node has applied, however old
    Stale,
}

impl ReadArgs {
    /// The consistency, and the node to ask.
    pub(super) fn resolve(&self) -> Result<(Consistency, Option<NodeId>), Failure> {
        let consistency = match self.consistency {
            Freshness::Linearizable => Consistency::Linearizable,
            Freshness::Lease => Consistency::Lease,
            Freshness::Stale => Consistency::Stale,
        };
        if self.node.is_some() && consistency != Consistency::Stale {
            return Err(Failure::usage("--node chooses who answers a stale read; add --consistency stale"));
        }
        Ok((consistency, self.node))
    }
}

impl ValueArgs {
    fn key(&self, key: &str) -> Result<Bytes, Failure> {
        text::parse_bytes(key, self.hex).map_err(Failure::usage)
    }

    fn read(&self) -> Result<Bytes, Failure> {
        match &self.source {
            ValueSource { value: Some(value), .. } => {
                text::parse_bytes(value, self.hex).map_err(Failure::usage)
            }
            ValueSource { file: Some(path), .. } => {
                let file =
                    File::open(path).map_err(|error| cannot_read(&path.display().to_string(), &error))?;
                read_value(file, &path.display().to_string())
            }
            _ => read_value(std::io::stdin().lock(), "standard input"),
        }
    }
}

fn cannot_read(what: &str, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {what}: {error}"))
}

fn read_value(from: impl Read, what: &str) -> Result<Bytes, Failure> {
    let mut value = Vec::new();
    from.take(LONGEST_VALUE + 1).read_to_end(&mut value).map_err(|error| cannot_read(what, &error))?;
    if value.len() as u64 > LONGEST_VALUE {
        return Err(Failure::usage(format!(
            "{what} holds more than {LONGEST_VALUE} bytes; no value may be that long"
        )));
    }
    Ok(value.into())
}

fn lifetime(ttl: Option<u64>, lease: Option<LeaseId>) -> Lifetime {
    match (ttl, lease) {
        (Some(ttl_ms), _) => Lifetime::Ttl(ttl_ms),
        (None, Some(lease)) => Lifetime::Lease(lease),
        (None, None) => Lifetime::Forever,
    }
}

fn expect(version: Option<Version>) -> Expect {
    match version {
        None => Expect::Any,
        Some(0) => Expect::Absent,
        Some(version) => Expect::Version(version),
    }
}

/// Carries out one change and prints what came of it.
fn change(cluster: ClusterArgs, fence: FenceArgs, change: Change) -> Result<u8, Failure> {
    let changed =
        cluster.run(async |cluster| cluster.fenced(fence.fence).change(change).await.map_err(explain))?;
    let mut out = Output::new(cluster.json);
    out.either(changed_text(changed), &changed_json(changed))?;
    out.flush()?;
    Ok(exit::OK)
}

/// What came of a change, for people.
pub(super) fn changed_text(changed: Changed) -> String {
    match changed {
        Changed::Version(version) => format!("version {version}"),
        Changed::Deleted { existed: true } => "deleted".into(),
        Changed::Deleted { existed: false } => "was absent".into(),
        Changed::Held => "held".into(),
    }
}

/// The same for machines.
pub(super) fn changed_json(changed: Changed) -> Value {
    match changed {
        Changed::Version(version) => json!({"version": version}),
        Changed::Deleted { existed } => json!({"existed": existed}),
        Changed::Held => json!({"held": true}),
    }
}

impl PutArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (key, value) = (self.value.key(&self.key)?, self.value.read()?);
        let lifetime = lifetime(self.ttl, self.lease);
        change(self.cluster, self.fence, Change::Put { key, value, expect: Expect::Any, lifetime })
    }
}

impl CasArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (key, value) = (self.value.key(&self.key)?, self.value.read()?);
        let lifetime = lifetime(self.ttl, self.lease);
        let expect = expect(Some(self.version));
        change(self.cluster, self.fence, Change::Put { key, value, expect, lifetime })
    }
}

impl AppendArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (key, value) = (self.value.key(&self.key)?, self.value.read()?);
        change(self.cluster, self.fence, Change::Append { key, value, expect: expect(self.version) })
    }
}

impl DelArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let key = text::parse_bytes(&self.key, self.hex).map_err(Failure::usage)?;
        change(self.cluster, self.fence, Change::Delete { key, expect: expect(self.version) })
    }
}

impl GetArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let key = text::parse_bytes(&self.key, self.hex).map_err(Failure::usage)?;
        let (consistency, node) = self.read.resolve()?;
        let query = Query::Get { key: key.clone() };
        let reply = self.cluster.run(async |cluster| cluster.read(query, consistency, node).await)?;
        let Reply::Value { value, version } = reply else { return Err(unexpected(&reply)) };
        let mut out = Output::new(self.cluster.json);
        if out.json {
            let mut object = Map::new();
            json_bytes(&mut object, "key", &key);
            json_bytes(&mut object, "value", &value);
            object.insert("version".into(), version.into());
            out.value(&object.into())?;
        } else if out.terminal {
            out.line(escape(&value, Keep::Lines))?;
        } else {
            out.raw(&value)?;
        }
        out.flush()?;
        Ok(exit::OK)
    }
}
