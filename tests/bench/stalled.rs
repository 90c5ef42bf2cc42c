//! Hello beside 200 requests that wait for a Redis that stands still, on one worker: the 99th percentile is at most 5 ms.

use anyhow::Context as _;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::stalled::{Plan, run};
use tidegate_tests::bench::{finish, judge, pin, raise_fd_limit, warn_if_unoptimised};
use tidegate_tests::{App, Redis};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let plan = Plan {
        waiting: args.get("waiting", 200)?,
        requests: args.get("requests", 20_000)?,
        connections: args.get("connections", 8)?,
        cpu: Some(0),
    };
    let guest: String = args.get("guest", "redis_module".to_owned())?;
    args.done()?;
    warn_if_unoptimised();
    raise_fd_limit()?;

    let redis = Redis::start().context("there is no Redis to wait for")?;
    pin(1)?;
    let report = run(&plan, &redis, App::guest(&guest))?;
    for (when, hello) in [("alone", &report.alone), ("beside", &report.beside)] {
        println!("{when}: p50 {:?}  p99 {:?}  max {:?}", hello.p50, hello.p99, hello.max);
    }
    let what = format!("hello beside {} that wait, p99", plan.waiting);
    finish(judge(&what, report.beside.p99.as_secs_f64() * 1e3, "ms", 5.0))
}
