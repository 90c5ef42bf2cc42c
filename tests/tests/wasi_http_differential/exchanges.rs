//! What takes more than one request and its answer: a client that waits to be asked for its body, a second request after a
//! body that nobody read or that was none, and guests that are at work when their answer has ended.

use std::time::{Duration, Instant};

use tidegate_tests::check::{broken_off, ok, problem, success};
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, Client, Server};

/// Far below the 30 s of the wall limit, which would end any guest.
const SOON: Duration = Duration::from_secs(10);

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

/// An answer that has no body, whatever its head says of one, and an answer after it. Both are asked for at once.
pub(crate) fn bodiless(addr: &Addr) {
    let requests = [
        ("HEAD", "/length-early?200", 200),
        ("HEAD", "/length-none", 200),
        ("GET", "/length-early?304", 304),
    ];
    for (method, path, status) in requests {
        let mut client = Client::connect(addr).unwrap();
        let next = "GET /hello HTTP/1.1\r\nHost: a.test\r\n\r\n";
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a.test\r\n\r\n{next}")).unwrap();
        let first = if method == "HEAD" { client.response_to_head() } else { client.response() };
        assert_eq!(first.unwrap_or_else(|error| panic!("{method} {path}: {error}")).status(), status);
        let second = client.response().unwrap_or_else(|error| panic!("after {method} {path}: {error}"));
        ok(&second, b"hello\n");
    }
}

/// A guest goes on to work when its answer has ended, whatever becomes of the connection.
pub(crate) fn goes_on_after_its_answer(server: &Server) {
    let ways = [
        ("keeps", "HTTP/1.1\r\nHost: a.test\r\n", false),
        ("leaves", "HTTP/1.1\r\nHost: a.test\r\n", true),
        ("wants-it-closed", "HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n", false),
        ("leaves-as-it-closes", "HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n", true),
        ("is-old", "HTTP/1.0\r\n", false),
    ];
    for (name, rest, leaves) in ways {
        let mut client = server.client();
        client.send(format!("GET /work-after-finish?{name} {rest}\r\n")).unwrap();
        ok(&client.response().unwrap(), b"done\n");
        let kept = (!leaves).then_some(client);
        let line = server.wait_for_log(|line| line.contains(&format!("{name}: after the end")));
        assert!(
            line.is_some(),
            "the guest of a client that {name} did not end:\n{}",
            server.stderr().tail(10)
        );
        drop(kept);
    }
}

/// A guest that reads on when its answer has ended reads what has come. Where that is not all, it is told so soon, though
/// the client stays: it neither waits for the rest nor takes a part for the whole.
pub(crate) fn reads_on_after_its_answer(server: &Server) {
    let length = "Content-Length: 10\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    // The last is too long to be waited for between two requests.
    let ways = [
        ("whole", "1.1", length, "", "hello body"),
        ("whole-chunked", "1.1", chunked, "", "a\r\nhello body\r\n0\r\n\r\n"),
        ("whole-closing", "1.1", length, "Connection: close\r\n", "hello body"),
        ("length", "1.1", length, "", "hello"),
        ("chunked", "1.1", chunked, "", "a\r\nhello"),
        ("nothing-yet", "1.1", length, "", ""),
        ("closing", "1.1", length, "Connection: close\r\n", "hello"),
        ("old", "1.0", length, "", "hello"),
        ("long", "1.1", "Content-Length: 1000000000\r\n", "", "hello"),
    ];
    for (name, version, framing, more, part) in ways {
        let mut client = server.client();
        let target = format!("/read-after-finish?{name}");
        client
            .send(format!("POST {target} HTTP/{version}\r\nHost: a.test\r\n{framing}{more}\r\n{part}"))
            .unwrap();
        ok(&client.response().unwrap(), b"done\n");
        let answered = Instant::now();
        let line = server.stderr().wait_for(SOON, |line| line.contains(&format!("text=\"{name}: ")));
        let Some(line) = line else {
            panic!(
                "{name}: the guest still reads after {:?}:\n{}",
                answered.elapsed(),
                server.stderr().tail(10)
            );
        };
        let wanted: &[&str] = if name.starts_with("whole") {
            &["10 bytes, then closed\""]
        } else {
            &["0 bytes, then failed", "5 bytes, then failed"]
        };
        let told = wanted.iter().any(|end| line.contains(&format!("text=\"{name}: {end}")));
        assert!(told, "{wanted:?} was expected: {line}");
        drop(client);
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
            broken_off(&keeper.response(), b"part of it\n").unwrap();
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
