//! 100,000 damaged modules and components through deploy: each is refused with its reason or serves, within the limits of
//! its child; the server lives, and another app beside them never fails.

use anyhow::ensure;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::hosting_fuzz::{Plan, run};
use tidegate_tests::bench::random::Random;
use tidegate_tests::bench::{finish, judge, warn_if_unoptimised};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan {
        modules: args.get("modules", 100_000)?,
        seed: args.get("seed", Random::seed())?,
        first: args.get("first", 0)?,
    };
    args.done()?;
    warn_if_unoptimised();
    println!("--modules {} --seed {}", plan.modules, plan.seed);
    let report = run(&plan);
    println!("{report:#?}");
    ensure!(report.served > 0, "the other app was never asked");
    ensure!(
        plan.modules < 100 || report.compilation_most.0 > 0.0,
        "nobody said what compilations took: {:?}",
        report.compiled
    );
    let mut good = judge("answers that should not be", report.wrong.len() as f64, "", 0.0);
    good &= judge("requests to another app that failed", report.failed as f64, "", 0.0);
    // The wall time of a compilation, and what else there is to a deploy.
    good &= judge("the longest deploy", report.longest.0.as_secs_f64(), "s", 185.0);
    // A second of wall time is what each may have.
    let (bytes, seconds) = report.compilation_most;
    good &= judge("the most memory of a compilation", bytes / f64::from(1 << 20), "MiB", 4096.0);
    // The kernel looks once a tick.
    good &= judge("the most CPU time of a compilation", seconds, "s", 121.0);
    let failed = report.compiled.get("failed").copied().unwrap_or(0);
    good &= judge("compilations that could not be run", failed as f64, "", 0.0);
    good &= judge("the longest answer", report.longest_answer.0.as_secs_f64(), "s", 10.0);
    finish(good)
}
