//! A cluster of real processes, for tests and measurements: the real binary, started by `quorate up`.
#![allow(dead_code)] // Each test uses its own part of it.

pub mod namespaces;
pub mod nemesis;
pub mod recorder;
pub mod writers;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use quorate::logic::ids::NodeId;
use quorate::messages::admin::NodeStatus;
use quorate::{Client, ClientOptions};
use tokio::net::TcpSocket;

use self::namespaces::Namespaces;

/// A running cluster. Dropping it kills it and removes its data.
pub struct Cluster {
    pub addresses: Vec<String>,
    /// From the start of the binary until it said that it serves.
    pub served_after: Duration,
    dir: tempfile::TempDir,
    run_by: RunBy,
    /// For nodes with a network of their own: the process in whose namespace each is started.
    keepers: BTreeMap<NodeId, u32>,
    /// Keeps the addresses for this cluster while nodes of it are down.
    _reserved: Option<Reserved>,
}

/// Who started the node processes, and starts them again.
enum RunBy {
    /// `quorate up`, which restarts what ends.
    Launcher(Child),
    /// The test itself: a node that ended stays down until [`Cluster::start_node`].
    Test(Mutex<BTreeMap<NodeId, Child>>),
}

impl Cluster {
    /// Starts `nodes` nodes on free ports and waits until they serve. `extra` is added to the configuration.
    pub fn start(nodes: usize, extra: &str) -> Cluster {
        let reserved = Reserved::addresses(nodes);
        let addresses = reserved.addresses.clone();
        let dir = prepare(&addresses, extra);
        let started = Instant::now();
        let log = std::fs::File::create(dir.path().join("log")).expect("the log is created");
        let mut launcher = Command::new(binary())
            .args(["up", "--json", "--config"])
            .arg(dir.path().join("cluster.toml"))
            .arg("--data")
            .arg(dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let stdout = launcher.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("stdout is readable");
        let served_after = started.elapsed();
        let run_by = RunBy::Launcher(launcher);
        let keepers = BTreeMap::new();
        let cluster = Cluster { addresses, served_after, dir, run_by, keepers, _reserved: Some(reserved) };
        assert!(line.contains("\"endpoints\""), "the cluster did not serve: {line}\n{}", cluster.log());
        cluster
    }

    /// Starts `nodes` nodes without a launcher, so that a node that is killed stays down until it is started again.
    pub async fn start_apart(nodes: usize, extra: &str) -> Cluster {
        let reserved = Reserved::addresses(nodes);
        let mut cluster = Self::start_at(reserved.addresses.clone(), BTreeMap::new(), extra).await;
        cluster._reserved = Some(reserved);
        cluster
    }

    /// The same in the namespaces of a router, which the calling thread has entered.
    pub async fn start_in(namespaces: &Namespaces, extra: &str) -> Cluster {
        let addresses = namespaces.addresses();
        let nodes = (1..=addresses.len() as u64).map(NodeId);
        let keepers = nodes.map(|node| (node, namespaces.keeper(node))).collect();
        Self::start_at(addresses, keepers, extra).await
    }

    async fn start_at(addresses: Vec<String>, keepers: BTreeMap<NodeId, u32>, extra: &str) -> Cluster {
        let dir = prepare(&addresses, extra);
        let started = Instant::now();
        let run_by = RunBy::Test(Mutex::default());
        let served_after = Duration::ZERO;
        let mut cluster = Cluster { addresses, served_after, dir, run_by, keepers, _reserved: None };
        for node in cluster.nodes() {
            cluster.start_node(node);
        }
        let client = cluster.client().await.with_deadline(Duration::from_secs(30));
        let served = client.get("any").await;
        assert!(served.is_ok(), "the cluster did not serve: {served:?}\n{}", cluster.log());
        cluster.served_after = started.elapsed();
        cluster
    }

    /// Starts the process of a node of a cluster without a launcher.
    ///
    /// # Panics
    /// When the node runs.
    pub fn start_node(&self, node: NodeId) {
        let path = self.dir.path();
        let log = std::fs::OpenOptions::new().create(true).append(true).open(path.join("log"));
        let mut command = match self.keepers.get(&node) {
            None => Command::new(binary()),
            Some(keeper) => {
                let mut command = Command::new("nsenter");
                command.args(["-t", &keeper.to_string(), "-n", "--"]).arg(binary());
                command
            }
        };
        command.args(["node", "--id", &node.0.to_string(), "--config"]).arg(path.join("cluster.toml"));
        command.arg("--data").arg(path.join("data"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log.expect("the log is opened"));
        let RunBy::Test(children) = &self.run_by else { panic!("the launcher starts the nodes") };
        let child = command.spawn().expect("the binary starts");
        let old = children.lock().expect("nobody panics with it").insert(node, child);
        assert!(old.is_none(), "{node} was started while it runs");
    }

    /// Starts every node again whose process has ended. With a launcher there is nothing to do.
    pub fn revive(&self) {
        let RunBy::Test(children) = &self.run_by else { return };
        for node in self.nodes() {
            let mut children = children.lock().expect("nobody panics with it");
            let ended = |child: &mut Child| child.try_wait().expect("an own child can be asked").is_some();
            if children.get_mut(&node).is_some_and(ended) {
                children.remove(&node);
                drop(children);
                self.start_node(node);
            }
        }
    }

    /// Kills a node of a cluster without a launcher, as `kill -9` does, and returns when it is gone.
    pub fn kill_node(&mut self, node: NodeId) {
        let RunBy::Test(children) = &mut self.run_by else { panic!("the launcher owns the nodes") };
        let children = children.get_mut().expect("nobody panics with it");
        let mut child = children.remove(&node).expect("the node runs");
        child.kill().expect("an own child can be killed");
        child.wait().expect("an own child can be waited for");
    }

    /// Waits until a node of a cluster without a launcher has ended by itself, and returns its exit code.
    pub async fn ended(&self, node: NodeId) -> Option<i32> {
        let RunBy::Test(children) = &self.run_by else { panic!("the launcher owns the nodes") };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            {
                let mut children = children.lock().expect("nobody panics with it");
                let child = children.get_mut(&node).expect("the node was started");
                if let Some(status) = child.try_wait().expect("an own child can be asked") {
                    children.remove(&node);
                    return status.code();
                }
            }
            assert!(Instant::now() < deadline, "{node} did not end\n{}", tail(&self.log(), 60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + use<> {
        (1..=self.addresses.len() as u64).map(NodeId)
    }

    pub fn options(&self) -> ClientOptions {
        ClientOptions::new(self.addresses.clone())
    }

    pub async fn client(&self) -> Client {
        Client::connect(self.options()).await.expect("a client starts")
    }

    pub fn data_dir(&self, node: NodeId) -> PathBuf {
        self.dir.path().join("data").join(format!("node-{}", node.0))
    }

    /// What the launcher and the nodes have written.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The process of a node, if it runs: found by its command line, because the launcher restarts processes.
    pub fn pid(&self, node: NodeId) -> Option<i32> {
        let data = self.dir.path().join("data").to_string_lossy().into_owned();
        let id = node.0.to_string();
        for entry in std::fs::read_dir("/proc").ok()?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { continue };
            let words: Vec<_> = line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
            let is_node = words.get(1).is_some_and(|word| word == "node");
            let is_this = words.windows(2).any(|pair| pair[0] == "--id" && pair[1] == id);
            if is_node && is_this && words.contains(&data.as_str().into()) {
                return Some(pid);
            }
        }
        None
    }

    /// Sends a signal to a node's process; whether it was there.
    pub fn signal(&self, node: NodeId, signal: i32) -> bool {
        match self.pid(node) {
            // SAFETY: kill takes plain numbers.
            Some(pid) => unsafe { libc::kill(pid, signal) == 0 },
            None => false,
        }
    }

    /// The states of all nodes, once every replica of group 1 has applied the same index.
    ///
    /// # Panics
    /// When that does not come about within a minute.
    pub async fn settled(&self, client: &Client) -> Vec<NodeStatus> {
        let client = client.with_deadline(Duration::from_secs(5));
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut last = Vec::new();
        while Instant::now() < deadline {
            last.clear();
            for node in self.nodes() {
                if let Ok(status) = client.status(node).await {
                    last.push(status);
                }
            }
            let applied: Vec<_> = last.iter().map(|s| (s.groups[0].applied, s.groups[0].last)).collect();
            let equal = applied.windows(2).all(|pair| pair[0] == pair[1]);
            if last.len() == self.addresses.len() && equal && applied.iter().all(|(a, l)| a == l) {
                return last;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the replicas did not settle: {last:#?}\n{}", tail(&self.log(), 60));
    }

    /// Waits until the node answers about itself, with an uptime that shows that it was started after `since`.
    pub async fn back_up(&self, client: &Client, node: NodeId, since: Instant) {
        let client = client.with_deadline(Duration::from_secs(2));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = client.status(node).await;
            if status.is_ok_and(|status| Duration::from_millis(status.uptime_ms) < since.elapsed()) {
                return;
            }
            assert!(Instant::now() < deadline, "{node} did not come back\n{}", tail(&self.log(), 60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a node has applied what the others had committed when this was called.
    pub async fn settled_while_writing(&self, client: &Client, node: NodeId) {
        let client = client.with_deadline(Duration::from_secs(2));
        let mut target = 0;
        for other in self.nodes() {
            target = target.max(client.status(other).await.map_or(0, |status| status.groups[0].commit));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let status = client.status(node).await;
            if status.as_ref().is_ok_and(|status| status.groups[0].applied >= target) {
                return;
            }
            assert!(Instant::now() < deadline, "{node} lags: {status:?}\n{}", tail(&self.log(), 60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The leader of group 1, as soon as there is one that the asked nodes agree on.
    pub async fn leader(&self, client: &Client) -> NodeId {
        let client = client.with_deadline(Duration::from_secs(2));
        for _ in 0..600 {
            for node in self.nodes() {
                if let Ok(status) = client.status(node).await
                    && status.groups[0].role == "leader"
                {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("there is no leader\n{}", tail(&self.log(), 60));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes() {
            self.signal(node, libc::SIGCONT);
        }
        let children: Vec<&mut Child> = match &mut self.run_by {
            RunBy::Launcher(launcher) => vec![launcher],
            RunBy::Test(children) => {
                children.get_mut().expect("nobody panics with it").values_mut().collect()
            }
        };
        for child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The binary under test; `QUORATE_BINARY` names another one, such as a release build.
fn binary() -> PathBuf {
    std::env::var_os("QUORATE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_quorate").into(), PathBuf::from)
}

/// A directory with the configuration of a cluster at these addresses.
fn prepare(addresses: &[String], extra: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let text = config_text(addresses, extra);
    std::fs::write(dir.path().join("cluster.toml"), text).expect("the configuration is written");
    dir
}

/// The id of this process's clusters. Test programs that run side by side may draw the same port; with the same id, the
/// clients of one could come to the nodes of the other unnoticed.
pub fn cluster_id() -> String {
    format!("test-{}", std::process::id())
}

fn config_text(addresses: &[String], extra: &str) -> String {
    let mut text = format!("[cluster]\nid = \"{}\"\n", cluster_id());
    for (number, address) in addresses.iter().enumerate() {
        text.push_str(&format!("[[cluster.nodes]]\nid = {}\naddress = \"{address}\"\n", number + 1));
    }
    text + extra
}

/// Addresses that nobody else is given while this lives, also while nobody listens at them.
///
/// A port that was only looked up and let go of may be drawn by a test program that runs beside this one, while the
/// node that it is meant for is down. A socket that is bound and does not listen keeps it from being drawn, and lets
/// a node listen, because both allow the address to be used again.
pub struct Reserved {
    pub addresses: Vec<String>,
    _sockets: Vec<TcpSocket>,
}

impl Reserved {
    pub fn addresses(count: usize) -> Reserved {
        let sockets: Vec<_> = (0..count).map(|_| bound_socket()).collect();
        let address = |socket: &TcpSocket| socket.local_addr().expect("a bound address").to_string();
        Reserved { addresses: sockets.iter().map(address).collect(), _sockets: sockets }
    }
}

fn bound_socket() -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an address may be used again");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    socket
}

/// A file of the project.
pub fn project_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}
