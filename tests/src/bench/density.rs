//! Thousands of apps in one process, each with a module of its own: what a cold one costs its first client, and what all
//! of them cost the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::admin::{Admin, hosting};
use crate::server::Builder;
use crate::wait::PATIENCE;
use crate::{App, Client, Server};

/// How many apps, and how many of them may have their code in memory.
#[derive(Clone, Debug)]
pub struct Plan {
    pub apps: usize,
    /// None: as many as the server thinks fit.
    pub loaded: Option<usize>,
    /// What all of them are copies of.
    pub guest: PathBuf,
    /// Runs the server on this core.
    pub cpu: Option<usize>,
    /// Where compiled modules are kept. They are shared by all runs that name the same one.
    pub state: PathBuf,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Report {
    /// Until it listened: all modules were compiled or found in the cache.
    pub start: Duration,
    /// Requests to an app that had not been called yet, in order of their time.
    pub first: Vec<Duration>,
    pub before: Footprint,
    pub after: Footprint,
}

/// What the server's process takes.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pub rss_bytes: u64,
    pub anon_bytes: u64,
    pub descriptors: usize,
    pub mappings: usize,
}

impl Footprint {
    fn of(server: &Server) -> Self {
        Self {
            rss_bytes: server.rss_bytes(),
            anon_bytes: crate::procfs::rss_anon_bytes(server.pid()),
            descriptors: server.fd_count(),
            mappings: server.map_count(),
        }
    }
}

impl Report {
    /// The time that so many hundredths of the first requests took at most.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = (self.first.len() * percent).div_ceil(100).clamp(1, self.first.len());
        self.first[at - 1]
    }
}

/// A copy of `wasm` that no other module is: a custom section at its end says which it is.
pub fn distinct(wasm: &[u8], number: usize) -> Vec<u8> {
    let name = b"copy";
    let text = format!("{number:08}");
    let mut copy = wasm.to_vec();
    copy.push(0);
    copy.push((1 + name.len() + text.len()) as u8);
    copy.push(name.len() as u8);
    copy.extend_from_slice(name);
    copy.extend_from_slice(text.as_bytes());
    copy
}

/// So many modules in a folder.
pub fn modules(guest: &Path, apps: usize) -> anyhow::Result<(TempDir, Vec<PathBuf>)> {
    let wasm = fs::read(guest).with_context(|| format!("reading {}", guest.display()))?;
    let folder = tempfile::tempdir()?;
    let write = |number| {
        let path = folder.path().join(format!("{number}.wasm"));
        fs::write(&path, distinct(&wasm, number))?;
        Ok(path)
    };
    let paths = (0..apps).map(write).collect::<anyhow::Result<_>>()?;
    Ok((folder, paths))
}

/// The same, hosted: each app is deployed, the server is started again, and then each is called once.
#[derive(Clone, Debug)]
pub struct Hosted {
    /// All deploys, several at a time.
    pub deploys: Duration,
    /// What came after the server was started again.
    pub report: Report,
    /// Deploys of one app with all the others there, whose module was compiled before, in order of their time.
    pub redeploys: Vec<Duration>,
}

/// Deploys them all, starts the server again, and calls each once.
pub fn host(plan: &Plan) -> anyhow::Result<Hosted> {
    let wasm = fs::read(&plan.guest).with_context(|| format!("reading {}", plan.guest.display()))?;
    let admin = Admin::of(&plan.state);
    let builder = || hosting(&plan.state).option("--workers", "1");
    let mut server = builder().start();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let deploy = || {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= plan.apps {
                    return Ok(());
                }
                let settings = json!({ "routes": [format!("app-{number}.test/*")] });
                let done = admin.deploy(&format!("app-{number}"), &distinct(&wasm, number), &settings)?;
                ensure!(done.is_ok(), "app-{number}: {done:?}");
            }
        };
        let deploying: Vec<_> = (0..2).map(|_| scope.spawn(deploy)).collect();
        deploying.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    let deploys = began.elapsed();
    server.signal(Signal::TERM);
    ensure!(server.wait_exit(PATIENCE).success(), "the server did not end well");
    drop(server);

    let began = Instant::now();
    let server = plan.cpu.map_or_else(builder, |cpu| builder().cpu(cpu)).start();
    let report = call(&server, plan.apps, began.elapsed())?;
    let redeploy = |weight: u64| {
        let settings = json!({ "routes": ["app-0.test/*"], "weight": weight });
        let began = Instant::now();
        let done = admin.deploy("app-0", &distinct(&wasm, 0), &settings)?;
        ensure!(done.is_ok(), "{done:?}");
        Ok(began.elapsed())
    };
    let mut redeploys = (2..22).map(redeploy).collect::<anyhow::Result<Vec<_>>>()?;
    redeploys.sort_unstable();
    Ok(Hosted { deploys, report, redeploys })
}

fn builder(plan: &Plan, paths: &[PathBuf]) -> Builder {
    let manifest = plan.loaded.map(|loaded| format!("[server]\nloaded = {loaded}\n"));
    let mut builder = Server::builder().manifest(manifest.unwrap_or_default()).option("--workers", "1");
    builder = builder.option("--state", &plan.state.display().to_string());
    for (number, path) in paths.iter().enumerate() {
        builder = builder.app(App::file(&format!("app-{number}"), path));
    }
    builder
}

/// Serves them all, and calls each once.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let (_folder, paths) = modules(&plan.guest, plan.apps)?;
    let mut builder = builder(plan, &paths);
    if let Some(cpu) = plan.cpu {
        builder = builder.cpu(cpu);
    }
    let began = Instant::now();
    let server = builder.start();
    let start = began.elapsed();
    if let Some(loaded) = plan.loaded {
        crate::wait::until("code that is too much is gone", || server.fd_count() < loaded + 100);
    }
    call(&server, plan.apps, start)
}

fn call(server: &Server, apps: usize, start: Duration) -> anyhow::Result<Report> {
    let mut client = Client::connect(server.addr())?;
    let before = Footprint::of(server);
    let mut first = Vec::with_capacity(apps);
    for number in 0..apps {
        // Not in the order that they were loaded in.
        let app = number * 7_919 % apps;
        let asked = Instant::now();
        let response = client.get(&format!("app-{app}.test"), "/")?;
        first.push(asked.elapsed());
        ensure!(response.status() == 200, "app-{app}: {response:?}");
    }
    first.sort_unstable();
    Ok(Report { start, first, before, after: Footprint::of(server) })
}
