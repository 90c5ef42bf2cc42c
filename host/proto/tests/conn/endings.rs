//! Half-close, hang-ups, lingering and answers that are cut off (RFC 9112 sections 8 and 9.6).

use tidegate_proto::conn::state::Recv;
use tidegate_proto::conn::{After, Eof, Timeout};

use crate::answer::{Answer, Reads};
use crate::server::{End, Server, name_request};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HALF_A_BODY: &str = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab";

#[test]
fn a_half_close_gets_its_whole_answer() {
    let mut server = Server::new(|_| Answer::new("").streamed(&["he", "llo"]));
    server.stalled = true;
    server.receive(GET);
    server.receive_eof();
    assert_eq!(server.end, None);
    server.unstall();
    let reply = &server.replies()[0];
    assert_eq!((reply.body.as_slice(), reply.closes()), (&b"hello"[..], true));
    assert_eq!(server.end, Some(End::Closed), "nobody is there to linger for");
}

#[test]
fn a_half_close_behind_pipelined_requests_gets_every_answer() {
    let mut server = Server::naming();
    server.room = 5;
    server.receive([GET, GET, GET].concat());
    server.receive_eof();
    server.writable(usize::MAX);
    assert_eq!((server.statuses(), server.end), (vec![200, 200, 200], None));
    server.receive_eof();
    assert_eq!(server.end, Some(End::Closed));
}

#[test]
fn the_end_may_be_seen_twice() {
    let mut server = Server::naming();
    server.stalled = true;
    server.receive(GET);
    server.receive_eof();
    let deadline = server.deadline();
    server.now = deadline - 1;
    server.receive_eof();
    server.conn.expect_hangup(server.now, &server.limits);
    assert_eq!((server.end, server.deadline()), (None, deadline), "and prolongs nothing");
}

#[test]
fn an_end_inside_a_head_is_nothing() {
    for input in ["", "\r\n", "GET / HT", "GET / HTTP/1.1\r\nHost: a\r\n"] {
        let mut server = Server::naming();
        server.receive(input);
        server.receive_eof();
        assert_eq!((server.end, server.wire.len()), (Some(End::Closed), 0), "{input:?}");
    }
}

#[test]
fn an_end_inside_a_body_is_a_client_that_is_gone() {
    for input in [
        HALF_A_BODY,
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    ] {
        let mut server = Server::naming();
        server.receive(input);
        let sent = server.wire.len();
        server.receive_eof();
        assert_eq!((server.end, server.wire.len()), (Some(End::Truncated), sent), "{input:?}");
        assert!(!server.conn.request_ended(), "it did not come whole: {input:?}");
        assert_eq!(server.conn.handle_eof(0, &server.limits), Eof::Truncated, "however often it is said");
    }
}

#[test]
fn an_end_inside_a_body_that_nobody_wants_takes_no_answer_away() {
    let mut server = Server::new(|seen| name_request(seen).reads(Reads::Never));
    server.room = 20;
    server.receive(HALF_A_BODY);
    assert_eq!(server.conn.recv(), Recv::Discard);
    server.receive_eof();
    assert_eq!(server.end, None);
    server.writable(usize::MAX);
    assert_eq!((server.statuses(), server.end), (vec![200], Some(End::Closed)));
}

#[test]
fn rubbish_and_then_the_end_still_gets_its_refusal() {
    let mut server = Server::naming();
    server.room = 20;
    server.receive("rubbish\n");
    server.receive_eof();
    assert_eq!(server.end, None, "the refusal has not left");
    assert_eq!(server.deadline(), server.limits.half_close_ms_max);
    server.writable(usize::MAX);
    assert_eq!((server.statuses(), server.end), (vec![400], Some(End::Closed)));
}

#[test]
fn lingering_ends_with_the_peer_or_in_time_and_is_never_prolonged() {
    let mut server = Server::naming();
    server.receive("rubbish\n");
    assert_eq!((server.end, server.deadline()), (Some(End::Lingering), 2_000));
    server.now = 1_999;
    server.receive(GET);
    server.conn.linger(server.now, &server.limits);
    assert_eq!(server.conn.after(true, server.now, &server.limits), After::Wait, "it is told once");
    assert_eq!((server.deadline(), server.statuses()), (2_000, vec![400]));
    assert_eq!(server.advance(2_000), Some(Timeout::Linger));
    assert_eq!(server.end, Some(End::Closed));

    let mut gone = Server::naming();
    gone.receive("rubbish\n");
    gone.receive_eof();
    assert_eq!(gone.end, Some(End::Closed));
}

#[test]
fn a_body_that_goes_bad_under_an_answer_cuts_it() {
    let mut server = Server::new(|_| Answer::new("").streamed(&["he", "llo"]).reads(Reads::Never));
    server.room = 150;
    server.stalled = true;
    server.receive("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    server.conn.send_head(&Answer::new("").head, None, b"now", None, &mut server.out).expect("the first");
    server.receive("1\r\nxx");
    assert_eq!(server.end, Some(End::Aborted));
    assert!(!server.wire.ends_with(b"0\r\n\r\n") && !server.wire.windows(4).any(|four| four == b" 400"));
}

#[test]
fn a_cut_answer_has_no_end_and_where_closing_would_be_one_it_is_known() {
    for (version, closing_ends) in [("1.1", false), ("1.0", true)] {
        let mut server = Server::naming();
        server.stalled = true;
        server.receive(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"));
        server.conn.send_head(&Answer::new("").head, None, b"now", None, &mut server.out).expect("the first");
        server.drive();
        server.conn.cut();
        assert_eq!(server.conn.after(true, 0, &server.limits), After::Close);
        assert_eq!(server.conn.ends_with_close(), closing_ends, "{version}");
        assert_eq!(server.deadline(), tidegate_proto::conn::NEVER);
        assert!(server.conn.send_head(&Answer::new("").head, None, b"", None, &mut server.out).is_err());
    }
}

#[test]
fn there_is_one_final_head() {
    let mut server = Server::naming();
    let head = Answer::new("").head;
    assert!(server.conn.send_head(&head, None, b"", None, &mut server.out).is_err(), "nothing was asked");
    server.stalled = true;
    server.receive(GET);
    assert!(server.conn.send_head(&head, None, b"", None, &mut server.out).is_ok());
    assert!(server.conn.send_head(&head, None, b"", None, &mut server.out).is_err());
    assert!(!server.conn.answer(), "nor an error of ours behind it");
    assert!(server.conn.next(0, &server.limits).is_err(), "nor another request before its end");
}
