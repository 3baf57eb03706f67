use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::logic::mapreduce::failure::TaskFailure;
use crate::logic::mapreduce::record::Yield;
use crate::logic::mapreduce::report::Progress;
use crate::logic::mapreduce::table::Verdict;

const JOB: JobId = JobId(1);
const TICK: Duration = Duration::from_millis(100);

fn patience() -> Patience {
    Patience {
        worker: Duration::from_secs(3),
        straggler: Duration::from_secs(5),
        uncollected: Duration::from_secs(3600),
        most_uncollected: 2,
    }
}

fn shape(maps: u32, reduces: u32) -> Shape {
    Shape {
        maps,
        reduces,
        rules: Rules { attempts: 3, skip: 1 },
        stall: Duration::from_secs(60),
        input_bytes: 1,
    }
}

fn life(worker: u64, boot: u64) -> WorkerLife {
    WorkerLife { worker: WorkerId(worker), boot }
}

fn report(life: WorkerLife, slots: u32) -> Report {
    let address = format!("host-{}:1", life.worker.0);
    Report { life, address, slots, running: vec![], ended: vec![], keeps: vec![], knows: vec![] }
}

/// A coordinator with a clock, and everything it wrote.
struct Rig {
    core: Coordinator,
    now: Duration,
    log: Records,
}

impl Rig {
    fn new(maps: u32, reduces: u32) -> Rig {
        let mut rig = Rig { core: Coordinator::new(patience()), now: Duration::ZERO, log: Vec::new() };
        rig.put(Input::Job { job: JOB, shape: shape(maps, reduces), records: Vec::new() });
        rig
    }

    fn put(&mut self, input: Input) -> Vec<Record> {
        let before = self.log.len();
        self.core.step(self.now, input, &mut self.log);
        self.log[before..].iter().map(|(_, record)| record.clone()).collect()
    }

    fn after(&mut self, time: Duration, input: Input) -> Vec<Record> {
        self.now += time;
        self.put(input)
    }

    fn hear(&mut self, worker: u64, running: &[Attempt], ended: &[(Attempt, Ending)]) -> Vec<Record> {
        let mut report = report(life(worker, 1), 1);
        let progress = Progress { steps: self.now.as_millis() as u64, ..Progress::default() };
        report.running = running.iter().map(|attempt| (work(*attempt), progress)).collect();
        report.ended = ended.iter().map(|(attempt, ending)| (work(*attempt), ending.clone())).collect();
        self.put(Input::Report(report))
    }

    /// Another coordinator, a minute later, which knows what was written.
    fn heir(&self, shape: Shape) -> Rig {
        let records = self.log.iter().map(|(_, record)| record.clone()).collect();
        let now = self.now + Duration::from_secs(60);
        let mut heir = Rig { core: Coordinator::new(patience()), now, log: Vec::new() };
        assert!(heir.put(Input::Job { job: JOB, shape, records }).is_empty());
        heir
    }

    fn addresses(&self) -> Vec<String> {
        self.core.sources(JOB).into_iter().map(|place| place.address).collect()
    }

    fn table(&self) -> &Table {
        self.core.table(JOB).expect("it is known")
    }

    fn starts(&self, worker: u64) -> Vec<Attempt> {
        self.core.orders(WorkerId(worker)).start.iter().map(|work| work.attempt).collect()
    }
}

fn work(attempt: Attempt) -> Work {
    Work { job: JOB, attempt }
}

fn map(index: u32, number: u32) -> Attempt {
    Attempt { task: TaskId::map(index), number }
}

fn reduce(index: u32, number: u32) -> Attempt {
    Attempt { task: TaskId::reduce(index), number }
}

fn done() -> Ending {
    let mut result = Yield { bytes: 1, ..Yield::default() };
    result.counters.add("g", "n", 1);
    Ending::Done(result)
}

fn failed(text: &str) -> Ending {
    Ending::Failed(TaskFailure::function(text))
}

#[test]
fn reducers_wait_for_every_map_task() {
    let mut rig = Rig::new(2, 1);
    rig.hear(1, &[], &[]);
    rig.hear(2, &[], &[]);
    assert_eq!((rig.starts(1), rig.starts(2)), (vec![map(0, 1)], vec![map(1, 1)]));
    rig.hear(1, &[], &[(map(0, 1), done())]);
    assert!(rig.starts(1).is_empty(), "nothing to reduce while a map task runs");
    rig.hear(2, &[], &[(map(1, 1), done())]);
    let started: Vec<_> = rig.starts(1).into_iter().chain(rig.starts(2)).collect();
    assert_eq!(started, [reduce(0, 1)]);
    let places = rig.core.sources(JOB);
    let found: Vec<_> = places.iter().map(|place| (place.attempt, place.address.as_str())).collect();
    assert_eq!(found, [(map(0, 1), "host-1:1"), (map(1, 1), "host-2:1")]);
    let winner = if rig.starts(1).is_empty() { 2 } else { 1 };
    rig.hear(winner, &[], &[(reduce(0, 1), done())]);
    let survey = rig.core.survey(JOB).expect("it is known");
    assert_eq!((survey.state, survey.counters.get("g", "n")), (JobState::Succeeded, 3));
    assert_eq!(rig.put(Input::Collected(JOB)), [Record::Collected]);
    assert!(rig.put(Input::Cancel(JOB)).is_empty(), "too late to cancel");
}

#[test]
fn an_order_is_repeated_until_the_worker_has_heard_it() {
    let mut rig = Rig::new(1, 1);
    rig.hear(1, &[], &[]);
    for _ in 0..2 {
        assert_eq!(rig.starts(1), [map(0, 1)]);
        assert!(rig.hear(1, &[], &[]).is_empty(), "and is the same order");
    }
    rig.hear(1, &[map(0, 1)], &[]);
    assert!(rig.starts(1).is_empty());
}

/// A failure at a record.
fn failed_at(record: u64) -> Ending {
    Ending::Failed(TaskFailure::function("cannot stand it").at(Some(record)))
}

#[test]
fn a_record_that_killed_a_task_twice_is_passed_over_by_each_attempt_from_then_on() {
    let mut rig = Rig::new(1, 1);
    rig.hear(1, &[], &[]);
    let skips = |rig: &Rig, number| rig.core.skips(work(map(0, number))).records;
    rig.hear(1, &[], &[(map(0, 1), failed_at(70))]);
    assert!(skips(&rig, 2).is_empty(), "once may be chance");
    rig.hear(1, &[], &[(map(0, 2), failed_at(70))]);
    assert_eq!(skips(&rig, 3), [70].into());
    assert_eq!(rig.heir(shape(1, 1)).core.skips(work(map(0, 3))).records, [70].into());

    // Those two do not count: there are two more failures, at records that may not be passed over.
    rig.hear(1, &[], &[(map(0, 3), failed_at(90))]);
    rig.hear(1, &[], &[(map(0, 4), failed_at(90))]);
    assert_eq!((skips(&rig, 5), rig.table().verdict()), ([70].into(), None));
    rig.hear(1, &[], &[(map(0, 5), failed_at(99))]);
    assert!(matches!(rig.table().verdict(), Some(Verdict::Failed { .. })));
}

#[test]
fn records_that_were_passed_over_are_named_at_the_end() {
    let mut rig = Rig::new(2, 1);
    rig.hear(1, &[], &[]);
    let result = Yield { skipped: vec![7, 8], ..Yield::default() };
    rig.hear(1, &[], &[(map(0, 1), done())]);
    rig.hear(1, &[], &[(map(1, 1), Ending::Done(result))]);
    assert_eq!(rig.core.survey(JOB).expect("known").skipped, [], "it is not over");
    rig.hear(1, &[], &[(reduce(0, 1), done())]);
    assert_eq!(rig.core.survey(JOB).expect("known").skipped, [(TaskId::map(1), 7), (TaskId::map(1), 8)]);
}

#[test]
fn a_worker_that_is_silent_loses_its_tasks_but_not_what_it_finished() {
    let mut rig = Rig::new(2, 1);
    rig.hear(1, &[], &[]);
    rig.hear(1, &[], &[(map(0, 1), done())]);
    rig.hear(1, &[map(1, 1)], &[]);
    rig.now += patience().worker - TICK;
    assert!(rig.hear(2, &[], &[]).is_empty());
    rig.now += TICK;
    let records = rig.put(Input::Tick);
    assert!(matches!(records[0], Record::Lost { attempt, .. } if attempt == map(1, 1)), "{records:?}");
    assert_eq!(records[1], Record::Started { attempt: map(1, 2), by: life(2, 1) });
    // It was only slow. What it says about the lost attempt comes too late.
    assert!(rig.hear(1, &[], &[(map(1, 1), done())]).is_empty());
    rig.hear(2, &[], &[(map(1, 2), done())]);
    assert_eq!(rig.table().task(TaskId::map(1)).and_then(|t| t.done.as_ref()).map(|d| d.number), Some(2));
    assert_eq!(rig.table().task(TaskId::map(0)).and_then(|t| t.done.as_ref()).map(|d| d.number), Some(1));
    assert_eq!(rig.core.orders(WorkerId(1)).stop, [], "it does not run it any more");
}

#[test]
fn a_worker_that_was_restarted_is_given_its_tasks_again_at_once() {
    let mut rig = Rig::new(1, 1);
    rig.hear(1, &[], &[]);
    let records = rig.put(Input::Report(report(life(1, 2), 1)));
    assert!(matches!(records[0], Record::Lost { .. }));
    assert_eq!(records[1], Record::Started { attempt: map(0, 2), by: life(1, 2) });
}

#[test]
fn only_an_attempt_without_progress_is_given_up() {
    let mut rig = Rig::new(1, 1);
    rig.hear(1, &[], &[]);
    for _ in 0..100 {
        rig.now += Duration::from_secs(2);
        assert!(rig.hear(1, &[map(0, 1)], &[]).is_empty(), "it gets on");
    }
    let stuck = Progress { steps: 7, ..Progress::default() };
    let mut records = Vec::new();
    for second in 0..=61 {
        let mut report = report(life(1, 1), 1);
        report.running = vec![(work(map(0, 1)), stuck)];
        rig.now += Duration::from_secs(1);
        records = rig.put(Input::Report(report));
        assert_eq!(!records.is_empty(), second == 60, "second {second}");
        if second == 60 {
            break;
        }
    }
    assert!(
        matches!(&records[0], Record::Failed { failure, .. } if failure.message.contains("no progress for 60s"))
    );
    assert_eq!(rig.core.orders(WorkerId(1)).stop, [work(map(0, 1))]);
}

#[test]
fn a_task_is_tried_elsewhere_and_its_job_fails_with_the_last_cause() {
    let mut rig = Rig::new(1, 1);
    rig.hear(1, &[], &[]);
    rig.hear(2, &[], &[]);
    rig.hear(1, &[], &[(map(0, 1), failed("first"))]);
    assert_eq!(rig.starts(2), [map(0, 2)], "not at the worker where it failed");
    rig.hear(2, &[], &[(map(0, 2), failed("second"))]);
    let third = if rig.starts(1).is_empty() { 2 } else { 1 };
    rig.hear(third, &[], &[(map(0, 3), failed("third"))]);
    let verdict = rig.table().verdict().cloned();
    assert_eq!(verdict, Some(Verdict::Failed { attempt: map(0, 3), why: "third".into() }));
    assert!(rig.starts(1).is_empty() && rig.starts(2).is_empty());
}

#[test]
fn a_hopeless_task_fails_its_job_at_once() {
    let mut rig = Rig::new(2, 1);
    rig.hear(1, &[], &[]);
    rig.hear(2, &[], &[]);
    let hopeless = Ending::Failed(TaskFailure::hopeless("no such file"));
    rig.hear(2, &[], &[(map(1, 1), hopeless)]);
    assert!(matches!(rig.table().verdict(), Some(Verdict::Failed { .. })));
    rig.hear(1, &[map(0, 1)], &[]);
    assert_eq!(rig.core.orders(WorkerId(1)).stop, [work(map(0, 1))], "the others stop");
}

#[test]
fn a_straggler_gets_a_second_attempt_and_the_first_to_finish_wins() {
    let mut rig = Rig::new(5, 1);
    rig.hear(1, &[], &[]);
    let slow = rig.starts(1)[0];
    for _ in 0..4 {
        rig.hear(1, &[slow], &[]);
        rig.hear(2, &[], &[]);
        let attempt = rig.starts(2)[0];
        rig.now += Duration::from_secs(1);
        rig.hear(2, &[], &[(attempt, done())]);
    }
    rig.hear(1, &[slow], &[]);
    assert!(
        rig.hear(2, &[], &[]).is_empty(),
        "four times as long as the others, but not long enough in itself"
    );
    rig.now += Duration::from_secs(1);
    rig.hear(1, &[slow], &[]);
    let second = Attempt { number: 2, ..slow };
    assert_eq!(rig.hear(2, &[], &[]), [], "it was given out when the time came");
    assert_eq!(rig.starts(2), [second]);
    let survey = rig.core.survey(JOB).expect("it is known");
    assert!(survey.stragglers.iter().any(|straggler| straggler.attempt == slow));
    rig.hear(2, &[], &[(second, done())]);
    assert_eq!(rig.core.orders(WorkerId(1)).stop, [work(slow)]);
    assert!(rig.hear(1, &[], &[(slow, done())]).is_empty(), "the late one is ignored");
    let last = if rig.starts(1).is_empty() { 2 } else { 1 };
    rig.hear(last, &[], &[(reduce(0, 1), done())]);
    let counters = rig.core.survey(JOB).expect("it is known").counters;
    assert_eq!(counters.get("g", "n"), 5 + 1, "and does not count");
}

#[test]
fn lost_output_of_a_map_task_is_made_again_only_while_it_is_needed() {
    let mut rig = Rig::new(1, 2);
    rig.hear(1, &[], &[]);
    rig.hear(1, &[], &[(map(0, 1), done())]);
    rig.hear(2, &[], &[]);
    let starved = |gone| Ending::Starved { map: map(0, 1), more: vec![], gone, why: "nobody answers".into() };
    let first = rig.starts(1)[0];
    let records = rig.hear(1, &[], &[(first, starved(false))]);
    assert!(!records.iter().any(|record| matches!(record, Record::Reopened { .. })), "once may be bad luck");
    let again = rig.starts(1)[0];
    let records = rig.hear(1, &[], &[(again, starved(true))]);
    assert!(records.iter().any(|record| matches!(record, Record::Reopened { .. })), "{records:?}");
    assert_eq!(rig.starts(1), [map(0, 2)]);
    assert!(rig.core.sources(JOB).is_empty(), "there is nowhere to fetch it from");

    let mut rig = Rig::new(1, 1);
    rig.hear(1, &[], &[]);
    rig.hear(1, &[], &[(map(0, 1), done())]);
    rig.hear(1, &[], &[(reduce(0, 1), done())]);
    assert!(rig.put(Input::Missing { work: work(map(0, 1)), why: String::new() }).is_empty());
    let part = Input::Missing { work: work(reduce(0, 1)), why: "the disk is gone".into() };
    assert!(matches!(rig.put(part)[0], Record::Reopened { .. }), "but what the user wants is made again");
    assert_eq!(rig.starts(1), [reduce(0, 2)]);
}

#[test]
fn what_a_worker_held_that_is_gone_is_made_again_all_at_once() {
    let mut rig = Rig::new(3, 1);
    rig.hear(1, &[], &[]);
    rig.hear(2, &[], &[]);
    rig.hear(1, &[], &[(map(0, 1), done())]);
    rig.hear(1, &[], &[(map(2, 1), done())]);
    rig.hear(2, &[], &[(map(1, 1), done())]);
    for _ in 0..2 {
        rig.now += Duration::from_secs(2);
        let running: Vec<Attempt> = rig.table().running().map(|(attempt, _)| attempt).collect();
        rig.hear(2, &running, &[]);
    }
    let reducer = rig.table().running().next().expect("a reducer runs").0;
    let starved = Ending::Starved { map: map(2, 1), more: vec![], gone: false, why: "no connection".into() };
    let records = rig.hear(2, &[], &[(reducer, starved)]);
    let reopened = records.iter().filter_map(|record| match record {
        Record::Reopened { attempt, .. } => Some(*attempt),
        _ => None,
    });
    assert_eq!(reopened.collect::<Vec<_>>(), [map(2, 1), map(0, 1)], "but not what the other worker has");
    let part = |number| work(reduce(0, number));
    assert!(
        rig.put(Input::Missing { work: part(9), why: String::new() }).is_empty(),
        "there is no such part"
    );
}

#[test]
fn a_second_job_gets_the_slots_that_the_first_cannot_use() {
    let mut rig = Rig::new(1, 1);
    rig.put(Input::Job { job: JobId(2), shape: shape(2, 1), records: Vec::new() });
    let mut two_slots = report(life(1, 1), 2);
    two_slots.keeps = vec![JobId(1), JobId(9)];
    rig.put(Input::Report(two_slots));
    let orders = rig.core.orders(WorkerId(1));
    assert_eq!(orders.start, [work(map(0, 1)), Work { job: JobId(2), attempt: map(0, 1) }]);
    assert_eq!(orders.forget, [JobId(9)], "nobody knows that job");
}

/// Has a worker finish a job of one task.
fn finish(rig: &mut Rig, job: JobId) {
    rig.put(Input::Report(report(life(1, 1), 9)));
    let mut told = report(life(1, 1), 9);
    told.ended = vec![(Work { job, attempt: reduce(0, 1) }, done())];
    rig.put(Input::Report(told));
}

/// Jobs that were given up, in order.
fn given_up(log: &Records) -> Vec<JobId> {
    log.iter().filter(|(_, record)| *record == Record::Cancelled).map(|(job, _)| *job).collect()
}

#[test]
fn output_that_nobody_collects_is_given_up_when_it_has_waited_long_or_too_much_waits() {
    let mut rig = Rig { core: Coordinator::new(patience()), now: Duration::ZERO, log: Vec::new() };
    for job in [1, 7, 8] {
        rig.put(Input::Job { job: JobId(job), shape: shape(0, 1), records: Vec::new() });
    }
    // The first to be submitted is the last to be done: it has not waited at all.
    for job in [7, 8, 1] {
        rig.now += Duration::from_secs(10);
        finish(&mut rig, JobId(job));
    }
    assert_eq!(given_up(&rig.log), [JobId(7)], "two may wait");
    let survey = rig.core.survey(JobId(7)).expect("it is remembered");
    assert!(survey.was_given_up_when_done());
    assert!(rig.core.parts(JobId(7)).is_empty());
    let mut keeps = report(life(1, 1), 1);
    keeps.keeps = vec![JobId(7), JobId(8)];
    rig.put(Input::Report(keeps));
    assert_eq!(rig.core.orders(WorkerId(1)).forget, [JobId(7)], "its worker need not keep it");

    // Who takes over has not seen since when it waits.
    let records = rig.log.iter().filter(|(job, _)| *job == JOB).map(|(_, record)| record.clone()).collect();
    let mut heir = Rig { core: Coordinator::new(patience()), now: rig.now, log: Vec::new() };
    heir.after(Duration::from_secs(3000), Input::Job { job: JOB, shape: shape(0, 1), records });
    heir.put(Input::Tick);

    for (seconds, gone) in [(3589, vec![7]), (1, vec![7, 8]), (9, vec![7, 8]), (1, vec![7, 8, 1])] {
        rig.after(Duration::from_secs(seconds), Input::Tick);
        assert_eq!(given_up(&rig.log), gone.into_iter().map(JobId).collect::<Vec<_>>(), "{:?}", rig.now);
    }
    heir.after(Duration::from_secs(3599), Input::Tick);
    assert_eq!(given_up(&heir.log), []);
    heir.after(Duration::from_secs(1), Input::Tick);
    assert_eq!(given_up(&heir.log), [JOB]);
}

#[test]
fn output_that_was_lost_and_made_again_has_not_waited_yet() {
    let mut rig = Rig::new(0, 1);
    finish(&mut rig, JOB);
    rig.after(Duration::from_secs(3599), Input::Missing { work: work(reduce(0, 1)), why: "lost".into() });
    rig.hear(1, &[], &[]);
    rig.hear(1, &[], &[(reduce(0, 2), done())]);
    rig.after(Duration::from_secs(3599), Input::Tick);
    assert_eq!(given_up(&rig.log), []);
    rig.after(Duration::from_secs(1), Input::Tick);
    assert_eq!(given_up(&rig.log), [JOB]);
}

#[test]
fn who_takes_over_gives_running_attempts_time_to_be_heard() {
    let mut rig = Rig::new(2, 1);
    rig.hear(1, &[], &[]);
    rig.hear(1, &[], &[(map(0, 1), done())]);
    let mut heir = rig.heir(shape(2, 1));
    assert_eq!(heir.table(), rig.table());
    assert!(heir.after(Duration::from_secs(2), Input::Tick).is_empty());
    let records = heir.hear(1, &[], &[(map(1, 1), done())]);
    assert!(matches!(records[0], Record::Done { .. }), "what it ran before counts: {records:?}");
}

#[test]
fn who_takes_over_sends_nobody_for_output_whose_holder_it_may_still_hear() {
    let mut rig = Rig::new(2, 1);
    for worker in [1, 2] {
        rig.hear(worker, &[], &[]);
    }
    rig.hear(1, &[], &[(map(0, 1), done())]);
    rig.hear(2, &[], &[(map(1, 1), done())]);
    assert_eq!(rig.addresses(), ["host-1:1", "host-2:1"]);
    let mut heir = rig.heir(shape(2, 1));
    heir.hear(1, &[], &[]);
    assert!(heir.addresses().is_empty(), "the other worker has not said where it is");
    heir.hear(2, &[], &[]);
    assert_eq!(heir.addresses(), ["host-1:1", "host-2:1"]);
    // A worker that stays away is not waited for.
    let mut heir = rig.heir(shape(2, 1));
    heir.now += patience().worker - TICK;
    heir.hear(1, &[], &[]);
    assert!(heir.addresses().is_empty());
    heir.after(TICK, Input::Tick);
    assert_eq!(heir.addresses(), ["host-1:1", ""]);
}

// Random histories.

/// A worker of a random history.
#[derive(Clone)]
struct Fake {
    life: WorkerLife,
    up: bool,
    running: BTreeMap<Attempt, u32>,
    ended: Vec<(Attempt, Ending)>,
    outputs: BTreeSet<Attempt>,
}

/// A cluster with everything that can go wrong.
struct History {
    random: fastrand::Rng,
    core: Coordinator,
    now: Duration,
    shape: Shape,
    /// What the store has.
    log: Vec<Record>,
    workers: Vec<Fake>,
    reports: Vec<Report>,
    orders: Vec<(usize, u64, Orders, Vec<Place>)>,
    faults: bool,
}

impl History {
    fn new(seed: u64) -> History {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut shape = shape(random.u32(0..6), random.u32(1..4));
        shape.rules.attempts = 1000;
        let workers = (0..random.u64(1..5)).map(|n| Fake {
            life: life(n, 1),
            up: true,
            running: BTreeMap::new(),
            ended: Vec::new(),
            outputs: BTreeSet::new(),
        });
        let workers = workers.collect();
        let mut history = History {
            random,
            core: Coordinator::new(patience()),
            now: Duration::ZERO,
            shape,
            log: Vec::new(),
            workers,
            reports: Vec::new(),
            orders: Vec::new(),
            faults: true,
        };
        history.step(Input::Job { job: JOB, shape, records: Vec::new() });
        history
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.faults && self.random.u32(0..100) < percent
    }

    /// A step whose records are written, unless the coordinator dies before.
    fn step(&mut self, input: Input) {
        let mut records = Vec::new();
        let is_job = matches!(input, Input::Job { .. });
        self.core.step(self.now, input, &mut records);
        let written =
            if !is_job && self.chance(3) { self.random.usize(0..=records.len()) } else { records.len() };
        let lost = written < records.len();
        for (_, record) in records.into_iter().take(written) {
            self.write(record);
        }
        if lost || self.chance(1) {
            self.take_over();
        }
    }

    /// What is written is checked against a model that is too simple to be wrong: the set of finished tasks.
    fn write(&mut self, record: Record) {
        if let Record::Started { attempt, .. } = &record {
            assert!(
                !self.finished().contains_key(&attempt.task),
                "{attempt} was started, but its task is done"
            );
        }
        if let Record::Done { attempt, .. } = &record {
            assert!(!self.finished().contains_key(&attempt.task), "{attempt} is a second winner");
        }
        self.log.push(record);
    }

    fn finished(&self) -> BTreeMap<TaskId, u32> {
        let mut finished = BTreeMap::new();
        for record in &self.log {
            match record {
                Record::Done { attempt, .. } => drop(finished.insert(attempt.task, attempt.number)),
                Record::Reopened { attempt, .. } => drop(finished.remove(&attempt.task)),
                _ => {}
            }
        }
        finished
    }

    /// Another coordinator carries on with what is written.
    fn take_over(&mut self) {
        self.core = Coordinator::new(patience());
        let job = Input::Job { job: JOB, shape: self.shape, records: self.log.clone() };
        let mut records = Vec::new();
        self.core.step(self.now, job, &mut records);
        assert!(records.is_empty(), "it has heard of nobody yet: {records:?}");
    }

    fn turn(&mut self) {
        self.now += TICK;
        for at in 0..self.workers.len() {
            self.work(at);
        }
        while let Some(at) = self.some(self.reports.len()) {
            let report =
                if self.chance(10) { self.reports[at].clone() } else { self.reports.swap_remove(at) };
            if !self.chance(10) {
                let worker = report.life;
                self.step(Input::Report(report));
                let orders = self.core.orders(worker.worker);
                let to = usize::try_from(worker.worker.0).expect("small");
                self.orders.push((to, worker.boot, orders, self.core.sources(JOB)));
            }
        }
        while let Some(at) = self.some(self.orders.len()) {
            let orders = if self.chance(10) { self.orders[at].clone() } else { self.orders.swap_remove(at) };
            if !self.chance(10) {
                self.obey(orders);
            }
        }
        self.step(Input::Tick);
    }

    /// One of so many; sometimes none, so that the rest is late.
    fn some(&mut self, many: usize) -> Option<usize> {
        (many > 0 && !self.chance(15)).then(|| self.random.usize(0..many))
    }

    fn work(&mut self, at: usize) {
        if self.chance(2) {
            self.workers[at].up = !self.workers[at].up;
            self.reboot(at);
        }
        if !self.faults && !self.workers[at].up {
            self.workers[at].up = true;
        }
        if self.chance(1) {
            self.workers[at].outputs.clear();
        }
        if !self.workers[at].up {
            return;
        }
        let fails = self.chance(10);
        let worker = &mut self.workers[at];
        worker.running.values_mut().for_each(|left| *left = left.saturating_sub(1));
        let over: Vec<Attempt> =
            worker.running.iter().filter(|(_, left)| **left == 0).map(|(a, _)| *a).collect();
        for attempt in over {
            worker.running.remove(&attempt);
            if fails {
                worker.ended.push((attempt, failed("chance")));
            } else {
                worker.outputs.insert(attempt);
                worker.ended.push((attempt, done()));
            }
        }
        let mut report = report(worker.life, 2);
        let progress = Progress { steps: self.now.as_millis() as u64, ..Progress::default() };
        report.running = worker.running.keys().map(|attempt| (work(*attempt), progress)).collect();
        report.ended =
            worker.ended.iter().map(|(attempt, ending)| (work(*attempt), ending.clone())).collect();
        self.reports.push(report);
    }

    fn reboot(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        worker.life.boot += 1;
        worker.running.clear();
        worker.ended.clear();
    }

    fn obey(&mut self, (at, boot, orders, sources): (usize, u64, Orders, Vec<Place>)) {
        if self.workers[at].life.boot != boot {
            return;
        }
        for Work { attempt, .. } in orders.start {
            let worker = &self.workers[at];
            let known = worker.running.contains_key(&attempt)
                || worker.outputs.contains(&attempt)
                || worker.ended.iter().any(|(ended, _)| *ended == attempt);
            let unsourced =
                attempt.task.phase == Phase::Reduce && sources.len() as u64 != u64::from(self.shape.maps);
            // An order without sources is not sent yet.
            if known || unsourced {
                continue;
            }
            let missing = sources.iter().find(|place| {
                let source = &self.workers[usize::try_from(place.worker.0).expect("small")];
                !source.up || !source.outputs.contains(&place.attempt)
            });
            let missing = missing.filter(|_| attempt.task.phase == Phase::Reduce);
            if let Some(place) = missing {
                let gone = self.workers[usize::try_from(place.worker.0).expect("small")].up;
                let starved = Ending::Starved { map: place.attempt, more: vec![], gone, why: String::new() };
                self.workers[at].ended.push((attempt, starved));
            } else {
                let ticks = self.random.u32(1..30);
                self.workers[at].running.insert(attempt, ticks);
            }
        }
        for Work { attempt, .. } in orders.stop {
            self.workers[at].running.remove(&attempt);
        }
        // What was reported as ended is noted, or does not count: a worker would drop it now.
        if !self.faults || self.random.bool() {
            let open: BTreeSet<Attempt> =
                self.core.table(JOB).expect("known").running().map(|(a, _)| a).collect();
            self.workers[at].ended.retain(|(attempt, _)| open.contains(attempt));
        }
    }

    fn check(&self) {
        let table = self.core.table(JOB).expect("it is known");
        let finished = self.finished();
        for (phase, tasks) in [(Phase::Map, self.shape.maps), (Phase::Reduce, self.shape.reduces)] {
            for index in 0..tasks {
                let task = TaskId { phase, index };
                let won = table.task(task).and_then(|task| task.done.as_ref()).map(|done| done.number);
                assert_eq!(won, finished.get(&task).copied(), "{task}");
            }
        }
    }
}

fn rebuilt(shape: Shape, records: &[Record]) -> Table {
    let mut table = Table::new(shape.maps, shape.reduces, shape.rules);
    records.iter().for_each(|record| table.apply(record).expect("every written record fits"));
    table
}

#[test]
fn crashes_duplicates_and_delays_change_nothing_that_is_finished() {
    let histories = std::env::var("QUORATE_MR_HISTORIES").map_or(300, |n| n.parse().expect("a number"));
    let first = std::env::var("QUORATE_MR_SEED").map_or(0, |n| n.parse().expect("a number"));
    for seed in first..first + histories {
        let ran = std::panic::catch_unwind(|| {
            let mut history = History::new(seed);
            for _ in 0..200 {
                history.turn();
                history.check();
            }
            history.faults = false;
            let mut turns = 0;
            while !history.core.table(JOB).expect("known").succeeded() {
                history.turn();
                history.check();
                turns += 1;
                assert!(turns < 2000, "it does not come to an end");
            }
            // Any prefix of the records is a job; all of them are this one.
            for upto in 0..history.log.len() {
                rebuilt(history.shape, &history.log[..upto]);
            }
            assert_eq!(&rebuilt(history.shape, &history.log), history.core.table(JOB).expect("known"));
        });
        assert!(ran.is_ok(), "REPRODUCE WITH: QUORATE_MR_SEED={seed} QUORATE_MR_HISTORIES=1");
    }
}
