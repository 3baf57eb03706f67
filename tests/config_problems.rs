//! What is said about a configuration that is wrong: everything at once, with the path and line of each key.

use proptest::prelude::*;
use quorate::node::config::Config;

fn problems(text: &str) -> String {
    Config::parse(text, "test.toml").expect_err("this configuration is wrong").to_string()
}

#[test]
fn everything_that_is_wrong_is_reported_at_once_with_its_path() {
    let text = r#"
[cluster]
id = "my cluster"
groups = "one"
size = 3

[[cluster.nodes]]
id = 1
address = "127.0.0.1"

[[cluster.nodes]]
id = 1
adress = "127.0.0.1:7102"

[[cluster.nodes]]
id = -3
address = "127.0.0.1:7103"

[raft]
hartbeat_ms = 50
heartbeat = 50
election_timeout_min_ms = 100
election_timeout_max_ms = 100
inflight_appends = 5000000000
lease_reads = 1
segment_bytes = 5

[storage]
segment_bytes = 1_000

[log]
level = "loud"
format = "xml"

[launcher]
backoff_max_ms = 50

[nett]
ping_ms = 1
"#;
    let expected = r#"configuration test.toml: 19 problems
  cluster.id (line 3): use 1 to 64 letters, digits, dots, dashes and underscores
  cluster.groups (line 4): expected an integer, found the string "one"; write a plain number, the unit is in the key's name
  cluster.size (line 5): unknown key; known here: groups, id, nodes
  cluster.nodes[0].address (line 9): "127.0.0.1" has no port; write host:port, such as "127.0.0.1:7101"
  cluster.nodes[1].address (line 11): missing; it has no default
  cluster.nodes[1].id (line 12): 1 is already taken by cluster.nodes[0].id
  cluster.nodes[1].adress (line 13): unknown key; did you mean `address`?
  cluster.nodes[2].id (line 16): invalid value: integer `-3`, expected u64
  raft.hartbeat_ms (line 20): unknown key; did you mean `heartbeat_ms`?
  raft.heartbeat (line 21): unknown key; did you mean `heartbeat_ms`?
  raft.election_timeout_min_ms (line 22): election_timeout_min_ms = 100 must be at least twice heartbeat_ms = 60: one late heartbeat must not start an election
  raft.inflight_appends (line 24): invalid value: integer `5000000000`, expected u32
  raft.lease_reads (line 25): expected true or false, found the integer 1
  raft.segment_bytes (line 26): unknown key; did you mean `storage.segment_bytes`?
  storage.segment_bytes (line 29): 1000 is out of range; use 1048576 to 2147483648
  log.level (line 32): "loud" is not a level; use off, error, warn, info, debug, trace, or directives such as "info,quorate::net=debug"
  log.format (line 33): unknown variant `xml`, expected `text` or `json`
  launcher.backoff_max_ms (line 36): launcher.backoff_max_ms = 50 must be at least launcher.backoff_min_ms = 100: a pause grows from the one to the other
  nett (line 38): unknown key; did you mean `net`?"#;
    let found = problems(text);
    assert_eq!(found, expected, "found:\n{found}");
}

#[test]
fn malformed_toml_is_reported_with_line_and_column() {
    let found = problems("[cluster]\nid = \"local\"\ngroups = \n\n[raft\nheartbeat_ms = 1\n");
    assert!(found.contains("line 3: column 10: malformed TOML: "), "{found}");
    assert!(found.contains("line 5: column 6: malformed TOML: "), "{found}");
}

#[test]
fn a_cluster_without_nodes_is_refused() {
    assert_eq!(
        problems(""),
        "configuration test.toml: cluster.nodes: no node is named; add a [[cluster.nodes]] with an id and an address"
    );
}

#[test]
fn a_table_in_the_wrong_shape_is_one_problem() {
    let found = problems("raft = 5\n[cluster.nodes]\nid = 1\n");
    assert_eq!(
        found,
        "configuration test.toml: 2 problems\n  \
         raft (line 1): expected a table, found the integer 5; write it as a [section]\n  \
         cluster.nodes (line 2): expected an array of tables, found a table; write [[...]] with double brackets"
    );
}

#[test]
fn nodes_of_one_machine_share_neither_address_nor_data() {
    let nodes = |second: &str| {
        format!(
            "node.data_dir = \"data\"\n[[cluster.nodes]]\nid = 1\naddress = \"a:1\"\n\
             [[cluster.nodes]]\nid = 2\n{second}"
        )
    };
    let same_address = problems(&nodes("address = \"a:1\"\ndata_dir = \"other\""));
    assert!(
        same_address.contains("cluster.nodes[1].address (line 7): \"a:1\" is already taken"),
        "{same_address}"
    );
    let same_data = problems(&nodes("address = \"a:2\""));
    assert!(same_data.contains("node.data_dir (line 1): n1 and n2 would share"), "{same_data}");
    let own_data = problems(&nodes("address = \"a:2\"\ndata_dir = \"data\""));
    assert!(own_data.contains("cluster.nodes[1].data_dir (line 8): n1 and n2 would share"), "{own_data}");
    // On different machines the same path is the usual thing.
    Config::parse(&nodes("address = \"b:1\""), "test.toml").expect("a good configuration");
}

#[test]
fn a_cluster_that_runs_jobs_lets_in_what_their_coordinator_writes() {
    let text = |enabled: bool| {
        format!(
            "[[cluster.nodes]]\nid = 1\naddress = \"a:1\"\n[limits]\nmax_key_bytes = 32\nmax_value_bytes = 65536\n\
             max_batch_bytes = 131072\nmax_batch_changes = 64\n[mapreduce]\nenabled = {enabled}"
        )
    };
    Config::parse(&text(false), "test.toml").expect("no jobs, no coordinator");
    let found = problems(&text(true));
    for (line, least) in [(5, 64), (6, 524_288), (7, 2_097_152), (8, 65)] {
        assert!(found.contains(&format!("(line {line}): ")), "{found}");
        assert!(found.contains(&format!("jobs need at least {least}")), "{found}");
    }
}

#[test]
fn what_does_not_fit_in_a_frame_is_refused() {
    let text = "[[cluster.nodes]]\nid = 1\naddress = \"a:1\"\n[limits]\nmax_frame_bytes = 9437184\n\
                [raft]\nmax_append_bytes = 16777216";
    let found = problems(text);
    assert!(
        found.contains("raft.max_append_bytes (line 7): 16777216 bytes do not fit in a frame"),
        "{found}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let found =
        Config::load("/nowhere/quorate.toml".as_ref()).expect_err("there is no such file").to_string();
    assert!(found.starts_with("configuration /nowhere/quorate.toml: cannot be read: "), "{found}");
}

const REFERENCE: &str = include_str!("../config/reference.toml");

/// One thing done to a text.
#[derive(Clone, Debug)]
enum Edit {
    /// Gives the key of a line another value.
    Value(&'static str),
    /// Puts these characters in the middle of a line.
    Insert(String),
    Remove,
    Repeat,
    /// Moves a line to the front, out of its section.
    Lift,
    /// Everything from here on is missing.
    Cut,
}

fn edit() -> impl Strategy<Value = Edit> {
    let values = [
        "-1",
        "0",
        "1",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "1e308",
        "nan",
        "true",
        "\"\"",
        "\"{id}\"",
        "\"\\u0000\"",
        "1979-05-27T07:32:00Z",
        "[]",
        "[[]]",
        "{}",
        "{ a = 1, b.c = [{ d = 2 }] }",
        "'''",
    ];
    prop_oneof![
        4 => prop::sample::select(values.to_vec()).prop_map(Edit::Value),
        2 => "[\\PC\\x00\\t\\[\\]\\{\\}=.,\"'#\\\\]{1,6}".prop_map(Edit::Insert),
        1 => Just(Edit::Remove),
        1 => Just(Edit::Repeat),
        1 => Just(Edit::Lift),
        1 => Just(Edit::Cut),
    ]
}

/// Carries out an edit at a line and column that the two numbers choose.
fn carry_out(
    lines: &mut Vec<String>,
    (line, column): (prop::sample::Index, prop::sample::Index),
    edit: &Edit,
) {
    if lines.is_empty() {
        return;
    }
    let at = line.index(lines.len());
    match edit {
        Edit::Value(value) => {
            // The line at hand may be a comment; the next assignment is meant.
            let next = lines[at..].iter_mut().find(|line| line.contains(" = ") && !line.starts_with('#'));
            if let Some(line) = next {
                let key = line.split(" = ").next().unwrap_or_default().to_owned();
                *line = format!("{key} = {value}");
            }
        }
        Edit::Insert(text) => {
            let places: Vec<usize> =
                lines[at].char_indices().map(|(place, _)| place).chain([lines[at].len()]).collect();
            let place = places[column.index(places.len())];
            lines[at].insert_str(place, text);
        }
        Edit::Remove => drop(lines.remove(at)),
        Edit::Repeat => lines.insert(at, lines[at].clone()),
        Edit::Lift => {
            let line = lines.remove(at);
            lines.insert(0, line);
        }
        Edit::Cut => lines.truncate(at),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_configuration_or_has_problems_with_places(
        edits in prop::collection::vec(((any::<prop::sample::Index>(), any::<prop::sample::Index>()), edit()), 0..6)
    ) {
        let mut lines: Vec<String> = REFERENCE.lines().map(ToOwned::to_owned).collect();
        for (place, edit) in &edits {
            carry_out(&mut lines, *place, edit);
        }
        let text = lines.join("\n");
        match Config::parse(&text, "bent.toml") {
            Ok(config) => prop_assert!(!config.cluster.nodes.is_empty()),
            Err(found) => {
                prop_assert!(!edits.is_empty(), "the reference itself is refused: {found}");
                prop_assert!(!found.problems.is_empty());
                for problem in &found.problems {
                    prop_assert!(problem.line.is_none_or(|line| line >= 1 && line <= lines.len().max(1)), "{problem}");
                    prop_assert!(!problem.message.is_empty());
                }
            }
        }
    }
}
