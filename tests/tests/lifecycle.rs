//! Listening, draining, ending.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate_tests::check::{closed, success};
use tidegate_tests::wait::until;
use tidegate_tests::{Addr, App, Client, Server};

const SOON: Duration = Duration::from_secs(15);

fn busy(milliseconds: u32) -> (Server, Client) {
    let app = App::guest("slow").limit("concurrency", "1").limit("queue", "0").limit("wall", "60s");
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    let client = occupy(&server, milliseconds);
    (server, client)
}

/// A request that runs and takes the only place there is. One that met a probe was turned away itself: then another.
fn occupy(server: &Server, milliseconds: u32) -> Client {
    let is_taken = || server.get("slow.test", "/1").status() == 503;
    for _ in 0..20 {
        let mut client = server.client();
        client.send_get("slow.test", &format!("/{milliseconds}")).unwrap();
        if (0..5).any(|_| is_taken()) {
            return client;
        }
        drop(client);
        until("the place is free", || !is_taken());
    }
    panic!("no request got the only place")
}

#[test]
fn sigterm_finishes_what_runs_and_accepts_nothing_new() {
    let (mut server, mut client) = busy(3_000);
    server.signal(Signal::TERM);
    server.wait_until_refused();
    assert!(server.is_running(), "it ended while a request was running");
    // The address is free for whoever comes next.
    let next = Server::builder().guest("hello").listen(&server.addr().to_string()).start();
    success(&next.get("a", "/"));
    let response = client.response().unwrap();
    success(&response);
    closed(&mut client);
    let status = server.wait_exit(SOON);
    assert_eq!(status.code(), Some(0), "{status}");
}

#[test]
fn sigint_drains_likewise_and_idle_connections_end_at_once() {
    let mut server = Server::builder().guest("hello").start();
    let mut idle = server.client();
    success(&idle.get("a", "/").unwrap());
    let started = Instant::now();
    server.signal(Signal::INT);
    closed(&mut idle);
    assert_eq!(server.wait_exit(SOON).code(), Some(0));
    assert!(started.elapsed() < SOON);
}

#[test]
fn a_unix_socket_is_given_up_when_the_drain_begins() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let listen = format!("unix:{}", path.display());
    let app = || App::guest("slow").limit("concurrency", "1").limit("queue", "0").limit("wall", "60s");
    let start = || Server::builder().app(app()).listen(&listen).option("--workers", "2").start();
    let mut first = start();
    let mut running = occupy(&first, 3_000);
    first.signal(Signal::TERM);
    first.wait_until_refused();
    assert!(!path.exists(), "a path that leads nowhere");

    // Another server takes the address while the first still works, and keeps it when the first ends.
    let second = start();
    assert!(first.is_running(), "the first was to be busy still");
    success(&second.get("slow.test", "/1"));
    success(&running.response().unwrap());
    assert_eq!(first.wait_exit(SOON).code(), Some(0));
    success(&second.get("slow.test", "/1"));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut server, mut client) = busy(50_000);
    server.signal(Signal::TERM);
    server.wait_until_refused();
    let started = Instant::now();
    server.signal(Signal::TERM);
    let status = server.wait_exit(SOON);
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(started.elapsed() < SOON, "{status}");
    assert!(client.response().is_err(), "a response from a server that was told to end at once");
}

#[test]
fn a_drain_does_not_wait_for_ever() {
    let app = App::guest("slow").limit("wall", "60s").limit("concurrency", "1").limit("queue", "0");
    let server = Server::builder().app(app).option("--workers", "1").option("--drain", "500ms");
    let mut server = server.start();
    let mut client = server.client();
    client.send_get("slow.test", "/50000").unwrap();
    server.settle();
    until("the request runs", || server.get("slow.test", "/1").status() == 503);
    server.signal(Signal::TERM);
    let started = Instant::now();
    server.wait_exit(SOON);
    assert!(started.elapsed() >= Duration::from_millis(400), "it did not wait: {:?}", started.elapsed());
    assert!(client.response().is_err());
}

#[test]
fn a_unix_socket_is_served() {
    let server = Server::builder().guest("hello").listen("unix:web.sock").start();
    assert!(matches!(server.addr(), Addr::Unix(_)), "{}", server.addr());
    let mut client = server.client();
    for _ in 0..3 {
        success(&client.get("a", "/").unwrap());
    }
}

#[test]
fn several_listeners_at_once() {
    let builder = Server::builder().guest("hello").listen("127.0.0.1:0").listen("unix:web.sock");
    let ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let builder = if ipv6 { builder.listen("[::1]:0") } else { builder };
    if !ipv6 {
        println!("this machine has no IPv6: two listeners only");
    }
    let server = builder.start();
    assert_eq!(server.addrs().len(), if ipv6 { 3 } else { 2 });
    for addr in server.addrs() {
        success(&Client::connect(addr).unwrap().get("a", "/").unwrap());
    }
    let has = |wanted: fn(&SocketAddr) -> bool| {
        server.addrs().iter().any(|addr| matches!(addr, Addr::Tcp(addr) if wanted(addr)))
    };
    assert!(has(SocketAddr::is_ipv4) && has(SocketAddr::is_ipv6) == ipv6);
}

#[test]
fn a_port_that_is_taken_is_a_plain_error() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let (status, told) = Server::builder().guest("hello").listen(&addr).start_refused();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains(&addr) && told.contains("in use"), "{told}");

    // Another tidegate on the same port fails too, although the workers of one share theirs.
    let first = Server::builder().guest("hello").start();
    let (status, told) = Server::builder().guest("hello").listen(&first.addr().to_string()).start_refused();
    assert_eq!(status.code(), Some(1), "{told}");
}

#[test]
fn a_file_that_is_no_module_is_a_plain_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.wasm");
    std::fs::write(&path, "this is no module").unwrap();
    let (status, told) = Server::builder().module(&path).start_refused();
    assert!(matches!(status.code(), Some(1 | 2)), "{status}");
    assert!(told.contains("app.wasm") && !told.contains("panicked"), "{told}");
}

#[test]
fn two_workers_serve_side_by_side() {
    let server = Server::builder().guest("hello").option("--workers", "2").start();
    let mut clients: Vec<_> = (0..64).map(|_| server.client()).collect();
    for _ in 0..20 {
        for client in &mut clients {
            success(&client.get("a", "/").unwrap());
        }
    }
}
