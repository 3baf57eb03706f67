//! What is wrong with a configuration: everything at once, each with its place.

use std::fmt;
use std::path::Path;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// Path of the key, such as `cluster.nodes[1].address`; empty when it is about the file as a whole.
    pub path: String,
    /// Line in the file, from 1, where it has one.
    pub line: Option<usize>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Everything that is wrong with a configuration. Never empty when it is returned as an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblems {
    /// Where the configuration came from: a path, or `built-in`.
    pub source: String,
    /// The problems, in the order of the file; those without a line come last.
    pub problems: Vec<ConfigProblem>,
}

impl ConfigProblems {
    pub(super) fn new(source: &str) -> Self {
        Self { source: source.to_string(), problems: Vec::new() }
    }

    pub(super) fn unreadable(path: &Path, why: impl fmt::Display) -> Self {
        let source = path.display().to_string();
        let message = format!("cannot be read: {why}; give the path of a configuration file, see --help");
        Self { source, problems: vec![ConfigProblem { path: String::new(), line: None, message }] }
    }

    pub(super) fn add(&mut self, path: &str, line: Option<usize>, message: impl Into<String>) {
        self.problems.push(ConfigProblem { path: path.to_string(), line, message: message.into() });
    }

    /// Whether something is already known to be wrong with this key (or with the table it stands in).
    pub(super) fn has(&self, path: &str) -> bool {
        self.problems.iter().any(|problem| {
            path.strip_prefix(problem.path.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    pub(super) fn sort(&mut self) {
        self.problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.path.is_empty(), self.line) {
            (true, None) => write!(f, "{}", self.message),
            (true, Some(line)) => write!(f, "line {line}: {}", self.message),
            (false, None) => write!(f, "{}: {}", self.path, self.message),
            (false, Some(line)) => write!(f, "{} (line {line}): {}", self.path, self.message),
        }
    }
}

impl fmt::Display for ConfigProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.as_slice() {
            [only] => write!(f, "configuration {}: {only}", self.source),
            many => {
                write!(f, "configuration {}: {} problems", self.source, many.len())?;
                many.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
            }
        }
    }
}

impl std::error::Error for ConfigProblems {}
