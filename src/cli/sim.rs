//! sim: whole clusters in virtual time, from seeds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use serde_json::{Value, json};

use super::output::Output;
use super::progress::Progress;
use super::text::parse_duration;
use crate::node::exit::{self, Failure};
use crate::sim::{Faults, Outcome, Plan, run, timeline};

/// Failing seeds that are told of one by one; the others are counted.
const TOLD: usize = 20;

/// Play clusters in virtual time, let everything go wrong that can, and check that no rule is broken.
///
/// A run plays the nodes and clients of this very program on one thread, with a network and disks that fail, all from
/// one seed: the same seed is the same run. Exit code 1: some rule was broken; the seed tells which run it was.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate sim                                     one run
  quorate sim --seed 7 --timeline | less          what happened in it
  quorate sim --seed 7 --html run.html            the same as a page
  quorate sim --seeds 0..1000 --threads 2         a thousand runs
  quorate sim --seeds 0..100 --twice              each twice: is it the same run?
  quorate sim --seed 7 --nodes 5 --faults all --duration 10m
  quorate sim --seeds 0..200 --nodes 3 --faults power,torn,partition

Faults: all (each seed draws some kinds), none, or names: crash, power, torn, panic, hang, freeze, partition, one-way,
slow-link, loss, duplicate, reorder, reset, slow-disk, full-disk, disk-error, bit-flip, clock-leap, clock-rate,
transfer.")]
pub(super) struct Args {
    /// The seed of one run
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "seeds")]
    seed: u64,
    /// Many runs: from the first seed up to, not including, the last
    #[arg(long, value_name = "A..B", value_parser = parse_seeds)]
    seeds: Option<Range<u64>>,
    /// Nodes of the cluster
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=15))]
    nodes: u64,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100))]
    clients: u32,
    /// What may go wrong: all, none, or names with commas between them
    #[arg(long, value_name = "KINDS", default_value = "all")]
    faults: Faults,
    /// How long things go wrong, in virtual time
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = parse_duration)]
    duration: Duration,
    /// Threads; each plays one run at a time [default: as many as there are processors]
    #[arg(long, value_name = "N", value_parser = threads())]
    threads: Option<u64>,
    /// Play every seed twice and compare: it must be the same run
    #[arg(long)]
    twice: bool,
    /// Print everything that happened in the run
    #[arg(long, conflicts_with = "seeds")]
    timeline: bool,
    /// Write everything that happened, in the run or in the first that fails, as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub(super) json: bool,
}

fn threads() -> RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=256)
}

fn parse_seeds(text: &str) -> Result<Range<u64>, String> {
    let parts = text.split_once("..").and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parts.filter(|seeds: &Range<u64>| !seeds.is_empty()).ok_or_else(|| {
        format!("{text:?} is no range of seeds; write the first and one after the last: 0..1000")
    })
}

/// What came of all runs.
#[derive(Default)]
struct Sum {
    runs: u64,
    time: Duration,
    steps: u64,
    calls: u64,
    acknowledged: u64,
    faults: u64,
    kinds: BTreeMap<&'static str, u64>,
    /// By seed: why.
    failed: BTreeMap<u64, String>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome, failure: Option<String>) {
        self.runs += 1;
        self.time += outcome.time;
        self.steps += outcome.steps;
        self.calls += outcome.calls;
        self.acknowledged += outcome.acknowledged;
        self.faults += outcome.faults;
        for kind in &outcome.kinds {
            *self.kinds.entry(kind.name()).or_default() += 1;
        }
        if let Some(failure) = failure {
            self.failed.insert(outcome.seed, failure);
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let mut out = Output::new(self.json);
        let code = match &self.seeds {
            None => self.one(&mut out)?,
            Some(seeds) => self.many(seeds.clone(), &mut out)?,
        };
        out.flush()?;
        Ok(code)
    }

    fn plan(&self, seed: u64, timeline: bool) -> Plan {
        let (nodes, clients, duration) = (self.nodes, self.clients, self.duration);
        Plan { seed, nodes, faults: self.faults.clone(), duration, clients, timeline }
    }

    fn one(&self, out: &mut Output) -> Result<u8, Failure> {
        let plan = self.plan(self.seed, self.timeline || self.html.is_some());
        let began = Instant::now();
        let outcome = run(&plan);
        let took = began.elapsed();
        let failure = self.failure(&plan, &outcome);
        if let Some(file) = &self.html {
            write_page(file, &plan, &outcome)?;
        }
        let mut sum = Sum::default();
        sum.add(&outcome, failure.clone());
        if out.json {
            out.value(&self.json_of(&sum, took, Some(outcome.hash)))?;
        } else if self.timeline {
            out.raw(timeline::text(&plan, &outcome).as_bytes())?;
        } else {
            out.line(timeline::verdict(&outcome))?;
            out.line(speed(&sum, took))?;
        }
        if !out.json
            && let Some(failure) = failure
        {
            out.line(format_args!("{failure}\nREPRODUCE WITH: {} --timeline", plan.command()))?;
        }
        Ok(if sum.failed.is_empty() { exit::OK } else { exit::REFUSED })
    }

    /// Why the run is not good.
    fn failure(&self, plan: &Plan, outcome: &Outcome) -> Option<String> {
        if let Some(first) = outcome.violations.first() {
            return Some(first.to_string());
        }
        if !self.twice {
            return None;
        }
        let again = run(&Plan { timeline: false, ..plan.clone() });
        let same = (again.hash, again.steps, again.time) == (outcome.hash, outcome.steps, outcome.time);
        (!same)
            .then(|| format!("the same seed was another run: {:016x} and {:016x}", outcome.hash, again.hash))
    }

    fn many(&self, seeds: Range<u64>, out: &mut Output) -> Result<u8, Failure> {
        let began = Instant::now();
        let sum = self.play(seeds.clone());
        let took = began.elapsed();
        if let (Some(file), Some(seed)) = (&self.html, sum.failed.keys().next()) {
            let plan = self.plan(*seed, true);
            write_page(file, &plan, &run(&plan))?;
        }
        if out.json {
            out.value(&self.json_of(&sum, took, None))?;
        } else {
            self.tell(&sum, took, out)?;
        }
        Ok(if sum.failed.is_empty() { exit::OK } else { exit::REFUSED })
    }

    /// Plays all seeds, one a thread at a time.
    fn play(&self, seeds: Range<u64>) -> Sum {
        let next = AtomicU64::new(seeds.start);
        let sum = Mutex::new(Sum::default());
        let progress = Progress::bar("seeds", seeds.end - seeds.start);
        let available = thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let threads = self.threads.unwrap_or(available).min(seeds.end - seeds.start);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end {
                            return;
                        }
                        let plan = self.plan(seed, false);
                        let outcome = run(&plan);
                        let failure = self.failure(&plan, &outcome);
                        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                        if failure.is_some() && sum.failed.len() < TOLD && !self.json {
                            // Whoever waits for an hour may look into it meanwhile.
                            progress.tell(&format!("seed {seed} failed: {} --timeline", plan.command()));
                        }
                        sum.add(&outcome, failure);
                        let word = format!("{} runs, {} failed", sum.runs, sum.failed.len());
                        progress.set(sum.runs, word);
                    }
                });
            }
        });
        sum.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, sum: &Sum, took: Duration, out: &mut Output) -> Result<(), Failure> {
        let drawn: Vec<String> = sum.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        out.line(format_args!("{} runs, {} failed", sum.runs, sum.failed.len()))?;
        out.line(format_args!(
            "{} faults, {} of {} calls ended well, {} steps checked",
            sum.faults, sum.acknowledged, sum.calls, sum.steps
        ))?;
        out.line(format_args!("runs that drew a kind of fault: {}", drawn.join(", ")))?;
        out.line(speed(sum, took))?;
        for (seed, why) in sum.failed.iter().take(TOLD) {
            let command = self.plan(*seed, false).command();
            out.line(format_args!("seed {seed}: {why}\n  REPRODUCE WITH: {command} --timeline"))?;
        }
        if sum.failed.len() > TOLD {
            out.line(format_args!("... and {} more", sum.failed.len() - TOLD))?;
        }
        Ok(())
    }

    fn json_of(&self, sum: &Sum, took: Duration, hash: Option<u64>) -> Value {
        let failed: Vec<Value> = sum
            .failed
            .iter()
            .map(
                |(seed, why)| json!({"seed": seed, "why": why, "command": self.plan(*seed, false).command()}),
            )
            .collect();
        json!({
            "runs": sum.runs,
            "failed": failed,
            "faults": sum.faults,
            "calls": sum.calls,
            "acknowledged": sum.acknowledged,
            "steps": sum.steps,
            "virtual_s": sum.time.as_secs_f64(),
            "wall_s": took.as_secs_f64(),
            "kinds": sum.kinds,
            "hash": hash.map(|hash| format!("{hash:016x}")),
        })
    }
}

fn speed(sum: &Sum, took: Duration) -> String {
    let (played, wall) = (sum.time.as_secs_f64(), took.as_secs_f64());
    format!("{played:.0} s of virtual time in {wall:.1} s: {:.0} to 1", played / wall.max(1e-9))
}

fn write_page(file: &PathBuf, plan: &Plan, outcome: &Outcome) -> Result<(), Failure> {
    std::fs::write(file, timeline::page(plan, outcome))
        .map_err(|error| Failure::new(exit::UNAVAILABLE, format!("cannot write {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_a_range_that_is_not_empty() {
        assert_eq!(parse_seeds("0..1000"), Ok(0..1000));
        for bad in ["", "5", "5..5", "9..3", "a..b", "0...3", "-1..3"] {
            assert!(parse_seeds(bad).is_err(), "{bad}");
        }
    }
}
