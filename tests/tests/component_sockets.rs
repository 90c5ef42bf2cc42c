//! Sockets of WASI as `std` has them, in a component that knows nothing of us: the same questions here and in
//! `wasmtime serve`, and what only the server's own rules can answer.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;
use std::time::Duration;

use tidegate_tests::check::{ok, success};
use tidegate_tests::daemon::free_addr;
use tidegate_tests::dns::Dns;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Client, Server, Upstream};

const HOST: &str = "net.test";

fn net() -> App {
    App::file("net", &rust_component("net"))
}

fn serve(app: App) -> Server {
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

/// What the component says.
#[track_caller]
fn said(server: &Server, path: &str) -> String {
    let response = server.get(HOST, path);
    success(&response);
    response.text()
}

/// Takes connections one by one: reads to the end, answers with it and more.
fn replier() -> SocketAddr {
    serving(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&[b"heard ", all.as_slice()].concat())
    })
}

/// Sends everything back as it comes.
fn echo() -> SocketAddr {
    serving(|mut stream| {
        let mut piece = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut piece)? {
                0 => return Ok(()),
                n => stream.write_all(&piece[..n])?,
            }
        }
    })
}

/// Runs for as long as the test does; a connection ends with `behave`.
fn serving(behave: fn(std::net::TcpStream) -> std::io::Result<()>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = behave(stream);
        }
    });
    addr
}

/// Answers datagrams, as many as come.
fn datagrams() -> SocketAddr {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let addr = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = [0; 100];
        while let Ok((n, from)) = socket.recv_from(&mut datagram) {
            let _ = socket.send_to(&[b"heard ", &datagram[..n]].concat(), from);
        }
    });
    addr
}

/// Whatever a program of `std` asks, it is told what it would be told elsewhere.
#[test]
fn a_component_cannot_tell_the_difference() {
    let (replier, echo, datagrams, nobody) = (replier(), echo(), datagrams(), free_addr());
    let silent = Upstream::serve(|peer| peer.wait_for_end().map(|_| ()));
    let quiet = silent.addr();
    let questions = [
        (format!("/ping?{replier}"), Some("heard ping")),
        (format!("/turns?{echo}"), Some("all came back")),
        (format!("/ping?{nobody}"), Some("error ConnectionRefused")),
        (format!("/non-blocking?{quiet}"), Some("WouldBlock")),
        (format!("/addresses?{replier}"), None),
        (format!("/options?{replier}"), None),
        (format!("/timeout?{quiet}"), None),
        (format!("/udp?{datagrams}"), Some("heard ping")),
        (format!("/udp-to?{datagrams}"), None),
        ("/bind-tcp?127.0.0.1:0".to_owned(), Some("bound")),
        ("/bind-udp?127.0.0.1:0".to_owned(), Some("bound")),
        // Of no interface of this machine.
        ("/bind-tcp?192.0.2.1:0".to_owned(), None),
        (format!("/bind-tcp?{replier}"), None),
    ];
    let app = [replier, echo, nobody, quiet].iter().fold(net(), App::connect);
    let app = app.connect(format!("udp:{datagrams}")).listen("127.0.0.1:*").listen("udp:127.0.0.1:*");
    let app = app.listen("udp:0.0.0.0:*").listen("192.0.2.1:*");
    let ours = serve(app);
    let options = ["-Sinherit-network", "-Sallow-ip-name-lookup"];
    let oracle = Oracle::start(&rust_component("net"), &options);
    for (path, wanted) in &questions {
        let here = said(&ours, path);
        if let Some(wanted) = wanted {
            assert_eq!(&here, wanted, "{path}");
        }
        if let Some(oracle) = &oracle {
            let there = oracle.client().get(HOST, path).unwrap();
            assert_eq!(here, there.text(), "{path}: here and in wasmtime serve");
        }
    }
}

#[test]
fn what_is_not_allowed_is_permission_denied() {
    let (replier, datagrams) = (replier(), datagrams());
    let server = serve(net());
    let rows = [
        (format!("/ping?{replier}"), format!("['{replier}']")),
        (format!("/udp?{datagrams}"), "udp:".to_owned()),
        (format!("/udp-to?{datagrams}"), "udp:".to_owned()),
        ("/bind-tcp?127.0.0.1:0".to_owned(), "sockets.listen".to_owned()),
        ("/bind-udp?127.0.0.1:0".to_owned(), "sockets.listen".to_owned()),
    ];
    for (path, shown) in &rows {
        let seen = server.stderr().count(|line| line.contains("socket denied"));
        assert_eq!(said(&server, path), "error PermissionDenied", "{path}");
        until("the log has a line", || server.stderr().count(|line| line.contains("socket denied")) > seen);
        let lines = server.stderr().lines();
        let line = lines.iter().rev().find(|line| line.contains("socket denied")).unwrap();
        // A rule's quotes are escaped within the log's.
        let line = line.replace("\\\"", "\"");
        assert!(line.contains(shown.as_str()), "{path}: no {shown} in {line}");
    }
}

#[test]
fn names_are_looked_up_where_a_rule_has_them() {
    let dns = Dns::start();
    dns.set("two.test", &["192.0.2.1", "2001:db8::1"], 60);
    dns.set("inside.test", &["127.0.0.1"], 60);
    let replier = replier();
    let manifest = format!("[server]\ndns = [\"{}\"]\n", dns.address());
    let app = net().connect("*.test:*").connect(replier);
    let server = Server::builder().manifest(manifest).app(app).option("--workers", "1").start();
    assert_eq!(said(&server, "/resolve?two.test:80"), "192.0.2.1:80 [2001:db8::1]:80");
    assert!(said(&server, "/resolve?none.test:80").starts_with("error "));
    assert!(said(&server, "/resolve?elsewhere.example:80").starts_with("error "));
    assert_eq!(dns.asked("elsewhere.example"), 0);
    assert_eq!(said(&server, &format!("/ping?inside.test:{}", replier.port())), "heard ping");
}

/// A component that listens for as long as its request lasts.
#[test]
fn a_request_can_accept_a_connection() {
    let server = serve(net().listen("127.0.0.1:*"));
    let mut client = server.client();
    client.send_get(HOST, "/accept?127.0.0.1:0").unwrap();
    let line = server.wait_for_log(|line| line.contains("accepting at ")).expect("where it listens");
    let text = line.split_once("accepting at ").unwrap().1;
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(text.len());
    let addr: SocketAddr = text[..end].parse().unwrap_or_else(|_| panic!("{line}"));
    let mut stream = Stream::connect(&Addr::Tcp(addr), PATIENCE).unwrap();
    let bytes = Pattern::new(9).take(50_000);
    stream.write_all(&bytes).unwrap();
    stream.shutdown_write().unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert!(back == bytes, "{} bytes came back", back.len());
    ok(&client.response().unwrap(), b"50000");
    // The listener went with the request.
    until("nobody listens any more", || Stream::connect(&Addr::Tcp(addr), PATIENCE).is_err());
}

#[test]
fn what_a_request_leaves_open_is_closed_with_it() {
    let upstream = Upstream::serve(|peer| peer.wait_for_end().map(|_| ()));
    let server = serve(net().connect(upstream.addr()).limit("sockets", "40"));
    success(&server.get("hello.test", "/"));
    let files = server.fds_at_rest();
    for _ in 0..5 {
        let text = said(&server, &format!("/hold?{}", upstream.addr()));
        assert!(text.starts_with("40 "), "{text}");
        upstream.wait_until_left();
    }
    until("all is closed", || server.fd_count() <= files);
}

/// A guest that waits in `accept`, in `recv` or in `read` holds nobody up, and is gone when its client is.
#[test]
fn who_waits_can_be_hung_up_on() {
    // Also when the guest has ended its side.
    let silent = Upstream::serve(|peer| {
        loop {
            peer.pause(Duration::from_millis(50))?;
        }
    });
    let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    let app = net().connect(silent.addr()).connect(format!("udp:{}", socket.local_addr().unwrap()));
    let app = app.listen("127.0.0.1:*").listen("udp:0.0.0.0:*").limit("wall", "60s");
    let server = serve(app);
    success(&server.get("hello.test", "/"));
    let files = server.fds_at_rest();
    let paths = [
        format!("/ping?{}", silent.addr()),
        format!("/udp?{}", socket.local_addr().unwrap()),
        "/accept?127.0.0.1:0".to_owned(),
    ];
    for path in &paths {
        let mut clients: Vec<Client> = (0..20).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| client.send_get(HOST, path).unwrap());
        // A connection of its client's, and a socket of its own.
        let all = poll_for(PATIENCE, || (server.fd_count() >= files + 40).then_some(()));
        assert!(all.is_some(), "{path}: {} descriptors, {files} before", server.fd_count());
        let mut hello = server.client();
        for _ in 0..20 {
            success(&hello.get("hello.test", "/").unwrap());
        }
        drop(hello);
        clients.into_iter().for_each(|client| client.reset().unwrap());
        until(&format!("{path}: all is closed"), || server.fd_count() <= files);
    }
}
