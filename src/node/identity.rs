//! Whose data directory is it? A file in it says to which node of which cluster it belongs, and a number drawn at
//! its creation tells it apart from any other directory that claims to be the same node.
//!
//! Raft's safety rests on nodes that remember their votes and what they acknowledged. Starting a node on another
//! node's directory, or on an empty one after it had data, breaks that silently; so both are refused: the first by
//! the node itself, the second by its peers, which remember the number they saw ([`PeerStores`]). A directory that has
//! lost its log only is refused by the node again ([`LogNote`]).

pub(super) mod members;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::exit;
use crate::logic::ids::NodeId;
use crate::storage::create_durably;

/// Version of the layout of a data directory.
pub const FORMAT: u32 = 1;

const IDENTITY_FILE: &str = "identity.toml";
const PEERS_FILE: &str = "peers.toml";
const LOG_NOTE_FILE: &str = "log-begun";
const LOCK_FILE: &str = "lock";
/// What only a node's data directory has, besides the identity that was written before.
const OWN: [&str; 5] = [LOG_NOTE_FILE, PEERS_FILE, members::MEMBERS_FILE, "log", "snapshots"];

/// Why a data directory, or a peer's, is refused.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "the sentences say it all")]
pub enum IdentityError {
    #[error("cannot {action} {path}: {source}{}", remedy(source))]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "data directory {dir} is in use by another process; stop it first, or give this node a directory of its own"
    )]
    InUse { dir: PathBuf },
    #[error(
        "data directory {dir} belongs to {found_node} of cluster \"{found_cluster}\", \
         not to {node} of cluster \"{cluster}\"; correct data_dir, the node's id or cluster.id"
    )]
    Foreign { dir: PathBuf, found_cluster: String, found_node: NodeId, cluster: String, node: NodeId },
    #[error(
        "data directory {dir} holds files (such as {file:?}) but no {IDENTITY_FILE}, so it is not a node's; \
         give an empty or new directory"
    )]
    NotADataDir { dir: PathBuf, file: String },
    #[error(
        "data directory {dir} has format {found}, this program knows format {FORMAT}; \
         use the version of the program that wrote it"
    )]
    Format { dir: PathBuf, found: u32 },
    #[error(
        "{path} is damaged ({what}); restore it from a copy. \
         Do not delete it: a node must not come back without its memory"
    )]
    Damaged { path: PathBuf, what: String },
    #[error(
        "cluster.nodes names {configured}, but the cluster of data directory {dir} has the members {known}; \
         name these (their addresses may change). Members cannot be changed yet, and a start with others could lose \
         acknowledged writes; a new cluster needs new data directories"
    )]
    Members { dir: PathBuf, known: String, configured: String },
    #[error("{node} shows the data directory {found:016x} instead of {known:016x}")]
    NewStore { node: NodeId, known: u64, found: u64 },
}

impl IdentityError {
    /// The exit code of a node that ends because of it (see [`exit`]).
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { source, .. } if is_misplaced(source) => exit::USAGE,
            Self::Io { .. } => exit::INTERNAL,
            Self::InUse { .. } => exit::UNAVAILABLE,
            Self::Foreign { .. } | Self::NotADataDir { .. } | Self::Format { .. } | Self::Members { .. } => {
                exit::USAGE
            }
            Self::Damaged { .. } | Self::NewStore { .. } => exit::DAMAGED,
        }
    }
}

/// Whether there cannot be a data directory, or not for this user. Trying again does not help.
fn is_misplaced(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
}

fn remedy(error: &io::Error) -> &'static str {
    if is_misplaced(error) {
        "; give a data directory that this user may write to: data_dir, or --data DIR"
    } else {
        ""
    }
}

impl From<IdentityError> for exit::Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(error.exit_code(), error.to_string())
    }
}

/// A node's data directory, locked against other processes for as long as the value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    store: u64,
    /// Held for its lock.
    _lock: File,
}

/// The contents of the identity file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    format: u32,
    cluster: String,
    node: NodeId,
    /// Hexadecimal, because TOML's integers are signed.
    store: String,
    /// CRC-32 of the other fields, in hexadecimal.
    crc: String,
}

impl Identity {
    fn crc(&self) -> String {
        let text = format!("{} {} {} {}", self.format, self.cluster, self.node, self.store);
        format!("{:08x}", crc32fast::hash(text.as_bytes()))
    }
}

impl DataDir {
    /// Opens the data directory of a node and locks it; creates it, with an identity, where there is none.
    ///
    /// # Errors
    /// When it belongs to another node or cluster, is in use, damaged, not a data directory, or cannot be read or
    /// written.
    pub fn open(path: &Path, cluster: &str, node: NodeId) -> Result<Self, IdentityError> {
        create_durably(path).map_err(io_error("create", path))?;
        let lock = lock(path)?;
        let file = path.join(IDENTITY_FILE);
        let identity = match read_text(&file)? {
            Some(text) => check(path, &file, &text)?,
            None => create(path, cluster, node)?,
        };
        if identity.cluster != cluster || identity.node != node {
            return Err(IdentityError::Foreign {
                dir: path.into(),
                found_cluster: identity.cluster,
                found_node: identity.node,
                cluster: cluster.into(),
                node,
            });
        }
        let store = parse_store(&file, &identity.store)?;
        Ok(Self { path: path.into(), store, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number drawn when it was created, never 0: what the node shows its peers.
    pub fn store(&self) -> u64 {
        self.store
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_path_buf();
    move |source| IdentityError::Io { action, path, source }
}

fn damage(path: &Path, what: &str) -> IdentityError {
    IdentityError::Damaged { path: path.into(), what: what.into() }
}

fn lock(dir: &Path) -> Result<File, IdentityError> {
    let path = dir.join(LOCK_FILE);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(IdentityError::InUse { dir: dir.into() }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

/// Reads a file; `None`: there is none.
fn read_text(path: &Path) -> Result<Option<String>, IdentityError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(damage(path, "it is not UTF-8 text")),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Reads an identity file.
fn check(dir: &Path, file: &Path, text: &str) -> Result<Identity, IdentityError> {
    let damaged = |what: String| IdentityError::Damaged { path: file.into(), what };
    // The format comes first: a later one may have other fields.
    let table: toml::Table =
        text.parse().map_err(|error: toml::de::Error| damaged(error.message().into()))?;
    match table.get("format").and_then(|format| format.as_integer()) {
        Some(format) if format == i64::from(FORMAT) => {}
        Some(format) => {
            let found = u32::try_from(format).map_err(|_| damaged(format!("format = {format}")))?;
            return Err(IdentityError::Format { dir: dir.into(), found });
        }
        None => return Err(damaged("no format".into())),
    }
    let identity: Identity =
        table.try_into().map_err(|error: toml::de::Error| damaged(error.message().into()))?;
    if identity.crc != identity.crc() {
        return Err(damaged("its checksum does not match".into()));
    }
    Ok(identity)
}

fn parse_store(file: &Path, text: &str) -> Result<u64, IdentityError> {
    match u64::from_str_radix(text, 16) {
        Ok(store) if store != 0 => Ok(store),
        _ => Err(IdentityError::Damaged {
            path: file.into(),
            what: format!("{text:?} is not a store's number"),
        }),
    }
}

/// Gives a directory that is still empty its identity.
fn create(dir: &Path, cluster: &str, node: NodeId) -> Result<Identity, IdentityError> {
    let harmless = [LOCK_FILE, "lost+found", &temporary_name(IDENTITY_FILE)].map(String::from);
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name().to_string_lossy().into_owned();
        if OWN.contains(&&*name) {
            return Err(damage(&dir.join(IDENTITY_FILE), "it is missing"));
        }
        if !harmless.contains(&name) {
            return Err(IdentityError::NotADataDir { dir: dir.into(), file: name });
        }
    }
    // Its keys come from the operating system's randomness.
    let store = RandomState::new().hash_one(FORMAT).max(1);
    let mut identity = Identity {
        format: FORMAT,
        cluster: cluster.into(),
        node,
        store: format!("{store:016x}"),
        crc: String::new(),
    };
    identity.crc = identity.crc();
    let text = toml::to_string(&identity).expect("an identity is a table of plain values");
    let header = "# To which node this directory belongs. Written once; do not edit or delete.\n";
    write_durably(dir, IDENTITY_FILE, &format!("{header}{text}"))?;
    Ok(identity)
}

fn temporary_name(name: &str) -> String {
    format!("{name}.tmp")
}

/// Replaces a file so that after a crash there is the old one or the new one.
fn write_durably(dir: &Path, name: &str, text: &str) -> Result<(), IdentityError> {
    let path = dir.join(name);
    let temporary = dir.join(temporary_name(name));
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(io_error("write", &path))
}

/// The store numbers that the peers of a node have shown, remembered across restarts.
#[derive(Debug)]
pub struct PeerStores {
    dir: PathBuf,
    known: BTreeMap<NodeId, u64>,
}

impl PeerStores {
    /// Reads what is remembered in a data directory; nothing at first.
    ///
    /// # Errors
    /// When the file is damaged or cannot be read.
    pub fn open(dir: &DataDir) -> Result<Self, IdentityError> {
        let dir = dir.path().to_path_buf();
        let path = dir.join(PEERS_FILE);
        let text = read_text(&path)?.unwrap_or_default();
        let damaged = |what: String| IdentityError::Damaged { path: path.clone(), what };
        let table: BTreeMap<String, String> =
            toml::from_str(&text).map_err(|error| damaged(error.message().into()))?;
        let mut known = BTreeMap::new();
        for (name, store) in &table {
            let id = name.strip_prefix('n').and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| damaged(format!("{name:?} is not a node")))?;
            known.insert(NodeId(id), parse_store(&path, store)?);
        }
        Ok(Self { dir, known })
    }

    /// Compares what a peer shows with what it showed before. The first number of a peer is remembered, durably
    /// before this returns: not for a thread that must answer.
    ///
    /// # Errors
    /// [`IdentityError::NewStore`] when it shows another number; also when the file cannot be written.
    pub fn admit(&mut self, peer: NodeId, store: u64) -> Result<(), IdentityError> {
        match self.known.get(&peer) {
            Some(&known) if known == store => Ok(()),
            Some(&known) => Err(IdentityError::NewStore { node: peer, known, found: store }),
            None => {
                let mut known = self.known.clone();
                known.insert(peer, store);
                let mut text =
                    String::from("# The data directory that each peer has shown; another one is refused.\n");
                for (node, store) in &known {
                    text.push_str(&format!("{node} = \"{store:016x}\"\n"));
                }
                write_durably(&self.dir, PEERS_FILE, &text)?;
                self.known = known;
                Ok(())
            }
        }
    }
}

/// Says whether the log of a data directory was begun: one that is missing later is lost, and the node's votes with it.
#[derive(Debug)]
pub struct LogNote {
    dir: PathBuf,
    begun: bool,
}

impl LogNote {
    /// Looks whether it is noted in a data directory.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn open(dir: &DataDir) -> Result<Self, IdentityError> {
        let dir = dir.path().to_path_buf();
        let path = dir.join(LOG_NOTE_FILE);
        let begun = path.try_exists().map_err(io_error("look for", &path))?;
        Ok(Self { dir, begun })
    }

    /// Whether it was begun.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Notes that it was begun, durably before this returns. To be called when the log is durable, so that a crash in
    /// between leaves a log without a note, which is harmless, and before the node promises anything.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn note_begun(&mut self) -> Result<(), IdentityError> {
        const TEXT: &str =
            "# This node has a log: it is not started without. Written once; do not edit or delete.\n";
        write_durably(&self.dir, LOG_NOTE_FILE, TEXT)?;
        self.begun = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
