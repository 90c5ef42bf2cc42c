//! Request bodies: 100-continue, limits, what is left unread, and the way past the decoder.

use proptest::prelude::*;
use tidegate_proto::conn::state::Recv;
use tidegate_proto::conn::{Connection, OutBuf, Receiving, Taken, Timeout};
use tidegate_proto::error::PeerError;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::head::RequestHead;
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use crate::answer::{Answer, Reads};
use crate::server::{End, Server, name_request};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const EXPECTS: &str = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

fn chunked(body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    )
}

fn counted(body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn the_100_waits_for_the_guest() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive(EXPECTS);
    assert!(server.wire.is_empty(), "nobody has asked for the body");
    assert_eq!(server.deadline(), tidegate_proto::conn::NEVER, "and nobody is slow");
    server.conn.resume_input(0);
    assert_eq!(server.deadline(), tidegate_proto::conn::NEVER);
    server.unstall();
    assert_eq!(server.wire, b"HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(server.deadline(), 5_000, "now it is the client's turn");
    server.unstall();
    server.receive("body");
    assert_eq!((server.replies()[0].interim.as_slice(), server.conn.is_idle()), (&[100][..], true));
}

#[test]
fn a_final_status_instead_of_100_closes() {
    let mut server = Server::new(|seen| name_request(seen).reads(Reads::Never));
    server.receive(EXPECTS);
    let reply = &server.replies()[0];
    assert_eq!((reply.interim.len(), reply.closes(), server.end), (0, true, Some(End::Lingering)));

    let mut failing = Server::naming();
    failing.stalled = true;
    failing.receive(EXPECTS);
    assert!(failing.conn.answer() && failing.conn.closes_after(), "an error of ours closes no less");
}

#[test]
fn a_client_that_does_not_wait_gets_no_100_and_is_timed() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive([EXPECTS, "bo"].concat());
    assert_eq!(server.deadline(), 5_000);
    server.receive("dy");
    server.unstall();
    let reply = &server.replies()[0];
    assert_eq!((reply.interim.len(), reply.closes(), server.end), (0, false, None));
    assert_eq!(server.seen[0].body, b"body");
}

#[test]
fn a_body_wanted_after_the_head_is_timed_without_a_100() {
    let mut server = Server::new(|_| Answer::new("early").reads(Reads::Late).streamed(&["early"]));
    server.room = 0;
    server.receive(EXPECTS);
    assert_eq!(server.deadline(), 5_000, "a guest that reads must not wait for ever");
    assert!(!server.wire.windows(5).any(|five| five == b" 100 "));
}

#[test]
fn an_unread_body_is_drained_up_to_the_limit() {
    let limits = || Limits { drain_bytes_max: 8, ..Limits::default() };
    let unread = |seen: &_| name_request(seen).reads(Reads::Never);
    for (request, kept) in [
        (counted("12345678"), true),
        (counted("123456789"), false),
        (chunked("12345678"), true),
        (chunked("123456789"), false),
    ] {
        let mut server = Server::with_limits(limits(), unread);
        server.receive([&request, GET].concat());
        assert_eq!(server.statuses(), if kept { vec![200, 200] } else { vec![200] }, "{request}");
        assert_eq!(server.end, (!kept).then_some(End::Lingering), "{request}");
        // Where the length is told, so is what follows from it.
        assert_eq!(server.replies()[0].closes(), !kept && request.contains("Length"), "{request}");
    }
}

#[test]
fn the_rest_of_a_drained_body_may_come_later() {
    let mut server = Server::new(|seen| name_request(seen).reads(Reads::Never));
    server.receive("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    assert_eq!((server.conn.recv(), server.conn.declared_body()), (Recv::Discard, Some(2)));
    assert_eq!((server.statuses(), server.conn.is_idle()), (vec![200], false));
    server.receive(["cd", GET].concat());
    assert_eq!((server.statuses(), server.conn.is_idle()), (vec![200, 200], true));
}

#[test]
fn what_is_wrong_with_bytes_that_nobody_wants_ends_the_connection_behind_the_answer() {
    let mut server = Server::new(|seen| name_request(seen).reads(Reads::Never));
    server.room = 20;
    server.receive("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    server.receive("rubbish");
    assert_eq!((server.conn.recv(), server.end), (Recv::Refused, None), "the answer has not left");
    server.writable(usize::MAX);
    assert_eq!((server.statuses(), server.end), (vec![200], Some(End::Lingering)));
}

#[test]
fn a_drain_that_stands_still_ends_too() {
    let slow = || {
        let mut server = Server::new(|seen| name_request(seen).reads(Reads::Never));
        server.room = 20;
        server.receive("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
        server
    };
    let mut read = slow();
    read.writable(usize::MAX);
    assert_eq!(read.advance(5_000), Some(Timeout::Linger));
    assert_eq!((read.statuses(), read.end), (vec![200], Some(End::Closed)), "never a 408 behind an answer");

    let mut unread = slow();
    assert_eq!((unread.advance(5_000), unread.end), (None, None), "an answer that is being read goes on");
    assert_eq!(unread.deadline(), 10_000, "under the reader's clock alone");
    unread.writable(usize::MAX);
    assert_eq!((unread.statuses(), unread.end), (vec![200], Some(End::Lingering)));
}

#[test]
fn a_body_over_its_limit_is_413() {
    for (request, in_body) in [(counted("12345"), 0), (chunked("12345"), 4)] {
        for piece in [usize::MAX, 1] {
            let mut server = Server::naming();
            server.body_max = 4;
            request.as_bytes().chunks(piece.min(request.len())).for_each(|piece| server.receive(piece));
            assert_eq!((server.statuses(), server.end), (vec![413], Some(End::Lingering)), "{request}");
            assert_eq!((server.seen[0].body.len(), server.seen[0].whole), (in_body, false), "{request}");
        }
        let mut server = Server::naming();
        server.body_max = 5;
        server.receive(&request);
        assert_eq!((server.statuses(), server.conn.is_idle()), (vec![200], true), "{request}");
    }
}

#[test]
fn a_declared_length_over_the_limit_is_refused_before_a_byte_of_it() {
    let mut server = Server::naming();
    server.body_max = 3;
    server.stalled = true;
    server.receive(EXPECTS);
    assert_eq!(server.statuses(), [413]);
    assert!(server.replies()[0].interim.is_empty());
}

#[test]
fn a_limit_is_one_requests_own() {
    let mut server = Server::naming();
    server.body_max = 4;
    server.receive([counted("1234"), chunked("1234"), counted("1234")].concat());
    assert_eq!(server.statuses(), [200, 200, 200]);
}

#[test]
fn a_full_pipe_stops_the_reading_and_the_clock() {
    let mut server = Server::naming();
    server.stalled = true;
    let body = "x".repeat(Watermarks::default().high);
    server.receive(chunked(&(body.clone() + "y")));
    assert_eq!(server.deadline(), tidegate_proto::conn::NEVER, "it is not the client that is slow");
    server.now = 1_000;
    server.unstall();
    assert_eq!((server.statuses(), server.seen[0].body.len()), (vec![200], body.len() + 1));
}

/// A connection at the start of a counted body, with everything that it is lent.
struct Counted {
    conn: Connection,
    head: RequestHead,
    pipe: Pipe,
    trailers: Fields,
    limits: Limits,
}

impl Counted {
    fn new(length: usize, limit: u64) -> Self {
        let limits = Limits::default();
        let mut this = Self {
            conn: Connection::new(0, &limits),
            head: RequestHead::default(),
            pipe: Pipe::new(Watermarks::new(64, 16).expect("valid")),
            trailers: Fields::default(),
            limits,
        };
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        assert_eq!(this.take(head.as_bytes()), Ok(Taken::Request(head.len())));
        this.conn.limit_body(limit);
        this
    }

    fn take(&mut self, input: &[u8]) -> Result<Taken, PeerError> {
        let mut to = Receiving { head: &mut self.head, body: &mut self.pipe, trailers: &mut self.trailers };
        self.conn.handle_input(input, &mut to, 0, &self.limits)
    }

    /// Receives what it may of `input` straight into the pipe.
    fn receive(&mut self, input: &[u8]) -> Result<Taken, PeerError> {
        let max =
            usize::try_from(self.conn.direct_body_max()).expect("these bodies are short").min(input.len());
        let room = self.pipe.spare(max);
        let n = room.len();
        room.copy_from_slice(&input[..n]);
        self.pipe.commit(n);
        self.conn.handle_direct_body(n, &mut self.pipe)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// The same body, some parts of it through the decoder and some past it.
    #[test]
    fn the_direct_way_is_the_same(
        body in prop::collection::vec(any::<u8>(), 1..400),
        parts in prop::collection::vec((any::<bool>(), 1_usize..50), 1..40),
    ) {
        let mut counted = Counted::new(body.len(), u64::MAX);
        let (mut at, mut read) = (0, Vec::new());
        for (direct, wanted) in parts.into_iter().cycle() {
            let rest = &body[at..(at + wanted).min(body.len())];
            let due = (body.len() - at) as u64;
            prop_assert_eq!(counted.conn.declared_body(), Some(due));
            let taken = if direct { counted.receive(rest) } else { counted.take(rest) };
            match taken.expect("the body is well formed") {
                Taken::Body(n) => at += n,
                Taken::Full(n) => prop_assert_eq!((n, direct), (0, false)),
                Taken::Ended(n) => {
                    at += n;
                    break;
                }
                other => prop_assert!(false, "{other:?}"),
            }
            if counted.pipe.permit() == 0 {
                for part in counted.pipe.peek() {
                    read.extend_from_slice(part);
                }
                counted.pipe.consume(usize::MAX);
            }
        }
        for part in counted.pipe.peek() {
            read.extend_from_slice(part);
        }
        prop_assert_eq!((at, &read, counted.pipe.is_ended()), (body.len(), &body, true));
        prop_assert_eq!((counted.conn.recv(), counted.conn.request_ended()), (Recv::Ended, true));
        prop_assert_eq!((counted.conn.direct_body_max(), counted.conn.declared_body()), (0, None));
    }
}

#[test]
fn the_direct_way_is_closed_where_there_is_something_to_say() {
    let mut over = Counted::new(5, 4);
    assert_eq!(over.conn.direct_body_max(), 0);
    assert_eq!(over.take(b""), Err(PeerError::BodyTooLarge));
    let mut within = Counted::new(5, 5);
    assert_eq!(within.conn.direct_body_max(), 5);
    assert_eq!(within.conn.handle_direct_body(6, &mut within.pipe), Err(PeerError::BodyTooLarge));

    let mut server = Server::naming();
    server.stalled = true;
    server.receive(EXPECTS);
    assert_eq!(server.conn.direct_body_max(), 0, "the first byte shows whether it waits for a 100");
    server.receive("b");
    assert_eq!(server.conn.direct_body_max(), 3);
    let mut out = OutBuf::default();
    server.conn.handle_body_wanted(0, &mut out);
    assert!(out.is_empty());
}
