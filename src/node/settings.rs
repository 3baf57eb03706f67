//! From the configuration to the settings of each room.
//!
//! Every section is taken apart field by field, so that a key that nobody uses does not compile.

use std::time::Duration;

use super::config::{Config, LimitsConfig, NetConfig, RaftConfig, StorageConfig, SupervisionConfig};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::Limits;
use crate::logic::mapreduce::coordinator::Patience;
use crate::logic::raft;
use crate::logic::restart::RestartPolicy;
use crate::net::NetSettings;

/// A task is no straggler before this.
const STRAGGLER: Duration = Duration::from_secs(5);

/// A size in bytes as this machine counts them.
pub(super) fn bytes(configured: u64) -> usize {
    usize::try_from(configured).unwrap_or(usize::MAX)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(super) fn hang_timeout(config: &Config) -> Duration {
    ms(config.supervision.hang_timeout_ms)
}

pub(super) fn raft(config: &Config, group: GroupId, node: NodeId, seed: u64) -> raft::Config {
    let RaftConfig {
        heartbeat_ms,
        election_timeout_min_ms,
        election_timeout_max_ms,
        max_append_bytes,
        inflight_appends,
        inflight_bytes,
        max_uncommitted_bytes,
        max_log_bytes,
        // The applier cuts snapshots.
        snapshot_chunk_bytes: _,
        lease_reads,
    } = config.raft;
    let StorageConfig {
        keep_log_entries,
        keep_log_bytes,
        // The log's and the snapshots' own.
        segment_bytes: _,
        snapshot_after_log_bytes: _,
        snapshot_rate_bytes_per_s: _,
    } = config.storage;
    raft::Config {
        heartbeat: ms(heartbeat_ms),
        election_timeout: ms(election_timeout_min_ms)..ms(election_timeout_max_ms),
        // Nine tenths: clocks of different machines drift apart a little.
        lease: lease_reads.then(|| ms(election_timeout_min_ms).mul_f64(0.9)),
        max_append_bytes: bytes(max_append_bytes),
        max_inflight_appends: inflight_appends as usize,
        max_inflight_bytes: bytes(inflight_bytes),
        max_uncommitted_bytes: bytes(max_uncommitted_bytes),
        max_log_bytes: bytes(max_log_bytes),
        keep_entries: keep_log_entries,
        keep_bytes: bytes(keep_log_bytes),
        ..raft::Config::new(group, node, seed)
    }
}

pub(super) fn limits(config: &Config) -> Limits {
    let LimitsConfig {
        max_key_bytes,
        max_value_bytes,
        max_batch_changes,
        max_batch_bytes,
        max_reply_bytes,
        max_store_bytes,
        max_sessions,
        session_ttl_ms,
        session_window,
        max_leases,
        min_lease_ttl_ms,
        max_lease_ttl_ms,
        max_key_ttl_ms,
        // The desk's and the connections' own.
        max_pending_requests: _,
        max_pending_bytes: _,
        max_requests_per_connection: _,
        max_connections: _,
        max_frame_bytes: _,
    } = config.limits;
    Limits {
        max_key_bytes,
        max_value_bytes,
        max_batch_changes,
        max_batch_bytes,
        max_reply_bytes,
        max_store_bytes,
        max_sessions,
        session_window,
        session_ttl_ms,
        max_leases,
        min_lease_ttl_ms,
        max_lease_ttl_ms,
        max_key_ttl_ms,
    }
}

pub(super) fn net(config: &Config) -> NetSettings {
    let NetConfig {
        queue_messages,
        queue_bytes,
        connect_timeout_ms,
        handshake_timeout_ms,
        idle_timeout_ms,
        ping_ms,
        redial_min_ms,
        redial_max_ms,
    } = config.net;
    NetSettings {
        max_frame: bytes(config.limits.max_frame_bytes),
        connect_timeout: ms(connect_timeout_ms),
        handshake_timeout: ms(handshake_timeout_ms),
        ping_after: ms(ping_ms),
        idle_timeout: ms(idle_timeout_ms),
        queue_packets: queue_messages as usize,
        queue_bytes: bytes(queue_bytes),
        retry_first: ms(redial_min_ms),
        retry_cap: ms(redial_max_ms),
        max_connections: config.limits.max_connections as usize,
        max_in_flight: config.limits.max_requests_per_connection as usize,
        ..NetSettings::default()
    }
}

pub(super) fn job_patience(config: &Config) -> Patience {
    let section = &config.mapreduce;
    Patience {
        worker: ms(section.worker_timeout_ms),
        straggler: STRAGGLER,
        uncollected: Duration::from_secs(section.uncollected_ttl_s),
        most_uncollected: section.max_uncollected as usize,
    }
}

/// How often a supervisor below the root may give up before the process ends. It gives up within one window of its own,
/// so that many of these are time enough for it to do so too often.
pub(super) fn escalation_policy(config: &Config) -> RestartPolicy {
    let own_window = Duration::from_secs(config.supervision.window_s);
    RestartPolicy::intensity(3, own_window.saturating_mul(10).max(Duration::from_secs(300)))
}

pub(super) fn restart_policy(config: &Config) -> RestartPolicy {
    let SupervisionConfig {
        max_restarts,
        window_s,
        backoff_min_ms,
        backoff_max_ms,
        stable_s,
        hang_timeout_ms: _,
    } = config.supervision;
    RestartPolicy::intensity(max_restarts, Duration::from_secs(window_s))
        .delays(Duration::ZERO, ms(backoff_min_ms), ms(backoff_max_ms))
        .stable_after(Duration::from_secs(stable_s))
}
