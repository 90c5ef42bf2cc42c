//! Hello world as a `wasi:http` component, server CPU per request: here and in `wasmtime serve`, each with a fresh instance
//! per request and with instances reused, and the module guest beside them, in turn on one pinned core, with the load
//! generator on another. The ratios are what counts; their medians over the rounds are held to 0.6 (fresh) and 0.8 (reused).

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, bail};
use tidegate_tests::Addr;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::subject::{LOAD_CPU, SERVER_CPU, Subject};
use tidegate_tests::bench::{finish, judge, pin, warn_if_unoptimised};
use tidegate_tests::oracle::Oracle;
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::server::{Builder, Server};

/// What makes `wasmtime serve` fast, and what it keeps of an instance's memory the same as we do. Its tasks run on as many
/// threads as there are cores for it: one.
const TUNED: [&str; 3] = [
    "--no-logging-prefix",
    "-Opooling-allocator=y,pooling-pagemap-scan=auto",
    "-Opooling-memory-keep-resident=65536,pooling-table-keep-resident=65536,pooling-async-stack-keep-resident=65536",
];
const FRESH: [&str; 2] = ["--max-instance-reuse-count", "1"];
const REUSED: [&str; 4] = ["--max-instance-reuse-count", "1000000", "--idle-instance-timeout", "60s"];

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let rounds: usize = args.get("rounds", 7)?;
    let requests: u64 = args.get("requests", 40_000)?;
    let connections: usize = args.get("connections", 32)?;
    args.done()?;
    warn_if_unoptimised();

    let component = rust_component("hello");
    let ours = || Server::builder().module(&component);
    let (fresh, reused) = (start(ours()), start(reusing(ours())));
    let module = || Server::builder().guest("hello");
    let (module_fresh, module_reused) = (start(module()), start(reusing(module())));
    // Children inherit the core.
    pin(SERVER_CPU)?;
    let oracle_fresh = start_oracle(&component, &FRESH)?;
    let oracle_reused = start_oracle(&component, &REUSED)?;
    pin(LOAD_CPU)?;

    let mut subjects = [
        Subject::new("component, fresh", fresh.pid(), tcp(fresh.addr())?),
        Subject::new("component, reused", reused.pid(), tcp(reused.addr())?),
        Subject::new("module, fresh", module_fresh.pid(), tcp(module_fresh.addr())?),
        Subject::new("module, reused", module_reused.pid(), tcp(module_reused.addr())?),
        Subject::new("wasmtime serve, fresh", oracle_fresh.pid(), tcp(oracle_fresh.addr())?),
        Subject::new("wasmtime serve, reused", oracle_reused.pid(), tcp(oracle_reused.addr())?),
    ];
    // One round that is not counted warms everything up.
    for round in 0..=rounds {
        for subject in &mut subjects {
            subject.measure(connections, requests, round > 0)?;
        }
    }
    finish(report(&subjects))
}

fn report(subjects: &[Subject; 6]) -> bool {
    let idle = subjects.iter().filter(|subject| !subject.report()).count();
    if idle > 0 {
        println!(
            "warning: a core was not kept busy: something else runs on this machine, and the figures suffer"
        );
    }
    let [fresh, reused, module_fresh, module_reused, oracle_fresh, oracle_reused] = subjects;
    println!("{:<44} {:>10.2} x", "component to module, fresh", fresh.ratio_to(module_fresh));
    println!("{:<44} {:>10.2} x", "component to module, reused", reused.ratio_to(module_reused));
    let good = judge("component to wasmtime serve, fresh", fresh.ratio_to(oracle_fresh), "x", 0.6);
    judge("component to wasmtime serve, reused", reused.ratio_to(oracle_reused), "x", 0.8) && good
}

fn start(builder: Builder) -> Server {
    builder.option("--workers", "1").cpu(SERVER_CPU).start()
}

fn reusing(builder: Builder) -> Builder {
    builder.option("--reuse", "1000000")
}

fn start_oracle(component: &Path, policy: &[&str]) -> anyhow::Result<Oracle> {
    let options = [&TUNED, policy].concat();
    Oracle::start(component, &options).context("there is no wasmtime to compare with")
}

fn tcp(addr: &Addr) -> anyhow::Result<SocketAddr> {
    match addr {
        Addr::Tcp(addr) => Ok(*addr),
        Addr::Unix(_) => bail!("a TCP address was asked for"),
    }
}
