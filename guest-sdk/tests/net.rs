//! Sockets, natively: they are real ones, and so are their peers.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tidegate_sdk::net::{self, TcpStream, UdpSocket};
use tidegate_sdk::test::{self, Exchange};
use tidegate_sdk::{Request, Result, now, task};

type Peer = std::net::TcpStream;

/// Listens for one connection, and serves it with `serve`.
fn peer<R: Send + 'static>(serve: impl FnOnce(Peer) -> R + Send + 'static) -> (SocketAddr, JoinHandle<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    (addr, thread::spawn(move || serve(listener.accept().unwrap().0)))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Sends all that comes back, until its end.
fn echo(stream: Peer) -> u64 {
    std::io::copy(&mut &stream, &mut &stream).unwrap()
}

fn pattern(len: u32) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn bytes_go_both_ways_and_ends_are_seen() {
    let (addr, echoing) = peer(echo);
    let stream = TcpStream::connect(addr).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    assert!(stream.local_addr().unwrap().ip().is_loopback());
    writeln!(&stream, "one\ntwo").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let lines: Vec<String> = BufReader::new(&stream).lines().map(|line| line.unwrap()).collect();
    assert_eq!(lines, ["one", "two"]);
    assert_eq!((&stream).read(&mut [0; 8]).unwrap(), 0);
    assert_eq!((&stream).write(b"late").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(stream.shutdown(Shutdown::Read).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(echoing.join().unwrap(), 8);
}

#[test]
fn both_directions_of_one_connection_at_once() {
    let (addr, echoing) = peer(echo);
    let sent = pattern(3_000_000);
    let received = task::block_on(async {
        let (mut reader, mut writer) = TcpStream::connect_async(addr).await?.split();
        let write = async {
            writer.send(&sent).await?;
            writer.finish()
        };
        let read = async {
            let (mut all, mut buf) = (Vec::new(), vec![0; 10_000]);
            loop {
                match reader.read_async(&mut buf).await? {
                    0 => return Ok::<_, std::io::Error>(all),
                    n => all.extend_from_slice(&buf[..n]),
                }
            }
        };
        task::try_join(write, read).await.map(|((), all)| all)
    });
    assert!(received.unwrap() == sent);
    assert_eq!(echoing.join().unwrap(), 3_000_000);
}

#[test]
fn what_fails_says_how_and_with_whom() {
    let addr = nobody();
    let error = TcpStream::connect(addr).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(error.to_string(), format!("{addr}: connect: nobody listens there (ECONNREFUSED)"));
    let error = task::block_on(TcpStream::connect_async(addr)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    for addr in ["", "no-port", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999"] {
        let error = TcpStream::connect(addr).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{addr}");
        assert_eq!(error.to_string(), format!("`{addr}` is not HOST:PORT, such as db.example:5432"));
    }
}

#[test]
fn an_error_of_a_socket_is_a_502_and_a_late_one_a_504() {
    let ask = |addr: SocketAddr| {
        move |_: Request| -> Result<String> {
            let mut stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        }
    };
    let addr = nobody();
    let answer = Exchange::get("/").run(ask(addr));
    assert!(!answer.assert_status(502).text().contains(&addr.port().to_string()));
    assert!(answer.logs[0].1.contains(&addr.to_string()), "{:?}", answer.logs);
    // It says nothing until the handler gives up.
    let (addr, silent) = peer(|mut stream| stream.read(&mut [0]).unwrap());
    Exchange::get("/").run(ask(addr)).assert_status(504);
    assert_eq!(silent.join().unwrap(), 0);
}

#[test]
fn a_read_waits_no_longer_than_it_may() {
    let (addr, peer) = peer(|mut stream| stream.read(&mut [0]).unwrap());
    let mut stream = TcpStream::connect_timeout(addr, Duration::from_secs(10)).unwrap();
    assert_eq!(stream.read_timeout(), None);
    let limit = Duration::from_millis(30);
    stream.set_read_timeout(Some(limit)).unwrap();
    assert_eq!(stream.read_timeout(), Some(limit));
    assert_eq!(stream.set_read_timeout(Some(Duration::ZERO)).unwrap_err().kind(), ErrorKind::InvalidInput);
    let start = now();
    assert_eq!(stream.read(&mut [0]).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(now() - start >= limit);
    assert_eq!(stream.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    let late = task::block_on(task::timeout(limit, stream.read_async(&mut [0])));
    assert!(late.is_err(), "nothing came, and nothing was lost");
    drop(stream);
    assert_eq!(peer.join().unwrap(), 0, "dropped is closed");
}

#[test]
fn full_is_told_and_room_too() {
    let (go, may_go) = std::sync::mpsc::channel::<()>();
    let (addr, peer) = peer(move |mut stream| {
        may_go.recv().unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap()
    });
    let stream = TcpStream::connect(addr).unwrap();
    let mut sent = 0;
    let limit = Duration::from_millis(200);
    stream.set_write_timeout(Some(limit)).unwrap();
    // The system's buffers take some, and then nothing more.
    let full = loop {
        match (&stream).write(&[b'x'; 64 << 10]) {
            Ok(n) => sent += n,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::TimedOut);
    assert_eq!(stream.try_write(b"y").unwrap_err().kind(), ErrorKind::WouldBlock);
    go.send(()).unwrap();
    stream.writable().unwrap();
    assert!(stream.try_write(b"y").unwrap() == 1);
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(peer.join().unwrap(), sent + 1);
}

#[test]
fn a_requests_body_goes_into_a_socket_and_what_comes_back_is_the_answer() {
    let (addr, echoing) = peer(echo);
    let through = move |request: Request, response: tidegate_sdk::ResponseWriter| -> Result<()> {
        let (mut reader, mut writer) = TcpStream::connect(addr)?.split();
        writer.forward(&mut request.into_body())?;
        writer.finish()?;
        let mut out = response.start(tidegate_sdk::StatusCode::OK)?;
        assert_eq!(out.forward(&mut reader)?, 10);
        out.finish()?;
        Ok(())
    };
    let answer = Exchange::post("/").chunk("hello").chunk("world").run_streaming(through);
    assert_eq!(answer.text(), "helloworld");
    assert!(!answer.calls.iter().any(|call| matches!(*call, "read" | "write")), "{:?}", answer.calls);
    assert_eq!(echoing.join().unwrap(), 10);
}

#[test]
fn datagrams_stay_whole() {
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = server.local_addr().unwrap();
    let serving = thread::spawn(move || {
        for _ in 0..4 {
            let mut buf = [0; 100];
            let (n, from) = server.recv_from(&mut buf).unwrap();
            server.send_to(&buf[..n], from).unwrap();
        }
    });
    let mut socket = UdpSocket::connect(addr).unwrap();
    assert_eq!(socket.peer_addr().unwrap(), addr);
    assert_eq!(socket.try_recv(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
    socket.send(b"one").unwrap();
    socket.send(b"two two").unwrap();
    let mut buf = [0; 5];
    assert_eq!((socket.recv(&mut buf).unwrap(), &buf[..3]), (3, &b"one"[..]));
    assert_eq!((socket.recv(&mut buf).unwrap(), &buf), (5, b"two t"), "the rest is lost");
    task::block_on(async {
        socket.send_async(b"three").await.unwrap();
        assert_eq!(socket.recv_async(&mut buf).await.unwrap(), 5);
    });
    assert_eq!(&buf, b"three");
    // An empty one is one, too.
    socket.send(b"").unwrap();
    assert_eq!(socket.recv(&mut buf).unwrap(), 0);
    serving.join().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    assert_eq!(socket.recv(&mut buf).unwrap_err().kind(), ErrorKind::TimedOut);
}

#[test]
fn names_have_addresses_or_an_error() {
    assert!(net::lookup("localhost").unwrap().iter().all(|addr| addr.is_loopback()));
    let found = task::block_on(net::lookup_async("localhost")).unwrap();
    assert!(!found.is_empty());
    // RFC 2606: there never is one.
    let error = net::lookup("nobody.invalid").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.to_string(), "nobody.invalid: resolve: no such name or key (ENOENT)");
}

#[test]
fn a_connection_is_served_by_a_plain_function_or_fails() {
    let mut client = test::connect(|stream: TcpStream| -> Result<()> {
        let mut name = String::new();
        BufReader::new(&stream).read_line(&mut name)?;
        Ok(write!(&stream, "Hello {name}")?)
    });
    client.write_all(b"Ada\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "Hello Ada\n");

    let mut client = test::connect(|_: TcpStream| Err::<(), _>(tidegate_sdk::Error::conflict("no")));
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
}
