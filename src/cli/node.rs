//! node: one node, in this process.

use std::path::{Path, PathBuf};

use super::cluster::parse_node;
use crate::logic::ids::NodeId;
use crate::node::config::Config;
use crate::node::exit::{self, Failure};
use crate::node::{logging, run};

/// Run one node of a cluster in this process, until Ctrl-C or SIGTERM.
///
/// `quorate up` runs all nodes of a cluster on one machine; this is for clusters of several machines and for service
/// managers. It logs to standard error; QUORATE_LOG sets the level.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate node --config config/cluster/three-machines.toml --id 1
  quorate node --id 2                                  n2 of the three local nodes
  quorate node --config config/single.toml             the only node there is")]
pub(super) struct Args {
    /// Configuration of the cluster; without it, three nodes on this machine
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which node of it this is
    #[arg(long, value_name = "ID", env = "QUORATE_NODE", value_parser = parse_node)]
    id: Option<NodeId>,
    /// Keep the data in DIR/node-ID, whatever the configuration says
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let (config, _) = load(self.config.as_deref(), self.data.as_deref())?;
        let id = choose(&config, self.id)?;
        logging::init(&config.log)?;
        run::run(&config, id)?;
        Ok(exit::OK)
    }
}

/// The configuration of `--config` and its text, or the one that is built in, with its data under `--data` where given.
pub(super) fn load(file: Option<&Path>, data: Option<&Path>) -> Result<(Config, Option<String>), Failure> {
    let (mut config, text) = match file {
        Some(path) => {
            let text = Config::read(path)?;
            (Config::parse(&text, &path.display().to_string())?, Some(text))
        }
        None => (Config::local(), None),
    };
    if let Some(root) = data {
        config.set_data_root(root);
    }
    Ok((config, text))
}

fn choose(config: &Config, id: Option<NodeId>) -> Result<NodeId, Failure> {
    let nodes = &config.cluster.nodes;
    let known = || nodes.iter().map(|node| node.id.0.to_string()).collect::<Vec<_>>().join(", ");
    match (id, nodes.as_slice()) {
        (Some(id), _) if config.cluster_node(id).is_some() => Ok(id),
        (Some(id), _) => Err(Failure::usage(format!(
            "the cluster {:?} has no node {}; it has {}",
            config.cluster.id,
            id.0,
            known()
        ))),
        (None, [only]) => Ok(only.id),
        (None, _) => Err(Failure::usage(format!(
            "say which node of the cluster this is: --id ID or QUORATE_NODE=ID, one of {}",
            known()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_chosen_by_its_id_unless_there_is_only_one() {
        let mut config = Config::local();
        assert_eq!(choose(&config, Some(NodeId(3))), Ok(NodeId(3)));
        let unknown = choose(&config, Some(NodeId(4))).expect_err("there is none").message;
        assert!(unknown.ends_with("has no node 4; it has 1, 2, 3"), "{unknown}");
        let ambiguous = choose(&config, None).expect_err("there are three").message;
        assert!(ambiguous.ends_with("one of 1, 2, 3"), "{ambiguous}");
        config.cluster.nodes.truncate(1);
        assert_eq!(choose(&config, None), Ok(NodeId(1)));
    }
}
