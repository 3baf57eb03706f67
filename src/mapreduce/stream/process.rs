//! Runs a command: feeds it, reads what it writes, waits for its end.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ExitStatus, Stdio};

use super::command::Command;
use super::reporter::{Reporter, Said};
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::mapreduce::task::{Control, kill_group};

const BUFFER: usize = 64 << 10;

/// Why feeding ended early.
pub(super) enum Unfed {
    /// The command does not read on. That alone is no failure: `head` does so.
    Closed,
    /// There is nothing to feed it with.
    Failed(TaskFailure),
}

pub(super) type Fed = Result<(), Unfed>;

impl From<io::Error> for Unfed {
    fn from(_: io::Error) -> Self {
        // A pipe fails in one way only: its reader is gone.
        Self::Closed
    }
}

impl From<TaskFailure> for Unfed {
    fn from(failure: TaskFailure) -> Self {
        Self::Failed(failure)
    }
}

/// Why a command did not do its work.
pub(super) enum Broken {
    /// It is not its fault.
    Otherwise(TaskFailure),
    /// It could not be started.
    NotStarted(io::Error),
    /// It wrote a line longer than so many bytes.
    LongLine(usize),
    /// It ended in another way than with code 0, or wrote what is refused.
    Ended {
        /// How, in words.
        how: String,
        /// The end of its standard error.
        tail: String,
    },
}

impl From<TaskFailure> for Broken {
    fn from(failure: TaskFailure) -> Self {
        Self::Otherwise(failure)
    }
}

/// Runs a command to its end. `feed` writes its input, on a thread of its own; `line` gets each line of its output.
pub(super) fn run(
    command: &Command<'_>,
    control: &Control,
    feed: impl FnOnce(&mut dyn Write) -> Fed + Send,
    line: impl FnMut(&[u8]) -> Result<(), TaskFailure>,
) -> Result<Counters, Broken> {
    let mut child = start(command)?;
    let group = i32::try_from(child.id()).expect("a process number is positive");
    control.own_group(group);
    let ended = converse(&mut child, group, command, control, feed, line);
    control.forget_group(group);
    // Its end was awaited; now its number is given back.
    let status = child.wait().map_err(|error| TaskFailure::machine(format!("cannot wait: {error}")))?;
    let said = ended?;
    control.check()?;
    if status.success() {
        return Ok(said.counters);
    }
    Err(Broken::Ended { how: describe(status), tail: said.tail })
}

fn start(command: &Command<'_>) -> Result<Child, Broken> {
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(command.line)
        .envs(command.environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that a whole pipeline can be killed, and Ctrl-C reaches us alone.
        .process_group(0);
    end_with_this_thread(&mut shell);
    shell.spawn().map_err(Broken::NotStarted)
}

/// When this process is killed it cannot kill the command any more, so the kernel does. What a pipeline has started
/// beside the shell finds its pipes closed.
fn end_with_this_thread(shell: &mut std::process::Command) {
    // SAFETY: the closure makes one call that is allowed between fork and exec, with plain numbers.
    #[cfg(target_os = "linux")]
    unsafe {
        shell.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    #[cfg(not(target_os = "linux"))]
    let _ = shell;
}

/// Talks with a command until it has ended; it is not yet waited for.
fn converse(
    child: &mut Child,
    group: i32,
    command: &Command<'_>,
    control: &Control,
    feed: impl FnOnce(&mut dyn Write) -> Fed + Send,
    line: impl FnMut(&[u8]) -> Result<(), TaskFailure>,
) -> Result<Said, Broken> {
    let stdin = child.stdin.take().expect("it is piped");
    let stdout = child.stdout.take().expect("it is piped");
    let stderr = child.stderr.take().expect("it is piped");
    let longest = command.setup.job.limits.max_record_bytes as usize;
    std::thread::scope(|threads| {
        let feeder = threads.spawn(move || {
            let mut stdin = BufWriter::with_capacity(BUFFER, stdin);
            let fed = feed(&mut stdin).and_then(|()| Ok(stdin.flush()?));
            if matches!(fed, Err(Unfed::Failed(_))) {
                // Without its input it must not end as if all were well.
                kill_group(group);
            }
            fed
        });
        let reporter = threads.spawn(move || Reporter::new(control).listen(stderr));
        let read = read_lines(stdout, longest, control, line);
        if read.is_err() {
            kill_group(group);
        }
        await_end(group);
        let fed = feeder.join().expect("feeding does not panic");
        let said = reporter.join().expect("listening does not panic");
        if let Err(Unfed::Failed(failure)) = fed {
            return Err(failure.into());
        }
        read.map(|()| said)
    })
}

fn read_lines(
    stdout: impl Read,
    longest: usize,
    control: &Control,
    mut each: impl FnMut(&[u8]) -> Result<(), TaskFailure>,
) -> Result<(), Broken> {
    let mut stdout = BufReader::with_capacity(BUFFER, stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        let most = longest as u64 + 1;
        let read = (&mut stdout).take(most).read_until(b'\n', &mut line);
        let read = read.map_err(|error| TaskFailure::machine(format!("cannot read from a pipe: {error}")))?;
        if read == 0 {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        } else if read as u64 == most {
            return Err(Broken::LongLine(longest));
        }
        each(&line)?;
        control.beat();
    }
}

/// Waits for the end of a process without giving its number back, so that until then nobody else can have it.
fn await_end(process: i32) {
    let id = libc::id_t::try_from(process).expect("a process number is positive");
    loop {
        // SAFETY: the pointer is to a value of the right type that lives through the call; all zeros is a valid one.
        let result = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, id, &mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if result == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(127), _) => "ended with code 127 (a command was not found)".into(),
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended in an unknown way".into(),
    }
}
