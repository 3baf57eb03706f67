//! Redis: its protocol over TCP, one connection a client.

use anyhow::Context as _;
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::{self, Args, Client};

struct Connection {
    stream: TcpStream,
    out: BytesMut,
    input: BytesMut,
}

/// Measures the server at `endpoint` and prints the result.
pub async fn run(endpoint: String, args: Args) -> anyhow::Result<()> {
    let mut clients = Vec::new();
    for _ in 0..args.clients {
        let stream = load::connect(&endpoint).await?;
        clients.push(Connection { stream, out: BytesMut::new(), input: BytesMut::new() });
    }
    let conns = args.clients;
    load::measure(clients, conns, args).await
}

impl Client for Connection {
    async fn put(&mut self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        command(&mut self.out, &[b"SET", key, value]);
        match self.call().await? {
            Reply::Done => Ok(()),
            Reply::Value(_) => anyhow::bail!("a value in answer to SET"),
        }
    }

    async fn get(&mut self, key: &[u8]) -> anyhow::Result<Option<usize>> {
        command(&mut self.out, &[b"GET", key]);
        match self.call().await? {
            Reply::Value(length) => Ok(length),
            Reply::Done => anyhow::bail!("no value in answer to GET"),
        }
    }
}

impl Connection {
    async fn call(&mut self) -> anyhow::Result<Reply> {
        self.stream.write_all_buf(&mut self.out).await?;
        loop {
            if let Some(reply) = reply(&mut self.input)? {
                return Ok(reply);
            }
            anyhow::ensure!(self.stream.read_buf(&mut self.input).await? > 0, "the server hung up");
        }
    }
}

/// Appends a command: an array of strings.
fn command(out: &mut BytesMut, parts: &[&[u8]]) {
    put_length(out, b'*', parts.len());
    for part in parts {
        put_length(out, b'$', part.len());
        out.put_slice(part);
        out.put_slice(b"\r\n");
    }
}

fn put_length(out: &mut BytesMut, kind: u8, length: usize) {
    out.put_u8(kind);
    out.put_slice(length.to_string().as_bytes());
    out.put_slice(b"\r\n");
}

#[derive(Debug, PartialEq, Eq)]
enum Reply {
    Done,
    /// A value of so many bytes, or none.
    Value(Option<usize>),
}

/// Takes one reply from the input; `None` when it is not all there yet.
fn reply(input: &mut BytesMut) -> anyhow::Result<Option<Reply>> {
    let Some(end) = input.windows(2).position(|two| two == b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&input[..end]).context("the answer is not Redis's")?;
    let (used, reply) = match line.split_at_checked(1) {
        Some(("+", _)) => (end + 2, Reply::Done),
        Some(("$", "-1")) => (end + 2, Reply::Value(None)),
        Some(("$", length)) => {
            let length: usize = length.parse().context("the length of a value")?;
            anyhow::ensure!(length <= 512 << 20, "a value of {length} bytes");
            (end + 2 + length + 2, Reply::Value(Some(length)))
        }
        _ => anyhow::bail!("the server answered {line:?}"),
    };
    if input.len() < used {
        return Ok(None);
    }
    input.advance(used);
    Ok(Some(reply))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_arrays_of_strings() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"SET", b"k", b"0123456789"]);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$10\r\n0123456789\r\n");
    }

    #[test]
    fn replies_are_taken_whole_and_one_at_a_time() {
        let all = b"$4\r\na\r\nb\r\n+OK\r\n$-1\r\n";
        for cut in 0..10 {
            let mut input = BytesMut::from(&all[..cut]);
            assert_eq!(reply(&mut input).expect("no error"), None, "cut at {cut}");
        }
        let mut input = BytesMut::from(&all[..]);
        for expected in [Reply::Value(Some(4)), Reply::Done, Reply::Value(None)] {
            assert_eq!(reply(&mut input).expect("no error"), Some(expected));
        }
        assert!(input.is_empty());
    }

    #[test]
    fn errors_of_the_server_are_told() {
        let error = reply(&mut BytesMut::from("-MISCONF disk\r\n")).expect_err("an error");
        assert!(error.to_string().contains("MISCONF disk"), "{error}");
    }
}
