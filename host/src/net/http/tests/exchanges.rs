//! Requests, their answers, and which connections they go over.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Wake;

use super::super::pool::Idle;
use super::*;
use crate::clock::Clock;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn ok() -> Answer {
    Answer { status: 200, body: b"ok".to_vec() }
}

#[test]
fn a_request_and_its_answer() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        let head = peer.head();
        peer.say(
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 201 Created\r\nX-A: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        peer.say("3\r\nabc\r\n0\r\nSum: 9\r\n\r\n");
        head
    });
    let authority = addr.to_string();
    let fields: [Field<'_>; 2] = [(b"Accept", b"*/*"), (b"X-B", b"2")];
    let request = Outgoing { path: "/p?q", ..get(&authority) };
    let request = Outgoing {
        fields,
        method: request.method,
        https: false,
        authority: &authority,
        path: request.path,
        body: Body::Empty,
        timeouts: Timeouts::default(),
    };
    let call = send(&bench.network, request).unwrap();
    assert_eq!(bench.head(&call), Ok(201));
    call.with_head(|head| {
        assert_eq!(head.fields().iter().collect::<Vec<_>>(), [(&b"x-a"[..], &b"1"[..])]);
    });
    assert_eq!(bench.body(&call), (b"abc".to_vec(), Ok(())));
    call.with_trailers(|fields| assert_eq!(fields.get("sum"), Some(&b"9"[..])));
    let head = server.join().unwrap();
    assert_eq!(head, format!("GET /p?q HTTP/1.1\r\nhost: {addr}\r\nAccept: */*\r\nX-B: 2\r\n\r\n"));
}

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        for _ in 0..3 {
            peer.head();
            peer.say(OK);
        }
        peer.rest()
    });
    for _ in 0..3 {
        assert_eq!(bench.get(addr), Ok(ok()));
        // It waits, and counts for nobody.
        assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (1, 0));
        bench.next_request();
    }
    bench.hub.http.clear();
    assert_eq!((bench.tally.sockets(), bench.hub.sockets()), (0, 0));
    assert!(server.join().unwrap().is_empty());
}

/// What ends an exchange without a connection that can be kept.
#[test]
fn what_is_not_kept() {
    for text in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
    ] {
        let mut bench = Bench::new();
        let (addr, server) = saying(text);
        assert_eq!(bench.get(addr), Ok(ok()), "{text}");
        assert_eq!((bench.hub.http.len(), bench.tally.sockets(), bench.hub.sockets()), (0, 0, 0), "{text}");
        server.join().unwrap();
    }
}

#[test]
fn an_answer_that_nobody_reads_to_its_end_is_not_kept() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        peer.say("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab");
        peer.rest()
    });
    let call = send(&bench.network, get(&addr.to_string())).unwrap();
    assert_eq!(bench.head(&call), Ok(200));
    bench.network.close();
    assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (0, 0));
    assert_eq!(call.read(&mut [0; 9]), Ok(Some(2)), "what had come is there");
    assert_eq!(call.read(&mut [0; 9]), Err(Failure::ConnectionTerminated));
    assert!(send(&bench.network, get(&addr.to_string())).is_err(), "the request is over");
    server.join().unwrap();
}

#[test]
fn a_kept_connection_that_its_server_closed_is_passed_over() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        for _ in 0..2 {
            let mut peer = Peer::accept(listener);
            peer.head();
            peer.say(OK);
        }
    });
    assert_eq!(bench.get(addr), Ok(ok()));
    // The close has come, and the loop has heard of it.
    let hub = Arc::clone(&bench.hub);
    let access = Arc::clone(&bench.access);
    let authority = addr.to_string();
    bench.wait(|_| match hub.http.take(&access, false, &authority, false) {
        None => Poll::Ready(()),
        Some(idle) => {
            let Idle { link, wire, origin, .. } = idle;
            hub.http.put(&hub, link, wire, origin);
            Poll::Pending
        }
    });
    assert_eq!(bench.get(addr), Ok(ok()));
    server.join().unwrap();
}

/// A body can not be sent twice, so nothing is risked: the loop has not heard of the close, but the system has.
#[test]
fn a_body_is_not_sent_to_a_kept_connection_that_is_gone() {
    for (method, body) in [("PUT", &b"data"[..]), ("POST", b"data"), ("POST", b"")] {
        let mut bench = Bench::new();
        let (go, wait) = std::sync::mpsc::channel();
        let (gone, heard) = std::sync::mpsc::channel();
        let (addr, server) = serve(move |listener| {
            let mut peer = Peer::accept(listener);
            peer.head();
            peer.say(OK);
            wait.recv().unwrap();
            drop(peer);
            gone.send(()).unwrap();
            let mut peer = Peer::accept(listener);
            let head = peer.head();
            let body = peer.exactly(body.len());
            peer.say(OK);
            (head, body)
        });
        assert_eq!(bench.get(addr), Ok(ok()));
        assert_eq!(bench.hub.http.len(), 1);
        go.send(()).unwrap();
        heard.recv().unwrap();
        let authority = addr.to_string();
        let length = if body.is_empty() { Body::Empty } else { Body::Known(body.len() as u64) };
        let request = Outgoing { method, body: length, ..get(&authority) };
        let call = send(&bench.network, request).unwrap();
        if !body.is_empty() {
            bench.write_all(&call, body).unwrap();
            call.finish([]).unwrap();
        }
        assert_eq!(bench.answer(&call), Ok(ok()), "{method}");
        let (head, received) = server.join().unwrap();
        assert!(head.starts_with(method) && received == body, "{head}");
    }
}

/// The close meets the request under way: the loop could not know.
#[test]
fn a_request_that_a_kept_connection_loses_is_sent_once_more() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        peer.say(OK);
        let again = peer.head();
        drop(peer);
        let mut peer = Peer::accept(listener);
        let once_more = peer.head();
        peer.say(OK);
        (again, once_more)
    });
    assert_eq!(bench.get(addr), Ok(ok()));
    assert_eq!(bench.get(addr), Ok(ok()));
    let (again, once_more) = server.join().unwrap();
    assert_eq!(again, once_more);
}

#[test]
fn a_request_that_may_not_be_repeated_is_not() {
    for (method, begun) in [("POST", false), ("GET", true)] {
        let mut bench = Bench::new();
        let (addr, server) = serve(move |listener| {
            let mut peer = Peer::accept(listener);
            peer.head();
            peer.say(OK);
            peer.head();
            if begun {
                peer.say("HTTP/1.1 2");
            }
            drop(peer);
            listener.set_nonblocking(true).unwrap();
            listener.accept().is_ok()
        });
        assert_eq!(bench.get(addr), Ok(ok()));
        let authority = addr.to_string();
        let call = send(&bench.network, Outgoing { method, ..get(&authority) }).unwrap();
        let failure = if begun { Failure::HttpResponseIncomplete } else { Failure::ConnectionTerminated };
        assert_eq!(bench.head(&call), Err(failure), "{method}");
        assert!(!server.join().unwrap(), "{method}: nobody came again");
    }
}

/// They would keep the app from connecting elsewhere, here or on other workers.
#[test]
fn connections_that_wait_count_for_nobody() {
    let limits = AppLimits { sockets_max: 1, ..AppLimits::default() };
    let mut bench = Bench::with(&["127.0.0.1:*"], limits, Trust::default());
    let answering = |times: usize| {
        serve(move |listener| {
            let mut peer = Peer::accept(listener);
            for _ in 0..times {
                peer.head();
                peer.say(OK);
            }
            peer.rest()
        })
    };
    let (first, one) = answering(2);
    let (second, two) = answering(1);
    assert_eq!(bench.get(first), Ok(ok()));
    assert_eq!(bench.get(second), Ok(ok()));
    assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (2, 0), "both wait");
    // One that is of use again counts as long as it is.
    let call = send(&bench.network, get(&first.to_string())).unwrap();
    assert_eq!((bench.hub.http.len(), bench.tally.sockets()), (1, 1));
    let failure = send(&bench.network, get(&second.to_string())).err();
    assert_eq!(failure, Some(Failure::ConnectionLimitReached), "the one there may be is at work");
    assert_eq!(bench.answer(&call), Ok(ok()));
    call.close();
    assert_eq!(bench.tally.sockets(), 0);
    bench.hub.http.clear();
    assert!(one.join().unwrap().is_empty());
    assert!(two.join().unwrap().is_empty());
    bench.network.close();
    assert_eq!((bench.tally.sockets(), bench.hub.sockets()), (0, 0));
}

#[test]
fn apps_have_their_own_connections() {
    let mut bench = Bench::new();
    let (addr, server) = serve(|listener| {
        let mut peers = Vec::new();
        for _ in 0..2 {
            let mut peer = Peer::accept(listener);
            peer.head();
            peer.say(OK);
            peers.push(peer);
        }
    });
    assert_eq!(bench.get(addr), Ok(ok()));
    let other = Bench::new();
    let network = Network::new(Arc::clone(&bench.hub), Arc::clone(&other.access), "other".into());
    let call = send(&network, get(&addr.to_string())).unwrap();
    assert_eq!(bench.answer(&call), Ok(ok()));
    server.join().unwrap();
}

#[test]
fn the_sweep_closes_what_its_server_has_closed() {
    let mut bench = Bench::new();
    let (addr, server) = saying(OK);
    assert_eq!(bench.get(addr), Ok(ok()));
    server.join().unwrap();
    let hub = Arc::clone(&bench.hub);
    bench.wait(|_| if hub.http.len() == 0 { Poll::Ready(()) } else { Poll::Pending });
    assert_eq!(bench.tally.sockets(), 0);
}

#[test]
fn names_and_each_of_their_addresses() {
    // Only one of localhost's two addresses has somebody.
    let mut bench = Bench::new();
    let (addr, server) = saying(OK);
    let authority = format!("localhost:{}", addr.port());
    let call = send(&bench.network, get(&authority)).unwrap();
    assert_eq!(bench.answer(&call), Ok(ok()));
    server.join().unwrap();
    let listener = std::net::TcpListener::bind("[::1]:0");
    let Ok(listener) = listener else { return };
    let authority = format!("localhost:{}", listener.local_addr().unwrap().port());
    let server = std::thread::spawn(move || {
        let mut peer = Peer::accept(&listener);
        peer.head();
        peer.say(OK);
    });
    let call = send(&bench.network, get(&authority)).unwrap();
    assert_eq!(bench.answer(&call), Ok(ok()));
    server.join().unwrap();
}

/// The guest does something else meanwhile: nobody asks for the answer of the lookup.
#[test]
fn a_request_to_a_name_goes_on_by_itself() {
    let (asked, zone) = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .map(|socket| (socket.local_addr().unwrap(), socket))
        .unwrap();
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let names = std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((n, from)) = zone.recv_from(&mut query)
            && !stopped.load(Relaxed)
        {
            zone.send_to(&named_answer(&query[..n]), from).unwrap();
        }
    });
    let mut bench = Bench::with(&["server.example:*", "127.0.0.1:*"], AppLimits::default(), Trust::default());
    let resolver = crate::net::resolve::Resolver::new(&[asked]);
    bench.hub = Hub::new(bench.poll.registry().try_clone().unwrap(), Clock::start(), resolver);
    bench.next_request();
    let (addr, server) = saying(OK);
    let authority = format!("server.example:{}", addr.port());
    let call = send(&bench.network, get(&authority)).unwrap();
    // The server has had the request, and has said its word: not a poll so far.
    bench.until(|| server.is_finished());
    server.join().unwrap();
    assert_eq!(bench.answer(&call), Ok(ok()));
    drop(call);
    stop.store(true, Relaxed);
    std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(b"", asked).unwrap();
    names.join().unwrap();
}

/// What a name server says to `query`: 127.0.0.1 to who asks for such an address, and nothing to others.
fn named_answer(query: &[u8]) -> Vec<u8> {
    // The question ends with its name's empty label, a type and a class.
    let name = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap() + 1;
    let is_a = query[name..name + 2] == [0, 1];
    let mut answer = query[..name + 4].to_vec();
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    if is_a {
        // The name as above, A, IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    answer
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

#[test]
fn a_guest_is_woken_when_there_is_something_for_it() {
    let mut bench = Bench::new();
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (addr, server) = serve(move |listener| {
        let mut peer = Peer::accept(listener);
        peer.head();
        for part in ["HTTP/1.1 103 x\r\n\r\nHTTP/1.1 200 OK\r\nContent-", "Length: 2\r\n\r\n", "ok"] {
            wait.recv().unwrap();
            peer.say(part);
        }
    });
    let call = send(&bench.network, get(&addr.to_string())).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut cx = Context::from_waker(&waker);
    let woken = || count.0.swap(0, Relaxed);
    // A turn for the connection, and one for the part of a head.
    assert!(call.poll_head(&mut cx).is_pending());
    turn(&mut bench.poll, &bench.hub);
    go.send(()).unwrap();
    turn(&mut bench.poll, &bench.hub);
    assert_eq!(woken(), 0, "there is no head yet");
    go.send(()).unwrap();
    turn(&mut bench.poll, &bench.hub);
    assert_eq!(woken(), 1);
    assert_eq!(call.poll_head(&mut cx), Poll::Ready(Ok(())));
    assert!(call.poll_readable(&mut cx).is_pending(), "the head was taken");
    go.send(()).unwrap();
    turn(&mut bench.poll, &bench.hub);
    assert_eq!(woken(), 1);
    assert_eq!(call.read(&mut [0; 9]), Ok(Some(2)));
    assert_eq!(call.read(&mut [0; 9]), Ok(Some(0)));
    // One that is closed lets nobody wait.
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = silent.local_addr().unwrap();
    let call = send(&bench.network, get(&addr.to_string())).unwrap();
    assert!(call.poll_head(&mut cx).is_pending());
    bench.network.close();
    assert_eq!(woken(), 1);
    assert_eq!(call.poll_head(&mut cx), Poll::Ready(Err(Failure::ConnectionTerminated)));
    server.join().unwrap();
}
