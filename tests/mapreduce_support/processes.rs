//! Workers in processes of their own, and jobs from the command line.
#![allow(dead_code)] // Each test uses its own part of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::mapreduce_support::text;
use crate::support::{Cluster, Reserved};

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("QUORATE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_quorate").into(), PathBuf::from)
}

/// A number that the environment may set.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work)
}

/// How many processes of this machine have this word in their command line.
pub fn with_argument(word: &str) -> usize {
    let entries = std::fs::read_dir("/proc").expect("there are processes").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|byte| *byte == 0).any(|part| part == word.as_bytes())).count()
}

/// What workers see of each other's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ground {
    /// Each has a directory of its own, but could look into the others'.
    Common,
    /// Each has file systems of its own, where the others' directories are not there at all, and has its own copy of
    /// the input; `disk_bytes` is the size of its disk.
    Apart { disk_bytes: Option<u64> },
}

impl Ground {
    /// Whether this machine lets us do it; a test says so where not.
    pub fn is_possible(self) -> bool {
        let mounts = || {
            let probe = ["-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/tmp"];
            let status =
                Command::new("unshare").args(probe).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        self == Ground::Common || mounts()
    }
}

/// A worker alone with its directory and its own copy of the input. Arguments: the directory of all workers, its own name
/// in it, the input, an empty directory, options of its disk.
const APART: &str = r#"
set -e
workers=$1 name=$2 input=$3 hole=$4 disk=$5; shift 5
mkdir -p "$input"
mount -t tmpfs tmpfs "$hole"
mkdir "$hole/own" "$hole/input"
if [ -n "$disk" ]; then
    mount -t tmpfs -o "$disk" tmpfs "$hole/own"
else
    mount --bind "$workers/$name" "$hole/own"
fi
cp -r "$input/." "$hole/input"
mount -t tmpfs tmpfs "$workers"
mkdir "$workers/$name"
mount --bind "$hole/own" "$workers/$name"
mount --bind "$hole/input" "$input"
cd "$workers/$name"
exec "$@"
"#;

/// A cluster that runs jobs, but no worker, and a directory for the test.
pub struct Stage {
    pub cluster: Cluster,
    pub ground: Ground,
    dir: tempfile::TempDir,
}

impl Stage {
    pub fn new(nodes: usize, ground: Ground) -> Stage {
        let cluster = Cluster::start(
            nodes,
            "[mapreduce]\nenabled = true\nworker = false\n[launcher]\nmax_restarts = 1000\nbackoff_max_ms = 500\n",
        );
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["input", "workers", "hole"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        Stage { cluster, ground, dir }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where inputs are.
    pub fn input(&self) -> String {
        self.path().join("input").to_str().expect("UTF-8").to_owned()
    }

    /// A new empty directory for marks that functions leave.
    pub fn marks(&self, name: &str) -> PathBuf {
        let marks = self.path().join(name);
        std::fs::create_dir(&marks).expect("a directory");
        marks
    }

    fn recruit(&self, name: &str) -> Recruit {
        Recruit {
            endpoints: self.cluster.addresses.join(","),
            stage: self.path().to_path_buf(),
            name: name.to_owned(),
            address: Arc::new(Reserved::addresses(1)),
            ground: self.ground,
        }
    }

    /// A worker of one slot.
    pub fn worker(&self, name: &str) -> Worker {
        self.recruit(name).start()
    }

    /// A worker that is started again whenever it has ended.
    pub fn restarted_worker(&self, name: &str, pause: Duration) -> Loop {
        let recruit = self.recruit(name);
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut starts = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut worker = recruit.start();
                starts += 1;
                while !stopped.load(Ordering::Relaxed) && worker.runs() {
                    std::thread::sleep(Duration::from_millis(20));
                }
                drop(worker);
                std::thread::sleep(pause);
            }
            starts
        });
        Loop { stop, thread: Some(thread) }
    }

    /// Waits until so many workers are known.
    pub fn workers_are_up(&self, count: usize) {
        workers_are_up(&self.cluster, count);
    }

    /// Submits a job and waits for it. Returns the lines of its output, sorted, and what the command printed.
    pub fn submit(&self, name: &str, args: &[&str]) -> (String, serde_json::Value) {
        let out = self.path().join(name);
        let report = succeeded(submit(&self.cluster, &out, args));
        (text::sorted_output(&out), report)
    }
}

/// The binary with these arguments, asking this cluster.
pub fn command(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args).args(["--endpoints", &cluster.addresses.join(",")]).stdin(Stdio::null());
    command
}

/// Sends a signal to a process that was not waited for.
pub fn tell(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: kill(2) touches no memory, and the child was not waited for, so its number is its own.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "it does not run");
}

/// Waits until something is the case.
pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The command that submits a job and waits for its end.
pub fn submission(cluster: &Cluster, out: &Path, args: &[&str]) -> Command {
    let mut command = command(cluster, &["mr", "submit", "--json", "--timeout", "30s"]);
    command.arg("--output").arg(out).args(args);
    command
}

/// Submits a job and waits for its end.
pub fn submit(cluster: &Cluster, out: &Path, args: &[&str]) -> Output {
    submission(cluster, out, args).output().expect("the binary starts")
}

/// What the command printed of a job that has succeeded.
pub fn succeeded(output: Output) -> serde_json::Value {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&text).expect("JSON")
}

/// Waits until so many workers are known.
pub fn workers_are_up(cluster: &Cluster, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let output = command(cluster, &["mr", "workers", "--json"]).output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.matches("\"worker\"").count() >= count {
            return;
        }
        assert!(Instant::now() < deadline, "not {count} workers: {text}\n{}", cluster.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everything that is needed to start a worker, again and again.
struct Recruit {
    endpoints: String,
    stage: PathBuf,
    name: String,
    address: Arc<Reserved>,
    ground: Ground,
}

impl Recruit {
    fn start(&self) -> Worker {
        let dir = self.stage.join("workers").join(&self.name);
        std::fs::create_dir_all(&dir).expect("a directory");
        let log = self.stage.join(format!("{}.log", self.name));
        let log = std::fs::File::options().create(true).append(true).open(log).expect("a log");
        let mut command = match self.ground {
            Ground::Common => Command::new(binary()),
            Ground::Apart { disk_bytes } => {
                let mut command = Command::new("unshare");
                command.args(["-m", "--propagation", "private", "sh", "-c", APART, "apart"]);
                command.arg(self.stage.join("workers")).arg(&self.name).arg(self.stage.join("input"));
                command.arg(self.stage.join("hole"));
                command.arg(disk_bytes.map_or(String::new(), |bytes| format!("size={bytes}"))).arg(binary());
                command
            }
        };
        command.args(["mr", "worker", "--slots", "1", "--endpoints", &self.endpoints]);
        command.args(["--listen", &self.address.addresses[0], "--dir"]).arg(dir.join("data"));
        // It runs where nothing else is, so that it finds nothing of the others by chance.
        command.current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Worker(command.spawn().expect("the binary starts"), self.address.clone())
    }
}

/// A worker process, and what keeps its address for it; dropping it kills it.
pub struct Worker(Child, #[expect(dead_code, reason = "it is held, not read")] Arc<Reserved>);

impl Worker {
    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Sends it a signal, such as SIGSTOP.
    pub fn signal(&self, signal: i32) {
        tell(&self.0, signal);
    }

    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A worker that is started again and again.
pub struct Loop {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u32>>,
}

impl Loop {
    /// Ends it; how often the worker was started.
    pub fn end(mut self) -> u32 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().expect("the loop does not panic"))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
