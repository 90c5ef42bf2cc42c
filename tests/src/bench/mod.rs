//! What the programs in `bench/` are made of. Each measures the real server in a child process, prints its figures
//! with the bound they are held to, and fails when one is missed.

pub mod args;
pub mod baseline;
pub mod big_proxy;
pub mod density;
pub mod deploys;
pub mod hangups;
pub mod hosting_fuzz;
pub mod hosting_kill;
pub mod load;
pub mod noisy;
pub mod random;
pub mod readers;
pub mod soak;
pub mod stalled;
pub mod stats;
pub mod subject;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Pins this process's calling thread to a core, away from the server's.
pub fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).with_context(|| format!("pinning to core {cpu}"))
}

/// Raises the limit of descriptors to the hard one; children inherit it. Returns the limit.
pub fn raise_fd_limit() -> anyhow::Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .context("raising the fd limit")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Prints a figure and whether it is within its bound; returns the latter.
pub fn judge(what: &str, figure: f64, unit: &str, most: f64) -> bool {
    let good = figure <= most;
    let verdict = if good { "ok" } else { "MISSED" };
    println!("{what:<44} {figure:>10.2} {unit:<6} (at most {most} {unit}) {verdict}");
    good
}

/// Ends the program: status 1 when a bound was missed.
pub fn finish(good: bool) -> anyhow::Result<()> {
    anyhow::ensure!(good, "a bound was missed");
    Ok(())
}

/// The debug build measures nothing that anyone wants to know.
pub fn warn_if_unoptimised() {
    if cfg!(debug_assertions) {
        eprintln!("warning: an unoptimised build; run with --release for figures that mean something");
    }
}
