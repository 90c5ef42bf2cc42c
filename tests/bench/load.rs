//! The load generator by hand: `load --addr 127.0.0.1:8080 --connections 1000 --requests 100000`.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::load::{Plan, run};
use tidegate_tests::bench::{pin, raise_fd_limit};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let addr: SocketAddr = args.optional("addr")?.context("--addr IP:PORT is missing")?;
    ensure!(addr.ip().is_loopback(), "only the loopback is loaded");
    let plan = Plan {
        addr,
        host: args.get("host", addr.to_string())?,
        path: args.get("path", "/".to_owned())?,
        connections: args.get("connections", 32)?,
        requests: args.get("requests", 100_000)?,
        within: Duration::from_secs(args.get("seconds", 60)?),
    };
    let cpu = args.optional("cpu")?;
    args.done()?;
    if let Some(cpu) = cpu {
        pin(cpu)?;
    }
    raise_fd_limit()?;
    let report = run(&plan)?;
    let rate = report.served as f64 / report.elapsed.as_secs_f64();
    println!("{} served, {} errors in {:?}: {rate:.0}/s", report.served, report.errors, report.elapsed);
    println!("p50 {:?}  p99 {:?}  max {:?}", report.p50, report.p99, report.max);
    ensure!(report.errors == 0, "there were errors");
    Ok(())
}
