//! The launcher with real processes: shell scripts stand for the nodes.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use quorate::logic::ids::NodeId;
use quorate::logic::restart::RestartPolicy;
use quorate::node::launcher::{Console, Launcher, Notice, Order, Outcome, Settings};
use tokio::sync::mpsc;

/// What is written to a console, as text, piece by piece.
struct Pieces(mpsc::UnboundedSender<String>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A launch under way.
struct Launch {
    notices: mpsc::UnboundedReceiver<Notice>,
    output: mpsc::UnboundedReceiver<String>,
    orders: mpsc::Sender<Order>,
    outcome: tokio::task::JoinHandle<Outcome>,
}

/// Starts one node for each script.
fn launch(scripts: &'static [&'static str], policy: RestartPolicy, stop_timeout: Duration) -> Launch {
    let (pieces, output) = mpsc::unbounded_channel();
    let console = Console::start(Pieces(pieces), false).expect("a thread");
    let (notify, notices) = mpsc::unbounded_channel();
    let (orders, inbox) = mpsc::channel(4);
    let nodes: Vec<NodeId> = (1..=scripts.len() as u64).map(NodeId).collect();
    let command = |node: NodeId| {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(scripts[node.0 as usize - 1]);
        command
    };
    let launcher = Launcher::new(&nodes, command, Settings { policy, stop_timeout }, console, notify);
    let outcome = tokio::task::spawn_local(launcher.run(inbox));
    Launch { notices, output, orders, outcome }
}

impl Launch {
    async fn notice(&mut self) -> Notice {
        self.notices.recv().await.expect("the launcher lives")
    }

    /// The next piece of output.
    async fn line(&mut self) -> String {
        self.output.recv().await.expect("the launcher lives")
    }

    async fn end(mut self) -> (Vec<Notice>, Vec<NodeId>) {
        let outcome = self.outcome.await.expect("the launcher does not panic");
        let mut rest = Vec::new();
        while let Some(notice) = self.notices.recv().await {
            rest.push(notice);
        }
        (rest, outcome.left_down)
    }
}

fn at_once() -> RestartPolicy {
    RestartPolicy::intensity(2, Duration::from_secs(3600)).delays(
        Duration::ZERO,
        Duration::ZERO,
        Duration::ZERO,
    )
}

const LONG: Duration = Duration::from_secs(3600);

async fn local<T>(test: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(test).await
}

#[tokio::test]
async fn a_node_that_fails_is_started_again_until_the_policy_gives_up() {
    local(async {
        let (notices, left_down) = launch(&["kill -9 $$"], at_once(), LONG).end().await;
        let kinds: Vec<String> = notices
            .iter()
            .map(|notice| match notice {
                Notice::Started { generation, .. } => format!("started {generation}"),
                Notice::Failed { ending, .. } => format!("failed, {ending}"),
                Notice::LeftDown { advice, .. } => format!("left down, {advice}"),
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds.len(), 6, "{kinds:?}");
        assert_eq!([&*kinds[0], &*kinds[2], &*kinds[4]], ["started 1", "started 2", "started 3"]);
        for failed in [&kinds[1], &kinds[3]] {
            assert!(failed.starts_with("failed, was ended by signal 9"), "{failed}");
        }
        assert!(kinds[5].contains("more than 2 failures within 3600 s"), "{kinds:?}");
        assert_eq!(left_down, [NodeId(1)]);
    })
    .await;
}

#[tokio::test]
async fn every_start_finds_the_same_input() {
    local(async {
        let (pieces, mut output) = mpsc::unbounded_channel();
        let console = Console::start(Pieces(pieces), false).expect("a thread");
        let (notify, _notices) = mpsc::unbounded_channel();
        let (_orders, inbox) = mpsc::channel(4);
        let count = |_| {
            let mut command = Command::new("/bin/sh");
            command.args(["-c", "wc -c; exit 1"]);
            command
        };
        let settings = Settings { policy: at_once(), stop_timeout: LONG };
        // More than a pipe holds.
        let input = vec![b'x'; 200_000];
        let launcher = Launcher::new(&[NodeId(1)], count, settings, console, notify).input(input);
        launcher.run(inbox).await;
        for _ in 0..3 {
            assert_eq!(output.recv().await.expect("a line"), "n1 | 200000\n");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refused_configuration_and_damaged_data_are_left_down_while_the_others_carry_on() {
    local(async {
        let scripts = &["echo 'bad key' >&2; exit 2", "exec sleep 3600", "echo 'record 7' >&2; exit 65"];
        let mut launch = launch(scripts, at_once(), LONG);
        let mut down = Vec::new();
        while down.len() < 2 {
            match launch.notice().await {
                Notice::Started { generation: 1, .. } => {}
                Notice::LeftDown { node, advice, .. } => down.push((node, advice)),
                other => panic!("{other:?}"),
            }
        }
        down.sort();
        assert!(down[0].0 == NodeId(1) && down[0].1.ends_with("it said: bad key"), "{down:?}");
        assert!(down[1].0 == NodeId(3) && down[1].1.ends_with("it said: record 7"), "{down:?}");

        launch.orders.send(Order::Stop).await.expect("it listens");
        let (notices, left_down) = launch.end().await;
        assert!(matches!(notices[..], [Notice::Stopped { node: NodeId(2), .. }]), "{notices:?}");
        assert_eq!(left_down, [NodeId(1), NodeId(3)]);
    })
    .await;
}

#[tokio::test]
async fn what_does_not_end_when_told_to_is_killed() {
    local(async {
        // An ignored signal stays ignored across exec.
        let mut launch =
            launch(&["trap '' TERM; echo ready; exec sleep 3600"], at_once(), Duration::from_millis(20));
        assert_eq!(launch.line().await, "n1 | ready\n");
        launch.orders.send(Order::Stop).await.expect("it listens");
        let (notices, left_down) = launch.end().await;
        assert!(matches!(notices[1], Notice::Overdue { node: NodeId(1) }), "{notices:?}");
        let Notice::Stopped { ending, .. } = &notices[2] else { panic!("{notices:?}") };
        assert!(ending.what.contains("signal 9"), "{ending}");
        assert_eq!(left_down, []);
    })
    .await;
}

#[tokio::test]
async fn an_impatient_order_kills_at_once() {
    local(async {
        let mut launch = launch(&["trap '' TERM; echo ready; exec sleep 3600"], at_once(), LONG);
        assert_eq!(launch.line().await, "n1 | ready\n");
        launch.orders.send(Order::Stop).await.expect("it listens");
        launch.orders.send(Order::Kill).await.expect("it listens");
        let (notices, _) = launch.end().await;
        assert!(matches!(notices[1], Notice::Stopped { .. }), "{notices:?}");
    })
    .await;
}

#[tokio::test]
async fn a_stop_while_a_node_waits_for_its_restart_ends_the_launch() {
    local(async {
        let slow = RestartPolicy::intensity(2, LONG).delays(LONG, LONG, LONG);
        let mut launch = launch(&["exit 1"], slow, LONG);
        assert!(matches!(launch.notice().await, Notice::Started { .. }));
        assert!(matches!(launch.notice().await, Notice::Failed { .. }));
        launch.orders.send(Order::Stop).await.expect("it listens");
        assert_eq!(launch.end().await, (vec![], vec![]));
    })
    .await;
}

#[tokio::test]
async fn lines_of_both_streams_carry_the_name_of_their_node() {
    local(async {
        let mut launch =
            launch(&["printf 'out\\n'; exec sleep 3600", "printf 'err' >&2; exit 2"], at_once(), LONG);
        let mut lines = vec![launch.line().await, launch.line().await];
        lines.sort();
        assert_eq!(lines, ["n1 | out\n", "n2 | err\n"]);
        drop(launch.orders);
        launch.outcome.await.expect("a dropped sender is an order to stop");
    })
    .await;
}

#[tokio::test]
async fn a_child_has_a_process_group_of_its_own() {
    local(async {
        let mut launch = launch(&["cut -d' ' -f5 /proc/$$/stat; exec sleep 3600"], at_once(), LONG);
        let Notice::Started { pid, .. } = launch.notice().await else { panic!("it was not started") };
        assert_eq!(launch.line().await, format!("n1 | {pid}\n"));
        drop(launch.orders);
        launch.outcome.await.expect("it ends");
    })
    .await;
}

#[tokio::test]
async fn a_program_that_is_missing_is_a_failure_with_a_reason() {
    local(async {
        let console = Console::start(std::io::sink(), false).expect("a thread");
        let (notify, mut notices) = mpsc::unbounded_channel();
        let (_orders, inbox) = mpsc::channel(1);
        let settings = Settings { policy: RestartPolicy::never(), stop_timeout: LONG };
        let missing = |_| Command::new("/nowhere/quorate");
        let outcome = Launcher::new(&[NodeId(1)], missing, settings, console, notify).run(inbox).await;
        assert_eq!(outcome.left_down, [NodeId(1)]);
        let notice = notices.recv().await.expect("a notice").to_string();
        assert!(notice.starts_with("n1 could not be started: "), "{notice}");
    })
    .await;
}

const LAUNCHER_MARK: &str = "QUORATE_TEST_LAUNCHER_FIFO";

/// Not a test of its own: the launcher process that `children_do_not_outlive_the_launcher` kills.
#[tokio::test]
async fn launcher_process() {
    let Ok(fifo) = std::env::var(LAUNCHER_MARK) else { return };
    let console = Console::start(std::io::sink(), false).expect("a thread");
    let (notify, _) = mpsc::unbounded_channel();
    let (_orders, inbox) = mpsc::channel(1);
    let command = move |_| {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "exec >\"$0\"; echo alive; exec sleep 3600", &fifo]);
        command
    };
    let settings = Settings { policy: at_once(), stop_timeout: LONG };
    Launcher::new(&[NodeId(1)], command, settings, console, notify).run(inbox).await;
}

#[test]
#[cfg(target_os = "linux")]
fn children_do_not_outlive_the_launcher() {
    let dir = tempfile::tempdir().expect("a directory");
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
    let mut launcher = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "launcher_process", "--nocapture"])
        .env(LAUNCHER_MARK, &fifo)
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    // Opens when the child has opened its end, and comes to its end when the child is gone.
    let mut child = BufReader::new(std::fs::File::open(&fifo).expect("opened"));
    let mut line = String::new();
    child.read_line(&mut line).expect("read");
    assert_eq!(line, "alive\n");
    launcher.kill().expect("killed");
    launcher.wait().expect("reaped");
    let mut rest = Vec::new();
    child.read_to_end(&mut rest).expect("the child is gone");
}
