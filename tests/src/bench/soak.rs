//! Requests that fail in every way beside good ones, and what is left of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Client, End};
use crate::server::{App, Server};
use crate::wait;

/// How much of it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// In all.
    pub requests: u64,
    /// The first this many warm the server up; what it holds then is what it is compared with.
    pub settle: u64,
    /// At once.
    pub connections: usize,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Good requests that were answered with 200 and the right bytes.
    pub hello_served: u64,
    /// Good requests that were not.
    pub hello_failed: u64,
    /// Failing requests that did not fail as they should.
    pub wrong: u64,
    /// Resident memory after settling, bytes.
    pub rss_settled: u64,
    /// Resident memory at the end, bytes.
    pub rss_after: u64,
    /// Descriptors after settling.
    pub fds_settled: usize,
    /// Descriptors at the end.
    pub fds_after: usize,
}

#[derive(Default)]
struct Counts {
    next: AtomicU64,
    served: AtomicU64,
    failed: AtomicU64,
    wrong: AtomicU64,
}

/// Host, and the status that must come; the one that never finishes is cut instead.
const KINDS: [(&str, u16); 6] = [
    ("hello.test", 200),
    ("trap.test", 500),
    ("bomb.test", 500),
    ("recurse.test", 500),
    ("silent.test", 502),
    ("unfinished.test", 200),
];

/// Runs the plan against a server of its own. Panics when the server ends.
pub fn run(plan: &Plan) -> Report {
    let mut server = Server::builder()
        .app(App::guest("hello"))
        .app(App::guest("trap"))
        .app(App::guest("bomb").limit("memory", "8MiB"))
        .app(App::guest("recurse"))
        .app(App::guest("silent"))
        .app(App::guest("unfinished"))
        // The log of 100,000 failures is not what is measured.
        .env("TIDEGATE_LOG", "off")
        .start();
    let hello = server.get("hello.test", "/").body;
    let counts = Counts::default();

    let mut report = Report::default();
    batch(&server, &counts, plan.settle, plan.connections, &hello);
    (report.rss_settled, report.fds_settled) = at_rest(&server);
    batch(&server, &counts, plan.requests, plan.connections, &hello);
    (report.rss_after, report.fds_after) = at_rest(&server);
    assert!(server.is_running(), "the server has ended");
    report.hello_served = counts.served.into_inner();
    report.hello_failed = counts.failed.into_inner();
    report.wrong = counts.wrong.into_inner();
    report
}

/// Memory and descriptors once both have come to rest: every connection of a batch is gone by then, and what the
/// server drops aside has been dropped. Waits for that, but not for ever: a leak is a figure, not a hang.
fn at_rest(server: &Server) -> (u64, usize) {
    let mut last = (server.rss_bytes(), server.fd_count());
    let mut unchanged = Instant::now();
    let rested = wait::poll_for(Duration::from_secs(15), || {
        let now = (server.rss_bytes(), server.fd_count());
        if now != last {
            (last, unchanged) = (now, Instant::now());
        }
        (unchanged.elapsed() > Duration::from_millis(1_500)).then_some(now)
    });
    rested.unwrap_or(last)
}

/// Sends requests until `upto` have been sent in all.
fn batch(server: &Server, counts: &Counts, upto: u64, connections: usize, hello: &[u8]) {
    thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut client = server.client();
                while claim(counts, upto).is_some_and(|number| {
                    if !one(&mut client, number, counts, hello) {
                        client = server.client();
                    }
                    true
                }) {}
            });
        }
    });
}

fn claim(counts: &Counts, upto: u64) -> Option<u64> {
    let order = Ordering::Relaxed;
    counts.next.fetch_update(order, order, |next| (next < upto).then_some(next + 1)).ok()
}

/// One request. False: the connection is over.
fn one(client: &mut Client, number: u64, counts: &Counts, hello: &[u8]) -> bool {
    let (host, status) = KINDS[(number % KINDS.len() as u64) as usize];
    let response = client.get(host, "/");
    let cut = matches!(&response, Ok(response) if response.end != End::Clean);
    let good = match &response {
        Ok(response) if host == "hello.test" => response.status() == 200 && !cut && response.body == hello,
        // Never a whole success; before anything has left it may be an error's status.
        Ok(response) if host == "unfinished.test" => cut || response.status() >= 500,
        Ok(response) => response.status() == status && !cut,
        // A body that is cut before its head has left may be a connection that ends without an answer.
        Err(error) => host == "unfinished.test" && error.kind() != std::io::ErrorKind::TimedOut,
    };
    let counter = match (host, good) {
        ("hello.test", true) => &counts.served,
        ("hello.test", false) => &counts.failed,
        (_, true) => return response.is_ok() && !cut,
        (_, false) => &counts.wrong,
    };
    counter.fetch_add(1, Ordering::Relaxed);
    response.is_ok() && !cut
}
