//! The directory of a supervision tree: who is there, how they are, and how to disturb them for a test.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use dashmap::DashMap;

use super::core::ChildId;
use super::orders::{Order, Orders};
use super::status::{State, Status};

/// There is no running actor at this path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no running actor at {0}")]
pub struct NoSuchActor(pub String);

/// An actor that hangs although it was killed, or that blocks its thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hang {
    /// Its path in the tree.
    pub path: Arc<str>,
    /// Which of its lives.
    pub generation: u64,
    /// For how long it has blocked its thread, where a [`Watchdog`](super::Watchdog) saw it; zero where it was a
    /// supervisor that lost patience.
    pub blocked: Duration,
}

type OnHang = Arc<dyn Fn(&Hang) + Send + Sync>;

/// The directory of one tree (or several) of supervised actors. It is a value, not a global: every simulated
/// node has its own.
pub struct Registry {
    cells: DashMap<Arc<str>, Arc<Cell>>,
    roots: Mutex<BTreeMap<Arc<str>, Arc<Cell>>>,
    restarts: AtomicU64,
    lives: AtomicU64,
    seed: u64,
    on_hang: RwLock<Option<OnHang>>,
}

impl Registry {
    /// An empty directory. `seed` decides the jitter of all back-off delays below it.
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            cells: DashMap::new(),
            roots: Mutex::new(BTreeMap::new()),
            restarts: AtomicU64::new(0),
            lives: AtomicU64::new(0),
            seed,
            on_hang: RwLock::new(None),
        })
    }

    /// What to do about an actor that blocks its thread, which nothing but the end of the process can free. The
    /// call may come from any thread. It comes before the fact is logged, because logging may be what blocks.
    pub fn on_hang(&self, call: impl Fn(&Hang) + Send + Sync + 'static) {
        *self.on_hang.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(call));
    }

    /// How many times actors were started again after failures.
    pub fn total_restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// All paths, sorted.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<_> = self.cells.iter().map(|entry| entry.key().to_string()).collect();
        paths.sort_unstable();
        paths
    }

    /// The paths of all running actors that are not supervisors, sorted.
    pub fn actors(&self) -> Vec<String> {
        let running = self.cells.iter().filter(|entry| {
            let inner = entry.value().inner();
            inner.orders.is_some() && !inner.supervisor
        });
        let mut paths: Vec<_> = running.map(|entry| entry.key().to_string()).collect();
        paths.sort_unstable();
        paths
    }

    /// The state of the subtree at a path; `None`: there is no such path.
    pub fn status(&self, path: &str) -> Option<Status> {
        self.cell(path).map(|cell| cell.status())
    }

    /// The state of all trees, by name.
    pub fn tree(&self) -> Vec<Status> {
        let roots: Vec<_> = self.roots().values().cloned().collect();
        roots.iter().map(|cell| cell.status()).collect()
    }

    /// Makes an actor panic with this text, as if a handler of its had. A supervisor takes its children along.
    ///
    /// # Errors
    /// When nothing runs at this path.
    pub fn crash(&self, path: &str, text: impl Into<String>) -> Result<(), NoSuchActor> {
        self.order(path, Order::Crash(text.into()))
    }

    /// Makes an actor block its thread for so long, in real time.
    ///
    /// # Errors
    /// When nothing runs at this path.
    pub fn hang(&self, path: &str, long: Duration) -> Result<(), NoSuchActor> {
        self.order(path, Order::Hang(long))
    }

    /// Makes an actor do nothing for so long, on the runtime's clock, without blocking its thread.
    ///
    /// # Errors
    /// When nothing runs at this path.
    pub fn stall(&self, path: &str, long: Duration) -> Result<(), NoSuchActor> {
        self.order(path, Order::Stall(long))
    }

    /// Drops an actor without warning: none of its hooks run.
    ///
    /// # Errors
    /// When nothing runs at this path.
    pub fn kill(&self, path: &str) -> Result<(), NoSuchActor> {
        self.order(path, Order::Kill)
    }

    fn order(&self, path: &str, order: Order) -> Result<(), NoSuchActor> {
        let orders = self.cell(path).and_then(|cell| cell.inner().orders.clone());
        match orders {
            Some(orders) => {
                orders.give(order);
                Ok(())
            }
            None => Err(NoSuchActor(path.to_owned())),
        }
    }

    /// Clones the cell out, so that no lock of the map is held while it is used.
    fn cell(&self, path: &str) -> Option<Arc<Cell>> {
        self.cells.get(path).map(|entry| entry.value().clone())
    }

    /// All cells, in no particular order.
    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        self.cells.iter().map(|entry| entry.value().clone()).collect()
    }

    fn roots(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arc<Cell>>> {
        self.roots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters the root of a tree; `None`: a root of this name is running.
    pub(crate) fn enter_root(&self, name: &Arc<str>) -> Option<Arc<Cell>> {
        let cell =
            self.cells.entry(name.clone()).or_insert_with(|| Cell::new(name.clone(), name.clone())).clone();
        self.roots().insert(name.clone(), cell.clone());
        let running = cell.inner().orders.is_some();
        (!running).then_some(cell)
    }

    /// Enters a child; if there was one of that name before, its history is kept.
    pub(crate) fn enter(&self, parent: &Cell, id: ChildId, name: &Arc<str>) -> Arc<Cell> {
        let path: Arc<str> = format!("{}/{name}", parent.path).into();
        let cell = self.cells.entry(path.clone()).or_insert_with(|| Cell::new(path, name.clone())).clone();
        parent.inner().children.insert(id, cell.clone());
        cell
    }

    /// Forgets a child, and what is left of those below it.
    pub(crate) fn forget(&self, parent: &Cell, id: ChildId) {
        let cell = parent.inner().children.remove(&id);
        if let Some(cell) = cell {
            self.forget_tree(&cell);
        }
    }

    fn forget_tree(&self, cell: &Cell) {
        self.cells.remove(&cell.path);
        let children = std::mem::take(&mut cell.inner().children);
        for child in children.values() {
            self.forget_tree(child);
        }
    }

    /// The number of a new life: unique here, and growing.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// A seed of its own for every path.
    pub(crate) fn seed_for(&self, path: &str) -> u64 {
        // FNV-1a: any hash will do that is the same in every process.
        path.bytes().fold(self.seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    pub(crate) fn report_hang(&self, hang: &Hang) {
        let call = self.on_hang.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(call) = call {
            call(hang);
        }
        tracing::error!(actor = &*hang.path, generation = hang.generation, "actor blocks its thread");
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({} paths)", self.cells.len())
    }
}

/// What is known of one path, across all lives of what is there.
pub(crate) struct Cell {
    pub path: Arc<str>,
    name: Arc<str>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
pub(crate) struct Inner {
    pub state: State,
    pub generation: u64,
    pub restarts: u64,
    pub last_cause: Option<String>,
    /// The line to the current life, while there is one.
    pub orders: Option<Arc<Orders>>,
    pub supervisor: bool,
    /// No dynamic child of any name has had a greater generation.
    pub generation_floor: u64,
    children: BTreeMap<ChildId, Arc<Cell>>,
}

impl Cell {
    fn new(path: Arc<str>, name: Arc<str>) -> Arc<Self> {
        Arc::new(Self { path, name, inner: Mutex::default() })
    }

    pub fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_state(&self, state: State) {
        self.inner().state = state;
    }

    fn status(&self) -> Status {
        let (mut status, children) = {
            let inner = self.inner();
            let status = Status {
                name: self.name.to_string(),
                state: inner.state,
                generation: inner.generation,
                restarts: inner.restarts,
                last_cause: inner.last_cause.clone(),
                children: Vec::new(),
            };
            (status, inner.children.values().cloned().collect::<Vec<_>>())
        };
        status.children = children.iter().map(|child| child.status()).collect();
        status
    }
}
