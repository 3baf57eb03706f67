//! Three node processes that are workers, too, a job, and what happens to them meanwhile.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use quorate::Client;
use quorate::logic::ids::NodeId;
use quorate::logic::mapreduce::job::TaskId;
use quorate::logic::mapreduce::record::Record;
use quorate::messages::mapreduce::JobLine;

use crate::processes::{number, submission, succeeded, workers_are_up};
use crate::reference::Application;
use crate::support::namespaces::Namespaces;
use crate::support::nemesis::Wires;
use crate::support::{Cluster, tail};

/// What happens while a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// One worker after the other is killed, as `kill -9` does; not the coordinator's node.
    Workers,
    /// The coordinator's node is killed three times.
    Coordinator,
    /// The coordinator's node is cut off from all others and from the user; where the machine has no namespaces, it
    /// stands still.
    Parted,
}

const CONFIG: &str = r#"
[mapreduce]
enabled = true
slots = 1
[supervision]
max_restarts = 1000
"#;

/// A process that was killed is started again after so long, as a launcher would.
const REVIVED: Duration = Duration::from_millis(300);

/// How fast trouble comes, and how large a job is.
struct Pace {
    bytes: u64,
    kill_every: Duration,
    cut_for: Duration,
    /// Every kind of trouble, rather than one.
    all: bool,
}

impl Pace {
    fn from_environment() -> Pace {
        let full = std::env::var_os("QUORATE_MR_MIB").is_some();
        let ms = |variable: &str, life: u64, short: u64| {
            Duration::from_millis(number(variable, if full { life } else { short }))
        };
        Pace {
            bytes: number("QUORATE_MR_MIB", 6) << 20,
            kill_every: ms("QUORATE_MR_KILL_MS", 3000, 500),
            cut_for: ms("QUORATE_MR_CUT_MS", 20_000, 4000),
            all: full,
        }
    }
}

/// Runs the job of an application under one kind of trouble; in a long run, under all of them.
pub fn all_troubles(application: Application, one: Trouble) {
    // The thread enters a namespace for good, so it is one of its own, and all that works is started from it.
    let work = move || {
        let namespaces = Namespaces::enter(3);
        if let Err(why) = &namespaces {
            println!("no network namespaces on this machine, a process that stands still has to do: {why}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let cluster = match &namespaces {
                Ok(namespaces) => Cluster::start_in(namespaces, CONFIG).await,
                Err(_) => Cluster::start_apart(3, CONFIG).await,
            };
            let dir = tempfile::tempdir().expect("a directory");
            let admin = cluster.client().await.with_deadline(Duration::from_secs(60));
            let namespaces = namespaces.as_ref().ok();
            let field = Field { cluster: &cluster, namespaces, dir: dir.path(), admin };
            field.play(application, one, &Pace::from_environment()).await;
        });
    };
    if let Err(panic) = std::thread::spawn(work).join() {
        std::panic::resume_unwind(panic);
    }
}

struct Field<'a> {
    cluster: &'a Cluster,
    namespaces: Option<&'a Namespaces>,
    dir: &'a Path,
    admin: Client,
}

impl Field<'_> {
    async fn play(&self, application: Application, one: Trouble, pace: &Pace) {
        workers_are_up(self.cluster, 3);
        let input = self.dir.join("input");
        let expected = application.prepare(&input, pace.bytes, &self.dir.join("expected"));
        let all = [Trouble::Workers, Trouble::Coordinator, Trouble::Parted];
        let troubles = if pace.all { &all[..] } else { &[one] };
        for trouble in troubles {
            self.run(application, *trouble, pace, &input, &expected).await;
        }
        let settled = self.cluster.settled(&self.admin).await;
        let hashes: Vec<_> = settled.iter().map(|status| status.groups[0].hash.clone()).collect();
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ: {settled:#?}");
    }

    async fn run(
        &self,
        application: Application,
        trouble: Trouble,
        pace: &Pace,
        input: &Path,
        expected: &Path,
    ) {
        let out = self.dir.join("out");
        let mut arguments = application.arguments();
        arguments.extend(["--input".to_owned(), input.display().to_string()]);
        if !pace.all {
            // Many small tasks, so that whatever happens falls into the job.
            arguments.extend(["--split", "100K", "--reducers", "5"].map(str::to_owned));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut job = submission(self.cluster, &out, &arguments);
        let job = job.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let job = RefCell::new(job);
        let over = || job.borrow_mut().try_wait().expect("an own child can be asked").is_some();
        let happened = self.inflict(trouble, pace, &over).await;
        let output = job.into_inner().wait_with_output().expect("an own child can be waited for");
        let log = || tail(&self.cluster.log(), 60);
        assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), log());
        let report = succeeded(output);
        application.check(&out, expected, &format!("{trouble:?}"));
        std::fs::remove_dir_all(&out).expect("the output goes away");
        self.admin.put("after", "the job").await.expect("the store serves");
        let reopened = self.history_is_sound().await;
        self.nothing_is_left().await;
        let count = |what: &str| format!("{} + {}", report["map"][what], report["reduce"][what]);
        println!(
            "{application:?}, {trouble:?} {happened} times: {} MiB in {} ms; tasks {}, attempts {}, lost with their \
             worker {}, outputs lost {reopened}",
            pace.bytes >> 20,
            report["elapsed_ms"],
            count("tasks"),
            count("attempts"),
            count("losses"),
        );
    }

    /// Lets trouble happen until the job is over. Returns how often it did.
    async fn inflict(&self, trouble: Trouble, pace: &Pace, over: &dyn Fn() -> bool) -> u32 {
        let admin = &self.admin;
        match trouble {
            Trouble::Workers => self.kill_workers(pace, over).await,
            Trouble::Coordinator => {
                let mut kills = 0;
                for share in [0.2, 0.45, 0.7] {
                    if self.reaches(share, over).await {
                        self.kill(self.cluster.leader(admin).await).await;
                        kills += 1;
                    }
                }
                assert_eq!(kills, 3, "the job was over before the third kill");
                kills
            }
            Trouble::Parted => {
                assert!(self.reaches(0.2, over).await, "the job was over before its time");
                self.cut_off(self.cluster.leader(admin).await, pace.cut_for).await;
                1
            }
        }
    }

    async fn kill_workers(&self, pace: &Pace, over: &dyn Fn() -> bool) -> u32 {
        let mut kills = 0;
        assert!(self.reaches(0.1, over).await, "the job was over before the first kill");
        let nodes: Vec<NodeId> = self.cluster.nodes().collect();
        for victim in nodes.into_iter().cycle() {
            if self.cluster.leader(&self.admin).await == victim {
                continue;
            }
            self.kill(victim).await;
            kills += 1;
            let until = Instant::now() + pace.kill_every;
            while !over() && Instant::now() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            if over() {
                break;
            }
        }
        kills
    }

    async fn kill(&self, node: NodeId) {
        assert!(self.cluster.signal(node, libc::SIGKILL), "{node} does not run");
        tokio::time::sleep(REVIVED).await;
        // On a busy machine a process may take its time to end.
        while self.cluster.pid(node).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.cluster.revive();
    }

    async fn cut_off(&self, node: NodeId, time: Duration) {
        match &self.namespaces {
            Some(namespaces) => {
                for other in self.cluster.nodes().filter(|other| *other != node) {
                    namespaces.cut(node, other).await;
                    namespaces.cut(other, node).await;
                }
                namespaces.cut_user(node);
                tokio::time::sleep(time).await;
                namespaces.mend().await;
            }
            None => {
                assert!(self.cluster.signal(node, libc::SIGSTOP));
                tokio::time::sleep(time).await;
                assert!(self.cluster.signal(node, libc::SIGCONT));
            }
        }
    }

    /// Waits until this share of the tasks of the newest job is done; false: the job is over before.
    async fn reaches(&self, share: f64, over: &dyn Fn() -> bool) -> bool {
        while !over() {
            if let Some(JobLine { survey, .. }) = newest_job(&self.admin).await
                && survey.reduce.done < survey.reduce.tasks
                && f64::from(survey.map.done + survey.reduce.done)
                    >= share * f64::from(survey.map.tasks + survey.reduce.tasks)
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }

    /// A task is finished again only after its output was lost. Returns how many outputs were.
    async fn history_is_sound(&self) -> usize {
        let job = newest_job(&self.admin).await.expect("a job has run").job;
        let history = self.admin.job_history(job).await.expect("it is known");
        let mut finished: std::collections::BTreeSet<TaskId> = std::collections::BTreeSet::new();
        let mut lost = 0;
        for (_, record) in &history {
            let Some(task) = record.attempt().map(|attempt| attempt.task) else { continue };
            match record {
                Record::Done { .. } => assert!(finished.insert(task), "{task} was finished twice"),
                Record::Started { .. } => assert!(!finished.contains(&task), "{task} ran again"),
                Record::Reopened { .. } => {
                    assert!(finished.remove(&task));
                    lost += 1;
                }
                _ => {}
            }
        }
        lost
    }

    /// Waits until no worker keeps anything of any job.
    async fn nothing_is_left(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let left = || -> Vec<PathBuf> {
            let directories = self.cluster.nodes().map(|node| self.cluster.data_dir(node).join("mapreduce"));
            let entries = directories.filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
            entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
        };
        while !left().is_empty() {
            assert!(Instant::now() < deadline, "left over: {:?}\n{}", left(), tail(&self.cluster.log(), 60));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// The job that was submitted last.
pub async fn newest_job(client: &Client) -> Option<JobLine> {
    client.jobs().await.expect("the cluster answers").pop()
}
