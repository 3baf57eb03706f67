//! From TOML text to a [`Config`], collecting every problem instead of stopping at the first.
//!
//! The known keys and their types are not written down a second time: the default configuration, with one node in
//! it, is serialised and serves as the schema. The text is walked against it; each value that has the right type is
//! then tried alone in that schema, so that what only deserialization can tell (a number too large for its field, a
//! word that is not one of the variants) is reported for every such value. What is left is a table that surely
//! deserializes, and the rules are applied to the result.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::problems::ConfigProblems;
use super::{ClusterNode, Config, rules};
use crate::logic::ids::NodeId;

/// Keys that must be given, by their path in the schema.
const REQUIRED: [&str; 2] = ["cluster.nodes[0].id", "cluster.nodes[0].address"];

pub(super) fn parse(text: &str, source: &str) -> Result<Config, ConfigProblems> {
    let mut walk = Walk::new(text, source);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            walk.malformed(&error);
        }
        return Err(walk.problems);
    }
    let schema = schema();
    let good = walk.table(document.get_ref(), &schema, Place::root());
    let config: Config = good.try_into().expect("every value was tried alone before");
    rules::check(&config, &walk.lines, &mut walk.problems);
    if walk.problems.problems.is_empty() {
        return Ok(config);
    }
    walk.problems.sort();
    Err(walk.problems)
}

/// A configuration in which every key has a value, as a TOML table.
pub(super) fn schema() -> Table {
    let mut config = Config::default();
    config.cluster.nodes.push(ClusterNode {
        id: NodeId(1),
        address: String::new(),
        data_dir: Some("".into()),
    });
    Table::try_from(config).expect("a configuration is a table of plain values")
}

/// Where the walk is: the path as the user knows it and the same in the schema, whose arrays have one element.
#[derive(Clone, Default)]
struct Place {
    path: String,
    schema: String,
}

impl Place {
    fn root() -> Self {
        Self::default()
    }

    fn key(&self, key: &str) -> Self {
        let join = |path: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        Self { path: join(&self.path), schema: join(&self.schema) }
    }

    fn element(&self, position: usize) -> Self {
        Self { path: format!("{}[{position}]", self.path), schema: format!("{}[0]", self.schema) }
    }
}

struct Walk<'t> {
    text: &'t str,
    problems: ConfigProblems,
    /// Line of every key that was seen, for the rules.
    lines: BTreeMap<String, usize>,
}

impl<'t> Walk<'t> {
    fn new(text: &'t str, source: &str) -> Self {
        Self { text, problems: ConfigProblems::new(source), lines: BTreeMap::new() }
    }

    /// Line and column, both from 1, of a byte of the text.
    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset.min(self.text.len())).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn malformed(&mut self, error: &toml::de::Error) {
        let (line, column) = self.position(error.span().map_or(0, |span| span.start));
        let message = format!("column {column}: malformed TOML: {}", error.message());
        self.problems.add("", Some(line), message);
    }

    /// The good part of a table.
    fn table(&mut self, table: &DeTable<'_>, schema: &Table, place: Place) -> Table {
        let mut good = Table::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let (line, _) = self.position(key.span().start);
            let here = place.key(name);
            self.lines.insert(here.path.clone(), line);
            let Some(expected) = schema.get(name) else {
                self.problems.add(&here.path, Some(line), unknown_key(name, schema, &place.path));
                continue;
            };
            if let Some(value) = self.value(value, expected, here) {
                good.insert(name.to_string(), value);
            }
        }
        for key in schema.keys().filter(|key| !table.contains_key(key.as_str())) {
            let here = place.key(key);
            if REQUIRED.contains(&here.schema.as_str()) {
                let line = self.lines.get(&place.path).copied();
                self.problems.add(&here.path, line, "missing; it has no default");
            }
        }
        good
    }

    /// A value if it is good.
    fn value(&mut self, value: &Spanned<DeValue<'_>>, expected: &Value, place: Place) -> Option<Value> {
        let (line, _) = self.position(value.span().start);
        match (value.get_ref(), expected) {
            (DeValue::Table(table), Value::Table(schema)) => Some(self.table(table, schema, place).into()),
            (DeValue::Array(elements), Value::Array(schema)) => {
                let element = schema.first().expect("arrays of the schema have one element");
                let good = elements.iter().enumerate().filter_map(|(position, value)| {
                    let here = place.element(position);
                    let (line, _) = self.position(value.span().start);
                    self.lines.insert(here.path.clone(), line);
                    self.value(value, element, here)
                });
                Some(Value::Array(good.collect()))
            }
            (found, expected) => match scalar(found, expected) {
                Ok(value) => match try_alone(&place.schema, &value) {
                    Ok(()) => Some(value),
                    Err(error) => {
                        self.problems.add(&place.path, Some(line), error);
                        None
                    }
                },
                Err(error) => {
                    self.problems.add(&place.path, Some(line), error);
                    None
                }
            },
        }
    }
}

/// Converts a plain value whose type is the expected one.
fn scalar(found: &DeValue<'_>, expected: &Value) -> Result<Value, String> {
    match (found, expected) {
        (DeValue::String(text), Value::String(_)) => Ok(Value::String(text.to_string())),
        (DeValue::Boolean(value), Value::Boolean(_)) => Ok(Value::Boolean(*value)),
        (DeValue::Integer(number), Value::Integer(_)) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Integer)
            .map_err(|_| format!("the number {number} is out of range")),
        (found, expected) => {
            let (article, hint) = match expected {
                Value::String(_) => ("a string", "; put it in quotes"),
                Value::Integer(_) => ("an integer", "; write a plain number, the unit is in the key's name"),
                Value::Boolean(_) => ("true or false", ""),
                Value::Array(_) => ("an array of tables", "; write [[...]] with double brackets"),
                Value::Table(_) => ("a table", "; write it as a [section]"),
                Value::Float(_) | Value::Datetime(_) => ("another type", ""),
            };
            Err(format!("expected {article}, found {}{hint}", shown(found)))
        }
    }
}

/// A value in an error message: its type, and the value itself while it is short.
fn shown(found: &DeValue<'_>) -> String {
    let kind = match found {
        DeValue::String(text) if text.len() <= 40 => return format!("the string {text:?}"),
        DeValue::Integer(number) => return format!("the integer {number}"),
        DeValue::Float(number) => return format!("the float {number}"),
        DeValue::Boolean(value) => return format!("the boolean {value}"),
        DeValue::String(_) => "a string",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    };
    kind.to_string()
}

/// Puts one value into the schema and deserializes the whole.
fn try_alone(path: &str, value: &Value) -> Result<(), String> {
    let mut schema = Value::Table(schema());
    let mut slot = &mut schema;
    for step in path.split('.') {
        let (key, is_array) = match step.strip_suffix("[0]") {
            Some(key) => (key, true),
            None => (step, false),
        };
        slot = slot.get_mut(key).expect("the walk only names keys of the schema");
        if is_array {
            slot = slot.get_mut(0).expect("arrays of the schema have one element");
        }
    }
    *slot = value.clone();
    match schema.try_into::<Config>() {
        Ok(_) => Ok(()),
        Err(error) => Err(error.message().to_string()),
    }
}

/// What to say of a key that the schema does not have.
fn unknown_key(key: &str, siblings: &Table, section: &str) -> String {
    let close = |candidate: &&String| is_close(key, candidate);
    if let Some(best) = siblings.keys().filter(close).min_by_key(|candidate| distance(key, candidate)) {
        return format!("unknown key; did you mean `{best}`?");
    }
    let root = schema();
    let elsewhere = root.iter().find_map(|(name, value)| {
        let keys = value.as_table()?;
        (name != section && keys.contains_key(key)).then(|| format!("{name}.{key}"))
    });
    match elsewhere {
        Some(path) => format!("unknown key; did you mean `{path}`?"),
        None => {
            let known: Vec<&str> = siblings.keys().map(String::as_str).collect();
            format!("unknown key; known here: {}", known.join(", "))
        }
    }
}

/// Whether somebody who wrote `key` may have meant `candidate`: a slip of a few letters, or the unit left out.
fn is_close(key: &str, candidate: &str) -> bool {
    let unit_left_out = key.len() >= 3 && candidate.starts_with(key);
    unit_left_out || distance(key, candidate) <= 1 + candidate.len() / 4
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, right) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
