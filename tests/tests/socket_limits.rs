//! What bounds an app's use of sockets: how many bytes a call moves, how often it connects, how long it waits; and the end of
//! the server, which waits for none of it for ever.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tidegate_tests::check::{logged_problem, success};
use tidegate_tests::daemon::free_addr;
use tidegate_tests::probe::{self, Fetch};
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{Addr, App, Server, Upstream};

fn silent() -> Upstream {
    Upstream::serve(|peer| peer.wait_for_end().map(|_| ()))
}

fn serve(app: App) -> Server {
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

/// Both directions count, over sockets as over requests to others.
#[test]
fn a_call_moves_so_many_bytes_and_no_more() {
    let upstream = Upstream::echo();
    let addr = upstream.addr();
    let app = App::guest("net_probe").named("probe").connect(addr).limit("socket_bytes", "256KiB");
    let server = serve(app);
    let mut client = server.client();
    let path = Fetch::new(&format!("http://{addr}/")).with("method", "POST");
    success(&client.post("probe.test", path.path(), &vec![b'a'; 50_000]).unwrap());
    // There and back it is too much; each call begins anew.
    for _ in 0..2 {
        let response = client.post("probe.test", path.path(), &vec![b'a'; 200_000]).unwrap();
        assert!(response.status() >= 500, "{response:?}");
        success(&client.post("probe.test", path.path(), &vec![b'a'; 50_000]).unwrap());
    }

    let turns = App::file("net", &rust_component("net")).connect(addr).limit("socket_bytes", "256KiB");
    // Its echo is of bytes: what comes first is no request, and is not sent back.
    let echo = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let turns = turns.connect(echo.local_addr().unwrap());
    let server = serve(turns);
    let path = format!("/turns?{}", echo.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in echo.incoming().flatten() {
            let mut piece = [0; 10_000];
            while stream.read_exact(&mut piece).and_then(|()| stream.write_all(&piece)).is_ok() {}
        }
    });
    let response = server.get("net.test", &path);
    assert!(response.text().starts_with("error "), "{response:?}");
    success(&server.get("hello.test", "/"));
}

#[test]
fn an_app_connects_so_often_and_no_more() {
    let upstream = silent();
    let addr = upstream.addr();
    let app = App::guest("net_probe").named("probe").connect(addr).limit("connects", "5/s");
    let server = serve(app);
    let mut client = server.client();
    let path = probe::connect(&addr.to_string());
    let started = Instant::now();
    let mut connected = 0;
    while started.elapsed() < Duration::from_millis(1_500) {
        connected += usize::from(client.get("probe.test", &path).unwrap().status() == 200);
    }
    let seconds = started.elapsed().as_secs() as usize + 2;
    assert!((5..=5 * seconds).contains(&connected), "{connected} in {:?}", started.elapsed());
    let told = server.wait_for_log(|line| line.contains("probe") && line.contains("connects"));
    assert!(told.is_some(), "the log does not say which limit it was:\n{}", server.stderr().tail(3));
}

/// Waiting on a socket is waiting: the wall limit ends it, and the socket with it.
#[test]
fn who_waits_too_long_is_ended_with_what_is_open() {
    let upstream = silent();
    let app = App::guest("proxy").env("UPSTREAM", format!("http://{}", upstream.addr()));
    let proxy = app.connect(upstream.addr()).limit("wall", "400ms");
    let app = App::guest("redis_module").env("REDIS", upstream.addr()).connect(upstream.addr());
    let redis = app.limit("wall", "400ms");
    let builder = Server::builder().app(proxy).app(redis).app(App::guest("hello"));
    let server = builder.option("--workers", "1").start();
    success(&server.get("hello.test", "/"));
    let files = server.fds_at_rest();
    for (host, path) in [("proxy.test", "/"), ("redis-module.test", "/get/key")] {
        let response = server.get(host, path);
        logged_problem(&server, &response, 504, "wall-limit");
        upstream.wait_until_left();
    }
    until("the server has what it had", || server.fd_count() <= files);
}

/// Raw connections, a resident and kept connections do not keep a server from ending.
#[test]
fn a_server_that_is_told_to_end_ends() {
    let upstream = Upstream::answering("kept");
    let resident = free_addr();
    let manifest = "[server]\ndrain = \"1s\"\n[[listen]]\ntcp = \"127.0.0.1:0\"\napp = \"tcp-echo\"\n";
    let probe = App::guest("net_probe").named("probe").connect(upstream.addr());
    let mut server = Server::builder()
        .manifest(manifest)
        .app(App::guest("tcp_echo").unrouted())
        .app(App::guest("tcp_server").unrouted().env("LISTEN", resident).listen(resident))
        .app(probe)
        .option("--workers", "2")
        .start();
    success(&Fetch::new(&format!("http://{}/", upstream.addr())).get(&mut server.client(), "probe.test"));
    let mut stream = Stream::connect(&Addr::Tcp(server.raw_addr("tcp-echo")), PATIENCE).unwrap();
    let mut back = [0; 5];
    stream.write_all(b"hello").unwrap();
    stream.read_exact(&mut back).unwrap();
    until("the resident listens", || Stream::connect(&Addr::Tcp(resident), PATIENCE).is_ok());

    server.signal(Signal::TERM);
    let started = Instant::now();
    assert!(server.wait_exit(PATIENCE).success());
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    upstream.wait_until_left();
    assert!(Stream::connect(&Addr::Tcp(resident), PATIENCE).is_err(), "somebody still listens");
}
