//! Running a job on this machine: Ctrl-C, progress, report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cli::output::Output;
use crate::cli::progress::Progress;
use crate::cli::text::size_text;
use crate::logic::mapreduce::coordinator::JobSurvey;
use crate::logic::mapreduce::counters::{OUTPUT_BYTES, OUTPUT_RECORDS, TASK};
use crate::logic::mapreduce::job::Job;
use crate::mapreduce::local::{JobFailure, JobReport, LocalOptions, run};
use crate::mapreduce::task::{allow_more_open_files, give_back_memory};
use crate::node::exit::{self, Failure};

/// Of the work of a job, in thousandths: what the map tasks do, until something better is known.
const MAP_SHARE: u64 = 600;

/// Runs a job and says what came of it.
pub(super) fn run_here(job: Job, options: &LocalOptions, as_json: bool) -> Result<u8, Failure> {
    let cancel = cancelled_by_signals()?;
    allow_more_open_files();
    give_back_memory();
    let progress = Progress::bar("mapreduce", 1000);
    let begun = Instant::now();
    let report = run(job, options, &cancel, |survey| {
        let (done, text) = picture(survey, begun.elapsed());
        progress.set(done, text);
    });
    drop(progress);
    let report = report.map_err(failure)?;
    let mut out = Output::new(as_json);
    if as_json {
        out.value(&report_json(&report))?;
    } else {
        out.raw(report_text(&report).as_bytes())?;
    }
    out.flush()?;
    Ok(exit::OK)
}

fn failure(failure: JobFailure) -> Failure {
    let code = match failure {
        JobFailure::Refused(_) | JobFailure::Failed { .. } => exit::REFUSED,
        JobFailure::Machine(_) => exit::UNAVAILABLE,
        JobFailure::Cancelled => exit::INTERRUPTED,
    };
    Failure::new(code, failure.to_string())
}

/// Becomes true with Ctrl-C, or when the process is told to end. The second time it ends at once.
fn cancelled_by_signals() -> Result<Arc<AtomicBool>, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let broken = |error| Failure::internal(format!("cannot listen to signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
    drop(guard);
    let cancel = Arc::new(AtomicBool::new(false));
    let flag = cancel.clone();
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(exit::INTERRUPTED));
                }
            }
        });
    });
    Ok(cancel)
}

/// How much is done, in thousandths, and a word about it.
pub(super) fn picture(survey: &JobSurvey, elapsed: Duration) -> (u64, String) {
    let (map, reduce) = (u64::from(survey.map.permille), u64::from(survey.reduce.permille));
    let map_share = if survey.reduce.tasks == 0 { 1000 } else { MAP_SHARE };
    let done = (map * map_share + reduce * (1000 - map_share)) / 1000;
    let seconds = elapsed.as_secs_f64();
    let read = survey.input_bytes as f64 * map as f64 / 1000.0;
    let mut text = format!("map {}%", map / 10);
    if survey.reduce.tasks > 0 {
        text += &format!("  reduce {}%", reduce / 10);
    }
    if seconds > 0.5 && map < 1000 {
        text += &format!("  {}/s", size_text((read / seconds) as u64));
    }
    if seconds > 2.0 && done > 50 {
        let left = seconds * (1000 - done) as f64 / done as f64;
        text += &format!("  about {left:.0} s left");
    }
    let failures = survey.map.failures + survey.reduce.failures;
    if failures > 0 {
        text += &format!("  {failures} failed and tried again");
    }
    (done, text)
}

fn report_text(report: &JobReport) -> String {
    let count = |name| report.counters.get(TASK, name);
    let seconds = report.elapsed.as_secs_f64();
    let files = if report.reducers == 0 { report.maps } else { report.reducers };
    let rate = report.input_bytes as f64 / seconds.max(0.001);
    let mut text = format!(
        "{}: {} lines, {}, in {}\n{} read in {seconds:.2} s ({}/s), {} map and {} reduce tasks, {} failed attempts\n",
        report.output.display(),
        count(OUTPUT_RECORDS),
        size_text(count(OUTPUT_BYTES)),
        if files == 1 { "1 file".to_string() } else { format!("{files} files") },
        size_text(report.input_bytes),
        size_text(rate as u64),
        report.maps,
        report.reducers,
        report.failures,
    );
    for place in &report.skipped {
        text += &format!("  skipped: {place}\n");
    }
    for (group, name, amount) in report.counters.iter() {
        text += &format!("  {group}: {name} = {amount}\n");
    }
    text
}

fn report_json(report: &JobReport) -> Value {
    let mut counters: Map<String, Value> = Map::new();
    for (group, name, amount) in report.counters.iter() {
        counters.entry(group).or_insert_with(|| json!({}))[name] = json!(amount);
    }
    json!({
        "output": report.output.display().to_string(),
        "elapsed_ms": u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
        "input_bytes": report.input_bytes,
        "map_tasks": report.maps,
        "reduce_tasks": report.reducers,
        "failed_attempts": report.failures,
        "skipped": report.skipped,
        "counters": counters,
    })
}
