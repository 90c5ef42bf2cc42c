//! Hello beside four endless loops of another app, on one worker: the 99th percentile is at most 20 ms.

use std::time::Duration;

use anyhow::{bail, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::load::{Plan, run};
use tidegate_tests::bench::{finish, judge, pin, warn_if_unoptimised};
use tidegate_tests::{Addr, App, Client, Server, wait};

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let spins: usize = args.get("spins", 4)?;
    let requests: u64 = args.get("requests", 2_000)?;
    let connections: usize = args.get("connections", 1)?;
    args.done()?;
    warn_if_unoptimised();

    let spin = App::guest("spin").limit("cpu", "60s").limit("wall", "120s");
    let server = Server::builder().app(spin).app(App::guest("hello")).option("--workers", "1").cpu(0).start();
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    pin(1)?;
    let mut loops: Vec<Client> = (0..spins).map(|_| server.client()).collect();
    let before = server.cpu_time();
    for client in &mut loops {
        client.send_get("spin.test", "/")?;
    }
    wait::until("the loops run", || server.cpu_time() - before > Duration::from_millis(100));

    let within = Duration::from_secs(40);
    let plan =
        Plan { addr, host: "hello.test".to_owned(), path: "/".to_owned(), connections, requests, within };
    let report = run(&plan)?;
    println!("{} of {requests} served beside {spins} loops in {:.2?}", report.served, report.elapsed);
    println!("p50 {:?}  p99 {:?}  max {:?}  errors {}", report.p50, report.p99, report.max, report.errors);
    ensure!(report.served > 0 && report.errors == 0, "hello was not served");
    finish(judge("p99 of hello", report.p99.as_secs_f64() * 1e3, "ms", 20.0))
}
