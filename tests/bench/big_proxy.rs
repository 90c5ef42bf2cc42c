//! 1 GB through the guest `proxy`, up to an upstream that reads at 1 MB/s for a while and then as fast as it can, and as
//! much down to such a client; every byte is compared, peak RSS stays under 64 MiB.

use std::time::Duration;

use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::big_proxy::{Plan, Way, run};
use tidegate_tests::bench::{finish, judge, warn_if_unoptimised};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan {
        total: args.get("bytes", 1_000_000_000)?,
        slow: Duration::from_secs(args.get("slow-seconds", 10)?),
        slow_rate: args.get("slow-rate", 1_000_000)?,
    };
    args.done()?;
    warn_if_unoptimised();

    let mut good = true;
    for (way, name) in [(Way::Up, "up"), (Way::Down, "down")] {
        let report = run(&plan, way)?;
        println!("{} bytes {name} in {:.2?}, every byte compared", plan.total, report.took);
        println!("server CPU {:.3} s", report.cpu.as_secs_f64());
        let peak = report.rss_peak as f64 / f64::from(1 << 20);
        good &= judge(&format!("peak RSS, {name}"), peak, "MiB", 64.0);
    }
    finish(good)
}
