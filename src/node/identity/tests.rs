use super::*;

fn open(path: &Path) -> Result<DataDir, IdentityError> {
    DataDir::open(path, "local", NodeId(1))
}

fn rewrite(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "{from:?} is not in {text:?}");
    fs::write(path, text.replace(from, to)).expect("written");
}

#[test]
fn a_directory_keeps_its_store_number_and_two_never_share_one() {
    let root = tempfile::tempdir().expect("a directory");
    let first = open(&root.path().join("a/b")).expect("created").store();
    assert_eq!(open(&root.path().join("a/b")).expect("opened again").store(), first);
    assert_ne!(open(&root.path().join("c")).expect("created").store(), first);
    assert_ne!(first, 0);
}

#[test]
fn another_node_or_cluster_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    open(root.path()).expect("created");
    let error = DataDir::open(root.path(), "local", NodeId(2)).expect_err("n1's").to_string();
    assert!(error.contains("belongs to n1 of cluster \"local\", not to n2 of cluster \"local\""), "{error}");
    let error = DataDir::open(root.path(), "other", NodeId(1)).expect_err("of local");
    assert_eq!(error.exit_code(), exit::USAGE);
    open(root.path()).expect("a refusal changes nothing");
}

#[test]
fn a_directory_is_used_by_one_process_at_a_time() {
    let root = tempfile::tempdir().expect("a directory");
    let held = open(root.path()).expect("created");
    assert!(matches!(open(root.path()), Err(IdentityError::InUse { .. })));
    drop(held);
    open(root.path()).expect("free again");
}

#[test]
fn files_without_an_identity_are_not_taken_over() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("thesis.tex"), "precious").expect("written");
    let error = open(root.path()).expect_err("not a data directory").to_string();
    assert!(error.contains("thesis.tex"), "{error}");
    assert!(!root.path().join(IDENTITY_FILE).exists());
}

#[test]
fn a_lost_identity_is_damage_and_not_a_reason_to_begin_anew() {
    for name in OWN {
        let root = tempfile::tempdir().expect("a directory");
        fs::create_dir(root.path().join(name)).expect("created");
        let error = open(root.path()).expect_err("it was a node's");
        assert_eq!(error.exit_code(), exit::DAMAGED);
        assert!(
            error.to_string().contains("identity.toml is damaged (it is missing); restore it"),
            "{error}"
        );
    }
}

#[test]
fn a_creation_that_was_cut_off_is_begun_again() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("identity.toml.tmp"), "form").expect("written");
    open(root.path()).expect("created");
}

#[test]
fn a_damaged_identity_is_told_from_a_newer_one() {
    let root = tempfile::tempdir().expect("a directory");
    let file = root.path().join(IDENTITY_FILE);
    open(root.path()).expect("created");
    rewrite(&file, "node = 1", "node = 2");
    let error = open(root.path()).expect_err("damaged");
    assert_eq!(error.exit_code(), exit::DAMAGED);
    assert!(error.to_string().contains("checksum"), "{error}");

    rewrite(&file, "format = 1", "format = 2\nfuture = true");
    assert!(matches!(open(root.path()), Err(IdentityError::Format { found: 2, .. })));

    fs::write(&file, "").expect("written");
    assert!(matches!(open(root.path()), Err(IdentityError::Damaged { .. })));
}

#[test]
fn a_peer_that_comes_back_with_a_wiped_directory_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = open(root.path()).expect("created");
    let mut peers = PeerStores::open(&dir).expect("empty");
    peers.admit(NodeId(2), 0xfeed).expect("the first is remembered");
    peers.admit(NodeId(3), u64::MAX).expect("the first is remembered");

    let mut peers = PeerStores::open(&dir).expect("read again");
    peers.admit(NodeId(2), 0xfeed).expect("the same");
    peers.admit(NodeId(3), u64::MAX).expect("the same");
    let error = peers.admit(NodeId(2), 0xbeef).expect_err("another").to_string();
    assert_eq!(error, "n2 shows the data directory 000000000000beef instead of 000000000000feed");
    peers.admit(NodeId(2), 0xfeed).expect("still the first");
}

#[test]
fn files_that_are_not_text_are_damaged() {
    let root = tempfile::tempdir().expect("a directory");
    let dir = open(root.path()).expect("created");
    fs::write(root.path().join(PEERS_FILE), [0xff]).expect("written");
    assert_eq!(PeerStores::open(&dir).expect_err("damaged").exit_code(), exit::DAMAGED);
    drop(dir);
    fs::write(root.path().join(IDENTITY_FILE), [0xff]).expect("written");
    assert_eq!(open(root.path()).expect_err("damaged").exit_code(), exit::DAMAGED);
}
