//! config: check a configuration before it is used.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::output::Output;
use crate::node::config::{Config, ConfigProblems};
use crate::node::exit::{self, Failure};

/// Check configuration files.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Check a configuration file and show everything that is wrong with it.
    ///
    /// Exit code 0: it is good. 2: it is not.
    #[command(after_help = "Examples:
  quorate config check config/local.toml
  quorate config check config/local.toml --json")]
    Check {
        /// The file
        file: PathBuf,
        /// Output for programs
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub(super) fn json(&self) -> bool {
        let Action::Check { json, .. } = &self.action;
        *json
    }

    pub(super) fn run(self) -> Result<u8, Failure> {
        let Action::Check { file, json } = self.action;
        let config = match Config::load(&file) {
            Ok(config) => config,
            Err(problems) if json => {
                let mut out = Output::new(json);
                out.value(&problems_json(&problems))?;
                out.flush()?;
                return Ok(exit::USAGE);
            }
            Err(problems) => return Err(problems.into()),
        };
        let nodes: Vec<String> = config.cluster.nodes.iter().map(|node| node.id.to_string()).collect();
        let mut out = Output::new(json);
        let value = json!({"ok": true, "cluster": config.cluster.id, "nodes": nodes, "groups": config.cluster.groups});
        let text = format!(
            "{} is good: cluster {:?}, nodes {}, groups: {}",
            file.display(),
            config.cluster.id,
            nodes.join(", "),
            config.cluster.groups
        );
        out.either(text, &value)?;
        out.flush()?;
        Ok(exit::OK)
    }
}

fn problems_json(problems: &ConfigProblems) -> Value {
    let list: Vec<Value> = problems
        .problems
        .iter()
        .map(|problem| json!({"path": problem.path, "line": problem.line, "message": problem.message}))
        .collect();
    json!({"ok": false, "source": problems.source, "problems": list})
}
