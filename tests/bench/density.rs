//! 2,000 apps with distinct modules in one process: the first request to a cold one within 10 ms at the median, the process
//! under 1 GiB.

use std::path::PathBuf;

use anyhow::Context as _;
use tidegate_tests::artifacts;
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::density::{Footprint, Hosted, Plan, host};
use tidegate_tests::bench::{finish, judge, pin, raise_fd_limit, warn_if_unoptimised};

const MIB: f64 = (1 << 20) as f64;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let apps: usize = args.get("apps", 2_000)?;
    // A file in place of the guest `hello`: a component, for one.
    let file: String = args.get("file", String::new())?;
    args.done()?;
    warn_if_unoptimised();
    raise_fd_limit()?;
    pin(1)?;

    let state = tempfile::tempdir().context("a folder for compiled modules")?;
    let guest = if file.is_empty() { artifacts::guest("hello") } else { PathBuf::from(file) };
    let plan = Plan { apps, loaded: None, guest, cpu: Some(0), state: state.path().to_path_buf() };
    let Hosted { deploys, report, redeploys } = host(&plan)?;
    println!("{apps} apps were deployed in {deploys:.1?}; the next start took {:.2?}", report.start);
    let [p50, p99, max] = [50, 99, 100].map(|percent| report.percentile(percent));
    println!("first request to a cold app: p50 {p50:.2?}  p99 {p99:.2?}  max {max:.2?}");
    for (when, footprint) in [("all cold", report.before), ("all in memory", report.after)] {
        let Footprint { rss_bytes, anon_bytes, descriptors, mappings } = footprint;
        let (rss, anon) = (rss_bytes as f64 / MIB, anon_bytes as f64 / MIB);
        println!(
            "{when}: {rss:.0} MiB ({anon:.0} not of files), {descriptors} descriptors, {mappings} mappings"
        );
    }
    println!(
        "a deploy among them: p50 {:.2?}  max {:.2?}",
        redeploys[redeploys.len() / 2],
        redeploys[redeploys.len() - 1]
    );
    let good = judge("first request to a cold app, p50", p50.as_secs_f64() * 1e3, "ms", 10.0);
    finish(judge("memory with all apps in it", report.after.rss_bytes as f64 / MIB, "MiB", 1_024.0) && good)
}
