//! The load without the client library: every connection goes straight to the leader and speaks the protocol of
//! `docs/wire.md`, as the programs do that measure other stores. What is measured is then the cluster, and not what the
//! library's routing and retries cost. A client that gets an error stops: the error is counted, and so seen.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::load::{Load, Measured, Shared, put, share};
use crate::cli::cluster::Cluster;
use crate::logic::clerk::ClerkError;
use crate::logic::kv::command::{Command, Query, Reply, SessionId, Stamp};
use crate::messages::client::{Answer, Consistency, Request, RequestBody, Response};
use crate::messages::wire::Packet;
use crate::net::connection::Connection;
use crate::net::faults::LinkFaults;
use crate::net::handshake::{anybody, client_hello};
use crate::net::opening::dial;
use crate::net::transport::TcpTransport;
use crate::net::{NetSettings, Outbound};
use crate::node::exit::{self, Failure};

/// Runs the clients of one thread, on this thread; what is answered within the measured time after `start` is counted.
pub(super) fn run(
    load: &Arc<Load>,
    thread: u64,
    start: Instant,
    shared: &Arc<Shared>,
) -> Result<Measured, Failure> {
    let measured = Rc::new(RefCell::new(Measured::new()));
    let result = actix::System::new().block_on(async {
        let leader = leader(load).await?;
        let conns = share(load.conns, thread, load.threads);
        let clients = share(load.clients, thread, load.threads);
        let mut tasks = Vec::new();
        for number in 0..conns {
            let line = Line {
                load: load.clone(),
                shared: shared.clone(),
                measured: measured.clone(),
                outbound: Outbound::new(&NetSettings::default(), true),
                random: fastrand::Rng::new(),
                start,
                clients: (0..share(clients, number, conns)).map(|_| OneClient::new()).collect(),
            };
            let connection = connect(load, &leader).await?;
            tasks.push(tokio::task::spawn_local(line.run(connection)));
        }
        tokio::time::sleep_until((start + load.measured).into()).await;
        // What is under way is given up, and the sessions expire.
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        Ok(measured.replace(Measured::new()))
    });
    if result.is_err() {
        shared.failed.store(true, Ordering::Relaxed);
    }
    result
}

/// The address of the group's leader.
async fn leader(load: &Load) -> Result<String, Failure> {
    let unknown = || Failure::new(exit::UNAVAILABLE, "the group has no leader at the moment; try again");
    let cluster = Cluster::connect(load.target.clone(), load.timeout, true).await?;
    let nodes = cluster.nodes().await?;
    let status = cluster.client().status(None).await.map_err(crate::cli::cluster::explain)?;
    let group = status.groups.iter().find(|status| status.group == load.group);
    let leader = group.and_then(|group| group.leader).ok_or_else(unknown)?;
    let address = nodes.into_iter().find(|(node, _)| *node == leader);
    address.map(|(_, address)| address).ok_or_else(unknown)
}

async fn connect(load: &Load, address: &str) -> Result<Connection, Failure> {
    let cluster = load.target.known.as_ref().map_or("", |(id, _)| id);
    let (hello, settings) = (client_hello(cluster), NetSettings::default());
    let opened = dial(&TcpTransport, address, &hello, None, &anybody, &settings).await;
    opened
        .map(|(connection, _)| connection)
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("{address}: {error}")))
}

/// A connection and the clients that share it. The number of a request is that of its client.
struct Line {
    load: Arc<Load>,
    shared: Arc<Shared>,
    measured: Rc<RefCell<Measured>>,
    outbound: Outbound,
    random: fastrand::Rng,
    start: Instant,
    clients: Vec<OneClient>,
}

/// One client: a request, its answer, the next request.
struct OneClient {
    session: Option<SessionId>,
    seq: u64,
    asked: Asked,
    sent: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Session,
    Write,
    Read,
}

impl OneClient {
    fn new() -> Self {
        Self { session: None, seq: 0, asked: Asked::Session, sent: Instant::now() }
    }
}

impl Line {
    async fn run(mut self, connection: Connection) {
        let outbound = self.outbound.clone();
        let needs_session = self.load.read_percent < 100 && !self.load.stateless;
        for number in 0..self.clients.len() {
            if needs_session { self.open_session(number) } else { self.next(number) }
        }
        let end = connection.run(&outbound, &LinkFaults::new(0), |packets| self.take(packets)).await;
        self.count(0, Err(format!("the connection ended: {end}")));
    }

    fn take(&mut self, packets: Vec<Packet>) -> Result<(), String> {
        for packet in packets {
            match packet {
                Packet::Response(response) => self.answered(response)?,
                _ => return Err("a client takes only responses".to_owned()),
            }
        }
        Ok(())
    }

    fn answered(&mut self, Response { id, result }: Response) -> Result<(), String> {
        let number = usize::try_from(id).ok().filter(|number| *number < self.clients.len());
        let number = number.ok_or("a response to nothing that was asked")?;
        let client = &mut self.clients[number];
        match (client.asked, result) {
            (Asked::Session, Ok(Answer::Kv(Reply::Session { session, .. }))) => {
                client.session = Some(session)
            }
            (Asked::Write, Ok(Answer::Kv(Reply::Changed(_))))
            | (Asked::Read, Ok(Answer::Kv(Reply::Value { .. }))) => self.count(number, Ok(())),
            (_, Ok(answer)) => {
                self.count(number, Err(format!("not what was asked for: {answer:?}")));
                return Ok(());
            }
            (_, Err(error)) => {
                self.count(number, Err(error.to_string()));
                return Ok(());
            }
        }
        self.next(number);
        Ok(())
    }

    fn count(&mut self, number: usize, outcome: Result<(), String>) {
        let now = Instant::now();
        let OneClient { asked, sent, .. } = self.clients[number];
        self.shared.done.fetch_add(1, Ordering::Relaxed);
        let is_measured = (self.start..self.start + self.load.measured).contains(&now);
        let error = outcome.err().map(ClerkError::Unavailable);
        // An error that stops a client counts whenever it comes.
        if is_measured || error.is_some() {
            self.measured.borrow_mut().count(asked == Asked::Read, now - sent, error.as_ref());
        }
    }

    fn open_session(&mut self, number: usize) {
        let body = RequestBody::Write { stamp: None, command: Command::OpenSession };
        self.ask(number, Asked::Session, body);
    }

    fn next(&mut self, number: usize) {
        let key = self.load.keys[self.random.usize(..self.load.keys.len())].clone();
        if self.random.u8(..100) < self.load.read_percent {
            let consistency = Consistency::Linearizable;
            return self.ask(
                number,
                Asked::Read,
                RequestBody::Read { query: Query::Get { key }, consistency },
            );
        }
        let client = &mut self.clients[number];
        client.seq += 1;
        // Every number below has been answered.
        let seq = client.seq;
        let stamp = client.session.map(|session| Stamp { session, seq, acked_below: seq });
        self.ask(
            number,
            Asked::Write,
            RequestBody::Write { stamp, command: Command::Change(put(&self.load, &key)) },
        );
    }

    fn ask(&mut self, number: usize, asked: Asked, body: RequestBody) {
        let client = &mut self.clients[number];
        (client.asked, client.sent) = (asked, Instant::now());
        let request = Request { id: number as u64, group: self.load.group, body };
        if let Err(error) = self.outbound.try_send(request) {
            self.count(number, Err(error.to_string()));
        }
    }
}
