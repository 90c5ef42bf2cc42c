//! Bodies that stream: both ways at once, in every framing, with backpressure in both directions.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::Duration;

use tidegate_tests::artifacts::wat_guest;
use tidegate_tests::check::{self, closed, success};
use tidegate_tests::http::Body;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::PATIENCE;
use tidegate_tests::{Addr, Client, End, Server};

fn echo() -> Server {
    Server::builder().guest("echo").start()
}

#[test]
fn without_a_body_it_says_hello() {
    let server = echo();
    let response = server.get("a", "/");
    success(&response);
    assert!(response.text().contains("Hello World"), "{response:?}");
}

#[test]
fn bodies_of_every_size_come_back() {
    let server = echo();
    let mut client = server.client();
    for size in [1, 2, 1_000, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537] {
        let body = Pattern::new(size as u64).take(size);
        check::ok(&client.post("a", "/", &body).unwrap(), &body);
    }
}

#[test]
fn chunked_both_ways() {
    let server = echo();
    let mut client = server.client();
    let body = Pattern::new(1).take(100_000);
    let mut bytes = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for (i, chunk) in body.chunks(977).enumerate() {
        // Letter case, leading zeros and extensions are all allowed in a size line.
        let line = match i % 3 {
            0 => format!("{:x}\r\n", chunk.len()),
            1 => format!("00{:X}\r\n", chunk.len()),
            _ => format!("{:x};name=value\r\n", chunk.len()),
        };
        bytes.extend(line.into_bytes());
        bytes.extend(chunk);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\nx-checked: yes\r\n\r\n");
    let mut writer = client.writer().unwrap();
    let sender = thread::spawn(move || writer.write_all(&bytes));
    let response = client.response().unwrap();
    sender.join().unwrap().unwrap();
    check::ok(&response, &body);
    assert_eq!(response.header("transfer-encoding"), Some("chunked"), "{response:?}");
    let trailer = ("x-checked".to_owned(), "yes".to_owned());
    assert!(response.trailers.contains(&trailer), "trailers pass through: {:?}", response.trailers);
    assert_eq!(response.header("x-checked"), None, "a trailer became a header");
    // The connection is in step afterwards.
    check::ok(&client.post("a", "/", b"next").unwrap(), b"next");
}

#[test]
fn the_answer_begins_before_the_request_has_ended() {
    let server = echo();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.send("4\r\none \r\n").unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.status, 200);
    let mut body = client.body(&head).unwrap();
    for (chunk, text) in [("", "one "), ("4\r\ntwo \r\n", "two "), ("6\r\nthree \r\n", "three ")] {
        client.send(chunk).unwrap();
        read_exactly(&mut client, &mut body, text.as_bytes());
    }
    client.send("0\r\n\r\n").unwrap();
    let mut nothing = Vec::new();
    assert_eq!(client.read_body(&mut body, &mut nothing, 1).unwrap(), 0);
    assert_eq!(body.end(), Some(&End::Clean));
}

fn read_exactly(client: &mut Client, body: &mut Body, wanted: &[u8]) {
    let mut got = Vec::new();
    while got.len() < wanted.len() {
        let n = client.read_body(body, &mut got, wanted.len()).unwrap();
        assert!(n > 0, "ended after {got:?}: {:?}", body.end());
    }
    assert_eq!(got, wanted);
}

#[test]
fn expect_100_continue_is_answered_when_the_guest_reads() {
    let server = echo();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    let interim = client.head().unwrap();
    assert_eq!((interim.status, interim.headers.len()), (100, 0), "{interim:?}");
    client.send("hello").unwrap();
    check::ok(&client.response().unwrap(), b"hello");
    check::ok(&client.post("a", "/", b"next").unwrap(), b"next");
}

#[test]
fn a_guest_that_computes_between_its_head_and_the_body_still_gets_it() {
    let server = Server::builder().module(wat_guest("late_reader")).start();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    let interim = client.head().unwrap();
    assert_eq!(interim.status, 100, "{interim:?}");
    client.send("hello").unwrap();
    check::ok(&client.response().unwrap(), b"hello");
}

#[test]
fn no_100_when_the_guest_never_reads_and_the_connection_closes() {
    let server = Server::builder().guest("ignore_body").start();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    success(&response);
    assert_eq!(response.interim, Vec::<u16>::new(), "a 100 that nobody asked for");
    // Whether the five bytes still come cannot be known (RFC 9110 section 10.1.1).
    assert_eq!(response.header("connection"), Some("close"), "{response:?}");
    closed(&mut client);
}

#[test]
fn no_100_towards_http_1_0() {
    let server = echo();
    let mut client = server.client();
    client.send("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    let response = client.response().unwrap();
    check::ok(&response, b"hello");
    assert!(response.interim.is_empty());
}

#[test]
fn http_1_0_gets_a_stream_until_close() {
    let server = echo();
    let mut client = server.client();
    let body = Pattern::new(3).take(50_000);
    let head = format!("POST / HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send([head.as_bytes(), &body].concat()).unwrap();
    let response = client.response().unwrap();
    check::ok(&response, &body);
    assert_eq!(response.header("transfer-encoding"), None, "{response:?}");
    closed(&mut client);
}

#[test]
fn a_half_close_still_gets_its_whole_answer() {
    let server = echo();
    let mut client = server.client();
    let body = Pattern::new(4).take(30_000);
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    client.send([head.as_bytes(), &body].concat()).unwrap();
    client.shutdown_write().unwrap();
    check::ok(&client.response().unwrap(), &body);
    closed(&mut client);
}

#[test]
fn a_body_that_ends_too_early_is_never_answered_as_whole() {
    let server = echo();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nonly this").unwrap();
    client.shutdown_write().unwrap();
    if let Ok(response) = client.response() {
        assert!(response.status() == 400 || response.end != End::Clean, "{response:?}");
    }
    check::ok(&server.client().post("a", "/", b"still here").unwrap(), b"still here");
}

#[test]
fn a_body_that_nobody_read_does_not_reach_the_next_request() {
    let server = Server::builder().guest("ignore_body").start();
    let mut client = server.client();
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3);
    let first = client.post("a", "/", smuggled.as_bytes()).unwrap();
    success(&first);
    check::ok(&client.get("a", "/").unwrap(), &first.body);
    // Exactly one response was left to come.
    client.shutdown_write().unwrap();
    closed(&mut client);
}

#[test]
fn a_large_body_that_nobody_reads_ends_the_connection_but_not_the_answer() {
    let server = Server::builder().guest("ignore_body").option("--http", "linger=300ms").start();
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000000\r\n\r\n").unwrap();
    let mut writer = client.writer().unwrap();
    let sender = thread::spawn(move || {
        let block = vec![b'x'; 16 * 1024];
        loop {
            if let Err(error) = writer.write_all(&block) {
                return error;
            }
            // At most 16 MB a second, so as not to burn what the other tests need.
            thread::sleep(Duration::from_millis(1));
        }
    });
    success(&client.response().unwrap());
    let error = sender.join().unwrap();
    assert_ne!(error.kind(), ErrorKind::TimedOut, "the server takes a body that nobody wants");
}

/// 64 MiB out and back; the client reads slowly for the first 4 MiB, then as fast as it can.
#[test]
fn a_slow_then_fast_reader_gets_every_byte_and_memory_stays_bounded() {
    const SIZE: usize = 64 * 1024 * 1024;
    const SLOW: usize = 4 * 1024 * 1024;
    let server = echo();
    check::ok(&server.client().post("a", "/", b"warm").unwrap(), b"warm");
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let stream = Stream::connect_with_receive_buffer(addr, 64 * 1024, PATIENCE).unwrap();
    let mut client = Client::over(stream);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SIZE}\r\n\r\n")).unwrap();

    let mut writer = client.writer().unwrap();
    writer.set_deadline(Duration::from_secs(120));
    let sender = thread::spawn(move || {
        let mut pattern = Pattern::new(5);
        let mut block = vec![0; 64 * 1024];
        for _ in 0..SIZE / block.len() {
            pattern.fill(&mut block);
            writer.write_all(&block).unwrap();
        }
    });

    let head = client.head().unwrap();
    let mut body = client.body(&head).unwrap();
    let mut pattern = Pattern::new(5);
    let mut piece = Vec::new();
    let mut total = 0;
    loop {
        piece.clear();
        let n = client.read_body(&mut body, &mut piece, 64 * 1024).unwrap();
        if n == 0 {
            break;
        }
        assert_eq!(pattern.check(&piece), Ok(()), "in the block at {total}");
        total += n;
        if total < SLOW {
            // This is the slow reader being slow, about 16 MiB a second.
            thread::sleep(Duration::from_millis(4));
        }
    }
    sender.join().unwrap();
    assert_eq!((total, body.end()), (SIZE, Some(&End::Clean)));
    let peak = server.rss_peak_bytes();
    assert!(peak < 64 << 20, "peak RSS {peak}");
}
