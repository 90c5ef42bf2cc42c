//! Requests that wait for a Redis that stands still, and `hello` beside them on the same single worker.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::load;
use crate::http::{Client, End};
use crate::server::{App, Server};
use crate::{Addr, Redis, wait};

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Requests that wait.
    pub waiting: usize,
    /// Requests to `hello` meanwhile.
    pub requests: u64,
    /// Connections for these.
    pub connections: usize,
    /// The core of the server, if it has one of its own.
    pub cpu: Option<usize>,
}

/// What was seen of `hello`: first alone, then beside those that wait.
#[derive(Clone, Debug)]
pub struct Report {
    /// With nobody waiting.
    pub alone: load::Report,
    /// While all wait.
    pub beside: load::Report,
}

/// Runs the plan with `app`, which answers `GET /get/KEY` with what Redis has for that key, and gets its address in `REDIS`.
/// Errors: a request that was not answered as it should, or did not wait. What waits is answered in the end.
pub fn run(plan: &Plan, redis: &Redis, app: App) -> anyhow::Result<Report> {
    let waiting = plan.waiting.to_string();
    let app = app.named("redis").env("REDIS", redis.addr()).connect(redis.addr());
    let app = app.limit("concurrency", &waiting).limit("wall", "300s");
    let mut builder = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1");
    if let Some(cpu) = plan.cpu {
        builder = builder.cpu(cpu);
    }
    let server = builder.start();
    let Addr::Tcp(addr) = *server.addr() else { bail!("a TCP address was asked for") };
    let hello = load::Plan {
        addr,
        host: "hello.test".to_owned(),
        path: "/".to_owned(),
        connections: plan.connections,
        requests: plan.requests,
        within: Duration::from_secs(120),
    };

    redis.command(&["SET", "colour", "blue"]);
    let before = server.get("redis.test", "/get/colour");
    ensure!(before.status() == 200 && before.body == b"blue", "{before:?}");
    wait::until("the connection to Redis is closed", || redis.clients() == 0);
    let alone = load::run(&hello)?;
    served("alone", plan, &alone)?;

    let mut clients: Vec<Client> = (0..plan.waiting).map(|_| server.client()).collect();
    let files = server.fd_count();
    let stalled = redis.stall();
    for client in &mut clients {
        client.send_get("redis.test", "/get/colour")?;
    }
    // Each has a socket of its own by then, and no answer.
    wait::until("all wait for Redis", || server.fd_count() >= files + plan.waiting);
    let beside = load::run(&hello)?;
    served("beside those that wait", plan, &beside)?;
    ensure!(server.fd_count() >= files + plan.waiting, "somebody stopped waiting");
    drop(stalled);

    for client in &mut clients {
        let response = client.response().context("a request that waited")?;
        let whole = response.status() == 200 && response.end == End::Clean && response.body == b"blue";
        ensure!(whole, "{response:?}");
    }
    wait::until("every connection to Redis is closed", || redis.clients() == 0);
    Ok(Report { alone, beside })
}

fn served(when: &str, plan: &Plan, report: &load::Report) -> anyhow::Result<()> {
    ensure!(report.errors == 0 && report.served == plan.requests, "hello {when}: {report:?}");
    Ok(())
}
