//! Clients of `echo` that send as much as they are let and read slowly: what the server then holds is bounded.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::net::{SendFlags, send};

use crate::http::{Body, Client};
use crate::pattern::Pattern;
use crate::stream::Stream;
use crate::wait::PATIENCE;

/// One slow reader.
pub struct Reader {
    client: Client,
    body: Option<Body>,
    sending: Pattern,
    pending: Vec<u8>,
    left: u64,
    expected: Pattern,
    piece: Vec<u8>,
}

impl Reader {
    /// Connects, and announces a body of `total` bytes that it will send.
    pub fn open(addr: std::net::SocketAddr, host: &str, total: u64, seed: u64) -> anyhow::Result<Self> {
        let mut client = Client::over(Stream::connect_with_receive_buffer(addr, 16 * 1024, PATIENCE)?);
        client.send(format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {total}\r\n\r\n"))?;
        Ok(Self {
            client,
            body: None,
            sending: Pattern::new(seed),
            pending: Vec::new(),
            left: total,
            expected: Pattern::new(seed),
            piece: Vec::new(),
        })
    }

    /// Sends as much as the socket takes now, at most `most` bytes. Returns the number.
    pub fn push(&mut self, most: usize) -> anyhow::Result<usize> {
        let mut sent = 0;
        while sent < most {
            if self.pending.is_empty() {
                let block = self.left.min(64 * 1024) as usize;
                if block == 0 {
                    break;
                }
                self.pending = self.sending.take(block);
                self.left -= block as u64;
            }
            match send(self.client.stream(), &self.pending, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.pending.drain(..n);
                    sent += n;
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(io::Error::from(error)).context("sending"),
            }
        }
        Ok(sent)
    }

    /// Waits for some bytes, at most `most`, and compares them with what was sent.
    pub fn pull(&mut self, most: usize) -> anyhow::Result<usize> {
        if self.body.is_none() {
            let head = self.client.head()?;
            ensure!(head.status == 200, "{head:?}");
            self.body = Some(self.client.body(&head)?);
        }
        let body = self.body.as_mut().context("a body")?;
        self.piece.clear();
        let n = self.client.read_body(body, &mut self.piece, most)?;
        ensure!(n > 0, "the body ended: {:?}", body.end());
        ensure!(self.expected.check(&self.piece).is_ok(), "bytes differ from what was sent");
        Ok(n)
    }
}

/// Lets all readers send what they can and read about `bytes_per_s` each, for `time`.
pub fn dawdle(readers: &mut [Reader], bytes_per_s: usize, time: Duration) -> anyhow::Result<()> {
    let started = Instant::now();
    let tick = Duration::from_millis(50);
    let each = (bytes_per_s / 20).max(1);
    while started.elapsed() < time {
        let begun = Instant::now();
        for reader in readers.iter_mut() {
            reader.push(1 << 20)?;
            reader.pull(each)?;
        }
        thread::sleep(tick.saturating_sub(begun.elapsed()));
    }
    Ok(())
}
