//! One response after the other: keep-alive, pipelining, HTTP/1.0, HEAD, and what is refused before a guest runs.

use tidegate_tests::check::{self, closed, problem, success};
use tidegate_tests::{Client, End, Server};

fn hello() -> Server {
    Server::builder().guest("hello").start()
}

#[test]
fn a_hello_has_a_length_and_a_date() {
    let server = hello();
    let response = server.get("any.test", "/");
    success(&response);
    assert_eq!(response.header("content-length"), Some(&*response.body.len().to_string()));
    assert!(!response.body.is_empty());
    // RFC 9110 section 5.6.7: IMF-fixdate has 29 characters.
    let date = response.header("date").expect("a date");
    assert!(date.len() == 29 && date.ends_with(" GMT"), "{date}");
    assert_eq!(response.header("server"), None, "Server is off by default");
    assert_eq!(response.header("transfer-encoding"), None);
}

#[test]
fn a_connection_serves_many_requests() {
    let server = hello();
    let mut client = server.client();
    let first = client.get("any.test", "/").unwrap();
    success(&first);
    for _ in 0..50 {
        check::ok(&client.get("any.test", "/again").unwrap(), &first.body);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::builder().guest("echo").start();
    let mut client = server.client();
    let mut bytes = Vec::new();
    for i in 0..40 {
        let body = format!("request number {i}");
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        bytes.extend([head, body].concat().into_bytes());
    }
    client.send(bytes).unwrap();
    for i in 0..40 {
        check::ok(&client.response().unwrap(), format!("request number {i}").as_bytes());
    }
}

#[test]
fn requests_before_a_malformed_one_are_answered_and_nothing_after_it() {
    let server = hello();
    let mut client = server.client();
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.send(format!("{good}{good}GET / HTTP/1.1\r\nHost : a\r\n\r\n{good}")).unwrap();
    success(&client.response().unwrap());
    success(&client.response().unwrap());
    let refused = client.response().unwrap();
    assert_eq!(refused.status(), 400, "{refused:?}");
    closed(&mut client);
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let server = hello();
    let mut client = server.client();
    client.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    success(&response);
    assert_eq!(response.header("transfer-encoding"), None);
    closed(&mut client);

    let mut client = server.client();
    for _ in 0..3 {
        client.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").unwrap();
        let response = client.response().unwrap();
        success(&response);
        let connection = response.header("connection").map(str::to_ascii_lowercase);
        assert_eq!(connection.as_deref(), Some("keep-alive"), "{response:?}");
    }
}

#[test]
fn a_close_that_was_asked_for_is_done_and_announced() {
    let server = hello();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    success(&response);
    assert_eq!(response.header("connection"), Some("close"), "{response:?}");
    closed(&mut client);
}

#[test]
fn head_has_the_length_of_get_and_no_body() {
    let server = hello();
    let mut client = server.client();
    let get = client.get("a", "/").unwrap();
    client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let head = client.response_to_head().unwrap();
    success(&head);
    assert_eq!(head.header("content-length"), get.header("content-length"));
    // Had a body followed, the next response could not be read.
    success(&client.get("a", "/").unwrap());
}

#[test]
fn a_request_that_comes_byte_by_byte_is_served() {
    let server = hello();
    let mut client = server.client();
    for byte in b"GET /slowly HTTP/1.1\r\nHost: a\r\n\r\n" {
        client.send([*byte]).unwrap();
    }
    success(&client.response().unwrap());
}

#[test]
fn malformed_requests_get_their_status_and_the_connection_ends() {
    let server = hello();
    let long = "x".repeat(20_000);
    let many = "a: b\r\n".repeat(101);
    let cases = [
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET /%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 505),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), 501),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n".to_owned(), 501),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx".to_owned(), 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nExpect: the worst\r\n\r\n".to_owned(), 417),
        (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nHost: a\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
    ];
    for (bytes, status) in cases {
        let shown: String = bytes.chars().take(70).collect();
        let mut client = server.client();
        client.send(&bytes).unwrap();
        let response = client.response().unwrap_or_else(|error| panic!("{shown:?}: {error}"));
        assert_eq!(response.status(), status, "{shown:?}: {response:?}");
        assert_eq!(response.end, End::Clean);
        assert!(response.header("date").is_some(), "{response:?}");
        closed(&mut client);
    }
    success(&server.get("a", "/"));
}

#[test]
fn an_unknown_host_is_no_such_app() {
    let server = Server::builder().app(tidegate_tests::App::guest("hello")).start();
    success(&server.get("hello.test", "/"));
    success(&server.get("HELLO.test.:80", "/"));
    let mut client = server.client();
    problem(&client.get("other.test", "/").unwrap(), 404, "no-such-app");
    // It is the app that is missing; the connection goes on.
    success(&client.get("hello.test", "/").unwrap());
}

#[test]
fn ids_are_made_and_differ() {
    let server = Server::builder().app(tidegate_tests::App::guest("hello")).start();
    let mut ids: Vec<_> = (0..20).map(|_| problem(&server.get("no", "/"), 404, "no-such-app")).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20, "{ids:?}");
}

#[test]
fn a_thousand_short_connections_leave_nothing_behind() {
    let server = hello();
    success(&server.get("a", "/"));
    let before = server.fd_count();
    for _ in 0..1_000 {
        let mut client = Client::connect(server.addr()).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        success(&client.response().unwrap());
    }
    tidegate_tests::wait::until("descriptors are given back", || server.fd_count() <= before);
}
