//! Load for the systems that Quorate is compared with, and the report of the comparison.
//!
//! `benches/compare.sh` starts the systems and runs this program. In reading order:
//!
//! - `load.rs`: a closed loop, as `quorate bench` has it, over anything that can put and get.
//! - `etcd.rs`, `protobuf.rs`: etcd's gRPC over HTTP/2.
//! - `redis.rs`: Redis's protocol over TCP.
//! - `report.rs`, `table.rs`: from many measurements to one table.
//! - `ports.rs`: free ports for the systems.
//!
//! All load is made by one thread, as `quorate bench` does by default, and latencies are counted in the same way.

mod etcd;
mod load;
mod ports;
mod protobuf;
mod redis;
mod report;
mod table;

use std::path::PathBuf;

use clap::Parser;

/// Load for etcd and Redis, and the report of the comparison with Quorate
#[derive(Debug, Parser)]
#[command(version)]
enum Command {
    /// Measure an etcd cluster: gRPC, all connections to the leader
    Etcd {
        /// Client addresses of all members
        #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required = true)]
        endpoints: Vec<String>,
        /// Connections, shared evenly by the clients [default: one a client, at most 64]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000))]
        conns: Option<u64>,
        #[command(flatten)]
        load: load::Args,
    },
    /// Measure a Redis server: one connection a client
    Redis {
        /// Address of the server
        #[arg(long, value_name = "HOST:PORT")]
        endpoint: String,
        #[command(flatten)]
        load: load::Args,
    },
    /// Print ports of 127.0.0.1 that are free
    Ports {
        /// How many
        #[arg(value_parser = clap::value_parser!(u16).range(1..=100))]
        count: u16,
    },
    /// Print the report of measurements: medians, extremes and ratios
    Report {
        /// Lines `key: value` about the machine
        #[arg(long, value_name = "FILE")]
        facts: PathBuf,
        #[arg(long, value_enum, default_value = "text")]
        format: report::Format,
        /// Measurements, one JSON object a line
        measurements: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Etcd { endpoints, conns, load } => load::block_on(etcd::run(endpoints, conns, load)),
        Command::Redis { endpoint, load } => load::block_on(redis::run(endpoint, load)),
        Command::Ports { count } => {
            ports::free(count)?.iter().for_each(|port| println!("{port}"));
            Ok(())
        }
        Command::Report { facts, format, measurements } => {
            print!("{}", report::render(&facts, &measurements, format)?);
            Ok(())
        }
    }
}
