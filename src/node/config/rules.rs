//! What the values of a configuration must be, beyond their types.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::problems::ConfigProblems;
use super::{ClusterNode, Config, ID_PLACEHOLDER};
use crate::actors::mapreduce::journal::LEAST_LIMITS;
use crate::logic::kv::limits::caps;
use crate::storage::MAX_SEGMENT;

const KIB: i64 = 1024;
const MIB: i64 = 1024 * KIB;
const GIB: i64 = 1024 * MIB;
const TIB: i64 = 1024 * GIB;
const HOUR_MS: i64 = 3_600_000;
const DAY_S: i64 = 86_400;
const DAY_MS: i64 = 1000 * DAY_S;

/// Least and greatest value of every integer key. What the store's machine enforces wherever a log is applied bounds
/// what a server may be told to let in.
const RANGES: &[(&str, i64, i64)] = &[
    ("cluster.groups", 1, 1024),
    ("raft.heartbeat_ms", 5, 10_000),
    ("raft.election_timeout_min_ms", 10, 60_000),
    ("raft.election_timeout_max_ms", 20, 120_000),
    ("raft.max_append_bytes", 4 * KIB, GIB),
    ("raft.inflight_appends", 1, 65_536),
    ("raft.inflight_bytes", 4 * KIB, TIB),
    ("raft.max_uncommitted_bytes", 64 * KIB, TIB),
    ("raft.max_log_bytes", 64 * KIB, TIB),
    ("raft.snapshot_chunk_bytes", 4 * KIB, 64 * MIB),
    ("storage.segment_bytes", MIB, MAX_SEGMENT as i64),
    ("storage.snapshot_after_log_bytes", 64 * KIB, TIB),
    ("storage.keep_log_entries", 0, 1_000_000_000),
    ("storage.keep_log_bytes", 0, TIB),
    ("storage.snapshot_rate_bytes_per_s", 0, TIB),
    ("limits.max_key_bytes", 1, caps::KEY_BYTES as i64),
    ("limits.max_value_bytes", 1, caps::VALUE_BYTES as i64),
    ("limits.max_batch_changes", 1, caps::BATCH_CHANGES as i64),
    ("limits.max_batch_bytes", 1, caps::BATCH_BYTES as i64),
    ("limits.max_reply_bytes", 1, caps::REPLY_BYTES as i64),
    ("limits.max_store_bytes", MIB, 1024 * TIB),
    ("limits.max_sessions", 1, caps::SESSIONS as i64),
    ("limits.session_ttl_ms", 1000, 365 * DAY_MS),
    ("limits.session_window", 1, caps::SESSION_WINDOW as i64),
    ("limits.max_leases", 1, caps::LEASES as i64),
    ("limits.min_lease_ttl_ms", 1, DAY_MS),
    ("limits.max_lease_ttl_ms", 1, 3650 * DAY_MS),
    ("limits.max_key_ttl_ms", 1, 36_500 * DAY_MS),
    ("limits.max_pending_requests", 1, 100_000_000),
    ("limits.max_pending_bytes", 64 * KIB, TIB),
    ("limits.max_requests_per_connection", 1, 1_000_000),
    ("limits.max_connections", 1, 1_000_000),
    // The longest value and key must fit, since appending builds them whatever the limits of a request are.
    ("limits.max_frame_bytes", 9 * MIB, GIB),
    ("net.queue_messages", 1, 100_000_000),
    ("net.queue_bytes", 64 * KIB, TIB),
    ("net.connect_timeout_ms", 10, HOUR_MS),
    ("net.handshake_timeout_ms", 10, HOUR_MS),
    ("net.idle_timeout_ms", 100, HOUR_MS),
    ("net.ping_ms", 10, HOUR_MS),
    ("net.redial_min_ms", 1, HOUR_MS),
    ("net.redial_max_ms", 1, HOUR_MS),
    ("supervision.max_restarts", 0, 1_000_000),
    ("supervision.window_s", 1, DAY_S),
    ("supervision.backoff_min_ms", 1, HOUR_MS),
    ("supervision.backoff_max_ms", 1, HOUR_MS),
    ("supervision.stable_s", 1, DAY_S),
    ("supervision.hang_timeout_ms", 100, HOUR_MS),
    ("runtime.arbiters", 1, 64),
    ("mapreduce.slots", 0, 1024),
    ("mapreduce.memory_bytes", 16 * MIB, TIB),
    ("mapreduce.worker_timeout_ms", 1000, HOUR_MS),
    // Nobody's output may go away while it is being collected.
    ("mapreduce.uncollected_ttl_s", 3600, 3650 * DAY_S),
    ("mapreduce.max_uncollected", 1, 100_000),
    ("launcher.ready_timeout_s", 1, DAY_S),
    ("launcher.stop_timeout_s", 1, DAY_S),
    ("launcher.max_restarts", 0, 1_000_000),
    ("launcher.window_s", 1, DAY_S),
    ("launcher.backoff_min_ms", 1, HOUR_MS),
    ("launcher.backoff_max_ms", 1, HOUR_MS),
    ("launcher.stable_s", 1, DAY_S),
];

/// `(smaller, larger, why)`: pairs of which the second must not be below the first.
const ORDERED: &[(&str, &str, &str)] = &[
    ("net.redial_min_ms", "net.redial_max_ms", "a pause grows from the one to the other"),
    ("supervision.backoff_min_ms", "supervision.backoff_max_ms", "a pause grows from the one to the other"),
    ("launcher.backoff_min_ms", "launcher.backoff_max_ms", "a pause grows from the one to the other"),
    ("limits.min_lease_ttl_ms", "limits.max_lease_ttl_ms", "the one is the least, the other the most"),
    ("raft.max_append_bytes", "raft.inflight_bytes", "one append message must be let through"),
    ("limits.max_batch_bytes", "limits.max_pending_bytes", "one batch must be admitted"),
];

/// Bytes of a frame that are not payload; generous.
const FRAME_OVERHEAD: u64 = 16 * KIB as u64;

/// Applies all rules. A key that already has a problem is left alone.
pub(super) fn check(config: &Config, lines: &BTreeMap<String, usize>, problems: &mut ConfigProblems) {
    let table = Table::try_from(config.clone()).expect("a configuration is a table of plain values");
    let mut rules = Rules { config, table: Value::Table(table), lines, problems };
    rules.ranges();
    rules.ordered();
    rules.timeouts();
    rules.frames();
    rules.sums();
    rules.jobs();
    rules.names();
    rules.nodes();
}

struct Rules<'a> {
    config: &'a Config,
    table: Value,
    lines: &'a BTreeMap<String, usize>,
    problems: &'a mut ConfigProblems,
}

impl Rules<'_> {
    fn report(&mut self, path: &str, message: impl Into<String>) {
        if !self.problems.has(path) {
            self.problems.add(path, self.lines.get(path).copied(), message);
        }
    }

    /// Reports unless one of the two keys is already known to be wrong, which would only confuse.
    fn report_pair(&mut self, path: &str, other: &str, message: impl Into<String>) {
        if !self.problems.has(other) {
            // A value that was left at its default is not what the user has to change.
            let place =
                if self.lines.contains_key(path) || !self.lines.contains_key(other) { path } else { other };
            self.report(place, message);
        }
    }

    fn number(&self, path: &str) -> i64 {
        let value = path.split('.').try_fold(&self.table, |value, key| value.get(key));
        value
            .and_then(Value::as_integer)
            .expect("the tables of rules name integer keys; a test compares them")
    }

    fn ranges(&mut self) {
        for &(path, least, greatest) in RANGES {
            let value = self.number(path);
            if value < least || value > greatest {
                self.report(path, format!("{value} is out of range; use {least} to {greatest}"));
            }
        }
    }

    fn ordered(&mut self) {
        for &(smaller, larger, why) in ORDERED {
            let (low, high) = (self.number(smaller), self.number(larger));
            if low > high {
                let message = format!("{larger} = {high} must be at least {smaller} = {low}: {why}");
                self.report_pair(larger, smaller, message);
            }
        }
    }

    fn timeouts(&mut self) {
        let raft = &self.config.raft;
        let (heartbeat, min) = (raft.heartbeat_ms, raft.election_timeout_min_ms);
        let max = raft.election_timeout_max_ms;
        if min < heartbeat.saturating_mul(2) {
            let message = format!(
                "election_timeout_min_ms = {min} must be at least twice heartbeat_ms = {heartbeat}: \
                 one late heartbeat must not start an election"
            );
            self.report_pair("raft.election_timeout_min_ms", "raft.heartbeat_ms", message);
        }
        if max <= min {
            let message = format!(
                "election_timeout_max_ms = {max} must be above election_timeout_min_ms = {min}: \
                 candidates would split the vote for ever"
            );
            self.report_pair("raft.election_timeout_max_ms", "raft.election_timeout_min_ms", message);
        }
        let (idle, ping) = (self.config.net.idle_timeout_ms, self.config.net.ping_ms);
        if idle <= ping {
            let message = format!(
                "idle_timeout_ms = {idle} must be above ping_ms = {ping}: a quiet connection would be dropped"
            );
            self.report_pair("net.idle_timeout_ms", "net.ping_ms", message);
        }
    }

    /// What goes in one frame must fit in it.
    fn frames(&mut self) {
        let limits = &self.config.limits;
        let frame = limits.max_frame_bytes;
        let contents = [
            ("limits.max_batch_bytes", limits.max_batch_bytes),
            ("limits.max_reply_bytes", limits.max_reply_bytes),
            ("raft.max_append_bytes", self.config.raft.max_append_bytes),
            ("raft.snapshot_chunk_bytes", self.config.raft.snapshot_chunk_bytes),
        ];
        for (path, bytes) in contents {
            if bytes.saturating_add(FRAME_OVERHEAD) > frame {
                let message = format!(
                    "{bytes} bytes do not fit in a frame: limits.max_frame_bytes = {frame}, \
                     of which {FRAME_OVERHEAD} are kept for headers"
                );
                self.report_pair(path, "limits.max_frame_bytes", message);
            }
        }
    }

    /// What holds several things at once must be as large as all of them.
    fn sums(&mut self) {
        let Config { limits, raft, storage, .. } = self.config;
        let change = limits.max_key_bytes.saturating_add(limits.max_value_bytes);
        if limits.max_batch_bytes < change {
            let message = format!(
                "limits.max_batch_bytes = {} must hold the largest change, max_key_bytes + max_value_bytes = {change}",
                limits.max_batch_bytes
            );
            self.report_pair("limits.max_batch_bytes", "limits.max_value_bytes", message);
        }
        let floor = raft.max_uncommitted_bytes.saturating_add(storage.keep_log_bytes);
        if raft.max_log_bytes <= floor {
            let message = format!(
                "raft.max_log_bytes = {} must be above raft.max_uncommitted_bytes + storage.keep_log_bytes = {floor}, \
                 or no snapshot could ever get the log under it again",
                raft.max_log_bytes
            );
            self.report_pair("raft.max_log_bytes", "storage.keep_log_bytes", message);
        }
    }

    /// The coordinator of jobs writes to the store as a client does.
    fn jobs(&mut self) {
        for (key, least) in LEAST_LIMITS {
            let path = format!("limits.{key}");
            let allowed = self.number(&path);
            if self.config.mapreduce.enabled && allowed < least {
                let message =
                    format!("{allowed} is too little for mapreduce.enabled; jobs need at least {least}");
                self.report(&path, message);
            }
        }
    }

    fn names(&mut self) {
        let id = &self.config.cluster.id;
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if id.is_empty() || id.len() > 64 || !id.chars().all(plain) {
            self.report("cluster.id", "use 1 to 64 letters, digits, dots, dashes and underscores");
        }
        if let Err(message) = check_level(&self.config.log.level) {
            self.report("log.level", message);
        }
        if self.config.node.data_dir.as_os_str().is_empty() {
            self.report(
                "node.data_dir",
                format!("is empty; use a path such as \"data/node-{ID_PLACEHOLDER}\""),
            );
        }
    }

    fn nodes(&mut self) {
        let nodes = &self.config.cluster.nodes;
        if nodes.is_empty() {
            self.report(
                "cluster.nodes",
                "no node is named; add a [[cluster.nodes]] with an id and an address",
            );
        }
        for (i, node) in nodes.iter().enumerate() {
            let path = |key: &str| format!("cluster.nodes[{i}].{key}");
            if node.id.0 == 0 {
                self.report(&path("id"), "0 is out of range; node ids start at 1");
            }
            if let Err(message) = check_address(&node.address) {
                self.report(&path("address"), message);
            }
            if node.data_dir.as_ref().is_some_and(|dir| dir.as_os_str().is_empty()) {
                self.report(&path("data_dir"), "is empty; leave it out to use node.data_dir");
            }
            for (j, earlier) in nodes.iter().enumerate().take(i) {
                self.clash((i, node), (j, earlier));
            }
        }
    }

    /// Two nodes must not share what is each one's own.
    fn clash(&mut self, (i, node): (usize, &ClusterNode), (j, earlier): (usize, &ClusterNode)) {
        let path = |key: &str| format!("cluster.nodes[{i}].{key}");
        let other = |key: &str| format!("cluster.nodes[{j}].{key}");
        if node.id == earlier.id {
            if node.id.0 != 0 {
                self.report(&path("id"), format!("{} is already taken by {}", node.id.0, other("id")));
            }
            return;
        }
        if node.address == earlier.address && !node.address.is_empty() {
            let message = format!("\"{}\" is already taken by {}", node.address, other("address"));
            self.report(&path("address"), message);
        }
        let dir = self.config.data_dir(node.id);
        if host(node) == host(earlier) && dir == self.config.data_dir(earlier.id) {
            let both = format!("{} and {} would share the data directory {:?}", earlier.id, node.id, dir);
            match node.data_dir {
                Some(_) => self.report(&path("data_dir"), both),
                None => self.report("node.data_dir", format!("{both}; put {ID_PLACEHOLDER} in the path")),
            }
        }
    }
}

fn host(node: &ClusterNode) -> Option<&str> {
    node.address.rsplit_once(':').map(|(host, _)| host)
}

/// Checks the form `host:port`. Whether the host exists is seen when it is dialled.
fn check_address(address: &str) -> Result<(), String> {
    const FORM: &str = "write host:port, such as \"127.0.0.1:7101\"";
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(format!("{address:?} has no port; {FORM}"));
    };
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host_is_good = match bracketed {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || "._-".contains(c)),
    };
    if !host_is_good {
        return Err(format!("{address:?} has no usable host; {FORM}"));
    }
    match port.parse::<u16>() {
        Ok(0) | Err(_) => Err(format!("{address:?} has no port between 1 and 65535; {FORM}")),
        Ok(_) if ["0.0.0.0", "[::]"].contains(&host) => Err(format!(
            "{address:?} means every interface, which the other nodes cannot dial; name the one they reach"
        )),
        Ok(_) => Ok(()),
    }
}

/// Checks log directives: a level, or `target=level`, several with commas between.
pub(crate) fn check_level(level: &str) -> Result<(), String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |word: &str| LEVELS.contains(&word.to_ascii_lowercase().as_str());
    for directive in level.split(',').map(str::trim) {
        let word = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        if !known(word) {
            return Err(format!(
                "{word:?} is not a level; use {}, or directives such as \"info,quorate::net=debug\"",
                LEVELS.join(", ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::config::text::schema;

    #[test]
    fn every_integer_key_has_a_range_that_admits_its_default() {
        let mut expected = Vec::new();
        for (section, value) in &schema() {
            for (key, value) in value.as_table().expect("sections are tables") {
                if let Some(default) = value.as_integer() {
                    expected.push((format!("{section}.{key}"), default));
                }
            }
        }
        assert_eq!(expected.len(), RANGES.len(), "one row for each integer key");
        for (path, default) in expected {
            let row =
                RANGES.iter().find(|row| row.0 == path).unwrap_or_else(|| panic!("no range for {path}"));
            assert!((row.1..=row.2).contains(&default), "the default of {path} is out of its own range");
        }
    }

    #[test]
    fn addresses_need_a_host_that_can_be_dialled_and_a_port() {
        for good in ["127.0.0.1:7101", "db-1.example.org:1", "localhost:65535", "[::1]:7101"] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in
            ["", "localhost", ":7101", "a:0", "a:65536", "a:b", "::1:7101", "[x]:1", "a b:1", "0.0.0.0:1"]
        {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn levels_are_known_words_alone_or_behind_a_target() {
        for good in ["info", "OFF", "info,quorate::net=debug", "warn, quorate=trace"] {
            assert_eq!(check_level(good), Ok(()), "{good}");
        }
        for bad in ["", "verbose", "info,", "quorate=loud", "quorate"] {
            assert!(check_level(bad).is_err(), "{bad}");
        }
    }
}
