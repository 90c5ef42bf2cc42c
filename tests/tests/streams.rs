//! Guests that produce or wait: `generate`, `slow`, `counter`.

use std::time::{Duration, Instant};

use tidegate_tests::check::{self, closed, success};
use tidegate_tests::{App, Client, End, Server};

#[test]
fn generate_gives_exactly_as_many_bytes_as_asked_for() {
    let server = Server::builder().guest("generate").start();
    let mut client = server.client();
    for n in [0, 1, 4_096, 16_384, 16_385, 65_536, 1_000_000, 5_000_000] {
        let response = client.get("a", &format!("/{n}")).unwrap();
        success(&response);
        assert_eq!(response.body.len(), n);
        let misplaced = response.body.iter().enumerate().find(|(i, byte)| usize::from(**byte) != i % 251);
        assert_eq!(misplaced, None);
    }
}

#[test]
fn generate_towards_http_1_0_ends_with_the_connection() {
    let server = Server::builder().guest("generate").start();
    let mut client = server.client();
    client.send("GET /300000 HTTP/1.0\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    success(&response);
    assert_eq!(response.body.len(), 300_000);
    closed(&mut client);
}

/// 200 requests that sleep 300 ms each, at once, on one worker: one after the other they would take a minute.
#[test]
fn two_hundred_sleepers_share_one_worker() {
    let server = Server::builder().guest("slow").option("--workers", "1").start();
    success(&server.get("a", "/1"));
    let started = Instant::now();
    let mut clients: Vec<Client> = (0..200).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("a", "/300").unwrap();
    }
    for client in &mut clients {
        success(&client.response().unwrap());
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300), "nobody slept: {took:?}");
    assert!(took < Duration::from_secs(10), "the sleepers stood in each other's way: {took:?}");
}

#[test]
fn a_fresh_instance_forgets_and_a_reused_one_counts() {
    let fresh = Server::builder().guest("counter").option("--workers", "1").start();
    let mut client = fresh.client();
    let first = client.get("a", "/").unwrap();
    success(&first);
    for _ in 0..5 {
        assert_eq!(client.get("a", "/").unwrap().body, first.body, "an instance was used twice");
    }

    let reused = Server::builder().guest("counter").option("--workers", "1").option("--reuse", "100").start();
    let mut client = reused.client();
    let answers: Vec<String> = (0..5).map(|_| client.get("a", "/").unwrap().text()).collect();
    let mut distinct = answers.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 5, "the instance was not reused: {answers:?}");
}

#[test]
fn a_reused_instance_is_given_up_after_its_number_of_requests() {
    let server = Server::builder().guest("counter").option("--workers", "1").option("--reuse", "3").start();
    let mut client = server.client();
    let answers: Vec<String> = (0..9).map(|_| client.get("a", "/").unwrap().text()).collect();
    assert_eq!(answers[0..3], answers[3..6], "{answers:?}");
    assert_eq!(answers[0..3], answers[6..9], "{answers:?}");
    assert_ne!(answers[0], answers[1], "{answers:?}");
}

#[test]
fn many_connections_at_once_are_all_served() {
    let server = Server::builder().guest("hello").start();
    let mut clients: Vec<Client> = (0..500).map(|_| server.client()).collect();
    for _ in 0..3 {
        for client in &mut clients {
            client.send_get("a", "/").unwrap();
        }
        for client in &mut clients {
            let response = client.response().unwrap();
            success(&response);
            assert_eq!(response.end, End::Clean);
        }
    }
}

#[test]
fn hints_come_before_the_answer_and_never_to_http_1_0() {
    let server = Server::builder().wat("hints").start();
    let mut client = server.client();
    client.send_get("a", "/").unwrap();
    for _ in 0..2 {
        let hint = client.head().unwrap();
        assert_eq!((hint.status, hint.header("link")), (103, Some("</a>")), "{hint:?}");
    }
    check::ok(&client.response().unwrap(), b"final");

    let mut old = server.client();
    old.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    let response = old.response().unwrap();
    check::ok(&response, b"final");
    assert!(response.interim.is_empty());
}

#[test]
fn head_of_a_stream_has_no_body_and_the_connection_goes_on() {
    let server = Server::builder().guest("generate").start();
    let mut client = server.client();
    for n in [10, 100_000, 3_000_000] {
        client.send(format!("HEAD /{n} HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        success(&client.response_to_head().unwrap());
        let response = client.get("a", "/7").unwrap();
        assert_eq!(response.body.len(), 7);
    }
}

#[test]
fn watermarks_of_an_app_are_its_own() {
    let server = Server::builder()
        .app(App::guest("generate").named("narrow").line("watermarks = { high = \"2KiB\", low = \"512B\" }"))
        .app(App::guest("generate").named("wide").line("watermarks = { high = \"1MiB\", low = \"256KiB\" }"))
        .start();
    for host in ["narrow.test", "wide.test"] {
        let response = server.get(host, "/2000000");
        success(&response);
        assert_eq!(response.body.len(), 2_000_000);
    }
}
