//! Every wait has a timer: for the head, the body, the reader, and an idle connection. Limits are lowered by flags.

use std::io::Write;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::check::{self, closed, success};
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, Client, Server};

/// What lies between "the timer did not exist" and "this machine is slow".
const SOON: Duration = Duration::from_secs(15);

fn server(guest: &str, settings: &[&str]) -> Server {
    let builder = Server::builder().guest(guest).option("--workers", "1");
    settings.iter().fold(builder, |builder, setting| builder.option("--http", setting)).start()
}

#[test]
fn a_head_that_does_not_come_is_408() {
    let server = server("hello", &["head_timeout=300ms"]);
    for bytes in ["G", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut client = server.client();
        let started = Instant::now();
        client.send(bytes).unwrap();
        let response = client.response().unwrap();
        assert_eq!(response.status(), 408, "{response:?}");
        closed(&mut client);
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(250) && took < SOON, "{took:?}");
    }
}

#[test]
fn dripping_bytes_do_not_extend_the_time_for_a_head() {
    let server = server("hello", &["head_timeout=400ms"]);
    let mut client = server.client();
    let mut writer = client.writer().unwrap();
    let started = Instant::now();
    // One byte every 50 ms: this is the slow client being slow.
    let dripping = thread::spawn(move || {
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(1_000));
        let taken = head.bytes().take_while(|byte| {
            thread::sleep(Duration::from_millis(50));
            writer.write_all(&[*byte]).is_ok()
        });
        taken.count()
    });
    let response = client.response().unwrap();
    assert_eq!(response.status(), 408, "{response:?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
    drop(client);
    assert!(dripping.join().unwrap() < 1_000);
}

#[test]
fn a_connection_that_says_nothing_ends() {
    let server = server("hello", &["head_timeout=300ms"]);
    let mut client = server.client();
    let started = Instant::now();
    client.rest().unwrap();
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(250) && took < SOON, "{took:?}");
}

#[test]
fn the_time_for_the_head_starts_anew_with_each_request() {
    let server = server("hello", &["head_timeout=400ms"]);
    let mut client = server.client();
    for _ in 0..4 {
        success(&client.get("a", "/").unwrap());
        // Idle for longer than a head may take, in sum: nothing runs while nothing has come.
        thread::sleep(Duration::from_millis(150));
    }
    success(&client.get("a", "/").unwrap());
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let server = server("hello", &["idle_timeout=300ms"]);
    let mut client = server.client();
    success(&client.get("a", "/").unwrap());
    let started = Instant::now();
    closed(&mut client);
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(200) && took < SOON, "{took:?}");
}

#[test]
fn a_body_that_is_too_slow_is_ended() {
    let server = server("echo", &["body_grace=300ms"]);
    let mut client = server.client();
    // The guest has answered nothing yet when nothing has come: a status can be sent.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").unwrap();
    let started = Instant::now();
    match client.response() {
        Ok(response) => assert!(
            response.status() == 408 || response.end != tidegate_tests::End::Clean,
            "a clean end of a body that never came: {response:?}"
        ),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{error}"),
    }
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

/// A body at a fair rate, however long it takes, is not too slow.
#[test]
fn a_body_at_the_minimum_rate_is_borne() {
    let server = server("echo", &["body_grace=200ms", "min_rate=100B/s"]);
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n").unwrap();
    let block = vec![b'x'; 1_000];
    for _ in 0..20 {
        client.send(&block).unwrap();
        thread::sleep(Duration::from_millis(40));
    }
    check::ok(&client.response().unwrap(), &block.repeat(20));
}

#[test]
fn a_reader_that_does_not_read_is_given_up() {
    let server = server("generate", &["write_grace=300ms"]);
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    // What a first request makes the server open is not this connection's.
    let mut before = server.client();
    success(&before.get("a", "/1").unwrap());
    let files = server.fd_count();
    let mut client = Client::over(Stream::connect_with_receive_buffer(addr, 4_096, PATIENCE).unwrap());
    // More than all buffers between here and there can hold.
    client.send_get("a", "/100000000").unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    until("the connection is given up", || server.fd_count() <= files);
    let rest = client.rest().unwrap();
    assert!(rest.len() < 100_000_000, "the whole body came");
}

/// The kernel takes 128 KiB beyond what is on its way and says that it has room only when half of that has drained, here
/// after three seconds: how fast the client reads must not be judged by that alone. (The grace is longer than TCP itself
/// stands still between a small window and its next probe.)
#[test]
fn a_slow_reader_above_the_minimum_rate_is_borne() {
    let server = server("generate", &["write_grace=2s", "min_rate=1KiB/s"]);
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let mut client = Client::over(Stream::connect_with_receive_buffer(addr, 16 * 1024, PATIENCE).unwrap());
    client.send_get("a", "/100000000").unwrap();
    let head = client.head().unwrap();
    let mut body = client.body(&head).unwrap();
    let mut piece = Vec::new();
    // Eight seconds at about 20 KiB/s, twenty times the minimum.
    for round in 0..80 {
        piece.clear();
        let n = client.read_body(&mut body, &mut piece, 2_048).unwrap();
        assert!(n > 0, "cut in round {round}: {:?}", body.end());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waiting for a slow guest is not the reader's fault: the minimum rate counts only while bytes are queued.
#[test]
fn a_reader_who_waits_for_the_guest_is_not_too_slow() {
    let server =
        server("slow", &["write_grace=200ms", "body_grace=200ms", "idle_timeout=200ms", "head_timeout=5s"]);
    success(&server.get("a", "/1500"));
}
