//! Deploys and rollbacks under load: whether a request fails, and what the server's memory does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use serde_json::json;

use super::load;
use crate::Addr;
use crate::admin::{Admin, hosting, number_of, numbered};

/// Requests that one look at the clock is worth.
const REQUESTS: u64 = 5_000;
/// Modules that take turns: each is compiled once, and is in the cache after that.
const MODULES: u64 = 20;

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Deploys and rollbacks together: every fourth is a rollback.
    pub changes: u64,
    /// Connections that ask all the time.
    pub connections: usize,
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests that were answered.
    pub served: u64,
    /// Requests that were not, or not well.
    pub errors: u64,
    /// The slowest of 99 in 100, in the worst stretch.
    pub p99: Duration,
    /// A change, on the average.
    pub change: Duration,
    /// The server's memory when a tenth of the changes were done, and at the end.
    pub rss_early: u64,
    /// See there.
    pub rss_late: u64,
}

/// Runs the plan.
///
/// # Errors
/// A change was refused, a change that was done is not what is served, or nothing could be measured.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let state = tempfile::tempdir()?;
    let server = hosting(state.path()).start();
    let admin = Admin::of(state.path());
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    let refused = |refused: crate::admin::Refused| anyhow!("refused: {refused:?}");
    let settings = json!({ "routes": ["a.test/*"] });
    admin.deploy("a", &numbered(0), &settings)?.map_err(refused)?;
    let over = AtomicBool::new(false);
    let asked = load::Plan {
        addr,
        host: "a.test".to_owned(),
        path: "/".to_owned(),
        connections: plan.connections,
        requests: REQUESTS,
        within: Duration::from_secs(60),
    };
    thread::scope(|scope| {
        let (over, asked) = (&over, &asked);
        let load = scope.spawn(move || {
            let (mut served, mut errors, mut p99) = (0, 0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                let report = load::run(asked)?;
                served += report.served;
                errors += report.errors;
                p99 = p99.max(report.p99);
            }
            anyhow::Ok((served, errors, p99))
        });
        let began = Instant::now();
        let mut rss_early = 0;
        let changes = (1..=plan.changes).try_for_each(|change| {
            let done = match change % 4 {
                0 => admin.rollback("a")?,
                _ => admin.deploy("a", &numbered(change % MODULES), &json!({}))?,
            };
            done.map_err(refused)?;
            let response = server.get("a.test", "/");
            let number = number_of(&response).with_context(|| format!("{response:?}"))?;
            ensure!(
                change % 4 == 0 || number == change % MODULES,
                "version {number} serves after change {change}"
            );
            if change == plan.changes.div_ceil(10) {
                rss_early = server.rss_bytes();
            }
            anyhow::Ok(())
        });
        let change = began.elapsed() / u32::try_from(plan.changes)?;
        over.store(true, Ordering::Relaxed);
        let (served, errors, p99) = load.join().map_err(|_| anyhow!("the load panicked"))??;
        changes?;
        Ok(Report { served, errors, p99, change, rss_early, rss_late: server.rss_bytes() })
    })
}
