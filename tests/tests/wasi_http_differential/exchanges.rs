//! What takes more than one request and its answer: a client that waits to be asked for its body, and a second request
//! after a body that nobody read.

use tidegate_tests::check::{cut, ok, problem, success};
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, Client};

/// The body is asked for when the guest waits for it, and not before.
pub(crate) fn expectation(addr: &Addr) {
    let head = |path: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
    };
    let mut client = Client::connect(addr).unwrap();
    client.send(head("/collect")).unwrap();
    assert_eq!(client.head().unwrap().status, 100);
    client.send("hello body").unwrap();
    ok(&client.response().unwrap(), b"body: \"ok \\\"hello body\\\"\"\n");

    for path in ["/body-in-unread", "/body-in-dropped"] {
        let mut client = Client::connect(addr).unwrap();
        client.send(head(path)).unwrap();
        let response = client.response().unwrap();
        assert_eq!((response.status(), &response.interim[..]), (200, &[][..]), "{path}: {response:?}");
    }
}

/// The connection goes on after a body that was dropped, half read, or never asked for.
pub(crate) fn next_request(addr: &Addr) {
    for path in
        ["/body-in-unread", "/body-in-dropped", "/read-small", "/splice-nothing", "/finish-without-stream"]
    {
        let mut client = Client::connect(addr).unwrap();
        let first = client.post("a.test", path, b"hello body").unwrap();
        assert_eq!(first.status(), 200, "{path}: {first:?}");
        let second = client.get("a.test", "/hello").unwrap_or_else(|error| panic!("after {path}: {error}"));
        ok(&second, b"hello\n");
    }
    // And after a trap before the head, and a failure that the guest answered with.
    for path in ["/panic", "/drop-in-with-stream", "/error?denied"] {
        let mut client = Client::connect(addr).unwrap();
        let first = client.get("a.test", path).unwrap();
        assert_eq!(first.status(), 500, "{path}: {first:?}");
        let second = client.get("a.test", "/hello").unwrap_or_else(|error| panic!("after {path}: {error}"));
        ok(&second, b"hello\n");
    }
}

/// Every call begins anew.
pub(crate) fn no_state(addr: &Addr) {
    let mut client = Client::connect(addr).unwrap();
    for _ in 0..5 {
        ok(&client.get("a.test", "/count").unwrap(), b"1\n");
    }
}

/// An instance is used again, with the state that the call before left. Not by every next request: one that comes before
/// the call has returned gets another.
pub(crate) fn state(addr: &Addr) {
    let mut client = Client::connect(addr).unwrap();
    until("a second call of one instance", || {
        let response = client.get("a.test", "/count").unwrap();
        success(&response);
        response.body != b"1\n"
    });
}

/// Handles of a request that is over reach neither its client nor the next one.
pub(crate) fn kept_handles(addr: &Addr) {
    let mut client = Client::connect(addr).unwrap();
    // The answer of the instance that has kept something.
    let mut next = |path: &str| {
        let answer = poll_for(PATIENCE, || {
            let mut keeper = Client::connect(addr).unwrap();
            let request =
                "POST /keep HTTP/1.1\r\nHost: a.test\r\nX-Given: 1\r\nContent-Length: 5\r\n\r\nsaved";
            keeper.send(request).unwrap();
            cut(&keeper.response());
            let response = client.get("a.test", path).unwrap();
            (response.body != b"kept: \"nothing\"\n").then_some(response)
        });
        answer.expect("an instance is used again")
    };
    let closed = "header: content-length=5\nheader: x-given=1\nread: \"closed\"\ncheck: \"closed\"\n\
                  write and flush: \"closed\"\n";
    ok(&next("/kept-streams"), closed.as_bytes());
    // To ask about the request itself is a trap.
    problem(&next("/kept-request"), 500, "guest-trap");
    ok(&client.get("a.test", "/hello").unwrap(), b"hello\n");
}
