//! etcd: gRPC, which is HTTP/2 with five bytes before each message.
//!
//! Every connection goes to the leader, where a request need not be forwarded: etcd's best case. A client takes one
//! stream a request; clients that share a connection share its socket writes and reads.

use std::future::poll_fn;
use std::time::Duration;

use anyhow::Context as _;
use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request, Uri};
use tokio::time::{Instant, sleep};

use crate::load::{self, Args, Client};
use crate::protobuf::{self, Status};

/// A cluster elects its leader within a few election timeouts of one second.
const LEADER_WITHIN: Duration = Duration::from_secs(20);
const BETWEEN_TRIES: Duration = Duration::from_millis(100);
/// Wide enough that flow control never holds an answer back.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Longest message taken; answers here are of a few hundred bytes.
const MAX_MESSAGE: usize = 4 << 20;
/// Before each message: a byte that says it is not compressed, and its length.
const PREFIX: usize = 5;

/// Measures the cluster and prints the result.
pub async fn run(endpoints: Vec<String>, conns: Option<u64>, args: Args) -> anyhow::Result<()> {
    let leader = leader(&endpoints).await?;
    let conns = conns.unwrap_or(args.clients.min(64)).min(args.clients);
    let mut connections = Vec::new();
    for _ in 0..conns {
        connections.push(dial(&leader).await?);
    }
    let clients = (0..args.clients).map(|n| connections[(n % conns) as usize].clone()).collect();
    load::measure(clients, conns, args).await?;
    // Requests were forwarded from then on: worth a word, not a failure.
    if self::leader(&endpoints).await? != leader {
        eprintln!("note: the leadership moved during the measurement");
    }
    Ok(())
}

/// The endpoint of the leader; waits until there is one.
async fn leader(endpoints: &[String]) -> anyhow::Result<String> {
    let deadline = Instant::now() + LEADER_WITHIN;
    loop {
        let mut last = None;
        for endpoint in endpoints {
            match status(endpoint).await {
                Ok(status) if status.leader != 0 && status.leader == status.member => {
                    return Ok(endpoint.clone());
                }
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        if Instant::now() >= deadline {
            let none = anyhow::anyhow!("no leader within {} s", LEADER_WITHIN.as_secs());
            return Err(last.map_or(none, |error| error.context("no leader was found")));
        }
        sleep(BETWEEN_TRIES).await;
    }
}

async fn status(endpoint: &str) -> anyhow::Result<Status> {
    let mut connection = dial(endpoint).await?;
    connection.start_message();
    let uri = uri(endpoint, "/etcdserverpb.Maintenance/Status")?;
    protobuf::status(connection.call(uri).await?)
}

async fn dial(endpoint: &str) -> anyhow::Result<Connection> {
    let stream = load::connect(endpoint).await?;
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(10_000)
        .enable_push(false)
        .handshake(stream)
        .await?;
    // Its end shows as an error of the requests.
    tokio::task::spawn_local(connection);
    let (put, range) = (uri(endpoint, "/etcdserverpb.KV/Put")?, uri(endpoint, "/etcdserverpb.KV/Range")?);
    Ok(Connection { send, put, range, out: BytesMut::new(), input: BytesMut::new() })
}

fn uri(endpoint: &str, path: &str) -> anyhow::Result<Uri> {
    Ok(Uri::builder().scheme("http").authority(endpoint).path_and_query(path).build()?)
}

#[derive(Clone)]
struct Connection {
    send: SendRequest<Bytes>,
    put: Uri,
    range: Uri,
    /// The message that is built; begins with its prefix.
    out: BytesMut,
    /// The last answer; begins with its prefix.
    input: BytesMut,
}

impl Client for Connection {
    async fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.start_message();
        protobuf::put_request(&mut self.out, key, value);
        self.call(self.put.clone()).await.map(drop)
    }

    async fn get(&mut self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        self.start_message();
        protobuf::range_request(&mut self.out, key);
        let response = self.call(self.range.clone()).await?;
        Ok(protobuf::range_value(response)?.map(<[u8]>::len))
    }
}

impl Connection {
    fn start_message(&mut self) {
        self.out.clear();
        self.out.put_bytes(0, PREFIX);
    }

    /// Sends the message that was built; its answer.
    async fn call(&mut self, uri: Uri) -> anyhow::Result<&[u8]> {
        let length = u32::try_from(self.out.len() - PREFIX)?;
        self.out[1..PREFIX].copy_from_slice(&length.to_be_bytes());
        let request =
            Request::post(uri).header("content-type", "application/grpc").header("te", "trailers").body(())?;
        poll_fn(|cx| self.send.poll_ready(cx)).await?;
        let (response, mut body) = self.send.send_request(request, false)?;
        body.send_data(self.out.split().freeze(), true)?;

        let (head, mut body) = response.await?.into_parts();
        anyhow::ensure!(head.status == 200, "HTTP status {}", head.status);
        self.input.clear();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            anyhow::ensure!(self.input.len() + chunk.len() <= MAX_MESSAGE, "an answer that is too long");
            self.input.extend_from_slice(&chunk);
        }
        // An answer that is only an error has its status in the head.
        check(&body.trailers().await?.unwrap_or(head.headers))?;
        message(&self.input)
    }
}

/// Whether the call succeeded.
fn check(trailers: &HeaderMap) -> anyhow::Result<()> {
    let text = |name| trailers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let status = text("grpc-status").context("an answer without a gRPC status")?;
    anyhow::ensure!(status == "0", "gRPC status {status}: {}", text("grpc-message").unwrap_or_default());
    Ok(())
}

/// The one message of an answer.
fn message(input: &[u8]) -> anyhow::Result<&[u8]> {
    let (prefix, message) = input.split_first_chunk::<PREFIX>().context("an answer without a message")?;
    let [compressed, length @ ..] = prefix;
    anyhow::ensure!(*compressed == 0, "a compressed answer");
    anyhow::ensure!(u32::from_be_bytes(*length) as usize == message.len(), "not one whole message");
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_whole_message() {
        assert_eq!(message(b"\0\0\0\0\x02ab").expect("whole"), b"ab");
        assert!(message(b"\0\0\0\0\x03ab").is_err());
        assert!(message(b"\x01\0\0\0\x02ab").is_err());
        assert!(message(b"\0\0\0").is_err());
    }

    #[test]
    fn only_status_zero_is_success() {
        let trailers = |status: &'static str| {
            let mut map = HeaderMap::new();
            map.insert("grpc-status", http::HeaderValue::from_static(status));
            map
        };
        assert!(check(&trailers("0")).is_ok());
        assert!(check(&trailers("14")).is_err());
        assert!(check(&HeaderMap::new()).is_err());
    }
}
