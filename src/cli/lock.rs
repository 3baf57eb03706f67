//! lock: a command that runs while a lock is held.

use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind};

use super::cluster::{Cluster, ClusterArgs, ENDPOINTS_VARIABLE, explain};
use super::output::Output;
use super::progress::Progress;
use super::text::{Keep, escape, fence_text, json_bytes, lease_text, parse_duration, parse_ttl_ms};
use super::up::watch;
use crate::logic::clerk::ClerkError;
use crate::node::client::{Lock, LockGuard, LockStatus};
use crate::node::exit::{self, Failure};
use crate::node::launcher::end_with_parent;

/// The lock and the token, as `--fence` takes them.
const LOCK_VARIABLE: &str = "QUORATE_LOCK";
/// The token alone.
const TOKEN_VARIABLE: &str = "QUORATE_LOCK_TOKEN";
/// How long leaving the queue may take, and asking then who holds the lock.
const PARTING: Duration = Duration::from_secs(2);

/// Run a command while holding a lock of the cluster.
///
/// Waits until the lock is held (first come, first served), runs the command, releases the lock, and ends with the
/// command's exit code (128 + N when signal N ended it). The lock is held by a lease, which is renewed; if it is lost
/// all the same, the command gets SIGTERM and, after --grace, SIGKILL, and the exit code is 3.
///
/// The command finds its fencing token in QUORATE_LOCK_TOKEN, and in QUORATE_LOCK what --fence of put, append, cas, del
/// and batch takes: such a change is refused once the lock is held by somebody else. No lock without a fence protects
/// from a command that was stopped and goes on too late. QUORATE_ENDPOINTS names the cluster.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate lock nightly -- ./make-reports.sh
  quorate lock nightly --wait 30s -- ./make-reports.sh      exit code 1 when it is not free by then
  quorate lock nightly --no-wait -- ./make-reports.sh       exit code 1 when it is held
  quorate lock nightly -- sh -c 'quorate put newest \"$(date)\" --fence \"$QUORATE_LOCK\"'
  quorate lock nightly --status                             who holds it, and how many wait")]
pub(super) struct Args {
    /// Name of the lock. Locks and keys have nothing to do with each other
    name: String,
    /// The command and its arguments
    #[arg(last = true, required_unless_present = "status", conflicts_with = "status")]
    command: Vec<String>,
    /// The lock is free this long after the holder was last heard of (500ms, 30s, 5m)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_ttl_ms)]
    ttl: u64,
    /// Wait no longer than this; 0s: as --no-wait
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Do not wait at all
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
    /// Who holds the lock, for --status; without it, host and process
    #[arg(long, value_name = "TEXT")]
    owner: Option<String>,
    /// Time between SIGTERM and SIGKILL when the lock was lost
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse_duration)]
    grace: Duration,
    /// Only say who holds the lock, and how many wait
    #[arg(long)]
    status: bool,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let args = &self;
        self.cluster.run(
            async |cluster| {
                if args.status { args.show(cluster).await } else { args.run_locked(cluster).await }
            },
        )
    }

    async fn show(&self, cluster: &Cluster) -> Result<u8, Failure> {
        let status = cluster.client().lock_status(self.name.clone()).await.map_err(explain)?;
        let mut out = Output::new(self.cluster.json);
        out.either(status_text(&status), &status_json(&status))?;
        out.flush()?;
        Ok(exit::OK)
    }

    async fn run_locked(&self, cluster: &Cluster) -> Result<u8, Failure> {
        let mut signals = Signals::listen()?;
        let owner = self.owner.clone().unwrap_or_else(this_process);
        let lock = cluster.client().lock(self.name.clone()).with_owner(owner);
        let lock = lock.with_ttl(Duration::from_millis(self.ttl));
        let attempt = tokio::select! {
            attempt = self.acquire(&lock) => attempt?,
            number = signals.any() => Attempt::Interrupted(number),
        };
        let guard = match attempt {
            Attempt::Held(guard) => guard,
            Attempt::HeldByAnother => return Err(self.held()),
            Attempt::TooLate => return Err(self.too_late(cluster).await),
            Attempt::Interrupted(number) => {
                // It ends by itself if that fails, after its time to live.
                let _ = given_up(cluster).await;
                return Ok(signalled(number));
            }
        };
        let child = self.start(&guard, cluster);
        let ended = match child {
            Ok(mut child) => self.watch(&mut child, &guard, &mut signals).await,
            Err(failure) => Err(failure),
        };
        let released = guard.release().await;
        let code = ended?;
        match released {
            Ok(()) => Ok(code),
            Err(ClerkError::LockLost { .. }) => Err(self.lost("before the command ended")),
            Err(error) => {
                let ttl = Duration::from_millis(self.ttl);
                // That nobody can be told changes nothing of what the command did.
                let _ = writeln!(
                    std::io::stderr(),
                    "quorate: the lock could not be released ({error}); it is free in {ttl:?} at the latest"
                );
                Ok(code)
            }
        }
    }

    /// Waits for the lock as long as it was asked for.
    async fn acquire(&self, lock: &Lock) -> Result<Attempt, Failure> {
        if self.no_wait || self.wait.is_some_and(|wait| wait.is_zero()) {
            let guard = lock.try_acquire().await.map_err(explain)?;
            return Ok(guard.map_or(Attempt::HeldByAnother, Attempt::Held));
        }
        let _progress = Progress::waiting(format!("waiting for the lock {}", self.shown()));
        match self.wait {
            None => lock.acquire().await.map(Attempt::Held).map_err(explain),
            Some(wait) => match tokio::time::timeout(wait, lock.acquire()).await {
                Ok(acquired) => acquired.map(Attempt::Held).map_err(explain),
                Err(_) => Ok(Attempt::TooLate),
            },
        }
    }

    /// Why the lock was not to be had in time. A cluster that does not answer says nothing about the lock.
    async fn too_late(&self, cluster: &Cluster) -> Failure {
        let unknown = |why: &str| {
            let text = format!("whether the lock {} is held is not known: {why}", self.shown());
            Failure::new(exit::UNAVAILABLE, text)
        };
        if !given_up(cluster).await {
            return unknown("the cluster did not answer in time. Is it running? See `quorate status`");
        }
        match cluster.client().with_deadline(PARTING).lock_status(self.name.clone()).await {
            Ok(LockStatus { holder: Some(_), .. }) => self.held(),
            Ok(LockStatus { holder: None, .. }) => {
                let text = format!("the lock {} was not to be had in time, but is free now", self.shown());
                Failure::new(exit::UNAVAILABLE, format!("{text}; try again"))
            }
            Err(error) => unknown(&explain(error).message),
        }
    }

    fn held(&self) -> Failure {
        Failure::new(exit::REFUSED, format!("the lock {} is held; {HELD_REMEDY}", self.shown()))
    }

    fn start(&self, guard: &LockGuard, cluster: &Cluster) -> Result<Child, Failure> {
        let (program, arguments) = self.command.split_first().expect("the parser asks for a command");
        let mut command = std::process::Command::new(program);
        command.args(arguments);
        command.env(LOCK_VARIABLE, fence_text(&guard.fence()));
        command.env(TOKEN_VARIABLE, guard.token().to_string());
        command.env(ENDPOINTS_VARIABLE, cluster.endpoints().join(","));
        // Whoever keeps the lock is gone then.
        end_with_parent(&mut command, libc::SIGTERM);
        let child = Command::from(command).spawn();
        child.map_err(|error| Failure::usage(format!("cannot run {program:?}: {error}")))
    }

    /// Waits for the end of the command; ends it when the lock is lost.
    async fn watch(
        &self,
        child: &mut Child,
        guard: &LockGuard,
        signals: &mut Signals,
    ) -> Result<u8, Failure> {
        loop {
            tokio::select! {
                biased;
                status = child.wait() => return status.map(code_of).map_err(cannot_wait),
                () = guard.lost() => break,
                // Ctrl-C reaches the command by itself, which belongs to the same terminal; the lock stays until it
                // has ended.
                number = signals.any() => if number != libc::SIGINT { tell(child, number) },
            }
        }
        tell(child, libc::SIGTERM);
        if tokio::time::timeout(self.grace, child.wait()).await.is_err() {
            tell(child, libc::SIGKILL);
            child.wait().await.map_err(cannot_wait)?;
        }
        Err(self.lost("while the command ran, which was told to end"))
    }

    fn lost(&self, when: &str) -> Failure {
        let text = format!(
            "the lock {} was lost {when}; see `quorate status`, or choose a longer --ttl",
            self.shown()
        );
        Failure::new(exit::UNAVAILABLE, text)
    }

    fn shown(&self) -> String {
        escape(self.name.as_bytes(), Keep::Nothing)
    }
}

const HELD_REMEDY: &str = "`quorate lock NAME --status` shows by whom";

/// What came of trying to get the lock.
enum Attempt {
    Held(LockGuard),
    /// And waiting was not wanted.
    HeldByAnother,
    /// Waiting took too long; by whom it is held, if at all, is another question.
    TooLate,
    /// This signal ended it.
    Interrupted(i32),
}

/// Waits until the place in the queue is given up, so that nobody who is gone becomes the holder; whether it is.
async fn given_up(cluster: &Cluster) -> bool {
    tokio::time::timeout(PARTING, cluster.client().locks_given_up()).await.is_ok()
}

/// The signals that end a command.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        Ok(Signals {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
            hangup: watch(SignalKind::hangup())?,
        })
    }

    /// The number of the next one that comes.
    async fn any(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => libc::SIGINT,
            _ = self.terminate.recv() => libc::SIGTERM,
            _ = self.hangup.recv() => libc::SIGHUP,
        }
    }
}

/// Sends a signal to a process that was not waited for.
fn tell(child: &Child, signal: i32) {
    if let Some(pid) = child.id().and_then(|pid| libc::pid_t::try_from(pid).ok()) {
        // SAFETY: kill takes plain numbers. The process was not reaped, so its number is still its own.
        let _ = unsafe { libc::kill(pid, signal) };
    }
}

/// The exit code that stands for the end by a signal, as shells have it.
fn signalled(number: i32) -> u8 {
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

fn code_of(status: ExitStatus) -> u8 {
    match status.code() {
        Some(code) => u8::try_from(code).unwrap_or(u8::MAX),
        None => signalled(status.signal().unwrap_or_default()),
    }
}

fn cannot_wait(error: std::io::Error) -> Failure {
    Failure::internal(format!("the command cannot be waited for: {error}"))
}

/// Host and process, for people.
fn this_process() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}:{}", host.trim(), std::process::id())
}

/// What the holder calls itself, without the number behind it.
fn owner_name(owner: &Bytes) -> &[u8] {
    let end = owner.iter().rposition(|byte| *byte == b'#').unwrap_or(owner.len());
    &owner[..end]
}

fn status_text(status: &LockStatus) -> String {
    match &status.holder {
        None => "free".to_owned(),
        Some(holder) => format!(
            "held by {} under token {}, for {} ms unless renewed (lease {}); waiting: {}",
            escape(owner_name(&holder.owner), Keep::Nothing),
            holder.token,
            holder.left.as_millis(),
            lease_text(holder.lease),
            status.waiting
        ),
    }
}

fn status_json(status: &LockStatus) -> Value {
    let holder = status.holder.as_ref().map(|holder| {
        let mut object = Map::new();
        json_bytes(&mut object, "owner", owner_name(&holder.owner));
        object.insert("token".into(), holder.token.into());
        object.insert("lease".into(), lease_text(holder.lease).into());
        object.insert("left_ms".into(), u64::try_from(holder.left.as_millis()).unwrap_or(u64::MAX).into());
        Value::from(object)
    });
    json!({"holder": holder, "waiting": status.waiting})
}
