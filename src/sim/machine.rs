//! What of a simulated machine outlives its crashes: disks, identity, the quality of its clock. It is the environment
//! in which a node starts there.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::disk::{DiskPace, SimLog, work_on};
use crate::actors::background::{Background, Job, perform};
use crate::actors::clock::{NodeClock, Skew, WallClock};
use crate::actors::supervision::Registry;
use crate::actors::tap::{Tap, TapPoint};
use crate::logic::ids::NodeId;
use crate::net::transport::Transport;
use crate::node::config::Config;
use crate::node::environment::{Disks, Environment, Identified, LogMemory, OpenLog, PeerMemory};
use crate::node::identity::IdentityError;
use crate::storage::{Disk, Fatal, LogOptions, OpenError, SimDisk, SteppedLog};

/// Longest that a job of a background thread waits for its turn.
const JOB_WAIT: Duration = Duration::from_millis(4);

/// A machine.
pub struct Machine {
    /// The disk of the log.
    pub log: Arc<SimDisk>,
    /// The disk of the snapshots.
    pub snapshots: Arc<SimDisk>,
    /// How fast they are.
    pub pace: Arc<DiskPace>,
    /// How fast its clock runs, in seconds a second; holds from the next start on.
    pub clock_rate: RefCell<f64>,
    /// The clock of the present start.
    pub clock: RefCell<Option<Arc<Skew>>>,
    /// When the simulation began.
    born: Instant,
    store: u64,
    peers: PeerNotes,
    log_begun: Rc<Cell<bool>>,
    transport: Arc<dyn Transport>,
    random: RefCell<fastrand::Rng>,
    tap: Arc<dyn Tap>,
}

/// The stores that the peers have shown. What is noted is durable.
type PeerNotes = Arc<Mutex<BTreeMap<NodeId, u64>>>;

impl Machine {
    /// A new machine with empty disks.
    pub fn new(seed: u64, transport: Arc<dyn Transport>, tap: Arc<dyn Tap>) -> Machine {
        let mut random = fastrand::Rng::with_seed(seed);
        Machine {
            log: Arc::new(SimDisk::new(random.u64(..))),
            snapshots: Arc::new(SimDisk::new(random.u64(..))),
            pace: Arc::new(DiskPace::new(random.u64(..))),
            clock_rate: RefCell::new(1.0),
            clock: RefCell::new(None),
            born: Instant::now(),
            store: random.u64(1..),
            peers: PeerNotes::default(),
            log_begun: Rc::default(),
            transport,
            random: RefCell::new(random),
            tap,
        }
    }

    /// The process ended: what the page cache held is still there.
    pub fn process_ended(&self) {
        self.log.process_crash();
        self.snapshots.process_crash();
    }

    /// The power failed: what was not synced is there or not, piece by piece.
    pub fn power_failed(&self) {
        self.log.power_loss();
        self.snapshots.power_loss();
    }
}

impl Environment for Machine {
    fn transport(&self) -> Arc<dyn Transport> {
        self.transport.clone()
    }

    fn random(&self) -> u64 {
        self.random.borrow_mut().u64(..)
    }

    fn clock(&self) -> NodeClock {
        let skew = Skew::new(*self.clock_rate.borrow());
        *self.clock.borrow_mut() = Some(skew.clone());
        NodeClock::skewed(skew)
    }

    fn wall_clock(&self) -> WallClock {
        let born = self.born;
        Arc::new(move || u64::try_from(born.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn identify(&self, _: &Config, _: NodeId) -> Result<Identified, IdentityError> {
        let (peers, log) = (Box::new(Peers(self.peers.clone())), Box::new(LogNote(self.log_begun.clone())));
        Ok(Identified { store: self.store, peers, log, lock: Box::new(()) })
    }

    fn disks(&self, _: &Config, _: NodeId) -> Result<Disks, OpenError> {
        let (log, snapshots) = (self.log.clone(), self.snapshots.clone());
        let both = [log.clone(), snapshots.clone()];
        let bytes = move || both.iter().map(|disk| disk.used_bytes()).sum();
        Ok(Disks { log, snapshots, bytes: Arc::new(bytes) })
    }

    fn open_log(&self, disk: Arc<dyn Disk>, how: LogOptions, fatal: Fatal) -> Result<OpenLog, OpenError> {
        let (log, wal, recovered) = SteppedLog::open(disk, how, fatal)?;
        let (owner, closing) = SimLog::new();
        tokio::task::spawn_local(work_on(log, self.pace.clone(), closing));
        Ok(OpenLog { owner: Box::new(owner), wal, recovered })
    }

    fn background(&self, _: &'static str) -> io::Result<Background> {
        let (jobs, mut queue) = tokio::sync::mpsc::unbounded_channel::<Job>();
        let mut random = fastrand::Rng::with_seed(self.random());
        tokio::task::spawn_local(async move {
            while let Some(job) = queue.recv().await {
                let longest = JOB_WAIT.as_millis() as u64;
                tokio::time::sleep(Duration::from_millis(random.u64(0..=longest))).await;
                perform(job);
            }
        });
        // While the machine goes off nobody takes jobs any more.
        Ok(Background::queue(move |job| drop(jobs.send(job))))
    }

    fn watch(&self, _: &Config, _: &Arc<Registry>) -> io::Result<Box<dyn Any>> {
        // Nothing here blocks a thread: a process that stands still is frozen, and an actor that hangs is stalled.
        Ok(Box::new(()))
    }

    fn tap(&self) -> TapPoint {
        TapPoint::new(self.tap.clone())
    }
}

struct Peers(PeerNotes);

impl PeerMemory for Peers {
    fn admit(&mut self, peer: NodeId, store: u64) -> Result<(), IdentityError> {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *notes.entry(peer).or_insert(store) {
            known if known == store => Ok(()),
            known => Err(IdentityError::NewStore { node: peer, known, found: store }),
        }
    }
}

/// Noted at once, durably.
struct LogNote(Rc<Cell<bool>>);

impl LogMemory for LogNote {
    fn is_begun(&self) -> bool {
        self.0.get()
    }

    fn note_begun(&mut self) -> Result<(), IdentityError> {
        self.0.set(true);
        Ok(())
    }
}
