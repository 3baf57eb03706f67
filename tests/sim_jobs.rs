//! Jobs in the simulation: whatever happens to nodes and workers, the output is that of a sequential program, and what is
//! finished is done again only after it was lost.
//!
//! `QUORATE_SIM_JOBS` says how many seeds are played (10 by default), `QUORATE_SIM_SEED` plays one.

use std::ops::Range;
use std::time::Duration;

use quorate::sim::jobs::{JobOutcome, JobPlan, run};

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text:?} is not a number")))
}

fn seeds(short: u64) -> Range<u64> {
    match number("QUORATE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUORATE_SIM_JOBS").unwrap_or(short),
    }
}

/// Plays a job and says how to play it again, if it breaks a rule.
fn must_hold(plan: &JobPlan, test: &str) -> JobOutcome {
    let outcome = run(plan);
    let broken: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    let again = format!("QUORATE_SIM_SEED={} cargo test --test sim_jobs {test}", plan.seed);
    assert!(broken.is_empty(), "{}\n{plan:?}\nREPRODUCE WITH: {again}", broken.join("\n"));
    outcome
}

#[test]
fn jobs_survive_whatever_happens() {
    let (mut vain, mut reopened, mut offices) = (0, 0, 0);
    for seed in seeds(10) {
        let outcome = must_hold(&JobPlan::new(seed), "jobs_survive");
        vain += outcome.vain;
        reopened += outcome.reopened;
        offices += outcome.offices;
    }
    println!("{vain} attempts in vain, {reopened} outputs lost, {offices} times in office");
    // Runs in which nothing happens show nothing.
    let (one, many) = (number("QUORATE_SIM_SEED").is_some(), seeds(10).end);
    assert!(one || (vain > many && reopened > 0 && offices > many), "{vain}, {reopened}, {offices}");
}

/// The machine of the leader, where the coordinator is, loses its power at every moment of a job. Workers are elsewhere:
/// no task is repeated, and the job takes less than three seconds of virtual time longer.
#[test]
fn a_coordinator_may_be_lost_at_every_moment() {
    let moments = 40;
    for seed in seeds(1) {
        let usual = must_hold(&JobPlan::quiet(seed), "at_every_moment");
        let mut successors = 0;
        for moment in 0..moments {
            let after = usual.job_time * moment / moments;
            let plan = JobPlan { assassinations: vec![after], ..JobPlan::quiet(seed) };
            let outcome = must_hold(&plan, "at_every_moment");
            let tasks = u64::from(plan.maps + plan.reduces);
            let repeated = outcome.attempts - outcome.vain - tasks;
            assert_eq!((repeated, outcome.reopened), (0, 0), "killed after {after:?}: {outcome:?}");
            // Less than three seconds; and after the loss tasks draw other durations, of which the longest is 1.2 s.
            let limit = usual.job_time + Duration::from_millis(3000 + 1200);
            assert!(outcome.job_time < limit, "killed after {after:?}: {outcome:?}, and {usual:?}");
            successors += u64::from(outcome.offices >= 2);
        }
        assert!(successors > u64::from(moments) / 2, "most fell into the job: {successors} of {moments}");
    }
}

#[test]
fn the_same_seed_is_the_same_job() {
    let once = |seed| {
        let outcome = must_hold(&JobPlan::new(seed), "same_seed");
        (outcome.hash, outcome.job_time, outcome.attempts)
    };
    for seed in 1000..1003 {
        assert_eq!(once(seed), once(seed), "seed {seed}");
    }
}
