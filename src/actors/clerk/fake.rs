//! Nodes that only pretend: they share a map, answer at once, and obey their test.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use crate::logic::ids::NodeId;
use crate::logic::kv::command::{
    Change, Changed, Command, Expect, KvError, Pair, Query, Reply, SessionId, Version,
};
use crate::messages::admin::{AdminReply, AdminRequest, NodeStatus};
use crate::messages::client::{Answer, Request, RequestBody, Response, ServerError};
use crate::messages::wire::Packet;
use crate::net::faults::LinkFaults;
use crate::net::handshake::{Identity, anybody};
use crate::net::listener::Listener;
use crate::net::opening::accept;
use crate::net::transport::Transport;
use crate::net::{NetSettings, Outbound, QuietLog};

/// The nodes.
#[derive(Default)]
pub(crate) struct FakeCluster {
    /// Who leads.
    pub leader: Cell<u64>,
    /// Who reads requests and does not answer.
    pub silent: Cell<u64>,
    /// Requests that reached the leader.
    pub asked: Cell<u64>,
    /// Sessions opened and not closed.
    pub sessions: Cell<u64>,
    data: RefCell<BTreeMap<Bytes, (Bytes, Version)>>,
}

impl FakeCluster {
    /// A cluster led by node 1.
    pub fn new() -> Rc<Self> {
        let cluster = Rc::new(FakeCluster::default());
        cluster.leader.set(1);
        cluster
    }

    /// Starts a node on the current thread. `nodes`: what it tells of the others. Returns its address.
    pub async fn serve(
        self: &Rc<Self>,
        node: u64,
        address: &str,
        transport: &Arc<dyn Transport>,
        nodes: Vec<(NodeId, String)>,
    ) -> String {
        let settings = NetSettings::default();
        let listener = Listener::bind(&**transport, address, &settings).await.expect("the address is free");
        let address = listener.local_address();
        let cluster = self.clone();
        tokio::task::spawn_local(listener.run(move |accepted| {
            let (cluster, nodes, settings) = (cluster.clone(), nodes.clone(), settings.clone());
            tokio::task::spawn_local(async move {
                let me = Identity { cluster: "fake".into(), node: NodeId(node), store: node };
                let log = QuietLog::default();
                let opened = accept(accepted.stream, &me, nodes, &anybody, None, &settings, &log).await;
                let Ok(connection) = opened else { return };
                let outbound = Outbound::new(&settings, true);
                let answer = |packets: Vec<Packet>| {
                    for packet in packets {
                        let Packet::Request(request) = packet else { return Err("no request".to_owned()) };
                        if let Some(result) = cluster.answer(node, &request) {
                            let response = Response { id: request.id, result };
                            outbound.try_send(response).map_err(|error| error.to_string())?;
                        }
                    }
                    Ok(())
                };
                connection.run(&outbound, &LinkFaults::new(0), answer).await;
            });
        }));
        address
    }

    fn answer(&self, node: u64, request: &Request) -> Option<Result<Answer, ServerError>> {
        if self.silent.get() == node {
            return None;
        }
        if let RequestBody::Admin(request) = &request.body {
            return Some(admin(node, request));
        }
        let leader = self.leader.get();
        if leader != node {
            return Some(Err(ServerError::NotLeader { leader: Some(NodeId(leader)) }));
        }
        self.asked.set(self.asked.get() + 1);
        let outcome = match &request.body {
            RequestBody::Write { command, .. } => self.write(request, command),
            RequestBody::Read { query, .. } => self.read(query),
            RequestBody::Admin(_) => unreachable!("answered above"),
            RequestBody::MapReduce(_) => unreachable!("no test asks for it"),
        };
        Some(outcome.map(Answer::Kv).map_err(ServerError::Refused))
    }

    fn write(&self, request: &Request, command: &Command) -> Result<Reply, KvError> {
        match command {
            Command::OpenSession => {
                self.sessions.set(self.sessions.get() + 1);
                let session = SessionId { group: request.group, index: self.asked.get() };
                Ok(Reply::Session { session, ttl_ms: 30_000, window: 1024 })
            }
            Command::CloseSession => {
                self.sessions.set(self.sessions.get() - 1);
                Ok(Reply::Done)
            }
            Command::Change(change) => self.change(change).map(Reply::Changed),
            _ => Ok(Reply::Done),
        }
    }

    fn change(&self, change: &Change) -> Result<Changed, KvError> {
        let mut data = self.data.borrow_mut();
        match change {
            Change::Put { key, value, expect, .. } => {
                let actual = data.get(key).map_or(0, |found| found.1);
                match expect {
                    Expect::Version(version) if *version != actual => {
                        return Err(if actual == 0 { KvError::NoKey } else { KvError::Version { actual } });
                    }
                    Expect::Absent if actual > 0 => return Err(KvError::Version { actual }),
                    _ => {}
                }
                data.insert(key.clone(), (value.clone(), actual + 1));
                Ok(Changed::Version(actual + 1))
            }
            Change::Append { key, value, .. } => {
                let entry = data.entry(key.clone()).or_default();
                *entry = ([&entry.0[..], value].concat().into(), entry.1 + 1);
                Ok(Changed::Version(entry.1))
            }
            Change::Delete { key, .. } => Ok(Changed::Deleted { existed: data.remove(key).is_some() }),
            Change::Check { .. } | Change::Fence { .. } => Ok(Changed::Held),
        }
    }

    fn read(&self, query: &Query) -> Result<Reply, KvError> {
        let data = self.data.borrow();
        match query {
            Query::Get { key } => {
                let (value, version) = data.get(key).cloned().ok_or(KvError::NoKey)?;
                Ok(Reply::Value { value, version })
            }
            Query::Prefix { prefix, after, max_keys, .. } => {
                let wanted =
                    |key: &Bytes| key.starts_with(prefix) && after.as_ref().is_none_or(|after| key > after);
                let pair = |(key, (value, version)): (&Bytes, &(Bytes, Version))| Pair {
                    key: key.clone(),
                    value: value.clone(),
                    version: *version,
                };
                let mut pairs: Vec<_> = data.iter().filter(|(key, _)| wanted(key)).map(pair).collect();
                let more = *max_keys > 0 && pairs.len() > *max_keys as usize;
                if more {
                    pairs.truncate(*max_keys as usize);
                }
                let cursor = pairs.last().filter(|_| more).map(|pair| pair.key.clone());
                Ok(Reply::Pairs { pairs, cursor })
            }
            Query::Range { .. } | Query::Lock { .. } | Query::Turn { .. } => Ok(Reply::Done),
        }
    }
}

fn admin(node: u64, request: &AdminRequest) -> Result<Answer, ServerError> {
    let reply = match request {
        AdminRequest::Status => AdminReply::Status(NodeStatus {
            node: NodeId(node),
            version: "fake".into(),
            uptime_ms: 1,
            restarts: 0,
            disk_bytes: 0,
            groups: Vec::new(),
        }),
        _ => AdminReply::Done,
    };
    Ok(Answer::Admin(Box::new(reply)))
}
