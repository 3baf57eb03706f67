//! A job, for people and for machines.

use serde_json::{Value, json};

use crate::cli::text::{age_text, size_text};
use crate::logic::mapreduce::coordinator::{JobState, PhaseSurvey};
use crate::logic::mapreduce::counters::Counters;
use crate::logic::mapreduce::record::Record;
use crate::messages::mapreduce::JobLine;
use crate::node::collect::no_output;

/// One word for how a job is.
pub(super) fn state_word(state: &JobState) -> &'static str {
    match state {
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Collected => "collected",
        JobState::Failed { .. } => "failed",
        JobState::Cancelled => "cancelled",
    }
}

/// A job in one line.
pub(super) fn line(job: &JobLine, now_ms: u64) -> String {
    let survey = &job.survey;
    format!(
        "{:>5}  {:<9}  map {:>5}  reduce {:>5}  {:>9} ago  {}",
        job.job.0,
        state_word(&survey.state),
        percent(survey.map.permille),
        percent(survey.reduce.permille),
        age_text(now_ms.saturating_sub(job.submitted_ms)),
        job.name,
    )
}

/// A job in full.
pub(super) fn full(job: &JobLine, now_ms: u64) -> String {
    let survey = &job.survey;
    let mut text = format!(
        "job {} ({}): {}\n  submitted   {} ago\n  input       {}\n  output      {}\n",
        job.job.0,
        job.name,
        state_word(&survey.state),
        age_text(now_ms.saturating_sub(job.submitted_ms)),
        size_text(survey.input_bytes),
        job.output,
    );
    text += &format!("  map         {}\n  reduce      {}", phase(&survey.map), phase(&survey.reduce));
    for slow in &survey.stragglers {
        let seconds = slow.running_ms / 1000;
        text += &format!("\n  slow        {} at {} for {seconds} s", slow.attempt, slow.worker);
    }
    match &survey.state {
        JobState::Failed { attempt, why } => text += &format!("\n{attempt} failed: {why}"),
        JobState::Cancelled => text.extend(no_output(job.job, survey).map(|why| format!("\n{why}"))),
        JobState::Running | JobState::Succeeded | JobState::Collected => {}
    }
    for place in &job.skipped {
        text += &format!("\n  skipped     {place}");
    }
    for (group, name, number) in survey.counters.iter() {
        text += &format!("\n  {group}: {name} = {number}");
    }
    text
}

fn phase(phase: &PhaseSurvey) -> String {
    let PhaseSurvey { tasks, done, running, failures, losses, permille, .. } = phase;
    let mut text = format!("{} ({done} of {tasks} tasks, {running} running", percent(*permille));
    if *failures > 0 {
        text += &format!(", {failures} failed and repeated");
    }
    if *losses > 0 {
        text += &format!(", {losses} lost and repeated");
    }
    text + ")"
}

fn percent(permille: u16) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// A job as JSON.
pub(super) fn value(job: &JobLine) -> Value {
    let survey = &job.survey;
    let phase = |phase: &PhaseSurvey| {
        json!({
            "tasks": phase.tasks, "done": phase.done, "running": phase.running, "attempts": phase.attempts,
            "failures": phase.failures, "losses": phase.losses, "permille": phase.permille,
        })
    };
    let mut value = json!({
        "job": job.job.0, "name": job.name, "state": state_word(&survey.state), "output": job.output,
        "submitted_ms": job.submitted_ms, "input_bytes": survey.input_bytes,
        "map": phase(&survey.map), "reduce": phase(&survey.reduce), "counters": counters(&survey.counters),
        "skipped": job.skipped,
    });
    if let JobState::Failed { attempt, why } = &survey.state {
        value["failed"] = json!({"attempt": attempt.to_string(), "why": why});
    }
    value
}

fn counters(counters: &Counters) -> Value {
    let mut groups = serde_json::Map::new();
    for (group, name, number) in counters.iter() {
        let names = groups.entry(group).or_insert_with(|| json!({}));
        names[name] = json!(number);
    }
    Value::Object(groups)
}

/// What happened, in a line.
pub(super) fn record(record: &Record) -> (&'static str, String) {
    match record {
        Record::Started { by, .. } => ("started", format!("at {}", by.worker)),
        Record::Done { result, .. } => ("done", size_text(result.bytes)),
        Record::Failed { failure, .. } => ("failed", failure.message.clone()),
        Record::Lost { why, .. } => ("lost", why.clone()),
        Record::Reopened { why, .. } => ("reopened", why.clone()),
        Record::Cancelled => ("cancelled", String::new()),
        Record::Collected => ("collected", String::new()),
    }
}
