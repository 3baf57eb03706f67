//! chaos: break something on purpose, to see it heal.

use std::time::Duration;

use serde_json::json;

use super::cluster::{ClusterArgs, parse_node, unexpected};
use super::output::Output;
use super::text::parse_duration;
use crate::logic::ids::NodeId;
use crate::messages::admin::{AdminReply, AdminRequest, Chaos};
use crate::node::exit::{self, Failure};

/// Break something in a running node on purpose.
///
/// Obeyed only by nodes whose configuration says `[chaos] enabled = true`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    fault: Fault,
    /// Which node to break
    #[arg(long, value_name = "ID", value_parser = parse_node, global = true)]
    node: Option<NodeId>,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Fault {
    /// Make an actor panic.
    #[command(after_help = "Examples:
  quorate chaos panic node/group-1/raft --node 1
  quorate chaos panic '*' --node 1                 some actor, picked at random
Names: `quorate tree`")]
    Panic {
        /// Path of the actor in the supervision tree
        actor: String,
    },
    /// Make an actor block its thread.
    #[command(after_help = "Examples:
  quorate chaos hang node/group-1/raft 3s --node 1 --json")]
    Hang {
        /// Path of the actor in the supervision tree
        actor: String,
        /// For how long
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        time: Duration,
    },
    /// Delay what is sent to a peer; 0ms heals.
    #[command(after_help = "Examples:
  quorate chaos link-delay 2 100ms --node 1
  quorate chaos link-delay 2 0ms --node 1      heal")]
    LinkDelay {
        /// The peer
        #[arg(value_parser = parse_node)]
        peer: NodeId,
        /// How long
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        time: Duration,
    },
    /// Lose a share of what is sent to a peer; 0 heals, 100 cuts.
    #[command(after_help = "Examples:
  quorate chaos link-drop 2 5 --node 1       5 % of it
  quorate chaos link-drop 2 100 --node 1     cut
  quorate chaos link-drop 2 0 --node 1       heal")]
    LinkDrop {
        /// The peer
        #[arg(value_parser = parse_node)]
        peer: NodeId,
        /// Share in percent, down to tenths
        #[arg(value_name = "PERCENT", value_parser = parse_permille)]
        permille: u16,
    },
    /// Make every write to the log take longer; 0ms heals.
    #[command(after_help = "Examples:
  quorate chaos disk-delay 20ms --node 1
  quorate chaos disk-delay 0ms --node 1      heal")]
    DiskDelay {
        /// How long
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        time: Duration,
    },
    /// Make the disk hang once.
    #[command(after_help = "Examples:
  quorate chaos disk-hang 3s --node 1")]
    DiskHang {
        /// For how long
        #[arg(value_name = "TIME", value_parser = parse_duration)]
        time: Duration,
    },
    /// Make the next sync of the disk fail, which ends the process.
    #[command(after_help = "Examples:
  quorate chaos disk-fail --node 1")]
    DiskFail,
    /// Make the disk full; `heal` makes room again.
    #[command(after_help = "Examples:
  quorate chaos disk-full 1000000 --node 1     after a million bytes more
  quorate chaos disk-full heal --node 1
Files that exist already can still be overwritten: the log fills its segments first.")]
    DiskFull {
        /// After so many bytes more, or `heal`
        #[arg(value_name = "BYTES", value_parser = parse_room)]
        after: Room,
    },
}

/// Reads a percentage down to tenths as thousandths.
fn parse_permille(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is not a share; write percent, from 0 to 100, such as 5 or 0.5");
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str| part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse::<u16>().ok()).flatten();
    let permille = match (digits(whole), digits(tenth)) {
        (Some(whole @ 0..=100), Some(tenth @ 0..=9)) => whole * 10 + tenth,
        _ => return Err(wrong()),
    };
    if permille > 1000 { Err(wrong()) } else { Ok(permille) }
}

/// How much room a disk has left; `None`: as much as it really has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room(Option<u64>);

fn parse_room(text: &str) -> Result<Room, String> {
    match text.parse() {
        _ if text == "heal" => Ok(Room(None)),
        Ok(bytes) => Ok(Room(Some(bytes))),
        Err(_) => Err(format!("{text:?} is no number of bytes; write a whole number, or heal")),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Fault {
    fn order(self) -> Chaos {
        match self {
            Self::Panic { actor } => Chaos::Panic { actor },
            Self::Hang { actor, time } => Chaos::Hang { actor, ms: millis(time) },
            Self::LinkDelay { peer, time } => Chaos::LinkDelay { peer, ms: millis(time) },
            Self::LinkDrop { peer, permille } => Chaos::LinkDrop { peer, permille },
            Self::DiskDelay { time } => Chaos::DiskDelay { ms: millis(time) },
            Self::DiskHang { time } => Chaos::DiskHang { ms: millis(time) },
            Self::DiskFail => Chaos::DiskFail,
            Self::DiskFull { after } => Chaos::DiskFull { after_bytes: after.0 },
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let Some(node) = self.node else {
            return Err(Failure::usage("say which node to break: --node ID; `quorate status` lists them"));
        };
        let order = AdminRequest::Chaos(self.fault.order());
        let reply = self.cluster.run(async |cluster| cluster.admin(order, Some(node)).await)?;
        if reply != AdminReply::Done {
            return Err(unexpected(&reply));
        }
        let mut out = Output::new(self.cluster.json);
        out.either(format_args!("{node} obeys"), &json!({"done": true, "node": node}))?;
        out.flush()?;
        Ok(exit::OK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_a_number_of_bytes_or_healed() {
        assert_eq!(parse_room("0"), Ok(Room(Some(0))));
        assert_eq!(parse_room("1000000"), Ok(Room(Some(1_000_000))));
        assert_eq!(parse_room("heal"), Ok(Room(None)));
        for bad in ["", "-1", "1 MB", "none"] {
            assert!(parse_room(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_are_percent_down_to_tenths() {
        for (text, permille) in
            [("0", 0), ("5", 50), ("0.5", 5), ("12.3", 123), ("100", 1000), ("100.0", 1000)]
        {
            assert_eq!(parse_permille(text), Ok(permille), "{text}");
        }
        for bad in ["", "-1", "100.1", "101", "5%", "0.55", ".", "+5", "1.+5"] {
            assert!(parse_permille(bad).is_err(), "{bad}");
        }
    }
}
