//! up: a whole cluster on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::cluster::{Cluster, Target};
use super::node::load;
use super::output::Output;
use crate::logic::ids::{GroupId, NodeId};
use crate::node::config::Config;
use crate::node::exit::{self, Failure};
use crate::node::launcher::{Console, Launcher, Notice, Order, Outcome, Settings, check_addresses};
use crate::node::logging::{LAST_WORDS, colours};

/// Run a cluster on this machine, one process a node, until Ctrl-C or SIGTERM.
///
/// Waits until the cluster serves and says how to use it. A node that fails is started again; one whose configuration
/// is refused or whose data are damaged is left down, and the others carry on. What the nodes write is shown on
/// standard error with the node's name in front.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate up                               three nodes, data in ./quorate-data
  quorate up --data /tmp/playground
  quorate up --config config/single.toml   one node
  quorate up --json                        one line of JSON when it serves, for scripts

The configuration is read once, so it may come from a pipe: --config /dev/stdin.

Ctrl-C ends the nodes in order, a second one at once. The data stay.")]
pub(super) struct Args {
    /// Configuration of the cluster; without it, three nodes at 127.0.0.1:7101 to 7103
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the data in DIR/node-1, DIR/node-2, ..., whatever the configuration says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// When the cluster serves, say so in one line of JSON on standard output
    #[arg(long)]
    pub(super) json: bool,
}

/// Everything that can happen while the cluster runs.
enum Event {
    Notice(Notice),
    Signal,
    Ready(Result<(), Failure>),
    Ended(Outcome),
}

struct Up {
    config: Config,
    config_path: Option<PathBuf>,
    json: bool,
    console: Console,
    orders: mpsc::Sender<Order>,
    started: Instant,
    /// Process of every node that runs.
    processes: Vec<(NodeId, u32)>,
    signals: u32,
    failure: Option<Failure>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let started = Instant::now();
        let (config, text) = load(self.config.as_deref(), self.data.as_deref())?;
        check_addresses(&config.cluster.nodes)?;
        let program = std::env::current_exe()
            .map_err(|error| Failure::internal(format!("cannot find the path of this program: {error}")))?;
        let stderr = std::io::stderr();
        let colour = colours(&stderr);
        let console = Console::start(stderr, colour)
            .map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?;
        let (orders, inbox) = mpsc::channel(4);
        let (notify, notices) = mpsc::unbounded_channel();
        let nodes: Vec<NodeId> = config.cluster.nodes.iter().map(|node| node.id).collect();
        let command = node_command(program, text.is_some(), self.data.clone());
        let launcher =
            Launcher::new(&nodes, command, Settings::from(&config.launcher), console.clone(), notify)
                .input(text.unwrap_or_default());
        let last = console.clone();
        let up = Up {
            config,
            config_path: self.config,
            json: self.json,
            console,
            orders,
            started,
            processes: Vec::new(),
            signals: 0,
            failure: None,
        };
        // One thread for everything: the children live only as long as the thread that started them.
        let result = actix::System::new().block_on(up.run(launcher.run(inbox), notices));
        // Whoever reads may have stalled, and the nodes have ended.
        last.flush(LAST_WORDS);
        result
    }
}

/// How glibc is told what it reads once, at the start of a process.
const TUNABLES: &str = "GLIBC_TUNABLES";
/// For a store in memory: huge pages for the heap, since looking a key up costs more in translated addresses than in
/// comparisons, and more freed pieces kept at hand for each thread. Other C libraries ignore it.
const HEAP: &str = "glibc.malloc.hugetlb=1:glibc.malloc.tcache_count=127";

/// The command line of a node: this program again. It is handed the configuration instead of its path, where a pipe may
/// be, which can be read once, or a file that is changed while the cluster runs.
fn node_command(program: PathBuf, configured: bool, data: Option<PathBuf>) -> impl Fn(NodeId) -> Command {
    move |node| {
        let mut command = Command::new(&program);
        if std::env::var_os(TUNABLES).is_none() {
            command.env(TUNABLES, HEAP);
        }
        command.arg("node").arg("--id").arg(node.0.to_string());
        if configured {
            command.args(["--config", "/dev/stdin"]);
        }
        if let Some(path) = &data {
            command.arg("--data").arg(path);
        }
        command
    }
}

/// The signals of a kind that come from now on; they no longer end this process.
pub(super) fn watch(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::internal(format!("cannot watch for signals: {error}")))
}

impl Up {
    async fn run(
        mut self,
        launch: impl Future<Output = Outcome>,
        mut notices: mpsc::UnboundedReceiver<Notice>,
    ) -> Result<u8, Failure> {
        let (mut interrupt, mut terminate) =
            (watch(SignalKind::interrupt())?, watch(SignalKind::terminate())?);
        let ready = serves(&self.config);
        tokio::pin!(launch, ready);
        let mut waiting = true;
        loop {
            let event = tokio::select! {
                biased;
                Some(notice) = notices.recv() => Event::Notice(notice),
                _ = interrupt.recv() => Event::Signal,
                _ = terminate.recv() => Event::Signal,
                outcome = &mut launch => Event::Ended(outcome),
                result = &mut ready, if waiting => Event::Ready(result),
            };
            match event {
                Event::Notice(notice) => self.note(&notice),
                Event::Signal => self.interrupted(),
                Event::Ready(result) => {
                    waiting = false;
                    self.announce(result);
                }
                Event::Ended(outcome) => {
                    while let Ok(notice) = notices.try_recv() {
                        self.note(&notice);
                    }
                    return self.end(&outcome);
                }
            }
        }
    }

    fn note(&mut self, notice: &Notice) {
        match notice {
            Notice::Started { node, pid, .. } => self.processes.push((*node, *pid)),
            Notice::Failed { node, .. } | Notice::LeftDown { node, .. } | Notice::Stopped { node, .. } => {
                self.processes.retain(|(running, _)| running != node);
            }
            Notice::Overdue { .. } => {}
        }
        self.console.say(&notice.to_string());
    }

    fn interrupted(&mut self) {
        self.signals += 1;
        let order = if self.signals == 1 { Order::Stop } else { Order::Kill };
        if self.signals == 1 {
            self.console.say("ending the nodes; once more to kill them");
        }
        // When the launcher has ended already there is nothing to order.
        let _ = self.orders.try_send(order);
    }

    fn announce(&mut self, result: Result<(), Failure>) {
        if self.signals > 0 {
            return;
        }
        match result {
            Ok(()) => self.say_ready(),
            Err(failure) => {
                let message = format!(
                    "the cluster does not serve after {} s: {}; the nodes' lines above say why",
                    self.config.launcher.ready_timeout_s, failure.message
                );
                self.failure = Some(Failure::new(exit::UNAVAILABLE, message));
                let _ = self.orders.try_send(Order::Stop);
            }
        }
    }

    /// On a thread of its own: the cluster does not depend on who listens, or whether they read.
    fn say_ready(&self) {
        let (json, console) = (self.json, self.console.clone());
        let (text, value) = (self.ready_text(), self.ready_json());
        let say = move || {
            let mut out = Output::new(json);
            if let Err(failure) = out.either(text, &value).and_then(|()| out.flush()) {
                console.say(&format!("the cluster serves; {failure}"));
            }
        };
        if std::thread::Builder::new().name("ready".into()).spawn(say).is_err() {
            self.console.say("the cluster serves, but there is no thread to say so");
        }
    }

    fn end(self, outcome: &Outcome) -> Result<u8, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if outcome.left_down.is_empty() {
            return Ok(exit::OK);
        }
        let down: Vec<String> = outcome.left_down.iter().map(ToString::to_string).collect();
        let message = format!("{} had been left down; the lines above say why", down.join(", "));
        Err(Failure::new(exit::REFUSED, message))
    }

    fn ready_json(&self) -> Value {
        let nodes: Vec<Value> = self
            .config
            .cluster
            .nodes
            .iter()
            .map(|node| {
                json!({
                    "id": node.id, "address": node.address, "data_dir": self.config.data_dir(node.id),
                    "pid": self.pid(node.id),
                })
            })
            .collect();
        let endpoints = Target::of(&self.config).endpoints.join(",");
        let seconds = self.started.elapsed().as_secs_f64();
        let cluster = &self.config.cluster.id;
        json!({"ready": true, "cluster": cluster, "endpoints": endpoints, "seconds": seconds, "nodes": nodes})
    }

    fn pid(&self, node: NodeId) -> Option<u32> {
        self.processes.iter().find(|(running, _)| *running == node).map(|(_, pid)| *pid)
    }

    fn ready_text(&self) -> String {
        let mut text = format!(
            "Cluster {:?} serves, {:.1} s after the start:\n",
            self.config.cluster.id,
            self.started.elapsed().as_secs_f64()
        );
        for node in &self.config.cluster.nodes {
            let process = self.pid(node.id).map_or("not running".into(), |pid| format!("process {pid}"));
            let dir = self.config.data_dir(node.id);
            text.push_str(&format!("  {}  {}  {process}  {}\n", node.id, node.address, dir.display()));
        }
        text.push_str("From another terminal:\n");
        let target = Target::of(&self.config);
        if target.endpoints != Target::of(&Config::local()).endpoints {
            text.push_str(&format!("  export QUORATE_ENDPOINTS={}\n", target.endpoints.join(",")));
        }
        text.push_str("  quorate put greeting hello\n  quorate get greeting\n  quorate status\n");
        let source = self
            .config_path
            .as_deref()
            .map_or("it is the built-in one".into(), |path: &Path| format!("it is {}", path.display()));
        text.push_str(&format!("Configuration: {source}. Ctrl-C ends all nodes; their data stay."));
        text
    }
}

/// Waits until every group answers a linearizable read, which takes a leader that a majority follows.
fn serves(config: &Config) -> impl Future<Output = Result<(), Failure>> + use<> {
    let target = Target::of(config);
    let (timeout, groups) = (Duration::from_secs(config.launcher.ready_timeout_s), config.cluster.groups);
    async move {
        let cluster = Cluster::connect(target, timeout, true).await?;
        for group in 1..=groups {
            cluster.probe(GroupId(group)).await?;
        }
        cluster.close().await;
        Ok(())
    }
}
