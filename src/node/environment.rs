//! What a node takes from the world around it: time, chance, the network, disks, threads, the end of the process.
//!
//! [`OperatingSystem`] is the real one. A simulation gives another, in which everything follows from a seed.

use std::any::Any;
use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::config::Config;
use super::disk::{OwnThread, bytes_below};
use super::exit::INTERNAL;
use super::identity::{DataDir, IdentityError, LogNote, PeerStores, members};
use super::{logging, settings};
use crate::actors::background::Background;
use crate::actors::clock::{NodeClock, WallClock};
use crate::actors::supervision::{Registry, Watchdog};
use crate::actors::tap::TapPoint;
use crate::logic::ids::NodeId;
use crate::net::transport::Transport;
use crate::storage::{Disk, Fatal, LogOptions, LogWriter, OpenError, RealDisk, Recovered, WalHandle};

/// The world around one node.
pub trait Environment {
    /// The network as this node sees it.
    fn transport(&self) -> Arc<dyn Transport>;

    /// A number drawn at random: a seed for whatever is left to chance.
    fn random(&self) -> u64;

    /// A clock that shows zero now.
    fn clock(&self) -> NodeClock;

    /// A clock for people: Unix time in milliseconds.
    fn wall_clock(&self) -> WallClock;

    /// Opens what tells the node who it is.
    ///
    /// # Errors
    /// When that belongs to another node, is in use, or is damaged.
    fn identify(&self, config: &Config, id: NodeId) -> Result<Identified, IdentityError>;

    /// Opens the disks of the log and of the snapshots.
    ///
    /// # Errors
    /// When they cannot be used.
    fn disks(&self, config: &Config, id: NodeId) -> Result<Disks, OpenError>;

    /// Opens the log and begins to work on it.
    ///
    /// # Errors
    /// See [`OpenError`].
    fn open_log(&self, disk: Arc<dyn Disk>, how: LogOptions, fatal: Fatal) -> Result<OpenLog, OpenError>;

    /// Somebody who does work that may block.
    ///
    /// # Errors
    /// When the system has no thread to give.
    fn background(&self, name: &'static str) -> io::Result<Background>;

    /// Watches for actors that block their thread, and ends the process if one does, for as long as what is returned
    /// is kept.
    ///
    /// # Errors
    /// When the system has no thread to give.
    fn watch(&self, config: &Config, registry: &Arc<Registry>) -> io::Result<Box<dyn Any>>;

    /// Who watches the actors of the groups.
    fn tap(&self) -> TapPoint;
}

/// What tells a node who it is.
pub struct Identified {
    /// Number of its store, drawn when that was created; not 0.
    pub store: u64,
    /// The stores of its peers.
    pub peers: Box<dyn PeerMemory>,
    /// Whether it has a log already.
    pub log: Box<dyn LogMemory>,
    /// Keeps others out for as long as it is kept.
    pub lock: Box<dyn Any>,
}

/// Remembers which store each peer has shown.
pub trait PeerMemory: Send {
    /// Compares what a peer shows with what it showed before. The first number of a peer is remembered, durably.
    ///
    /// # Errors
    /// [`IdentityError::NewStore`] when it shows another number; also when nothing can be remembered.
    fn admit(&mut self, peer: NodeId, store: u64) -> Result<(), IdentityError>;
}

/// Remembers, elsewhere than in the log, that the log was begun.
pub trait LogMemory {
    /// Whether that is noted.
    fn is_begun(&self) -> bool;

    /// Notes it, durably.
    ///
    /// # Errors
    /// When nothing can be noted.
    fn note_begun(&mut self) -> Result<(), IdentityError>;
}

/// The disks of a node.
pub struct Disks {
    /// For the log.
    pub log: Arc<dyn Disk>,
    /// For snapshots.
    pub snapshots: Arc<dyn Disk>,
    /// Bytes on both.
    pub bytes: Arc<dyn Fn() -> u64 + Send + Sync>,
}

/// A log that is being worked on.
pub struct OpenLog {
    /// Whoever does the work.
    pub owner: Box<dyn LogOwner>,
    /// The way to it.
    pub wal: WalHandle,
    /// What the log held.
    pub recovered: Recovered,
}

/// Whoever works on a log. Dropping it closes the log.
pub trait LogOwner {
    /// Returns at once; what is returned yields when everything is written.
    fn close(&mut self) -> oneshot::Receiver<()>;
}

/// The real world.
pub struct OperatingSystem {
    transport: Arc<dyn Transport>,
}

impl OperatingSystem {
    /// With this network: TCP, or one in memory.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        OperatingSystem { transport }
    }
}

impl Environment for OperatingSystem {
    fn transport(&self) -> Arc<dyn Transport> {
        self.transport.clone()
    }

    fn random(&self) -> u64 {
        fastrand::u64(..)
    }

    fn clock(&self) -> NodeClock {
        NodeClock::start()
    }

    fn wall_clock(&self) -> WallClock {
        Arc::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH);
            since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
        })
    }

    fn identify(&self, config: &Config, id: NodeId) -> Result<Identified, IdentityError> {
        let data = DataDir::open(&config.data_dir(id), &config.cluster.id, id)?;
        members::check(&data, &config.cluster.nodes.iter().map(|node| node.id).collect())?;
        let (peers, log) = (Box::new(PeerStores::open(&data)?), Box::new(LogNote::open(&data)?));
        Ok(Identified { store: data.store(), peers, log, lock: Box::new(data) })
    }

    fn disks(&self, config: &Config, id: NodeId) -> Result<Disks, OpenError> {
        let dir = config.data_dir(id);
        let open = |name| RealDisk::open(dir.join(name)).map(|disk| Arc::new(disk) as Arc<dyn Disk>);
        let (log, snapshots) = (open("log")?, open("snapshots")?);
        Ok(Disks { log, snapshots, bytes: Arc::new(move || bytes_below(&dir)) })
    }

    fn open_log(&self, disk: Arc<dyn Disk>, how: LogOptions, fatal: Fatal) -> Result<OpenLog, OpenError> {
        let (writer, wal, recovered) = LogWriter::start(disk, how, fatal)?;
        Ok(OpenLog { owner: Box::new(OwnThread::new(writer)), wal, recovered })
    }

    fn background(&self, name: &'static str) -> io::Result<Background> {
        Background::start(name)
    }

    fn watch(&self, config: &Config, registry: &Arc<Registry>) -> io::Result<Box<dyn Any>> {
        // Its thread is blocked, so nothing on it can end the process in order.
        registry.on_hang(|hang| {
            ends_soon();
            tracing::error!(actor = %hang.path, "an actor blocks its thread; the process ends");
            logging::flush();
            std::process::exit(INTERNAL.into());
        });
        Ok(Box::new(Watchdog::start(registry, settings::hang_timeout(config))?))
    }

    fn tap(&self) -> TapPoint {
        TapPoint::default()
    }
}

/// Ends the process in a while, whatever becomes of its last words: whoever takes them may be what hangs.
fn ends_soon() {
    let end = || {
        std::thread::sleep(logging::LAST_WORDS * 2);
        std::process::exit(INTERNAL.into());
    };
    if std::thread::Builder::new().name("end".to_owned()).spawn(end).is_err() {
        std::process::exit(INTERNAL.into());
    }
}

impl PeerMemory for PeerStores {
    fn admit(&mut self, peer: NodeId, store: u64) -> Result<(), IdentityError> {
        PeerStores::admit(self, peer, store)
    }
}

impl LogMemory for LogNote {
    fn is_begun(&self) -> bool {
        LogNote::is_begun(self)
    }

    fn note_begun(&mut self) -> Result<(), IdentityError> {
        LogNote::note_begun(self)
    }
}
