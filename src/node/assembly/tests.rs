use std::path::Path;

use tokio::task::LocalSet;

use super::*;
use crate::logic::ids::LogPosition;
use crate::logic::raft::entry::SnapshotMeta;
use crate::net::memory::MemoryNetwork;
use crate::node::config::ClusterNode;
use crate::node::exit::DAMAGED;
use crate::node::identity::DataDir;
use crate::storage::{Batch, Log, LogOptions, RealDisk, SnapshotMark};

const ID: NodeId = NodeId(1);

/// A cluster of one node.
fn config(root: &Path) -> Config {
    let mut config = Config::default();
    config.cluster.nodes = vec![ClusterNode { id: ID, address: "host-1:7101".into(), data_dir: None }];
    config.storage.segment_bytes = 1 << 20;
    // What is tried again fails the start at once.
    config.supervision.max_restarts = 0;
    config.set_data_root(root);
    config
}

/// Starts it, stops it again, and says what became of the start.
async fn start(config: &Config) -> Result<(), Failure> {
    let network = MemoryNetwork::new(1);
    let start = async || -> Result<(), Failure> {
        let node = Node::start(config, ID, network.host("host-1")).await?;
        node.stop().await;
        Ok(())
    };
    LocalSet::new().run_until(start()).await
}

#[tokio::test]
async fn a_node_that_lost_its_log_and_not_its_identity_does_not_start() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let log = config.data_dir(ID).join("log");
    start(&config).await.expect("a new node");
    start(&config).await.expect("it has its log");
    std::fs::remove_dir_all(&log).expect("ours");
    for _ in 0..2 {
        let failure = start(&config).await.expect_err("it has forgotten its votes");
        assert_eq!(failure.code, DAMAGED, "{failure}");
        assert!(failure.message.starts_with("the log is missing"), "{failure}");
    }
}

#[tokio::test]
async fn a_log_without_a_note_of_it_is_noted_at_the_next_start() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let dir = config.data_dir(ID);
    start(&config).await.expect("a new node");
    // As after a crash between the two, and in the directory of an older program.
    std::fs::remove_file(dir.join("log-begun")).expect("it was noted");
    start(&config).await.expect("the log is there");
    std::fs::remove_dir_all(dir.join("log")).expect("ours");
    start(&config).await.expect_err("it was noted again");
}

#[tokio::test]
async fn a_missing_snapshot_that_the_log_names_is_damage() {
    let root = tempfile::tempdir().expect("a directory");
    let config = config(root.path());
    let dir = config.data_dir(ID);
    drop(DataDir::open(&dir, &config.cluster.id, ID).expect("created"));
    let disk = RealDisk::open(dir.join("log")).expect("a free directory");
    let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::new(ID) };
    let (mut log, _) = Log::open(Arc::new(disk), options).expect("a new log");
    let last = LogPosition { index: 5, term: 1 };
    let meta = SnapshotMeta { group: GroupId(1), last, membership: Membership::of_voters([ID]) };
    let mark = SnapshotMark { meta, name: "1-5-1-0.snap".to_owned(), digest: 0 };
    log.append(&[Batch { snapshot: Some(mark), reset: Some(last), ..Batch::new(GroupId(1)) }]).expect("room");
    drop(log);
    let failure = start(&config).await.expect_err("its state is gone");
    assert_eq!(failure.code, DAMAGED, "{failure}");
    assert!(failure.message.starts_with("the snapshot 1-5-1-0.snap is missing"), "{failure}");
}
