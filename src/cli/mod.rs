//! The commands of the binary, one file a family.
//!
//! * `kv.rs`: put, get, append, cas, del; `range.rs`: range; `batch.rs`: batch, and the format of its changes;
//!   `lease.rs`: lease; `lock.rs`: lock.
//! * `admin.rs`: status, tree, leader; `chaos.rs`: chaos; `bench/`: bench; `sim.rs`: sim.
//! * `mr/`: mr, with a tour of its own.
//! * `up.rs`: up; `node.rs`: node; `config.rs`: config; `verify.rs`: verify.
//! * What they share: `cluster.rs` (finding the cluster and asking it), `output.rs`, `progress.rs`, `text.rs`.
//!
//! What holds: results go to standard output and nothing else does. An error is one sentence with a remedy on
//! standard error or, with `--json`, one object `{"error": {...}}` on standard output, so that a program reads one
//! stream; also when the command line could not be understood. Exit codes are those of [`exit`]. A reader that closes
//! standard output ends the command quietly. Every command shows examples, and a test parses them.
//!
//! What it deliberately does not do: it keeps no state between commands (each opens and closes a session of its own),
//! and it knows nothing that the library does not: whatever a command does, a program can do with
//! [`Client`](crate::Client), [`Node`](crate::node::assembly::Node) or [`Launcher`](crate::node::launcher::Launcher).

mod admin;
mod batch;
mod bench;
mod chaos;
mod cluster;
mod config;
mod kv;
mod lease;
mod lock;
mod mr;
mod node;
mod output;
mod progress;
mod range;
mod sim;
mod text;
mod up;
mod verify;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::node::exit::{self, Failure};
use crate::node::logging;

pub use batch::parse as parse_changes;

const AFTER_HELP: &str = "\
Examples:
  quorate up                               three nodes on this machine, until Ctrl-C
  quorate put greeting hello
  quorate get greeting
  quorate status
  quorate up --config config/single.toml   one node
  quorate put --help                       every command explains itself

Which cluster: --endpoints, else --config, else QUORATE_ENDPOINTS, else the three local nodes of `quorate up`.

Exit codes:
  0  done
  1  understood and refused: no such key, another version, a limit; `status` found something missing; `up`
     had left nodes down
  2  the command line or the configuration is wrong
  3  the cluster, or something needed, cannot be reached or used now; trying again may help
  4  maybe: the change may or may not have taken effect; read to find out
  65 data on disk are damaged, or lost: another data directory than the other nodes know
  70 a bug, or a failure of the machine
  130 interrupted: what was begun was undone
  141 whoever read standard output went away before the end, as in `| head`

With --json, results and errors are JSON on standard output: {\"error\": {\"kind\", \"message\", \"code\"}}.";

/// A replicated key/value store: linearizable, durable, supervised.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, after_help = AFTER_HELP, max_term_width = 110)]
#[command(subcommand_required = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Node(node::Args),
    Put(kv::PutArgs),
    Get(kv::GetArgs),
    Append(kv::AppendArgs),
    Cas(kv::CasArgs),
    Del(kv::DelArgs),
    Range(range::Args),
    Batch(batch::Args),
    Lease(lease::Args),
    Lock(lock::Args),
    Status(admin::StatusArgs),
    Tree(admin::TreeArgs),
    Leader(admin::LeaderArgs),
    Chaos(chaos::Args),
    Bench(bench::Args),
    Sim(sim::Args),
    Config(config::Args),
    Mr(mr::Args),
    Verify(verify::Args),
}

/// Runs the binary with the arguments of the process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(misread(&error)),
    };
    let (json, serves) = (cli.command.json(), cli.command.serves());
    let outcome = cli.command.run();
    logging::flush();
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let code = failure.code;
            if serves {
                report_in_passing(failure, json)
            } else {
                report(&failure, json)
            }
            ExitCode::from(code)
        }
    }
}

/// Says what is wrong with the command line, or gives the help that it asks for; returns the exit code.
fn misread(error: &clap::Error) -> u8 {
    if error.use_stderr() && asks_for_json(std::env::args_os().skip(1)) {
        let text = error.to_string();
        let failure = Failure::usage(text.strip_prefix("error: ").unwrap_or(&text).trim_end());
        report(&failure, true);
        return failure.code;
    }
    match error.print().map_err(output::failed) {
        // Help and version go to standard output. When standard error is gone, there is nobody left to tell.
        Err(failure) if !error.use_stderr() => {
            report(&failure, false);
            failure.code
        }
        _ => u8::try_from(error.exit_code()).unwrap_or(exit::USAGE),
    }
}

/// Whether words that could not be understood ask for JSON. What stands behind `--` is not meant for us.
fn asks_for_json(words: impl IntoIterator<Item = OsString>) -> bool {
    words.into_iter().take_while(|word| word != "--").any(|word| word == "--json")
}

/// Checks the words of a command line, without the name of the program, and runs nothing.
///
/// # Errors
/// What the program would write instead of running the command: what is wrong, or the help that is asked for.
///
/// ```
/// assert!(quorate::cli::check_words(["put", "k", "v", "--ttl", "30s"]).is_ok());
/// assert!(quorate::cli::check_words(["put", "k", "v", "--ttl", "30"]).is_err());
/// ```
pub fn check_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let words = std::iter::once("quorate").chain(words);
    Cli::try_parse_from(words).map(drop).map_err(|error| error.to_string())
}

impl Command {
    /// Runs it; returns the exit code of the process.
    fn run(self) -> Result<u8, Failure> {
        match self {
            Self::Up(args) => args.run(),
            Self::Node(args) => args.run(),
            Self::Put(args) => args.run(),
            Self::Get(args) => args.run(),
            Self::Append(args) => args.run(),
            Self::Cas(args) => args.run(),
            Self::Del(args) => args.run(),
            Self::Range(args) => args.run(),
            Self::Batch(args) => args.run(),
            Self::Lease(args) => args.run(),
            Self::Lock(args) => args.run(),
            Self::Status(args) => args.run(),
            Self::Tree(args) => args.run(),
            Self::Leader(args) => args.run(),
            Self::Chaos(args) => args.run(),
            Self::Bench(args) => args.run(),
            Self::Sim(args) => args.run(),
            Self::Config(args) => args.run(),
            Self::Mr(args) => args.run(),
            Self::Verify(args) => args.run(),
        }
    }

    /// Whether it runs until it is told to end. Such a process must not wait for whoever reads its output.
    fn serves(&self) -> bool {
        match self {
            Self::Up(_) | Self::Node(_) => true,
            Self::Mr(args) => args.serves(),
            _ => false,
        }
    }

    fn json(&self) -> bool {
        match self {
            Self::Up(args) => args.json,
            Self::Node(_) => false,
            Self::Put(args) => args.cluster.json,
            Self::Get(args) => args.cluster.json,
            Self::Append(args) => args.cluster.json,
            Self::Cas(args) => args.cluster.json,
            Self::Del(args) => args.cluster.json,
            Self::Range(args) => args.cluster.json,
            Self::Batch(args) => args.cluster.json,
            Self::Lease(args) => args.json(),
            Self::Lock(args) => args.cluster.json,
            Self::Status(args) => args.cluster.json,
            Self::Tree(args) => args.cluster.json,
            Self::Leader(args) => args.json(),
            Self::Chaos(args) => args.cluster.json,
            Self::Bench(args) => args.cluster.json,
            Self::Sim(args) => args.json,
            Self::Config(args) => args.json(),
            Self::Mr(args) => args.json(),
            Self::Verify(args) => args.json,
        }
    }
}

fn report(failure: &Failure, json: bool) {
    if failure.code == exit::UNREAD {
        return;
    }
    let error = json!({"error": {
        "kind": failure.kind(), "message": failure.message, "code": failure.code,
    }});
    if !json || writeln!(std::io::stdout(), "{error}").is_err() {
        // When standard error is gone, too, there is nobody left to tell.
        let _ = writeln!(std::io::stderr(), "quorate: {}", failure.message);
    }
}

/// The same, but does not wait for a reader who has stalled.
fn report_in_passing(failure: Failure, json: bool) {
    let (said, seen) = std::sync::mpsc::channel();
    let say = move || {
        report(&failure, json);
        let _ = said.send(());
    };
    if std::thread::Builder::new().name("report".to_owned()).spawn(say).is_ok() {
        // Nobody is left to be told that it was not said.
        let _ = seen.recv_timeout(logging::LAST_WORDS);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Leaves of the command tree, with their words.
    fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        let words = format!("{words} {}", command.get_name());
        let mut subcommands = command.get_subcommands().filter(|sub| sub.get_name() != "help").peekable();
        if subcommands.peek().is_none() {
            found.push((words.trim().to_string(), command.clone()));
        }
        for sub in subcommands {
            leaves(sub, &words, found);
        }
    }

    /// The words of a shell's command line that quotes at most with '.
    fn shell_words(line: &str) -> Vec<String> {
        let quoted = |(i, part): (usize, &str)| match i % 2 {
            1 => vec![part.to_string()],
            _ => part.split_whitespace().map(ToString::to_string).collect(),
        };
        line.split('\'').enumerate().flat_map(quoted).collect()
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_examples_that_parse() {
        let mut found = Vec::new();
        leaves(&Cli::command(), "", &mut found);
        assert!(found.len() > 20, "{} commands", found.len());
        for (words, command) in found {
            assert!(command.get_about().is_some(), "{words} has no description");
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let examples: Vec<&str> =
                help.lines().map(str::trim).filter(|l| l.starts_with("quorate ")).collect();
            assert!(!examples.is_empty(), "{words} shows no example");
            for example in examples {
                // What stands behind two blanks explains the example; a pipe or redirection is the shell's.
                let line = example.split("  ").next().expect("a first part");
                let line = line.split([';', '|', '>', '<']).next().expect("a first part");
                if let Err(error) = Cli::try_parse_from(shell_words(line)) {
                    panic!("the example {example:?} does not parse: {error}");
                }
            }
        }
    }
}
