//! What a connection's two directions do to each other: bodies that nobody reads, peers that end their side or go away
//! at an awkward moment, answers that only the close ends.

use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::check::success;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, App, Client, Server};

fn post(host: &str, path: &str, body: usize) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {body}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + body, b'x');
    bytes
}

/// The body is larger than what waits for the guest, so that reading had stopped when the answer was complete.
#[test]
fn a_request_behind_a_body_that_nobody_read_is_answered_at_once() {
    let server = Server::builder().guest("hello").option("--workers", "1").start();
    for body in [60_000, 100_000, 128_000] {
        let mut client = server.client();
        let started = Instant::now();
        client.send(post("hello.test", "/", body)).unwrap();
        client.send_get("hello.test", "/").unwrap();
        success(&client.response().unwrap());
        success(&client.response().unwrap());
        assert!(started.elapsed() < Duration::from_secs(4), "{body}: {:?}", started.elapsed());
    }
}

/// The end of its side stands behind bytes that are not read.
#[test]
fn a_client_that_is_gone_is_noticed_though_its_body_is_not_read() {
    let app = App::guest("slow").limit("concurrency", "1").limit("queue", "0").limit("wall", "60s");
    let server = Server::builder().app(app).option("--workers", "1").start();
    let mut client = server.client();
    client.send(post("slow.test", "/50000", 90_000)).unwrap();
    server.settle();
    until("the place is taken", || server.get("slow.test", "/1").status() == 503);
    drop(client);
    let started = Instant::now();
    until("the place is free", || server.get("slow.test", "/1").status() == 200);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

/// On HTTP/1.0 the close is the end of the body: one that is cut off must not look like it.
#[test]
fn an_answer_that_only_the_close_ends_is_never_cut_off_cleanly() {
    let server = Server::builder().wat("halves").option("--workers", "1").start();
    let mut stream = server.client().stream().try_clone().unwrap();
    stream.set_deadline(PATIENCE);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    // Two seconds without progress follow.
    stream.shutdown_write().unwrap();
    let mut bytes = Vec::new();
    let error = stream.read_to_end(&mut bytes).expect_err("a clean end of half a body");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
    assert!(bytes.starts_with(b"HTTP/1.1 200 OK\r\n") && bytes.ends_with(b"\r\n\r\nhalf"));
}

/// A full socket buffer takes nothing from the server for seconds, while the peer reads all the time.
#[test]
fn a_half_closed_client_that_reads_slowly_gets_everything() {
    const BYTES: usize = 12_000_000;
    let server = Server::builder().guest("generate").option("--workers", "1").start();
    let Addr::Tcp(addr) = server.addr() else { panic!("a TCP address") };
    let stream = Stream::connect_with_receive_buffer(*addr, 32 * 1024, PATIENCE).unwrap();
    let mut client = Client::over(stream);
    client.send_get("generate.test", &format!("/{BYTES}")).unwrap();
    client.shutdown_write().unwrap();
    let head = client.head().unwrap();
    let mut body = client.body(&head).unwrap();
    let (mut got, mut bytes) = (0, Vec::new());
    let started = Instant::now();
    loop {
        bytes.clear();
        let n = client.read_body(&mut body, &mut bytes, 64 * 1024).unwrap();
        if n == 0 {
            break;
        }
        got += n;
        // Slow for longer than a peer without progress is borne, then fast.
        if started.elapsed() < Duration::from_secs(6) {
            thread::sleep(Duration::from_millis(60));
        }
    }
    assert_eq!(got, BYTES);
}

/// The rate of a body is looked at after five seconds; that is not when a queued request is due.
#[test]
fn a_queued_upload_is_not_given_up_before_it_is_due() {
    let app = App::guest("slow").limit("concurrency", "1").limit("queue", "5").limit("wall", "60s");
    let server =
        Server::builder().app(app).option("--workers", "1").option("--http", "body_grace=500ms").start();
    let mut first = server.client();
    first.send_get("slow.test", "/3000").unwrap();
    let mut second = server.client();
    let bytes = post("slow.test", "/1", 40_000);
    for part in bytes.chunks(4_000) {
        second.send(part).unwrap();
        thread::sleep(Duration::from_millis(200));
    }
    success(&second.response().unwrap());
    success(&first.response().unwrap());
}

/// An empty line behind a request (some old clients send one) does not begin another one.
#[test]
fn a_stray_empty_line_leaves_the_connection_idle() {
    let server = Server::builder()
        .guest("hello")
        .option("--workers", "1")
        .option("--http", "head_timeout=300ms")
        .start();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: hello.test\r\n\r\n\r\n").unwrap();
    success(&client.response().unwrap());
    thread::sleep(Duration::from_millis(900));
    success(&client.get("hello.test", "/").unwrap());
}

#[test]
fn options_for_the_whole_server_are_answered_in_both_forms() {
    let server = Server::builder().guest("hello").option("--workers", "1").start();
    for target in ["*", "http://a.example"] {
        let mut client = server.client();
        client.send(format!("OPTIONS {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")).unwrap();
        assert_eq!(client.response().unwrap().status(), 204, "{target}");
    }
}

/// Eight memories each: without a price for them the pools would be empty long before the places are.
#[test]
fn an_app_that_takes_many_memories_makes_nobody_fail() {
    let greedy = App::wat("many_memories").named("greedy").limit("concurrency", "400").limit("queue", "0");
    let server = Server::builder().app(greedy).app(App::guest("hello")).option("--workers", "1").start();
    let mut parked = Vec::new();
    for _ in 0..150 {
        let mut client = server.client();
        client.send_get("greedy.test", "/").unwrap();
        parked.push(client);
    }
    for _ in 0..50 {
        success(&server.get("hello.test", "/"));
    }
    for client in parked.iter_mut().take(50) {
        assert_eq!(client.head().unwrap().status, 200);
    }
    assert_eq!(server.stderr().count(|line| line.contains("guest-trap")), 0);
}
