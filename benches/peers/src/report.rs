//! From the measurements of all rounds to one report.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::table::Table;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns
    Text,
    /// Tables for documents
    Markdown,
    /// For programs
    Json,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
enum System {
    Quorate,
    Etcd,
    Redis,
}

const SYSTEMS: [System; 3] = [System::Quorate, System::Etcd, System::Redis];

impl System {
    fn name(self) -> &'static str {
        match self {
            System::Quorate => "quorate",
            System::Etcd => "etcd",
            System::Redis => "redis",
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Put,
    Get,
}

/// One case of one round.
#[derive(Debug, Deserialize)]
struct Measurement {
    system: System,
    op: Op,
    /// Seconds of load that were not counted.
    warmup_s: f64,
    /// Processor time of the program that made the load.
    generator_cpu_s: f64,
    /// What that program printed.
    result: Outcome,
}

#[derive(Debug, Deserialize)]
struct Outcome {
    clients: u64,
    connections: u64,
    seconds: f64,
    operations_per_s: f64,
    errors: u64,
    put: Option<Kind>,
    get: Option<Kind>,
}

#[derive(Debug, Deserialize)]
struct Kind {
    latency_us: BTreeMap<String, u64>,
}

/// A row of the report; ordered as its rows are. A client of Redis has its own connection whatever the others do, so
/// its figure stands in every row with as many clients.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Case {
    op: Op,
    clients: u64,
    connections: u64,
}

/// The rounds of one case of one system.
#[derive(Debug, Default)]
struct Rounds {
    rates: Vec<f64>,
    p50_us: Vec<f64>,
    p99_us: Vec<f64>,
    generator_cores: Vec<f64>,
    errors: u64,
}

#[derive(Default)]
struct Report {
    facts: Vec<(String, String)>,
    rounds: BTreeMap<(System, Case), Rounds>,
}

/// The report of the measurements in one file, on the machine described in the other.
pub fn render(facts: &Path, measurements: &Path, format: Format) -> anyhow::Result<String> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let report = Report::parse(&read(facts)?, &read(measurements)?)?;
    Ok(match format {
        Format::Json => format!("{:#}\n", report.json()),
        Format::Text => report.people(Table::text, ""),
        Format::Markdown => report.people(Table::markdown, "- "),
    })
}

impl Report {
    fn parse(facts: &str, measurements: &str) -> anyhow::Result<Self> {
        let mut report = Self::default();
        let pairs = facts.lines().filter_map(|line| line.split_once(':'));
        report.facts = pairs.map(|(key, value)| (key.trim().into(), value.trim().into())).collect();
        for (number, line) in measurements.lines().enumerate() {
            let measurement: Measurement =
                serde_json::from_str(line).with_context(|| format!("measurement {}", number + 1))?;
            report.add(&measurement)?;
        }
        Ok(report)
    }

    fn add(&mut self, measurement: &Measurement) -> anyhow::Result<()> {
        let Measurement { system, op, result, .. } = measurement;
        let case = Case { op: *op, clients: result.clients, connections: result.connections };
        let rounds = self.rounds.entry((*system, case)).or_default();
        rounds.errors += result.errors;
        rounds.rates.push(result.operations_per_s);
        rounds.generator_cores.push(measurement.generator_cpu_s / (measurement.warmup_s + result.seconds));
        let kind = if *op == Op::Put { &result.put } else { &result.get };
        // None when every operation failed.
        if let Some(kind) = kind {
            let point = |name: &str| {
                kind.latency_us.get(name).map(|&us| us as f64).with_context(|| format!("no {name}"))
            };
            rounds.p50_us.push(point("p50")?);
            rounds.p99_us.push(point("p99")?);
        }
        Ok(())
    }

    /// The rows: those of the systems whose connections vary, and those of Redis where it stands alone.
    fn cases(&self) -> BTreeSet<Case> {
        let of = |wanted: fn(System) -> bool| {
            self.rounds.keys().filter(move |(system, _)| wanted(*system)).map(|&(_, case)| case)
        };
        let mut cases: BTreeSet<Case> = of(|system| system != System::Redis).collect();
        for alone in of(|system| system == System::Redis) {
            if !cases.iter().any(|case| (case.op, case.clients) == (alone.op, alone.clients)) {
                cases.insert(alone);
            }
        }
        cases
    }

    fn find(&self, system: System, case: Case) -> Option<&Rounds> {
        let connections = if system == System::Redis { case.clients } else { case.connections };
        self.rounds.get(&(system, Case { connections, ..case }))
    }

    /// How many times as fast Quorate is: the ratio of the medians.
    fn ratio(&self, to: System, case: Case) -> Option<f64> {
        let rate = |system| Some(median(&self.find(system, case)?.rates)).filter(|&rate| rate > 0.0);
        Some(rate(System::Quorate)? / rate(to)?)
    }

    fn people(&self, table: impl Fn(&Table) -> String, bullet: &str) -> String {
        let mut text: String =
            self.facts.iter().map(|(key, value)| format!("{bullet}{key}: {value}\n")).collect();
        text += "\nOperations per second: the median of the rounds (least–most). Ratios are of medians; \
                 Redis has a connection a client in every row.\n\n";
        text += &table(&self.rates());
        text += "\nLatency in ms, and processors used by the program that makes the load; medians of the rounds.\n\n";
        text += &table(&self.latencies());
        for (&(system, case), rounds) in self.rounds.iter().filter(|(_, rounds)| rounds.errors > 0) {
            text += &format!(
                "\nErrors: {} in {} {:?} with {} clients over {} connections\n",
                rounds.errors,
                system.name(),
                case.op,
                case.clients,
                case.connections
            );
        }
        text
    }

    fn rates(&self) -> Table {
        let mut table = Table::new(&[
            "op",
            "clients",
            "conns",
            "quorate /s",
            "etcd /s",
            "redis /s",
            "quorate : etcd",
            "quorate : redis",
        ]);
        for case in self.cases() {
            let mut cells = head(case);
            cells.extend(SYSTEMS.map(|system| self.find(system, case).map_or("-".into(), Rounds::rate)));
            let ratio = |to| self.ratio(to, case).map_or("-".into(), |ratio| format!("{ratio:.2}"));
            cells.extend([System::Etcd, System::Redis].map(ratio));
            table.row(cells);
        }
        table
    }

    fn latencies(&self) -> Table {
        let mut table =
            Table::new(&["op", "clients", "conns", "system", "p50", "p99", "load's processors", "rounds"]);
        for (&(system, case), rounds) in &self.rounds {
            let ms =
                |us: &[f64]| if us.is_empty() { "-".into() } else { format!("{:.2}", median(us) / 1000.0) };
            let mut cells = head(case);
            cells.extend([system.name().into(), ms(&rounds.p50_us), ms(&rounds.p99_us)]);
            cells.push(format!("{:.2}", median(&rounds.generator_cores)));
            cells.push(rounds.rates.len().to_string());
            table.row(cells);
        }
        table
    }

    fn json(&self) -> Value {
        let facts: serde_json::Map<String, Value> =
            self.facts.iter().map(|(key, value)| (key.clone(), value.clone().into())).collect();
        let cases: Vec<Value> = self.cases().into_iter().map(|case| self.case_json(case)).collect();
        json!({ "facts": facts, "cases": cases })
    }

    fn case_json(&self, case: Case) -> Value {
        let mut json = json!({ "op": case.op, "clients": case.clients, "connections": case.connections });
        for (system, rounds) in SYSTEMS.map(|system| (system, self.find(system, case))) {
            json[system.name()] = rounds.map_or(Value::Null, Rounds::json);
        }
        json["quorate_to_etcd"] = self.ratio(System::Etcd, case).into();
        json["quorate_to_redis"] = self.ratio(System::Redis, case).into();
        json
    }
}

fn head(case: Case) -> Vec<String> {
    let op = if case.op == Op::Put { "put" } else { "get" };
    vec![op.into(), case.clients.to_string(), case.connections.to_string()]
}

impl Rounds {
    fn rate(&self) -> String {
        let (least, most) = extremes(&self.rates);
        format!("{:.0} ({least:.0}–{most:.0})", median(&self.rates))
    }

    fn json(&self) -> Value {
        let (least, most) = extremes(&self.rates);
        let latency = |us: &[f64]| (!us.is_empty()).then(|| median(us));
        json!({
            "operations_per_s": { "median": median(&self.rates), "min": least, "max": most, "rounds": self.rates },
            "latency_us": { "p50": latency(&self.p50_us), "p99": latency(&self.p99_us) },
            "generator_cores": median(&self.generator_cores),
            "errors": self.errors,
        })
    }
}

/// The middle one, or the mean of the two in the middle.
fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn extremes(numbers: &[f64]) -> (f64, f64) {
    numbers.iter().fold((f64::INFINITY, 0.0), |(least, most), &n| (least.min(n), f64::max(most, n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(system: &str, op: &str, clients: u64, connections: u64, rate: f64) -> String {
        let latency = json!({ "latency_us": { "p50": 1000, "p90": 2, "p99": 4000, "p99.9": 4, "max": 5 } });
        let result = json!({
            "clients": clients, "connections": connections, "seconds": 4.0, "operations_per_s": rate,
            "errors": 0, "first_error": null, op: latency,
        });
        json!({
            "system": system, "round": 1, "op": op, "warmup_s": 1.0, "generator_cpu_s": 2.5, "result": result,
        })
        .to_string()
    }

    fn report(lines: &[String]) -> Report {
        Report::parse("cpu: some\nkernel: 6.1: x", &lines.join("\n")).expect("a report")
    }

    #[test]
    fn rounds_become_medians_and_extremes() {
        let rates = [300.0, 100.0, 200.0];
        let mut lines: Vec<_> = rates.iter().map(|&rate| line("quorate", "put", 64, 4, rate)).collect();
        lines.push(line("etcd", "put", 64, 4, 50.0));
        let report = report(&lines);
        let case = &report.json()["cases"][0];
        assert_eq!(case["quorate"]["operations_per_s"]["median"], 200.0);
        assert_eq!(case["quorate"]["operations_per_s"]["min"], 100.0);
        assert_eq!(case["quorate"]["operations_per_s"]["max"], 300.0);
        assert_eq!(case["quorate"]["generator_cores"], 0.5);
        assert_eq!(case["quorate_to_etcd"], 4.0);
        assert_eq!(case["quorate_to_redis"], Value::Null);
        let text = report.people(Table::text, "");
        assert!(text.contains("200 (100–300)  50 (50–50)         -            4.00"), "{text}");
        assert!(text.starts_with("cpu: some\nkernel: 6.1: x\n"), "{text}");
    }

    #[test]
    fn redis_stands_in_every_row_with_as_many_clients() {
        let report = report(&[
            line("quorate", "get", 64, 4, 30.0),
            line("quorate", "get", 64, 64, 60.0),
            line("redis", "get", 64, 64, 10.0),
            line("redis", "get", 512, 512, 10.0),
        ]);
        let ratios: Vec<_> =
            report.cases().into_iter().map(|case| report.ratio(System::Redis, case)).collect();
        assert_eq!(ratios, [Some(3.0), Some(6.0), None]);
    }

    #[test]
    fn a_case_in_which_everything_failed_has_no_latency_and_no_ratio() {
        let failed = line("quorate", "put", 1, 1, 0.0).replace("\"put\":{", "\"none\":{");
        let report = report(&[failed, line("etcd", "put", 1, 1, 5.0)]);
        let case = report.cases().pop_first().expect("a case");
        assert_eq!(report.ratio(System::Etcd, case), None);
        assert_eq!(report.json()["cases"][0]["quorate"]["latency_us"]["p50"], Value::Null);
    }

    #[test]
    fn a_line_that_is_no_measurement_is_named() {
        let error = Report::parse("", "{}").err().expect("an error");
        assert!(error.to_string().contains("measurement 1"), "{error}");
    }
}
