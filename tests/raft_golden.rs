//! Plays the scripts of `tests/raft_scripts` and compares what happens with what they say must happen.
//!
//! A script is a sequence of blocks: commands, a line `---`, and what they lead to, up to an empty line. Its name is
//! the rule that it shows. `QUORATE_REWRITE=1 cargo test --test raft_golden` writes what happens into the scripts:
//! commit a difference only if you can explain it.
//!
//! | command | |
//! |---|---|
//! | `cluster voters=1,2,3 [spare=4] [leader=1]` and `lease= keep= append= window= uncommitted= log=` | start a group |
//! | `tick <nodes> <ms>` | time passes for these nodes (`all`, or ids with commas) |
//! | `campaign <node>` | stand for election |
//! | `propose <node> <command>...` | several proposals in one batch |
//! | `read <node> <name> [lease] [untimed]` | a read (`untimed`: the node is not told the time after it) |
//! | `deliver [from=] [to=] [kind=] [skip=n] [first=n] [keep]` | deliver what is on its way now (`keep`: and leave a copy) |
//! | `drop [from=] [to=] [kind=] [skip=n] [first=n]` | lose it |
//! | `persist <nodes>` | the disks of these nodes finish what was asked for |
//! | `transfer <node> [to]` | hand over leadership |
//! | `members <node> add-learner\|promote\|remove\|replace <ids>` | change the membership |
//! | `snapshot <node>` | take a snapshot of what is applied |
//! | `crash <node>`, `restart <node>` | lose what is not durable; start from the disk |
//! | `status [nodes]` | show what the replicas know |
//! | `settle [among=1,2]` | deliver and persist until nothing moves; messages of others are lost. Shows only results |

#[allow(dead_code, reason = "the random histories use more of it")]
mod raft_cluster;
mod raft_show;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Duration;

use quorate::logic::ids::NodeId;
use quorate::logic::raft::membership::Membership;
use quorate::logic::raft::message::Envelope;
use quorate::logic::raft::{Input, MembershipChange};
use raft_cluster::{Cluster, command};
use raft_show::{kind, show_envelope, show_output, show_status};

/// A script under way.
struct Runner {
    cluster: Cluster,
    /// What the script calls its requests.
    names: BTreeMap<u64, String>,
    lines: Vec<String>,
}

/// The arguments of a command.
struct Arguments<'a>(Vec<&'a str>);

impl<'a> Arguments<'a> {
    fn plain(&self, at: usize) -> &'a str {
        self.0
            .iter()
            .filter(|word| !word.contains('='))
            .nth(at)
            .unwrap_or_else(|| panic!("argument {at} is missing"))
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.value(key).map(|text| text.parse().unwrap_or_else(|_| panic!("{key}={text} is no number")))
    }

    fn node(&self, at: usize) -> NodeId {
        ids(self.plain(at))[0]
    }
}

fn ids(text: &str) -> Vec<NodeId> {
    text.split(',').map(|id| NodeId(id.parse().unwrap_or_else(|_| panic!("{text} names no nodes")))).collect()
}

impl Runner {
    fn new() -> Self {
        let cluster = Cluster::new([], Membership::default(), |_| {});
        Runner { cluster, names: BTreeMap::new(), lines: Vec::new() }
    }

    fn run(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        let verb = words.next().expect("a command has a verb");
        let arguments = Arguments(words.collect());
        match verb {
            "cluster" => self.start(&arguments),
            "tick" => {
                let elapsed = Duration::from_millis(arguments.plain(1).parse().expect("milliseconds"));
                for node in self.nodes(arguments.plain(0)) {
                    self.tell(node, Input::Tick { elapsed });
                }
            }
            "campaign" => self.tell(arguments.node(0), Input::Campaign),
            "propose" => self.propose(&arguments),
            "read" => self.read(&arguments),
            "deliver" => self.deliver(&arguments),
            "drop" => {
                for envelope in self.take(&arguments) {
                    self.lines.push(format!("lost: {}", show_envelope(&envelope)));
                }
            }
            "persist" => {
                for node in self.nodes(arguments.plain(0)) {
                    while self.cluster.persist_one(node) {}
                    self.flush(node);
                }
            }
            "transfer" => {
                let id = self.request("transfer");
                let to = arguments.0.get(1).map(|text| ids(text)[0]);
                self.tell(arguments.node(0), Input::TransferLeader { id, to });
            }
            "members" => self.members(&arguments),
            "snapshot" => {
                let position = self.cluster.take_snapshot(arguments.node(0)).expect("something is applied");
                self.lines.push(format!("{} begins a snapshot of {position}", arguments.node(0)));
            }
            "crash" => self.cluster.crash(arguments.node(0)),
            "restart" => {
                self.cluster.restart(arguments.node(0));
                self.flush(arguments.node(0));
            }
            "status" => {
                let nodes = arguments.0.first().copied().unwrap_or("all");
                for node in self.nodes(nodes) {
                    self.lines.push(show_status(self.cluster.node(node)));
                }
            }
            "settle" => self.settle(&arguments),
            other => panic!("unknown command {other}"),
        }
    }

    fn start(&mut self, arguments: &Arguments<'_>) {
        let voters = ids(arguments.value("voters").expect("voters="));
        let spare = arguments.value("spare").map(ids).unwrap_or_default();
        let all: Vec<u64> = voters.iter().chain(&spare).map(|node| node.0).collect();
        self.cluster = Cluster::new(all, Membership::of_voters(voters), |config| {
            config.lease = arguments.number("lease").map(|ms| Duration::from_millis(ms as u64));
            config.keep_entries = arguments.number("keep").unwrap_or(0) as u64;
            config.max_append_bytes = arguments.number("append").unwrap_or(config.max_append_bytes);
            config.max_inflight_appends = arguments.number("window").unwrap_or(config.max_inflight_appends);
            config.max_uncommitted_bytes =
                arguments.number("uncommitted").unwrap_or(config.max_uncommitted_bytes);
            if let Some(log) = arguments.number("log") {
                config.max_log_bytes = log;
                config.keep_bytes = 0;
            }
        });
        if let Some(leader) = arguments.value("leader") {
            self.run(&format!("campaign {leader}"));
            self.run("settle");
            self.lines.clear();
        }
    }

    fn nodes(&self, text: &str) -> Vec<NodeId> {
        if text == "all" { self.cluster.nodes.keys().copied().collect() } else { ids(text) }
    }

    fn request(&mut self, name: &str) -> u64 {
        let id = self.cluster.request();
        self.names.insert(id, name.into());
        id
    }

    /// No time passes while a node is told something.
    fn tell(&mut self, node: NodeId, input: Input) {
        self.cluster.step(node, input);
        self.cluster.step(node, Input::Tick { elapsed: Duration::ZERO });
        self.flush(node);
    }

    fn flush(&mut self, node: NodeId) {
        loop {
            let output = self.cluster.flush(node);
            self.lines.extend(show_output(node, &output, &self.names));
            // Wanted chunks were read meanwhile.
            if output.snapshot_wanted.is_empty() {
                break;
            }
        }
    }

    fn propose(&mut self, arguments: &Arguments<'_>) {
        let node = arguments.node(0);
        for text in &arguments.0[1..] {
            let id = self.request(text);
            self.cluster.step(node, Input::Propose { id, command: command(text) });
        }
        self.flush(node);
    }

    fn read(&mut self, arguments: &Arguments<'_>) {
        let (node, lease) = (arguments.node(0), arguments.has("lease"));
        let id = self.request(arguments.plain(1));
        let read = Input::Read { id, lease };
        if arguments.has("untimed") {
            self.cluster.step(node, read);
            self.flush(node);
        } else {
            self.tell(node, read);
        }
    }

    fn members(&mut self, arguments: &Arguments<'_>) {
        let nodes = ids(arguments.plain(2));
        let change = match arguments.plain(1) {
            "add-learner" => MembershipChange::AddLearner(nodes[0]),
            "promote" => MembershipChange::Promote(nodes[0]),
            "remove" => MembershipChange::Remove(nodes[0]),
            "replace" => MembershipChange::Replace {
                voters: nodes.into_iter().collect(),
                learners: arguments.value("learners").map(ids).unwrap_or_default().into_iter().collect(),
            },
            other => panic!("unknown change {other}"),
        };
        let id = self.request("change");
        self.tell(arguments.node(0), Input::ProposeMembership { id, change });
    }

    /// Takes messages off the network.
    fn take(&mut self, arguments: &Arguments<'_>) -> Vec<Envelope> {
        let matches = |envelope: &Envelope| {
            arguments.value("from").is_none_or(|from| ids(from).contains(&envelope.from))
                && arguments.value("to").is_none_or(|to| ids(to).contains(&envelope.to))
                && arguments.value("kind").is_none_or(|name| name == kind(&envelope.body))
        };
        let mut skip = arguments.number("skip").unwrap_or(0);
        let most = arguments.number("first").unwrap_or(usize::MAX);
        let mut taken = Vec::new();
        for envelope in std::mem::take(&mut self.cluster.network) {
            let skipped = matches(&envelope) && skip > 0;
            skip -= usize::from(skipped);
            let is_taken = matches(&envelope) && !skipped && taken.len() < most;
            if is_taken {
                taken.push(envelope.clone());
            }
            if !is_taken || arguments.has("keep") {
                self.cluster.network.push_back(envelope);
            }
        }
        taken
    }

    fn deliver(&mut self, arguments: &Arguments<'_>) {
        let taken = self.take(arguments);
        if taken.is_empty() {
            self.lines.push("nothing is on its way".into());
        }
        for envelope in taken {
            let to = envelope.to;
            self.lines.push(show_envelope(&envelope));
            self.tell(to, Input::Message(envelope));
        }
    }

    fn settle(&mut self, arguments: &Arguments<'_>) {
        let among: BTreeSet<NodeId> =
            self.nodes(arguments.value("among").unwrap_or("all")).into_iter().collect();
        let before = self.lines.len();
        for _ in 0..1000 {
            let mut moved = false;
            for envelope in std::mem::take(&mut self.cluster.network) {
                if among.contains(&envelope.from) && among.contains(&envelope.to) {
                    moved = true;
                    let to = envelope.to;
                    self.tell(to, Input::Message(envelope));
                }
            }
            for node in &among {
                while self.cluster.persist_one(*node) {
                    moved = true;
                    self.flush(*node);
                }
            }
            if !moved {
                let is_result = |line: &String| {
                    !["writes", "sends", "applies", "stores", "fetches"]
                        .iter()
                        .any(|word| line.split_whitespace().nth(1) == Some(word))
                };
                let results: Vec<String> =
                    self.lines.split_off(before).into_iter().filter(is_result).collect();
                self.lines.extend(results);
                return;
            }
        }
        panic!("the group never comes to rest");
    }
}

/// Plays a script and returns it with what really happened.
fn play(script: &str) -> String {
    let mut runner = Runner::new();
    let mut played = String::new();
    let mut commands = 0;
    let mut block: Vec<String> = Vec::new();
    let mut lines = script.lines();
    while let Some(line) = lines.next() {
        if line == "---" {
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            played.push_str("---\n");
            let nothing = block.is_empty();
            for line in std::mem::take(&mut block) {
                played.push_str(&format!("{line}\n"));
            }
            played.push_str(if nothing { "(nothing)\n\n" } else { "\n" });
            commands = 0;
            continue;
        }
        played.push_str(&format!("{line}\n"));
        let text = line.split('#').next().unwrap_or_default().trim();
        if !text.is_empty() {
            commands += 1;
            if commands > 1 || script_block_has_more(&lines) {
                block.push(format!("> {text}"));
            }
            runner.run(text);
            block.append(&mut runner.lines);
        }
    }
    assert!(block.is_empty(), "the script does not end in a block with `---`");
    format!("{}\n", played.trim_end())
}

/// Whether another command follows before the block ends.
fn script_block_has_more(rest: &std::str::Lines<'_>) -> bool {
    let mut ahead = rest.clone().take_while(|line| *line != "---");
    ahead.any(|line| !line.split('#').next().unwrap_or_default().trim().is_empty())
}

#[test]
fn scripts_lead_to_what_they_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/raft_scripts");
    let rewrite = std::env::var_os("QUORATE_REWRITE").is_some();
    let entries = std::fs::read_dir(&directory).expect("the scripts are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    let mut wrong = Vec::new();
    for path in &paths {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        let script = std::fs::read_to_string(path).expect("a readable script");
        println!("playing {name}");
        // A promise that is broken in one script must not hide what the others lead to.
        let played =
            catch_unwind(|| play(&script)).unwrap_or_else(|_| "a promise is broken, see above".into());
        if rewrite {
            std::fs::write(path, &played).expect("a writable script");
        } else if played != script {
            let first = played.lines().zip(script.lines()).find(|(is, was)| is != was);
            println!("SCRIPT {name} leads to something else");
            wrong.push(format!("{name}: {first:#?}"));
        }
    }
    assert!(paths.len() >= 35, "only {} scripts were found", paths.len());
    assert!(wrong.is_empty(), "these scripts lead to something else (is, was): {wrong:#?}");
}
