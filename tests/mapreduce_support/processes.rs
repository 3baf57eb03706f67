//! Workers in processes of their own, each with a directory that it shares with nobody, and jobs from the command line.
#![allow(dead_code)] // Each test uses its own part of it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::mapreduce_support::text;
use crate::support::{Cluster, free_addresses};

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("QUORATE_BINARY").map_or_else(|| env!("CARGO_BIN_EXE_quorate").into(), PathBuf::from)
}

/// A cluster that runs jobs, but no worker, and a directory for the test.
pub struct Stage {
    pub cluster: Cluster,
    pub dir: tempfile::TempDir,
}

impl Stage {
    pub fn new(nodes: usize) -> Stage {
        let cluster = Cluster::start(nodes, "[mapreduce]\nenabled = true\nworker = false\n");
        Stage { cluster, dir: tempfile::tempdir().expect("a directory") }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A new empty directory for marks that functions leave.
    pub fn marks(&self, name: &str) -> PathBuf {
        let marks = self.path().join(name);
        std::fs::create_dir(&marks).expect("a directory");
        marks
    }

    pub fn endpoints(&self) -> String {
        self.cluster.addresses.join(",")
    }

    /// A worker of one slot.
    pub fn worker(&self, name: &str) -> Worker {
        let address = free_addresses(1).remove(0);
        Worker::start(&self.endpoints(), &self.path().join(name), &address)
    }

    /// A worker that the test kills and starts again.
    pub fn killable(&self, name: &str) -> Killable {
        let address = free_addresses(1).remove(0);
        let (endpoints, dir) = (self.endpoints(), self.path().join(name));
        let worker = Worker::start(&endpoints, &dir, &address);
        Killable { endpoints, dir, address, worker }
    }

    /// A worker that is started again whenever it has ended.
    pub fn restarted_worker(&self, name: &str, pause: Duration) -> Loop {
        let address = free_addresses(1).remove(0);
        let (endpoints, dir) = (self.endpoints(), self.path().join(name));
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut starts = 0;
            while !stopped.load(Ordering::Relaxed) {
                let mut worker = Worker::start(&endpoints, &dir, &address);
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
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let output = self.command(&["mr", "workers", "--json"]).output().expect("the binary starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.matches("\"worker\"").count() >= count {
                return;
            }
            assert!(Instant::now() < deadline, "not {count} workers: {text}\n{}", self.cluster.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The binary with these arguments, asking this cluster.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(args).args(["--endpoints", &self.endpoints()]).stdin(Stdio::null());
        command
    }

    /// Submits a job and waits for it. Returns the lines of its output, sorted, and what the command printed.
    pub fn submit(&self, name: &str, args: &[&str]) -> (String, serde_json::Value) {
        let out = self.path().join(name);
        let mut command = self.command(&["mr", "submit", "--json", "--timeout", "30s", "--lab-names"]);
        let output = command.args(["--output"]).arg(&out).args(args).output().expect("the binary starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
        (text::sorted_output(&out), serde_json::from_str(&text).expect("JSON"))
    }
}

/// A worker process; dropping it kills it.
pub struct Worker(Child);

impl Worker {
    fn start(endpoints: &str, dir: &Path, address: &str) -> Worker {
        std::fs::create_dir_all(dir).expect("a directory");
        let log = std::fs::File::options().create(true).append(true).open(dir.join("log")).expect("a log");
        let mut command = Command::new(binary());
        command.args([
            "mr",
            "worker",
            "--slots",
            "1",
            "--listen",
            address,
            "--endpoints",
            endpoints,
            "--dir",
        ]);
        // It runs where nothing else is, so that it finds nothing of the others by chance.
        command.arg(dir.join("data")).current_dir(dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Worker(command.spawn().expect("the binary starts"))
    }

    pub fn runs(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
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

/// A worker that keeps its directory and its address when it is started again.
pub struct Killable {
    endpoints: String,
    dir: PathBuf,
    address: String,
    worker: Worker,
}

impl Killable {
    pub fn kill(&mut self) {
        self.worker.kill();
    }

    pub fn restart(&mut self) {
        self.kill();
        self.worker = Worker::start(&self.endpoints, &self.dir, &self.address);
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
