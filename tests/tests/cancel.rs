//! A client that goes away takes its request with it: the guest stops, its place is free.

use std::time::{Duration, Instant};

use tidegate_tests::check::success;
use tidegate_tests::wait::until;
use tidegate_tests::{App, Server};

/// One place for `slow` and none to wait in, so that a place that is not given back shows at once.
fn one_place(guest: &str, path: &str) -> Server {
    let app = App::guest(guest).limit("concurrency", "1").limit("queue", "0").limit("wall", "60s");
    let server =
        Server::builder().app(app.limit("cpu", "60s")).app(App::guest("hello")).option("--workers", "1");
    let server = server.start();
    let mut client = server.client();
    client.send_get(&format!("{guest}.test"), path).unwrap();
    // The request has its place once another one is turned away.
    server.settle();
    until("the place is taken", || server.get(&format!("{guest}.test"), "/1").status() == 503);
    client.reset().unwrap();
    server
}

#[test]
fn a_reset_cancels_a_guest_that_waits() {
    let server = one_place("slow", "/50000");
    let started = Instant::now();
    until("the place is free", || server.get("slow.test", "/1").status() == 200);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_reset_cancels_a_guest_that_computes() {
    let server = one_place("spin", "/");
    // A spin that is gone uses no CPU: the server comes to rest.
    until("the server rests", || {
        let before = server.cpu_time();
        std::thread::sleep(Duration::from_millis(200));
        // Less than before: a thread has ended meanwhile, with what it had used.
        server.cpu_time().checked_sub(before).is_some_and(|used| used < Duration::from_millis(60))
    });
    success(&server.get("hello.test", "/"));
}

#[test]
fn an_end_of_stream_inside_the_request_cancels_at_once() {
    let app = App::guest("echo").limit("concurrency", "1").limit("queue", "0");
    let server = Server::builder().app(app).option("--workers", "1").start();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 100\r\n\r\nabc").unwrap();
    server.settle();
    until("the place is taken", || server.get("echo.test", "/").status() == 503);
    client.shutdown_write().unwrap();
    until("the place is free", || server.get("echo.test", "/").status() == 200);
}

/// A half-close after the request looks like a client that has gone: without progress of the response it is given
/// up after two seconds, and a response within that time arrives.
#[test]
fn a_half_close_after_the_request_is_borne_for_a_while() {
    let app = App::guest("slow").limit("concurrency", "1").limit("queue", "0").limit("wall", "60s");
    let server = Server::builder().app(app).option("--workers", "1").start();
    let mut patient = server.client();
    patient.send_get("slow.test", "/500").unwrap();
    patient.shutdown_write().unwrap();
    success(&patient.response().unwrap());

    let mut gone = server.client();
    gone.send_get("slow.test", "/50000").unwrap();
    server.settle();
    until("the place is taken", || server.get("slow.test", "/1").status() == 503);
    gone.shutdown_write().unwrap();
    let started = Instant::now();
    until("the place is free", || server.get("slow.test", "/1").status() == 200);
    assert!(started.elapsed() >= Duration::from_millis(500), "given up at once: {:?}", started.elapsed());
}

#[test]
fn clients_that_leave_in_the_middle_of_a_response_leak_nothing() {
    let server = Server::builder().app(App::guest("generate")).app(App::guest("hello")).start();
    success(&server.get("hello.test", "/"));
    success(&server.get("generate.test", "/100000"));
    let files = server.fd_count();
    for _ in 0..100 {
        let mut client = server.client();
        client.send_get("generate.test", "/50000000").unwrap();
        let head = client.head().unwrap();
        assert_eq!(head.status, 200);
        let mut body = client.body(&head).unwrap();
        client.read_body(&mut body, &mut Vec::new(), 10_000).unwrap();
        client.reset().unwrap();
    }
    until("descriptors are given back", || server.fd_count() <= files);
    success(&server.get("generate.test", "/100000"));
}
