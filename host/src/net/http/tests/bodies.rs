//! Bodies both ways: lengths, backpressure, and ends that are none.

use super::*;

fn post(authority: &str, body: Body) -> Outgoing<'_, [Field<'static>; 0]> {
    Outgoing { method: "POST", body, ..get(authority) }
}

/// Bytes that are not the same anywhere near.
fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

#[test]
fn a_small_body_leaves_with_its_head() {
    for (body, expected) in [
        (Body::Known(5), "content-length: 5\r\n\r\nhello"),
        (Body::Unknown, "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ] {
        let mut bench = Bench::new();
        let (addr, server) = serve(|listener| {
            let stream = listener.accept().unwrap().0;
            let mut first = [0; 4096];
            let n = (&stream).read(&mut first).unwrap();
            (&stream).write_all(b"HTTP/1.1 204 x\r\n\r\n").unwrap();
            String::from_utf8(first[..n].to_vec()).unwrap()
        });
        let call = send(&bench.network, post(&addr.to_string(), body)).unwrap();
        assert_eq!(call.write(b"hello"), Ok(5));
        call.finish([]).unwrap();
        assert_eq!(bench.head(&call), Ok(204));
        let got = server.join().unwrap();
        assert!(got.ends_with(expected), "in one piece: {got}");
    }
}

#[test]
fn what_is_held_leaves_by_itself() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        let part = peer.exactly(3 + 2 + 2);
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        part
    });
    let call = send(&bench.network, post(&addr.to_string(), Body::Unknown)).unwrap();
    assert_eq!(call.write(b"ab"), Ok(2));
    // The guest waits for something else: nobody asks this call for anything.
    bench.until(|| server.is_finished());
    assert_eq!(server.join().unwrap(), b"2\r\nab\r\n");
}

#[test]
fn large_bodies_both_ways_at_once() {
    const BYTES: usize = 5_000_000;
    for (length, coding) in [
        (Body::Unknown, format!("Content-Length: {BYTES}")),
        (Body::Known(BYTES as u64), "Connection: close".to_owned()),
        (Body::Known(BYTES as u64), "Transfer-Encoding: chunked".to_owned()),
    ] {
        let mut bench = Bench::new();
        let chunked = coding.starts_with('T');
        let (addr, server) = serve(move |listener| {
            let mut peer = Peer::accept(listener);
            let head = peer.head();
            peer.say(format!("HTTP/1.1 200 OK\r\n{coding}\r\n\r\n"));
            // An echo, which takes as much as it gives.
            let mut left = BYTES;
            while left > 0 {
                let size = if head.contains("chunked") {
                    let mut line = String::new();
                    peer.stream.read_line(&mut line).unwrap();
                    usize::from_str_radix(line.trim_end(), 16).unwrap()
                } else {
                    left.min(30_000)
                };
                let data = peer.exactly(size);
                if head.contains("chunked") {
                    peer.exactly(2);
                }
                if chunked {
                    peer.say(format!("{size:x}\r\n"));
                }
                peer.say(&data);
                if chunked {
                    peer.say("\r\n");
                }
                left -= size;
            }
            if head.contains("chunked") {
                // Bytes that nobody read would make the close a reset.
                assert_eq!(peer.exactly(5), b"0\r\n\r\n");
            }
            if chunked {
                peer.say("0\r\n\r\n");
            }
        });
        let call = send(&bench.network, post(&addr.to_string(), length)).unwrap();
        let data = pattern(BYTES);
        let (mut sent, mut got) = (0, Vec::new());
        let mut part = vec![0; 7_000];
        let mut ended = false;
        while !ended {
            let mut moved = false;
            if sent < BYTES {
                let n = call.write(&data[sent..BYTES.min(sent + 50_000)]).unwrap();
                sent += n;
                moved |= n > 0;
                if sent == BYTES {
                    call.finish([]).unwrap();
                }
            }
            match call.read(&mut part).unwrap() {
                Some(0) => ended = true,
                Some(n) => {
                    got.extend_from_slice(&part[..n]);
                    moved = true;
                }
                None => {}
            }
            if !moved && !ended {
                bench.wait(|cx| {
                    // The head counts as taken from its first look on.
                    let _ = call.poll_head(cx);
                    let writable = sent < BYTES && call.poll_writable(cx).is_ready();
                    if call.poll_readable(cx).is_ready() || writable {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                });
            }
        }
        assert!(got == data, "{} bytes came back", got.len());
        server.join().unwrap();
    }
}

#[test]
fn a_guest_that_does_not_read_stops_the_server() {
    const BYTES: usize = 100_000_000;
    let mut bench = Bench::new();
    let (stopped, told) = std::sync::mpsc::channel();
    let (addr, server) = serve(move |listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        let stream = peer.stream.get_mut();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        let chunk = [7; 64 * 1024];
        let mut sent = 0;
        while let Ok(n) = stream.write(&chunk[..chunk.len().min(BYTES - sent)]) {
            assert!(n > 0, "nothing stopped it");
            sent += n;
        }
        stopped.send(()).unwrap();
        stream.set_write_timeout(None).unwrap();
        while sent < BYTES {
            sent += stream.write(&chunk[..chunk.len().min(BYTES - sent)]).unwrap();
        }
    });
    let timeouts = Timeouts { between_bytes: 100 * MS, ..Timeouts::default() };
    let authority = addr.to_string();
    let call = send(&bench.network, Outgoing { timeouts, ..get(&authority) }).unwrap();
    assert_eq!(bench.head(&call), Ok(200));
    // Far longer than the time between bytes, none of which are wanted.
    bench.until(|| {
        assert!(!server.is_finished(), "it was not stopped");
        told.try_recv().is_ok()
    });
    call.with_incoming_pipe(|pipe| assert_eq!(pipe.len(), pipe.marks().high)).unwrap();
    let (body, end) = bench.body(&call);
    assert_eq!((body.len(), end), (BYTES, Ok(())));
    server.join().unwrap();
}

#[test]
fn a_body_that_is_not_as_long_as_was_announced() {
    for (written, total) in [(&b"abcd"[..], 4_u64), (b"ab", 2)] {
        let mut bench = Bench::new();
        let (addr, server) = serve(|listener| {
            let mut peer = Peer::accept(listener);
            (peer.head(), peer.rest())
        });
        let call = send(&bench.network, post(&addr.to_string(), Body::Known(3))).unwrap();
        let mut failed = call.write(written).map(drop);
        if failed.is_ok() {
            bench.wait(|cx| call.poll_writable(cx));
            failed = call.finish([]);
        }
        assert_eq!(failed, Err(Failure::HttpRequestBodySize(total)));
        assert_eq!(bench.head(&call), Err(Failure::HttpRequestBodySize(total)));
        drop(call);
        assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (0, 0));
        // The server may be waiting to be connected to.
        drop(std::net::TcpStream::connect(addr));
        let (_, body) = server.join().unwrap();
        assert!(body.len() < 3, "never a whole request: {body:?}");
    }
}

#[test]
fn a_body_that_is_dropped_is_cut_off() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        (peer.head(), peer.rest())
    });
    let call = send(&bench.network, post(&addr.to_string(), Body::Unknown)).unwrap();
    bench.write_all(&call, b"abc").unwrap();
    let hub = Arc::clone(&bench.hub);
    // Until it has left.
    bench.wait(|cx| {
        let _ = call.poll_writable(cx);
        let empty = call.with_outgoing_pipe(|pipe, _| pipe.is_empty()).unwrap();
        if empty { Poll::Ready(()) } else { Poll::Pending }
    });
    drop(call);
    let (head, body) = server.join().unwrap();
    assert!(head.contains("chunked"), "{head}");
    assert_eq!(body, b"3\r\nabc\r\n", "no last chunk");
    assert_eq!(hub.http.len(), 0);
}

#[test]
fn an_answer_before_the_bodys_end_is_read() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
        // Not a reset, which would take the answer away.
        peer.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
        peer.rest();
    });
    let call = send(&bench.network, post(&addr.to_string(), Body::Unknown)).unwrap();
    bench.write_all(&call, b"abc").unwrap();
    assert_eq!(bench.answer(&call), Ok(Answer { status: 413, body: b"big".to_vec() }));
    drop(call);
    server.join().unwrap();
    assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (0, 0));
}

#[test]
fn trailers_of_a_request() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        let body = peer.exactly("1\r\nx\r\n0\r\nSum: 9\r\n\r\n".len());
        peer.say("HTTP/1.1 204 x\r\n\r\n");
        String::from_utf8(body).unwrap()
    });
    let call = send(&bench.network, post(&addr.to_string(), Body::Unknown)).unwrap();
    bench.write_all(&call, b"x").unwrap();
    for (name, value) in [("Content-Length", "1"), ("a b", "c"), ("a", "b\r\nc")] {
        assert!(call.finish([(name.as_bytes(), value.as_bytes())]).is_err(), "{name}");
    }
    call.finish([(&b"Sum"[..], &b"9"[..])]).unwrap();
    assert_eq!(bench.head(&call), Ok(204));
    assert_eq!(server.join().unwrap(), "1\r\nx\r\n0\r\nSum: 9\r\n\r\n");
}

/// The server takes no more, and closes; what it had said before that is heard.
#[test]
fn an_answer_is_heard_though_the_request_can_not_be_sent() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        peer.exactly("3\r\nabc\r\n".len());
        peer.say("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
    });
    let call = send(&bench.network, post(&addr.to_string(), Body::Unknown)).unwrap();
    bench.write_all(&call, b"abc").unwrap();
    assert!(call.poll_writable(&mut Context::from_waker(Waker::noop())).is_ready());
    bench.until(|| server.is_finished());
    // What is written now finds nobody, sooner or later.
    let chunk = [7; 20_000];
    let failed = loop {
        match call.write(&chunk) {
            Ok(0) => bench.wait(|cx| call.poll_writable(cx)),
            Ok(_) => {}
            Err(failure) => break failure,
        }
    };
    assert_eq!(failed, Failure::ConnectionTerminated);
    assert_eq!(bench.answer(&call), Ok(Answer { status: 413, body: b"big".to_vec() }));
    call.close();
    assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (0, 0));
    server.join().unwrap();
}
