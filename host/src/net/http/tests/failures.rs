//! Servers that are not there, hang, lie, or answer garbage: each has its name, and nothing is left open.

use super::*;

/// The failure of a call to a server that answers with this and then ends the connection, at the head or in the body.
fn failure(text: &'static str) -> (Option<u16>, Vec<u8>, Failure) {
    let mut bench = Bench::new();
    let (addr, server) = saying(text);
    let call = send(&bench.network, get(&addr.to_string())).unwrap();
    let outcome = match bench.head(&call) {
        Err(failure) => (None, Vec::new(), failure),
        Ok(status) => {
            let (body, end) = bench.body(&call);
            (Some(status), body, end.unwrap_err())
        }
    };
    call.close();
    server.join().unwrap();
    bench.assert_nothing_left();
    outcome
}

#[test]
fn answers_that_are_none() {
    let malformed = |failure: &Failure| matches!(failure, Failure::HttpProtocolError(_));
    for text in [
        "SSH-2.0-x\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    ] {
        let (head, _, failure) = failure(text);
        assert!(head.is_none() && malformed(&failure), "{text:?}: {failure:?}");
    }
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(failure(""), (None, vec![], Failure::ConnectionTerminated));
    assert_eq!(failure("HTTP/1.1 200 O"), (None, vec![], Failure::HttpResponseIncomplete));
    assert_eq!(failure("HTTP/1.1 100 x\r\n\r\n"), (None, vec![], Failure::HttpResponseIncomplete));
    assert_eq!(failure("HTTP/1.1 101 x\r\n\r\n"), (None, vec![], Failure::HttpUpgradeFailed));
    assert_eq!(
        failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"),
        (None, vec![], Failure::HttpResponseTransferCoding)
    );
    assert_eq!(
        failure("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        (Some(200), b"abc".to_vec(), Failure::HttpResponseIncomplete)
    );
    assert_eq!(chunked.len(), 47);
    assert_eq!(
        failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"),
        (Some(200), b"ab".to_vec(), Failure::HttpResponseIncomplete)
    );
    let (head, body, failed) =
        failure("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nzz\r\n");
    assert!(malformed(&failed), "{failed:?}");
    assert!(head.is_none() || body == b"ab");
}

#[test]
fn heads_that_never_end() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\nA: ");
        let filler = [b'a'; 4096];
        while peer.stream.get_mut().write_all(&filler).is_ok() {}
    });
    assert_eq!(bench.get(addr), Err(Failure::HttpResponseHeaderSectionSize));
    server.join().unwrap();
}

#[test]
fn a_reset_has_the_name_of_where_it_came() {
    let table: [(&str, Failure); 2] = [
        ("", Failure::ConnectionTerminated),
        ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Failure::HttpResponseIncomplete),
    ];
    for (text, expected) in table {
        let mut bench = Bench::new();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (addr, server) = serve(move |listener| {
            let mut peer = Peer::accept(listener);
            peer.head();
            peer.say(text);
            wait.recv().unwrap();
            peer.reset();
        });
        let call = send(&bench.network, get(&addr.to_string())).unwrap();
        if !text.is_empty() {
            assert_eq!(bench.head(&call), Ok(200));
        }
        go.send(()).unwrap();
        let failed = match bench.head(&call) {
            Ok(_) => bench.body(&call).1.unwrap_err(),
            Err(failure) => failure,
        };
        assert_eq!(failed, expected);
        server.join().unwrap();
    }
}

#[test]
fn nobody_there() {
    let mut bench = Bench::new();
    let (listener, addr) = listener();
    drop(listener);
    assert_eq!(bench.get(addr), Err(Failure::ConnectionRefused));
    bench.assert_nothing_left();
    // A name too, and each address of it.
    let authority = format!("localhost:{}", addr.port());
    let call = send(&bench.network, get(&authority)).unwrap();
    assert_eq!(bench.head(&call), Err(Failure::ConnectionRefused));
}

#[test]
fn servers_that_hang() {
    // After accepting, or in the middle of a body.
    for (text, head) in [("", None), ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Some(200))] {
        let mut bench = Bench::new();
        let (addr, server) = serve(move |listener| {
            let mut peer = Peer::accept(listener);
            peer.head();
            peer.say(text);
            peer.rest()
        });
        let authority = addr.to_string();
        let call = send(&bench.network, Outgoing { timeouts: short(), ..get(&authority) }).unwrap();
        let began = Instant::now();
        match head {
            None => assert_eq!(bench.head(&call), Err(Failure::ConnectionReadTimeout)),
            Some(status) => {
                assert_eq!(bench.head(&call), Ok(status));
                assert_eq!(bench.body(&call), (b"abc".to_vec(), Err(Failure::ConnectionReadTimeout)));
            }
        }
        assert!(began.elapsed() >= Duration::from_millis(99), "{:?}", began.elapsed());
        server.join().unwrap();
        bench.assert_nothing_left();
    }
}

#[test]
fn a_server_that_takes_nothing() {
    let mut bench = Bench::new();
    let (listener, addr) = listener();
    let authority = addr.to_string();
    let request = Outgoing { method: "POST", body: Body::Unknown, timeouts: short(), ..get(&authority) };
    let call = send(&bench.network, request).unwrap();
    let chunk = vec![7; 64 * 1024];
    let failed = loop {
        if let Err(failure) = bench.write_all(&call, &chunk) {
            break failure;
        }
    };
    assert_eq!(failed, Failure::ConnectionWriteTimeout);
    drop(listener);
}

#[test]
fn a_connection_that_is_not_made_in_time() {
    let mut bench = Bench::new();
    let (listener, addr) = listener();
    // A backlog that is full answers nobody.
    socket2::SockRef::from(&listener).listen(0).unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&addr.into());
        waiting.push(socket);
    }
    let authority = addr.to_string();
    let call = send(&bench.network, Outgoing { timeouts: short(), ..get(&authority) }).unwrap();
    assert_eq!(bench.head(&call), Err(Failure::ConnectionTimeout));
    bench.assert_nothing_left();
}

#[test]
fn what_the_app_may_not_do() {
    let mut bench = Bench::with(&["127.0.0.1:1"], AppLimits::default(), Trust::default());
    let (_listener, addr) = listener();
    assert_eq!(bench.get(addr), Err(Failure::DestinationIpProhibited));
    let denied = send(&bench.network, get("example.com")).unwrap_err();
    assert!(matches!(denied, Failure::HttpRequestDenied(_)), "{denied:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_call_that_has_moved_as_much_as_it_may() {
    let limits = AppLimits { socket_bytes_max: 1_000, ..AppLimits::default() };
    let mut bench = Bench::with(&["127.0.0.1:*"], limits, Trust::default());
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        let _ = peer.stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n");
        let _ = peer.stream.get_mut().write_all(&[7; 5_000]);
        peer.rest()
    });
    let call = send(&bench.network, get(&addr.to_string())).unwrap();
    assert_eq!(bench.head(&call), Ok(200));
    let (body, end) = bench.body(&call);
    assert!(body.len() < 1_000);
    assert_eq!(end, Err(Failure::ConnectionLimitReached));
    server.join().unwrap();
}

#[test]
fn requests_that_are_refused_open_nothing() {
    let bench = Bench::new();
    let (_listener, addr) = listener();
    let authority = addr.to_string();
    let table = [
        (Outgoing { method: "CONNECT", ..get(&authority) }, Failure::HttpRequestMethodInvalid),
        (Outgoing { path: "a", ..get(&authority) }, Failure::HttpRequestUriInvalid),
        (Outgoing { path: "/\r\nX: y", ..get(&authority) }, Failure::HttpRequestUriInvalid),
        (get("user@127.0.0.1"), Failure::HttpRequestUriInvalid),
        (get(""), Failure::HttpRequestUriInvalid),
        (get("127.0.0.1:0"), Failure::HttpRequestUriInvalid),
    ];
    for (request, failure) in table {
        assert_eq!(send(&bench.network, request).err(), Some(failure));
    }
    bench.assert_nothing_left();
}

/// A request whose client hangs up is dropped by another thread, at whatever it is.
#[test]
fn what_is_cancelled_leaves_nothing() {
    let (listener, addr) = listener();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    // Every second connection gets a part of an answer.
    let server = std::thread::spawn(move || {
        let mut peers = Vec::new();
        listener.set_nonblocking(true).unwrap();
        while stopped.try_recv().is_err() {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    if peers.len() % 2 == 0 {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
                    }
                    peers.push(stream);
                }
                Err(_) => std::thread::yield_now(),
            }
        }
    });
    let mut bench = Bench::new();
    let authority = addr.to_string();
    for round in 0..50 {
        let calls: Vec<_> = (0..8)
            .map(|i| {
                let body = if i % 2 == 0 { Body::Empty } else { Body::Unknown };
                send(&bench.network, Outgoing { method: "POST", body, ..get(&authority) }).unwrap()
            })
            .collect();
        let network = Arc::clone(&bench.network);
        let reaper = std::thread::spawn(move || network.close());
        for call in calls.iter().take(round % 9) {
            let _ = call.write(b"abc");
            let _ = call.poll_head(&mut Context::from_waker(Waker::noop()));
        }
        if round % 3 > 0 {
            bench.glance();
        }
        reaper.join().unwrap();
        for call in &calls {
            assert!(bench.body(call).1.is_err(), "it is over");
        }
        bench.assert_nothing_left();
        bench.next_request();
    }
    stop.send(()).unwrap();
    server.join().unwrap();
}
