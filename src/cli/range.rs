//! range: keys in order, page by page.

use bytes::Bytes;
use serde_json::Map;

use super::cluster::{Cluster, ClusterArgs, unexpected};
use super::kv::ReadArgs;
use super::output::Output;
use super::text::{self, Keep, escape, json_bytes};
use crate::logic::kv::command::{Pair, Query, Reply};
use crate::node::exit::{self, Failure};

/// List keys in byte order, with their values.
///
/// Prints a line for each key: key, tab, value, with tabs, line ends and unprintable bytes escaped; with --json one
/// object a line. However many there are, they are fetched and printed page by page. Each page reflects one moment,
/// the listing as a whole does not: a key that changes meanwhile may be shown before or after the change.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  quorate range                       every key
  quorate range user:a user:n         from user:a to before user:n
  quorate range --prefix user: --limit 10
  quorate range --prefix user: --keys-only | wc -l
  quorate range --prefix user: --json > users.jsonl")]
pub(super) struct Args {
    /// First key
    #[arg(conflicts_with = "prefix")]
    start: Option<String>,
    /// First key no longer wanted
    end: Option<String>,
    /// Only keys that begin with this
    #[arg(long)]
    prefix: Option<String>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Leave the values out
    #[arg(long)]
    keys_only: bool,
    /// START, END and PREFIX are hexadecimal
    #[arg(long)]
    hex: bool,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    pub(super) cluster: ClusterArgs,
}

/// Where a listing stands.
enum Position {
    Range { start: Bytes, end: Option<Bytes> },
    Prefix { prefix: Bytes, after: Option<Bytes> },
}

impl Position {
    fn query(&self, max_keys: u32, keys_only: bool) -> Query {
        match self {
            Self::Range { start, end } => {
                Query::Range { start: start.clone(), end: end.clone(), max_keys, max_bytes: 0, keys_only }
            }
            Self::Prefix { prefix, after } => Query::Prefix {
                prefix: prefix.clone(),
                after: after.clone(),
                max_keys,
                max_bytes: 0,
                keys_only,
            },
        }
    }

    fn move_to(&mut self, cursor: Bytes) {
        match self {
            Self::Range { start, .. } => *start = cursor,
            Self::Prefix { after, .. } => *after = Some(cursor),
        }
    }
}

impl Args {
    pub(super) fn run(self) -> Result<u8, Failure> {
        let bytes = |text: &String| text::parse_bytes(text, self.hex).map_err(Failure::usage);
        let position = match &self.prefix {
            Some(prefix) => Position::Prefix { prefix: bytes(prefix)?, after: None },
            None => Position::Range {
                start: self.start.as_ref().map(bytes).transpose()?.unwrap_or_default(),
                end: self.end.as_ref().map(bytes).transpose()?,
            },
        };
        self.read.resolve()?;
        self.cluster.run(async |cluster| self.list(cluster, position).await)
    }

    async fn list(&self, cluster: &Cluster, mut position: Position) -> Result<u8, Failure> {
        let (consistency, node) = self.read.resolve()?;
        let mut out = Output::new(self.cluster.json);
        let mut left = self.limit.unwrap_or(u64::MAX);
        loop {
            // 0 would mean "as many as fit", which is what a very large number comes to as well.
            let max_keys = u32::try_from(left).unwrap_or(u32::MAX);
            let reply = cluster.read(position.query(max_keys, self.keys_only), consistency, node).await?;
            let Reply::Pairs { pairs, cursor } = reply else { return Err(unexpected(&reply)) };
            left = left.saturating_sub(pairs.len() as u64);
            for pair in &pairs {
                self.print(pair, &mut out)?;
            }
            out.flush()?;
            match cursor {
                Some(cursor) if left > 0 => position.move_to(cursor),
                _ => return Ok(exit::OK),
            }
        }
    }

    fn print(&self, pair: &Pair, out: &mut Output) -> Result<(), Failure> {
        if out.json {
            let mut object = Map::new();
            json_bytes(&mut object, "key", &pair.key);
            if !self.keys_only {
                json_bytes(&mut object, "value", &pair.value);
            }
            object.insert("version".into(), pair.version.into());
            return out.value(&object.into());
        }
        let key = escape(&pair.key, Keep::Nothing);
        if self.keys_only {
            out.line(key)
        } else {
            out.line(format_args!("{key}\t{}", escape(&pair.value, Keep::Nothing)))
        }
    }
}
