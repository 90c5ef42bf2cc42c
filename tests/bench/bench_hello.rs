//! Hello world, server CPU per request: the bare loop, a reused instance, and a fresh sandbox per request, in turn on
//! one pinned core, with the load generator on another. The ratios are what counts; their medians over the rounds are
//! held to 1.25 (reused) and 2 (fresh).

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::subject::{LOAD_CPU, SERVER_CPU, Subject};
use tidegate_tests::bench::{baseline, finish, judge, pin, warn_if_unoptimised};
use tidegate_tests::server::Server;
use tidegate_tests::{Addr, Client};

/// Tells the program, started by itself, to be the bare loop.
const AS_BASELINE: &str = "--as-baseline";

/// The bare loop in a child; ended when dropped.
struct Bare(Child);

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() -> anyhow::Result<()> {
    if env::args().nth(1).as_deref() == Some(AS_BASELINE) {
        let path = env::args().nth(2).context("the file of the response")?;
        pin(SERVER_CPU)?;
        return baseline::serve(std::fs::read(path)?);
    }
    let mut args = Args::parse()?;
    let rounds: usize = args.get("rounds", 7)?;
    let requests: u64 = args.get("requests", 60_000)?;
    let connections: usize = args.get("connections", 32)?;
    args.done()?;
    warn_if_unoptimised();

    let fresh = Server::builder().guest("hello").option("--workers", "1").cpu(SERVER_CPU).start();
    let reused = Server::builder().guest("hello").option("--workers", "1").option("--reuse", "1000000");
    let reused = reused.cpu(SERVER_CPU).start();
    let (bare, bare_addr) = start_bare(&fresh)?;
    pin(LOAD_CPU)?;

    let mut subjects = [
        Subject::new("bare mio+httparse loop", bare.0.id(), bare_addr),
        Subject::new("hello, instance reused", reused.pid(), tcp(&reused)?),
        Subject::new("hello, fresh per request", fresh.pid(), tcp(&fresh)?),
    ];
    // One round that is not counted warms everything up.
    for round in 0..=rounds {
        for subject in &mut subjects {
            subject.measure(connections, requests, round > 0)?;
        }
    }
    finish(report(&subjects))
}

fn report(subjects: &[Subject; 3]) -> bool {
    let idle = subjects.iter().filter(|subject| !subject.report()).count();
    if idle > 0 {
        println!(
            "warning: a core was not kept busy: something else runs on this machine, and the figures suffer"
        );
    }
    let [bare, reused, fresh] = subjects;
    let good = judge("hello, instance reused, to the bare loop", reused.ratio_to(bare), "x", 1.25);
    judge("hello, fresh per request, to the bare loop", fresh.ratio_to(bare), "x", 2.0) && good
}

fn tcp(server: &Server) -> anyhow::Result<SocketAddr> {
    match server.addr() {
        Addr::Tcp(addr) => Ok(*addr),
        Addr::Unix(_) => bail!("a TCP address was asked for"),
    }
}

/// Starts the bare loop with the very bytes that the server answers with.
fn start_bare(server: &Server) -> anyhow::Result<(Bare, SocketAddr)> {
    let mut client = Client::connect(server.addr())?;
    client.send("GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n")?;
    client.shutdown_write()?;
    let response = client.rest()?;
    let text = String::from_utf8_lossy(&response).to_ascii_lowercase();
    ensure!(text.contains("\r\ndate: ") && text.contains("\r\ncontent-length: "), "hello answered {text:?}");
    ensure!(!text.contains("\r\nconnection: close"), "hello closes: {text:?}");
    let file = server.folder().join("response");
    std::fs::write(&file, &response)?;

    let mut command = Command::new(env::current_exe()?);
    command.arg(AS_BASELINE).arg(file).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut bare = Bare(command.spawn()?);
    let mut line = String::new();
    BufReader::new(bare.0.stdout.take().context("piped")?).read_line(&mut line)?;
    let addr = line.trim().strip_prefix("listening on http://").context("the bare loop does not listen")?;
    Ok((bare, addr.parse()?))
}
