//! Several nodes in one process, over a network in memory, with jobs.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::logic::mapreduce::coordinator::JobState;
use quorate::logic::mapreduce::job::{Function, Job};
use quorate::logic::mapreduce::record::JobId;
use quorate::mapreduce::builtin;
use quorate::mapreduce::function::Functions;
use quorate::mapreduce::output::OutputDirectory;
use quorate::mapreduce::plan::plan;
use quorate::mapreduce::task::Control;
use quorate::messages::admin::Chaos;
use quorate::net::memory::MemoryNetwork;
use quorate::node::assembly::Node;
use quorate::node::collect::{CollectError, Collecting, collect};
use quorate::node::config::{ClusterNode, Config};
use quorate::{Client, ClientOptions};

use super::text;

/// Nodes on this thread; their tasks have threads of their own.
pub struct Embedded {
    network: MemoryNetwork,
    config: Config,
    nodes: Vec<Node>,
    dir: tempfile::TempDir,
}

/// Runs a test on a thread of its own, as a program with an actix system would.
pub fn alone(test: impl Future<Output = ()>) {
    actix::System::new().block_on(test);
}

fn host(node: NodeId) -> String {
    format!("host-{}", node.0)
}

impl Embedded {
    pub async fn start(count: u64) -> Embedded {
        Embedded::start_with(count, |_| ()).await
    }

    /// Nodes whose configuration is changed before they start.
    pub async fn start_with(count: u64, change: impl FnOnce(&mut Config)) -> Embedded {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::default();
        config.cluster.id = "jobs".into();
        config.mapreduce.enabled = true;
        config.mapreduce.slots = 2;
        config.mapreduce.worker_timeout_ms = 1500;
        config.chaos.enabled = true;
        let node = |id| ClusterNode { id: NodeId(id), address: format!("host-{id}:1"), data_dir: None };
        config.cluster.nodes = (1..=count).map(node).collect();
        config.set_data_root(dir.path());
        change(&mut config);
        let network = MemoryNetwork::new(7);
        let mut nodes = Vec::new();
        for id in (1..=count).map(NodeId) {
            let transport = network.host(&host(id));
            nodes.push(Node::start(&config, id, transport).await.expect("the node starts"));
        }
        let cluster = Embedded { network, config, nodes, dir };
        let client = cluster.client().await;
        cluster
            .within("every worker", async || {
                let workers = client.workers().await.ok()?;
                (workers.len() as u64 == count).then_some(())
            })
            .await;
        cluster
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub async fn client(&self) -> Client {
        let mut options =
            ClientOptions::new(self.config.cluster.nodes.iter().map(|node| node.address.clone()));
        options.transport = self.network.host("user");
        options.attempt_timeout = Duration::from_millis(500);
        options.deadline = Some(Duration::from_secs(30));
        Client::local(options).await.expect("a client starts")
    }

    pub fn job(&self, name: &str, inputs: &[String], reducers: u32) -> Job {
        let job = builtin::job(name, &[], inputs.to_vec(), "out").expect("a job");
        Job { reducers: Some(reducers), ..job }
    }

    pub fn stream(&self, mapper: &str, reducer: &str, inputs: &[String], reducers: u32) -> Job {
        let job =
            Job::new("stream", inputs.to_vec(), Function::command(mapper), Function::command(reducer), "out");
        Job { reducers: Some(reducers), ..job }
    }

    pub async fn submit(&self, client: &Client, job: Job) -> JobId {
        let plan =
            plan(String::new(), job, 2, &Functions::builtin(), &Control::default()).expect("a good job");
        client.submit_job(fastrand::u64(..), plan).await.expect("it is taken")
    }

    /// Collects the output, and returns its lines, sorted.
    pub async fn collect(&self, client: &Client, job: JobId) -> String {
        let collected = self.try_collect(client, job, "out", "user").await;
        text::sorted_output(&collected.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Collects the output in a new directory with this name, as somebody at this host would; where it is.
    pub async fn try_collect(
        &self,
        client: &Client,
        job: JobId,
        name: &str,
        host: &str,
    ) -> Result<PathBuf, CollectError> {
        let path: PathBuf = self.path().join(format!("{name}-{job}"));
        let output = OutputDirectory::create(&path).expect("it is not there yet");
        let (transport, progress) = (self.network.host(host), Arc::new(Collecting::default()));
        let collected = collect(client, transport, job, &output, &progress);
        let collected = tokio::time::timeout(Duration::from_secs(60), collected).await;
        collected.expect("collecting comes to an end").map(|_| path)
    }

    pub async fn ended(&self, client: &Client, job: JobId) -> JobState {
        self.within("the end of the job", async || {
            let state = client.job(job).await.expect("known").survey.state;
            (state != JobState::Running).then_some(state)
        })
        .await
    }

    /// Waits until no worker keeps anything of the job.
    pub async fn forgotten(&self, job: JobId) {
        self.within("nothing left of the job", async || {
            let kept = self.config.cluster.nodes.iter().any(|node| {
                let dir = self.config.data_dir(node.id).join("mapreduce");
                dir.join(format!("job-{job}")).exists()
            });
            (!kept).then_some(())
        })
        .await;
    }

    /// Removes the output of a finished map task from the disk of whoever has it.
    pub fn lose_a_part(&self, job: JobId) {
        self.lose_output_of_map(job, 0);
    }

    /// The same of the first attempt at this map task.
    pub fn lose_output_of_map(&self, job: JobId, map: u32) {
        std::fs::remove_file(self.output_of_map(job, map)).expect("it is gone");
    }

    /// Changes the bytes of the output of the first attempt at this map task.
    pub fn spoil_output_of_map(&self, job: JobId, map: u32, spoil: impl FnOnce(&mut Vec<u8>)) {
        let place = self.output_of_map(job, map);
        let mut bytes = std::fs::read(&place).expect("readable");
        spoil(&mut bytes);
        std::fs::write(place, bytes).expect("written");
    }

    fn output_of_map(&self, job: JobId, map: u32) -> PathBuf {
        let places = self.config.cluster.nodes.iter().map(|node| {
            let dir = self.config.data_dir(node.id).join("mapreduce");
            dir.join(format!("job-{job}/map-{map}.1"))
        });
        places.into_iter().find(|place| place.exists()).expect("somebody has it")
    }

    pub async fn leader(&self, client: &Client) -> NodeId {
        self.within("a leader", async || {
            for node in &self.config.cluster.nodes {
                let status = client.with_deadline(Duration::from_millis(500)).status(node.id).await;
                if status.is_ok_and(|status| status.groups[0].role == "leader") {
                    return Some(node.id);
                }
            }
            None
        })
        .await
    }

    /// Makes the coordinator in office panic; whether it was hit.
    pub async fn crash_coordinator(&self, client: &Client) -> bool {
        let leader = self.leader(client).await;
        let actor = "node/mapreduce/coordinator".to_owned();
        client.chaos(leader, Chaos::Panic { actor }).await.is_ok()
    }

    /// Cuts a node off from all others and from users, or heals that.
    pub fn part(&self, node: NodeId, cut: bool) {
        let others =
            self.config.cluster.nodes.iter().map(|node| host(node.id)).filter(|name| *name != host(node));
        let others: Vec<String> = others.chain(["user".to_owned()]).collect();
        let others: Vec<&str> = others.iter().map(String::as_str).collect();
        self.network.partition(&[&host(node)], &others, cut);
    }

    /// Cuts one host off from one other.
    pub fn keep_apart(&self, one: &str, other: &str) {
        self.network.partition(&[one], &[other], true);
    }

    async fn within<T>(&self, what: &str, look: impl AsyncFn() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}
