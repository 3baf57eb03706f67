//! Putting together what a node, or a process of its own, has of MapReduce.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::oneshot;

use super::exit::{Failure, UNAVAILABLE};
use crate::actors::background::Background;
use crate::actors::caller::Incoming;
use crate::actors::clerk::{ClerkActor, ClerkSettings, Invoke};
use crate::actors::clock::{NodeClock, WallClock};
use crate::actors::mapreduce::attempt::Bench;
use crate::actors::mapreduce::coordinator::{CoordinatorActor, CoordinatorSpec};
use crate::actors::mapreduce::depot::{Depot, DepotSpec};
use crate::actors::mapreduce::shelf::Shelf;
use crate::actors::mapreduce::shuffle::{Fetcher, Shuffle, ShuffleSpec};
use crate::actors::mapreduce::store::LocalStore;
use crate::actors::mapreduce::worker::{CallCoordinator, WorkerActor, WorkerSpec};
use crate::actors::supervision::{Child, ChildSpec, OnHang, Port, Slot, Strategy, Supervisor};
use crate::logic::clerk::{ClerkOptions, Op};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::mapreduce::coordinator::Patience;
use crate::logic::restart::RestartPolicy;
use crate::mapreduce::function::Functions;
use crate::mapreduce::task::memory_for_slot;
use crate::messages::client::Answer;
use crate::messages::group::ObservePeer;
use crate::net::NetSettings;
use crate::net::router::Router;
use crate::net::transport::Transport;

/// The group in whose store jobs are kept, and with whose leadership the coordinator's office goes.
pub(super) const GROUP: GroupId = GroupId(1);

/// How long a worker that cannot be reached is waited for before what it holds counts as missing: a process that was
/// killed is back by then.
pub(super) const FETCH_PATIENCE: Duration = Duration::from_secs(3);
/// A report that was not answered for so long is made again.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// The coordinator of a node.
pub(super) fn coordinator(
    node: NodeId,
    (clock, wall_clock): (NodeClock, WallClock),
    peer: Port<ObservePeer>,
    router: &Arc<Router>,
    patience: Patience,
    hang_timeout: Duration,
) -> Child {
    let store = LocalStore::new(GROUP, |replies| router.requests(replies));
    let spec = CoordinatorSpec { node, clock, wall_clock, peer, store, patience };
    let slot = Slot::new("coordinator");
    let incoming: Port<Incoming> = slot.port();
    router.register_coordinator(Arc::new(move |asks| {
        let _ = incoming.tell(Incoming(asks.into()));
        Ok(())
    }));
    ChildSpec::new("coordinator", move |_| CoordinatorActor::new(spec.clone()))
        .slot(&slot)
        .hang_timeout(hang_timeout, OnHang::Report)
        .into()
}

/// What a worker is made of, in a node or in a process of its own.
pub(super) struct Workshop {
    /// Addresses of nodes.
    pub(super) endpoints: Vec<String>,
    pub(super) cluster: String,
    pub(super) net: NetSettings,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) router: Arc<Router>,
    /// Where others reach it.
    pub(super) address: Arc<dyn Fn() -> String + Send + Sync>,
    pub(super) directory: PathBuf,
    /// 0: as many as there are processors.
    pub(super) slots: u32,
    pub(super) memory_bytes: u64,
    pub(super) functions: Arc<Functions>,
    pub(super) policy: RestartPolicy,
    pub(super) hang_timeout: Duration,
}

impl Workshop {
    /// The supervisor of a worker and of all that it needs.
    ///
    /// # Errors
    /// When its directory cannot be used, or there is no thread to be had.
    pub(super) fn supervisor(self) -> Result<Supervisor, Failure> {
        let no_thread = |error| Failure::internal(format!("cannot start a thread: {error}"));
        let shelf = Shelf::open(&self.directory).map_err(|text| Failure::new(UNAVAILABLE, text))?;
        let slots = if self.slots == 0 { processors() } else { self.slots };
        let memory = usize::try_from(self.memory_bytes).unwrap_or(usize::MAX);
        let (clerk, shuffle) = (Slot::<ClerkActor>::new("clerk"), Slot::<Shuffle>::new("shuffle"));
        let bench = Bench {
            shelf: shelf.clone(),
            fetcher: Fetcher { port: shuffle.port(), patience: FETCH_PATIENCE },
            memory_bytes: memory_for_slot(memory, slots as usize),
            functions: self.functions.clone(),
        };
        let depot = DepotSpec {
            shelf,
            reader: Background::start("mapreduce-reader").map_err(no_thread)?,
            waiting: Arc::new(AtomicUsize::new(0)),
        };
        let worker = WorkerSpec {
            slots,
            address: self.address.clone(),
            call: calls(clerk.port()),
            bench,
            sweeper: Background::start("mapreduce-sweeper").map_err(no_thread)?,
        };
        let supervisor = Supervisor::new("worker", Strategy::OneForOne).policy(self.policy.clone());
        let supervisor = supervisor.child(self.clerk().slot(&clerk)).child(self.shuffle().slot(&shuffle));
        let worker = ChildSpec::new("tasks", move |_| WorkerActor::new(worker.clone()));
        Ok(supervisor.child(self.depot(depot)).child(worker.hang_timeout(self.hang_timeout, OnHang::Report)))
    }

    fn clerk(&self) -> ChildSpec<ClerkActor> {
        let options = ClerkOptions {
            endpoints: self.endpoints.clone(),
            cluster: self.cluster.clone(),
            stateless: true,
            ..ClerkOptions::default()
        };
        let (net, transport) = (self.net.clone(), self.transport.clone());
        let settings = ClerkSettings { clerk: options, net, transport };
        ChildSpec::new("clerk", move |_| {
            let mut settings = settings.clone();
            settings.clerk.seed = fastrand::u64(..);
            ClerkActor::new(settings)
        })
    }

    fn shuffle(&self) -> ChildSpec<Shuffle> {
        let (net, transport) = (self.net.clone(), self.transport.clone());
        let spec = ShuffleSpec { cluster: self.cluster.clone(), net, transport };
        ChildSpec::new("shuffle", move |_| Shuffle::new(spec.clone()))
    }

    fn depot(&self, spec: DepotSpec) -> ChildSpec<Depot> {
        let slot = Slot::new("depot");
        let incoming: Port<Incoming> = slot.port();
        self.router.register_worker(Arc::new(move |asks| {
            let _ = incoming.tell(Incoming(asks.into()));
            Ok(())
        }));
        ChildSpec::new("depot", move |_| Depot::new(spec.clone())).slot(&slot)
    }
}

/// How a worker reaches the coordinator: through a clerk, which finds the leader.
fn calls(clerk: Port<Invoke>) -> CallCoordinator {
    Arc::new(move |request| {
        let (reply, result) = oneshot::channel();
        let op = Op::MapReduce(request);
        let told = clerk.tell(Invoke { group: GROUP, op, deadline: Some(CALL_DEADLINE), reply });
        Box::pin(async move {
            told.map_err(|error| error.to_string())?;
            match result.await {
                Ok(Ok(Answer::MapReduce(reply))) => Ok(reply),
                Ok(Ok(_)) => Err("the answer does not fit the question".to_owned()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("the clerk was restarted".to_owned()),
            }
        })
    })
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX))
}
