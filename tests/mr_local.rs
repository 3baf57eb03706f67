//! MapReduce jobs on this machine, as a library runs them: against answers that are known or computed in the plainest
//! way, with memory that is far too small, and with functions that fail.
//!
//! `QUORATE_MR_MIB` is the size of the larger inputs in MiB (8 by default).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use quorate::logic::mapreduce::counters as names;
use quorate::logic::mapreduce::job::{Form, Function, Job, TaskId};
use quorate::logic::mapreduce::partition::Partitioning;
use quorate::mapreduce::builtin;
use quorate::mapreduce::function::{
    Emit, FunctionResult, Functions, Mapper, Record, Reducer, TaskContext, Values,
};
use quorate::mapreduce::generate::{self, Text};
use quorate::mapreduce::local::{JobFailure, JobReport, LocalOptions, run};

/// A directory with inputs, in which jobs put their outputs.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().expect("a parent")).expect("made");
        fs::write(self.path(name), content).expect("written");
    }

    fn job(&self, application: &str, args: &[&str], input: &str) -> Job {
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        builtin::job(application, &args, vec![self.text(input)], &self.text("out")).expect("a job")
    }

    fn own_job(&self, input: &str, reducers: u32) -> Job {
        let own = || Function::builtin("own", Vec::new());
        let mut job = Job::new("own", vec![self.text(input)], own(), own(), self.text("out"));
        job.reducers = Some(reducers);
        job
    }

    fn run(&self, job: Job, options: &LocalOptions) -> Result<JobReport, JobFailure> {
        run(job, options, &AtomicBool::new(false), |_| ())
    }

    /// The lines of all output files, one after the other; the directory is removed.
    fn output(&self) -> Vec<String> {
        let files = output_files(&self.path("out"));
        assert!(files.iter().any(|name| name == "_SUCCESS"), "{files:?}");
        let mut lines = Vec::new();
        for name in files.iter().filter(|name| *name != "_SUCCESS") {
            let text = fs::read(self.path("out").join(name)).expect("readable");
            lines.extend(String::from_utf8_lossy(&text).lines().map(ToString::to_string));
        }
        fs::remove_dir_all(self.path("out")).expect("removed");
        lines
    }
}

fn output_files(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("there is output");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// So little memory that every task has to spill.
fn cramped() -> LocalOptions {
    LocalOptions { slots: 3, memory_bytes: 0, ..LocalOptions::default() }
}

fn input_bytes() -> u64 {
    let mib = std::env::var("QUORATE_MR_MIB").map_or(8, |text| text.parse().expect("a number of MiB"));
    mib << 20
}

/// Generated text in files, and how often each word occurs.
fn books(bench: &Bench, count: u64, bytes: u64) -> BTreeMap<String, u64> {
    let mut text = Text::new(42);
    for number in 0..count {
        let mut bytes_of = Vec::new();
        text.write(bytes / count, &mut bytes_of).expect("memory does not fail");
        bench.write(&format!("books/{number}.txt"), bytes_of);
    }
    text.counts()
}

#[test]
fn a_word_count_is_the_known_answer_whatever_the_cuts() {
    let bench = Bench::new();
    let counts = books(&bench, 8, input_bytes());
    let expected: Vec<String> = counts.iter().map(|(word, count)| format!("{word}\t{count}")).collect();
    for (split, reducers, combined, compress, options) in [
        (None, None, true, false, LocalOptions::default()),
        (Some(100_000), Some(10), true, true, cramped()),
        (Some(300_001), Some(3), false, true, cramped()),
    ] {
        let mut job = bench.job("wc", &[], "books/*.txt");
        (job.limits.split_bytes, job.reducers, job.compress) = (split, reducers, compress);
        if !combined {
            job.combiner = None;
        }
        let report = bench.run(job, &options).expect("it runs");
        let words: u64 = counts.values().sum();
        assert_eq!(report.counters.get(names::TASK, names::MAP_OUTPUT_RECORDS), words);
        assert_eq!(report.counters.get(names::TASK, names::REDUCE_INPUT_KEYS), counts.len() as u64);
        assert_eq!(report.counters.get(names::TASK, names::MAP_INPUT_BYTES), report.input_bytes);
        assert_eq!(sorted(bench.output()), expected, "split {split:?}, {reducers:?} reducers");
    }
}

#[test]
fn memory_that_is_too_small_spills_and_changes_nothing() {
    let bench = Bench::new();
    // Every word is different, so that folding does not help.
    let text: String = (0..600_000u32).map(|n| format!("{} ", word(n))).collect::<String>() + "\n";
    let lines = text.replace(' ', "\n");
    bench.write("in.txt", lines.as_bytes());
    let mut expected: Vec<String> = (0..600_000).map(|n| format!("{}\t1", word(n))).collect();
    expected.sort();
    for combiner in [Some(Function::builtin("sum", Vec::new())), None] {
        let mut job = bench.job("wc", &[], "in.txt");
        job.combiner = combiner;
        job.limits.split_bytes = Some(u64::MAX);
        let options = LocalOptions { slots: 1, memory_bytes: 0, ..LocalOptions::default() };
        let report = bench.run(job, &options).expect("it runs");
        assert!(report.counters.get(names::TASK, names::SPILLED_RUNS) > 1, "{:?}", report.counters);
        assert_eq!(sorted(bench.output()), expected);
    }
}

/// A word of letters for a number.
fn word(mut n: u32) -> String {
    let mut word = String::from("w");
    while n > 0 {
        word.push(char::from(b'a' + (n % 26) as u8));
        n /= 26;
    }
    word.push('x');
    word
}

#[test]
fn an_index_is_that_of_a_plain_program() {
    let bench = Bench::new();
    books(&bench, 8, input_bytes() / 4);
    let mut index: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for number in 0..8 {
        let path = bench.text(&format!("books/{number}.txt"));
        let text = fs::read_to_string(&path).expect("readable");
        for word in text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()) {
            index.entry(word.to_string()).or_default().insert(path.clone());
        }
    }
    let line = |(word, files): (&String, &BTreeSet<String>)| {
        let list: Vec<&str> = files.iter().map(String::as_str).collect();
        format!("{word} {} {}", files.len(), list.join(","))
    };
    let expected: Vec<String> = index.iter().map(line).collect();
    let mut job = bench.job("indexer", &[], "books");
    job.limits.split_bytes = Some(50_000);
    job.reducers = Some(10);
    job.output.form = Form::Labs;
    bench.run(job, &cramped()).expect("it runs");
    let files = output_files(&bench.path("out"));
    assert_eq!(files[1..], (0..10).map(|n| format!("mr-out-{n}")).collect::<Vec<_>>());
    assert_eq!(sorted(bench.output()), expected);
}

#[test]
fn grep_finds_the_lines_in_the_order_of_each_file() {
    let bench = Bench::new();
    books(&bench, 3, input_bytes() / 4);
    let mut job = bench.job("grep", &["th.?e\\b"], "books");
    job.limits.split_bytes = Some(40_000);
    job.reducers = Some(1);
    bench.run(job, &cramped()).expect("it runs");
    let pattern = regex::Regex::new("th.?e\\b").expect("a pattern");
    let mut expected = Vec::new();
    for number in 0..3 {
        let text = fs::read_to_string(bench.path(&format!("books/{number}.txt"))).expect("readable");
        expected.extend(text.lines().filter(|line| pattern.is_match(line)).map(ToString::to_string));
    }
    assert!(expected.len() > 100);
    assert_eq!(bench.output(), expected);
}

#[test]
fn sorted_outputs_one_after_the_other_are_sorted() {
    let bench = Bench::new();
    let mut bytes = Vec::new();
    generate::records(5, input_bytes() / 100, &mut bytes).expect("memory does not fail");
    bench.write("records.txt", &bytes);
    let mut expected: Vec<String> =
        String::from_utf8(bytes).expect("ASCII").lines().map(ToString::to_string).collect();
    expected.sort();
    let mut job = bench.job("sort", &[], "records.txt");
    job.reducers = Some(5);
    job.limits.split_bytes = Some(500_000);
    let report = bench.run(job, &cramped()).expect("it runs");
    let sizes: Vec<u64> = (0..5)
        .map(|n| {
            fs::metadata(bench.path("out").join(Form::Parts.file_name(TaskId::reduce(n))))
                .expect("a file")
                .len()
        })
        .collect();
    let fair = report.counters.get(names::TASK, names::OUTPUT_BYTES) / 5;
    assert!(sizes.iter().all(|size| (fair / 2..fair * 2).contains(size)), "{sizes:?}");
    assert!(bench.output() == expected, "the order is wrong");
}

#[test]
fn one_line_again_and_again_can_be_sorted() {
    let bench = Bench::new();
    bench.write("same.txt", "same\n".repeat(300_000) + "other\n");
    let mut job = bench.job("sort", &[], "same.txt");
    job.reducers = Some(4);
    job.limits.split_bytes = Some(100_000);
    bench.run(job, &cramped()).expect("it runs");
    let lines = bench.output();
    assert_eq!((lines.len(), lines[0].as_str()), (300_001, "other"));
    assert!(lines[1..].iter().all(|line| line == "same"));
}

#[test]
fn compressed_inputs_are_read_and_damaged_ones_refused() {
    use std::io::Write;
    let bench = Bench::new();
    let text = "one two two\nthree three three\n".repeat(20_000);
    let gzip = |text: &str| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).expect("memory does not fail");
        encoder.finish().expect("memory does not fail")
    };
    let zstd = |text: &str| {
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
    };
    // Files of several members or frames, and a frame that is to be skipped.
    bench.write("in/a.gz", [gzip(&text), gzip("end\n")].concat());
    let skippable = [&0x184D_2A50u32.to_le_bytes()[..], &3u32.to_le_bytes(), b"xyz"].concat();
    bench.write("in/b.zst", [zstd(&text), skippable, zstd("end\n")].concat());
    bench.run(bench.job("wc", &[], "in"), &LocalOptions::default()).expect("it runs");
    assert_eq!(sorted(bench.output()), ["end\t2", "one\t40000", "three\t120000", "two\t80000"]);

    for (name, whole) in [("cut.gz", gzip(&text)), ("cut.zst", zstd(&text))] {
        bench.write(name, &whole[..whole.len() / 2]);
        let failure = bench.run(bench.job("wc", &[], name), &LocalOptions::default()).expect_err(name);
        assert!(failure.to_string().contains(name), "{failure}");
        assert!(!bench.path("out").exists());
    }
}

#[test]
fn odd_inputs_are_read_as_they_are() {
    let bench = Bench::new();
    bench.write("in/empty", "");
    bench.write("in/binary", b"a\xff\xfeb\0c\r\nd e\n\n\n\xc3");
    bench.write("in/no end", "the end");
    let mut job = bench.job("wc", &[], "in");
    job.reducers = Some(3);
    bench.run(job, &LocalOptions::default()).expect("it runs");
    assert_eq!(sorted(bench.output()), ["a\t1", "b\t1", "c\t1", "d\t1", "e\t1", "end\t1", "the\t1"]);

    let report = bench.run(bench.job("wc", &[], "in/empty"), &LocalOptions::default()).expect("it runs");
    assert_eq!((report.maps, report.reducers), (0, 1));
    assert_eq!(bench.output(), Vec::<String>::new());
}

#[test]
fn a_job_that_cannot_be_run_touches_nothing() {
    let bench = Bench::new();
    bench.write("in.txt", "a b\n");
    let refused = |job: Job| match bench.run(job, &LocalOptions::default()) {
        Err(JobFailure::Refused(text)) => text.replace(&bench.text(""), "/"),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(bench.job("wc", &[], "missing.txt")), "there is no input /missing.txt");
    assert_eq!(refused(bench.job("wc", &[], "*.pdf")), "no file matches the input \"/*.pdf\"");
    let mut job = bench.job("wc", &[], "in.txt");
    job.mapper = Function::builtin("nobody", Vec::new());
    assert!(refused(job).starts_with("there is no mapper \"nobody\"; there are "));
    assert!(!bench.path("out").exists());

    bench.write("out/keep", "mine");
    let text = refused(bench.job("wc", &[], "in.txt"));
    assert_eq!(
        text,
        "the output /out exists (it holds no finished output); remove it or choose another, nothing is overwritten"
    );
    assert_eq!(output_files(&bench.path("out")), ["keep"]);
}

#[test]
fn a_line_that_is_too_long_is_named_by_file_and_offset() {
    let bench = Bench::new();
    bench.write("in.txt", "short\n".to_owned() + &"x".repeat(3 << 20) + "\nshort\n");
    let mut job = bench.job("wc", &[], "in.txt");
    job.limits.max_record_bytes = 1 << 20;
    let failure = bench.run(job, &LocalOptions::default()).expect_err("too long").to_string();
    let expected = format!("{}: the line at byte 6 is longer than 1048576 bytes", bench.text("in.txt"));
    assert!(failure.contains(&expected), "{failure}");
    assert!(!bench.path("out").exists());
}

// Functions of one's own.

/// A mapper or reducer made of closures.
struct Own<M, R>(M, R);

impl<M, R> Mapper for Own<M, R>
where
    M: Fn(&Record<'_>, &mut dyn Emit) -> FunctionResult + Send,
    R: Send,
{
    fn map(&mut self, record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
        (self.0)(record, out)
    }
}

impl<M, R> Reducer for Own<M, R>
where
    M: Send,
    R: Fn(&[u8], &mut dyn Values, &mut dyn Emit) -> FunctionResult + Send,
{
    fn reduce(&mut self, key: &[u8], values: &mut dyn Values, out: &mut dyn Emit) -> FunctionResult {
        (self.1)(key, values, out)
    }
}

/// Options with a mapper and a reducer `own`.
fn with_own(
    slots: usize,
    map: impl Fn(&Record<'_>, &mut dyn Emit) -> FunctionResult + Clone + Send + Sync + 'static,
    reduce: impl Fn(&[u8], &mut dyn Values, &mut dyn Emit) -> FunctionResult + Clone + Send + Sync + 'static,
) -> LocalOptions {
    let mut functions = Functions::builtin();
    let (map_too, reduce_too) = (map.clone(), reduce.clone());
    functions.mapper("own", move |_: &[String]| Ok(Own(map.clone(), reduce.clone())));
    functions.reducer("own", move |_: &[String]| Ok(Own(map_too.clone(), reduce_too.clone())));
    LocalOptions { slots, functions: Arc::new(functions), ..LocalOptions::default() }
}

fn count(values: &mut dyn Values) -> u64 {
    let mut count = 0;
    while values.next().is_some() {
        count += 1;
    }
    count
}

/// Counts how many are in a section at once, at most.
#[derive(Clone, Default)]
struct Crowd(Arc<(AtomicUsize, AtomicUsize)>);

impl Crowd {
    /// Stays until `wanted` are there together, or for five seconds.
    fn meet(&self, wanted: usize) {
        let (here, most) = (&self.0.0, &self.0.1);
        let now = here.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(now, Ordering::SeqCst);
        let start = std::time::Instant::now();
        while most.load(Ordering::SeqCst) < wanted && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        here.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.0.1.load(Ordering::SeqCst)
    }
}

#[test]
fn maps_and_reduces_run_in_parallel_up_to_the_slots() {
    let bench = Bench::new();
    for number in 0..8 {
        bench.write(&format!("in/{number}"), "line\n");
    }
    let (maps, reduces) = (Crowd::default(), Crowd::default());
    let (in_map, in_reduce) = (maps.clone(), reduces.clone());
    let options = with_own(
        2,
        move |_, out| {
            in_map.meet(2);
            (b'a'..=b'j').for_each(|letter| out.emit(&[letter], b"1"));
            Ok(())
        },
        move |key, values, out| {
            in_reduce.meet(2);
            out.emit_number(key, count(values));
            Ok(())
        },
    );
    bench.run(bench.own_job("in", 10), &options).expect("it runs");
    assert_eq!((maps.most(), reduces.most()), (2, 2));
    let expected: Vec<String> = ('a'..='j').map(|letter| format!("{letter}\t8")).collect();
    assert_eq!(sorted(bench.output()), expected);
}

#[test]
fn each_of_eight_files_is_mapped_exactly_once() {
    let bench = Bench::new();
    for number in 0..8 {
        bench.write(&format!("in/{number}"), "line\n");
    }
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let options = with_own(
        4,
        move |record, out| {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            // They take differently long, so that the order of their ends is another than that of their beginnings.
            std::thread::sleep(Duration::from_millis(u64::from((number * 37) % 100)));
            out.emit(b"a", record.file.as_bytes());
            Ok(())
        },
        |key, values, out| {
            out.emit_number(key, count(values));
            Ok(())
        },
    );
    let report = bench.run(bench.own_job("in", 10), &options).expect("it runs");
    assert_eq!((calls.load(Ordering::SeqCst), report.maps, report.failures), (8, 8, 0));
    assert_eq!(bench.output(), ["a\t8"]);
}

#[test]
fn tasks_that_crash_and_stall_change_nothing_in_the_output() {
    let bench = Bench::new();
    for number in 0..8 {
        bench.write(&format!("in/{number}"), format!("file {number}\n"));
    }
    let expected = |bench: &Bench| {
        let mut lines = bench.output();
        lines.sort();
        lines
    };
    let reduce = |key: &[u8], values: &mut dyn Values, out: &mut dyn Emit| -> FunctionResult {
        let mut all = Vec::new();
        while let Some(value) = values.next() {
            all.push(String::from_utf8_lossy(value).into_owned());
        }
        all.sort();
        out.emit(key, all.join(" ").as_bytes());
        Ok(())
    };
    let map = |record: &Record<'_>, out: &mut dyn Emit| -> FunctionResult {
        out.emit(b"a", record.line);
        out.emit(b"b", record.line.len().to_string().as_bytes());
        out.emit(b"c", b"xyzzy");
        Ok(())
    };
    bench.run(bench.own_job("in", 10), &with_own(4, map, reduce)).expect("it runs");
    let undisturbed = expected(&bench);
    assert_eq!(undisturbed.len(), 3);

    // Every third call panics, every third returns an error, the rest does its work.
    let calls = Arc::new(AtomicU32::new(0));
    let trouble = move || -> FunctionResult {
        match calls.fetch_add(1, Ordering::SeqCst) % 3 {
            0 => panic!("on purpose"),
            1 => Err("on purpose".into()),
            _ => Ok(()),
        }
    };
    let trouble_too = trouble.clone();
    let options = with_own(
        4,
        move |record: &Record<'_>, out: &mut dyn Emit| trouble().and_then(|()| map(record, out)),
        move |key: &[u8], values: &mut dyn Values, out: &mut dyn Emit| {
            trouble_too().and_then(|()| reduce(key, values, out))
        },
    );
    let mut job = bench.own_job("in", 10);
    job.limits.attempts = 100;
    let report = bench.run(job, &options).expect("it runs");
    assert!(report.failures >= 10, "{}", report.failures);
    assert_eq!(expected(&bench), undisturbed);
}

#[test]
fn a_function_that_fails_again_and_again_fails_the_job() {
    let bench = Bench::new();
    bench.write("in.txt", "good\nbad\n");
    let options = with_own(
        1,
        |record, _| if record.line == b"bad" { Err("it is bad".into()) } else { Ok(()) },
        |_, _, _| Ok(()),
    );
    let failure = bench.run(bench.own_job("in.txt", 1), &options).expect_err("it fails").to_string();
    let expected = format!(
        "map-0 failed again and again, at last: the mapper own failed: it is bad\n  input: {}, the line at byte 5",
        bench.text("in.txt")
    );
    assert_eq!(failure, expected);
    assert!(!bench.path("out").exists());
}

#[test]
fn a_job_that_is_cancelled_leaves_nothing() {
    let bench = Bench::new();
    bench.write("in.txt", "line\n".repeat(100_000));
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    let options = with_own(
        1,
        move |_, out| {
            flag.store(true, Ordering::Relaxed);
            out.emit(b"k", b"v");
            std::thread::sleep(Duration::from_micros(100));
            Ok(())
        },
        |_, _, _| Ok(()),
    );
    let failure = run(bench.own_job("in.txt", 1), &options, &cancel, |_| ()).expect_err("cancelled");
    assert_eq!(failure, JobFailure::Cancelled);
    assert!(!bench.path("out").exists());
}

#[test]
fn keys_that_agree_in_their_first_field_meet_in_one_file() {
    let bench = Bench::new();
    bench.write("in.txt", (0..200).map(|n| format!("{}.{n}\n", n % 7)).collect::<String>());
    let mut job = bench.job("sort", &[], "in.txt");
    job.partitioning = Partitioning::Fields { separator: b'.', first: 1 };
    job.reducers = Some(4);
    bench.run(job, &LocalOptions::default()).expect("it runs");
    let mut places: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for part in 0..4 {
        let path = bench.path("out").join(Form::Parts.file_name(TaskId::reduce(part)));
        for line in fs::read_to_string(path).expect("readable").lines() {
            let first = line.split('.').next().expect("a field").to_string();
            places.entry(first).or_default().insert(part);
        }
    }
    assert_eq!(places.len(), 7);
    assert!(places.values().all(|parts| parts.len() == 1), "{places:?}");
}

#[test]
fn a_function_learns_where_it_runs() {
    struct Where(String);
    impl Mapper for Where {
        fn begin(&mut self, context: &TaskContext<'_>) -> FunctionResult {
            let split = context.split.ok_or("a map task has a split")?;
            self.0 = format!("{} {}+{}", context.attempt, split.offset, split.length);
            Ok(())
        }
        fn map(&mut self, _record: &Record<'_>, out: &mut dyn Emit) -> FunctionResult {
            out.counter("own", "lines", 1);
            Ok(())
        }
        fn finish(&mut self, out: &mut dyn Emit) -> FunctionResult {
            out.emit(self.0.as_bytes(), b"");
            Ok(())
        }
    }
    let bench = Bench::new();
    bench.write("in.txt", "12345678\n".repeat(20));
    let mut functions = Functions::builtin();
    functions.mapper("own", |_: &[String]| Ok(Where(String::new())));
    let options = LocalOptions { functions: Arc::new(functions), ..LocalOptions::default() };
    let mut job = bench.own_job("in.txt", 1);
    job.reducer = Function::builtin("pairs", Vec::new());
    job.limits.split_bytes = Some(100);
    let report = bench.run(job, &options).expect("it runs");
    assert_eq!(bench.output(), ["map-0.1 0+100", "map-1.1 100+80"]);
    assert_eq!(report.counters.get("own", "lines"), 20);
}

#[test]
fn a_combiner_that_panics_fails_the_job_with_its_words() {
    let bench = Bench::new();
    bench.write("in.txt", "one\ntwo\n");
    // The reducer is the combiner, too, so it is the first that gets a key.
    let options = with_own(
        1,
        |record, out| {
            out.emit(record.line, b"1");
            Ok(())
        },
        |_, _, _| panic!("the combiner has had enough"),
    );
    let mut job = bench.own_job("in.txt", 1);
    job.combiner = Some(Function::builtin("own", Vec::new()));
    job.limits.task_timeout_ms = 2000;
    let failure = bench.run(job, &options).expect_err("it fails").to_string();
    assert!(failure.starts_with("map-0 failed again and again"), "{failure}");
    assert!(failure.contains("the combiner has had enough"), "{failure}");
    assert!(!bench.path("out").exists());
}
