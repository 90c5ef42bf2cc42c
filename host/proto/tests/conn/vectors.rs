//! Every wire vector through a connection that answers: what is refused gets its status and nothing after it, what is
//! accepted gets its answer, in order.

use tidegate_proto::http1::head::Version;

use crate::client::Reply;
use crate::common::{Case, End as Expected, load};
use crate::server::{End, Server};

/// Longer inputs are not tried byte by byte with an answer each.
const SHORT_BYTES: usize = 2_048;

fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Server {
    let mut server = Server::naming();
    for piece in pieces {
        server.receive(piece);
    }
    server
}

fn check(case: &Case, mut server: Server) {
    let name = &case.name;
    let replies = server.replies();
    let (refused, accepted) = match case.end() {
        Expected::Refused(status) => {
            let (last, rest) = replies.split_last().unwrap_or_else(|| panic!("{name}: no answer"));
            check_refusal(case, last, status, &server);
            (true, rest)
        }
        _ => (false, &replies[..]),
    };
    check_accepted(case, &server, accepted);
    match case.end() {
        Expected::Refused(_) | Expected::Closed => {}
        Expected::Idle => assert!(server.conn.is_idle() && server.end.is_none(), "{name}"),
        Expected::More => assert!(!server.conn.is_idle() && server.end.is_none(), "{name}"),
    }
    let sent = server.wire.len();
    if refused || case.end() == Expected::Closed {
        server.receive(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(server.wire.len(), sent, "{name}: something after the end was answered");
    }
    server.receive_eof();
    assert_eq!(server.wire.len(), sent, "{name}: the end of the input was answered");
    assert!(matches!(server.end, Some(End::Closed | End::Truncated)), "{name}: {:?}", server.end);
}

fn check_refusal(case: &Case, reply: &Reply, status: u16, server: &Server) {
    let name = &case.name;
    assert_eq!(reply.status, status, "{name} ({})", case.section);
    assert!(reply.closes() || reply.minor_version == 0 || is_http10(server), "{name}: {reply:?}");
    assert_eq!(server.end, Some(End::Lingering), "{name}: the refusal has to arrive");
}

fn is_http10(server: &Server) -> bool {
    server.conn.context().version == Version::Http10
}

fn check_accepted(case: &Case, server: &Server, replies: &[Reply]) {
    let name = &case.name;
    let seen: Vec<_> = server.seen.iter().filter(|seen| seen.whole).collect();
    assert_eq!((seen.len(), replies.len()), (case.accept.len(), case.accept.len()), "{name}");
    for ((seen, reply), expected) in seen.iter().zip(replies).zip(&case.accept) {
        assert_eq!((&seen.method, &seen.target), (&expected.method, &expected.target()), "{name}");
        assert_eq!(seen.body, expected.body(), "{name}");
        assert_eq!(seen.trailers, expected.trailers(), "{name}");
        assert_eq!(reply.status, 200, "{name}");
        let interim: &[u16] = if expected.expect_continue { &[100] } else { &[] };
        assert_eq!(reply.interim, interim, "{name}");
        let body = format!("{} {}\n", expected.method, expected.target());
        let body = if expected.method == "HEAD" { String::new() } else { body };
        assert_eq!(
            reply.body.escape_ascii().to_string(),
            body.as_bytes().escape_ascii().to_string(),
            "{name}"
        );
        let persists = match expected.version.as_str() {
            "1.0" => reply.field("connection") == Some("keep-alive"),
            _ => !reply.closes(),
        };
        assert_eq!(persists, expected.keep_alive, "{name}");
    }
}

#[test]
fn whole() {
    let cases = load("http1");
    assert!(cases.len() > 100, "the file holds every case of the rules: {}", cases.len());
    for case in &cases {
        check(case, feed([case.input().as_slice()]));
    }
}

#[test]
fn byte_by_byte() {
    for case in load("http1") {
        let input = case.input();
        let pieces = if input.len() > SHORT_BYTES { 61 } else { 1 };
        check(&case, feed(input.chunks(pieces)));
    }
}

#[test]
fn split_at_every_byte() {
    for case in load("http1").iter().filter(|case| case.input().len() <= SHORT_BYTES) {
        let input = case.input();
        for at in 0..=input.len() {
            let (first, second) = input.split_at(at);
            check(case, feed([first, second]));
        }
    }
}
