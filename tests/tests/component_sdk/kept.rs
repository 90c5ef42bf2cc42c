//! What a handler keeps of a request is of no use in the next one of its instance, as a module and as a component.

use tidegate_tests::artifacts::{component_guest, module_guest};
use tidegate_tests::check;
use tidegate_tests::{End, Response, Server};

/// What the SDK says of a handle that is not of this request.
const BAD: &str = "no such handle, or not one for this direction (EBADF)";

/// The guest `keeper` with one instance for all requests, both ways.
fn reused(ask: impl Fn(&Server)) {
    for guest in [module_guest("keeper"), component_guest("keeper")] {
        // Shown if what follows fails.
        println!("{}", guest.display());
        ask(&Server::builder().module(guest).option("--workers", "1").option("--reuse", "1000").start());
    }
}

fn post(server: &Server, path: &str, body: &str) -> Response {
    let mut client = server.client();
    let length = body.len();
    client
        .send(format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"))
        .unwrap();
    client.response().unwrap()
}

/// Begins a response, keeps its body, and so never ends it.
fn keep_writer(server: &Server) {
    let begun = post(server, "/keep-writer", "");
    assert_eq!((begun.status(), begun.text().as_str()), (200, "begun and kept\n"));
    assert_ne!(begun.end, End::Clean, "{begun:?}");
}

#[test]
fn a_kept_writer_does_not_write_into_the_next_response() {
    reused(|server| {
        for _ in 0..3 {
            keep_writer(server);
            let poked = post(server, "/poke", "mine");
            let lines = ["write: write", "wait: done\nforward: forward", "finish: finish"];
            let wanted: String = lines.iter().map(|line| format!("{line}: {BAD}\n")).collect();
            check::ok(&poked, wanted.as_bytes());
        }
    });
}

#[test]
fn a_kept_writer_that_is_dropped_does_not_cut_the_next_response_off() {
    reused(|server| {
        for _ in 0..3 {
            keep_writer(server);
            check::ok(&post(server, "/drop", ""), b"before and after\n");
        }
    });
}

#[test]
fn a_kept_body_does_not_read_the_next_request() {
    reused(|server| {
        for _ in 0..3 {
            check::ok(&post(server, "/keep-body", "of the first"), b"kept\n");
            let wanted = format!("read: read: {BAD}\nwait: done\ntrailers: trailers: {BAD}\nof the second");
            check::ok(&post(server, "/read", "of the second"), wanted.as_bytes());
        }
    });
}
