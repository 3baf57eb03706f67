//! Nodes in network namespaces: each has a network of its own, and reaches the others through a router, where links
//! are cut for real. Needs the rights of root, `ip` and `nsenter`.
//!
//! The router is a namespace that the calling thread enters for good. Nothing has a name that outlives the test: what is
//! here goes away with the processes.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};

use quorate::logic::ids::NodeId;

use super::nemesis::Wires;

/// The number of our rules in the router's table.
const RULE: &str = "100";

/// A router, and a namespace for each node.
pub struct Namespaces {
    /// Processes that do nothing but keep the namespaces of the nodes.
    keepers: Vec<Child>,
}

impl Namespaces {
    /// Puts the calling thread, and the threads and processes that it starts from now on, into the router, and makes
    /// namespaces for `nodes` nodes.
    ///
    /// # Errors
    /// What this machine does not let us do.
    pub fn enter(nodes: usize) -> Result<Namespaces, String> {
        for tool in ["ip", "nsenter"] {
            let found =
                Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            found.map_err(|error| format!("{tool}: {error}"))?;
        }
        // SAFETY: unshare takes plain flags; it concerns the calling thread alone.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return Err(format!("a namespace of our own: {}", std::io::Error::last_os_error()));
        }
        // A thread sees the settings of its own namespace below this path.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")
            .map_err(|error| format!("forwarding: {error}"))?;
        ip("link set lo up")?;
        let mut namespaces = Namespaces { keepers: Vec::new() };
        for node in 1..=nodes {
            namespaces.add(node)?;
        }
        // Some kernels have no rules; better to know now.
        namespaces.rule("add", NodeId(1), NodeId(2))?;
        namespaces.rule("del", NodeId(1), NodeId(2))?;
        Ok(namespaces)
    }

    fn add(&mut self, node: usize) -> Result<(), String> {
        let mut keeper = Command::new("sleep");
        keeper.arg("infinity").stdin(Stdio::null());
        // SAFETY: only calls that are allowed between fork and exec.
        unsafe {
            keeper.pre_exec(|| {
                let alone = libc::unshare(libc::CLONE_NEWNET) == 0;
                let bound = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0;
                if alone && bound { Ok(()) } else { Err(std::io::Error::last_os_error()) }
            });
        }
        let keeper = keeper.spawn().map_err(|error| format!("a keeper: {error}"))?;
        let pid = keeper.id();
        self.keepers.push(keeper);
        ip(&format!("link add q{node} type veth peer name eth0 netns {pid}"))?;
        ip(&format!("address add 10.77.{node}.1/24 dev q{node}"))?;
        ip(&format!("link set q{node} up"))?;
        for inside in [
            "link set lo up".to_owned(),
            format!("address add 10.77.{node}.2/24 dev eth0"),
            "link set eth0 up".to_owned(),
            format!("route add default via 10.77.{node}.1"),
        ] {
            let words = ["-t".to_owned(), pid.to_string(), "-n".to_owned(), "ip".to_owned()];
            check(Command::new("nsenter").args(words).args(inside.split(' ')).output())?;
        }
        Ok(())
    }

    /// Where the nodes listen.
    pub fn addresses(&self) -> Vec<String> {
        (1..=self.keepers.len()).map(|node| format!("10.77.{node}.2:7100")).collect()
    }

    /// The process in whose namespace a node is to be started.
    pub fn keeper(&self, node: NodeId) -> u32 {
        self.keepers[usize::try_from(node.0).expect("a small number") - 1].id()
    }

    /// Nothing that whoever started the nodes sends reaches this one. Mended as the others are.
    pub fn cut_user(&self, node: NodeId) {
        let rule = format!("rule add priority {RULE} iif lo to 10.77.{}.2 blackhole", node.0);
        ip(&rule).expect("what worked once works again");
    }

    fn rule(&self, order: &str, from: NodeId, to: NodeId) -> Result<(), String> {
        ip(&format!("rule {order} priority {RULE} iif q{} to 10.77.{}.2 blackhole", from.0, to.0))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for keeper in &mut self.keepers {
            let _ = keeper.kill();
            let _ = keeper.wait();
        }
    }
}

impl Wires for &Namespaces {
    async fn cut(&self, from: NodeId, to: NodeId) {
        self.rule("add", from, to).expect("what worked once works again");
    }

    async fn mend(&self) {
        while ip(&format!("rule del priority {RULE}")).is_ok() {}
    }
}

fn ip(words: &str) -> Result<(), String> {
    check(Command::new("ip").args(words.split(' ')).output()).map_err(|error| format!("ip {words}: {error}"))
}

fn check(output: std::io::Result<Output>) -> Result<(), String> {
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}
