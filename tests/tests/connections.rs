//! Raw TCP that goes to guests: modules that are handed each connection of a `[[listen]]`, and a component that accepts its
//! own for as long as the server runs.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use tidegate_tests::check::success;
use tidegate_tests::daemon::free_addr;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Server};

/// A server that hands the connections of an address to `app`, beside `hello` over HTTP; and the address.
fn listening(app: App, name: &str) -> (Server, SocketAddr) {
    let manifest = format!("[[listen]]\ntcp = \"127.0.0.1:0\"\napp = {name:?}\n");
    let builder = Server::builder().manifest(manifest).app(app).app(App::guest("hello"));
    let server = builder.option("--workers", "1").start();
    let addr = server.raw_addr(name);
    success(&server.get("hello.test", "/"));
    (server, addr)
}

fn connect(addr: SocketAddr) -> Stream {
    Stream::connect(&Addr::Tcp(addr), PATIENCE).unwrap()
}

/// Everything until the end.
fn rest(stream: &mut Stream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.set_deadline(PATIENCE);
    stream.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn an_echo_sends_back_every_byte_and_ends_when_its_client_has() {
    let (server, addr) = listening(App::guest("tcp_echo").unrouted(), "tcp-echo");
    let mut stream = connect(addr);
    let mut writer = stream.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let mut pattern = Pattern::new(1);
        for _ in 0..64 {
            writer.set_deadline(PATIENCE);
            writer.write_all(&pattern.take(100_000)).unwrap();
        }
        writer.shutdown_write().unwrap();
    });
    let all = rest(&mut stream);
    sender.join().unwrap();
    assert_eq!(all.len(), 6_400_000);
    assert_eq!(Pattern::new(1).check(&all), Ok(()));
    success(&server.get("hello.test", "/"));
}

#[test]
fn each_connection_has_its_own_bytes() {
    let (server, addr) = listening(App::guest("tcp_echo").unrouted(), "tcp-echo");
    let files = server.fds_at_rest();
    thread::scope(|scope| {
        for number in 0..40 {
            scope.spawn(move || {
                let mut stream = connect(addr);
                let (mut out, mut back) = (Pattern::new(number), Pattern::new(number));
                let mut piece = vec![0; 3_000];
                for _ in 0..30 {
                    stream.set_deadline(PATIENCE);
                    stream.write_all(&out.take(piece.len())).unwrap();
                    stream.read_exact(&mut piece).unwrap();
                    assert_eq!(back.check(&piece), Ok(()), "connection {number}");
                }
                stream.shutdown_write().unwrap();
                assert!(rest(&mut stream).is_empty());
            });
        }
    });
    until("the connections are closed", || server.fd_count() <= files);
}

/// Who sends and does not read is not read from any more: what lies between is bounded.
#[test]
fn a_client_that_does_not_read_is_held_back() {
    let (server, addr) = listening(App::guest("tcp_echo").unrouted(), "tcp-echo");
    let stream = connect(addr);
    let block = vec![b'x'; 64 * 1024];
    let mut sent = 0_usize;
    let mut refused = 0;
    let flags = rustix::net::SendFlags::DONTWAIT | rustix::net::SendFlags::NOSIGNAL;
    // Half a second in which nothing is taken: it has stopped.
    while refused < 50 {
        match rustix::net::send(&stream, &block, flags) {
            Ok(n) => (sent, refused) = (sent + n, 0),
            Err(rustix::io::Errno::AGAIN) => {
                refused += 1;
                thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error} after {sent} bytes"),
        }
        assert!(sent < 64 << 20, "{sent} bytes were taken that nobody reads");
    }
    success(&server.get("hello.test", "/"));
    // It comes back whole all the same.
    let mut stream = stream;
    stream.shutdown_write().unwrap();
    assert_eq!(rest(&mut stream).len(), sent);
}

#[test]
fn clients_that_reset_leave_nothing() {
    let (server, addr) = listening(App::guest("tcp_echo").unrouted(), "tcp-echo");
    let files = server.fds_at_rest();
    for round in 0..100 {
        let mut stream = connect(addr);
        if round % 2 == 0 {
            stream.write_all(b"something that comes back to nobody").unwrap();
        }
        stream.reset().unwrap();
    }
    until("the connections are closed", || server.fd_count() <= files);
    let mut stream = connect(addr);
    stream.write_all(b"still here").unwrap();
    stream.shutdown_write().unwrap();
    assert_eq!(rest(&mut stream), b"still here");
}

/// An app has as many calls as its limit says, over sockets as over HTTP; who comes then waits, and nobody is lost.
#[test]
fn connections_count_as_calls() {
    let app = App::guest("tcp_echo").unrouted().limit("concurrency", "2").limit("queue", "16");
    let (_server, addr) = listening(app, "tcp-echo");
    let mut inside: Vec<Stream> = (0..2).map(|_| connect(addr)).collect();
    let mut byte = [0];
    for stream in &mut inside {
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut byte).unwrap();
    }
    let mut outside = connect(addr);
    outside.write_all(b"b").unwrap();
    outside.set_deadline(Duration::from_millis(300));
    assert!(outside.read_exact(&mut byte).is_err(), "a third one is served where two may be");
    drop(inside);
    outside.set_deadline(PATIENCE);
    outside.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"b");
}

/// Whoever comes when the app has as many sockets as it may waits in the kernel: as one closes the next is served.
#[test]
fn who_finds_no_socket_left_waits_for_one() {
    let app = App::guest("tcp_echo").unrouted().limit("sockets", "2");
    let (_server, addr) = listening(app, "tcp-echo");
    let mut clients: VecDeque<Stream> = (0..8).map(|_| connect(addr)).collect();
    for (number, stream) in clients.iter_mut().enumerate() {
        stream.write_all(format!("line {number}\n").as_bytes()).unwrap();
    }
    let answer = |stream: &mut Stream| {
        let mut line = [0; 7];
        stream.set_deadline(PATIENCE);
        stream.read_exact(&mut line).map(|()| String::from_utf8_lossy(&line).into_owned())
    };
    let mut inside = VecDeque::new();
    for number in 0..8 {
        let mut stream = clients.pop_front().unwrap();
        assert_eq!(answer(&mut stream).unwrap(), format!("line {number}\n"));
        inside.push_back(stream);
        if inside.len() < 2 {
            continue;
        }
        if let Some(next) = clients.front_mut() {
            next.set_deadline(Duration::from_millis(100));
            let error = next.read_exact(&mut [0]).expect_err("a third one is served where two may be");
            assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "client {} was turned away", number + 1);
        }
        inside.pop_front();
    }
}

/// Likewise when they come and go all the time, on more workers than one.
#[test]
fn nobody_is_turned_away_while_sockets_come_and_go() {
    let app = App::guest("tcp_echo").unrouted().limit("sockets", "2");
    let manifest = "[[listen]]\ntcp = \"127.0.0.1:0\"\napp = \"tcp-echo\"\n";
    let builder = Server::builder().manifest(manifest).app(app).app(App::guest("hello"));
    let server = builder.option("--workers", "4").start();
    let addr = server.raw_addr("tcp-echo");
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                for round in 0..40 {
                    let mut stream = connect(addr);
                    let mut byte = [0];
                    stream.write_all(b"x").unwrap();
                    let read = stream.read_exact(&mut byte);
                    assert!(read.is_ok(), "client {number}, round {round}: {read:?}");
                }
            });
        }
    });
    assert_eq!(server.stderr().count(|line| line.contains("a raw connection was closed")), 0);
}

/// Clients that say nothing keep neither requests out nor those that wait for an answer.
#[test]
fn silent_connections_leave_room_for_requests() {
    let app = App::wat("raw_echo").limit("concurrency", "2");
    let (server, addr) = listening(app, "raw-echo");
    let mut silent: Vec<Stream> = (0..4).map(|_| connect(addr)).collect();
    // Two are inside for certain, the others wait.
    for stream in &mut silent[..2] {
        stream.write_all(b"a").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    for _ in 0..4 {
        let response = server.get("raw-echo.test", "/");
        success(&response);
        assert_eq!(response.body, b"here");
    }
    drop(silent);
}

/// Each line is answered when it is whole, however it came.
#[test]
fn a_server_of_lines() {
    let (server, addr) = listening(App::guest("lines").unrouted(), "lines");
    let mut stream = connect(addr);
    let ask = |stream: &mut Stream, pieces: &[&str]| {
        for piece in pieces {
            stream.set_deadline(PATIENCE);
            stream.write_all(piece.as_bytes()).unwrap();
        }
        let mut line = Vec::new();
        let mut byte = [0];
        while !line.ends_with(b"\n") {
            stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    };
    assert_eq!(ask(&mut stream, &["ECHO hello\r\n"]), "hello");
    assert_eq!(ask(&mut stream, &["UP", "PER hel", "lo\r\n"]), "HELLO");
    // Two in one piece are two answers, in order.
    assert_eq!(ask(&mut stream, &["ECHO one\nCOUNT\n"]), "one");
    assert_eq!(ask(&mut stream, &[]), "4");
    assert!(ask(&mut stream, &["WHAT\n"]).starts_with("ERROR"));
    // Another connection is another sandbox.
    assert_eq!(ask(&mut connect(addr), &["COUNT\n"]), "1");
    stream.write_all(b"QUIT\n").unwrap();
    assert!(!rest(&mut stream).is_empty(), "it goes without a word");
    success(&server.get("hello.test", "/"));
}

/// A component with an accept loop of its own: it runs without a request, and when it fails it is started again, after a
/// pause that grows.
#[test]
fn a_resident_is_started_again_when_it_fails() {
    let addr = free_addr();
    let app = App::guest("tcp_server").unrouted().env("LISTEN", addr).listen(addr);
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    for (round, end) in ["crash", "exit", "crash"].iter().enumerate() {
        // Its connections are numbered anew, as it is a new one.
        let said = poll_for(PATIENCE, || talk(addr, "hello").filter(|said| said.ends_with("hello\n")));
        let said =
            said.unwrap_or_else(|| panic!("round {round}: it does not serve:\n{}", server.stderr().tail(20)));
        assert_eq!(said, "1 hello\n", "round {round}");
        assert_eq!(talk(addr, "again").as_deref(), Some("2 again\n"), "round {round}");
        success(&server.get("hello.test", "/"));
        assert_eq!(talk(addr, end).as_deref(), Some(""), "round {round}: it answers before it ends");
        until("the log tells of it", || waits_ms(&server).len() > round);
    }
    assert_eq!(waits_ms(&server), [100, 200, 400], "{}", server.stderr().tail(20));
    let why = server.stderr().count(|line| line.contains("as was asked for"));
    assert_eq!(why, 2, "what it panicked of is in the log");
}

/// One line to a server of lines, and all that comes back; `None` if nobody is there.
fn talk(addr: SocketAddr, line: &str) -> Option<String> {
    let mut stream = Stream::connect(&Addr::Tcp(addr), PATIENCE).ok()?;
    stream.write_all(format!("{line}\n").as_bytes()).ok()?;
    stream.shutdown_write().ok()?;
    let mut all = String::new();
    match stream.read_to_string(&mut all) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => None,
        _ => Some(all),
    }
}

/// How long each restart of the resident waited, as the log tells.
fn waits_ms(server: &Server) -> Vec<u64> {
    let lines = server.stderr().lines();
    let failed = lines.iter().filter(|line| line.contains("the resident has failed"));
    let wait = |line: &String| line.split_once("wait_ms=")?.1.split_whitespace().next()?.parse().ok();
    failed.filter_map(wait).collect()
}

/// It is one of an app's guests like any other: what it may not, it may not.
#[test]
fn a_resident_listens_only_where_it_may() {
    let (allowed, other) = (free_addr(), free_addr());
    let app = App::guest("tcp_server").unrouted().env("LISTEN", other).listen(allowed);
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    let line = server.wait_for_log(|line| line.contains("socket denied"));
    assert!(line.is_some_and(|line| line.contains(&other.to_string()) && line.contains("sockets.listen")));
    // It fails for that, and is started again, later each time.
    until("it is tried again", || waits_ms(&server).len() >= 3);
    assert_eq!(waits_ms(&server)[..3], [100, 200, 400]);
    success(&server.get("hello.test", "/"));
    assert!(talk(other, "hello").is_none());
}

/// A client that has gone by the time it is accepted is its own misfortune, and not the resident's.
#[test]
fn a_resident_outlives_clients_that_reset() {
    let addr = free_addr();
    let app = App::guest("tcp_server").unrouted().env("LISTEN", addr).listen(addr);
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    let served = poll_for(PATIENCE, || talk(addr, "hello").filter(|said| said.ends_with("hello\n")));
    assert_eq!(served.as_deref(), Some("1 hello\n"));
    for _ in 0..200 {
        let mut stream = connect(addr);
        stream.write_all(b"x").unwrap();
        stream.reset().unwrap();
    }
    let said = talk(addr, "still").expect("nobody listens any more");
    let number = said.strip_suffix(" still\n").and_then(|number| number.parse::<u32>().ok());
    assert!(number.is_some_and(|number| number > 1), "{said:?}:\n{}", server.stderr().tail(20));
    assert!(waits_ms(&server).is_empty(), "{}", server.stderr().tail(20));
    success(&server.get("hello.test", "/"));
}
