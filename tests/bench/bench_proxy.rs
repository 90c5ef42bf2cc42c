//! Small requests passed on to an upstream over connections that are kept: server CPU per request of the guest `proxy`,
//! reused and fresh, and of nginx's `proxy_pass`, in turn on one pinned core. The upstream, an nginx with a fixed answer,
//! and the load generator are on the other. The ratio of the reused guest to nginx is held to 3.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use tidegate_tests::bench::args::Args;
use tidegate_tests::bench::subject::{LOAD_CPU, SERVER_CPU, Subject};
use tidegate_tests::bench::{finish, judge, pin, warn_if_unoptimised};
use tidegate_tests::{Addr, App, Client, Nginx, Server};

const BODY: &str = "hello from behind\n";

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse()?;
    let rounds: usize = args.get("rounds", 7)?;
    let requests: u64 = args.get("requests", 40_000)?;
    let connections: usize = args.get("connections", 32)?;
    args.done()?;
    warn_if_unoptimised();

    let upstream = Nginx::answering(BODY, Some(LOAD_CPU)).context("there is no nginx to compare with")?;
    let nginx = Nginx::proxy(upstream.addr(), Some(SERVER_CPU)).context("there is no nginx")?;
    let (reused, fresh) = (start(&upstream, Some("1000000")), start(&upstream, None));
    pin(LOAD_CPU)?;

    let mut subjects = [
        Subject::new("nginx proxy_pass", nginx.pid(), nginx.addr()),
        Subject::new("proxy guest, instance reused", reused.pid(), tcp(&reused)?),
        Subject::new("proxy guest, fresh per request", fresh.pid(), tcp(&fresh)?),
    ];
    for subject in [nginx.addr(), tcp(&reused)?, tcp(&fresh)?] {
        let response = Client::connect(&Addr::Tcp(subject))?.get("hello.test", "/")?;
        ensure!(response.status() == 200 && response.text() == BODY, "{response:?}");
    }
    // One round that is not counted warms everything up.
    for round in 0..=rounds {
        for subject in &mut subjects {
            subject.measure(connections, requests, round > 0)?;
        }
    }
    finish(report(&subjects))
}

fn report(subjects: &[Subject; 3]) -> bool {
    let idle = subjects.iter().filter(|subject| !subject.report()).count();
    if idle > 0 {
        println!(
            "warning: a core was not kept busy: the upstream and the generator share the other one, or something else runs"
        );
    }
    let [nginx, reused, fresh] = subjects;
    println!("{:<44} {:>10.2} x", "proxy guest, fresh, to nginx", fresh.ratio_to(nginx));
    judge("proxy guest, instance reused, to nginx", reused.ratio_to(nginx), "x", 3.0)
}

fn start(upstream: &Nginx, reuse: Option<&str>) -> Server {
    let app = App::guest("proxy").named("hello").env("UPSTREAM", format!("http://{}", upstream.addr()));
    let mut app = app.connect(upstream.addr());
    if let Some(requests) = reuse {
        app = app.line(&format!("instances = {{ reuse = {requests} }}"));
    }
    Server::builder().app(app).option("--workers", "1").cpu(SERVER_CPU).start()
}

fn tcp(server: &Server) -> anyhow::Result<SocketAddr> {
    match server.addr() {
        Addr::Tcp(addr) => Ok(*addr),
        Addr::Unix(_) => bail!("a TCP address was asked for"),
    }
}
