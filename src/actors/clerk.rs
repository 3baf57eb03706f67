//! The clerk's shell: connections, a clock and callers around [`logic::clerk`](crate::logic::clerk).
//!
//! One clerk keeps one connection to each node. All it knows can be rebuilt: when it crashes, its calls end (their
//! reply channels close), its connections are dropped, and its next life dials anew.
//!
//! There is no timer per call: one coarse timer is armed for the moment the core names, at most every 5 ms.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message, SpawnHandle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::supervision::Fair;
use crate::logic::clerk::{Call, CallId, Clerk, ClerkOptions, EndpointId, Input, Op, Outcome, Output};
use crate::logic::ids::{GroupId, NodeId};
use crate::messages::client::{Request, Response, ServerError};
use crate::messages::wire::{Packet, Welcome};
use crate::net::faults::LinkFaults;
use crate::net::handshake::{anybody, client_hello};
use crate::net::opening::dial;
use crate::net::transport::Transport;
use crate::net::{NetSettings, Outbound, SendError};

/// Timers are not set more finely than this.
const GRAIN: Duration = Duration::from_millis(5);
/// After this many messages in one go the thread's other tasks get their turn.
const TURN: NonZeroU32 = NonZeroU32::new(256).expect("256 is not zero");

/// What a clerk is made of.
#[derive(Clone)]
pub struct ClerkSettings {
    /// How the core behaves.
    pub clerk: ClerkOptions,
    /// Limits and times of connections.
    pub net: NetSettings,
    /// What carries the bytes.
    pub transport: Arc<dyn Transport>,
}

/// A call. The result comes through `reply`; when it closes instead, the clerk has crashed and nobody knows what became
/// of the call. Closing it from the other side gives the call up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Invoke {
    /// The group that is asked.
    pub group: GroupId,
    /// What is asked.
    pub op: Op,
    /// Give up after this long; `None`: never.
    pub deadline: Option<Duration>,
    /// Where the result goes.
    pub reply: oneshot::Sender<Outcome>,
}

/// Which nodes the clerk knows: number, address, and whether it is connected.
#[derive(Debug, Message)]
#[rtype(result = "Vec<(NodeId, String, bool)>")]
pub struct KnownNodes;

/// The actor.
pub struct ClerkActor {
    settings: ClerkSettings,
    clerk: Clerk,
    out: Output,
    born: Instant,
    links: BTreeMap<EndpointId, Link>,
    /// Number of the next link: what an earlier link of the same endpoint still says is not listened to.
    next_link: u64,
    callers: Callers,
    timer: Option<(Duration, SpawnHandle)>,
    fair: Fair,
}

/// A connection, or the attempt at one. Dropping it closes it.
struct Link {
    number: u64,
    outbound: Option<Outbound>,
    task: JoinHandle<()>,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a link's task tells the actor.
#[derive(Message)]
#[rtype(result = "()")]
struct FromLink {
    endpoint: EndpointId,
    number: u64,
    news: News,
}

enum News {
    Up(Welcome, Outbound),
    Responses(Vec<Response>),
    Down(String),
}

/// Those who wait for a result. The place of a caller here is the number of its call.
#[derive(Default)]
struct Callers {
    places: Vec<Option<oneshot::Sender<Outcome>>>,
    free: Vec<usize>,
}

impl Callers {
    fn insert(&mut self, reply: oneshot::Sender<Outcome>) -> CallId {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        self.places[place] = Some(reply);
        CallId(place as u64)
    }

    fn remove(&mut self, call: CallId) -> Option<oneshot::Sender<Outcome>> {
        let place = usize::try_from(call.0).ok()?;
        let reply = self.places.get_mut(place)?.take()?;
        self.free.push(place);
        Some(reply)
    }

    /// Takes out the callers that no longer wait.
    fn take_gone(&mut self) -> Vec<CallId> {
        let gone = |reply: &Option<oneshot::Sender<Outcome>>| reply.as_ref().is_some_and(|r| r.is_closed());
        let places = self.places.iter().enumerate().filter(|(_, reply)| gone(reply));
        let calls: Vec<CallId> = places.map(|(place, _)| CallId(place as u64)).collect();
        calls.iter().for_each(|&call| drop(self.remove(call)));
        calls
    }
}

impl ClerkActor {
    /// A clerk that will dial when it starts.
    pub fn new(settings: ClerkSettings) -> Self {
        ClerkActor {
            clerk: Clerk::new(settings.clerk.clone()),
            settings,
            out: Output::default(),
            born: Instant::now(),
            links: BTreeMap::new(),
            next_link: 0,
            callers: Callers::default(),
            timer: None,
            fair: Fair::every(TURN),
        }
    }

    fn step(&mut self, input: Input) {
        self.clerk.step(self.born.elapsed(), input, &mut self.out);
    }

    /// Does what the core wants done, and sets the timer.
    fn carry_out(&mut self, ctx: &mut Context<Self>) {
        loop {
            for (call, outcome) in self.out.done.drain(..) {
                if let Some(reply) = self.callers.remove(call) {
                    // A caller that no longer waits wants no result.
                    let _ = reply.send(outcome);
                }
            }
            for endpoint in self.out.close.drain(..) {
                self.links.remove(&endpoint);
            }
            for (endpoint, address) in std::mem::take(&mut self.out.dial) {
                self.open(endpoint, address, ctx);
            }
            if self.out.send.is_empty() {
                break;
            }
            // Usually nothing fails, and the vector goes back with its memory.
            let mut requests = std::mem::take(&mut self.out.send);
            for (endpoint, request) in requests.drain(..) {
                self.send(endpoint, request);
            }
            if self.out.send.is_empty() {
                self.out.send = requests;
            }
        }
        self.set_timer(ctx);
    }

    fn send(&mut self, endpoint: EndpointId, request: Request) {
        let id = request.id;
        let outbound = self.links.get(&endpoint).and_then(|link| link.outbound.as_ref());
        let error = match outbound.map_or(Err(SendError::Closed), |outbound| outbound.try_send(request)) {
            Ok(()) => return,
            Err(SendError::TooLarge) => {
                let limit = self.settings.net.max_frame;
                ServerError::Invalid(format!("the request does not fit in a frame of {limit} bytes"))
            }
            Err(SendError::Full) => ServerError::Busy { limit: "queue_bytes of the connection".to_owned() },
            Err(reason @ (SendError::Closed | SendError::Down | SendError::NoRoute)) => {
                self.links.remove(&endpoint);
                return self.step(Input::LinkDown { endpoint, reason: reason.to_string() });
            }
        };
        // Nothing was sent, which is what such an answer means.
        let response = Response { id, result: Err(error) };
        self.step(Input::Response { from: endpoint, response });
    }

    /// Starts a link's task: dials, and runs the connection until it ends.
    fn open(&mut self, endpoint: EndpointId, address: String, ctx: &mut Context<Self>) {
        let number = self.next_link;
        self.next_link += 1;
        let settings = self.settings.clone();
        let clerk = ctx.address();
        let task = tokio::task::spawn_local(async move {
            let tell = |news| clerk.do_send(FromLink { endpoint, number, news });
            let reason = run_link(&settings, &address, tell).await;
            tell(News::Down(reason));
        });
        self.links.insert(endpoint, Link { number, outbound: None, task });
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let Some(wake) = self.clerk.wake_at() else { return };
        if self.timer.as_ref().is_some_and(|(at, _)| *at <= wake + GRAIN) {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            ctx.cancel_future(handle);
        }
        let now = self.born.elapsed();
        let at = wake.max(now + GRAIN);
        let handle = ctx.run_later(at - now, |clerk, ctx| {
            clerk.timer = None;
            clerk.step(Input::Tick);
            let gone = clerk.callers.take_gone();
            if !gone.is_empty() {
                clerk.step(Input::Abandon(gone));
            }
            clerk.carry_out(ctx);
        });
        self.timer = Some((at, handle));
    }
}

/// Dials and runs one connection; returns why it ended.
async fn run_link(settings: &ClerkSettings, address: &str, tell: impl Fn(News)) -> String {
    let hello = client_hello(&settings.clerk.cluster);
    let dialled = dial(&*settings.transport, address, &hello, None, &anybody, &settings.net).await;
    let (connection, welcome) = match dialled {
        Ok(opened) => opened,
        Err(error) => return error.to_string(),
    };
    let outbound = Outbound::new(&settings.net, true);
    tell(News::Up(welcome, outbound.clone()));
    let sink = |packets: Vec<Packet>| {
        let response = |packet| match packet {
            Packet::Response(response) => Ok(response),
            _ => Err("a client takes only responses".to_owned()),
        };
        tell(News::Responses(packets.into_iter().map(response).collect::<Result<_, _>>()?));
        Ok(())
    };
    connection.run(&outbound, &LinkFaults::new(0), sink).await.to_string()
}

impl Actor for ClerkActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.step(Input::Tick);
        self.carry_out(ctx);
    }
}

impl Handler<Invoke> for ClerkActor {
    type Result = ();

    fn handle(&mut self, invoke: Invoke, ctx: &mut Context<Self>) {
        let Invoke { group, op, deadline, reply } = invoke;
        let id = self.callers.insert(reply);
        self.step(Input::Call(Call { id, group, op, deadline }));
        self.carry_out(ctx);
        self.fair.handled(ctx);
    }
}

impl Handler<KnownNodes> for ClerkActor {
    type Result = Vec<(NodeId, String, bool)>;

    fn handle(&mut self, _: KnownNodes, _: &mut Context<Self>) -> Self::Result {
        self.clerk.nodes()
    }
}

impl Handler<FromLink> for ClerkActor {
    type Result = ();

    fn handle(&mut self, message: FromLink, ctx: &mut Context<Self>) {
        let FromLink { endpoint, number, news } = message;
        let Some(link) = self.links.get_mut(&endpoint).filter(|link| link.number == number) else { return };
        match news {
            News::Up(welcome, outbound) => {
                link.outbound = Some(outbound);
                tracing::debug!(node = %welcome.node, "connected");
                self.step(Input::LinkUp { endpoint, welcome });
            }
            News::Responses(responses) => {
                for response in responses {
                    self.step(Input::Response { from: endpoint, response });
                }
            }
            News::Down(reason) => {
                tracing::debug!(%reason, "a node cannot be reached");
                self.links.remove(&endpoint);
                self.step(Input::LinkDown { endpoint, reason });
            }
        }
        self.carry_out(ctx);
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
