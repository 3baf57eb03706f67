//! The admin actor of a node: answers what the node knows of itself, and obeys the few orders it takes.

mod disk_use;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

pub use disk_use::DiskUse;

use super::caller::{Caller, Incoming, Kind};
use super::clock::NodeClock;
use super::supervision::{Port, Registry};
use crate::logic::ids::{GroupId, NodeId};
use crate::messages::admin::{ActorStatus, AdminReply, AdminRequest, Chaos, GroupStatus, NodeStatus};
use crate::messages::client::{Answer, RequestBody, ServerError};
use crate::messages::group::{ObserveApplier, ObservePeer, TransferLeader};
use crate::net::faults::LinkFaults;
use crate::net::router::Ask;
use crate::storage::DiskFaults;

/// An actor that does not say how it is within this time is reported as it is known otherwise.
const PATIENCE: Duration = Duration::from_millis(500);

/// How to reach the actors of a group.
#[derive(Clone)]
pub struct GroupPorts {
    /// The group.
    pub group: GroupId,
    /// The Raft peer.
    pub peer: Port<ObservePeer>,
    /// The applier.
    pub applier: Port<ObserveApplier>,
    /// The Raft peer.
    pub transfer: Port<TransferLeader>,
}

/// What chaos may touch.
#[derive(Clone)]
pub struct ChaosTools {
    /// The links to the peers.
    pub links: BTreeMap<NodeId, Arc<LinkFaults>>,
    /// The disk under the log.
    pub disk: DiskFaults,
}

/// What an admin actor is given.
#[derive(Clone)]
pub struct AdminSpec {
    /// The node.
    pub node: NodeId,
    /// Time since the node started.
    pub clock: NodeClock,
    /// The supervision tree.
    pub registry: Arc<Registry>,
    /// Name of the tree's root.
    pub root: String,
    /// The groups.
    pub groups: Vec<GroupPorts>,
    /// Bytes in the data directory.
    pub disk_use: DiskUse,
    /// `None` unless the configuration allows faults on purpose.
    pub chaos: Option<ChaosTools>,
}

/// The admin actor of a node. It has no state of its own.
pub struct Admin {
    spec: AdminSpec,
}

impl Admin {
    /// An admin actor.
    pub fn new(spec: AdminSpec) -> Self {
        Admin { spec }
    }

    fn take_in(&self, ask: Ask, ctx: &mut Context<Self>) {
        let group = ask.request.group;
        // An order may have been carried out before its caller is dropped; a question may simply be asked again.
        let kind = match &ask.request.body {
            RequestBody::Admin(AdminRequest::TransferLeader { .. } | AdminRequest::Chaos(_)) => {
                Kind::Stateless
            }
            _ => Kind::Read,
        };
        let caller = Caller::new(ask.reply, ask.request.id, kind);
        let RequestBody::Admin(request) = ask.request.body else {
            return caller.answer(Err(ServerError::Invalid("not for the node itself".into())));
        };
        match request {
            AdminRequest::Status => {
                let status = status(self.spec.clone());
                let answer = async move { caller.answer(reply(AdminReply::Status(status.await))) };
                ctx.spawn(answer.into_actor(self));
            }
            AdminRequest::Tree => caller.answer(self.tree()),
            AdminRequest::TransferLeader { to } => {
                let transfer = self.transfer(group, to);
                ctx.spawn(async move { caller.answer(transfer.await) }.into_actor(self));
            }
            AdminRequest::Chaos(chaos) => caller.answer(self.chaos(chaos)),
        }
    }

    fn tree(&self) -> Result<Answer, ServerError> {
        let tree = self.spec.registry.status(&self.spec.root);
        let tree = tree.ok_or_else(|| ServerError::Invalid("the node is shutting down".into()))?;
        reply(AdminReply::Tree(ActorStatus::from(tree)))
    }

    fn transfer(
        &self,
        group: GroupId,
        to: Option<NodeId>,
    ) -> impl Future<Output = Result<Answer, ServerError>> + use<> {
        let ports = self.spec.groups.iter().find(|ports| ports.group == group).cloned();
        let me = self.spec.node;
        async move {
            let ports = ports.ok_or(ServerError::NoSuchGroup)?;
            let peer = ports.peer.ask(ObservePeer, PATIENCE).await;
            let peer = peer.map_err(|_| ServerError::NotLeader { leader: None })?;
            if peer.status.role != "leader" {
                return Err(ServerError::NotLeader { leader: peer.status.leader });
            }
            if let Some(to) = to.filter(|to| *to == me || !peer.membership.voters.contains(to)) {
                let text = format!("node {} is not another voter of group {}", to.0, group.0);
                return Err(ServerError::Invalid(text));
            }
            let told = ports.transfer.tell(TransferLeader { to });
            told.map_err(|_| ServerError::NotLeader { leader: None })?;
            reply(AdminReply::Done)
        }
    }

    fn chaos(&self, chaos: Chaos) -> Result<Answer, ServerError> {
        let tools = self.spec.chaos.as_ref().ok_or_else(|| {
            ServerError::Invalid("faults on purpose are off: set `[chaos] enabled = true` and restart".into())
        })?;
        tracing::warn!(?chaos, "a fault on purpose");
        match chaos {
            Chaos::Panic { actor } => {
                let path = self.pick(actor)?;
                self.spec.registry.crash(&path, "a panic on purpose").map_err(|e| invalid(&e))?;
            }
            Chaos::Hang { actor, ms } => {
                let path = self.pick(actor)?;
                self.spec.registry.hang(&path, Duration::from_millis(ms)).map_err(|e| invalid(&e))?;
            }
            Chaos::LinkDelay { peer, ms } => link(tools, peer)?.set_delay_ms(ms),
            Chaos::LinkDrop { peer, permille } => link(tools, peer)?.set_drop_permille(permille),
            Chaos::DiskDelay { ms } => tools.disk.delay_writes(Duration::from_millis(ms)),
            Chaos::DiskHang { ms } => tools.disk.hang_once(Duration::from_millis(ms)),
            Chaos::DiskFail => tools.disk.fail_next_sync(),
            Chaos::DiskFull { after_bytes } => tools.disk.limit_space(after_bytes),
        }
        reply(AdminReply::Done)
    }

    /// The path itself, or that of any actor for `*`.
    fn pick(&self, actor: String) -> Result<String, ServerError> {
        if actor != "*" {
            return Ok(actor);
        }
        let actors = self.spec.registry.actors();
        let picked = fastrand::choice(actors.iter()).cloned();
        picked.ok_or_else(|| ServerError::Invalid("no actor is running".into()))
    }
}

fn reply(reply: AdminReply) -> Result<Answer, ServerError> {
    Ok(Answer::Admin(Box::new(reply)))
}

fn invalid(error: &dyn std::error::Error) -> ServerError {
    ServerError::Invalid(error.to_string())
}

fn link(tools: &ChaosTools, peer: NodeId) -> Result<&Arc<LinkFaults>, ServerError> {
    tools.links.get(&peer).ok_or_else(|| ServerError::Invalid(format!("there is no link to node {}", peer.0)))
}

async fn status(spec: AdminSpec) -> NodeStatus {
    let mut groups = Vec::with_capacity(spec.groups.len());
    for ports in &spec.groups {
        groups.push(group_status(ports).await);
    }
    NodeStatus {
        node: spec.node,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_ms: u64::try_from(spec.clock.now().as_millis()).unwrap_or(u64::MAX),
        restarts: spec.registry.total_restarts(),
        disk_bytes: spec.disk_use.bytes().await,
        groups,
    }
}

async fn group_status(ports: &GroupPorts) -> GroupStatus {
    let peer = ports.peer.ask(ObservePeer, PATIENCE).await;
    let applier = ports.applier.ask(ObserveApplier, PATIENCE).await;
    let mut status = peer.map_or_else(|_| restarting(ports.group), |peer| peer.status);
    if let Ok(Some(applier)) = applier {
        status.applied = applier.applied;
        status.keys = applier.stats.keys;
        status.bytes = applier.stats.bytes;
        status.sessions = applier.stats.sessions;
        status.time_ms = applier.time_ms;
        status.hash = applier.hash;
    }
    status
}

fn restarting(group: GroupId) -> GroupStatus {
    GroupStatus {
        group,
        role: "restarting".to_owned(),
        leader: None,
        term: 0,
        last: 0,
        commit: 0,
        applied: 0,
        snapshot: 0,
        keys: 0,
        bytes: 0,
        sessions: 0,
        time_ms: 0,
        hash: String::new(),
        peers: Vec::new(),
    }
}

impl Actor for Admin {
    type Context = Context<Self>;
}

impl Handler<Incoming> for Admin {
    type Result = ();

    fn handle(&mut self, mut incoming: Incoming, ctx: &mut Self::Context) {
        while let Some(ask) = incoming.take() {
            self.take_in(ask, ctx);
        }
    }
}
