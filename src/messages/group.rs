//! Between the KV server, the Raft peer and the applier of one group, within a process.
