//! Fetching what other workers hold: one connection to each, for threads that may block.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::task::JoinHandle;

use crate::actors::supervision::Port;
use crate::logic::ids::GroupId;
use crate::logic::mapreduce::report::Work;
use crate::messages::client::{Answer, Request, RequestBody, Response, ServerError};
use crate::messages::mapreduce::{MAX_CHUNK, MapReduceReply, MapReduceRequest};
use crate::messages::wire::Packet;
use crate::net::faults::LinkFaults;
use crate::net::handshake::{anybody, client_hello};
use crate::net::opening::dial;
use crate::net::transport::Transport;
use crate::net::{NetSettings, Outbound};

/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);
/// A worker that gives no answer for so long is asked again.
const ANSWER: Duration = Duration::from_secs(3);
/// Chunks of one file under way at once: enough to keep a connection busy, and a bound on memory.
const WINDOW: usize = 4;
/// Pause before a worker is asked again that was not reached, or is busy.
const PAUSE: Duration = Duration::from_millis(100);

/// Asks the worker at an address.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct AskWorker {
    address: String,
    request: MapReduceRequest,
    /// Dropped without an answer when the worker cannot be reached.
    reply: SyncSender<Result<MapReduceReply, ServerError>>,
}

/// What a shuffle actor is made of.
#[derive(Clone)]
pub struct ShuffleSpec {
    /// The cluster; workers of another are not asked. Empty: any.
    pub cluster: String,
    /// Limits and times of connections.
    pub net: NetSettings,
    /// What carries the bytes.
    pub transport: Arc<dyn Transport>,
}

/// The connections to other workers. All it knows can be rebuilt: whoever waits when it dies asks again.
pub struct Shuffle {
    spec: ShuffleSpec,
    links: BTreeMap<String, Link>,
    next: u64,
}

/// A connection, or the attempt at one. Dropping it closes it, and tells those who wait.
struct Link {
    number: u64,
    outbound: Outbound,
    waiting: BTreeMap<u64, SyncSender<Result<MapReduceReply, ServerError>>>,
    used: Instant,
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
    address: String,
    number: u64,
    /// `None`: the connection has ended.
    responses: Option<Vec<Response>>,
}

impl Shuffle {
    /// Nothing is dialled before somebody asks.
    pub fn new(spec: ShuffleSpec) -> Self {
        Shuffle { spec, links: BTreeMap::new(), next: 0 }
    }

    fn open(&mut self, address: &str, ctx: &mut Context<Self>) {
        self.next += 1;
        let number = self.next;
        let outbound = Outbound::new(&self.spec.net, true);
        let (spec, queue, shuffle) = (self.spec.clone(), outbound.clone(), ctx.address());
        let to = address.to_owned();
        let task = tokio::task::spawn_local(async move {
            let tell = |responses| shuffle.do_send(FromLink { address: to.clone(), number, responses });
            if let Err(reason) = run_link(&spec, &to, &queue, |responses| tell(Some(responses))).await {
                tracing::debug!(address = to, reason, "a worker cannot be reached");
            }
            tell(None);
        });
        let link = Link { number, outbound, waiting: BTreeMap::new(), used: Instant::now(), task };
        self.links.insert(address.to_owned(), link);
    }
}

async fn run_link(
    spec: &ShuffleSpec,
    address: &str,
    outbound: &Outbound,
    tell: impl Fn(Vec<Response>),
) -> Result<(), String> {
    let hello = client_hello(&spec.cluster);
    let dialled = dial(&*spec.transport, address, &hello, None, &anybody, &spec.net).await;
    let (connection, _) = dialled.map_err(|error| error.to_string())?;
    let sink = |packets: Vec<Packet>| {
        let response = |packet| match packet {
            Packet::Response(response) => Ok(response),
            _ => Err("a client takes only responses".to_owned()),
        };
        tell(packets.into_iter().map(response).collect::<Result<_, _>>()?);
        Ok(())
    };
    Err(connection.run(outbound, &LinkFaults::new(0), sink).await.to_string())
}

impl Actor for Shuffle {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(IDLE, |shuffle, _| {
            shuffle.links.retain(|_, link| !link.waiting.is_empty() || link.used.elapsed() < IDLE);
        });
    }
}

impl Handler<AskWorker> for Shuffle {
    type Result = ();

    fn handle(&mut self, ask: AskWorker, ctx: &mut Self::Context) {
        if !self.links.contains_key(&ask.address) {
            self.open(&ask.address, ctx);
        }
        self.next += 1;
        let id = self.next;
        let Some(link) = self.links.get_mut(&ask.address) else { return };
        let request = Request { id, group: GroupId(1), body: RequestBody::MapReduce(ask.request) };
        link.used = Instant::now();
        // What is not taken is dropped with its caller, who asks again.
        if link.outbound.try_send(request).is_ok() {
            link.waiting.insert(id, ask.reply);
        }
    }
}

impl Handler<FromLink> for Shuffle {
    type Result = ();

    fn handle(&mut self, news: FromLink, _: &mut Self::Context) {
        let Some(link) = self.links.get_mut(&news.address).filter(|link| link.number == news.number) else {
            return;
        };
        let Some(responses) = news.responses else {
            self.links.remove(&news.address);
            return;
        };
        for Response { id, result } in responses {
            let Some(waiting) = link.waiting.remove(&id) else { continue };
            let result = match result {
                Ok(Answer::MapReduce(reply)) => Ok(reply),
                Ok(_) => Err(ServerError::Invalid("the answer does not fit the question".to_owned())),
                Err(error) => Err(error),
            };
            // Whoever asked may have given up. There is room for one answer, so this does not block.
            let _ = waiting.try_send(result);
        }
    }
}

/// Why something was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The worker does not answer. It may do so later.
    #[error("{0}")]
    Unreachable(String),
    /// The worker answers, and does not have it.
    #[error("{0}")]
    Gone(String),
    /// Whoever asked has been told to stop.
    #[error("stopped")]
    Stopped,
    /// What was fetched cannot be written here.
    #[error("{0}")]
    Write(std::io::Error),
}

/// What a thread fetches with.
#[derive(Clone)]
pub struct Fetcher {
    /// The actor that holds the connections.
    pub port: Port<AskWorker>,
    /// How long a worker that cannot be reached is waited for: it may just be starting again.
    pub patience: Duration,
}

/// A piece of the output of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The attempt.
    pub work: Work,
    /// Where it begins.
    pub offset: u64,
    /// Its length; `None`: up to the end.
    pub length: Option<u64>,
}

type Waiting = Receiver<Result<MapReduceReply, ServerError>>;

impl Fetcher {
    /// Asks a worker, again and again while it cannot be reached. `go_on` is asked now and then.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub fn ask(
        &self,
        address: &str,
        request: &MapReduceRequest,
        go_on: &dyn Fn() -> bool,
    ) -> Result<MapReduceReply, FetchError> {
        let mut since = Instant::now();
        loop {
            match self.receive(&self.send(address, request.clone())) {
                Err(FetchError::Unreachable(why)) => self.wait(&mut since, why, address, go_on)?,
                outcome => return outcome,
            }
        }
    }

    /// Fetches a piece, and hands it to `out` in order. Returns its length.
    ///
    /// # Errors
    /// See [`FetchError`]; what was handed out before stands.
    pub fn fetch(
        &self,
        address: &str,
        piece: Piece,
        out: &mut dyn Write,
        go_on: &dyn Fn() -> bool,
    ) -> Result<u64, FetchError> {
        let mut done = 0;
        let mut since = Instant::now();
        loop {
            let before = done;
            match self.stream(address, piece, &mut done, out, go_on) {
                Err(FetchError::Unreachable(why)) => {
                    if done > before {
                        since = Instant::now();
                    }
                    self.wait(&mut since, why, address, go_on)?;
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(done),
            }
        }
    }

    /// Fetches what is left of a piece, several chunks at a time.
    fn stream(
        &self,
        address: &str,
        piece: Piece,
        done: &mut u64,
        out: &mut dyn Write,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), FetchError> {
        let mut end = piece.length;
        let mut asked = *done;
        let mut waiting: std::collections::VecDeque<(Waiting, u64)> = std::collections::VecDeque::new();
        loop {
            // Until the length is known, one chunk is asked for.
            while waiting.len() < WINDOW && end.map_or(waiting.is_empty(), |end| asked < end) {
                let length = end.map_or(u64::from(MAX_CHUNK), |end| (end - asked).min(MAX_CHUNK.into()));
                let chunk = u32::try_from(length).expect("at most MAX_CHUNK");
                let offset = piece.offset.saturating_add(asked);
                let request = MapReduceRequest::Fetch { work: piece.work, offset, length: chunk };
                waiting.push_back((self.send(address, request), length));
                asked += length;
            }
            let Some((receiver, length)) = waiting.pop_front() else { return Ok(()) };
            if !go_on() {
                return Err(FetchError::Stopped);
            }
            let (bytes, size) = match self.receive(&receiver)? {
                MapReduceReply::Chunk { bytes, size } => (bytes, size),
                MapReduceReply::Gone => return Err(FetchError::Gone(format!("{address} no longer has it"))),
                _ => {
                    return Err(FetchError::Gone(format!("{address} answers something else than was asked")));
                }
            };
            let got = bytes.len() as u64;
            if end.is_none() {
                end = Some(size.saturating_sub(piece.offset));
                asked = asked.min(*done + got);
            }
            let expected = length.min(end.unwrap_or(length).saturating_sub(*done));
            if got != expected {
                return Err(FetchError::Gone(format!(
                    "{address} has {got} bytes where {expected} were written"
                )));
            }
            out.write_all(&bytes).map_err(FetchError::Write)?;
            *done += got;
        }
    }

    fn send(&self, address: &str, request: MapReduceRequest) -> Waiting {
        let (reply, waiting) = sync_channel(1);
        // If nobody takes it, the channel closes, and the answer is that nobody was reached.
        let _ = self.port.tell(AskWorker { address: address.to_owned(), request, reply });
        waiting
    }

    fn receive(&self, waiting: &Waiting) -> Result<MapReduceReply, FetchError> {
        match waiting.recv_timeout(ANSWER) {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(ServerError::Invalid(text))) => Err(FetchError::Gone(text)),
            Ok(Err(error)) => Err(FetchError::Unreachable(error.to_string())),
            Err(RecvTimeoutError::Timeout) => {
                Err(FetchError::Unreachable(format!("no answer for {ANSWER:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(FetchError::Unreachable("no connection".to_owned())),
        }
    }

    fn wait(
        &self,
        since: &mut Instant,
        why: String,
        address: &str,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(), FetchError> {
        if !go_on() {
            return Err(FetchError::Stopped);
        }
        if since.elapsed() >= self.patience {
            return Err(FetchError::Unreachable(format!("the worker at {address} cannot be reached: {why}")));
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }
}
