//! MapReduce over objects in stores: as over files, whatever the store, and with stores that fail, hang, and replace
//! objects while they are read.
//!
//! With the program `moto_server` on the path, also over a server that speaks S3.

mod mapreduce_support;

use std::fmt;
use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use futures_util::stream::BoxStream;
use mapreduce_support::embedded::{Embedded, alone};
use object_store::aws::AmazonS3Builder;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt, PutMultipartOptions, PutOptions, PutPayload, PutResult,
};
use quorate::logic::mapreduce::coordinator::JobState;
use quorate::logic::mapreduce::job::Job;
use quorate::mapreduce::builtin;
use quorate::mapreduce::generate::Text;
use quorate::mapreduce::input::{expand, objects::register};
use quorate::mapreduce::local::{JobFailure, JobReport, LocalOptions, run};

/// How long something may take that is sure to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A directory in which jobs put their outputs.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("UTF-8").to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(name).parent().expect("a parent")).expect("made");
        fs::write(self.path(name), content).expect("written");
    }

    /// A word count.
    fn job(&self, input: &str, split: Option<u64>) -> Job {
        let mut job = builtin::job("wc", &[], vec![input.to_string()], &self.text("out")).expect("a job");
        (job.reducers, job.limits.split_bytes) = (Some(2), split);
        job
    }

    fn run(&self, job: Job) -> Result<JobReport, JobFailure> {
        // So little memory that every task has to spill.
        let options = LocalOptions { slots: 3, memory_bytes: 0, ..LocalOptions::default() };
        run(job, &options, &AtomicBool::new(false), |_| ())
    }

    /// The words of an input and their counts, sorted, and what is told of the job.
    fn count(&self, input: &str, split: Option<u64>) -> (Vec<String>, JobReport) {
        let report = self.run(self.job(input, split)).unwrap_or_else(|failure| panic!("{input}: {failure}"));
        (self.output(), report)
    }

    fn output(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for entry in fs::read_dir(self.path("out")).expect("there is output") {
            let text = fs::read_to_string(entry.expect("readable").path()).expect("UTF-8");
            lines.extend(text.lines().map(ToString::to_string));
        }
        fs::remove_dir_all(self.path("out")).expect("removed");
        lines.sort();
        lines
    }

    /// `quorate mr ...`, run in this directory.
    fn mr(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
        command.arg("mr").args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

fn put(store: &dyn ObjectStore, key: &str, content: impl Into<Vec<u8>>) {
    let content: Vec<u8> = content.into();
    wait(store.put(&Path::parse(key).expect("a key"), content.into())).expect("it is put");
}

fn text(seed: u64, bytes: u64) -> Vec<u8> {
    let mut written = Vec::new();
    Text::new(seed).write(bytes, &mut written).expect("memory does not fail");
    written
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).expect("memory does not fail");
    packed.finish().expect("memory does not fail")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Input that packing makes little smaller, so that a packed object has several pieces.
fn noise(bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(3);
    let line = |random: &mut fastrand::Rng| (0..60).map(|_| random.alphanumeric()).collect::<String>() + "\n";
    std::iter::from_fn(|| Some(line(&mut random))).take(bytes / 61).collect::<String>().into_bytes()
}

type Before = dyn Fn(usize, &InMemory) -> Result<(), Error> + Send + Sync;

/// A store in memory, and something that happens before each request for bytes of an object.
struct Troubled {
    inner: InMemory,
    requests: AtomicUsize,
    /// How many of them had a condition.
    conditions: AtomicUsize,
    before: Box<Before>,
    /// As servers do that know no conditions.
    ignores_conditions: bool,
    hangs: bool,
}

impl Troubled {
    fn new(before: impl Fn(usize, &InMemory) -> Result<(), Error> + Send + Sync + 'static) -> Self {
        let (requests, conditions) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (inner, before) = (InMemory::new(), Box::new(before));
        Self { inner, requests, conditions, before, ignores_conditions: false, hangs: false }
    }

    /// Fails the requests with these numbers, counted from 0.
    fn failing(fails: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        Self::new(move |number, _| {
            let error = Error::Generic { store: "test", source: "503 Slow Down".into() };
            if fails(number) { Err(error) } else { Ok(()) }
        })
    }

    /// Gives it a URL.
    fn at(self, url: &str) -> Arc<Self> {
        let store = Arc::new(self);
        register(url, store.clone()).expect("a URL of a store");
        store
    }
}

impl fmt::Debug for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Troubled")
    }
}

impl fmt::Display for Troubled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Troubled")
    }
}

#[async_trait]
impl ObjectStore for Troubled {
    async fn put_opts(
        &self,
        at: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult, Error> {
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>, Error> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, mut options: GetOptions) -> Result<GetResult, Error> {
        if !options.head {
            if self.hangs {
                std::future::pending::<()>().await;
            }
            (self.before)(self.requests.fetch_add(1, Ordering::Relaxed), &self.inner)?;
        }
        self.conditions.fetch_add(usize::from(options.if_match.is_some()), Ordering::Relaxed);
        if self.ignores_conditions {
            options.if_match = None;
        }
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        keys: BoxStream<'static, Result<Path, Error>>,
    ) -> BoxStream<'static, Result<Path, Error>> {
        self.inner.delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult, Error> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<(), Error> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[test]
fn the_count_is_that_of_files_wherever_the_bytes_lie_and_however_they_are_cut() {
    let place = Place::new();
    let store = InMemory::new();
    for number in 0..4 {
        let book = text(number, 700_000);
        place.write(&format!("books/{number}.txt"), &book);
        put(&store, &format!("books/{number}.txt"), book);
    }
    register("memory://count", Arc::new(store)).expect("a URL of a store");
    let files = place.text("books/*.txt");
    let (expected, of_files) = place.count(&files, Some(50_000));
    assert!(expected.len() > 100);
    for input in ["memory://count/books/*.txt", "memory://count", &format!("file://{files}")] {
        for split in [None, Some(50_000), Some(300_001)] {
            let (found, report) = place.count(input, split);
            assert!(found == expected, "{input} in splits of {split:?}");
            assert_eq!(report.input_bytes, of_files.input_bytes);
            assert!(split != Some(50_000) || report.maps == of_files.maps, "{} tasks", report.maps);
        }
    }
}

#[test]
fn objects_of_many_pieces_packed_and_not_are_read_to_their_last_line() {
    let place = Place::new();
    let store = InMemory::new();
    // 7 MB and no line end at the end; packed they are three pieces, too.
    let noise = [noise(7_000_000).as_slice(), b"the last line"].concat();
    place.write("noise.txt", &noise);
    put(&store, "plain.txt", noise.clone());
    put(&store, "a.gz", gzip(&noise));
    put(&store, "b.zst", zstd(&noise));
    register("memory://pieces", Arc::new(store)).expect("a URL of a store");
    let (expected, _) = place.count(&place.text("noise.txt"), None);
    for (name, split) in [("plain.txt", 64 << 20), ("plain.txt", 2 << 20), ("a.gz", 1), ("b.zst", 1)] {
        let (found, report) = place.count(&format!("memory://pieces/{name}"), Some(split));
        assert!(found == expected, "{name} in splits of {split}");
        assert_eq!(report.counters.get("task", "map input bytes"), noise.len() as u64, "{name}");
    }
}

#[test]
fn no_more_is_asked_for_than_a_split_needs() {
    let place = Place::new();
    let store = Troubled::failing(|_| false).at("memory://thrifty");
    put(&*store, "a.txt", text(1, 1_000_000));
    let (_, report) = place.count("memory://thrifty/a.txt", Some(100_000));
    assert_eq!((report.maps, store.requests.load(Ordering::Relaxed)), (10, 10), "one request for each split");
}

#[test]
fn inputs_name_objects_prefixes_and_patterns() {
    let store = InMemory::new();
    for key in ["b.txt", "a.txt", "c.log", "d/deep/e.txt", "d/.hidden", "d/_SUCCESS", "d/f", "odd[1].txt"] {
        put(&store, key, key);
    }
    register("memory://names", Arc::new(store)).expect("a URL of a store");
    let names = |inputs: &[&str]| {
        let inputs: Vec<String> = inputs.iter().map(|input| format!("memory://names/{input}")).collect();
        let found = expand(&inputs).map_err(|problem| problem.replace("memory://names/", ""))?;
        Ok::<_, String>(
            found.into_iter().map(|f| f.path["memory://names/".len()..].to_string()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(names(&["*.txt"]).expect("found"), ["a.txt", "b.txt", "odd[1].txt"]);
    assert_eq!(names(&["d", "a.txt"]).expect("found"), ["d/deep/e.txt", "d/f", "a.txt"]);
    assert_eq!(names(&["d/"]).expect("found"), ["d/deep/e.txt", "d/f"]);
    assert_eq!(names(&["**/e.txt"]).expect("found"), ["d/deep/e.txt"]);
    assert_eq!(names(&["odd[1].txt"]).expect("found"), ["odd[1].txt"], "a name is no pattern");
    assert_eq!(names(&[""]).expect("found").len(), 6);
    for nothing in ["nothing.txt", "*.pdf", "d/dee"] {
        let problem = names(&[nothing]).expect_err(nothing);
        assert_eq!(problem, format!("there is no object {nothing}, nor one below it or matching it"));
    }
    assert!(names(&["[.txt"]).expect_err("no pattern").contains("is wrong at character"));
    let unknown = expand(&["ftp://host/file".to_string()]).expect_err("unknown");
    assert!(unknown.contains("there are no inputs ftp://") && unknown.contains("s3://, "), "{unknown}");
}

#[test]
fn requests_that_fail_are_made_again_by_another_attempt() {
    let place = Place::new();
    let noise = noise(7_000_000);
    place.write("noise.txt", &noise);
    let (expected, _) = place.count(&place.text("noise.txt"), None);
    for (name, packed) in [("a.txt", noise.clone()), ("a.gz", gzip(&noise)), ("a.zst", zstd(&noise))] {
        // The first attempt fails at its first piece, the second one in the midst.
        let store = Troubled::failing(|number| [0, 2].contains(&number)).at("memory://flaky");
        put(&*store, name, packed);
        let (found, report) = place.count(&format!("memory://flaky/{name}"), Some(64 << 20));
        assert!(found == expected, "{name}");
        assert_eq!((report.maps, report.failures), (1, 2), "{name}");
    }
}

#[test]
fn a_store_that_always_fails_fails_the_job_and_is_named() {
    let place = Place::new();
    let store = Troubled::failing(|number| number % 2 == 1).at("memory://broken");
    put(&*store, "a.txt", noise(7_000_000));
    let failure = place.run(place.job("memory://broken/a.txt", Some(64 << 20))).expect_err("it fails");
    let said = failure.to_string();
    assert!(
        said.starts_with("map-0 failed again and again, at last: cannot read memory://broken/a.txt"),
        "{said}"
    );
    assert!(said.contains("at byte 2097152: Generic test error: 503 Slow Down"), "{said}");
    assert_eq!(store.requests.load(Ordering::Relaxed), 2 * 4, "four attempts");
    assert!(!place.path("out").exists());
}

#[test]
fn an_object_that_is_gone_or_forbidden_fails_the_job_at_once() {
    let place = Place::new();
    type Make = fn() -> Error;
    let forbidden: Make = || Error::PermissionDenied { path: "a.txt".into(), source: "403 Forbidden".into() };
    let gone: Make = || Error::NotFound { path: "a.txt".into(), source: "404".into() };
    for (error, expected) in [
        (gone, "map-0 failed: cannot read memory://gone/a.txt at byte 0: there is no such object"),
        (
            forbidden,
            "the store does not allow it; look at the credentials in the environment (AWS_ACCESS_KEY_ID, ",
        ),
    ] {
        let store = Troubled::new(move |_, _| Err(error())).at("memory://gone");
        put(&*store, "a.txt", "words");
        let failure = place.run(place.job("memory://gone/a.txt", None)).expect_err("it fails");
        assert!(failure.to_string().contains(expected), "{failure}");
        assert_eq!(store.requests.load(Ordering::Relaxed), 1, "one attempt");
    }
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_fails_the_job_and_is_named() {
    let place = Place::new();
    for ignores_conditions in [false, true] {
        let mut store = Troubled::new(|number, inner| {
            if number == 1 {
                // As long as before, so that nothing but the tag tells it.
                put_in_background(inner, "a.txt", noise(7_000_000));
            }
            Ok(())
        });
        store.ignores_conditions = ignores_conditions;
        let store = store.at("memory://replaced");
        put(&*store, "a.txt", noise(7_000_000));
        let failure = place.run(place.job("memory://replaced/a.txt", Some(64 << 20))).expect_err("it fails");
        let expected = "map-0 failed: cannot read memory://replaced/a.txt at byte 2097152: the object was replaced \
                        while it was read";
        assert!(failure.to_string().starts_with(expected), "{failure}");
        assert_eq!(store.conditions.load(Ordering::Relaxed), 1, "the server is asked to look, too");
    }
}

/// From within a request, on whose thread nothing may be waited for.
fn put_in_background(store: &InMemory, key: &str, content: Vec<u8>) {
    let key = Path::parse(key).expect("a key");
    let put = store.put(&key, content.into()).now_or_never();
    put.expect("memory does not wait").expect("it is put");
}

#[test]
fn a_job_that_waits_for_a_store_can_be_cancelled() {
    let place = Place::new();
    let mut store = Troubled::failing(|_| false);
    store.hangs = true;
    put(&*store.at("memory://hangs"), "a.txt", "words");
    let begun = Instant::now();
    let cancel = AtomicBool::new(false);
    let failure = run(place.job("memory://hangs/a.txt", None), &LocalOptions::default(), &cancel, |survey| {
        if survey.map.running > 0 {
            cancel.store(true, Ordering::Relaxed);
        }
    });
    assert_eq!(failure.expect_err("it was cancelled"), JobFailure::Cancelled);
    // A task that does not end is waited for five seconds.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[test]
fn the_binary_reads_objects_and_tells_how_to_repeat_what_failed() {
    let place = Place::new();
    place.write("in.txt", "good\n".repeat(40_000) + "bad\n" + &"good\n".repeat(100_000));
    place.write("in.gz", gzip(b"good\nbad\n"));
    let mapper = "grep -n bad >&2 && exit 3 || true";
    for (name, first, bytes) in [("in.txt", "10001:bad", " --bytes 150000-300000"), ("in.gz", "2:bad", "")] {
        let url = format!("file://{}", place.text(name));
        let args = ["stream", "--mapper", mapper, "--input", &url, "--output", "out", "--attempts", "1"];
        let run = place.mr(&[&args[..], &["--split", "150000"]].concat()).output().expect("the binary runs");
        let said = String::from_utf8(run.stderr).expect("UTF-8");
        let (_, again) = said.split_once("to see it again: ").unwrap_or_else(|| panic!("{said}"));
        assert!(again.starts_with(&format!("quorate mr cat {url}{bytes} | ")), "{again}");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_quorate"));
        let path = program.parent().expect("a directory").to_str().expect("UTF-8").to_string();
        let path = path + ":" + &std::env::var("PATH").expect("there is a path");
        let output = Command::new("sh").arg("-c").arg(again.trim()).env("PATH", path).output().expect("sh");
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).trim()), (Some(3), first));
    }
    let url = format!("file://{}", place.text("in.gz"));
    let args = ["stream", "--mapper", "cat", "--reducer", "exit 5", "--input", &url, "--output", "out"];
    let run = place.mr(&[&args[..], &["--attempts", "1"]].concat()).output().expect("the binary runs");
    let said = String::from_utf8(run.stderr).expect("UTF-8");
    assert!(
        said.contains(&format!("to see it again: quorate mr cat {url} | sh -c cat | LC_ALL=C sort")),
        "{said}"
    );

    let refused = place.mr(&["run", "wc", "--input", "in.txt", "--output", "s3://bucket/out"]).output();
    let refused = refused.expect("the binary runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the output s3://bucket/out is no directory"));
}

#[test]
fn workers_of_a_cluster_read_objects_and_say_who_cannot() {
    let place = Place::new();
    let store = Arc::new(InMemory::new());
    register("memory://cluster", store.clone()).expect("a URL of a store");
    for number in 0..4 {
        let book = text(number, 20_000);
        place.write(&format!("{number}.txt"), &book);
        store
            .put(&Path::from(format!("{number}.txt")), book.into())
            .now_or_never()
            .expect("memory")
            .expect("put");
    }
    let (expected, _) = place.count(&place.text("*.txt"), None);
    alone(async {
        let cluster = Embedded::start(3).await;
        let client = cluster.client().await;
        let inputs = ["memory://cluster".to_string()];
        let job = cluster.submit(&client, cluster.job("wc", &inputs, 2)).await;
        let output = cluster.collect(&client, job).await;
        assert!(output.lines().eq(expected));

        // It is gone between the plan and the attempts.
        let mapper = "sleep 0.2; cat";
        let job = cluster.submit(&client, cluster.stream(mapper, "cat", &inputs, 1)).await;
        for number in 0..4 {
            store.delete(&Path::from(format!("{number}.txt"))).await.expect("it is there");
        }
        let JobState::Failed { why, .. } = cluster.ended(&client, job).await else { panic!("it succeeded") };
        let expected = "cannot open the input memory://cluster/";
        assert!(why.contains(expected) && why.contains(".txt: there is no such object"), "{why}");
        cluster.stop().await;
    });
}

/// A server that speaks S3, with one bucket.
struct Moto {
    server: Child,
    endpoint: String,
}

impl Moto {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let moto = Self { server, endpoint: format!("http://{address}") };
        let until = Instant::now() + PATIENCE;
        while let Err(problem) = make_bucket(&address) {
            assert!(Instant::now() < until, "moto_server does not serve: {problem}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Some(moto)
    }

    fn store(&self) -> Arc<dyn ObjectStore> {
        let builder = AmazonS3Builder::new().with_bucket_name("shelf").with_endpoint(&self.endpoint);
        let builder =
            builder.with_access_key_id("name").with_secret_access_key("secret").with_allow_http(true);
        Arc::new(builder.build().expect("a store"))
    }

    fn quorate(&self, place: &Place, args: &[&str]) -> Output {
        let mut command = place.mr(args);
        command
            .env("AWS_ENDPOINT", &self.endpoint)
            .env("AWS_ALLOW_HTTP", "true")
            .env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "name").env("AWS_SECRET_ACCESS_KEY", "much-secrecy");
        command.output().expect("the binary runs")
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn make_bucket(address: &str) -> Result<(), String> {
    let asked = TcpStream::connect(address).and_then(|mut stream| {
        write!(
            stream,
            "PUT /shelf HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    match asked {
        Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
        Ok(answer) => Err(answer),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_binary_counts_the_words_of_a_bucket() {
    let Some(moto) = Moto::start() else {
        println!("skipped: there is no program moto_server");
        return;
    };
    let place = Place::new();
    let store = moto.store();
    let noise = noise(3_000_000);
    for (name, content) in [("a.txt", text(1, 1_500_000)), ("b c.txt", text(2, 300_000)), ("d.txt", noise)] {
        place.write(&format!("books/{name}"), &content);
        put(&*store, &format!("books/{name}"), content);
    }
    put(&*store, "books/e.txt.gz", gzip(&text(3, 500_000)));
    put(&*store, "books/_SUCCESS", "");
    let (expected, _) = place.count(&place.text("books/*.txt"), None);
    let run = |input: &str, split: &str| {
        let args = ["run", "wc", "--input", input, "--output", "out", "--json", "--split", split];
        moto.quorate(&place, &args)
    };
    for split in ["64M", "200K"] {
        let done = run("s3://shelf/books/*.txt", split);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stdout));
        assert!(place.output() == expected, "in splits of {split}");
    }
    let cat = moto.quorate(&place, &["cat", "s3://shelf/books/e.txt.gz"]);
    assert_eq!((cat.status.code(), cat.stdout), (Some(0), text(3, 500_000)));
    let done = run("s3://shelf/books", "64M");
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stdout));
    assert!(place.output().len() > expected.len() / 2);

    for (input, expected) in [
        ("s3://shelf/nothing", "there is no object s3://shelf/nothing, nor one"),
        ("s3://no-such-bucket/x", "no-such-bucket"),
    ] {
        let refused = run(input, "64M");
        let said = String::from_utf8(refused.stdout).expect("UTF-8");
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(expected) && !said.contains("secrecy"), "{said}");
    }
}
