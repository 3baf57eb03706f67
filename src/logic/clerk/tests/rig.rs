//! A clerk, three endpoints, and hands to play the servers with.

use std::time::Duration;

use bytes::Bytes;

use super::super::*;
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::command::{
    Change, Changed, Command, Expect, KvError, Lifetime, Query, Reply, SessionId, Stamp, Version,
};
use crate::messages::client::{Answer, Consistency, Request, RequestBody, Response, ServerError};
use crate::messages::wire::{PROTOCOL_VERSION, Welcome};

pub const GROUP: GroupId = GroupId(1);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

pub fn put(expect: Expect) -> Op {
    let (key, value) = (key("k"), key("v"));
    Op::Write(Command::Change(Change::Put { key, value, expect, lifetime: Lifetime::Forever }))
}

pub fn append(expect: Expect) -> Op {
    Op::Write(Command::Change(Change::Append { key: key("k"), value: key("v"), expect }))
}

pub fn delete(expect: Expect) -> Op {
    Op::Write(Command::Change(Change::Delete { key: key("k"), expect }))
}

pub fn get() -> Op {
    Op::Read { query: Query::Get { key: key("k") }, consistency: Consistency::Linearizable, node: None }
}

pub fn version(version: Version) -> Result<Answer, ServerError> {
    Ok(Answer::Kv(Reply::Changed(Changed::Version(version))))
}

pub fn done() -> Result<Answer, ServerError> {
    Ok(Answer::Kv(Reply::Done))
}

pub fn refused<T>(error: KvError) -> Result<T, ServerError> {
    Err(ServerError::Refused(error))
}

pub fn not_leader<T>(leader: Option<u64>) -> Result<T, ServerError> {
    Err(ServerError::NotLeader { leader: leader.map(NodeId) })
}

pub fn welcome(node: u64, nodes: &[u64]) -> Welcome {
    Welcome {
        version: PROTOCOL_VERSION,
        cluster: "test".into(),
        node: NodeId(node),
        store: node,
        nodes: nodes.iter().map(|&n| (NodeId(n), address(n))).collect(),
    }
}

pub fn address(node: u64) -> String {
    format!("host{node}:1")
}

pub fn stamp(request: &Request) -> Option<Stamp> {
    match &request.body {
        RequestBody::Write { stamp, .. } => *stamp,
        _ => None,
    }
}

/// A request with the number of the node it was sent to.
pub type Sent = (u64, Request);

pub struct Rig {
    pub clerk: Clerk,
    pub now: Duration,
    pub out: Output,
    /// Endpoint of each dial, by node: addresses name their nodes.
    dials: Vec<(u64, EndpointId)>,
}

impl Rig {
    /// Knows the addresses of nodes 1 to 3; none is up.
    pub fn new(options: ClerkOptions) -> Self {
        let endpoints = vec![address(1), address(2), address(3)];
        let clerk = Clerk::new(ClerkOptions { endpoints, ..options });
        let mut rig = Rig { clerk, now: Duration::ZERO, out: Output::default(), dials: Vec::new() };
        rig.step(Input::Tick);
        rig
    }

    /// Three links up, stateless, and node 1 known to lead.
    pub fn stateless() -> Self {
        let mut rig = Rig::new(ClerkOptions { stateless: true, ..Default::default() });
        rig.all_up();
        rig.settle();
        rig
    }

    /// Three links up, node 1 leads, and a session is open: index 10, time to live 3 s.
    pub fn session(window: u32) -> Self {
        let mut rig = Rig::new(ClerkOptions::default());
        rig.all_up();
        rig.call(1000, put(Expect::Any), None);
        let open = rig.sent1();
        assert!(matches!(open.1.body, RequestBody::Write { stamp: None, command: Command::OpenSession }));
        rig.answer(&open, opened(10, window));
        let first = rig.sent1();
        rig.answer(&first, version(1));
        assert_eq!(rig.results().len(), 1);
        rig
    }

    pub fn all_up(&mut self) {
        (1..=3).for_each(|node| self.up(node));
    }

    /// Makes node 1 the known leader.
    fn settle(&mut self) {
        self.call(1000, get(), None);
        let request = self.sent1();
        self.answer(&request, refused(KvError::NoKey));
        assert_eq!(request.0, 1);
        assert_eq!(self.results(), [(1000, Err(ClerkError::NotFound))]);
    }

    pub fn step(&mut self, input: Input) {
        self.clerk.step(self.now, input, &mut self.out);
        for (endpoint, address) in self.out.dial.drain(..) {
            let node = (1..=9).find(|&n| address == self::address(n)).expect("a test's address");
            self.dials.retain(|(_, id)| *id != endpoint);
            self.dials.push((node, endpoint));
        }
    }

    pub fn endpoint(&self, node: u64) -> EndpointId {
        self.dials.iter().find(|(n, _)| *n == node).expect("it was dialled").1
    }

    /// Whether the node was ever dialled.
    pub fn dialled(&self, node: u64) -> bool {
        self.dials.iter().any(|(n, _)| *n == node)
    }

    pub fn up(&mut self, node: u64) {
        let endpoint = self.endpoint(node);
        self.step(Input::LinkUp { endpoint, welcome: welcome(node, &[1, 2, 3]) });
    }

    pub fn down(&mut self, node: u64) {
        let endpoint = self.endpoint(node);
        self.step(Input::LinkDown { endpoint, reason: "reset".into() });
    }

    pub fn call(&mut self, id: u64, op: Op, deadline: Option<Duration>) {
        self.step(Input::Call(Call { id: CallId(id), group: GROUP, op, deadline }));
    }

    pub fn answer(&mut self, to: &Sent, result: Result<Answer, ServerError>) {
        let response = Response { id: to.1.id, result };
        self.step(Input::Response { from: self.endpoint(to.0), response });
    }

    /// Lets time pass in ticks of 5 ms.
    pub fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += ms(5);
            self.step(Input::Tick);
        }
    }

    /// Takes what was sent.
    pub fn sent(&mut self) -> Vec<Sent> {
        let node = |id| self.dials.iter().find(|(_, e)| *e == id).expect("it was dialled").0;
        self.out.send.drain(..).map(|(to, request)| (node(to), request)).collect()
    }

    /// Takes the one request that was sent.
    pub fn sent1(&mut self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// Lets time pass until something is sent, and takes it; at most 2 s.
    pub fn next_sent(&mut self) -> Sent {
        for _ in 0..400 {
            if !self.out.send.is_empty() {
                break;
            }
            self.wait(ms(5));
        }
        self.sent1()
    }

    /// Takes the results.
    pub fn results(&mut self) -> Vec<(u64, Outcome)> {
        self.out.done.drain(..).map(|(id, outcome)| (id.0, outcome)).collect()
    }

    /// Takes the one result.
    pub fn result(&mut self) -> Outcome {
        let mut results = self.results();
        assert_eq!(results.len(), 1, "{results:?}");
        results.remove(0).1
    }
}

pub fn opened(index: u64, window: u32) -> Result<Answer, ServerError> {
    Ok(Answer::Kv(Reply::Session { session: SessionId { group: GROUP, index }, ttl_ms: 3000, window }))
}
