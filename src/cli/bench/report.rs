//! What came of a measurement.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::load::{Load, Measured};
use crate::node::exit::{self, Failure};

/// A measurement, of all threads.
pub(super) struct Report {
    clients: u64,
    conns: u64,
    threads: u64,
    keys: usize,
    value_bytes: usize,
    seconds: f64,
    measured: Measured,
}

impl Report {
    pub(super) fn new(load: &Load) -> Self {
        Self {
            clients: load.clients,
            conns: load.conns,
            threads: load.threads,
            keys: load.keys.len(),
            value_bytes: load.value.len(),
            seconds: load.measured.as_secs_f64(),
            measured: Measured::new(),
        }
    }

    /// Adds what a thread measured.
    pub(super) fn add(&mut self, other: &Measured) {
        let same = "histograms of the same bounds";
        self.measured.reads.add(&other.reads).expect(same);
        self.measured.writes.add(&other.writes).expect(same);
        self.measured.errors += other.errors;
        if self.measured.first_error.is_none() {
            self.measured.first_error.clone_from(&other.first_error);
        }
    }

    fn kinds(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let kinds = [("put", &self.measured.writes), ("get", &self.measured.reads)];
        kinds.into_iter().filter(|(_, histogram)| !histogram.is_empty())
    }

    fn operations(&self) -> u64 {
        self.measured.reads.len() + self.measured.writes.len()
    }

    fn rate(&self, operations: u64) -> f64 {
        operations as f64 / self.seconds
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} clients, {} connections, {} threads; values of {} bytes, {} keys; {} s\n",
            self.clients, self.conns, self.threads, self.value_bytes, self.keys, self.seconds
        );
        for (kind, histogram) in self.kinds() {
            let rate = self.rate(histogram.len());
            let _ = write!(text, "{kind}  {rate:>9.0} /s  latency in ms:");
            for (name, micros) in points(histogram) {
                let _ = write!(text, "  {name} {:.2}", micros as f64 / 1000.0);
            }
            text.push('\n');
        }
        let _ = write!(
            text,
            "all  {:>9.0} /s  {} operations, {} errors",
            self.rate(self.operations()),
            self.operations(),
            self.measured.errors
        );
        text
    }

    /// For machines; latencies in microseconds.
    pub(super) fn json(&self) -> Value {
        let mut report = json!({
            "clients": self.clients, "connections": self.conns, "threads": self.threads, "keys": self.keys,
            "value_bytes": self.value_bytes, "seconds": self.seconds,
            "operations": self.operations(), "operations_per_s": self.rate(self.operations()),
            "errors": self.measured.errors, "first_error": self.measured.first_error,
        });
        for (kind, histogram) in self.kinds() {
            let latency: serde_json::Map<String, Value> =
                points(histogram).into_iter().map(|(name, micros)| (name.into(), micros.into())).collect();
            report[kind] = json!({
                "operations": histogram.len(), "operations_per_s": self.rate(histogram.len()), "latency_us": latency,
            });
        }
        report
    }

    /// The exit code: a measurement with failures, or of nothing, is a failure.
    pub(super) fn verdict(&self) -> Result<u8, Failure> {
        let Some(first) = &self.measured.first_error else { return self.measured_something() };
        let (errors, all) = (self.measured.errors, self.measured.errors + self.operations());
        let code = if self.operations() == 0 { exit::UNAVAILABLE } else { exit::REFUSED };
        Err(Failure::new(code, format!("{errors} of {all} operations failed; the first: {first}")))
    }

    fn measured_something(&self) -> Result<u8, Failure> {
        if self.operations() > 0 {
            return Ok(exit::OK);
        }
        let text = format!("no operation was answered within {} s; try a larger --seconds", self.seconds);
        Err(Failure::new(exit::UNAVAILABLE, text))
    }
}

/// The points of a distribution that are reported, in microseconds.
fn points(histogram: &Histogram<u64>) -> [(&'static str, u64); 5] {
    [
        ("p50", histogram.value_at_quantile(0.5)),
        ("p90", histogram.value_at_quantile(0.9)),
        ("p99", histogram.value_at_quantile(0.99)),
        ("p99.9", histogram.value_at_quantile(0.999)),
        ("max", histogram.max()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(errors: u64, latencies: &[u64]) -> Report {
        let mut measured = Measured::new();
        latencies.iter().for_each(|&micros| measured.writes.saturating_record(micros));
        measured.errors = errors;
        measured.first_error = (errors > 0).then(|| "no leader".into());
        let (clients, conns, threads, keys, value_bytes, seconds) = (2, 2, 1, 10, 256, 2.0);
        Report { clients, conns, threads, keys, value_bytes, seconds, measured }
    }

    #[test]
    fn rates_are_per_second_and_latencies_in_microseconds() {
        let report = report(0, &[1000, 2000, 3000, 4000]);
        let json = report.json();
        assert_eq!(json["operations_per_s"], 2.0);
        assert_eq!(json["put"]["latency_us"]["p50"], 2000);
        assert!(json.get("get").is_none());
        assert!(report.text().contains("put          2 /s  latency in ms:  p50 2.00"), "{}", report.text());
        assert_eq!(report.verdict(), Ok(exit::OK));
    }

    #[test]
    fn failures_fail_the_measurement() {
        assert_eq!(report(1, &[1000]).verdict().expect_err("one failed").code, exit::REFUSED);
        assert_eq!(report(1, &[]).verdict().expect_err("all failed").code, exit::UNAVAILABLE);
        assert_eq!(report(0, &[]).verdict().expect_err("nothing was measured").code, exit::UNAVAILABLE);
    }
}
