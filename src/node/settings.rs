//! From the configuration to the settings of each room.

use std::time::Duration;

use super::config::Config;
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::Limits;
use crate::logic::raft;
use crate::logic::restart::RestartPolicy;
use crate::net::NetSettings;

/// A size in bytes as this machine counts them.
pub(super) fn bytes(configured: u64) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX)
}

pub(super) fn hang_timeout(config: &Config) -> Duration {
    Duration::from_millis(config.supervision.hang_timeout_ms)
}

pub(super) fn raft(config: &Config, group: GroupId, node: NodeId, seed: u64) -> raft::Config {
    let from = &config.raft;
    let least = Duration::from_millis(from.election_timeout_min_ms);
    let defaults = raft::Config::new(group, node, seed);
    let max_append_bytes = bytes(from.max_append_bytes);
    raft::Config {
        heartbeat: Duration::from_millis(from.heartbeat_ms),
        election_timeout: least..Duration::from_millis(from.election_timeout_max_ms),
        // Nine tenths: clocks of different machines drift apart a little.
        lease: from.lease_reads.then(|| least.mul_f64(0.9)),
        max_append_bytes,
        max_inflight_appends: from.inflight_appends as usize,
        max_inflight_bytes: defaults.max_inflight_bytes.max(max_append_bytes),
        keep_entries: config.storage.keep_log_entries,
        ..defaults
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    let from = &config.limits;
    Limits {
        max_key_bytes: from.max_key_bytes,
        max_value_bytes: from.max_value_bytes,
        max_batch_changes: from.max_batch_changes.into(),
        max_batch_bytes: from.max_batch_bytes,
        max_reply_bytes: from.max_reply_bytes,
        max_store_bytes: from.max_store_bytes,
        max_sessions: from.max_sessions.into(),
        session_window: from.session_window,
        session_ttl_ms: from.session_ttl_ms,
        max_leases: from.max_leases.into(),
        ..Limits::default()
    }
}

pub(super) fn net(config: &Config) -> NetSettings {
    let from = &config.net;
    NetSettings {
        max_frame: bytes(config.limits.max_frame_bytes),
        connect_timeout: Duration::from_millis(from.connect_timeout_ms),
        ping_after: Duration::from_millis(from.ping_ms),
        idle_timeout: Duration::from_millis(from.idle_timeout_ms),
        queue_packets: from.queue_messages as usize,
        queue_bytes: bytes(from.queue_bytes),
        retry_first: Duration::from_millis(from.redial_min_ms),
        retry_cap: Duration::from_millis(from.redial_max_ms),
        max_connections: config.limits.max_connections as usize,
        ..NetSettings::default()
    }
}

pub(super) fn restart_policy(config: &Config) -> RestartPolicy {
    let from = &config.supervision;
    RestartPolicy::intensity(from.max_restarts, Duration::from_secs(from.window_s))
        .delays(
            Duration::ZERO,
            Duration::from_millis(from.backoff_min_ms),
            Duration::from_millis(from.backoff_max_ms),
        )
        .stable_after(Duration::from_secs(from.stable_s))
}
