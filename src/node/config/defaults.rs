//! The default of every key: the one place where they are decided.

use super::{
    ClusterConfig, ClusterNode, ID_PLACEHOLDER, LauncherConfig, LimitsConfig, LogConfig, LogFormat,
    MapReduceConfig, NetConfig, NodeConfig, RaftConfig, RuntimeConfig, StorageConfig, SupervisionConfig,
};
use crate::logic::ids::NodeId;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { id: "local".into(), groups: 1, nodes: Vec::new() }
    }
}

impl Default for ClusterNode {
    /// An entry that lacks what it must have: `parse` reports it.
    fn default() -> Self {
        Self { id: NodeId(0), address: String::new(), data_dir: None }
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { data_dir: format!("quorate-data/node-{ID_PLACEHOLDER}").into() }
    }
}

impl Default for RaftConfig {
    fn default() -> Self {
        Self {
            heartbeat_ms: 60,
            election_timeout_min_ms: 300,
            election_timeout_max_ms: 600,
            max_append_bytes: MIB,
            inflight_appends: 256,
            inflight_bytes: 16 * MIB,
            max_uncommitted_bytes: 64 * MIB,
            max_log_bytes: 512 * MIB,
            snapshot_chunk_bytes: MIB,
            lease_reads: false,
        }
    }
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 * MIB,
            snapshot_after_log_bytes: 16 * MIB,
            keep_log_entries: 10_000,
            keep_log_bytes: 32 * MIB,
            snapshot_rate_bytes_per_s: 128 * MIB,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_key_bytes: 4 * KIB,
            max_value_bytes: MIB,
            max_batch_changes: 1024,
            max_batch_bytes: 2 * MIB,
            max_reply_bytes: MIB,
            max_store_bytes: 4 * GIB,
            max_sessions: 100_000,
            session_ttl_ms: 60_000,
            session_window: 1024,
            max_leases: 100_000,
            min_lease_ttl_ms: 500,
            max_lease_ttl_ms: DAY_MS,
            max_key_ttl_ms: 3650 * DAY_MS,
            max_pending_requests: 65_536,
            max_pending_bytes: 256 * MIB,
            max_requests_per_connection: 1024,
            max_connections: 1024,
            max_frame_bytes: 16 * MIB,
        }
    }
}

impl Default for NetConfig {
    fn default() -> Self {
        Self {
            queue_messages: 16_384,
            queue_bytes: 32 * MIB,
            connect_timeout_ms: 1000,
            handshake_timeout_ms: 2000,
            idle_timeout_ms: 4000,
            ping_ms: 1000,
            redial_min_ms: 30,
            redial_max_ms: 1000,
        }
    }
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        Self {
            max_restarts: 20,
            window_s: 30,
            backoff_min_ms: 5,
            backoff_max_ms: 2000,
            stable_s: 30,
            hang_timeout_ms: 10_000,
        }
    }
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self { arbiters: 1 }
    }
}

impl Default for MapReduceConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            worker: true,
            slots: 0,
            memory_bytes: 256 * MIB,
            dir: "mapreduce".into(),
            worker_timeout_ms: 3000,
            uncollected_ttl_s: 7 * 86_400,
            max_uncollected: 1000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

impl Default for LauncherConfig {
    fn default() -> Self {
        Self {
            ready_timeout_s: 30,
            stop_timeout_s: 10,
            max_restarts: 10,
            window_s: 60,
            backoff_min_ms: 100,
            backoff_max_ms: 5000,
            stable_s: 30,
        }
    }
}
