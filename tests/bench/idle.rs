//! What an idle keep-alive connection costs the host: 8,000 of them, each after one request. Bound: 1 KiB.

use anyhow::{Context as _, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::{finish, judge, raise_fd_limit, warn_if_unoptimised};
use tidegate_tests::{Client, Server};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let connections: usize = args.get("connections", 8_000)?;
    let warm: usize = args.get("warm", 200)?;
    args.done()?;
    warn_if_unoptimised();
    let allowed = raise_fd_limit()?;
    ensure!(allowed > (connections + warm + 100) as u64, "the limit of descriptors is {allowed}");

    let server = Server::builder().guest("hello").option("--workers", "1");
    let server = server.option("--connections", &(connections + warm + 100).to_string()).start();
    // What the first connections make the server allocate is its own, not theirs.
    let warmed = open(&server, warm)?;
    let before = server.rss_bytes();
    let idle = open(&server, connections)?;
    let after = server.rss_bytes();
    let each = after.saturating_sub(before) as f64 / connections as f64;
    println!("RSS {before} -> {after} bytes with {connections} idle connections more");
    // They were all there, and still are.
    for mut client in warmed.into_iter().chain(idle) {
        let response = client.get("a", "/").context("a connection that had been idle")?;
        ensure!(response.status() == 200, "{response:?}");
    }
    finish(judge("host memory per idle connection", each, "bytes", 1_024.0))
}

fn open(server: &Server, n: usize) -> anyhow::Result<Vec<Client>> {
    let one = |i| {
        let mut client = Client::connect(server.addr()).with_context(|| format!("connection {i}"))?;
        let response = client.get("a", "/").with_context(|| format!("connection {i}"))?;
        ensure!(response.status() == 200, "{response:?}");
        Ok(client)
    };
    (0..n).map(one).collect()
}
