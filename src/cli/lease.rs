//! lease: keys that live as long as somebody renews.

use std::time::Duration;

use serde_json::json;

use super::cluster::{ClusterArgs, unexpected};
use super::output::Output;
use super::text::{lease_text, parse_lease, parse_ttl_ms};
use crate::logic::kv::command::{Command, LeaseId, Reply};
use crate::node::exit::{self, Failure};

/// Grant, renew and revoke leases.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Grant a lease and print its name.
    #[command(after_help = "Examples:
  quorate lease grant 30s
  quorate put worker:1 here --lease 1:42")]
    Grant {
        /// How long it lives without being renewed (500ms, 30s, 5m)
        #[arg(value_name = "TIME", value_parser = parse_ttl_ms)]
        ttl: u64,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// Start a lease's time anew.
    #[command(after_help = "Examples:
  quorate lease renew 1:42")]
    Renew {
        /// The lease, as `grant` printed it
        #[arg(value_parser = parse_lease)]
        lease: LeaseId,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
    /// End a lease and delete its keys.
    #[command(after_help = "Examples:
  quorate lease revoke 1:42")]
    Revoke {
        /// The lease, as `grant` printed it
        #[arg(value_parser = parse_lease)]
        lease: LeaseId,
        #[command(flatten)]
        cluster: ClusterArgs,
    },
}

impl Args {
    pub(super) fn json(&self) -> bool {
        let (Action::Grant { cluster, .. } | Action::Renew { cluster, .. } | Action::Revoke { cluster, .. }) =
            &self.action;
        cluster.json
    }

    pub(super) fn run(self) -> Result<u8, Failure> {
        let (cluster, command) = match self.action {
            Action::Grant { ttl, cluster } => (cluster, Command::GrantLease { ttl_ms: ttl }),
            Action::Renew { lease, cluster } => (at_home(cluster, lease), Command::RenewLease { lease }),
            Action::Revoke { lease, cluster } => (at_home(cluster, lease), Command::RevokeLease { lease }),
        };
        let reply = cluster.run(async |cluster| cluster.write(command).await)?;
        let mut out = Output::new(cluster.json);
        match reply {
            Reply::Lease { lease, ttl_ms } => {
                let text = lease_text(lease);
                let value = json!({"lease": text, "ttl_ms": ttl_ms});
                out.either(
                    format_args!("{text} lives {:?} unless renewed", Duration::from_millis(ttl_ms)),
                    &value,
                )?;
            }
            Reply::Done => out.either("revoked", &json!({"revoked": true}))?,
            other => return Err(unexpected(&other)),
        }
        out.flush()?;
        Ok(exit::OK)
    }
}

/// A lease is known to the group that granted it.
fn at_home(mut cluster: ClusterArgs, lease: LeaseId) -> ClusterArgs {
    cluster.group = lease.group.0;
    cluster
}
