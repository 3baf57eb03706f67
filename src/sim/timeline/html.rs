//! The timeline as one page that needs nothing else: a lane for each node and client, and a list to search.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::verdict;
use crate::logic::ids::NodeId;
use crate::sim::run::{Outcome, Plan};
use crate::sim::trace::{Kind, Line, Who};

/// Width of the picture in units of its own; it scales with the window.
const WIDTH: f64 = 1200.0;
/// Where time begins, right of the names.
const LEFT: f64 = 70.0;
const LANE: f64 = 26.0;
const BAR: f64 = 14.0;

/// The page.
pub fn page(plan: &Plan, outcome: &Outcome) -> String {
    let good = outcome.violations.is_empty();
    let kinds: Vec<&str> = outcome.kinds.iter().map(|kind| kind.name()).collect();
    let drawn = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
    format!(
        include_str!("page.html"),
        title = escape(&format!("Seed {}", plan.seed)),
        class = if good { "good" } else { "bad" },
        verdict = escape(&verdict(outcome)).replace('\n', "<br>"),
        command = escape(&plan.command()),
        drawn = escape(&drawn),
        picture = Picture::new(outcome).draw(),
        rows = rows(&outcome.timeline),
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn rows(lines: &[Line]) -> String {
    let mut out = String::new();
    for line in lines {
        let kind = line.kind.word().to_lowercase();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<tr class=\"{kind}\"><td>{:.3}</td><td>{}</td><td>{kind}</td><td>{}</td></tr>",
            line.at.as_secs_f64(),
            line.who,
            escape(&line.text)
        );
    }
    out
}

struct Picture<'a> {
    lines: &'a [Line],
    end: f64,
    lanes: BTreeMap<Who, usize>,
    out: String,
}

impl<'a> Picture<'a> {
    fn new(outcome: &'a Outcome) -> Self {
        let who: BTreeSet<Who> = outcome.timeline.iter().map(|line| line.who).collect();
        let lanes = who.into_iter().enumerate().map(|(number, who)| (who, number)).collect();
        let end = outcome.time.as_secs_f64().max(0.001);
        Picture { lines: &outcome.timeline, end, lanes, out: String::new() }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + (WIDTH - LEFT - 10.0) * seconds / self.end
    }

    fn y(&self, who: Who) -> f64 {
        self.lanes.get(&who).map_or(0.0, |lane| *lane as f64 * LANE + 20.0)
    }

    fn draw(mut self) -> String {
        let height = self.lanes.len() as f64 * LANE + 40.0;
        self.axis(height);
        for (who, lane) in self.lanes.clone() {
            let y = lane as f64 * LANE + 20.0 + BAR - 3.0;
            self.write(format_args!("<text x=\"4\" y=\"{y:.1}\">{who}</text>"));
        }
        let nodes: Vec<NodeId> = self.lanes.keys().filter_map(|who| node(*who)).collect();
        nodes.into_iter().for_each(|node| self.life(node));
        for line in self.lines {
            self.mark(line, height);
        }
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n{}</svg>", self.out)
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.out, "{text}");
    }

    fn axis(&mut self, height: f64) {
        let step = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0];
        let step = step.into_iter().find(|step| self.end / step <= 15.0).unwrap_or(36_000.0);
        let mut at = 0.0;
        while at <= self.end {
            let x = self.x(at);
            let bottom = height - 16.0;
            self.write(format_args!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"10\" y2=\"{bottom}\"/>"
            ));
            let below = height - 4.0;
            self.write(format_args!("<text class=\"axis\" x=\"{x:.1}\" y=\"{below}\">{at:.0} s</text>"));
            at += step;
        }
    }

    /// What a node was, from moment to moment.
    fn life(&mut self, node: NodeId) {
        let lines = self.lines;
        let mut since: Option<(f64, &'static str, &str)> = None;
        for line in lines.iter().filter(|line| line.who == Who::Node(node)) {
            let Some(state) = state(line.kind) else { continue };
            let at = line.at.as_secs_f64();
            if let Some(before) = since.replace((at, state, &line.text)) {
                self.bar(node, before, at);
            }
        }
        if let Some(last) = since {
            self.bar(node, last, self.end);
        }
    }

    fn bar(&mut self, node: NodeId, (from, state, text): (f64, &str, &str), to: f64) {
        let (x, y) = (self.x(from), self.y(Who::Node(node)));
        let width = (self.x(to) - x).max(0.3);
        let text = escape(text);
        self.write(format_args!(
            "<rect class=\"{state}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"{width:.2}\" height=\"{BAR}\">\
             <title>{from:.3} s, {node}: {text}</title></rect>"
        ));
    }

    fn mark(&mut self, line: &Line, height: f64) {
        let seconds = line.at.as_secs_f64();
        let (x, y) = (self.x(seconds), self.y(line.who));
        let (kind, text) = (line.kind.word().to_lowercase(), escape(&line.text));
        let title = format!("<title>{seconds:.3} s, {}: {text}</title>", line.who);
        match line.kind {
            Kind::Violation => self.write(format_args!(
                "<rect class=\"violation\" x=\"{x:.2}\" y=\"4\" width=\"3\" height=\"{:.1}\">{title}</rect>",
                height - 20.0
            )),
            Kind::Fault | Kind::Heal => self.write(format_args!(
                "<circle class=\"{kind}\" cx=\"{x:.2}\" cy=\"{:.1}\" r=\"4\">{title}</circle>",
                y + BAR / 2.0
            )),
            Kind::Call | Kind::FailedCall | Kind::Snapshot => self.write(format_args!(
                "<rect class=\"{kind}\" x=\"{x:.2}\" y=\"{y:.1}\" width=\"1.5\" height=\"{BAR}\">{title}</rect>"
            )),
            _ => {}
        }
    }
}

fn node(who: Who) -> Option<NodeId> {
    match who {
        Who::Node(node) => Some(node),
        _ => None,
    }
}

fn state(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Start | Kind::Follows => Some("follows"),
        Kind::Stands => Some("stands"),
        Kind::Leads => Some("leads"),
        Kind::End => Some("end"),
        _ => None,
    }
}
