//! Jobs on three nodes in one process, over a network in memory: coordinators that crash, nodes that are cut off, output
//! that is lost.

mod mapreduce_support;

use std::time::Duration;

use mapreduce_support::embedded::{Embedded, alone};
use mapreduce_support::text;
use quorate::logic::ids::NodeId;
use quorate::logic::mapreduce::coordinator::JobState;
use quorate::logic::mapreduce::job::Phase;
use quorate::logic::mapreduce::record::{JobId, Record};
use quorate::node::collect::CollectError;

#[test]
fn a_job_runs_on_all_nodes_and_its_output_is_that_of_a_sequential_program() {
    alone(async {
        let cluster = Embedded::start(3).await;
        let input = text::files(cluster.path(), 6, 40_000);
        let client = cluster.client().await;
        let job = cluster.submit(&client, cluster.job("wc", &input, 4)).await;
        let output = cluster.collect(&client, job).await;
        assert_eq!(output, text::word_counts(&input));
        let survey = client.job(job).await.expect("known").survey;
        assert_eq!(survey.state, JobState::Collected);
        assert_eq!((survey.map.attempts, survey.reduce.attempts), (6, 4), "each task ran once");
        assert_eq!(survey.counters.get("task", "output records"), output.lines().count() as u64);
        let started = |record: &Record| match record {
            Record::Started { by, .. } => Some(by.worker),
            _ => None,
        };
        let history = client.job_history(job).await.expect("known");
        let workers: std::collections::BTreeSet<_> = history.iter().filter_map(|(_, r)| started(r)).collect();
        assert_eq!(workers.len(), 3, "all nodes took part");
        cluster.stop().await;
    });
}

#[test]
fn a_coordinator_that_crashes_at_any_moment_repeats_nothing() {
    alone(async {
        let cluster = Embedded::start(3).await;
        let input = text::files(cluster.path(), 8, 2_000);
        let client = cluster.client().await;
        // Each task takes a moment, so that the crashes fall into all stages of the job.
        let mapper = "sleep 0.4; tr -cs A-Za-z '\\n' | grep .";
        let job = cluster.stream(mapper, "sleep 0.3; uniq -c | awk '{print $2 \"\\t\" $1}'", &input, 4);
        let job = cluster.submit(&client, job).await;
        let mut crashes = 0;
        // Supervision takes more than twenty in half a minute for a sign that restarting alone does not help.
        while client.job(job).await.expect("known").survey.state == JobState::Running && crashes < 15 {
            crashes += u32::from(cluster.crash_coordinator(&client).await);
            tokio::time::sleep(Duration::from_millis(110)).await;
        }
        assert!(crashes >= 3, "only {crashes} crashes fell into the job");
        let output = cluster.collect(&client, job).await;
        assert_eq!(output, text::word_counts(&input));
        let survey = client.job(job).await.expect("known").survey;
        let history = client.job_history(job).await.expect("known");
        let vain = history.iter().filter(|(_, r)| !matches!(r, Record::Started { .. } | Record::Done { .. }));
        let vain: Vec<_> = vain.collect();
        assert_eq!((survey.map.attempts, survey.reduce.attempts), (8, 4), "no task ran twice: {vain:#?}");
        cluster.stop().await;
    });
}

#[test]
fn a_node_that_is_cut_off_holds_nothing_up_and_commits_nothing() {
    alone(async {
        let cluster = Embedded::start(3).await;
        let input = text::files(cluster.path(), 9, 2_000);
        let client = cluster.client().await;
        let mapper = "sleep 0.3; tr -cs A-Za-z '\\n' | grep .";
        let job = cluster.stream(mapper, "uniq -c | awk '{print $2 \"\\t\" $1}'", &input, 3);
        let job = cluster.submit(&client, job).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        // The coordinator's node, with its worker and what that has finished.
        let leader = cluster.leader(&client).await;
        cluster.part(leader, true);
        let output = cluster.collect(&client, job).await;
        assert_eq!(output, text::word_counts(&input));
        cluster.part(leader, false);
        let history = client.job_history(job).await.expect("known");
        // The winners of a task follow each other only where its output was lost in between.
        let mut open = std::collections::BTreeSet::new();
        for (_, record) in &history {
            match record {
                Record::Done { attempt, .. } => {
                    assert!(open.insert(attempt.task), "{attempt} won a second time")
                }
                Record::Reopened { attempt, .. } => assert!(open.remove(&attempt.task)),
                _ => {}
            }
        }
        assert_eq!(open.iter().filter(|task| task.phase == Phase::Map).count(), 9);
        cluster.stop().await;
    });
}

#[test]
fn a_job_that_cannot_be_done_fails_with_its_cause_and_leaves_nothing() {
    alone(async {
        let cluster = Embedded::start(1).await;
        let input = text::files(cluster.path(), 2, 100);
        let client = cluster.client().await;
        let job = cluster.stream("cat > /dev/null; echo no luck today >&2; exit 3", "cat", &input, 1);
        let job = cluster.submit(&client, job).await;
        let state = cluster.ended(&client, job).await;
        let JobState::Failed { why, .. } = state else { panic!("{state:?}") };
        assert!(why.contains("no luck today") && why.contains(&input[0][..5]), "{why}");
        // What the workers kept goes away by itself, and the cluster is as good as new.
        cluster.forgotten(job).await;
        let next = cluster.submit(&client, cluster.job("wc", &input, 1)).await;
        assert_eq!(cluster.collect(&client, next).await, text::word_counts(&input));
        cluster.stop().await;
    });
}

#[test]
fn a_job_that_is_cancelled_stops_its_commands() {
    alone(async {
        let cluster = Embedded::start(1).await;
        let input = text::files(cluster.path(), 2, 100);
        let client = cluster.client().await;
        let job = cluster.submit(&client, cluster.stream("sleep 1000", "cat", &input, 1)).await;
        while client.job(job).await.expect("known").survey.map.running == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        client.cancel_job(job).await.expect("it runs");
        assert_eq!(cluster.ended(&client, job).await, JobState::Cancelled);
        cluster.forgotten(job).await;
        cluster.stop().await;
    });
}

#[test]
fn output_that_was_collected_or_given_up_cannot_be_collected() {
    alone(async {
        let cluster = Embedded::start(1).await;
        let input = text::files(cluster.path(), 1, 100);
        let client = cluster.client().await;
        let collected = cluster.submit(&client, cluster.job("wc", &input, 1)).await;
        cluster.collect(&client, collected).await;
        let cancelled = cluster.submit(&client, cluster.job("wc", &input, 1)).await;
        assert_eq!(cluster.ended(&client, cancelled).await, JobState::Succeeded);
        client.cancel_job(cancelled).await.expect("it is known");
        for (job, why) in [(collected, "was collected"), (cancelled, "was cancelled")] {
            let again =
                cluster.try_collect(&client, job, "again", "user").await.expect_err("nothing is there");
            assert!(matches!(&again, CollectError::NoOutput(text) if text.contains(why)), "{again}");
        }
        cluster.stop().await;
    });
}

#[test]
fn workers_that_only_the_cluster_can_reach_keep_the_output_and_are_named() {
    alone(async {
        let cluster = Embedded::start(1).await;
        let input = text::files(cluster.path(), 1, 100);
        let client = cluster.client().await;
        let job = cluster.submit(&client, cluster.job("wc", &input, 1)).await;
        cluster.keep_apart("host-1", "far away");
        let refused = cluster.try_collect(&client, job, "far", "far away").await.expect_err("out of reach");
        let told = matches!(&refused, CollectError::Unreachable(text) if text.contains("host-1:1"));
        assert!(told, "{refused}");
        let survey = client.job(job).await.expect("known").survey;
        assert!(survey.reduce.attempts <= 3, "it was made {} times", survey.reduce.attempts);
        assert_eq!(cluster.collect(&client, job).await, text::word_counts(&input));
        cluster.stop().await;
    });
}

/// More than a task may be lost times: what is missing is made again at once, not one by one.
#[test]
fn any_number_of_map_outputs_may_be_lost_at_once() {
    alone(async {
        let cluster = Embedded::start(1).await;
        let input = text::files(cluster.path(), 45, 20);
        let client = cluster.client().await;
        let (mark, reducer) = (cluster.path().join("mark"), "uniq -c | awk '{print $2 \"\\t\" $1}'");
        let reducer = format!("if mkdir {}; then sleep 2; exit 1; fi; {reducer}", mark.display());
        let job = cluster.stream("tr -cs A-Za-z '\\n' | grep .", &reducer, &input, 1);
        let job = cluster.submit(&client, job).await;
        while !mark.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (0..45).for_each(|map| cluster.lose_output_of_map(job, map));
        assert_eq!(cluster.collect(&client, job).await, text::word_counts(&input));
        let survey = client.job(job).await.expect("known").survey;
        assert!(survey.reduce.losses <= 2, "{} attempts starved", survey.reduce.losses);
        assert_eq!(survey.map.attempts, 90, "each ran again");
        cluster.stop().await;
    });
}

/// The same of output that is there and cannot be read: its blocks are damaged, or the end of the file is missing.
#[test]
fn any_number_of_map_outputs_may_be_damaged_at_once() {
    alone(async {
        let cluster = Embedded::start(2).await;
        let input = text::files(cluster.path(), 90, 20);
        let client = cluster.client().await;
        for way in ["changed", "cut"] {
            let (mark, reducer) = (cluster.path().join(way), "uniq -c | awk '{print $2 \"\\t\" $1}'");
            let reducer = format!("if mkdir {}; then sleep 2; exit 1; fi; {reducer}", mark.display());
            let job = cluster.stream("tr -cs A-Za-z '\\n' | grep .", &reducer, &input, 1);
            let job = cluster.submit(&client, job).await;
            while !mark.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let spoil = |bytes: &mut Vec<u8>| match way {
                "changed" => bytes[13] ^= 1,
                _ => bytes.truncate(13),
            };
            (0..90).for_each(|map| cluster.spoil_output_of_map(job, map, spoil));
            assert_eq!(cluster.collect(&client, job).await, text::word_counts(&input), "{way}");
            let survey = client.job(job).await.expect("known").survey;
            assert!(survey.reduce.losses <= 4, "{way}: {} attempts starved", survey.reduce.losses);
            assert_eq!(survey.map.attempts, 180, "{way}: each ran again");
        }
        cluster.stop().await;
    });
}

#[test]
fn output_that_nobody_collects_makes_room_and_is_not_missed_in_silence() {
    alone(async {
        let cluster = Embedded::start_with(1, |config| config.mapreduce.max_uncollected = 1).await;
        let input = text::files(cluster.path(), 1, 100);
        let client = cluster.client().await;
        let (first, second) = (
            cluster.submit(&client, cluster.job("wc", &input, 1)).await,
            cluster.submit(&client, cluster.job("wc", &input, 1)).await,
        );
        cluster.forgotten(first).await;
        let missed = cluster.try_collect(&client, first, "late", "user").await.expect_err("it is gone");
        assert!(missed.to_string().contains("nobody collected the output in time"), "{missed}");
        assert_eq!(cluster.collect(&client, second).await, text::word_counts(&input));
        for _ in 0..100 {
            let job = cluster.submit(&client, cluster.job("wc", &input, 1)).await;
            client.cancel_job(job).await.expect("it is known");
        }
        let forgotten = client.job(first).await.expect_err("it is one too many");
        assert!(forgotten.to_string().contains("is forgotten, and its output gone"), "{forgotten}");
        let never = client.job(JobId(1000)).await.expect_err("it never was");
        assert!(never.to_string().contains("there is no job 1000"), "{never}");
        cluster.stop().await;
    });
}

#[test]
fn a_coordinator_that_fails_again_and_again_takes_no_attempt_along() {
    alone(async {
        let cluster = Embedded::start_with(1, |config| config.supervision.max_restarts = 1).await;
        let input = text::files(cluster.path(), 1, 100);
        let client = cluster.client().await;
        let (runs, go_on) = (cluster.path().join("runs"), cluster.path().join("go_on"));
        let wait = format!("mkdir {}; until [ -e {} ]; do sleep 0.05; done", runs.display(), go_on.display());
        let job = cluster.stream(&format!("{wait}; cat"), "cat", &input, 1);
        let job = cluster.submit(&client, job).await;
        while !runs.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let restarts = async || {
            let tree = client.tree(NodeId(1)).await.expect("the node answers");
            let office = tree.children.iter().find(|child| child.name == "mapreduce");
            office.expect("it is there").restarts
        };
        // One restart is granted. After that, its supervisor gives up, and is started again by the root.
        while restarts().await == 0 {
            cluster.crash_coordinator(&client).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::fs::write(go_on, "").expect("written");
        let ended = cluster.ended(&client, job).await;
        assert_eq!(ended, JobState::Succeeded);
        let survey = client.job(job).await.expect("known").survey;
        assert_eq!((survey.map.attempts, survey.map.losses), (1, 0));
        cluster.stop().await;
    });
}

/// What the mappers write is the output: also what a worker has lost is made again.
#[test]
fn without_reducers_each_map_task_is_a_part_of_the_output() {
    alone(async {
        let cluster = Embedded::start(3).await;
        let input = text::files(cluster.path(), 4, 20_000);
        let client = cluster.client().await;
        let job = cluster.stream("tr a-z A-Z", "true", &input, 0);
        let job = cluster.submit(&client, job).await;
        assert_eq!(cluster.ended(&client, job).await, JobState::Succeeded);
        cluster.lose_a_part(job);
        let output = cluster.collect(&client, job).await;
        let whole: String =
            input.iter().map(|path| std::fs::read_to_string(path).expect("readable")).collect();
        let mut expected: Vec<String> = whole.to_uppercase().lines().map(ToString::to_string).collect();
        expected.sort();
        assert_eq!(output.lines().collect::<Vec<_>>(), expected);
        let survey = client.job(job).await.expect("known").survey;
        assert_eq!(survey.state, JobState::Collected);
        assert_eq!((survey.map.attempts, survey.reduce.tasks), (5, 0), "one of four ran again");

        // Nothing in, nothing out.
        let empty = cluster.path().join("empty");
        std::fs::write(&empty, "").expect("written");
        let job = cluster.stream("cat", "true", &[empty.display().to_string()], 0);
        let job = cluster.submit(&client, job).await;
        assert_eq!(cluster.collect(&client, job).await, "");
        cluster.stop().await;
    });
}
