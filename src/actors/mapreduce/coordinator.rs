//! The coordinator of all jobs: an actor at every node, in office at the one that leads group 1.
//!
//! It takes in what has arrived, lets the core decide, writes the records, and only then answers. `office` is what it
//! knows while it is in office; all of that is in the store, or is observed anew. `answers` is what it says of it,
//! `budget` how much one answer to a worker may hold.

mod answers;
mod budget;
mod office;

use std::collections::VecDeque;
use std::time::Duration;

use actix::prelude::*;

use self::office::Office;
pub use self::office::Written;
use super::journal::Journal;
use super::store::{LocalStore, StoreError};
use crate::actors::caller::{Caller, Incoming, Kind};
use crate::actors::clock::{NodeClock, WallClock};
use crate::actors::supervision::Port;
use crate::logic::ids::NodeId;
use crate::logic::mapreduce::coordinator::Patience;
use crate::messages::client::{RequestBody, ServerError};
use crate::messages::group::{ObservePeer, PeerStatus};
use crate::messages::mapreduce::MapReduceRequest;

/// How often the coordinator looks who leads, and whether somebody has been silent for too long.
const TICK: Duration = Duration::from_millis(50);

/// A Raft peer that does not say within this time who leads is asked again.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a coordinator is given.
#[derive(Clone)]
pub struct CoordinatorSpec {
    /// The node.
    pub node: NodeId,
    /// Time since the node started.
    pub clock: NodeClock,
    /// When something happened, for people.
    pub wall_clock: WallClock,
    /// The Raft peer whose leadership the office goes with.
    pub peer: Port<ObservePeer>,
    /// The store of that group.
    pub store: LocalStore,
    /// When somebody counts as gone, or as slow.
    pub patience: Patience,
}

/// See the module.
pub struct CoordinatorActor {
    spec: CoordinatorSpec,
    leads: bool,
    leader: Option<NodeId>,
    asking: bool,
    entering: bool,
    office: Option<Office>,
}

/// A request about jobs, and who waits for the answer.
type Asked = (Caller, MapReduceRequest);

impl CoordinatorActor {
    /// A coordinator that is not in office.
    pub fn new(spec: CoordinatorSpec) -> Self {
        CoordinatorActor { spec, leads: false, leader: None, asking: false, entering: false, office: None }
    }

    fn look_around(&mut self, ctx: &mut Context<Self>) {
        if self.asking {
            return;
        }
        self.asking = true;
        let status = self.spec.peer.ask(ObservePeer, PATIENCE);
        ctx.spawn(status.into_actor(self).map(|status, coordinator, ctx| {
            coordinator.asking = false;
            // A peer that is being restarted does not lead.
            coordinator.take_leadership(status.ok(), ctx);
        }));
    }

    fn take_leadership(&mut self, status: Option<PeerStatus>, ctx: &mut Context<Self>) {
        self.leads = status.as_ref().is_some_and(|status| status.status.role == "leader");
        self.leader = status.and_then(|status| status.status.leader);
        if !self.leads {
            self.leave("this node does not lead any more");
        } else if self.office.is_none() && !self.entering {
            self.enter(ctx);
        }
    }

    fn enter(&mut self, ctx: &mut Context<Self>) {
        self.entering = true;
        let (store, node) = (self.spec.store.clone(), self.spec.node);
        let entered = async move {
            let journal = Journal::enter(store, node).await?;
            let (jobs, highest) = journal.load().await?;
            Ok::<_, StoreError>((journal, jobs, highest))
        };
        ctx.spawn(entered.into_actor(self).map(|entered, coordinator, ctx| {
            coordinator.entering = false;
            match entered {
                Ok((journal, jobs, highest)) if coordinator.leads => {
                    tracing::info!(
                        token = journal.token(),
                        jobs = jobs.len(),
                        "in office as MapReduce coordinator"
                    );
                    let now = coordinator.spec.clock.now();
                    let office = Office::new(journal, coordinator.spec.patience, now, jobs, highest);
                    coordinator.office = Some(office);
                    coordinator.pump(ctx);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(%error, "cannot enter the office of MapReduce coordinator"),
            }
        }));
    }

    /// Whoever waits for an answer is sent on to the next coordinator.
    fn leave(&mut self, why: &str) {
        if self.office.take().is_some() {
            tracing::info!(why, "out of office as MapReduce coordinator");
        }
    }

    /// Takes in what has arrived, unless records are being written.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        let (now, wall) = (self.spec.clock.now(), (self.spec.wall_clock)());
        let Some(writes) = self.office.as_mut().and_then(|office| office.pump(now, wall)) else { return };
        let token = self.office.as_ref().map(Office::token);
        ctx.spawn(writes.perform().into_actor(self).map(move |written, coordinator, ctx| {
            // What an earlier term of office wrote says nothing to this one, which has read it.
            let Some(office) = coordinator.office.as_mut().filter(|office| Some(office.token()) == token)
            else {
                return;
            };
            match written {
                Ok(written) => {
                    office.written(coordinator.spec.clock.now(), written);
                    coordinator.pump(ctx);
                }
                Err(error) => coordinator.leave(&error.to_string()),
            }
        }));
    }

    fn refuse(&self, asks: VecDeque<Asked>) {
        for (caller, _) in asks {
            let error = match self.leads {
                true => ServerError::Busy { limit: "MapReduce coordinator's start".to_owned() },
                false => ServerError::NotLeader { leader: self.leader },
            };
            caller.answer(Err(error));
        }
    }
}

impl Actor for CoordinatorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.look_around(ctx);
        ctx.run_interval(TICK, |coordinator, ctx| {
            coordinator.look_around(ctx);
            coordinator.pump(ctx);
        });
    }
}

impl Handler<Incoming> for CoordinatorActor {
    type Result = ();

    fn handle(&mut self, mut incoming: Incoming, ctx: &mut Self::Context) {
        let mut asks = VecDeque::new();
        while let Some(ask) = incoming.take() {
            // All of it may be asked again without harm, so whoever is dropped asks again.
            let caller = Caller::new(ask.reply, ask.request.id, Kind::Read);
            match ask.request.body {
                RequestBody::MapReduce(request) => asks.push_back((caller, request)),
                _ => caller.answer(Err(ServerError::Invalid("not for a coordinator".to_owned()))),
            }
        }
        match &mut self.office {
            Some(office) => office.take_in(asks),
            None => return self.refuse(asks),
        }
        self.pump(ctx);
    }
}
