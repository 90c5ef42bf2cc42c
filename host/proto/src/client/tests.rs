//! Both halves together: tables of responses, any split of the bytes, and a connection that goes on.

use proptest::prelude::*;

use super::state::{Recv, Send};
use super::*;
use crate::http1::encode::push_trailer;
use crate::limits::Limits;
use crate::pipe::{Pipe, Watermarks};

const GET: Request<'_> = Request { method: "GET", authority: "a", path: "/", body: BodyLength::Empty };

/// Everything that came of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    trailers: Vec<(String, String)>,
    state: Recv,
    error: Option<ResponseError>,
}

fn owned(fields: &crate::http1::fields::Fields) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

/// Receives the pieces, each as room allows, reading up to `read_max` bytes of the body after each step; then the end of
/// the connection if `eof`.
fn receive(pieces: &[&[u8]], method: &str, eof: bool, read_max: usize, limits: &Limits) -> Outcome {
    let mut receiver = Receiver::default();
    receiver.begin(method == "HEAD").unwrap();
    let mut pipe = Pipe::new(Watermarks::new(8, 2).unwrap());
    let mut outcome = Outcome::default();
    'all: for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            let room = receiver.room(&pipe);
            if room == 0 {
                let mut part = vec![0; read_max];
                let n = pipe.read(&mut part);
                outcome.body.extend_from_slice(&part[..n]);
                continue;
            }
            let (now, later) = rest.split_at(room.min(rest.len()));
            let direct = receiver.direct_max().map(|max| pipe.spare(max.min(now.len())).len());
            let taken = if let Some(n) = direct.filter(|n| n % 2 == 1) {
                pipe.spare(n).copy_from_slice(&now[..n]);
                pipe.commit(n);
                receiver.handle_direct(n, &mut pipe);
                n
            } else {
                if let Err(error) = receiver.handle_input(now, &mut pipe, limits) {
                    outcome.error = Some(error);
                    break 'all;
                }
                now.len()
            };
            rest = &now[taken..];
            if rest.is_empty() {
                rest = later;
            } else {
                // What was not received stays before what follows it.
                rest = &piece[piece.len() - later.len() - rest.len()..];
            }
        }
    }
    if eof && outcome.error.is_none() {
        outcome.error = receiver.handle_eof(&mut pipe).err();
    }
    let mut part = vec![0; 64];
    let n = pipe.read(&mut part);
    outcome.body.extend_from_slice(&part[..n]);
    outcome.status = receiver.head().status();
    outcome.fields = owned(receiver.head().fields());
    outcome.trailers = owned(receiver.trailers());
    outcome.state = receiver.state();
    outcome
}

fn whole(method: &str, input: &str, eof: bool) -> Outcome {
    let latin1: Vec<u8> = input.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    receive(&[&latin1], method, eof, 3, &response_limits())
}

#[test]
fn where_a_response_ends() {
    use Recv::{Body, Broken, Ended, Head, Spent};
    // Method, what comes, the body, the state behind it, the state once the connection has ended.
    let table = [
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", Ended, Spent),
        ("GET", "HTTP/1.1 200\r\ncontent-length:0\r\n\r\n", "", Ended, Spent),
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nab", "ab", Body, Broken),
        ("GET", "HTTP/1.1 200 OK\r\n\r\nabc", "abc", Body, Spent),
        ("GET", "HTTP/1.1 200 OK\r\n\r\n", "", Body, Spent),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2;x\r\nab\r\n0\r\n\r\n",
            "ab",
            Ended,
            Spent,
        ),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n", "ab", Body, Broken),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na", "a", Body, Broken),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "", Ended, Spent),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", Ended, Spent),
        ("HEAD", "HTTP/1.1 200 OK\r\n\r\n", "", Ended, Spent),
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "", Spent, Spent),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "", Ended, Spent),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "", Ended, Spent),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n", "", Spent, Spent),
        ("GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "", Spent, Spent),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", Ended, Spent),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\nabc", "", Spent, Spent),
        ("GET", "HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n", "", Ended, Spent),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc", "abc", Spent, Spent),
        (
            "GET",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: x, Close\r\n\r\nabc",
            "abc",
            Spent,
            Spent,
        ),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", Spent, Spent),
        (
            "GET",
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc",
            "abc",
            Ended,
            Spent,
        ),
        ("GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nabc", "abc", Body, Spent),
        // Behind the end: nothing of it is read, and nothing follows on the connection.
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcd", "abc", Spent, Spent),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "", Spent, Spent),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n", "", Spent, Spent),
        // Interim ones.
        ("GET", "HTTP/1.1 100 Continue\r\n\r\n", "", Head, Broken),
        (
            "GET",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na",
            "a",
            Ended,
            Spent,
        ),
        ("GET", "HTTP/1.1 102 x\r\nContent-Length: 9\r\n\r\nHTTP/1.1 204 x\r\n\r\n", "", Ended, Spent),
        ("GET", "", "", Head, Broken),
        ("GET", "HTT", "", Head, Broken),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n", "", Head, Broken),
    ];
    for (method, input, body, state, at_eof) in table {
        let open = whole(method, input, false);
        assert_eq!((open.error, open.state), (None, state), "{method} {input:?}");
        assert_eq!(open.body, body.as_bytes(), "{method} {input:?}");
        let closed = whole(method, input, true);
        let error = (at_eof == Broken).then_some(if input.is_empty() {
            ResponseError::Unanswered
        } else {
            ResponseError::Incomplete
        });
        assert_eq!((closed.error, closed.state), (error, at_eof), "{method} {input:?}, and the end");
    }
}

#[test]
fn what_is_refused() {
    let malformed = |part: &'static str| move |error: ResponseError| matches!(error, ResponseError::Malformed(detail) if detail.contains(part));
    let is = |expected: ResponseError| move |error: ResponseError| error == expected;
    type Check = Box<dyn Fn(ResponseError) -> bool>;
    let table: Vec<(&str, Check)> = vec![
        ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Box::new(is(ResponseError::Upgraded))),
        ("200 OK\r\n\r\n", Box::new(malformed("begin"))),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Box::new(malformed("begin"))),
        ("HTTP/2 200 OK\r\n\r\n", Box::new(malformed("begin"))),
        ("http/1.1 200 OK\r\n\r\n", Box::new(malformed("begin"))),
        ("<html>", Box::new(malformed("begin"))),
        ("HTTP/1.2 200 OK\r\n\r\n", Box::new(malformed("status line"))),
        ("HTTP/1.1 20 OK\r\n\r\n", Box::new(malformed("status line"))),
        ("HTTP/1.1 099 x\r\n\r\n", Box::new(malformed("status line"))),
        ("HTTP/1.1  200 OK\r\n\r\n", Box::new(malformed("status line"))),
        ("HTTP/1.1 2000 OK\r\n\r\n", Box::new(malformed("status line"))),
        ("HTTP/1.1 200 OK\n\n", Box::new(malformed("LF without CR"))),
        ("HTTP/1.1 200 OK\r\nA: b\nC: d\r\n\r\n", Box::new(malformed("LF without CR"))),
        ("HTTP/1.1 200 OK\r\nA: b\rC: d\r\n\r\n", Box::new(malformed("CR without LF"))),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", Box::new(malformed("NUL"))),
        ("HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", Box::new(malformed("header"))),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", Box::new(malformed("header line"))),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", Box::new(malformed("header line"))),
        ("HTTP/1.1 200 OK\r\nA\r\n\r\n", Box::new(malformed("header line"))),
        ("HTTP/1.1 200 OK\r\nA: \u{1}\r\n\r\n", Box::new(malformed("control"))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", Box::new(malformed("twice"))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Box::new(malformed("twice"))),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n", Box::new(malformed("one number"))),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", Box::new(malformed("one number"))),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", Box::new(malformed("one number"))),
        ("HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n", Box::new(malformed("one number"))),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\n",
            Box::new(malformed("one number")),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Box::new(malformed("beside")),
        ),
        ("HTTP/1.1 304 OK\r\nContent-Length: x\r\n\r\n", Box::new(malformed("one number"))),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Box::new(malformed("1.0"))),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            Box::new(malformed("twice")),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            Box::new(is(ResponseError::TransferCoding)),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            Box::new(is(ResponseError::TransferCoding)),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
            Box::new(is(ResponseError::TransferCoding)),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;a\r\n\r\n",
            Box::new(is(ResponseError::TransferCoding)),
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n", Box::new(is(ResponseError::TransferCoding))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx", Box::new(malformed("chunk size"))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab", Box::new(malformed("no CRLF"))),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n",
            Box::new(malformed("trailer")),
        ),
    ];
    for (input, check) in table {
        let outcome = whole("GET", input, true);
        let error = outcome.error.unwrap_or_else(|| panic!("{input:?} is accepted: {outcome:?}"));
        assert!(check(error), "{input:?}: {error:?}");
        assert_eq!(outcome.state, Recv::Broken, "{input:?}");
    }
}

#[test]
fn what_a_response_may_cost() {
    let narrow = Limits { head_bytes_max: 60, headers_max: 2, trailer_bytes_max: 8, ..Limits::default() };
    let table = [
        (format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(60)), Some(ResponseError::HeadTooLarge)),
        ("HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n".to_owned(), Some(ResponseError::HeadTooLarge)),
        ("HTTP/1.1 200 OK\r\nA: 1\r\nContent-Length: 0\r\n\r\n".to_owned(), None),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: 1234567\r\n\r\n".to_owned(),
            Some(ResponseError::TrailersTooLarge),
        ),
    ];
    for (input, error) in table {
        assert_eq!(receive(&[input.as_bytes()], "GET", false, 3, &narrow).error, error, "{input}");
    }
    let interims = |n: usize| format!("{}HTTP/1.1 204 x\r\n\r\n", "HTTP/1.1 103 x\r\n\r\n".repeat(n));
    assert_eq!(whole("GET", &interims(16), false).error, None);
    let error = whole("GET", &interims(17), false).error;
    assert!(matches!(error, Some(ResponseError::Malformed(text)) if text.contains("interim")), "{error:?}");
}

#[test]
fn fields_of_the_connection_end_here() {
    let outcome = whole(
        "GET",
        "HTTP/1.1 200 OK\r\nX-A: 1\r\nConnection: x-hop, keep-alive, content-length\r\nKeep-Alive: 5\r\nX-Hop: 2\r\n\
         Upgrade: h2c\r\nTE: x\r\nProxy-Connection: close\r\nContent-Length: 0\r\nX-B: \u{ff}\t \r\n\r\n",
        false,
    );
    assert_eq!(outcome.error, None);
    let text = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(outcome.fields, [text("x-a", "1"), text("content-length", "0"), text("x-b", "\\xff")]);
    let chunked = whole(
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nSum: 9\r\n\r\n",
        false,
    );
    assert_eq!((chunked.fields, chunked.trailers), (vec![], vec![text("sum", "9")]));
}

/// What the sender would put on the wire when the socket takes `step` bytes at a time.
fn transmit(sender: &mut Sender, pipe: &mut Pipe, trailers: &[u8], step: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    loop {
        sender.poll_transmit(&mut RequestBody { pipe, trailers });
        let pending = sender.slices(pipe).concat();
        if pending.is_empty() {
            return wire;
        }
        let n = step.min(pending.len());
        wire.extend_from_slice(&pending[..n]);
        sender.handle_transmitted(n, pipe);
    }
}

#[test]
fn exchanges_follow_each_other_on_one_connection() {
    let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
    let limits = response_limits();
    for round in 0..3 {
        assert!(next(&mut sender, &mut receiver));
        sender.begin(&Request { path: &format!("/{round}"), ..GET }, []).unwrap();
        receiver.begin(sender.is_head_request()).unwrap();
        let (mut request, mut response) =
            (Pipe::new(Watermarks::default()), Pipe::new(Watermarks::default()));
        let wire = transmit(&mut sender, &mut request, b"", 7);
        assert_eq!(wire, format!("GET /{round} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
        assert!(sender.is_done() && !next(&mut sender, &mut receiver), "the response is due");
        receiver
            .handle_input(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n", &mut response, &limits)
            .unwrap();
        assert!(!is_reusable(&sender, &receiver));
        receiver.handle_input(b"x", &mut response, &limits).unwrap();
        assert!(is_reusable(&sender, &receiver) && response.is_ended());
    }
    assert!(next(&mut sender, &mut receiver));
    let mut pipe = Pipe::new(Watermarks::default());
    assert!(receiver.handle_input(b"H", &mut pipe, &limits).is_err(), "nobody asked for it");
    assert!(!next(&mut sender, &mut receiver));
}

#[test]
fn what_keeps_a_connection_from_going_on() {
    let answered = |receiver: &mut Receiver, extra: &[u8]| {
        let mut pipe = Pipe::new(Watermarks::default());
        let head = [b"HTTP/1.1 204 x\r\n\r\n", extra].concat();
        receiver.handle_input(&head, &mut pipe, &response_limits()).unwrap();
    };
    let begun = |request: &Request<'_>, fields: &[(&[u8], &[u8])]| {
        let (mut sender, mut receiver) = (Sender::default(), Receiver::default());
        sender.begin(request, fields.iter().copied()).unwrap();
        receiver.begin(false).unwrap();
        (sender, receiver)
    };
    let mut pipe = Pipe::new(Watermarks::default());
    // The request has not left.
    let (mut sender, mut receiver) = begun(&GET, &[]);
    answered(&mut receiver, b"");
    assert!(!is_reusable(&sender, &receiver));
    transmit(&mut sender, &mut pipe, b"", 99);
    assert!(is_reusable(&sender, &receiver));
    // The guest wants it closed; more came than the response.
    for (fields, extra) in [(&[(&b"connection"[..], &b"close"[..])][..], &b""[..]), (&[], b"x")] {
        let (mut sender, mut receiver) = begun(&GET, fields);
        transmit(&mut sender, &mut pipe, b"", 99);
        answered(&mut receiver, extra);
        assert!(!is_reusable(&sender, &receiver), "{fields:?} {extra:?}");
    }
    // The body has not ended, or was cut off.
    let (mut sender, mut receiver) =
        begun(&Request { method: "POST", body: BodyLength::Unknown, ..GET }, &[]);
    transmit(&mut sender, &mut pipe, b"", 99);
    answered(&mut receiver, b"");
    assert!(!is_reusable(&sender, &receiver));
    sender.cut();
    assert!(!is_reusable(&sender, &receiver) && sender.state() == Send::Cut);
}

#[test]
fn a_body_of_known_length_leaves_in_that_length_or_not_at_its_end() {
    for (length, written, ended, state) in [
        (3, "abc", false, Send::Done),
        (3, "abc", true, Send::Done),
        (3, "ab", false, Send::Body),
        (3, "ab", true, Send::Cut),
        (3, "abcd", false, Send::Cut),
    ] {
        let mut sender = Sender::default();
        let request = Request { method: "PUT", body: BodyLength::Known(length), ..GET };
        sender.begin(&request, []).unwrap();
        let mut pipe = Pipe::new(Watermarks::default());
        assert_eq!(sender.permit(&pipe), 3);
        pipe.write(written.as_bytes());
        if ended {
            pipe.end();
        }
        transmit(&mut sender, &mut pipe, b"", 5);
        assert_eq!(sender.state(), state, "{written:?} of {length}, {ended}");
    }
}

#[test]
fn a_request_is_sent_once_more_as_long_as_its_body_has_not_begun() {
    let mut sender = Sender::default();
    let request = Request { method: "PUT", body: BodyLength::Unknown, ..GET };
    sender.begin(&request, []).unwrap();
    let mut pipe = Pipe::new(Watermarks::default());
    let first = transmit(&mut sender, &mut pipe, b"", 11);
    assert!(sender.rewind());
    assert_eq!(transmit(&mut sender, &mut pipe, b"", 999), first);
    pipe.write(b"x");
    transmit(&mut sender, &mut pipe, b"", 999);
    assert!(!sender.rewind());
    // A large one, of which nothing was copied behind the head.
    let mut sender = Sender::default();
    sender.begin(&Request { body: BodyLength::Known(10_000), ..request }, []).unwrap();
    let mut pipe = Pipe::new(Watermarks::default());
    pipe.write(&[7; 10_000]);
    sender.poll_transmit(&mut RequestBody { pipe: &mut pipe, trailers: b"" });
    assert!(!sender.rewind());
}

/// Pieces of syntax, right and wrong, in any order.
fn wire() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n", "HTTP/1.0 200 OK\r\n", "HTTP/1.1 204 x\r\n\r\n", "HTTP/1.1 100 C\r\n\r\n",
            "HTTP/1.1 304 x\r\n", "HTTP/1.1 101 x\r\n\r\n", "Content-Length: 3\r\n", "Content-Length: 12\r\n",
            "Transfer-Encoding: chunked\r\n", "Connection: close\r\n", "Connection: keep-alive\r\n", "A: b\r\n", "\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
            "3\r\nabc\r\n", "1;e\r\nx\r\n", "b\r\nabcdefghijk\r\n", "0\r\n", "0\r\n\r\n", "T: u\r\n", "abc", "a",
        ]).prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::sample::select(b"\r\n\0 \t:;,/*#%.0aF\x7f\xff".to_vec()).prop_map(|byte| vec![byte]),
        1 => prop::collection::vec(any::<u8>(), 0..6),
    ];
    let start = prop_oneof![Just(Vec::new()), Just(b"HTTP/1.1 200 OK\r\n".to_vec())];
    (start, prop::collection::vec(piece, 0..12)).prop_map(|(start, pieces)| [start, pieces.concat()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(
        input in wire(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        read_max in 1_usize..9,
        method in prop::sample::select(vec!["GET", "HEAD"]),
        eof in any::<bool>(),
        bounds in any::<bool>(),
    ) {
        let limits = if bounds {
            Limits { head_bytes_max: 64, headers_max: 3, chunk_ext_bytes_max: 4, trailer_bytes_max: 8, ..Limits::default() }
        } else {
            response_limits()
        };
        let expected = receive(&[&input], method, eof, 8, &limits);
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.push(input.len());
        cuts.sort_unstable();
        let mut at = 0;
        let pieces: Vec<&[u8]> = cuts.into_iter().map(|cut| { let piece = &input[at..cut]; at = cut; piece }).collect();
        prop_assert_eq!(&receive(&pieces, method, eof, read_max, &limits), &expected);
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        prop_assert_eq!(&receive(&bytes, method, eof, read_max, &limits), &expected);
    }

    /// What is sent reads back, however the body is written and however the socket takes it.
    #[test]
    fn a_request_reads_back(
        writes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..6_000), 0..5),
        known in any::<bool>(),
        step in 1_usize..9_000,
        trailer in any::<bool>(),
        pump in any::<bool>(),
    ) {
        let body = writes.concat();
        let mut sender = Sender::default();
        let length = if known { BodyLength::Known(body.len() as u64) } else { BodyLength::Unknown };
        sender.begin(&Request { method: "PUT", body: length, ..GET }, [(&b"x"[..], &b"1"[..])]).unwrap();
        let mut pipe = Pipe::new(Watermarks::default());
        let mut trailers = Vec::new();
        if trailer && !known {
            push_trailer(b"sum", b"9", &mut trailers).unwrap();
        }
        let mut wire = Vec::new();
        for write in &writes {
            prop_assert_eq!(pipe.write(write), write.len());
            if pump {
                wire.extend(transmit(&mut sender, &mut pipe, &[], step));
            }
        }
        pipe.end();
        wire.extend(transmit(&mut sender, &mut pipe, &trailers, step));
        prop_assert!(sender.is_done());
        let mut head = crate::http1::head::RequestHead::default();
        let limits = Limits::default();
        let at = crate::http1::head::HeadScanner::default().scan(&wire, &limits).unwrap().unwrap();
        crate::http1::head::parse(&wire[..at], &limits, &mut head).unwrap();
        let framing = crate::http1::framing::request_framing(&head).unwrap();
        let mut decoder = crate::http1::body::BodyDecoder::new(framing.body);
        let (mut rest, mut read, mut got) = (&wire[at..], Vec::new(), crate::http1::fields::Fields::default());
        loop {
            let decoded = decoder.decode(rest, usize::MAX, &limits, &mut got).unwrap();
            read.extend_from_slice(&rest[decoded.data]);
            rest = &rest[decoded.consumed..];
            if decoded.ended {
                break;
            }
            prop_assert!(decoded.consumed > 0, "the body does not end");
        }
        prop_assert!(rest.is_empty() && read == body);
        prop_assert_eq!(got.get("sum").is_some(), trailer && !known);
    }

    #[test]
    fn no_bytes_bring_it_down(input in prop::collection::vec(any::<u8>(), 0..300), head in any::<bool>()) {
        let input = [if head { &b"HTTP/1.1 200 OK\r\n"[..] } else { b"" }, &input].concat();
        receive(&[&input], "GET", true, 4, &response_limits());
    }
}
