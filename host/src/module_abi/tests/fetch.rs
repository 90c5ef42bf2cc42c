//! Requests of a guest to a server that a thread plays.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use tidegate_abi::fetch::{Body, Request, Timeouts};
use tidegate_abi::poll::{ERROR, HANGUP, READABLE, WRITABLE};

use super::sockets::{ROOM, TEXT, loopback, nobody, peer, socket_guest};
use super::*;

/// Where the head of the request stands in a guest's memory, and where that of its response comes to.
const HEAD_AT: u32 = 8192;
const ANSWER: u32 = 16384;

/// A request's head as a guest packs it.
fn packed(method: &str, authority: &str, body: Body, fields: &[(&str, &str)]) -> Vec<u8> {
    packed_with(Timeouts::default(), method, authority, body, fields)
}

fn packed_with(
    timeouts: Timeouts,
    method: &str,
    authority: &str,
    body: Body,
    fields: &[(&str, &str)],
) -> Vec<u8> {
    let fields: Vec<_> = fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let request = Request {
        https: false,
        body,
        timeouts,
        method: method.as_bytes(),
        authority: authority.as_bytes(),
        path: b"/a?b=c",
        fields: fields.iter().copied(),
    };
    let mut out = vec![0; request.pack(&mut []).unwrap() as usize];
    request.pack(&mut out).unwrap();
    out
}

/// A guest with this head in its memory. `$fetch` sends it, with a body of `body` bytes of the address at 1024; `$answer`
/// waits for the head of the response and gives its status.
fn fetch_guest(head: &[u8], address: &str, body: usize, calls: &str) -> String {
    let data: String = head.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let functions = format!(
        r#"(data (i32.const {HEAD_AT}) "{data}")
        (func $send (result i32)
            (call $fetch (i32.const {HEAD_AT}) (i32.const {}) (i32.const {TEXT}) (i32.const {body})))
        (func $answer (param $handle i32) (result i32) (local $n i32)
            (loop $again
                (local.set $n (call $head (local.get $handle) (i32.const {ANSWER}) (i32.const 4096)))
                (if (i32.eq (local.get $n) (i32.const -6))
                    (then (drop (call $wait (local.get $handle) (i32.const 1))) (br $again))))
            (if (i32.lt_s (local.get $n) (i32.const 0)) (then (return (local.get $n))))
            (i32.load16_u offset=8 (i32.const {ANSWER})))
        (func $open"#,
        head.len()
    );
    socket_guest(address, calls).replacen("(func $open", &functions, 1)
}

fn call(bench: &mut Bench, head: &[u8], address: &str, body: usize, calls: &str) -> Outcome {
    let mut runner = bench.runner(&fetch_guest(head, address, body, calls));
    bench.drive(&mut runner)
}

/// The head of a request that came, and the connection behind it.
fn read_head(stream: TcpStream) -> (String, BufReader<TcpStream>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "cut off: {head:?}");
    }
    (head, stream)
}

fn answer(mut stream: BufReader<TcpStream>, text: &str) {
    stream.get_mut().write_all(text.as_bytes()).unwrap();
}

const SEND: &str = "(local.set $h (call $send))
    (if (i32.lt_s (local.get $h) (i32.const 0)) (then (return (local.get $h))))";

#[test]
fn a_request_is_sent_and_its_response_read() {
    let mut bench = loopback();
    let (addr, other) = peer(|stream| {
        let (head, stream) = read_head(stream);
        answer(stream, "HTTP/1.1 201 Made\r\nContent-Length: 5\r\nX-One: 1\r\n\r\nhello");
        head
    });
    let head = packed("GET", &addr, Body::Given, &[("accept", "*/*")]);
    let calls = format!(
        "{SEND} (if (i32.ne (call $answer (local.get $h)) (i32.const 201)) (then (return (i32.const -1))))
        ;; Told again, and not where there is no room.
        (i32.store (i32.const 2048) (i32.const 7))
        (if (i32.le_s (call $head (local.get $h) (i32.const 2048) (i32.const 40)) (i32.const 40)) (then (return (i32.const -2))))
        (if (i32.ne (i32.load (i32.const 2048)) (i32.const 7)) (then (return (i32.const -3))))
        (if (call $reason (local.get $h) (i32.const 0) (i32.const 0)) (then (return (i32.const -4))))
        (if (i32.ne (call $trailers (local.get $h) (i32.const 0) (i32.const 0)) (i32.const -{EAGAIN})) (then (return (i32.const -5))))
        (if (i32.ne (call $get (local.get $h) (i32.const 64)) (i32.const 5)) (then (return (i32.const -6))))
        (if (call $get (local.get $h) (i32.const 64)) (then (return (i32.const -7))))
        (if (i32.ne (call $trailers (local.get $h) (i32.const 0) (i32.const 0)) (i32.const 16)) (then (return (i32.const -8))))
        (if (i32.ne (call $write (local.get $h) (i32.const 0) (i32.const 1)) (i32.const -{EPIPE})) (then (return (i32.const -9))))
        (if (i32.ne (call $finish (local.get $h) (i32.const 0) (i32.const 0)) (i32.const -{EALREADY})) (then (return (i32.const -10))))
        {HEAD} (drop (call $write (i32.const 4) (i32.const {ROOM}) (i32.const 5)))
        (call $error (local.get $h))"
    );
    assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(0));
    assert_eq!(bench.body(), b"hello");
    let sent = other.join().unwrap();
    assert!(sent.starts_with("GET /a?b=c HTTP/1.1\r\n"), "{sent}");
    assert!(
        sent.to_lowercase().contains(&format!("\r\nhost: {addr}\r\n")) && sent.contains("accept: */*\r\n")
    );
}

/// A connection that is at its end serves the next call, and belongs to none until then.
#[test]
fn a_connection_is_kept_beyond_the_call() {
    let mut bench = loopback();
    let (addr, other) = peer(|stream| {
        let (_, mut stream) = read_head(stream);
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").unwrap();
        let mut second = String::new();
        while !second.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut second).unwrap() > 0);
        }
        answer(stream, "HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n");
    });
    let head = packed("GET", &addr, Body::Given, &[]);
    let calls = format!(
        "{SEND} (drop (call $answer (local.get $h))) (drop (call $get (local.get $h) (i32.const 9))) (call $get (local.get $h) (i32.const 9))"
    );
    assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(0));
    assert_eq!(bench.outside.hub.sockets(), 1);
    bench.request(b"", true);
    assert_eq!(
        call(&mut bench, &head, &addr, 0, &format!("{SEND} (call $answer (local.get $h))")),
        Outcome::Returned(202)
    );
    other.join().unwrap();
}

#[test]
fn bodies_are_given_or_streamed() {
    let mut bench = loopback();
    let serve = |stream: TcpStream| {
        let (head, mut stream) = read_head(stream);
        let mut body = String::new();
        if head.to_lowercase().contains("content-length: 9\r\n") {
            let mut bytes = [0; 9];
            stream.read_exact(&mut bytes).unwrap();
            body = String::from_utf8(bytes.into()).unwrap();
        } else {
            assert!(head.to_lowercase().contains("transfer-encoding: chunked\r\n"), "{head}");
            while !body.ends_with("0\r\n\r\n") {
                assert!(stream.read_line(&mut body).unwrap() > 0, "cut off: {body:?}");
            }
        }
        answer(stream, "HTTP/1.1 204 No Content\r\n\r\n");
        body
    };
    let rest = |finish: bool| {
        let finish = if finish {
            "(if (call $finish (local.get $h) (i32.const 0) (i32.const 0)) (then (return (i32.const -2))))"
        } else {
            ""
        };
        format!(
            "(if (i32.ne (call $put (local.get $h) (i32.const {}) (i32.const 6)) (i32.const 6)) (then (return (i32.const -1)))) {finish}",
            TEXT + 3
        )
    };
    for (body, first, rest) in [
        (Body::Given, 9, String::new()),
        (Body::Stream(Some(9)), 3, rest(true)),
        // Of a known length it is whole without being ended, too.
        (Body::Stream(Some(9)), 3, rest(false)),
        (Body::Stream(None), 3, rest(true)),
    ] {
        bench.request(b"", true);
        let (addr, other) = peer(serve);
        let head = packed("POST", &addr, body, &[]);
        let calls = format!("{SEND} {rest} (call $answer (local.get $h))");
        assert_eq!(call(&mut bench, &head, &addr, first, &calls), Outcome::Returned(204), "{body:?}");
        let got = other.join().unwrap();
        let text: String = got.split("\r\n").filter(|part| part.len() > 1).collect();
        assert_eq!(text, addr[..9], "{got:?}");
    }
}

#[test]
fn what_is_no_request_is_refused() {
    let mut bench = loopback();
    let addr = nobody();
    // Where somebody listens, or that nobody does would be told first.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let heard = listener.local_addr().unwrap().to_string();
    let good = packed("GET", &addr, Body::Given, &[]);
    let mut long = good.clone();
    long.resize(128 * 1024 + 1, 0);
    let mut flags = good.clone();
    flags[10] = 4;
    for (head, body, expected) in [
        (vec![], 0, -EINVAL),
        (good[..71].to_vec(), 0, -EINVAL),
        (flags, 0, -EINVAL),
        (packed("GE T", &addr, Body::Given, &[]), 0, -EINVAL),
        (packed("CONNECT", &addr, Body::Given, &[]), 0, -EINVAL),
        (packed("GET", "", Body::Given, &[]), 0, -EINVAL),
        (packed("GET", "user@127.0.0.1", Body::Given, &[]), 0, -EINVAL),
        (packed("GET", "127.0.0.1:0", Body::Given, &[]), 0, -EINVAL),
        (packed("GET", &addr, Body::Given, &[("a b", "1")]), 0, -EINVAL),
        (packed("GET", &addr, Body::Given, &[("a", "1\r\nb: 2")]), 0, -EINVAL),
        (packed("GET", &addr, Body::Given, &[("host", "other")]), 0, -EINVAL),
        (packed("GET", &addr, Body::Given, &[("transfer-encoding", "chunked")]), 0, -EINVAL),
        (packed("POST", &addr, Body::Given, &[("content-length", "3")]), 9, -EINVAL),
        (packed("GET", &addr, Body::Given, &[("a", &"v".repeat(40_000))]), 0, -EMSGSIZE),
        // No rule, for the address and for the name.
        (packed("GET", "db.example", Body::Given, &[]), 0, -EACCES),
        (packed("GET", "169.254.169.254", Body::Given, &[]), 0, -EACCES),
        (packed("POST", &heard, Body::Stream(Some(3)), &[]), 9, -EFBIG),
    ] {
        let calls = format!("{SEND} (call $answer (local.get $h))");
        let outcome = call(&mut bench, &head, &addr, body, &calls);
        assert_eq!(
            outcome,
            Outcome::Returned(expected),
            "{:?}",
            String::from_utf8_lossy(&head[head.len().min(72)..])
        );
        assert_eq!((bench.outside.hub.sockets(), bench.tally.sockets()), (0, 0));
    }
    let large = "(call $fetch (i32.const 8192) (i32.const 72) (i32.const 0) (i32.const 65537))";
    let wat = fetch_guest(&good, &addr, 0, large)
        .replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 4)");
    let mut runner = bench.runner(&wat);
    assert_eq!(bench.drive(&mut runner), Outcome::Returned(-EINVAL), "a head that is cut off goes first");
    let large =
        format!("(call $fetch (i32.const 8192) (i32.const {}) (i32.const 0) (i32.const 65537))", good.len());
    let wat = fetch_guest(&good, &addr, 0, &large)
        .replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 4)");
    let mut runner = bench.runner(&wat);
    assert_eq!(bench.drive(&mut runner), Outcome::Returned(-EMSGSIZE));
    let large =
        format!("(call $fetch (i32.const 8192) (i32.const {}) (i32.const 0) (i32.const 0))", long.len());
    let wat = fetch_guest(&good, &addr, 0, &large)
        .replace("(memory (export \"memory\") 1)", "(memory (export \"memory\") 4)");
    let mut runner = bench.runner(&wat);
    assert_eq!(bench.drive(&mut runner), Outcome::Returned(-EMSGSIZE));
}

#[test]
fn a_request_that_fails_says_how_to_every_call() {
    let mut bench = loopback();
    for (last, expected) in [
        ("(call $answer (local.get $h))".to_owned(), -ECONNREFUSED),
        ("(call $read (local.get $h) (i32.const 0) (i32.const 9))".to_owned(), -ECONNREFUSED),
        ("(call $write (local.get $h) (i32.const 0) (i32.const 9))".to_owned(), -ECONNREFUSED),
        ("(call $finish (local.get $h) (i32.const 0) (i32.const 0))".to_owned(), -ECONNREFUSED),
        ("(call $trailers (local.get $h) (i32.const 0) (i32.const 0))".to_owned(), -ECONNREFUSED),
        ("(i32.wrap_i64 (call $forward (i32.const 3) (local.get $h) (i64.const -1)))".to_owned(), -ECONNREFUSED),
        ("(i32.wrap_i64 (call $forward (local.get $h) (i32.const 4) (i64.const -1)))".to_owned(), -ECONNREFUSED),
        ("(i32.sub (i32.const 0) (call $error (local.get $h)))".to_owned(), -ECONNREFUSED),
        ("(call $wait (local.get $h) (i32.const 3))".to_owned(), i32::from(READABLE | WRITABLE | ERROR | HANGUP)),
        (
            format!(
                "(if (i32.ne (call $reason (local.get $h) (i32.const {ROOM}) (i32.const 64)) (i32.const 18)) (then (return (i32.const -1))))
                (drop (call $write (i32.const 4) (i32.const {ROOM}) (i32.const 18)))
                (call $reason (local.get $h) (i32.const {ROOM}) (i32.const 4))"
            ),
            18,
        ),
    ] {
        bench.request(b"body", true);
        let addr = nobody();
        let head = packed("POST", &addr, Body::Stream(None), &[]);
        let calls = format!(
            "{HEAD} {SEND} (loop $w (br_if $w (i32.eqz (i32.and (call $wait (local.get $h) (i32.const 1)) (i32.const 4))))) {last}"
        );
        assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(expected), "{last}");
    }
    assert_eq!(bench.body(), b"connection-refused");
}

#[test]
fn handles_of_requests_do_what_they_can() {
    let mut bench = loopback();
    let addr = nobody();
    let head = packed("POST", &addr, Body::Stream(None), &[]);
    for (calls, expected) in [
        ("(call $address (local.get $h) (i32.const 0) (i32.const 0) (i32.const 0))", -ENOTSUP),
        ("(i32.wrap_i64 (call $forward (local.get $h) (local.get $h) (i64.const 1)))", -ENOTSUP),
        ("(call $read (local.get $h) (i32.const 0) (i32.const 0))", -EINVAL),
        (
            "(drop (call $close (local.get $h))) (call $head (local.get $h) (i32.const 0) (i32.const 0))",
            -EBADF,
        ),
        ("(local.get $h)", 5),
    ] {
        let outcome = call(&mut bench, &head, &addr, 0, &format!("{SEND} {calls}"));
        assert_eq!(outcome, Outcome::Returned(expected), "{calls}");
    }
}

/// A reverse proxy that sees heads only: bodies of any size go both ways through small buffers.
#[test]
fn bodies_are_forwarded_both_ways() {
    const BYTES: usize = 64;
    let mut bench = loopback();
    let (addr, other) = peer(|stream| {
        let (head, mut stream) = read_head(stream);
        assert!(head.to_lowercase().contains("content-length: 64\r\n"), "{head}");
        let mut body = vec![0; BYTES];
        stream.read_exact(&mut body).unwrap();
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\n").unwrap();
        stream.get_mut().write_all(&body[..32]).unwrap();
        stream.get_mut().write_all(b"\r\n20\r\n").unwrap();
        stream.get_mut().write_all(&body[32..]).unwrap();
        stream.get_mut().write_all(b"\r\n0\r\nx-sum: 9\r\n\r\n").unwrap();
        body
    });
    let sent: Vec<u8> = (0..BYTES).map(|n| n as u8).collect();
    bench.request(&sent, true);
    let head = packed("PUT", &addr, Body::Stream(Some(BYTES as u64)), &[]);
    let calls = format!(
        "{SEND}
        (if (i32.ne (call $move (i32.const 3) (local.get $h)) (i32.const {BYTES})) (then (return (i32.const -1))))
        (if (call $move (i32.const 3) (local.get $h)) (then (return (i32.const -2))))
        (if (call $finish (local.get $h) (i32.const 0) (i32.const 0)) (then (return (i32.const -3))))
        (if (i32.ne (call $answer (local.get $h)) (i32.const 200)) (then (return (i32.const -4))))
        {HEAD}
        (loop $more
            (local.set $n (call $move (local.get $h) (i32.const 4)))
            (local.set $i (i32.add (local.get $i) (local.get $n)))
            (br_if $more (i32.and (i32.gt_s (local.get $n) (i32.const 0)) (i32.lt_s (local.get $i) (i32.const {BYTES})))))
        (if (i32.ne (local.get $i) (i32.const {BYTES})) (then (return (i32.const -5))))
        (drop (call $get (local.get $h) (i32.const 1)))
        (call $trailers (local.get $h) (i32.const {ROOM}) (i32.const 400))"
    );
    assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(16 + 16 + 6));
    assert_eq!(other.join().unwrap(), sent);
    assert_eq!(bench.body(), sent);
}

/// What was declared is what is sent, however it is moved.
#[test]
fn more_than_was_declared_ends_the_request() {
    let mut bench = loopback();
    for (move_more, expected) in [
        ("(call $move (i32.const 3) (local.get $h))", -EFBIG),
        ("(call $write (local.get $h) (i32.const 0) (i32.const 1))", -EFBIG),
    ] {
        let (addr, other) = peer(|mut stream| stream.read_to_end(&mut Vec::new()).is_ok());
        bench.request(b"longer than that", true);
        let head = packed("PUT", &addr, Body::Stream(Some(6)), &[]);
        let calls = format!(
            "{SEND} (if (i32.ne (call $move (i32.const 3) (local.get $h)) (i32.const 6)) (then (return (i32.const -1)))) {move_more}"
        );
        assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(expected), "{move_more}");
        other.join().unwrap();
    }
    // And less has no clean end.
    let (addr, other) = peer(|mut stream| stream.read_to_end(&mut Vec::new()).is_ok());
    let head = packed("PUT", &addr, Body::Stream(Some(6)), &[]);
    let calls = format!("{SEND} (call $finish (local.get $h) (i32.const 0) (i32.const 0))");
    assert_eq!(call(&mut bench, &head, &addr, 3, &calls), Outcome::Returned(-EPROTO));
    other.join().unwrap();
}

#[test]
fn a_response_that_is_cut_never_ends() {
    let mut bench = loopback();
    let (addr, other) = peer(|stream| {
        let (_, stream) = read_head(stream);
        answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    });
    let head = packed("GET", &addr, Body::Given, &[]);
    let calls = format!(
        "{SEND} (drop (call $answer (local.get $h)))
        (if (i32.ne (call $get (local.get $h) (i32.const 64)) (i32.const 4)) (then (return (i32.const -100))))
        (local.set $n (call $get (local.get $h) (i32.const 64)))
        (if (i32.ne (i32.sub (i32.const 0) (local.get $n)) (call $error (local.get $h))) (then (return (i32.const -101))))
        (local.get $n)"
    );
    assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(-ECONNRESET));
    other.join().unwrap();
}

#[test]
fn times_are_kept() {
    let mut bench = loopback();
    let forever = Timeouts { connect_ns: u64::MAX, first_byte_ns: u64::MAX, between_ns: u64::MAX };
    let calls = format!(
        "{SEND} (local.set $n (call $answer (local.get $h)))
        (if (i32.ge_s (local.get $n) (i32.const 0)) (then (return (call $get (local.get $h) (i32.const 8)))))
        (local.get $n)"
    );
    for (timeouts, expected) in [
        (forever, 2),
        (Timeouts { first_byte_ns: 20_000_000, ..forever }, -ETIMEDOUT),
        (Timeouts { between_ns: 20_000_000, ..forever }, -ETIMEDOUT),
    ] {
        bench.request(b"", true);
        // It answers where it is waited for as long as it takes; else it waits for the guest to go.
        let (addr, other) = peer(move |stream| {
            let (_, mut stream) = read_head(stream);
            if timeouts.first_byte_ns == u64::MAX {
                stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").unwrap();
            }
            if timeouts == forever {
                stream.get_mut().write_all(b"ok").unwrap();
            } else {
                let _ = stream.read(&mut [0]);
            }
        });
        let head = packed_with(timeouts, "GET", &addr, Body::Given, &[]);
        assert_eq!(call(&mut bench, &head, &addr, 0, &calls), Outcome::Returned(expected), "{timeouts:?}");
        other.join().unwrap();
    }
}

/// From a raw socket into a request, and from its response into a raw socket.
#[test]
fn sockets_and_requests_are_forwarded_to_each_other() {
    let mut bench = loopback();
    let (upstream, served) = peer(|stream| {
        let (_, mut stream) = read_head(stream);
        let mut body = [0; 5];
        stream.read_exact(&mut body).unwrap();
        answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nanswer");
        body
    });
    let (raw, other) = peer(|mut stream| {
        stream.write_all(b"asked").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    });
    let head = packed("POST", &upstream, Body::Stream(Some(5)), &[]);
    let calls = format!(
        "{SEND} (local.set $i (call $open (i32.const 0)))
        (if (i32.ne (call $move (local.get $i) (local.get $h)) (i32.const 5)) (then (return (i32.const -1))))
        (if (i32.ne (call $answer (local.get $h)) (i32.const 200)) (then (return (i32.const -2))))
        (if (i32.ne (call $move (local.get $h) (local.get $i)) (i32.const 6)) (then (return (i32.const -3))))
        (call $move (local.get $h) (local.get $i))"
    );
    assert_eq!(call(&mut bench, &head, &raw, 0, &calls), Outcome::Returned(0));
    assert_eq!(&served.join().unwrap(), b"asked");
    assert_eq!(other.join().unwrap(), "answer");
}
