//! The writing half of a connection: takes everything that is queued, encodes it into one buffer, writes it at once.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use super::codec::Codec;
use super::connection::Disconnect;
use super::faults::LinkFaults;
use super::outbound::Outbound;
use super::settings::NetSettings;
use crate::messages::wire::Packet;

type Sink = Box<dyn AsyncWrite + Send + Unpin>;

/// Writes what comes out of a queue. When it is dropped, what was not encoded yet goes back into the queue.
pub(super) struct Writer<'a> {
    sink: Sink,
    codec: Codec,
    outbound: &'a Outbound,
    faults: &'a LinkFaults,
    write_batch: usize,
    stuck_after: Duration,
    /// Taken from the queue, to be encoded.
    batch: VecDeque<(Packet, usize)>,
    /// Waits for its time, when there is a delay on purpose.
    held: VecDeque<(Instant, (Packet, usize))>,
    /// Encoded, to be written.
    buffer: BytesMut,
    /// Packets and bytes (by cost) in `buffer`.
    encoded: (usize, usize),
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        sink: Sink,
        outbound: &'a Outbound,
        faults: &'a LinkFaults,
        settings: &NetSettings,
    ) -> Self {
        Writer {
            sink,
            codec: Codec::new(settings.max_frame),
            outbound,
            faults,
            write_batch: settings.write_batch,
            stuck_after: settings.idle_timeout,
            batch: VecDeque::new(),
            held: VecDeque::new(),
            buffer: BytesMut::new(),
            encoded: (0, 0),
        }
    }

    /// Writes until it fails.
    pub(super) async fn run(&mut self) -> Disconnect {
        loop {
            self.next_batch().await;
            while !self.batch.is_empty() {
                self.encode();
                if let Err(end) = self.flush().await {
                    return end;
                }
            }
        }
    }

    /// The sink, unless a frame is half written, so that nothing sensible can follow.
    pub(super) fn between_frames(&mut self) -> Option<&mut Sink> {
        if self.buffer.is_empty() { Some(&mut self.sink) } else { None }
    }

    /// Waits until there is something to encode. Safe to cancel.
    async fn next_batch(&mut self) {
        loop {
            let now = Instant::now();
            while let Some((_, packet)) = self.held.pop_front_if(|(due, _)| *due <= now) {
                self.batch.push_back(packet);
            }
            if !self.batch.is_empty() {
                return;
            }
            match self.held.front().map(|(due, _)| *due) {
                None => self.outbound.next_batch(&mut self.batch).await,
                Some(due) => tokio::select! {
                    biased;
                    () = sleep_until(due) => {}
                    () = self.outbound.next_batch(&mut self.batch) => {}
                },
            }
            if self.faults.any() || !self.held.is_empty() {
                self.hold_or_lose();
            }
        }
    }

    /// Applies the faults on purpose to the fresh batch.
    fn hold_or_lose(&mut self) {
        for (packet, cost) in std::mem::take(&mut self.batch) {
            if is_control(cost) {
                self.batch.push_back((packet, cost));
            } else if self.faults.loses_one() {
                self.outbound.written(1, cost);
            } else {
                if self.faults.duplicates_one() {
                    // The queue knows of one packet only.
                    self.hold((packet.clone(), 0));
                }
                self.hold((packet, cost));
            }
        }
    }

    /// Holds a packet until its time: behind all others, unless packets are to overtake each other.
    fn hold(&mut self, packet: (Packet, usize)) {
        let due = Instant::now() + self.faults.delay();
        let place = match self.faults.scatters() {
            true => self.held.partition_point(|(other, _)| *other <= due),
            false => self.held.len(),
        };
        self.held.insert(place, (due, packet));
    }

    /// Encodes packets until the buffer is full enough for a write.
    fn encode(&mut self) {
        while self.buffer.len() < self.write_batch
            && let Some((packet, cost)) = self.batch.pop_front()
        {
            if let Err(error) = self.codec.encode(&packet, &mut self.buffer) {
                // The queue takes nothing whose bound is above the limit, so the bound was wrong.
                tracing::error!(%error, "a packet could not be encoded and is lost");
            }
            if !is_control(cost) {
                self.encoded.0 += 1;
                self.encoded.1 += cost;
            }
        }
    }

    /// Writes the buffer out.
    async fn flush(&mut self) -> Result<(), Disconnect> {
        while !self.buffer.is_empty() {
            match timeout(self.stuck_after, self.sink.write(&self.buffer)).await {
                Err(_) => return Err(Disconnect::Stuck(self.stuck_after)),
                Ok(Ok(0)) => return Err(Disconnect::Io(std::io::ErrorKind::WriteZero.into())),
                Ok(Ok(written)) => self.buffer.advance(written),
                Ok(Err(error)) => return Err(Disconnect::Io(error)),
            }
        }
        let (packets, bytes) = std::mem::take(&mut self.encoded);
        self.outbound.written(packets, bytes);
        Ok(())
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        let (packets, bytes) = self.encoded;
        self.outbound.written(packets, bytes);
        let mut rest: VecDeque<_> = self.held.drain(..).map(|(_, packet)| packet).collect();
        rest.append(&mut self.batch);
        self.outbound.give_back(rest);
    }
}

/// Pings and pongs, and copies made on purpose, do not count against the queue: their cost is 0 there.
fn is_control(cost: usize) -> bool {
    cost == 0
}
