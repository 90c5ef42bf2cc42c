//! A thousand deploys and rollbacks while 50 connections ask: no request fails, and memory stays what it was.

use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::deploys::{Plan, run};
use tidegate_tests::bench::{finish, judge, raise_fd_limit, warn_if_unoptimised};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan { changes: args.get("changes", 1000)?, connections: args.get("connections", 50)? };
    args.done()?;
    warn_if_unoptimised();
    raise_fd_limit()?;
    let report = run(&plan)?;
    println!("{report:?}");
    let failed = judge("requests that failed", report.errors as f64, "", 0.0);
    let growth = report.rss_late as f64 / report.rss_early.max(1) as f64;
    let flat = judge("memory at the end, of what it was early", growth, "x", 1.1);
    finish(failed && flat)
}
