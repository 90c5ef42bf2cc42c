//! A server that is killed 200 times while versions are deployed and rolled back: after each restart exactly the old or
//! the new version serves.

use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::hosting_kill::{Plan, run};
use tidegate_tests::bench::random::Random;
use tidegate_tests::bench::warn_if_unoptimised;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan { kills: args.get("kills", 200)?, seed: args.get("seed", Random::seed())? };
    args.done()?;
    warn_if_unoptimised();
    println!("--kills {} --seed {}", plan.kills, plan.seed);
    // Whatever is wrong ends it.
    println!("{:#?}", run(&plan));
    Ok(())
}
