//! The guest `async_fanout`: what is waited for together takes as long as the slowest part, and what is there first is
//! sent first.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::check::success;
use tidegate_tests::wait::until;
use tidegate_tests::{App, Client, Response, Server};

fn fanout() -> Server {
    Server::builder().guest("async_fanout").option("--workers", "1").start()
}

fn json_of(response: &Response) -> Value {
    success(response);
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    serde_json::from_slice(&response.body).unwrap()
}

fn came(part: &str) -> Value {
    json!({ "part": part, "value": format!("{part} of today") })
}

/// Forty parts of 300 ms each: one after the other they would take twelve seconds.
#[test]
fn all_parts_together_take_as_long_as_the_slowest() {
    let server = fanout();
    let mut target = "/all?slowest=400".to_owned();
    (0..40).for_each(|i| write!(target, "&part{i}=300").unwrap());
    let mut client = server.client();
    let started = Instant::now();
    let page = json_of(&client.get("a", &target).unwrap());
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400), "somebody did not wait: {took:?}");
    assert!(took < Duration::from_secs(6), "one after the other: {took:?}");
    // In the order they were asked for, not in the order they came.
    let parts = page["parts"].as_array().unwrap();
    assert_eq!((parts.len(), &parts[0], &parts[40]), (41, &came("slowest"), &came("part39")));
}

#[test]
fn a_part_that_is_late_does_not_spoil_the_others() {
    let page = json_of(&fanout().get("a", "/all?late=60000&stock=1"));
    let late = json!({ "part": "late", "error": "not done within 1s" });
    assert_eq!(page["parts"], json!([late, came("stock")]));
}

#[test]
fn the_body_is_read_meanwhile() {
    let server = fanout();
    let page = json_of(&server.client().post("a", "/all?a=50", &[b'x'; 300_000]).unwrap());
    assert_eq!(page["body_bytes"], 300_000);

    // The part is long done when the body ends; the answer waits for both.
    let mut client = server.client();
    client
        .send("POST /all?a=1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .unwrap();
    json_of(&server.get("a", "/all?a=50"));
    client.send("6\r\n world\r\n0\r\n\r\n").unwrap();
    let page = json_of(&client.response().unwrap());
    assert_eq!(page, json!({ "parts": [came("a")], "body_bytes": 11 }));
}

#[test]
fn the_first_is_the_fastest() {
    let server = fanout();
    let response = server.get("a", "/first?slow=900&fast=20&never=86400000");
    success(&response);
    assert_eq!(response.text(), "fast of today");
    assert_eq!(server.get("a", "/first?late=2000&later=86400000").status(), 504);
}

#[test]
fn what_is_no_list_of_parts_is_refused() {
    let server = fanout();
    for target in ["/all", "/all?a", "/all?a=soon", "/first", "/each?a=-1"] {
        assert_eq!(server.get("a", target).status(), 400, "{target}");
    }
}

fn line(client: &mut Client, body: &mut tidegate_tests::http::Body) -> Value {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\n") {
        assert!(client.read_body(body, &mut bytes, 1).unwrap() > 0, "{:?}", body.end());
    }
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn each_part_is_sent_as_soon_as_it_is_there() {
    let server = fanout();
    let mut client = server.client();
    client.send_get("a", "/each?late=60000&slow=300&quick=10").unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.header("content-type"), Some("application/x-ndjson"), "{head:?}");
    let mut body = client.body(&head).unwrap();
    assert_eq!(line(&mut client, &mut body), came("quick"));
    let quick = Instant::now();
    assert_eq!(line(&mut client, &mut body), came("slow"));
    assert_eq!(line(&mut client, &mut body)["error"], "not done within 1s");
    // Nominally 990 ms.
    assert!(quick.elapsed() > Duration::from_millis(200), "the lines came together: {:?}", quick.elapsed());
    assert_eq!(client.read_body(&mut body, &mut Vec::new(), 1).unwrap(), 0);
    // The connection goes on.
    success(&client.get("a", "/all?a=1").unwrap());
}

#[test]
fn a_client_that_goes_away_takes_its_handler_with_it() {
    let app = App::guest("async_fanout").named("fanout").limit("concurrency", "1").limit("queue", "0");
    let server = Server::builder().app(app.limit("wall", "60s")).option("--workers", "1").start();
    let mut client = server.client();
    client.send("POST /all?a=1 HTTP/1.1\r\nHost: fanout.test\r\nContent-Length: 9\r\n\r\nhalf").unwrap();
    server.settle();
    until("it has its place", || server.get("fanout.test", "/all?a=1").status() == 503);
    client.reset().unwrap();
    until("its place is free", || server.get("fanout.test", "/all?a=1").status() == 200);
}
