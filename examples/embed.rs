//! The client library in a program of one's own: counts how often it was run.
//!
//! ```sh
//! cargo run --example embed -- 127.0.0.1:7101
//! ```

use std::time::Duration;

use quorate::{Client, ClientOptions, Error};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoints: Vec<String> = std::env::args().skip(1).collect();
    let options = ClientOptions { deadline: Some(Duration::from_secs(5)), ..ClientOptions::new(endpoints) };
    let client = Client::connect(options).await?;
    let runs = count(&client, "examples/embed/runs").await?;
    println!("runs of this program so far: {runs}");
    client.close().await
}

/// Adds one to a number in the store, whoever else does the same meanwhile.
async fn count(client: &Client, key: &'static str) -> Result<u64, Error> {
    loop {
        let found = client.get(key).await?;
        let (old, version) = match &found {
            Some(found) => (String::from_utf8_lossy(&found.value).parse().unwrap_or(0_u64), found.version),
            None => (0, 0),
        };
        match client.put_if(key, (old + 1).to_string(), version).await {
            Err(Error::VersionMismatch { .. } | Error::NotFound) => {}
            outcome => return outcome.map(|_| old + 1),
        }
    }
}
