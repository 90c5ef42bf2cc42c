//! Whether a connection goes on (RFC 9112 section 9), and how answers are framed for it (section 6).

use crate::answer::{Answer, Reads};
use crate::client::Framed;
use crate::server::{End, Server, name_request};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn pipelined_answers_come_in_order_whatever_each_takes() {
    let mut server = Server::new(|seen| match seen.target.as_str() {
        "/2" => name_request(seen).reads(Reads::Never),
        "/3" => Answer::new("").streamed(&["three", ", in ", "chunks"]),
        _ => name_request(seen),
    });
    server.receive(
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n\
         POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\
         POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
         HEAD /4 HTTP/1.1\r\nHost: a\r\n\r\n\
         GET /5 HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let bodies: Vec<_> = server.replies().into_iter().map(|reply| reply.body).collect();
    assert_eq!(bodies, [&b"GET /1\n"[..], b"POST /2\n", b"three, in chunks", b"", b"GET /5\n"]);
    assert!(server.conn.is_idle() && server.end.is_none());
}

#[test]
fn one_request_at_a_time() {
    let mut server = Server::naming();
    server.room = 10;
    server.receive([GET, GET].concat());
    assert_eq!(server.seen.len(), 1, "the second waits until the first answer has left");
    server.writable(usize::MAX);
    assert_eq!((server.seen.len(), server.statuses()), (2, vec![200, 200]));
}

#[test]
fn what_was_asked_before_an_error_is_answered() {
    let mut server = Server::naming();
    server.receive([GET, GET, "GET /\n\n", GET].concat());
    assert_eq!((server.statuses(), server.end), (vec![200, 200, 400], Some(End::Lingering)));
}

/// Head lines, whether the head waits for the body, and the connection option and framing of the answer.
#[test]
fn each_version_is_told_what_it_does_not_know() {
    use Framed::{Chunks, Close, Length};
    let table = [
        ("HTTP/1.1\r\nHost: a", true, None, Length, None),
        ("HTTP/1.1\r\nHost: a", false, None, Chunks, None),
        ("HTTP/1.1\r\nHost: a\r\nConnection: close", true, Some("close"), Length, Some(End::Closed)),
        ("HTTP/1.1\r\nHost: a\r\nConnection: close", false, Some("close"), Chunks, Some(End::Closed)),
        ("HTTP/1.0", true, None, Length, Some(End::Closed)),
        ("HTTP/1.0", false, None, Close, Some(End::Closed)),
        ("HTTP/1.0\r\nConnection: keep-alive", true, Some("keep-alive"), Length, None),
        // The client would have gone on, so that it may have sent more.
        ("HTTP/1.0\r\nConnection: keep-alive", false, None, Close, Some(End::Lingering)),
    ];
    for (lines, held, connection, framed, end) in table {
        let mut server = Server::new(move |_| {
            let answer = Answer::new("hello");
            if held { answer } else { answer.streamed(&["he", "llo"]) }
        });
        server.receive(format!("GET / {lines}\r\n\r\n"));
        let replies = server.replies();
        let [reply] = &replies[..] else { panic!("{lines}, {held}: {replies:?}") };
        assert_eq!((reply.field("connection"), reply.framed), (connection, framed), "{lines}, {held}");
        assert_eq!((reply.body.as_slice(), server.end), (&b"hello"[..], end), "{lines}, {held}");
    }
}

#[test]
fn a_length_that_the_guest_declares_needs_no_chunks() {
    for version in ["1.0", "1.1"] {
        let mut server =
            Server::new(|_| Answer::new("").field("Content-Length", "5").streamed(&["he", "llo"]));
        server.receive(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        let reply = &server.replies()[0];
        assert_eq!((reply.framed, reply.body.as_slice()), (Framed::Length, &b"hello"[..]));
    }
}

#[test]
fn head_204_and_304_have_no_body_and_the_connection_goes_on() {
    for held in [true, false] {
        let mut server = Server::new(move |seen| {
            let answer = match seen.target.as_str() {
                "/204" => Answer::new("hello").status(204),
                "/304" => Answer::new("hello").status(304),
                _ => Answer::new("hello"),
            };
            if held { answer } else { answer.streamed(&["he", "llo"]) }
        });
        server.receive(
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\n\
             GET /304 HTTP/1.1\r\nHost: a\r\n\r\nGET /200 HTTP/1.1\r\nHost: a\r\n\r\n",
        );
        let replies = server.replies();
        let bodies: Vec<_> = replies.iter().map(|reply| (reply.status, reply.body.as_slice())).collect();
        assert_eq!(bodies, [(200, &b""[..]), (204, b""), (304, b""), (200, b"hello")]);
        assert_eq!(replies[0].field("content-length"), held.then_some("5"), "as GET would have had it");
        assert_eq!(replies[1].field("content-length"), None);
        assert!(server.conn.is_idle());
    }
}

#[test]
fn a_guest_may_close() {
    let mut server = Server::new(|_| Answer::new("bye").field("Connection", "close"));
    server.receive([GET, GET].concat());
    assert!(server.replies()[0].closes());
    assert_eq!((server.seen.len(), server.end), (1, Some(End::Lingering)), "the client may be sending still");
}

#[test]
fn a_server_that_drains_says_so() {
    let mut server = Server::naming();
    server.receive(GET);
    server.conn.close_after();
    server.receive(GET);
    let closes: Vec<_> = server.replies().iter().map(crate::client::Reply::closes).collect();
    assert_eq!((closes, server.end), (vec![false, true], Some(End::Lingering)));
}

#[test]
fn hints_go_before_the_head_and_never_to_http_1_0() {
    for (version, interim) in [("1.1", &[103][..]), ("1.0", &[])] {
        let mut server = Server::naming();
        server.stalled = true;
        server.conn.send_interim(103, b"", &mut server.out);
        server.receive(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        server.conn.send_interim(103, b"link: </s.css>\r\n", &mut server.out);
        server.unstall();
        server.conn.send_interim(103, b"", &mut server.out);
        assert!(server.out.is_empty(), "neither without a request nor behind its answer");
        assert_eq!(server.replies()[0].interim, interim, "{version}");
    }
}

#[test]
fn trailers_follow_chunks_only() {
    let streamed = |_: &_| Answer::new("").streamed(&["he", "llo"]).trailer("X-Sum", "7");
    let mut server = Server::new(streamed);
    server.receive(GET);
    let reply = &server.replies()[0];
    assert_eq!((reply.framed, reply.body.as_slice()), (Framed::Chunks, &b"hello"[..]));
    assert_eq!(reply.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert!(server.conn.is_idle());

    let mut old = Server::new(streamed);
    old.receive("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((old.replies()[0].body.as_slice(), old.end), (&b"hello"[..], Some(End::Closed)));
}

#[test]
fn a_request_leaves_nothing_to_the_next() {
    let mut server = Server::naming();
    server.receive("HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert!(!server.conn.discards_body(), "there is no answer in progress");
    server.receive("what is this\r\n\r\n");
    let refusal = &server.replies()[1];
    assert_eq!((refusal.status, refusal.closes()), (400, true));
    assert!(!refusal.body.is_empty(), "HEAD and 1.0 were the request's before");
}

#[test]
fn a_refused_head_request_gets_a_head_only() {
    let mut server = Server::naming();
    server.receive("HEAD / HTTP/1.1\r\nHost: a\r\nExpect: else\r\n\r\n");
    assert!(server.wire.starts_with(b"HTTP/1.1 417 "));
    assert!(server.wire.ends_with(b"\r\n\r\n"), "{}", server.wire.escape_ascii());
}

#[test]
fn an_idle_connection_is_small() {
    let size = size_of::<tidegate_proto::conn::Connection>();
    assert!(size <= 256, "{size}: each of thousands of idle ones costs that");
}
