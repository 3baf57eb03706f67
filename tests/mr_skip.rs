//! Records at which a task fails again and again are passed over, if the job allows it: so many, and no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate::logic::mapreduce::counters::{MAP_INPUT_RECORDS, SKIPPED_RECORDS, TASK};
use quorate::logic::mapreduce::job::{Function, Job};
use quorate::logic::mapreduce::partition::Partitioning;
use quorate::mapreduce::function::{Emit, FunctionResult, Functions, Mapper, Record, Reducer, Values};
use quorate::mapreduce::local::{JobFailure, JobReport, LocalOptions, run};

/// Passes lines on; panics at some of them, and returns an error at others.
struct Touchy;

impl Mapper for Touchy {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        match record.line {
            b"panic" => panic!("cannot stand this line"),
            b"error" => Err("does not like this line".into()),
            line => {
                out.emit(line, b"");
                Ok(())
            }
        }
    }
}

impl Reducer for Touchy {
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        if key.starts_with(b"bad") {
            // Some of its values have been taken.
            values.next();
            out.emit(b"half of it", b"");
            return Err("does not like this key".into());
        }
        let mut count = 0;
        while values.next().is_some() {
            count += 1;
        }
        out.emit_number(key, count);
        Ok(())
    }
}

struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    fn new(text: impl AsRef<[u8]>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("in.txt"), text).expect("written");
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn job(&self, mapper: Function, reducer: Function, skip: u32) -> Job {
        let path = |name| self.path(name).display().to_string();
        let mut job = Job::new("skip", vec![path("in.txt")], mapper, reducer, path("out"));
        job.reducers = Some(1);
        job.limits.skip_bad_records = skip;
        job
    }

    fn run(&self, job: Job) -> Result<JobReport, JobFailure> {
        let mut functions = Functions::builtin();
        functions.mapper("touchy", |_: &[String]| Ok(Touchy));
        functions.mapper("grudging", |_: &[String]| Ok(Grudging));
        functions.reducer("touchy", |_: &[String]| Ok(Touchy));
        let options = LocalOptions { functions: Arc::new(functions), ..LocalOptions::default() };
        run(job, &options, &AtomicBool::new(false), |_| ())
    }

    /// Lines of output.
    fn output(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("out/part-r-00000")).expect("there is output");
        text.lines().map(ToString::to_string).collect()
    }

    /// What the report says of these lines, without the path.
    fn places(&self, report: &JobReport) -> Vec<String> {
        let path = self.path("in.txt").display().to_string();
        report.skipped.iter().map(|place| place.replace(&path, "in.txt")).collect()
    }
}

fn touchy() -> Function {
    Function::builtin("touchy", Vec::new())
}

fn pairs() -> Function {
    Function::builtin("pairs", Vec::new())
}

fn why(failure: JobFailure) -> String {
    let JobFailure::Failed { why, .. } = failure else { panic!("{failure}") };
    why
}

#[test]
fn lines_at_which_a_mapper_fails_are_passed_over_and_named() {
    let ground = Ground::new("a\npanic\nb\nerror\npanic\nc\n");
    let report = ground.run(ground.job(touchy(), pairs(), 3)).expect("it goes well");
    assert_eq!(ground.output(), ["a", "b", "c"]);
    let line = |byte| format!("in.txt, the line at byte {byte}");
    assert_eq!(ground.places(&report), [line(2), line(10), line(16)]);
    assert_eq!(report.counters.get(TASK, SKIPPED_RECORDS), 3);
    assert_eq!(report.counters.get(TASK, MAP_INPUT_RECORDS), 3);
    assert_eq!(
        report.failures, 6,
        "each of them killed the task twice, which is more than it may fail otherwise"
    );
}

#[test]
fn without_leave_nothing_is_passed_over() {
    let ground = Ground::new("a\npanic\n");
    let said = why(ground.run(ground.job(touchy(), pairs(), 0)).expect_err("a bad line"));
    assert!(said.contains("cannot stand this line") && said.contains("the line at byte 2"), "{said}");
    assert!(!ground.path("out").exists());
}

#[test]
fn one_bad_line_too_many_fails_the_job() {
    let ground = Ground::new("panic\nerror\na\nerror\n");
    let said = why(ground.run(ground.job(touchy(), pairs(), 2)).expect_err("three bad lines"));
    assert!(said.contains("the line at byte 14"), "{said}");
}

#[test]
fn a_line_that_is_too_long_is_passed_over_without_being_read_into_memory() {
    let ground = Ground::new(["a\n", &"x".repeat(5 << 20), "\nb"].concat());
    let mut job = ground.job(touchy(), pairs(), 1);
    job.limits.max_record_bytes = 1 << 20;
    let report = ground.run(job).expect("it goes well");
    assert_eq!(ground.output(), ["a", "b"]);
    assert_eq!(report.failures, 1, "once is enough: it will never be shorter");
    assert_eq!(ground.places(&report), ["in.txt, the line at byte 2"]);
}

#[test]
fn keys_at_which_a_reducer_fails_are_passed_over_with_all_their_values() {
    let ground = Ground::new("z\nbad\na\nbad\nbad\na\nworse\nbad too\n");
    let report = ground.run(ground.job(touchy(), touchy(), 2)).expect("it goes well");
    assert_eq!(ground.output(), ["a\t2", "worse\t1", "z\t1"]);
    assert_eq!(report.skipped, ["reduce-0, key number 1", "reduce-0, key number 2"]);
    assert_eq!(report.counters.get(TASK, SKIPPED_RECORDS), 2);
}

/// A mapper that panics behind its last line.
struct Grudging;

impl Mapper for Grudging {
    fn map(&mut self, _: &Record<'_>, _: &mut dyn Emit) -> FunctionResult {
        Ok(())
    }

    fn finish(&mut self, _: &mut dyn Emit) -> FunctionResult {
        panic!("does not want to end")
    }
}

#[test]
fn what_goes_wrong_behind_the_last_line_is_not_its_fault() {
    let ground = Ground::new("a\nb\n");
    let said = why(ground
        .run(ground.job(Function::builtin("grudging", Vec::new()), pairs(), 1))
        .expect_err("no end"));
    assert!(said.contains("does not want to end") && said.contains("bytes 0 to 4"), "{said}");
}

/// A job in ranges looks at some of its input before it begins.
#[test]
fn a_bad_line_in_the_sample_does_not_matter_either() {
    let ground = Ground::new("c\npanic\na\nb\n");
    let mut job = ground.job(touchy(), pairs(), 1);
    job.partitioning = Partitioning::Range;
    job.reducers = Some(2);
    let report = ground.run(job.clone()).expect("it goes well");
    assert_eq!(ground.places(&report), ["in.txt, the line at byte 2"]);
    fs::remove_dir_all(ground.path("out")).expect("removed");

    job.limits.skip_bad_records = 0;
    let JobFailure::Refused(said) = ground.run(job).expect_err("a bad line") else {
        panic!("it was planned")
    };
    assert!(said.contains("cannot stand this line"), "{said}");
}

/// Far more than one batch, with bad lines at its beginning, in the middle and at its end.
#[test]
fn a_command_is_searched_for_the_lines_at_which_it_fails() {
    const LINES: usize = 300_000;
    let bad: BTreeSet<usize> = [0, 1, 77_777, 123_456, LINES - 1].into();
    let mut text = String::new();
    let mut places = Vec::new();
    for n in 0..LINES {
        if bad.contains(&n) {
            places.push(format!("in.txt, the line at byte {}", text.len()));
        }
        text += &if bad.contains(&n) { format!("bad{n}\n") } else { format!("{n:06}\n") };
    }
    let ground = Ground::new(&text);
    let mapper = "awk '/bad/ { exit 3 } { print; n++ } \
                  END { print \"reporter:counter:mine,lines,\" n > \"/dev/stderr\" }'";
    let mut job = ground.job(Function::command(mapper), pairs(), 5);
    job.limits.split_bytes = Some(text.len() as u64);
    let report = ground.run(job.clone()).expect("it goes well");
    let good = (0..LINES).filter(|n| !bad.contains(n));
    assert_eq!(ground.output(), good.map(|n| format!("{n:06}")).collect::<Vec<_>>());
    assert_eq!(ground.places(&report), places);
    assert_eq!(report.failures, 2, "the third attempt searched");
    assert_eq!(
        report.counters.get("mine", "lines"),
        (LINES - bad.len()) as u64,
        "what was tried does not count"
    );

    fs::remove_dir_all(ground.path("out")).expect("removed");
    job.limits.skip_bad_records = 4;
    let said = why(ground.run(job).expect_err("five bad lines"));
    assert!(said.contains("ended with code 3"), "{said}");
}

/// An attempt that is told to stop while it searches leaves no process, and ends soon.
#[test]
fn a_search_can_be_cancelled() {
    let ground = Ground::new("a\n".repeat(1000));
    let mapper = "echo $$ >> pids; [ $(wc -l < pids) -le 2 ] && exit 1; exec sleep 1000";
    let mapper = format!("cd {} && {{ {mapper}; }}", ground.dir.path().display());
    let cancel = AtomicBool::new(false);
    let pids = || fs::read_to_string(ground.path("pids")).unwrap_or_default();
    let result =
        run(ground.job(Function::command(mapper), pairs(), 1), &LocalOptions::default(), &cancel, |_| {
            if pids().lines().count() == 3 {
                cancel.store(true, Ordering::Relaxed);
            }
        });
    assert_eq!(result.map(|report| report.skipped), Err(JobFailure::Cancelled));
    let last = pids().lines().last().expect("a process").to_string();
    assert!(!PathBuf::from(format!("/proc/{last}")).exists(), "process {last} is left");
}
