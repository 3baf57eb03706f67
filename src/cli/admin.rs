//! status, tree, leader: what the nodes know of themselves, and who leads.

use serde_json::{Value, json};

use super::cluster::{Cluster, ClusterArgs, parse_node, unexpected};
use super::output::Output;
use super::text::{age_text, size_text};
use crate::logic::ids::NodeId;
use crate::messages::admin::{ActorStatus, AdminReply, AdminRequest, GroupStatus, NodeStatus};
use crate::node::exit::{self, Failure};

/// Show the nodes and groups of the cluster.
///
/// Exit code 0: every node answered, and every group has a leader whom all others follow. 1: something is missing.
/// 3: no node answered.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate status
  quorate status --json
  quorate status --config config/cluster/three-machines.toml")]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Show the supervision tree of a node: its actors, how often each was restarted, and why.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate tree      of every node
  quorate tree 2    of n2")]
pub(super) struct TreeArgs {
    /// Only of this node
    #[arg(value_parser = parse_node)]
    node: Option<NodeId>,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Move leadership of a group.
#[derive(Debug, clap::Args)]
pub(super) struct LeaderArgs {
    #[command(subcommand)]
    action: LeaderAction,
}

#[derive(Debug, clap::Subcommand)]
enum LeaderAction {
    /// Hand leadership of a group to another node.
    ///
    /// It is begun, not waited for: `quorate status` shows who leads.
    #[command(after_help = "Examples:
  quorate leader transfer             to the most up-to-date node
  quorate leader transfer --to 2")]
    Transfer {
        /// To this node; without it, to the most up-to-date one
        #[arg(long, value_name = "ID", value_parser = parse_node)]
        to: Option<NodeId>,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

/// What became of asking one node.
struct Asked<T> {
    node: NodeId,
    address: String,
    answer: Result<T, Failure>,
}

/// Asks every node the same, all at once.
async fn ask_all<T>(
    cluster: &Cluster,
    nodes: &[(NodeId, String)],
    request: AdminRequest,
    pick: fn(AdminReply) -> Result<T, Failure>,
) -> Vec<Asked<T>> {
    let calls = nodes.iter().map(|(node, address)| {
        let request = request.clone();
        async move {
            let answer = cluster.ask(request, *node).await.and_then(pick);
            Asked { node: *node, address: address.clone(), answer }
        }
    });
    super::cluster::join_all(calls).await
}

/// When nobody answered, that is the failure.
fn somebody<T>(asked: &[Asked<T>]) -> Result<(), Failure> {
    if asked.iter().any(|asked| asked.answer.is_ok()) {
        return Ok(());
    }
    let addresses: Vec<&str> = asked.iter().map(|asked| asked.address.as_str()).collect();
    Err(Failure::new(
        exit::UNAVAILABLE,
        format!(
            "no node answers at {}; is the cluster running? `quorate up` starts one on this machine",
            addresses.join(", ")
        ),
    ))
}

impl StatusArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let asked = self.cluster.run(async |cluster| {
            let nodes = cluster.nodes().await?;
            let pick = |reply| match reply {
                AdminReply::Status(status) => Ok(status),
                other => Err(unexpected(&other)),
            };
            Ok(ask_all(cluster, &nodes, AdminRequest::Status, pick).await)
        })?;
        somebody(&asked)?;
        let mut out = Output::new(self.cluster.json);
        if out.json {
            out.value(&status_json(&asked))?;
        } else {
            for line in status_lines(&asked) {
                out.line(line)?;
            }
        }
        out.flush()?;
        Ok(if missing(&asked).is_empty() { exit::OK } else { exit::REFUSED })
    }
}

/// Every group that some node hosts, in order.
fn groups(asked: &[Asked<NodeStatus>]) -> Vec<(NodeId, &GroupStatus)> {
    let mut groups: Vec<(NodeId, &GroupStatus)> = Vec::new();
    for Asked { node, answer, .. } in asked {
        let hosted = answer.as_ref().map_or(&[][..], |status| &status.groups);
        groups.extend(hosted.iter().map(|group| (*node, group)));
    }
    groups.sort_by_key(|(node, group)| (group.group, *node));
    groups
}

/// Groups that nobody says to lead.
fn leaderless(asked: &[Asked<NodeStatus>]) -> Vec<String> {
    let all = groups(asked);
    let mut ids: Vec<_> = all.iter().map(|(_, group)| group.group).collect();
    ids.dedup();
    ids.retain(|id| !all.iter().any(|(_, group)| group.group == *id && group.role == "leader"));
    ids.iter().map(ToString::to_string).collect()
}

/// Replicas that take no part, though their group is led: alone, out of favour with the others, or without a disk.
fn idle(asked: &[Asked<NodeStatus>]) -> Vec<String> {
    let (all, leaderless) = (groups(asked), leaderless(asked));
    let led = all.iter().filter(|(_, group)| !leaderless.contains(&group.group.to_string()));
    led.filter_map(|(node, group)| {
        let what = match &*group.role {
            "leader" | "follower" | "learner" => return None,
            "restarting" => "is being restarted",
            _ => "follows nobody, though another leads",
        };
        Some(format!("{} of {node} {what}; the log of {node} says why", group.group))
    })
    .collect()
}

/// All that is not as it should be, a sentence for each.
fn missing(asked: &[Asked<NodeStatus>]) -> Vec<String> {
    let silent = asked.iter().filter_map(|Asked { node, answer, .. }| {
        answer.as_ref().err().map(|failure| format!("{node} does not answer: {}", failure.message))
    });
    let leaderless = leaderless(asked).into_iter().map(|group| format!("{group} has no leader"));
    silent.chain(leaderless).chain(idle(asked)).collect()
}

fn status_json(asked: &[Asked<NodeStatus>]) -> Value {
    let nodes: Vec<Value> = asked
        .iter()
        .map(|asked| match &asked.answer {
            Ok(status) => {
                json!({"node": asked.node, "address": asked.address, "up": true, "status": status})
            }
            Err(failure) => {
                json!({"node": asked.node, "address": asked.address, "up": false, "error": failure.message})
            }
        })
        .collect();
    json!({"nodes": nodes, "groups_without_leader": leaderless(asked), "missing": missing(asked)})
}

fn status_lines(asked: &[Asked<NodeStatus>]) -> Vec<String> {
    let mut nodes = vec![row(&["NODE", "ADDRESS", "STATE", "UP SINCE", "RESTARTS", "DISK", "VERSION"])];
    for Asked { node, address, answer } in asked {
        nodes.push(match answer {
            Ok(status) => vec![
                node.to_string(),
                address.clone(),
                "up".into(),
                age_text(status.uptime_ms),
                status.restarts.to_string(),
                size_text(status.disk_bytes),
                status.version.clone(),
            ],
            Err(_) => row(&[&node.to_string(), address, "down", "-", "-", "-", "-"]),
        });
    }
    let header =
        ["GROUP", "NODE", "ROLE", "TERM", "LAST", "COMMIT", "APPLIED", "SNAPSHOT", "KEYS", "BYTES", "STATE"];
    let mut table = vec![row(&header)];
    for (node, group) in groups(asked) {
        let hash: String = group.hash.chars().take(8).collect();
        table.push(vec![
            group.group.to_string(),
            node.to_string(),
            group.role.clone(),
            group.term.to_string(),
            group.last.to_string(),
            group.commit.to_string(),
            group.applied.to_string(),
            group.snapshot.to_string(),
            group.keys.to_string(),
            size_text(group.bytes),
            hash,
        ]);
    }
    let mut lines = aligned(&nodes);
    lines.push(String::new());
    lines.extend(aligned(&table));
    let missing = missing(asked);
    if !missing.is_empty() {
        lines.push(String::new());
        lines.extend(missing);
    }
    lines
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(ToString::to_string).collect()
}

/// A table whose columns are as wide as their widest cell.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect()
}

impl TreeArgs {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let asked = self.cluster.run(async |cluster| {
            let mut nodes = cluster.nodes().await?;
            if let Some(wanted) = self.node {
                nodes.retain(|(node, _)| *node == wanted);
                if nodes.is_empty() {
                    return Err(Failure::usage(format!(
                        "the cluster has no node {wanted}; see `quorate status`"
                    )));
                }
            }
            let pick = |reply| match reply {
                AdminReply::Tree(tree) => Ok(tree),
                other => Err(unexpected(&other)),
            };
            Ok(ask_all(cluster, &nodes, AdminRequest::Tree, pick).await)
        })?;
        somebody(&asked)?;
        let mut out = Output::new(self.cluster.json);
        for Asked { node, answer, .. } in &asked {
            match answer {
                Ok(tree) if out.json => out.value(&json!({"node": node, "tree": tree}))?,
                Err(failure) if out.json => out.value(&json!({"node": node, "error": failure.message}))?,
                Ok(tree) => {
                    out.line(format_args!("{node}"))?;
                    for line in tree_lines(tree) {
                        out.line(line)?;
                    }
                }
                Err(failure) => out.line(format_args!("{node} does not answer: {}", failure.message))?,
            }
        }
        out.flush()?;
        Ok(if asked.iter().all(|asked| asked.answer.is_ok()) { exit::OK } else { exit::REFUSED })
    }
}

fn tree_lines(root: &ActorStatus) -> Vec<String> {
    let mut lines = vec![actor_text(root)];
    branches(root, "", &mut lines);
    lines
}

fn branches(actor: &ActorStatus, indent: &str, lines: &mut Vec<String>) {
    for (position, child) in actor.children.iter().enumerate() {
        let last = position + 1 == actor.children.len();
        let (branch, below) = if last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        lines.push(format!("{indent}{branch}{}", actor_text(child)));
        branches(child, &format!("{indent}{below}"), lines);
    }
}

fn actor_text(actor: &ActorStatus) -> String {
    let mut text = format!("{}  {}", actor.name, actor.state);
    if actor.restarts > 0 {
        text.push_str(&format!(", restarted {} times", actor.restarts));
    }
    if let Some(cause) = &actor.last_cause {
        text.push_str(&format!(", last ended: {cause}"));
    }
    text
}

impl LeaderArgs {
    pub(super) fn json(&self) -> bool {
        let LeaderAction::Transfer { cluster, .. } = &self.action;
        cluster.json
    }

    pub(super) fn run(self) -> Result<u8, Failure> {
        let LeaderAction::Transfer { to, cluster } = self.action;
        let reply =
            cluster.run(async |cluster| cluster.admin(AdminRequest::TransferLeader { to }, None).await)?;
        if reply != AdminReply::Done {
            return Err(unexpected(&reply));
        }
        let mut out = Output::new(cluster.json);
        let whom = to.map_or("the most up-to-date node".into(), |node| node.to_string());
        out.either(format_args!("transfer to {whom} begun"), &json!({"begun": true, "to": to}))?;
        out.flush()?;
        Ok(exit::OK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(name: &str, children: Vec<ActorStatus>) -> ActorStatus {
        let (name, state) = (name.into(), "running".into());
        ActorStatus { name, state, generation: 1, restarts: 0, last_cause: None, children }
    }

    #[test]
    fn a_tree_is_drawn_with_its_branches() {
        let mut raft = actor("raft", vec![]);
        (raft.restarts, raft.last_cause) = (2, Some("panic: boom".into()));
        let tree =
            actor("node", vec![actor("group-1", vec![raft, actor("kv", vec![])]), actor("net", vec![])]);
        let expected = [
            "node  running",
            "├─ group-1  running",
            "│  ├─ raft  running, restarted 2 times, last ended: panic: boom",
            "│  └─ kv  running",
            "└─ net  running",
        ];
        assert_eq!(tree_lines(&tree), expected);
    }

    fn status(node: u64, role: &str) -> Asked<NodeStatus> {
        let group = serde_json::json!({
            "group": 1, "role": role, "leader": 1, "term": 2, "last": 9, "commit": 9, "applied": 9, "snapshot": 0,
            "keys": 3, "bytes": 2048, "sessions": 0, "time_ms": 5, "hash": "0123456789abcdef", "peers": [],
        });
        let answer = serde_json::from_value(serde_json::json!({
            "node": node, "version": "0.1.0", "uptime_ms": 61_000, "restarts": 0, "disk_bytes": 4096, "groups": [group],
        }));
        Asked { node: NodeId(node), address: format!("a:{node}"), answer: Ok(answer.expect("a status")) }
    }

    #[test]
    fn what_is_missing_is_said() {
        let down = Asked {
            node: NodeId(3),
            address: "a:3".into(),
            answer: Err(Failure::new(exit::UNAVAILABLE, "refused")),
        };
        let good = [status(1, "leader"), status(2, "follower"), down];
        let lines = status_lines(&good);
        assert_eq!(lines[0], "NODE  ADDRESS  STATE  UP SINCE  RESTARTS  DISK     VERSION");
        assert_eq!(lines[1], "n1    a:1      up     1m01s     0         4.0 KiB  0.1.0");
        assert_eq!(
            lines[6],
            "g1     n1    leader    2     9     9       9        0         3     2.0 KiB  01234567"
        );
        assert_eq!(lines.last().map(String::as_str), Some("n3 does not answer: refused"));
        assert_eq!(leaderless(&[status(1, "candidate"), status(2, "follower")]), ["g1"]);
        assert!(leaderless(&good).is_empty());
        assert_eq!(missing(&[status(1, "candidate"), status(2, "follower")]), ["g1 has no leader"]);
        assert_eq!(
            missing(&[status(1, "leader"), status(2, "restarting"), status(3, "pre-candidate")]),
            [
                "g1 of n2 is being restarted; the log of n2 says why",
                "g1 of n3 follows nobody, though another leads; the log of n3 says why"
            ]
        );
    }
}
