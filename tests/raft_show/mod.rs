//! Messages, outputs and states in words.

use std::collections::BTreeMap;

use quorate::logic::ids::NodeId;
use quorate::logic::raft::entry::{Entry, Payload};
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::{AppendOutcome, Envelope, Message};
use quorate::logic::raft::{Output, PeerMode, Persist, RoleChange};

use crate::raft_cluster::Node;

fn list<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
    nodes.into_iter().map(|node| node.0.to_string()).collect::<Vec<_>>().join(",")
}

fn show_membership(membership: &Membership) -> String {
    let mut text = format!("voters={}", list(&membership.voters));
    for (name, nodes) in [("outgoing", &membership.outgoing), ("learners", &membership.learners)] {
        if !nodes.is_empty() {
            text += &format!(" {name}={}", list(nodes));
        }
    }
    text
}

fn show_entry(entry: &Entry) -> String {
    let payload = match &entry.payload {
        Payload::Noop => "-".into(),
        Payload::Command(data) => String::from_utf8_lossy(data).into_owned(),
        Payload::Membership(membership) => format!("({})", show_membership(membership)),
    };
    format!("{} {payload}", entry.position())
}

fn show_entries(entries: &[Entry]) -> String {
    entries.iter().map(show_entry).collect::<Vec<_>>().join(", ")
}

/// The name by which scripts select messages.
pub fn kind(message: &Message) -> &'static str {
    match message {
        Message::RequestVote { .. } => "vote",
        Message::VoteReply { .. } => "voted",
        Message::Append { entries, .. } if entries.is_empty() => "heartbeat",
        Message::Append { .. } => "append",
        Message::AppendReply { .. } => "appended",
        Message::SnapshotChunk { .. } => "chunk",
        Message::SnapshotReply { .. } => "chunked",
        Message::TimeoutNow => "timeout",
    }
}

fn show_message(message: &Message) -> String {
    match message {
        Message::RequestVote { last, pre, transfer } => {
            let pre = if *pre { " in rehearsal" } else { "" };
            let transfer = if *transfer { " for transfer" } else { "" };
            format!("vote for me{pre}{transfer}, my log ends at {last}")
        }
        Message::VoteReply { pre, granted } => {
            format!("{}{}", if *granted { "yes" } else { "no" }, if *pre { " in rehearsal" } else { "" })
        }
        Message::Append { prev, entries, commit, round } => {
            format!("append behind {prev} [{}] commit={commit} round={round}", show_entries(entries))
        }
        Message::AppendReply { outcome: AppendOutcome::Accepted { matched }, round } => {
            format!("accepted up to {matched} round={round}")
        }
        Message::AppendReply { outcome: AppendOutcome::Rejected { prev, hint }, round } => {
            format!("rejected behind {prev}, try {hint} round={round}")
        }
        Message::SnapshotChunk { meta, number, last, .. } => {
            format!("chunk {number}{} of {}", if *last { " (last)" } else { "" }, meta.last)
        }
        Message::SnapshotReply { last, installed: true, .. } => format!("snapshot {last} is here"),
        Message::SnapshotReply { last, next, .. } => format!("snapshot {last} lacks chunk {next}"),
        Message::TimeoutNow => "take over".into(),
    }
}

/// A message with its address.
pub fn show_envelope(envelope: &Envelope) -> String {
    let Envelope { from, to, term, body, .. } = envelope;
    format!("{from}->{to} term {term}: {}", show_message(body))
}

fn show_persist(persist: &Persist) -> String {
    let mut parts = Vec::new();
    if let Some(meta) = &persist.snapshot {
        parts.push(format!("snapshot {} in place of the log", meta.last));
    }
    if let Some(hard_state) = &persist.hard_state {
        let vote = hard_state.vote.map_or("-".into(), |node| node.to_string());
        parts.push(format!("term={} vote={vote}", hard_state.term));
    }
    if !persist.entries.is_empty() {
        parts.push(format!("[{}]", show_entries(&persist.entries)));
    }
    format!("#{} {}", persist.ticket, parts.join(" "))
}

/// What a node wants done, a line for each thing.
pub fn show_output(node: NodeId, output: &Output, names: &BTreeMap<u64, String>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut say = |text: String| lines.push(format!("{node} {text}"));
    if let Some(persist) = &output.persist {
        say(format!("writes {}", show_persist(persist)));
    }
    for envelope in &output.send {
        say(format!("sends {} term {}: {}", envelope.to, envelope.term, show_message(&envelope.body)));
    }
    for chunk in &output.store_chunks {
        say(format!("stores chunk {} of {}", chunk.number, chunk.meta.last));
    }
    for (id, position) in &output.accepted {
        say(format!("accepts {} at {position}", names[id]));
    }
    for (id, refusal) in &output.refused {
        say(format!("refuses {}: {refusal:?}", names[id]));
    }
    if let Some(meta) = &output.load {
        say(format!("loads snapshot {} {}", meta.last, show_membership(&meta.membership)));
    }
    if !output.committed.is_empty() {
        say(format!("applies {}", show_entries(&output.committed)));
    }
    for (id, index) in &output.reads {
        say(format!("answers {} as of {index}", names[id]));
    }
    for wanted in &output.snapshot_wanted {
        say(format!("fetches chunk {} of {} for {}", wanted.number, wanted.snapshot, wanted.to));
    }
    if let Some(position) = &output.compact {
        say(format!("compacts up to {position}"));
    }
    if let Some(RoleChange { role, term, leader }) = &output.role {
        let leader = leader.map_or("nobody".into(), |leader| leader.to_string());
        say(format!("becomes {role:?} in term {term}, led by {leader}"));
    }
    lines
}

/// What a replica knows, on one line, and a line for each peer of a leader.
pub fn show_status(node: &Node) -> String {
    let Some(raft) = &node.raft else { return format!("{} is down", node.config.id) };
    let status = raft.status();
    let vote = status.hard_state.vote.map_or("-".into(), |vote| vote.to_string());
    let leader = status.leader.map_or("-".into(), |leader| leader.to_string());
    let mut text = format!(
        "{} {:?} term={} vote={vote} leader={leader} log={}..{} durable={} commit={} {}",
        status.id,
        status.role,
        status.hard_state.term,
        status.base,
        status.last,
        status.durable,
        status.commit,
        show_membership(&status.membership)
    );
    for peer in &status.peers {
        let mode = match peer.mode {
            PeerMode::Probe => "probe".into(),
            PeerMode::Replicate => "replicate".into(),
            PeerMode::Snapshot { stored } => format!("snapshot, {stored} chunks"),
        };
        text += &format!("\n   {} matched={} next={} {mode}", peer.node, peer.matched, peer.next);
    }
    text
}
