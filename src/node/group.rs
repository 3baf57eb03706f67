//! Putting one group of a node together: applier, Raft peer and KV server under one supervisor.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use super::exit::{DAMAGED, Failure};
use crate::actors::admin::GroupPorts;
use crate::actors::applier::{Applier, ApplierSpec, RestoreError, Restored};
use crate::actors::background::Background;
use crate::actors::caller::Incoming;
use crate::actors::clock::NodeClock;
use crate::actors::kv_server::{KvServer, KvServerSpec};
use crate::actors::raft_peer::{RaftPeer, RaftPeerSpec};
use crate::actors::snapshots::SnapshotDesk;
use crate::actors::supervision::{ChildSpec, OnHang, Place, Port, Slot, Strategy, Supervisor};
use crate::actors::tap::{Seen, TapPoint};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::Limits;
use crate::logic::raft::entry::Entry;
use crate::logic::raft::membership::Membership;
use crate::logic::raft::message::Envelope;
use crate::logic::raft::{self, Input, Raft};
use crate::logic::restart::RestartPolicy;
use crate::messages::group::FromPeers;
use crate::net::Ref;
use crate::storage::{BEGIN_EMPTY, RecoveredGroup, SnapshotStore, WalHandle};

/// How long a group waits before it tries again to write to a disk that was full. With the pause that grows between
/// restarts, that keeps within the default `supervision.max_restarts` for as long as the disk stays full.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// What all groups of a node share.
#[derive(Clone)]
pub(super) struct Shared {
    /// Ends the node.
    pub ending: UnboundedSender<Failure>,
    pub node: NodeId,
    pub clock: NodeClock,
    pub wal: WalHandle,
    pub snapshots: SnapshotStore,
    pub snapshot_reader: Background,
    pub snapshot_writer: Background,
    pub peers: BTreeMap<NodeId, Ref<Envelope>>,
    pub bootstrap: Membership,
    pub limits: Limits,
    pub max_pending_requests: usize,
    pub max_pending_bytes: usize,
    pub snapshot_after_bytes: u64,
    pub snapshot_chunk_bytes: usize,
    pub policy: RestartPolicy,
    pub hang_timeout: Duration,
    pub tap: TapPoint,
}

/// A group that is put together and not started.
pub(super) struct Group {
    pub supervisor: Supervisor,
    pub ports: GroupPorts,
    pub incoming: Port<Incoming>,
    pub from_peers: Port<FromPeers>,
}

/// What the disk holds of a group, read once for each start: the applier is built first and takes the snapshot, the
/// Raft peer is built next and takes the log.
struct GroupDisk {
    group: GroupId,
    wal: WalHandle,
    state: Mutex<Option<RecoveredGroup>>,
}

impl GroupDisk {
    /// The first start uses what opening the log has found; later ones read it again, behind everything that the
    /// earlier life had written.
    async fn read(&self) -> Result<RecoveredGroup, String> {
        if let Some(state) = self.take() {
            return Ok(state);
        }
        if self.wal.is_full() {
            // Starting at once would only fail again, until the supervisor gives up. Others lead meanwhile.
            tokio::time::sleep(FULL_DISK_PAUSE).await;
        }
        let (reply, answer) = oneshot::channel();
        let done = move |result| drop(reply.send(result));
        self.wal.reload(self.group, Box::new(done));
        let state = answer.await.map_err(|_| "the log has stopped".to_owned())?;
        state.map_err(|error| error.to_string())
    }

    fn put(&self, state: RecoveredGroup) {
        *self.lock() = Some(state);
    }

    fn take(&self) -> Option<RecoveredGroup> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<RecoveredGroup>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The roles of a group's actors.
struct Roles {
    applier: Slot<Applier>,
    peer: Slot<RaftPeer>,
    server: Slot<KvServer>,
}

/// Puts a group together. `found`: what the log held of it.
pub(super) fn assemble(
    shared: &Arc<Shared>,
    raft_config: raft::Config,
    found: RecoveredGroup,
    place: Place,
) -> Group {
    let group = raft_config.group;
    let roles = Roles {
        applier: Slot::new(format!("{group}/applier")),
        peer: Slot::new(format!("{group}/raft")),
        server: Slot::new(format!("{group}/kv")),
    };
    let disk = Arc::new(GroupDisk { group, wal: shared.wal.clone(), state: Mutex::new(Some(found)) });
    let supervisor = Supervisor::new(format!("group-{}", group.0), Strategy::OneForAll)
        .policy(shared.policy.clone())
        .place(place)
        .child(applier_child(shared, group, &roles, disk.clone()))
        .child(peer_child(shared, raft_config, &roles, disk))
        .child(server_child(shared, group, &roles));
    Group {
        supervisor,
        ports: GroupPorts {
            group,
            peer: roles.peer.port(),
            applier: roles.applier.port(),
            transfer: roles.peer.port(),
        },
        incoming: roles.server.port(),
        from_peers: roles.peer.port(),
    }
}

fn applier_child(
    shared: &Arc<Shared>,
    group: GroupId,
    roles: &Roles,
    disk: Arc<GroupDisk>,
) -> ChildSpec<Applier> {
    let spec = ApplierSpec {
        group,
        applied: roles.server.port(),
        answers: roles.server.port(),
        taken: roles.peer.port(),
        store: shared.snapshots.clone(),
        writer: shared.snapshot_writer.clone(),
        reader: shared.snapshot_reader.clone(),
        chunk_bytes: shared.snapshot_chunk_bytes,
        tap: shared.tap.clone(),
    };
    let shared = shared.clone();
    let hang_timeout = shared.hang_timeout;
    ChildSpec::prepared("applier", move |_| {
        let (spec, shared, disk) = (spec.clone(), shared.clone(), disk.clone());
        async move {
            let state = disk.read().await?;
            let restored = restore(&shared, group, &state).await?;
            disk.put(state);
            Ok::<_, String>(Applier::new(spec, restored))
        }
    })
    .slot(&roles.applier)
    .hang_timeout(hang_timeout, OnHang::Report)
}

/// Reads the newest snapshot on a thread that may block.
///
/// One that is damaged or missing stays so: the node ends and says it, instead of trying for ever.
async fn restore(shared: &Shared, group: GroupId, state: &RecoveredGroup) -> Result<Restored, String> {
    let (reply, answer) = oneshot::channel();
    let (store, mark) = (shared.snapshots.clone(), state.snapshot.clone());
    let bootstrap = shared.bootstrap.clone();
    shared.snapshot_reader.run(move || {
        drop(reply.send(Restored::read(group, &store, mark.as_ref(), bootstrap)));
    });
    let restored = answer.await.map_err(|_| "reading the snapshot was cut short".to_owned())?;
    restored.map_err(|error| {
        if let Some(what) = beyond_repair(group, &error) {
            let _ = shared.ending.send(Failure::new(DAMAGED, what));
        }
        error.to_string()
    })
}

/// What to say of an error that no further attempt can mend.
fn beyond_repair(group: GroupId, error: &RestoreError) -> Option<String> {
    match error {
        RestoreError::Damaged(what) => Some(what.clone()),
        // It is the newest that the log knows, and while this is read nobody takes or receives another.
        RestoreError::Gone(file) => Some(format!(
            "the snapshot {file} is missing, which the log names as the newest of {group}. Without it this replica has \
             no state, so it does not start. Bring the file back; where it is lost: {BEGIN_EMPTY}"
        )),
        RestoreError::Failed(_) => None,
    }
}

fn peer_child(
    shared: &Arc<Shared>,
    config: raft::Config,
    roles: &Roles,
    disk: Arc<GroupDisk>,
) -> ChildSpec<RaftPeer> {
    let group = config.group;
    let desk = SnapshotDesk::new(
        shared.snapshots.clone(),
        shared.snapshot_reader.clone(),
        roles.peer.port(),
        roles.peer.port(),
    );
    let spec = RaftPeerSpec {
        group,
        node: shared.node,
        clock: shared.clock.clone(),
        wal: shared.wal.clone(),
        peers: shared.peers.clone(),
        verdicts: roles.server.port(),
        role: roles.server.port(),
        committed: roles.applier.port(),
        install: roles.applier.port(),
        take_snapshot: roles.applier.port(),
        persisted: roles.peer.port(),
        snapshots: desk,
        sweeper: shared.snapshot_writer.clone(),
        snapshot_after_bytes: shared.snapshot_after_bytes,
        // Room for the log kept behind it, and for what comes in while it is written.
        snapshot_at_most_bytes: (config.max_log_bytes.saturating_sub(config.keep_bytes) / 4) as u64,
        led: Arc::default(),
        tap: shared.tap.clone(),
    };
    let bootstrap = shared.bootstrap.clone();
    let hang_timeout = shared.hang_timeout;
    ChildSpec::fallible("raft", move |context| {
        let state = disk.take().ok_or("the applier of this life has not read the log")?;
        // Another life, another sequence of election timeouts.
        let config =
            raft::Config { seed: config.seed ^ context.generation().rotate_left(32), ..config.clone() };
        build_peer(spec.clone(), context.generation(), config, state, bootstrap.clone())
    })
    .slot(&roles.peer)
    .hang_timeout(hang_timeout, OnHang::Report)
}

fn build_peer(
    spec: RaftPeerSpec,
    life: u64,
    config: raft::Config,
    state: RecoveredGroup,
    bootstrap: Membership,
) -> Result<RaftPeer, String> {
    let RecoveredGroup { hard_state, snapshot, compacted: _, entries } = state;
    let last = snapshot.as_ref().map_or(0, |mark| mark.meta.last.index);
    let log_bytes = entries.iter().filter(|entry| entry.index > last).map(Entry::cost).sum::<usize>() as u64;
    let me = config.id;
    let restored = raft::Restored {
        hard_state,
        snapshot: snapshot.as_ref().map(|mark| mark.meta.clone()),
        entries,
        applied: last,
        bootstrap,
        led: Some(spec.led.load(Ordering::Relaxed)).filter(|term| *term > 0),
    };
    spec.tap.show(spec.group, || Seen::PeerStarts { life, restored: &restored });
    let mut core = Raft::new(config, restored).map_err(|error| error.to_string())?;
    if hard_state.vote == Some(me) {
        // It led, or tried to, before it went down: if nobody has taken over, it may go on without a wait. The
        // pre-vote makes this harmless if somebody has, and the core sees to leases of others.
        core.step(Input::Campaign);
    }
    Ok(RaftPeer::new(spec, life, core, snapshot, log_bytes))
}

fn server_child(shared: &Arc<Shared>, group: GroupId, roles: &Roles) -> ChildSpec<KvServer> {
    let spec = KvServerSpec {
        group,
        limits: shared.limits.clone(),
        max_pending_requests: shared.max_pending_requests,
        max_pending_bytes: shared.max_pending_bytes,
        clock: shared.clock.clone(),
        propose: roles.peer.port(),
        barrier: roles.peer.port(),
        queries: roles.applier.port(),
    };
    ChildSpec::new("kv", move |_| KvServer::new(spec.clone()))
        .slot(&roles.server)
        .hang_timeout(shared.hang_timeout, OnHang::Report)
}
