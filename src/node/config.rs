//! The configuration of a cluster and its nodes: every key, its unit and its default, in one place.
//!
//! One file serves all nodes of a cluster; a node is chosen by its id. The structs below are the whole schema:
//! [`parse`](Config::parse) derives the known keys and their types from them, so a key is added by adding a field,
//! its default in `defaults.rs`, a check in `rules.rs` where not every value makes sense, and its place in
//! `config/reference.toml` (a test compares the two).

mod defaults;
mod problems;
mod rules;
mod text;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use problems::{ConfigProblem, ConfigProblems};
pub(crate) use rules::check_level;

use crate::logic::ids::NodeId;

/// The configuration that is built in: three nodes on this machine. `quorate up` without `--config` uses it.
pub const LOCAL_TOML: &str = include_str!("../../config/local.toml");

/// No configuration is longer: a thousand nodes take a tenth of it.
const LONGEST_TEXT: u64 = 1 << 20;

/// What stands for the node's number in `node.data_dir`.
pub const ID_PLACEHOLDER: &str = "{id}";

/// The configuration of a cluster and of its nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Who belongs to the cluster.
    pub cluster: ClusterConfig,
    /// Where a node keeps its data.
    pub node: NodeConfig,
    /// Consensus.
    pub raft: RaftConfig,
    /// Log and snapshots.
    pub storage: StorageConfig,
    /// What is refused because it is too much.
    pub limits: LimitsConfig,
    /// Connections between nodes and from clients.
    pub net: NetConfig,
    /// How actors are restarted.
    pub supervision: SupervisionConfig,
    /// Threads.
    pub runtime: RuntimeConfig,
    /// Jobs and their workers.
    pub mapreduce: MapReduceConfig,
    /// What is logged, and how.
    pub log: LogConfig,
    /// Faults on purpose.
    pub chaos: ChaosConfig,
    /// How `quorate up` runs its node processes.
    pub launcher: LauncherConfig,
}

/// `[cluster]`: who belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// Name of the cluster. Nodes and data directories of another name are refused. 1 to 64 characters.
    pub id: String,
    /// How many Raft groups the nodes host, numbered from 1. 1 to 1024.
    pub groups: u32,
    /// The nodes, in any order. At least one; there is no default.
    pub nodes: Vec<ClusterNode>,
}

/// One of `[[cluster.nodes]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterNode {
    /// Number of the node, unique in the cluster; at least 1. Required.
    pub id: NodeId,
    /// `host:port` at which the node listens and at which the others and clients reach it. Required.
    pub address: String,
    /// Its data directory, where it differs from `node.data_dir`.
    pub data_dir: Option<PathBuf>,
}

/// `[node]`: where a node keeps its data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// Data directory, relative to the working directory; `{id}` stands for the node's number.
    pub data_dir: PathBuf,
}

/// `[raft]`: consensus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RaftConfig {
    /// Milliseconds between heartbeats of a leader that has nothing to send.
    pub heartbeat_ms: u64,
    /// Least time without a leader's message after which a follower stands for election, in milliseconds.
    pub election_timeout_min_ms: u64,
    /// Most of the same; each wait is drawn between the two.
    pub election_timeout_max_ms: u64,
    /// Most bytes of entries in one append message.
    pub max_append_bytes: u64,
    /// Append messages under way to one follower at a time.
    pub inflight_appends: u32,
    /// The same in bytes of entries.
    pub inflight_bytes: u64,
    /// Above so many bytes of entries that are not committed yet, a leader takes no more writes.
    pub max_uncommitted_bytes: u64,
    /// Above so many bytes of a group's log in memory, a leader takes no more writes until a snapshot is done, and a
    /// follower no more entries.
    pub max_log_bytes: u64,
    /// Bytes of a snapshot sent in one message.
    pub snapshot_chunk_bytes: u64,
    /// Let clients that ask for it read from the leader's lease, which trusts that clocks run at about the same speed.
    pub lease_reads: bool,
}

/// `[storage]`: log and snapshots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StorageConfig {
    /// Size of a segment of the write-ahead log, in bytes.
    pub segment_bytes: u64,
    /// Take a snapshot of a group after so many bytes of its log, or after as many as its state has, whichever is
    /// more.
    pub snapshot_after_log_bytes: u64,
    /// Entries kept in the log behind a snapshot, for followers that lag a little.
    pub keep_log_entries: u64,
    /// The same in bytes; whichever is less is kept.
    pub keep_log_bytes: u64,
    /// Write snapshots at most this fast, so that they do not slow down the log; 0: as fast as the disk takes them.
    pub snapshot_rate_bytes_per_s: u64,
}

/// `[limits]`: what is refused because it is too much. The errors name the limit by its key here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Longest key, in bytes.
    pub max_key_bytes: u64,
    /// Longest value, in bytes.
    pub max_value_bytes: u64,
    /// Most changes in a batch.
    pub max_batch_changes: u64,
    /// Most bytes of keys and values in a batch.
    pub max_batch_bytes: u64,
    /// Most bytes of keys and values in one page of a range.
    pub max_reply_bytes: u64,
    /// Most bytes of keys and values in the store of a group. Deletes are always admitted.
    pub max_store_bytes: u64,
    /// Most sessions of a group.
    pub max_sessions: u64,
    /// A session expires when untouched for so many milliseconds.
    pub session_ttl_ms: u64,
    /// Commands of one session under way at once.
    pub session_window: u32,
    /// Most leases of a group.
    pub max_leases: u64,
    /// Shortest time to live of a lease in milliseconds; a shorter wish is raised to it.
    pub min_lease_ttl_ms: u64,
    /// Longest time to live of a lease.
    pub max_lease_ttl_ms: u64,
    /// Longest time to live of a key.
    pub max_key_ttl_ms: u64,
    /// Requests of clients under way in one group of a node; above, the answer is "busy".
    pub max_pending_requests: u32,
    /// The same in bytes.
    pub max_pending_bytes: u64,
    /// Requests of one connection that are unanswered at once.
    pub max_requests_per_connection: u32,
    /// Connections accepted at once by a node.
    pub max_connections: u32,
    /// Largest frame accepted from a connection, in bytes.
    pub max_frame_bytes: u64,
}

/// `[net]`: connections between nodes and from clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetConfig {
    /// Messages waiting to be sent on one connection.
    pub queue_messages: u32,
    /// Bytes waiting to be sent on one connection.
    pub queue_bytes: u64,
    /// Give up a dial after so many milliseconds.
    pub connect_timeout_ms: u64,
    /// Give up a handshake after so many milliseconds.
    pub handshake_timeout_ms: u64,
    /// Drop a connection on which nothing arrived for so many milliseconds.
    pub idle_timeout_ms: u64,
    /// Ping a connection on which nothing arrived for so many milliseconds.
    pub ping_ms: u64,
    /// First pause before a lost peer is dialled again, in milliseconds; it doubles with every failure.
    pub redial_min_ms: u64,
    /// Longest such pause.
    pub redial_max_ms: u64,
}

/// `[supervision]`: how actors are restarted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SupervisionConfig {
    /// Restarts of an actor within the window before its supervisor gives up and escalates.
    pub max_restarts: u32,
    /// The window, in seconds.
    pub window_s: u64,
    /// Pause before the first restart, in milliseconds; it doubles with every failure.
    pub backoff_min_ms: u64,
    /// Longest such pause.
    pub backoff_max_ms: u64,
    /// An actor that ran for so many seconds is taken for healthy again: its pause starts anew.
    pub stable_s: u64,
    /// An actor that does not answer for so many milliseconds is taken for hung.
    pub hang_timeout_ms: u64,
}

/// `[runtime]`: threads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RuntimeConfig {
    /// Threads over which the groups are spread. 1 to 64.
    pub arbiters: u32,
}

/// `[mapreduce]`: jobs and their workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MapReduceConfig {
    /// Whether this cluster runs jobs. Whoever reaches a node may then run any command on every node.
    pub enabled: bool,
    /// Whether a node is a worker, too. If not, `quorate mr worker` starts workers.
    pub worker: bool,
    /// Attempts that the worker of a node runs at once; 0: as many as there are processors.
    pub slots: u32,
    /// Bytes that all attempts of a node together may use for their data.
    pub memory_bytes: u64,
    /// Where a worker keeps task output until the job is over, relative to the node's data directory.
    pub dir: PathBuf,
    /// A worker that was not heard for so many milliseconds is given up, and what it ran is given to others.
    pub worker_timeout_ms: u64,
    /// Output that nobody collects is kept for so many seconds.
    pub uncollected_ttl_s: u64,
    /// So many jobs may wait for their output to be collected.
    pub max_uncollected: u32,
}

/// `[log]`: what is logged, and how. It goes to standard error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`, or directives such as `info,quorate::net=debug`.
    /// The environment variable `QUORATE_LOG` overrides it.
    pub level: String,
    /// Lines for people or for machines.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[chaos]`: faults on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChaosConfig {
    /// Whether `quorate chaos` is obeyed.
    pub enabled: bool,
}

/// `[launcher]`: how `quorate up` runs its node processes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LauncherConfig {
    /// Give up when the cluster does not serve after so many seconds.
    pub ready_timeout_s: u64,
    /// Kill a process that has not ended so many seconds after it was told to.
    pub stop_timeout_s: u64,
    /// Restarts of a node process within the window before the launcher leaves it down.
    pub max_restarts: u32,
    /// The window, in seconds.
    pub window_s: u64,
    /// Pause before the first restart, in milliseconds; it doubles with every failure.
    pub backoff_min_ms: u64,
    /// Longest such pause.
    pub backoff_max_ms: u64,
    /// A process that ran for so many seconds is taken for healthy again: its pause starts anew.
    pub stable_s: u64,
}

impl Config {
    /// Reads a configuration from TOML text; `source` names it in the problems (a path, or `built-in`).
    ///
    /// # Errors
    /// Everything that is wrong with it, at once: malformed TOML, unknown keys, wrong types, values out of range,
    /// values that contradict each other.
    pub fn parse(text: &str, source: &str) -> Result<Self, ConfigProblems> {
        text::parse(text, source)
    }

    /// Reads a configuration from a file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), and as [`read`](Self::read).
    pub fn load(path: &Path) -> Result<Self, ConfigProblems> {
        Self::parse(&Self::read(path)?, &path.display().to_string())
    }

    /// The text of a configuration file, which may be a pipe.
    ///
    /// # Errors
    /// When the file cannot be read, is no text, or is longer than any configuration.
    pub fn read(path: &Path) -> Result<String, ConfigProblems> {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(LONGEST_TEXT + 1).read_to_string(&mut text));
        match read {
            Ok(bytes) if bytes as u64 <= LONGEST_TEXT => Ok(text),
            Ok(_) => Err(ConfigProblems::unreadable(path, "it is longer than a mebibyte")),
            Err(error) => Err(ConfigProblems::unreadable(path, error)),
        }
    }

    /// The configuration that is built in.
    pub fn local() -> Self {
        Self::parse(LOCAL_TOML, "built-in").expect("a test parses the built-in configuration")
    }

    /// The entry of a node, if the cluster has it.
    pub fn cluster_node(&self, id: NodeId) -> Option<&ClusterNode> {
        self.cluster.nodes.iter().find(|node| node.id == id)
    }

    /// The data directory of a node: its own where it has one, else `node.data_dir` with its number filled in.
    pub fn data_dir(&self, id: NodeId) -> PathBuf {
        match self.cluster_node(id).and_then(|node| node.data_dir.clone()) {
            Some(own) => own,
            None => self.node.data_dir.to_string_lossy().replace(ID_PLACEHOLDER, &id.0.to_string()).into(),
        }
    }

    /// Puts the data of every node under `root`, as `node-1`, `node-2`, ..., whatever the file says.
    pub fn set_data_root(&mut self, root: &Path) {
        self.node.data_dir = root.join(format!("node-{ID_PLACEHOLDER}"));
        for node in &mut self.cluster.nodes {
            node.data_dir = None;
        }
    }
}

#[cfg(test)]
mod tests;
