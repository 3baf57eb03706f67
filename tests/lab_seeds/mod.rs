//! Plays a scenario of the labs on the seeds that the environment asks for.

use std::time::{Duration, Instant};

/// Plays it on one seed after the other (`QUORATE_LAB_SEED`, else the first `QUORATE_LAB_SEEDS`, else the first
/// `unless_said`), and prints a line. `play` returns the virtual time that a seed took.
pub fn play_on_all(name: &str, unless_said: u64, play: impl FnMut(u64) -> Duration) {
    let seeds = match number("QUORATE_LAB_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUORATE_LAB_SEEDS").unwrap_or(unless_said),
    };
    let began = Instant::now();
    let runs = seeds.end - seeds.start;
    let virtual_time: Duration = seeds.map(play).sum();
    println!(
        "{name:66} {runs:5} runs {:9.4} virtual hours {:8.2} s",
        virtual_time.as_secs_f64() / 3600.0,
        began.elapsed().as_secs_f64()
    );
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}
