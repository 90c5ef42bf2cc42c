//! The table of failures: each ends with its status, its code, a problem document, and a log line under the same id;
//! after the response head it cuts the connection instead and never sends a clean end.

use std::io;
use std::time::{Duration, Instant};

use tidegate_tests::check::{closed, cut, logged_problem, success};
use tidegate_tests::{App, Client, End, Response, Server};

/// One app for each way to fail, beside `hello`; CPU and wall limits low enough to wait for.
fn zoo() -> Server {
    Server::builder()
        .app(App::guest("hello"))
        .app(App::guest("trap"))
        .app(App::guest("bomb").limit("memory", "16MiB"))
        .app(App::guest("recurse"))
        .app(App::guest("silent"))
        .app(App::guest("bad_head"))
        .app(App::guest("unfinished"))
        .app(App::guest("spin").limit("cpu", "50ms"))
        .app(App::guest("slow").limit("wall", "300ms"))
        .option("--workers", "1")
        .start()
}

/// The failure comes on a connection that was good before and is good after it (a failure before the response head
/// is the guest's, not the connection's).
fn fails(server: &Server, host: &str, path: &str, status: u16, code: &str) -> Response {
    let mut client = server.client();
    success(&client.get("hello.test", "/").unwrap());
    let response = client.get(host, path).unwrap();
    logged_problem(server, &response, status, code);
    success(&client.get("hello.test", "/").unwrap());
    response
}

#[test]
fn failures_before_the_head_have_names() {
    let server = zoo();
    fails(&server, "trap.test", "/", 500, "guest-trap");
    fails(&server, "bomb.test", "/", 500, "guest-memory");
    fails(&server, "recurse.test", "/", 500, "guest-trap");
    fails(&server, "silent.test", "/", 502, "no-response");
    fails(&server, "bad-head.test", "/", 502, "bad-response");
}

#[test]
fn the_clock_that_ran_out_is_named() {
    let server = zoo();
    let started = Instant::now();
    fails(&server, "spin.test", "/", 504, "cpu-limit");
    assert!(started.elapsed() < Duration::from_secs(10), "50 ms of CPU took {:?}", started.elapsed());
    let started = Instant::now();
    fails(&server, "slow.test", "/60000", 504, "wall-limit");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(10), "{took:?}");
    // Within the limit all is well.
    success(&server.get("slow.test", "/1"));
}

#[test]
fn a_problem_for_head_has_no_body() {
    let server = zoo();
    let mut client = server.client();
    client.send("HEAD / HTTP/1.1\r\nHost: trap.test\r\n\r\n").unwrap();
    let response = client.response_to_head().unwrap();
    assert_eq!((response.status(), response.header("tidegate-error")), (500, Some("guest-trap")));
    success(&client.get("hello.test", "/").unwrap());
}

fn ask(server: &Server, host: &str, path: &str, minor: u8) -> io::Result<Response> {
    let mut client = server.client();
    client.send(format!("GET {path} HTTP/1.{minor}\r\nHost: {host}\r\n\r\n"))?;
    client.response()
}

#[test]
fn a_trap_after_the_head_cuts_the_body() {
    let server = zoo();
    cut(&ask(&server, "trap.test", "/late", 1));
    let line = server.wait_for_log(|line| line.contains("guest-trap"));
    assert!(line.is_some(), "not logged:\n{}", server.stderr().tail(20));
}

#[test]
fn a_body_that_is_never_finished_is_cut() {
    let server = zoo();
    cut(&ask(&server, "unfinished.test", "/", 1));
}

/// Without a length or chunks the only thing that tells a cut body from a whole one is a reset.
#[test]
fn a_cut_body_is_a_reset_where_the_end_is_the_connections_end() {
    let server = zoo();
    cut(&ask(&server, "trap.test", "/late", 0));
    cut(&ask(&server, "unfinished.test", "/", 0));
}

/// Also if nothing of it had left by then: what the guest ended is its answer, and only the log hears of the rest.
#[test]
fn an_answer_that_was_ended_before_its_guest_failed_stands() {
    let server = Server::builder().wat("ended_then_trap").option("--workers", "1").start();
    let mut client = server.client();
    for _ in 0..3 {
        let response = client.get("a", "/").unwrap();
        success(&response);
        assert_eq!(response.body, b"whole");
    }
    assert!(server.wait_for_log(|line| line.contains("after the response had ended")).is_some());
}

/// A response without content drains nothing: what is written to it must not wait for room.
#[test]
fn content_of_a_response_that_has_none_is_thrown_away() {
    let server = Server::builder().wat("reset_content").option("--workers", "1").start();
    let mut client = server.client();
    for _ in 0..3 {
        let response = client.get("a", "/").unwrap();
        assert_eq!((response.status(), response.body.len()), (205, 0));
    }
}

#[test]
fn a_failing_app_leaves_the_others_alone() {
    let server = zoo();
    let mut hello = server.client();
    let expected = hello.get("hello.test", "/").unwrap();
    for round in 0..20 {
        for (host, path) in [
            ("trap.test", "/"),
            ("trap.test", "/late"),
            ("bomb.test", "/"),
            ("recurse.test", "/"),
            ("silent.test", "/"),
            ("bad-head.test", "/"),
            ("unfinished.test", "/"),
        ] {
            let _ = Client::connect(server.addr()).unwrap().get(host, path);
            let response = hello.get("hello.test", "/").unwrap();
            assert_eq!(response.body, expected.body, "round {round}, after {host}{path}");
        }
    }
}

#[test]
fn a_flood_of_log_records_is_limited_and_counted() {
    let server = Server::builder()
        .app(App::guest("chatty").limit("wall", "30s"))
        .app(App::guest("hello"))
        .option("--workers", "1")
        .start();
    let mut chatty = server.client();
    for _ in 0..10 {
        let response = chatty.get("chatty.test", "/").unwrap();
        success(&response);
    }
    success(&server.get("hello.test", "/"));
    let told = server.wait_for_log(|line| line.contains("drop"));
    assert!(told.is_some(), "no word of dropped records in {} bytes of log", server.stderr().bytes());
    // Ten floods: what is let through is what the rate allows, with room for how long this test took.
    assert!(server.stderr().bytes() < 8 << 20, "{} bytes of log", server.stderr().bytes());
}

#[test]
fn a_body_over_the_limit_is_413() {
    let server = Server::builder().guest("echo").option("--limit", "body=1000B").start();
    let mut client = server.client();
    let body = vec![b'x'; 1_000];
    tidegate_tests::check::ok(&client.post("a", "/", &body).unwrap(), &body);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").unwrap();
    let response = client.response().unwrap();
    assert_eq!(response.status(), 413, "{response:?}");
    closed(&mut client);

    // Chunked, nobody knows beforehand: what has been sent decides between a status and a cut.
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    client.send(format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1_001))).unwrap();
    let response = client.response().unwrap();
    assert!(response.status() == 413 || response.end != End::Clean, "{response:?}");
}
