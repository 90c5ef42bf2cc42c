//! A load generator: one thread, one epoll, keep-alive connections, one request at a time on each.
//!
//! Closed loop: a connection sends its next request when the last response has come, so a slow server gets fewer
//! requests, and latencies are those of a client that waits its turn.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::stats::percentile;

/// What to send.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where.
    pub addr: SocketAddr,
    /// The Host header.
    pub host: String,
    /// The path.
    pub path: String,
    /// Connections, all open from the start.
    pub connections: usize,
    /// Responses to wait for, over all connections.
    pub requests: u64,
    /// The run ends after this long even if responses are missing.
    pub within: Duration,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Responses with status 200.
    pub served: u64,
    /// Other statuses, and connections that ended (they are opened again).
    pub errors: u64,
    /// From the first request to the last response.
    pub elapsed: Duration,
    /// Half of the responses took at most this.
    pub p50: Duration,
    /// 99 of 100 responses took at most this.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

struct Line {
    stream: TcpStream,
    buf: Vec<u8>,
    sent: usize,
    started: Instant,
    idle: bool,
}

struct Run {
    poll: Poll,
    request: Vec<u8>,
    lines: Vec<Line>,
    begun: u64,
    plan: Plan,
    micros: Vec<u32>,
    errors: u64,
}

/// Runs the plan. Errors: no connection, bytes that are no response, or no progress at all.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let Plan { host, path, .. } = plan;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let micros = Vec::with_capacity(usize::try_from(plan.requests)?);
    let poll = Poll::new()?;
    let mut run = Run { poll, request, lines: Vec::new(), begun: 0, plan: plan.clone(), micros, errors: 0 };
    for index in 0..plan.connections {
        let line = run.open(index)?;
        run.lines.push(line);
    }
    run.drive()
}

impl Run {
    fn open(&self, index: usize) -> anyhow::Result<Line> {
        let stream = std::net::TcpStream::connect_timeout(&self.plan.addr, Duration::from_secs(10));
        let stream = stream.with_context(|| format!("connection {index} to {}", self.plan.addr))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Line { stream, buf: Vec::with_capacity(4_096), sent: 0, started: Instant::now(), idle: true })
    }

    fn drive(mut self) -> anyhow::Result<Report> {
        let started = Instant::now();
        let mut events = Events::with_capacity(1_024);
        for index in 0..self.lines.len() {
            self.advance(index)?;
        }
        while (self.micros.len() as u64 + self.errors) < self.plan.requests {
            if started.elapsed() > self.plan.within {
                break;
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(200))) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result?,
            }
            for event in &events {
                self.advance(event.token().0)?;
            }
        }
        Ok(self.report(started.elapsed()))
    }

    fn report(mut self, elapsed: Duration) -> Report {
        self.micros.sort_unstable();
        let at = |percent| Duration::from_micros(u64::from(percentile(&self.micros, percent)));
        Report {
            served: self.micros.len() as u64,
            errors: self.errors,
            elapsed,
            p50: at(50.0),
            p99: at(99.0),
            max: at(100.0),
        }
    }

    /// Does what a connection can do now: send the rest of a request, take a response, begin the next.
    fn advance(&mut self, index: usize) -> anyhow::Result<()> {
        loop {
            if self.lines[index].idle {
                if self.begun >= self.plan.requests {
                    return Ok(());
                }
                self.begun += 1;
                let line = &mut self.lines[index];
                (line.idle, line.sent, line.started) = (false, 0, Instant::now());
            }
            match self.exchange(index) {
                Ok(Some(status)) => {
                    let line = &mut self.lines[index];
                    line.idle = true;
                    if status == 200 {
                        let micros = line.started.elapsed().as_micros();
                        self.micros.push(u32::try_from(micros).unwrap_or(u32::MAX));
                    } else {
                        self.errors += 1;
                    }
                }
                Ok(None) => return Ok(()),
                Err(error) => {
                    self.errors += 1;
                    ensure!(self.errors < 1_000, "a thousand errors; the last: {error}");
                    self.lines[index] = self.open(index)?;
                }
            }
        }
    }

    fn exchange(&mut self, index: usize) -> anyhow::Result<Option<u16>> {
        let line = &mut self.lines[index];
        if line.sent < self.request.len() {
            while line.sent < self.request.len() {
                match line.stream.write(&self.request[line.sent..]) {
                    Ok(n) => line.sent += n,
                    Err(error) if would_wait(&error) => return Ok(None),
                    Err(error) => return Err(error.into()),
                }
            }
            // The response cannot be there yet; its arrival is the next edge. Reading now would only make the
            // generator, rather than the server, the one that is busy.
            return Ok(None);
        }
        let mut piece = [0; 16 * 1024];
        loop {
            match line.stream.read(&mut piece) {
                Ok(0) => bail!("the connection ended"),
                Ok(n) => {
                    line.buf.extend_from_slice(&piece[..n]);
                    if let Some((status, length)) = whole_response(&line.buf)? {
                        line.buf.drain(..length);
                        return Ok(Some(status));
                    }
                }
                Err(error) if would_wait(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn would_wait(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected)
}

/// Status and length of the response at the start of `buf`, once it is all there.
fn whole_response(buf: &[u8]) -> anyhow::Result<Option<(u16, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(buf)? else { return Ok(None) };
    let status = response.code.context("a status")?;
    let length = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.context("the load generator wants responses with Content-Length")?;
    let length: usize = std::str::from_utf8(length.value)?.trim().parse()?;
    Ok((buf.len() >= head + length).then_some((status, head + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_is_whole_when_its_body_is() {
        let bytes = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for cut in 0..bytes.len() {
            assert_eq!(whole_response(&bytes[..cut]).unwrap(), None);
        }
        assert_eq!(whole_response(bytes).unwrap(), Some((200, bytes.len())));
        assert!(whole_response(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(whole_response(b"nonsense\r\n\r\n").is_err());
    }
}
