//! Nodes and launchers whose output nobody reads, or that cannot be written: they serve, and they end, all the same.
#![cfg(target_os = "linux")]

mod support;

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write, pipe};
use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use support::Reserved;

/// How long something may take that ought to happen soon, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster of one node, and the directory that it is to live in.
struct Place {
    dir: tempfile::TempDir,
    address: String,
    _reserved: Reserved,
}

impl Place {
    fn new(extra: &str) -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        let reserved = Reserved::addresses(1);
        let address = reserved.addresses[0].clone();
        let text =
            format!("[cluster]\nid = \"test\"\n[[cluster.nodes]]\nid = 1\naddress = \"{address}\"\n{extra}");
        std::fs::write(dir.path().join("one.toml"), text).expect("written");
        Place { dir, address, _reserved: reserved }
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    /// `node` or `up`, to be started.
    fn serving(&self, what: &str) -> Command {
        let mut command = quorate(&[what, "--config"]);
        command.arg(self.dir.path().join("one.toml")).arg("--data").arg(self.data());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// Waits until the node serves.
    fn is_served(&self) {
        let put = ["put", "k", "v", "--timeout", "30s", "--endpoints", &self.address];
        let output = quorate(&put).output().expect("the binary runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn quorate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.args(args).env_remove("QUORATE_ENDPOINTS").env_remove("QUORATE_NODE");
    command
}

/// A pipe that takes not one byte more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = pipe().expect("a pipe");
    // SAFETY: fcntl takes plain numbers.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    let size = usize::try_from(size).expect("a size");
    writer.write_all(&vec![b'x'; size]).expect("there is room");
    (reader, writer)
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id()).expect("a process number");
    // SAFETY: kill takes plain numbers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
}

/// How a process ended, which must be soon.
fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("an own child") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("an own child");
            child.wait().expect("an own child");
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_node_whose_log_cannot_be_written_serves_and_ends_in_order() {
    let place = Place::new("");
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    let mut node = place.serving("node").stderr(full).spawn().expect("it starts");
    place.is_served();
    terminate(&node);
    assert_eq!(ended(&mut node).code(), Some(0));
}

#[test]
fn a_node_whose_log_nobody_reads_serves_and_ends_in_order() {
    let place = Place::new("");
    let (_unread, full) = full_pipe();
    let mut node = place.serving("node").stderr(full).spawn().expect("it starts");
    place.is_served();
    terminate(&node);
    assert_eq!(ended(&mut node).code(), Some(0));
}

#[test]
fn a_node_whose_log_nobody_reads_ends_when_an_actor_blocks_its_thread() {
    let place = Place::new("[chaos]\nenabled = true\n[supervision]\nhang_timeout_ms = 1000\n");
    let (_unread, full) = full_pipe();
    let mut node = place.serving("node").stderr(full).spawn().expect("it starts");
    place.is_served();
    let hang = ["chaos", "hang", "node/group-1/kv", "600s", "--node", "1", "--endpoints", &place.address];
    // Its answer may not come any more.
    quorate(&hang).output().expect("the binary runs");
    assert_eq!(ended(&mut node).code(), Some(70));
}

#[test]
fn a_launcher_whose_output_nobody_reads_ends_when_it_is_told_to() {
    let place = Place::new("");
    let (_unread, full) = full_pipe();
    let (out, error) = (full.try_clone().expect("a copy"), full);
    let mut up = place.serving("up").stdout(out).stderr(error).spawn().expect("it starts");
    place.is_served();
    terminate(&up);
    assert_eq!(ended(&mut up).code(), Some(0));
}

#[test]
fn a_node_whose_address_is_taken_ends_and_says_so() {
    let place = Place::new("");
    let _taken = TcpListener::bind(&place.address).expect("it was free");
    let mut node = place.serving("node").stderr(Stdio::piped()).spawn().expect("it starts");
    let status = ended(&mut node);
    let mut text = String::new();
    let mut stderr = node.stderr.take().expect("it is piped");
    std::io::Read::read_to_string(&mut stderr, &mut text).expect("UTF-8");
    assert_eq!(status.code(), Some(3), "{text}");
    assert!(text.contains(&format!("quorate: cannot listen at {}: ", place.address)), "{text}");
}

#[test]
fn a_node_that_is_told_to_end_while_it_starts_ends_in_order() {
    let place = Place::new("");
    let data = place.data();
    let begun = || Path::new(&data).exists();
    let mut node = place.serving("node").stderr(Stdio::null()).spawn().expect("it starts");
    let deadline = Instant::now() + PATIENCE;
    while !begun() {
        assert!(Instant::now() < deadline, "it did not begin");
        std::hint::spin_loop();
    }
    terminate(&node);
    assert_eq!(ended(&mut node).code(), Some(0));
}
