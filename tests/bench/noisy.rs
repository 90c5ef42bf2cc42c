//! Hello beside the worst neighbours there are, on one worker: four apps that spin, one that takes memory until its limit stops
//! it, over and over, and one that floods its log. The 99th percentile of hello is at most 20 ms.

use std::time::Duration;

use anyhow::{bail, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::load::{Plan, run};
use tidegate_tests::bench::{finish, judge, noisy, pin, warn_if_unoptimised};
use tidegate_tests::{Addr, wait};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let requests: u64 = args.get("requests", 2_000)?;
    let connections: usize = args.get("connections", 4)?;
    let memory: String = args.get("memory", "32MiB".to_owned())?;
    let seconds: u64 = args.get("seconds", 40)?;
    args.done()?;
    warn_if_unoptimised();

    let server = noisy::server(&memory, Some(0));
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    pin(1)?;
    let within = Duration::from_secs(seconds);
    let plan =
        Plan { addr, host: "hello.test".to_owned(), path: "/".to_owned(), connections, requests, within };
    let alone = run(&plan)?;
    let neighbours = noisy::Neighbours::begin(&server);
    wait::until("they make noise", || neighbours.all_have_begun());
    let beside = run(&plan)?;
    let noise = neighbours.end();
    for (when, hello) in [("alone", &alone), ("beside", &beside)] {
        let (p50, p99, max) = (hello.p50, hello.p99, hello.max);
        println!(
            "{when}: {} served in {:.2?}  p50 {p50:?}  p99 {p99:?}  max {max:?}",
            hello.served, hello.elapsed
        );
    }
    println!("meanwhile: {noise}");
    ensure!(beside.served > 0 && beside.errors == 0, "hello was not served");
    finish(judge("p99 of hello", beside.p99.as_secs_f64() * 1e3, "ms", 20.0))
}
