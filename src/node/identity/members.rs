//! Which nodes are the members of the cluster, remembered since the first start.
//!
//! The groups begin with the members that the configuration names. Starting with others later would let a minority of
//! the old members decide (or new ones without any data), and lose what was acknowledged, without a word.

use std::collections::BTreeSet;

use super::{DataDir, IdentityError, damage, read_text, write_durably};
use crate::logic::ids::NodeId;

pub(super) const MEMBERS_FILE: &str = "members";
const HEADER: &str = "# The members of the cluster. Written once; do not edit or delete.\n";

/// Compares the configured members with those of the first start; remembers them, durably, if this is the first.
///
/// # Errors
/// [`IdentityError::Members`] when they are others; also when the file is damaged, or cannot be read or written.
pub(in crate::node) fn check(dir: &DataDir, configured: &BTreeSet<NodeId>) -> Result<(), IdentityError> {
    let path = dir.path().join(MEMBERS_FILE);
    let expected = line(configured);
    let Some(text) = read_text(&path)? else {
        return write_durably(dir.path(), MEMBERS_FILE, &format!("{HEADER}{expected}\n"));
    };
    let found = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
    if found == expected {
        return Ok(());
    }
    let known = parse(found).ok_or_else(|| damage(&path, "its checksum does not match"))?;
    Err(IdentityError::Members {
        dir: dir.path().into(),
        known: names(&known),
        configured: names(configured),
    })
}

/// The members and a checksum of them.
fn line(members: &BTreeSet<NodeId>) -> String {
    let names = names(members);
    format!("{names} {:08x}", crc32fast::hash(names.as_bytes()))
}

fn names(members: &BTreeSet<NodeId>) -> String {
    members.iter().map(NodeId::to_string).collect::<Vec<_>>().join(",")
}

fn parse(found: &str) -> Option<BTreeSet<NodeId>> {
    let names = found.split_once(' ')?.0;
    let id = |name: &str| name.strip_prefix('n')?.parse().ok().map(NodeId);
    let members = names.split(',').map(id).collect::<Option<BTreeSet<_>>>()?;
    (line(&members) == found).then_some(members)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::node::exit;

    fn members(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn data_dir(root: &tempfile::TempDir) -> DataDir {
        DataDir::open(root.path(), "local", NodeId(1)).expect("a new directory")
    }

    #[test]
    fn other_members_than_at_the_first_start_are_refused() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = data_dir(&root);
        check(&dir, &members(&[1, 2, 3])).expect("the first start");
        check(&dir, &members(&[1, 2, 3])).expect("the same");
        for others in [&[1][..], &[1, 2, 4], &[1, 2, 3, 4]] {
            let error = check(&dir, &members(others)).expect_err("others");
            assert_eq!(error.exit_code(), exit::USAGE);
            let text = error.to_string();
            assert!(text.contains("cluster.nodes") && text.contains("n1,n2,n3"), "{text}");
        }
        check(&dir, &members(&[1, 2, 3])).expect("a refusal changes nothing");
    }

    #[test]
    fn a_damaged_file_is_not_taken_for_other_members() {
        let root = tempfile::tempdir().expect("a directory");
        let dir = data_dir(&root);
        check(&dir, &members(&[1, 2])).expect("the first start");
        let path = root.path().join(MEMBERS_FILE);
        let good = fs::read(&path).expect("a file");
        let at = good.iter().position(|byte| *byte == b'2').expect("n2 is named");
        for byte in [b'3', b'x', 0xff] {
            let mut bad = good.clone();
            bad[at] = byte;
            fs::write(&path, bad).expect("written");
            let error = check(&dir, &members(&[1, 2])).expect_err("damaged");
            assert_eq!(error.exit_code(), exit::DAMAGED, "{error}");
        }
    }
}
