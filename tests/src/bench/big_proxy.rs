//! Much through the guest `proxy`, up to an upstream that reads slowly for a while, or down to a client that does.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::http::Client;
use crate::pattern::Pattern;
use crate::server::{App, Server};
use crate::stream::Stream;
use crate::upstream::Peer;
use crate::wait::PATIENCE;
use crate::{Addr, End, Upstream};

const BLOCK: usize = 256 * 1024;

/// How much, and how slowly.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Bytes of the body.
    pub total: u64,
    /// The receiving side is slow for so long.
    pub slow: Duration,
    /// And takes so many bytes a second then.
    pub slow_rate: u64,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// The most resident memory of the server, in bytes.
    pub rss_peak: u64,
    /// CPU time of the server.
    pub cpu: Duration,
    /// From the first byte to the last.
    pub took: Duration,
}

/// Which way the body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the upstream.
    Up,
    /// From the upstream to the client.
    Down,
}

/// A server whose app `proxy.test` passes everything on to `upstream`.
pub fn server(upstream: &Upstream) -> Server {
    let app = App::guest("proxy").env("UPSTREAM", format!("http://{}", upstream.addr()));
    Server::builder().app(app.connect(upstream.addr())).option("--workers", "1").start()
}

/// Sends `plan.total` bytes that way through a server of its own, and compares every byte where they arrive. Errors: they
/// differ, or do not arrive.
pub fn run(plan: &Plan, way: Way) -> anyhow::Result<Report> {
    let settings = *plan;
    let upstream = Upstream::serve(move |peer| match way {
        Way::Up => take(peer, &settings),
        Way::Down => give(peer, &settings),
    });
    let server = server(&upstream);
    let cpu = server.cpu_time();
    let started = Instant::now();
    match way {
        Way::Up => upload(&server, plan)?,
        Way::Down => download(&server, plan)?,
    }
    let took = started.elapsed();
    Ok(Report { rss_peak: server.rss_peak_bytes(), cpu: server.cpu_time().saturating_sub(cpu), took })
}

/// Reads a body, slowly at first, and answers with how many bytes were as they should be.
fn take(peer: &mut Peer, plan: &Plan) -> io::Result<()> {
    let Some(head) = peer.head()? else { return Ok(()) };
    let mut body = peer.body(&head)?;
    let mut pattern = Pattern::new(1);
    let mut pace = Pace::new(plan);
    let mut piece = Vec::new();
    let mut right = 0;
    while body.read(peer, &mut piece)? > 0 {
        if let Err(at) = pattern.check(&piece) {
            let told = format!("bytes differ at {}", right + at as u64);
            return peer.respond("500 Different", "", told.as_bytes());
        }
        right += piece.len() as u64;
        pace.wait(piece.len());
        piece.clear();
    }
    peer.respond("200 OK", "", right.to_string().as_bytes())
}

fn upload(server: &Server, plan: &Plan) -> anyhow::Result<()> {
    let mut client = Client::over(Stream::connect(server.addr(), PATIENCE)?);
    let total = plan.total;
    client.send(format!("POST /up HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {total}\r\n\r\n"))?;
    let mut writer = client.writer()?;
    writer.set_deadline(plan.slow + Duration::from_secs(300));
    send(total, |block| io::Write::write_all(&mut writer, block)).context("sending")?;
    let response = client.response()?;
    ensure!(response.status() == 200 && response.end == End::Clean, "{response:?}");
    ensure!(response.text() == total.to_string(), "{} of {total} bytes arrived", response.text());
    Ok(())
}

/// Sends a body as fast as it is taken.
fn give(peer: &mut Peer, plan: &Plan) -> io::Result<()> {
    if peer.request()?.is_none() {
        return Ok(());
    }
    peer.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", plan.total))?;
    send(plan.total, |block| peer.send(block))
}

fn download(server: &Server, plan: &Plan) -> anyhow::Result<()> {
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    // A small buffer, so that the slow reader is felt soon.
    let mut client = Client::over(Stream::connect_with_receive_buffer(addr, BLOCK, PATIENCE)?);
    client.send_get("proxy.test", "/down")?;
    let head = client.head()?;
    ensure!(head.status == 200, "{head:?}");
    let mut body = client.body(&head)?;
    let mut pattern = Pattern::new(1);
    let mut pace = Pace::new(plan);
    let mut block = Vec::with_capacity(BLOCK);
    let mut received = 0;
    loop {
        block.clear();
        let most = if pace.is_slow() { 16 * 1024 } else { BLOCK };
        let n = client.read_body(&mut body, &mut block, most)?;
        if n == 0 {
            ensure!(body.end() == Some(&End::Clean), "{:?} after {received} bytes", body.end());
            ensure!(received == plan.total, "{received} of {} bytes came", plan.total);
            return Ok(());
        }
        ensure!(pattern.check(&block).is_ok(), "bytes differ in the block at {received}");
        received += n as u64;
        pace.wait(n);
    }
}

fn send(total: u64, mut write: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut pattern = Pattern::new(1);
    let mut block = vec![0; BLOCK];
    let mut left = total;
    while left > 0 {
        let n = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        pattern.fill(&mut block[..n]);
        write(&block[..n])?;
        left -= n as u64;
    }
    Ok(())
}

/// Keeps a reader slow for a while.
struct Pace {
    plan: Plan,
    started: Instant,
    read: u64,
}

impl Pace {
    fn new(plan: &Plan) -> Self {
        Self { plan: *plan, started: Instant::now(), read: 0 }
    }

    fn is_slow(&self) -> bool {
        self.started.elapsed() < self.plan.slow
    }

    fn wait(&mut self, bytes: usize) {
        self.read += bytes as u64;
        if self.is_slow() {
            let due = Duration::from_secs_f64(self.read as f64 / self.plan.slow_rate as f64);
            thread::sleep(due.min(self.plan.slow).saturating_sub(self.started.elapsed()));
        }
    }
}
