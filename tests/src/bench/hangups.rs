//! Clients that hang up while their guest waits on a socket, and what is left of them: nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::http::Client;
use crate::server::{App, Server};
use crate::{Upstream, wait};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// In all.
    pub requests: usize,
    /// At once. Three times this many come first, to warm the server up: what it holds then is what it is compared with.
    pub at_once: usize,
}

/// What was seen.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Descriptors of the server after warming up, and at the end.
    pub fds: (usize, usize),
    /// Memory that no file backs, likewise, in bytes.
    pub rss: (u64, u64),
    /// Sockets that the server still has at the upstream.
    pub open: usize,
    /// From the first hang-up to the last.
    pub took: Duration,
}

/// Runs the plan: each request is for `path` of `app`, which goes to the upstream and waits there for ever. The upstream
/// takes what comes and says nothing. Errors: the guest did not come there, or a place in the app was lost.
pub fn run(plan: &Plan, app: impl FnOnce(&Upstream) -> App, path: &str) -> anyhow::Result<Report> {
    let upstream = Upstream::serve(|peer| peer.wait_for_end().map(|_| ()));
    // As many places as come at once: one that is not given back is one too few in the next batch.
    let places = plan.at_once.to_string();
    let app = app(&upstream).named("waits").limit("concurrency", &places).limit("queue", &places);
    let app = app.limit("wall", "300s").limit("connects", "1000000/s");
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    let hello = server.get("hello.test", "/").body;

    for reset in [true, true, false] {
        batch(&server, &upstream, plan.at_once, path, reset)?;
    }
    let (fds, rss) = at_rest(&server);
    let started = Instant::now();
    let mut left = plan.requests;
    let mut number = 0_usize;
    while left > 0 {
        let now = left.min(plan.at_once);
        // A close looks like a half-close, which is borne for two seconds: now and then is enough.
        batch(&server, &upstream, now, path, number % 10 != 9)?;
        left -= now;
        number += 1;
    }
    let took = started.elapsed();
    let (fds_after, rss_after) = at_rest(&server);
    ensure!(server.get("hello.test", "/").body == hello, "hello is not what it was");
    Ok(Report { fds: (fds, fds_after), rss: (rss, rss_after), open: upstream.open(), took })
}

/// So many at once: all of them wait at the upstream, and then all hang up, with a reset or with a close.
fn batch(server: &Server, upstream: &Upstream, count: usize, path: &str, reset: bool) -> anyhow::Result<()> {
    let mut clients: Vec<Client> = (0..count).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("waits.test", path)?;
    }
    let all = wait::poll_for(wait::PATIENCE, || (upstream.open() == count).then_some(()));
    if all.is_none() {
        let first = clients.swap_remove(0).response();
        let open = upstream.open();
        return all.with_context(|| {
            format!("{open} of {count} came to the upstream; the first was told {first:?}")
        });
    }
    for client in clients {
        if reset {
            client.reset()?;
        }
    }
    let gone = wait::poll_for(wait::PATIENCE, || (upstream.open() == 0).then_some(()));
    gone.with_context(|| format!("{} of {count} sockets are still there after the hang-up", upstream.open()))
}

/// Descriptors and memory once both have come to rest. Waits for that, but not for ever: a leak is a figure, not a hang.
fn at_rest(server: &Server) -> (usize, u64) {
    let look = || (server.fd_count(), crate::procfs::rss_anon_bytes(server.pid()));
    let mut last = look();
    let mut unchanged = Instant::now();
    let rested = wait::poll_for(Duration::from_secs(15), || {
        let now = look();
        if now != last {
            (last, unchanged) = (now, Instant::now());
        }
        (unchanged.elapsed() > Duration::from_millis(1_500)).then_some(now)
    });
    rested.unwrap_or(last)
}
