//! 200 clients of `echo` at once that send all they can and read slowly: 256 KiB each, plus a fixed base.

use std::time::Duration;

use anyhow::bail;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::readers::{Reader, dawdle};
use tidegate_tests::bench::{finish, judge, raise_fd_limit, warn_if_unoptimised};
use tidegate_tests::{Addr, Server};

/// What the server itself may take: engine, pool, code, one worker.
const BASE_MIB: f64 = 64.0;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let readers: usize = args.get("readers", 200)?;
    let rate: usize = args.get("rate", 20_000)?;
    let time = Duration::from_secs(args.get("seconds", 15)?);
    args.done()?;
    warn_if_unoptimised();
    raise_fd_limit()?;

    let server = Server::builder().guest("echo").option("--workers", "1").start();
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    let before = server.rss_bytes();
    let open = |seed| Reader::open(addr, "a", 1_000_000_000, seed as u64);
    let mut readers: Vec<Reader> = (0..readers).map(open).collect::<Result<_, _>>()?;
    dawdle(&mut readers, rate, time)?;
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let (now, peak) = (mib(server.rss_bytes()), mib(server.rss_peak_bytes()));
    let each = (now - mib(before)) * 1_024.0 / readers.len() as f64;
    println!("RSS {:.1} MiB before, {now:.1} now: {each:.1} KiB a reader", mib(before));
    finish(judge("peak RSS", peak, "MiB", BASE_MIB + readers.len() as f64 * 0.25))
}
