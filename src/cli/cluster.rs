//! Finding the cluster and asking it.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;

use super::text::parse_duration;
use crate::logic::clerk::{ClerkError, Op};
use crate::logic::ids::{GroupId, NodeId};
use crate::logic::kv::command::{Command, Query, Reply};
use crate::logic::kv::limits::caps;
use crate::messages::admin::{AdminReply, AdminRequest};
use crate::messages::client::{Answer, Consistency};
use crate::node::client::{Client, ClientOptions, Fence};
use crate::node::config::Config;
use crate::node::exit::{self, Failure};

/// Addresses of nodes, separated by commas; what `--endpoints` overrides.
pub(super) const ENDPOINTS_VARIABLE: &str = "QUORATE_ENDPOINTS";

/// How long ending a session may take.
const PARTING: Duration = Duration::from_millis(250);

/// Which cluster is asked, and how.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterArgs {
    /// Addresses of some nodes of the cluster, separated by commas [env: QUORATE_ENDPOINTS]
    #[arg(
        long,
        global = true,
        value_name = "HOST:PORT,...",
        value_delimiter = ',',
        conflicts_with = "config"
    )]
    endpoints: Vec<String>,
    /// Take the addresses from this configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Give up after this long (250ms, 30s, 5m)
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    pub(super) timeout: Duration,
    /// Which Raft group to ask
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) group: u32,
    /// Write without a session: one round trip less, but a lost answer is reported as "maybe"
    #[arg(long, global = true)]
    pub(super) stateless: bool,
    /// Output for programs: JSON on standard output, errors too
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Reads a node's number: `2` or `n2`.
pub(super) fn parse_node(text: &str) -> Result<NodeId, String> {
    match text.strip_prefix('n').unwrap_or(text).parse() {
        Ok(id) if id > 0 => Ok(NodeId(id)),
        _ => Err(format!("{text:?} is not a node; write its number, such as 2 or n2")),
    }
}

/// Where a cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Addresses to dial.
    pub(super) endpoints: Vec<String>,
    /// Name and nodes of the cluster, where a configuration tells them.
    pub(super) known: Option<(String, Vec<(NodeId, String)>)>,
}

impl Target {
    pub(super) fn of(config: &Config) -> Self {
        let nodes = config.cluster.nodes.iter().map(|node| (node.id, node.address.clone()));
        let nodes: Vec<(NodeId, String)> = nodes.collect();
        let endpoints = nodes.iter().map(|(_, address)| address.clone()).collect();
        Self { endpoints, known: Some((config.cluster.id.clone(), nodes)) }
    }

    fn at(endpoints: Vec<String>) -> Result<Self, Failure> {
        for endpoint in &endpoints {
            let parts = endpoint.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            let port = parts.and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_none_or(|port| port == 0) {
                return Err(Failure::usage(format!(
                    "{endpoint:?} is no endpoint; write HOST:PORT,HOST:PORT,..."
                )));
            }
        }
        Ok(Self { endpoints, known: None })
    }
}

impl ClusterArgs {
    /// Where the cluster is: `--endpoints`, else `--config`, else the environment, else the local nodes.
    pub(super) fn target(&self, environment: Option<String>) -> Result<Target, Failure> {
        if !self.endpoints.is_empty() {
            return Target::at(self.endpoints.iter().map(|endpoint| endpoint.trim().to_string()).collect());
        }
        if let Some(path) = &self.config {
            return Ok(Target::of(&Config::load(path)?));
        }
        match environment.filter(|endpoints| !endpoints.is_empty()) {
            Some(endpoints) => {
                Target::at(endpoints.split(',').map(|endpoint| endpoint.trim().to_string()).collect())
            }
            None => Ok(Target::of(&Config::local())),
        }
    }
}

impl ClusterArgs {
    /// Connects to the cluster, does the work, and ends the session.
    pub(super) fn run<T>(
        &self,
        work: impl AsyncFnOnce(&Cluster) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let target = self.target(std::env::var(ENDPOINTS_VARIABLE).ok())?;
        // One thread for the caller, the clerk and its connections: nothing here is worth a hop between threads.
        actix::System::new().block_on(async {
            let cluster = Cluster::connect(target, self.timeout, self.stateless).await?;
            let cluster = cluster.group(GroupId(self.group));
            let result = work(&cluster).await;
            cluster.close().await;
            result
        })
    }
}

/// A cluster that can be asked.
pub(super) struct Cluster {
    client: Client,
    target: Target,
    stateless: bool,
}

impl Cluster {
    /// A client on this thread. Nothing is dialled before the first question.
    pub(super) async fn connect(target: Target, timeout: Duration, stateless: bool) -> Result<Self, Failure> {
        let mut options = ClientOptions::new(target.endpoints.clone());
        options.cluster = target.known.as_ref().map(|(id, _)| id.clone()).unwrap_or_default();
        options.deadline = Some(timeout);
        options.stateless = stateless;
        let client = Client::local(options).await.map_err(explain)?;
        Ok(Self { client, target, stateless })
    }

    /// The same, asking another group.
    pub(super) fn group(self, group: GroupId) -> Self {
        Self { client: self.client.with_group(group), ..self }
    }

    /// What asks, for those who ask often.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The same, whose changes are made under a lock.
    pub(super) fn fenced(&self, fence: Option<Fence>) -> Client {
        fence.map_or_else(|| self.client.clone(), |fence| self.client.fenced(fence))
    }

    /// Where it was found.
    pub(super) fn endpoints(&self) -> &[String] {
        &self.target.endpoints
    }

    /// Changes something.
    pub(super) async fn write(&self, command: Command) -> Result<Reply, Failure> {
        self.reply(Op::Write(command)).await
    }

    /// Asks something; `node` chooses who answers a stale read.
    pub(super) async fn read(
        &self,
        query: Query,
        consistency: Consistency,
        node: Option<NodeId>,
    ) -> Result<Reply, Failure> {
        self.reply(Op::Read { query, consistency, node }).await
    }

    /// Asks or tells a node itself; `None`: any, or for a transfer the leader.
    pub(super) async fn admin(
        &self,
        request: AdminRequest,
        node: Option<NodeId>,
    ) -> Result<AdminReply, Failure> {
        self.question(request, node, explain).await
    }

    /// Asks a node something about itself. What a failure means to the user is said elsewhere: here it is one of many.
    pub(super) async fn ask(&self, request: AdminRequest, node: NodeId) -> Result<AdminReply, Failure> {
        let told = |error| match error {
            ClerkError::Timeout { cause, .. } => {
                Failure::new(exit::UNAVAILABLE, format!("no answer in time: {cause}"))
            }
            error => explain(error),
        };
        self.question(request, Some(node), told).await
    }

    async fn question(
        &self,
        request: AdminRequest,
        node: Option<NodeId>,
        told: fn(ClerkError) -> Failure,
    ) -> Result<AdminReply, Failure> {
        match self.client.call(Op::Admin { request, node }).await.map_err(told)? {
            Answer::Admin(reply) => Ok(*reply),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits, up to the timeout, until a group answers a linearizable read: it then has a leader that a majority
    /// follows.
    pub(super) async fn probe(&self, group: GroupId) -> Result<(), Failure> {
        let query = Query::Get { key: Bytes::from_static(b"ready?") };
        let op = Op::Read { query, consistency: Consistency::Linearizable, node: None };
        match self.client.with_group(group).call(op).await {
            Ok(_) | Err(ClerkError::NotFound) => Ok(()),
            Err(error) => Err(explain(error)),
        }
    }

    /// The nodes of the cluster: from the configuration where there is one, else from a node that answers.
    pub(super) async fn nodes(&self) -> Result<Vec<(NodeId, String)>, Failure> {
        if let Some((_, nodes)) = &self.target.known {
            return Ok(nodes.clone());
        }
        self.admin(AdminRequest::Status, None).await?;
        let nodes = self.client.nodes().await.map_err(explain)?;
        Ok(nodes.into_iter().map(|(node, address, _)| (node, address)).collect())
    }

    /// Ends the session, if there is one. That it fails is no failure of what was done: a session expires by itself.
    pub(super) async fn close(self) {
        if !self.stateless {
            let _ = self.client.with_deadline(PARTING).close().await;
        }
    }

    async fn reply(&self, op: Op) -> Result<Reply, Failure> {
        match self.client.call(op).await.map_err(explain)? {
            Answer::Kv(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }
}

/// What to say of an answer that does not fit the question.
pub(super) fn unexpected(answer: &impl std::fmt::Debug) -> Failure {
    Failure::internal(format!("the node answered something else than was asked: {answer:?}"))
}

/// What a failed call means to the user of the command line, and what to do about it.
pub(super) fn explain(error: ClerkError) -> Failure {
    let (code, message) = match error {
        ClerkError::VersionMismatch { actual: 0 } => {
            (exit::REFUSED, "the key is absent, so it does not have the expected version".into())
        }
        ClerkError::VersionMismatch { actual } => (
            exit::REFUSED,
            format!("the key has version {actual}, not the expected one; read it and decide anew"),
        ),
        ClerkError::Limit { ref limit, max, .. } if max == caps::of(limit) => {
            (exit::REFUSED, format!("{error}, which is fixed in this version"))
        }
        ClerkError::Limit { ref limit, .. } => {
            (exit::REFUSED, format!("{error}; limits.{limit} in the nodes' configuration sets it"))
        }
        ClerkError::LeaseExpired => (
            exit::REFUSED,
            "the lease has expired, or never was; for a new one: quorate lease grant 30s".into(),
        ),
        ClerkError::LockHeld { .. } => (exit::REFUSED, format!("{error}; wait for it, or ask again later")),
        ClerkError::LockLost { .. } => {
            (exit::REFUSED, format!("{error}; nothing was changed: the fence did its work"))
        }
        ClerkError::Timeout { maybe: true, cause } => (
            exit::MAYBE,
            format!(
                "no answer in time ({cause}); the change may or may not have taken effect: read to find out"
            ),
        ),
        ClerkError::Timeout { maybe: false, cause } => (
            exit::UNAVAILABLE,
            format!(
                "no answer in time: {cause}; nothing was changed. Is the cluster running? See `quorate status`"
            ),
        ),
        ClerkError::Maybe => (exit::MAYBE, error.to_string()),
        ClerkError::Unavailable(_) | ClerkError::Overloaded { .. } => (exit::UNAVAILABLE, error.to_string()),
        ClerkError::NotFound | ClerkError::Batch { .. } | ClerkError::Invalid(_) => {
            (exit::REFUSED, error.to_string())
        }
    };
    Failure::new(code, message)
}

/// Runs a few futures side by side on this thread; results in their order.
pub(super) async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<Pin<Box<F>>> = futures.into_iter().map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = running.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in running.iter_mut().zip(&mut results).filter(|(_, result)| result.is_none()) {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
            }
        }
        if results.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(endpoints: &[&str]) -> ClusterArgs {
        ClusterArgs {
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            config: None,
            timeout: Duration::from_secs(5),
            group: 1,
            stateless: false,
            json: false,
        }
    }

    #[test]
    fn the_command_line_goes_before_the_environment_and_that_before_the_local_nodes() {
        let environment = || Some("b:2, c:3".to_string());
        let target = args(&["a:1"]).target(environment()).expect("good");
        assert_eq!(target.endpoints, ["a:1"]);
        let target = args(&["a:1", " b:2 "]).target(environment()).expect("good");
        assert_eq!(target.endpoints, ["a:1", "b:2"]);
        let target = args(&[]).target(environment()).expect("good");
        assert_eq!(target.endpoints, ["b:2", "c:3"]);
        assert_eq!(target.known, None);
        let target = args(&[]).target(Some(String::new())).expect("good");
        assert_eq!(target.endpoints, ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"]);
        for bad in ["a", "a:", "a:0", ":1", ""] {
            assert!(args(&[bad]).target(None).is_err(), "{bad}");
        }
    }

    #[test]
    fn nodes_are_numbers_from_one() {
        assert_eq!(parse_node("2"), Ok(NodeId(2)));
        assert_eq!(parse_node("n2"), Ok(NodeId(2)));
        for bad in ["", "n", "0", "-1", "nn1", "one"] {
            assert!(parse_node(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_limit_names_its_key_unless_no_configuration_raises_it() {
        let message = |limit: &str, max| {
            let error = ClerkError::Limit { limit: limit.into(), what: "it".into(), max, asked: max + 1 };
            explain(error).message
        };
        let configured = message("max_value_bytes", 1000);
        assert!(
            configured.ends_with("; limits.max_value_bytes in the nodes' configuration sets it"),
            "{configured}"
        );
        for fixed in
            [message("max_value_bytes", caps::VALUE_BYTES), message("max_batch_effort", caps::BATCH_EFFORT)]
        {
            assert!(fixed.ends_with(", which is fixed in this version"), "{fixed}");
        }
    }

    #[test]
    fn only_what_is_uncertain_is_a_maybe() {
        let timeout = |maybe| ClerkError::Timeout { maybe, cause: "no leader".into() };
        let codes = [
            (ClerkError::NotFound, exit::REFUSED),
            (ClerkError::VersionMismatch { actual: 3 }, exit::REFUSED),
            (timeout(false), exit::UNAVAILABLE),
            (timeout(true), exit::MAYBE),
            (ClerkError::Maybe, exit::MAYBE),
            (ClerkError::Unavailable("x".into()), exit::UNAVAILABLE),
        ];
        for (error, code) in codes {
            assert_eq!(explain(error.clone()).code, code, "{error:?}");
        }
    }
}
