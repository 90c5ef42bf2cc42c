//! Thousands of apps in one process, each with a module of its own: what a cold one costs its first client, and what all
//! of them cost the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

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

/// Serves them all, and calls each once.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let (_folder, paths) = modules(&plan.guest, plan.apps)?;
    let manifest = plan.loaded.map(|loaded| format!("[server]\nloaded = {loaded}\n"));
    let mut builder = Server::builder().manifest(manifest.unwrap_or_default()).option("--workers", "1");
    builder = builder.option("--state", &plan.state.display().to_string());
    for (number, path) in paths.iter().enumerate() {
        builder = builder.app(App::file(&format!("app-{number}"), path));
    }
    if let Some(cpu) = plan.cpu {
        builder = builder.cpu(cpu);
    }
    let began = Instant::now();
    let server = builder.start();
    let start = began.elapsed();
    if let Some(loaded) = plan.loaded {
        crate::wait::until("code that is too much is gone", || server.fd_count() < loaded + 100);
    }
    let mut client = Client::connect(server.addr())?;
    let before = Footprint::of(&server);
    let mut first = Vec::with_capacity(plan.apps);
    for number in 0..plan.apps {
        // Not in the order that they were loaded in.
        let app = number * 7_919 % plan.apps;
        let asked = Instant::now();
        let response = client.get(&format!("app-{app}.test"), "/")?;
        first.push(asked.elapsed());
        ensure!(response.status() == 200, "app-{app}: {response:?}");
    }
    first.sort_unstable();
    Ok(Report { start, first, before, after: Footprint::of(&server) })
}
