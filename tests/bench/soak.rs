//! 100,000 requests alternating over trap, bomb, recurse, silent, unfinished and hello: every hello is served, memory
//! stays within 10 % of what it was after the first 1,000, and no descriptor is lost.

use anyhow::ensure;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::soak::{Plan, run};
use tidegate_tests::bench::{finish, judge, warn_if_unoptimised};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan {
        requests: args.get("requests", 100_000)?,
        settle: args.get("settle", 1_000)?,
        connections: args.get("connections", 16)?,
    };
    args.done()?;
    warn_if_unoptimised();
    let report = run(&plan);
    println!("{report:#?}");
    ensure!(report.hello_served > 0, "no hello was served");
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let mut good = judge("hellos that failed", report.hello_failed as f64, "", 0.0);
    good &= judge("failures of another kind than expected", report.wrong as f64, "", 0.0);
    let (after, most) = (mib(report.rss_after), mib(report.rss_settled) * 1.1);
    good &= judge("RSS at the end", after, "MiB", (most * 100.0).round() / 100.0);
    good &= judge("descriptors at the end", report.fds_after as f64, "", report.fds_settled as f64);
    finish(good)
}
