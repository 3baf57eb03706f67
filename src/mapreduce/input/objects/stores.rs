//! The stores that URLs lead to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::http::HttpBuilder;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};

use super::place::Place;
use super::trouble::short;
use crate::mapreduce::input::unknown_scheme;

/// One request of a client has so long, the connection included: three fit into what is waited for an answer.
const REQUEST: Duration = Duration::from_secs(14);
const CONNECT: Duration = Duration::from_secs(5);
/// So often a client repeats a request by itself before the attempt fails.
const RETRIES: usize = 2;

/// Stores that are open, by the URL of their root.
static STORES: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>> = Mutex::new(BTreeMap::new());

/// Gives a store a URL: inputs below it are read from that store, in this process. For programs that have stores of
/// their own, and for tests. The URL is a scheme and a bucket, such as `memory://tests`; the scheme may be a new one.
/// A store that had the URL before is replaced.
///
/// # Errors
/// If the URL has no scheme, or a key.
///
/// ```
/// use std::sync::Arc;
///
/// use object_store::memory::InMemory;
/// use quorate::mapreduce::input::objects::register;
///
/// register("memory://books", Arc::new(InMemory::new())).unwrap();
/// assert!(register("memory://books/shelf", Arc::new(InMemory::new())).is_err());
/// ```
pub fn register(url: &str, store: Arc<dyn ObjectStore>) -> Result<(), String> {
    let place = Place::parse(url)?;
    if !place.key.is_empty() {
        return Err(format!("{url} is not the URL of a store: something stands behind the bucket"));
    }
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    stores.insert(place.root(), store);
    Ok(())
}

/// The store of a place.
pub(super) fn find(place: &Place) -> Result<Arc<dyn ObjectStore>, String> {
    let mut stores = STORES.lock().unwrap_or_else(PoisonError::into_inner);
    let root = place.root();
    if let Some(store) = stores.get(&root) {
        return Ok(store.clone());
    }
    if let Some(problem) = unknown_scheme(&root) {
        return Err(problem);
    }
    let store = build(place).map_err(|error| format!("cannot use the store {root}: {}", short(&error)))?;
    stores.insert(root, store.clone());
    Ok(store)
}

/// A client with what variables of the environment say that begin with the prefix. Others are left alone, although
/// builders know many of them under plainer names: a `TOKEN` in the environment is hardly one for the store.
macro_rules! client {
    ($builder:ty, $place:expr, $prefix:expr) => {{
        let builder = <$builder>::new()
            .with_url(format!("{}/", $place.root()))
            .with_retry(retries())
            .with_client_options(options());
        let builder = variables($prefix).fold(builder, |builder, (name, value)| match name.parse() {
            Ok(key) => builder.with_config(key, value),
            Err(_) => builder,
        });
        Arc::new(builder.build()?)
    }};
}

fn build(place: &Place) -> Result<Arc<dyn ObjectStore>, object_store::Error> {
    Ok(match place.scheme.as_str() {
        "s3" | "s3a" => client!(AmazonS3Builder, place, "AWS_"),
        "gs" => client!(GoogleCloudStorageBuilder, place, "GOOGLE_"),
        "az" | "abfs" | "abfss" => client!(MicrosoftAzureBuilder, place, "AZURE_"),
        "file" => Arc::new(LocalFileSystem::new()),
        "memory" => Arc::new(InMemory::new()),
        _ => {
            let options = options().with_allow_http(place.scheme == "http");
            let builder = HttpBuilder::new().with_url(place.root());
            Arc::new(builder.with_retry(retries()).with_client_options(options).build()?)
        }
    })
}

/// Variables of the environment whose names begin so: their names in small letters, as builders want them.
fn variables(prefix: &'static str) -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(move |(name, value)| {
        let (name, value) = (name.into_string().ok()?, value.into_string().ok()?);
        name.starts_with(prefix).then(|| (name.to_ascii_lowercase(), value))
    })
}

fn options() -> ClientOptions {
    ClientOptions::new().with_timeout(REQUEST).with_connect_timeout(CONNECT)
}

fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig { max_backoff: Duration::from_secs(1), ..BackoffConfig::default() },
        max_retries: RETRIES,
        retry_timeout: 2 * REQUEST,
    }
}
