//! One request on a connection of its own: the course's Submit, which neither looks for a leader nor repeats anything.

use std::cell::RefCell;
use std::rc::Rc;

use quorate::logic::ids::{GroupId, NodeId};
use quorate::logic::kv::command::{Command, Query, Reply};
use quorate::messages::client::{Answer, Consistency, Request, RequestBody, ServerError};
use quorate::messages::wire::Packet;
use quorate::net::faults::LinkFaults;
use quorate::net::handshake::{anybody, client_hello};
use quorate::net::opening::dial;
use quorate::net::{NetSettings, Outbound};
use tokio::sync::oneshot;

use crate::lab::Lab;

/// The host from which the tester submits. In the course it calls its servers directly: nothing comes in between.
const HOST: &str = "tester";

/// Asks a server. Returns when it answers, or when the connection ends: then nobody knows.
async fn ask(lab: &Lab, server: NodeId, body: RequestBody) -> Result<Reply, ServerError> {
    let unreachable = ServerError::NotLeader { leader: None };
    let transport = lab.cluster.network().host(HOST);
    let settings = NetSettings::default();
    let address = format!("{server}:1");
    let dialled = dial(&*transport, &address, &client_hello(""), None, &anybody, &settings).await;
    let Ok((connection, _)) = dialled else { return Err(unreachable) };
    let outbound = Outbound::new(&settings, true);
    let request = Request { id: 1, group: GroupId(1), body };
    outbound.try_send(request).expect("a new connection has room");
    let (answer, answered) = oneshot::channel();
    let answer = Rc::new(RefCell::new(Some(answer)));
    let sink = |packets: Vec<Packet>| {
        for packet in packets {
            if let (Packet::Response(response), Some(answer)) = (packet, answer.borrow_mut().take()) {
                let _ = answer.send(response.result);
            }
        }
        Ok(())
    };
    let faults = LinkFaults::new(0);
    tokio::select! {
        biased;
        Ok(result) = answered => match result {
            Ok(Answer::Kv(reply)) => Ok(reply),
            Ok(_) => panic!("an answer that does not fit the question"),
            Err(error) => Err(error),
        },
        _ = connection.run(&outbound, &faults, sink) => Err(ServerError::Unknown),
    }
}

/// Submits a command to a server.
pub async fn submit(lab: &Lab, server: NodeId, command: Command) -> Result<Reply, ServerError> {
    ask(lab, server, RequestBody::Write { stamp: None, command }).await
}

/// Looks at what a server has applied.
pub async fn look(lab: &Lab, server: NodeId, key: &'static str) -> Result<Reply, ServerError> {
    let query = Query::Get { key: key.into() };
    ask(lab, server, RequestBody::Read { query, consistency: Consistency::Stale }).await
}
