//! `wasi:sockets` asked directly, in and out of order, here and in `wasmtime serve`; and much of everything: bytes,
//! connections, requests of one instance.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc;
use std::thread;

use tidegate_tests::check::success;
use tidegate_tests::oracle::Oracle;
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::wait::until;
use tidegate_tests::{App, Server};

const HOST: &str = "sockets.test";
/// More than the systems of both sides keep, many times over.
const MUCH: usize = 48 << 20;

fn app() -> App {
    App::file("sockets", &rust_component("sockets"))
}

fn serve(app: App) -> Server {
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

#[track_caller]
fn said(server: &Server, path: &str) -> String {
    let response = server.get(HOST, path);
    success(&response);
    response.text()
}

/// Serves each connection on a thread of its own, for as long as the test lasts.
fn serving(behave: impl Fn(TcpStream) -> std::io::Result<()> + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let behave = behave.clone();
            thread::spawn(move || drop(behave(stream)));
        }
    });
    addr
}

/// Reads to the end and says "heard" before all of it.
fn replier() -> SocketAddr {
    serving(|mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all)?;
        stream.write_all(&[b"heard ", all.as_slice()].concat())
    })
}

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

fn byte(at: usize) -> u8 {
    (at % 251) as u8
}

/// Lines that are the same in both, and those that must be in ours.
#[test]
fn operations_in_any_order_give_what_they_give_elsewhere() {
    let (replier, datagrams) = (replier(), datagrams());
    let rows: [(String, &[&str]); 5] = [
        (
            format!("/tcp?{replier}"),
            &[
                "\"connect twice\": Err(\"concurrency-conflict\")",
                "\"listen meanwhile\": Err(\"not-in-progress\")",
                "\"connect again\": Err(\"invalid-state\")",
                "\"permit\": Err(\"closed\")",
                "\"read\": (\"heard hello\", \"closed\")",
            ],
        ),
        (
            "/listen".to_owned(),
            &[
                "\"no backlog\": Err(\"invalid-argument\")",
                "\"nobody\": Err(\"would-block\")",
                "\"no end\": Ok([])",
                "\"end\": Err(\"closed\")",
                "\"shut\": Err(\"closed\")",
            ],
        ),
        ("/addresses".to_owned(), &["\"[::ffff:127.0.0.1]:80\": Err(\"invalid-argument\")"]),
        (
            format!("/options?{replier}"),
            &["\"set hops\": Err(\"invalid-argument\")", "\"hops\": Ok(42)", "\"count\": Ok(127)"],
        ),
        (
            format!("/udp?{datagrams}"),
            &[
                "\"stream unbound\": Err(\"invalid-state\")",
                "\"to nobody\": Err(\"invalid-argument\")",
                "\"first one\": Ok(1)",
                "\"elsewhere\": Err(\"invalid-argument\")",
                "\"three\": Ok([\"heard three\"])",
            ],
        ),
    ];
    let app = app()
        .connect("127.0.0.1:*")
        .connect("udp:127.0.0.1:*")
        .listen("127.0.0.1:*")
        .listen("udp:127.0.0.1:*");
    let ours = serve(app);
    let oracle = Oracle::start(&rust_component("sockets"), &["-Sinherit-network"]);
    for (path, wanted) in &rows {
        let here = said(&ours, path);
        for wanted in *wanted {
            assert!(here.lines().any(|line| line == *wanted), "{path}: {wanted} is not in\n{here}");
        }
        if let Some(oracle) = &oracle {
            let there = oracle.client().get(HOST, path).unwrap().text();
            let other: Vec<_> =
                here.lines().zip(there.lines()).filter(|(here, there)| here != there).collect();
            assert!(
                other.is_empty() && here.lines().count() == there.lines().count(),
                "{path}, here and in wasmtime serve: {other:#?}\n{here}"
            );
        }
    }
}

/// The guest writes and then waits for the answer: what the socket had no room for leaves without it.
#[test]
fn much_is_written_to_who_reads_late() {
    let (go, begin) = mpsc::channel::<()>();
    let begin = std::sync::Arc::new(std::sync::Mutex::new(begin));
    let addr = serving(move |mut stream| {
        // Until then everything is full.
        begin.lock().unwrap().recv().unwrap();
        let (mut count, mut piece) = (0, vec![0; 30_000]);
        while count < MUCH {
            let n = stream.read(&mut piece)?;
            assert!(n > 0, "an end after {count} bytes");
            assert!(piece[..n].iter().enumerate().all(|(at, is)| *is == byte(count + at)), "at {count}");
            count += n;
        }
        stream.write_all(format!("{count:012}").as_bytes())
    });
    let server = serve(app().connect(addr));
    success(&server.get("hello.test", "/"));
    let before = server.rss_peak_bytes();
    let mut client = server.client();
    client.send_get(HOST, &format!("/exchange?{addr},{MUCH}")).unwrap();
    // The guest waits, and nobody else does.
    let mut hello = server.client();
    (0..50).for_each(|_| success(&hello.get("hello.test", "/").unwrap()));
    go.send(()).unwrap();
    let response = client.response().unwrap();
    assert_eq!(response.text(), format!("\"counted\": Ok(\"{MUCH:012}\")\n"));
    let grown = server.rss_peak_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes more for {MUCH}");
}

#[test]
fn much_is_read() {
    let addr = serving(|mut stream| {
        let bytes: Vec<u8> = (0..MUCH).map(byte).collect();
        stream.write_all(&bytes)
    });
    let server = serve(app().connect(addr));
    assert_eq!(said(&server, &format!("/download?{addr}")), format!("\"came\": Ok(({MUCH}, 0))\n"));
}

#[test]
fn a_hundred_connections_of_one_request() {
    let addr = serving(|mut stream| {
        let mut four = [0; 4];
        stream.read_exact(&mut four)?;
        stream.write_all(&four)
    });
    let server = serve(app().connect(addr));
    success(&server.get("hello.test", "/"));
    let files = server.fd_count();
    for _ in 0..3 {
        assert_eq!(said(&server, &format!("/many?{addr}")), "\"right\": Ok(100)\n");
        until("all is closed", || server.fd_count() <= files + 1);
    }
}

/// What a reused instance kept is dead, whatever it thinks.
#[test]
fn a_connection_ends_with_its_request_under_reuse() {
    let (tell, told) = mpsc::channel();
    let addr = serving(move |mut stream| {
        stream.write_all(b"for the first request alone")?;
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        tell.send(rest).unwrap();
        Ok(())
    });
    let server = serve(app().connect(addr).line("instances = { reuse = 100 }"));
    success(&server.get("hello.test", "/"));
    let files = server.fd_count();
    let mut client = server.client();
    let path = format!("/keep?{addr}");
    for _ in 0..3 {
        assert_eq!(client.get(HOST, &path).unwrap().text(), "\"kept\": true\n");
        until("it is closed", || server.fd_count() <= files + 1);
        let next = client.get(HOST, &path).unwrap().text();
        assert_eq!(next, "\"read\": false\n\"write\": false\n\"peer\": false\n\"kept\": false\n");
        assert_eq!(told.recv().unwrap(), b"", "what the connection brought");
    }
}
