//! A service manager's part, played by the test: sockets that are passed, and what it is told.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;
use tidegate_tests::check::success;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, App, Client, Server};

/// A listening socket and where it listens.
fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    (listener, addr)
}

#[test]
fn who_waits_at_a_socket_before_there_is_a_server_is_served() {
    let (socket, addr) = listener();
    let mut early: Vec<_> = (0..20).map(|_| Client::connect(&Addr::Tcp(addr)).unwrap()).collect();
    early.iter_mut().for_each(|client| client.send_get("a", "/").unwrap());
    // Several workers share it.
    let server = Server::builder().guest("hello").socket(socket).option("--workers", "3").start();
    assert_eq!(*server.addr(), Addr::Tcp(addr));
    for client in &mut early {
        success(&client.response().unwrap());
    }
    let mut late: Vec<_> = (0..60).map(|_| server.client()).collect();
    for client in &mut late {
        success(&client.get("a", "/").unwrap());
    }
}

#[test]
fn sockets_are_matched_to_the_addresses_that_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let (tcp, addr) = listener();
    let named = format!("unix:{}", path.display());
    let builder = Server::builder().guest("hello").socket(tcp).socket(unix);
    let mut server = builder.listen(&named).listen(&addr.to_string()).start();
    assert_eq!(server.addrs(), [Addr::Unix(path.clone()), Addr::Tcp(addr)]);
    for addr in server.addrs() {
        success(&Client::connect(addr).unwrap().get("a", "/").unwrap());
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    assert!(path.exists(), "the path is the service manager's");
}

#[test]
fn raw_connections_come_over_a_socket_too() {
    let (socket, addr) = listener();
    let listen = format!("[[listen]]\ntcp = \"{addr}\"\napp = \"tcp-echo\"\n");
    let builder = Server::builder().manifest(listen).app(App::guest("tcp_echo").unrouted());
    let server = builder.app(App::guest("hello")).socket(socket).listen("127.0.0.1:0").start();
    assert_eq!(server.raw_addr("tcp-echo"), addr);
    success(&server.get("hello.test", "/"));
}

#[test]
fn a_socket_that_nobody_asks_for_is_a_plain_error() {
    let (socket, addr) = listener();
    let builder = Server::builder().guest("hello").socket(socket).listen("127.0.0.1:0");
    let (status, told) = builder.env("LISTEN_FDNAMES", "web").start_refused();
    assert_eq!(status.code(), Some(1), "{told}");
    for part in ["descriptor 3 (`web`)", &addr.to_string(), "add it to `listen`"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let folder = tempfile::tempdir().unwrap();
    let datagrams = UnixDatagram::bind(folder.path().join("s")).unwrap();
    let (status, told) = Server::builder().guest("hello").socket(datagrams).start_refused();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("descriptor 3") && told.contains("ListenStream="), "{told}");
}

#[test]
fn another_processs_sockets_are_left_alone() {
    let (socket, addr) = listener();
    let server =
        Server::builder().guest("hello").socket(socket).env("FOR_PID", "1").listen("127.0.0.1:0").start();
    assert_ne!(*server.addr(), Addr::Tcp(addr));
    success(&server.get("a", "/"));
}

/// A service manager that listens for what it is told.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, path, _folder: folder }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// The next message, as its lines.
    fn told(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let n = self.socket.recv(&mut bytes).expect("a message for the service manager");
        String::from_utf8_lossy(&bytes[..n]).lines().map(str::to_owned).collect()
    }

    /// Waits for a message with that line.
    fn wait(&self, line: &str) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let told = self.told();
            if told.iter().any(|said| said.starts_with(line)) {
                return told;
            }
            assert!(Instant::now() < deadline, "{line} was never told");
        }
    }
}

#[test]
fn the_service_manager_is_told_how_it_is() {
    let manager = Manager::new();
    let mut server = Server::builder().guest("hello").env("NOTIFY_SOCKET", manager.path()).start();
    assert_eq!(manager.told()[0], "READY=1");
    server.signal(Signal::HUP);
    let reloading = manager.wait("RELOADING=1");
    let micros = reloading.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic).tv_sec;
    let then = micros.parse::<i64>().unwrap() / 1_000_000;
    assert!((now - 60..=now + 1).contains(&then), "{then} of {now}");
    manager.wait("READY=1");
    server.signal(Signal::TERM);
    manager.wait("STOPPING=1");
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
}

#[test]
fn a_watchdog_hears_of_loops_that_turn() {
    let manager = Manager::new();
    let builder = Server::builder().guest("hello").env("NOTIFY_SOCKET", manager.path());
    let server = builder.env("WATCHDOG_USEC", "300000").option("--workers", "2").start();
    manager.wait("READY=1");
    let started = Instant::now();
    for _ in 0..6 {
        manager.wait("WATCHDOG=1");
    }
    assert!(started.elapsed() >= Duration::from_millis(400), "it is not told all the time");
    until("it serves", || server.get("a", "/").status() == 200);
}
