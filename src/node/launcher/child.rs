//! One node process.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::ChildStdin;
use tokio::task::JoinHandle;

use super::console::{Console, Line};
use crate::logic::ids::NodeId;

/// Longer lines are cut into pieces, so that a process cannot make the launcher grow.
const LONGEST_LINE: u64 = 16 * 1024;
/// What a process wrote last is shown before its end is told; but grandchildren may hold its pipes open for ever.
const DRAIN: Duration = Duration::from_secs(1);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// Exit code, if it ended by itself.
    pub code: Option<i32>,
    /// How it ended, in words, such as `exited with code 3`.
    pub what: String,
    /// The last line it wrote to standard error.
    pub last_words: Option<String>,
}

impl Ending {
    pub(super) fn not_started(error: &io::Error) -> Self {
        Self { code: None, what: format!("could not be started: {error}"), last_words: None }
    }

    fn new(status: io::Result<ExitStatus>, last_words: Option<String>) -> Self {
        let (code, what) = match status {
            Ok(status) => match (status.code(), status.signal()) {
                (Some(code), _) => (Some(code), format!("ended with exit code {code}")),
                (None, Some(signal)) => {
                    (None, format!("was ended by signal {signal}{}", signal_name(signal)))
                }
                (None, None) => (None, format!("ended: {status}")),
            },
            Err(error) => (None, format!("was lost: {error}")),
        };
        Self { code, what, last_words }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        libc::SIGKILL => " (SIGKILL: by somebody, or by the kernel when memory ran out)",
        libc::SIGTERM => " (SIGTERM)",
        libc::SIGINT => " (SIGINT)",
        libc::SIGABRT => " (SIGABRT)",
        libc::SIGSEGV => " (SIGSEGV)",
        libc::SIGBUS => " (SIGBUS)",
        _ => "",
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Signal {
    Terminate,
    Kill,
}

/// A process that was started. It is not waited for here: the future returned by [`spawn`](Self::spawn) does that.
pub(super) struct Child {
    pid: libc::pid_t,
    /// Set once the process was reaped: from then on its number may belong to another process. Reaping and setting
    /// happen in one poll on the thread that also signals, so nothing comes between them.
    reaped: Arc<AtomicBool>,
}

impl Child {
    /// Starts a process; the future ends with it.
    pub(super) fn spawn(
        mut command: Command,
        input: Bytes,
        node: NodeId,
        console: &Console,
    ) -> io::Result<(Self, impl Future<Output = Ending> + 'static)> {
        command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C in the terminal reaches the launcher only.
        command.process_group(0);
        end_with_parent(&mut command, libc::SIGKILL);
        let mut command = tokio::process::Command::from(command);
        let mut process = command.kill_on_drop(true).spawn()?;
        let pid = process.id().and_then(|pid| libc::pid_t::try_from(pid).ok());
        let pid = pid.expect("a process that was not waited for has a number");

        if let Some(pipe) = process.stdin.take() {
            tokio::spawn(feed(pipe, input));
        }
        let stdout = process.stdout.take().map(|pipe| pump(pipe, node, console.clone()));
        let stderr = process.stderr.take().map(|pipe| pump(pipe, node, console.clone()));
        let reaped = Arc::new(AtomicBool::new(false));
        let child = Self { pid, reaped: reaped.clone() };
        let ending = async move {
            let status = process.wait().await;
            reaped.store(true, Ordering::Relaxed);
            let drained = async {
                let last_words = join(stderr).await;
                join(stdout).await;
                last_words
            };
            let last_words = tokio::time::timeout(DRAIN, drained).await.unwrap_or_default();
            Ending::new(status, last_words)
        };
        Ok((child, ending))
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Sends a signal, unless the process is known to have ended.
    pub(super) fn signal(&self, signal: Signal) {
        let number = match signal {
            Signal::Terminate => libc::SIGTERM,
            Signal::Kill => libc::SIGKILL,
        };
        if !self.reaped.load(Ordering::Relaxed) {
            // SAFETY: kill takes plain numbers. The process has not been reaped, so its number is still its own.
            // It fails only when there is nothing left to signal.
            let _ = unsafe { libc::kill(self.pid, number) };
        }
    }
}

/// Has the kernel send the child a signal when its parent ends, however that comes about.
pub fn end_with_parent(command: &mut Command, signal: i32) {
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl and getppid. Nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, signal) == -1 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have ended before the call.
                if libc::getppid().unsigned_abs() != parent {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                Ok(())
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (command, signal);
}

/// Gives a process its input, as fast as it reads.
async fn feed(mut pipe: ChildStdin, input: Bytes) {
    // One that ends before it has read everything says why.
    let _ = pipe.write_all(&input).await;
}

/// Hands the lines of a pipe to the console; ends with the last of them.
fn pump<R: AsyncRead + Unpin + 'static + Send>(
    pipe: R,
    node: NodeId,
    console: Console,
) -> JoinHandle<Option<String>> {
    tokio::spawn(async move {
        let mut reader = BufReader::new(pipe);
        let mut last_words = None;
        loop {
            let mut text = Vec::new();
            match (&mut reader).take(LONGEST_LINE).read_until(b'\n', &mut text).await {
                Ok(0) | Err(_) => return last_words,
                Ok(_) => {}
            }
            while text.last().is_some_and(u8::is_ascii_whitespace) {
                text.pop();
            }
            if !text.is_empty() {
                last_words = Some(String::from_utf8_lossy(&text).into_owned());
            }
            console.write(&Line { node: Some(node), text });
        }
    })
}

async fn join(task: Option<JoinHandle<Option<String>>>) -> Option<String> {
    task?.await.ok().flatten()
}
