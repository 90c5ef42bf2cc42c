//! Sockets in the module ABI by hand-written guests: what each call does, and what it says to those who use it wrongly.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::mpsc;
use std::thread;

use tidegate_abi::errno::{EACCES, EAGAIN, EBADF, ECONNREFUSED, EINVAL, EMFILE, ENOENT, ENOTSUP, EPIPE};
use tidegate_abi::socket::{self, HANDLES_MAX};
use tidegate_tests::check::{ok, success};
use tidegate_tests::daemon::free_addr;
use tidegate_tests::dns::{Answer, Dns};
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, App, Response, Server, Upstream};

fn raw_socket() -> App {
    App::wat("raw_socket").named("raw")
}

fn serve(app: App) -> Server {
    Server::builder().app(app).option("--workers", "1").start()
}

#[track_caller]
fn errno(response: &Response) -> i32 {
    assert_eq!((response.status(), response.body.len()), (502, 4), "{response:?}");
    i32::from_le_bytes([response.body[0], response.body[1], response.body[2], response.body[3]])
}

/// Takes connections one by one: reads to the end, answers with it and more.
fn replier() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&[b"heard ", all.as_slice()].concat()).unwrap();
        }
    });
    addr
}

#[test]
fn a_connection_carries_bytes_both_ways_and_ends_in_halves() {
    let addr = replier();
    let server = serve(raw_socket().connect(addr));
    let files = server.fds_at_rest();
    let mut client = server.client();
    for _ in 0..3 {
        ok(&client.get("raw.test", &format!("/t/{addr}")).unwrap(), b"heard ping");
    }
    drop(client);
    until("all is closed", || server.fd_count() <= files);
}

#[test]
fn a_datagram_comes_back() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    let answering = thread::spawn(move || {
        let mut datagram = [0; 100];
        let (n, from) = socket.recv_from(&mut datagram).unwrap();
        socket.send_to(b"heard ", from).unwrap();
        datagram[..n].to_vec()
    });
    let server = serve(raw_socket().connect(format!("udp:{addr}")));
    ok(&server.get("raw.test", &format!("/u/{addr}")), b"heard ");
    assert_eq!(answering.join().unwrap(), b"ping");
    // A rule for one protocol is none for the other.
    assert_eq!(errno(&server.get("raw.test", &format!("/t/{addr}"))), EACCES);
}

#[test]
fn both_ends_have_an_address() {
    let (sender, receiver) = mpsc::channel();
    let upstream = Upstream::serve(move |peer| {
        sender.send(peer.stream().peer_addr()?).map_err(std::io::Error::other)?;
        peer.wait_for_end().map(|_| ())
    });
    let server = serve(raw_socket().connect(upstream.addr()));
    let response = server.get("raw.test", &format!("/l/{}", upstream.addr()));
    let local = receiver.recv_timeout(PATIENCE).unwrap();
    ok(&response, format!("{local}{}", upstream.addr()).as_bytes());
}

#[test]
fn what_fails_has_its_number() {
    let nobody = free_addr();
    let server = serve(raw_socket().connect(nobody));
    assert_eq!(errno(&server.get("raw.test", &format!("/t/{nobody}"))), ECONNREFUSED);
    let elsewhere = free_addr();
    assert_eq!(errno(&server.get("raw.test", &format!("/t/{elsewhere}"))), EACCES);
    let line = server.wait_for_log(|line| line.contains("socket denied"));
    let told =
        line.is_some_and(|line| line.contains("sockets.connect") && line.contains(&elsewhere.to_string()));
    assert!(told, "{}", server.stderr().tail(3));
    assert_eq!(errno(&server.get("raw.test", "/r/elsewhere.test")), EACCES);
}

#[test]
fn names_are_looked_up() {
    let dns = Dns::start();
    dns.set("two.test", &["192.0.2.1", "2001:db8::1"], 60);
    dns.say("broken.test", Answer::ServFail);
    let addr = replier();
    dns.set("inside.test", &["127.0.0.1"], 60);
    let manifest = format!("[server]\ndns = [\"{}\"]\n", dns.address());
    let app = raw_socket().connect("*.test:*").connect(addr);
    let server = Server::builder().manifest(manifest).app(app).option("--workers", "1").start();

    let response = server.get("raw.test", "/r/two.test");
    success(&response);
    let entries = response.body.chunks_exact(socket::ENTRY_BYTES);
    let mut found: Vec<String> =
        entries.map(|entry| socket::address(entry.try_into().unwrap()).unwrap().to_string()).collect();
    found.sort();
    assert_eq!(found, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(errno(&server.get("raw.test", "/r/none.test")), ENOENT);
    assert!(errno(&server.get("raw.test", "/r/broken.test")) != 0);
    ok(&server.get("raw.test", &format!("/t/inside.test:{}", addr.port())), b"heard ping");
    assert_eq!(errno(&server.get("raw.test", "/t/none.test:80")), ENOENT);
}

#[test]
fn sockets_used_wrongly_have_defined_errors() {
    let upstream = Upstream::serve(|peer| peer.wait_for_end().map(|_| ()));
    let app = App::wat("socket_misuse").named("misuse").connect(upstream.addr());
    let server = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start();
    let files = server.fds_at_rest();
    let path = format!("/{}", upstream.addr());
    let response = server.get("misuse.test", &path);
    success(&response);
    let words = response.body.chunks_exact(4);
    let said: Vec<i32> = words.map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
    let mut wanted = vec![-EINVAL; 11];
    wanted.extend([0, -EINVAL, -ENOTSUP, -EINVAL]);
    // The request's body is no socket.
    assert!([-ENOTSUP, -EBADF].contains(&said[15]), "{said:?}");
    wanted.push(said[15]);
    wanted.extend([-EAGAIN, -EINVAL, -EPIPE, 0, -EBADF, -EBADF, -EBADF, 1]);
    wanted.extend([i32::try_from(HANDLES_MAX).unwrap(), -EMFILE]);
    assert_eq!(said, wanted);
    // Whatever was left open goes with the call.
    upstream.wait_until_left();
    until("all is closed", || server.fd_count() <= files);
    success(&server.get("hello.test", "/"));
}

/// What an app may have open is one number for all its calls.
#[test]
fn sockets_of_an_app_are_limited() {
    let upstream = Upstream::serve(|peer| peer.wait_for_end().map(|_| ()));
    let app = App::wat("socket_misuse").named("misuse").connect(upstream.addr()).limit("sockets", "10");
    let server = serve(app);
    let response = server.get("misuse.test", &format!("/{}", upstream.addr()));
    let words = response.body.chunks_exact(4);
    let said: Vec<i32> = words.map(|word| i32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect();
    assert_eq!(said[24..], [10, -EMFILE], "{said:?}");
    upstream.wait_until_left();
}

#[test]
fn connections_that_are_forwarded_to_themselves() {
    let manifest = "[[listen]]\ntcp = \"127.0.0.1:0\"\napp = \"raw-echo\"\n";
    let builder = Server::builder().manifest(manifest).app(App::wat("raw_echo"));
    let server = builder.option("--workers", "1").start();
    let addr = server.raw_addr("raw-echo");
    ok(&server.get("raw-echo.test", "/"), b"here");
    let files = server.fds_at_rest();
    thread::scope(|scope| {
        for number in 0..8 {
            scope.spawn(move || {
                let mut stream = Stream::connect(&Addr::Tcp(addr), PATIENCE).unwrap();
                let mut writer = stream.try_clone().unwrap();
                let sender = thread::spawn(move || {
                    writer.write_all(&Pattern::new(number).take(1_000_000)).unwrap();
                    writer.shutdown_write().unwrap();
                });
                let mut all = Vec::new();
                stream.read_to_end(&mut all).unwrap();
                sender.join().unwrap();
                assert_eq!(all.len(), 1_000_000, "connection {number}");
                assert_eq!(Pattern::new(number).check(&all), Ok(()), "connection {number}");
            });
        }
    });
    until("all is closed", || server.fd_count() <= files);
}
