//! Proxies in front: whose word about the client is believed, in fields and in preambles.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_tests::check::{closed, success};
use tidegate_tests::server::Builder;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Client, Nginx, Response, Server};

/// What lies between "the timer did not exist" and "this machine is slow".
const SOON: Duration = Duration::from_secs(15);

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const V1: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";

/// A handler that tells what it sees, for peers in these blocks; and a log.
fn mirror(proxies: &[&str]) -> Builder {
    let builder = Server::builder().guest("mirror").option("--access-log", "-");
    proxies.iter().fold(builder, |builder, peer| builder.option("--proxy", peer))
}

/// What the handler saw.
fn seen(response: &Response) -> Value {
    success(response);
    serde_json::from_slice(&response.body).unwrap()
}

fn ask(client: &mut Client, lines: &[&str]) -> Value {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).unwrap();
    seen(&client.response().unwrap())
}

fn is_loopback(peer: &Value) -> bool {
    peer.as_str().unwrap().parse::<SocketAddr>().unwrap().ip().is_loopback()
}

/// Names of the fields that are told about clients.
fn told(seen: &Value) -> Vec<&str> {
    let headers = seen["headers"].as_object().unwrap();
    let mut names: Vec<&str> = headers.keys().map(String::as_str).filter(|name| *name != "host").collect();
    names.sort_unstable();
    names
}

const EVERYTHING: [&str; 7] = [
    "X-Forwarded-For: 192.0.2.1",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: b",
    "X_Forwarded_For: 192.0.2.1",
    "X-Real-IP: 192.0.2.1",
    "Forwarded: for=192.0.2.2;proto=https",
    "X-Request-Id: from-outside",
];

#[test]
fn strangers_are_not_believed_and_their_fields_do_not_reach_a_guest() {
    for proxies in [&[][..], &["10.0.0.0/8", "unix"]] {
        let server = mirror(proxies).start();
        let mut client = server.client();
        let mut lines = EVERYTHING.to_vec();
        lines.insert(3, "Accept: text/plain");
        for _ in 0..3 {
            let seen = ask(&mut client, &lines);
            assert!(is_loopback(&seen["peer"]) && seen["secure"] == false, "{seen}");
            assert_eq!(told(&seen), ["accept", "x-request-id"]);
            assert_ne!(seen["id"], "from-outside");
        }
        assert!(server.wait_for_log(|line| line.contains("forwarding fields are taken out")).is_some());
        until("the access log", || server.stdout().count(|line| line.contains("\"GET /\" ")) == 3);
        assert_eq!(server.stdout().count(|line| line.contains("192.0.2.")), 0);
        assert_eq!(server.stderr().count(|line| line.contains("forwarding fields")), 1, "told once");
    }
}

#[test]
fn a_proxy_is_believed_about_address_scheme_and_id() {
    let server = mirror(&["127.0.0.0/8"]).start();
    let mut client = server.client();
    let seen = ask(&mut client, &EVERYTHING);
    assert_eq!((&seen["peer"], &seen["secure"]), (&"192.0.2.1:0".into(), &true.into()));
    assert_eq!((&seen["id"], &seen["authority"]), (&"from-outside".into(), &"a".into()), "{seen}");
    let family = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip", "x-request-id"];
    assert_eq!(told(&seen).into_iter().filter(|name| !name.contains('_')).collect::<Vec<_>>(), family);
    // What one request says does not hold for the next.
    let seen = ask(&mut client, &["Accept: a/b"]);
    assert!(is_loopback(&seen["peer"]) && seen["secure"] == false, "{seen}");
    assert_ne!(seen["id"], "from-outside");
    let logged = |line: &str| line.contains(" from-outside mirror 192.0.2.1:0 \"GET /\" ");
    until("the access log", || server.stdout().count(logged) == 1);
    assert_eq!(server.stderr().count(|line| line.contains("forwarding fields")), 0);
}

#[test]
fn a_proxy_that_writes_forwarded_is_believed_about_that_alone() {
    let server = mirror(&["127.0.0.0/8"]).option("--forwarded", "forwarded").start();
    let seen = ask(&mut server.client(), &EVERYTHING);
    assert_eq!((&seen["peer"], &seen["secure"]), (&"192.0.2.2:0".into(), &true.into()));
    assert_eq!(told(&seen), ["forwarded", "x-request-id"]);
    let table = [
        ("for=\"[2001:db8::1]:4711\";proto=http, for=127.0.0.1", "[2001:db8::1]:4711", false),
        ("for=198.51.100.7, for=192.0.2.9;proto=https, for=127.0.0.9;proto=http", "192.0.2.9:0", true),
        ("for=_hidden;proto=https, for=127.0.0.9", "", true),
        ("for=192.0.2.1, for=unknown", "", false),
        ("for=\"192.0.2.1", "", false),
    ];
    let mut client = server.client();
    for (value, peer, secure) in table {
        let seen = ask(&mut client, &[&format!("Forwarded: {value}")]);
        match peer {
            "" => assert!(is_loopback(&seen["peer"]), "{value}: {seen}"),
            peer => assert_eq!(seen["peer"], peer, "{value}"),
        }
        assert_eq!(seen["secure"], secure, "{value}");
    }
}

#[test]
fn a_chain_is_read_from_the_right() {
    let server = mirror(&["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"]).start();
    let mut client = server.client();
    let table = [
        ("198.51.100.7, 192.0.2.1", "192.0.2.1:0"),
        ("198.51.100.7, 192.0.2.1, 10.0.0.1, [fd00::1]:80", "192.0.2.1:0"),
        ("198.51.100.7, [2001:db8::1]:443, 10.0.0.1", "[2001:db8::1]:443"),
        ("10.0.0.3, 10.0.0.2", "10.0.0.3:0"),
        ("\"<script>, 192.0.2.1:99, ::ffff:10.0.0.1", "192.0.2.1:99"),
        ("192.0.2.1, _hidden", ""),
        ("192.0.2.1, unknown, 10.0.0.1", ""),
        ("192.0.2.1, 10.0.0.1, garbage", ""),
        ("", ""),
    ];
    for (value, peer) in table {
        let seen = ask(&mut client, &[&format!("X-Forwarded-For: {value}")]);
        match peer {
            "" => assert!(is_loopback(&seen["peer"]), "{value}: {seen}"),
            peer => assert_eq!(seen["peer"], peer, "{value}"),
        }
    }
}

#[test]
fn huge_fields_cost_no_more_than_their_bytes() {
    let server = mirror(&["127.0.0.0/8"]).option("--http", "head_bytes=1MiB").start();
    let mut client = server.client();
    let many = "127.0.0.1,".repeat(90_000);
    let before = server.cpu_time();
    for (value, peer) in [(format!("{many}192.0.2.1"), "192.0.2.1:0"), (format!("192.0.2.1,{many}"), "")] {
        let seen = ask(&mut client, &[&format!("X-Forwarded-For: {value}")]);
        match peer {
            "" => assert!(is_loopback(&seen["peer"])),
            peer => assert_eq!(seen["peer"], peer),
        }
    }
    let commas = ",".repeat(900_000);
    let seen = ask(&mut client, &[&format!("X-Forwarded-For: 192.0.2.1{commas}")]);
    assert_eq!(seen["peer"], "192.0.2.1:0");
    // The guest makes JSON of three megabytes; squared, the elements alone would take minutes.
    assert!(server.cpu_time() - before < Duration::from_secs(10), "{:?}", server.cpu_time() - before);
}

#[test]
fn who_comes_over_a_unix_socket_is_a_proxy_where_that_is_said() {
    for (proxies, believed) in [(&["127.0.0.0/8"][..], false), (&["unix"], true)] {
        let server = mirror(proxies).listen("unix:web.sock").start();
        let seen = ask(&mut server.client(), &EVERYTHING);
        let peer = if believed { Value::from("192.0.2.1:0") } else { Value::Null };
        assert_eq!((&seen["peer"], &seen["secure"]), (&peer, &believed.into()), "{seen}");
    }
}

#[test]
fn a_component_learns_the_scheme() {
    for (peer, secure) in [("127.0.0.1", true), ("10.0.0.1", false)] {
        let component = tidegate_tests::artifacts::component_guest("mirror");
        let server = Server::builder().module(component).option("--proxy", peer).start();
        let seen = ask(&mut server.client(), &EVERYTHING);
        assert_eq!(seen["secure"], secure, "{seen}");
        assert_eq!(told(&seen).contains(&"x-forwarded-for"), secure);
    }
}

#[test]
fn nginx_is_believed_about_who_asks_it() {
    let server = mirror(&["127.0.0.1"]).start();
    let Addr::Tcp(upstream) = server.addr() else { panic!("TCP by default") };
    let Some(nginx) = Nginx::telling(&upstream.to_string()) else { return };
    let mut client = Client::connect(&Addr::Tcp(nginx.addr())).unwrap();
    // The client is on the loopback as well: all of the chain are proxies, and the left-most stands.
    let seen = ask(&mut client, &["X-Forwarded-Proto: https"]);
    assert_eq!((&seen["peer"], &seen["secure"]), (&"127.0.0.1:0".into(), &false.into()), "{seen}");
    assert_eq!(seen["headers"]["x-request-id"], seen["id"]);
    let seen = ask(&mut client, &["X-Forwarded-For: 10.1.1.1, 192.0.2.1"]);
    assert_eq!(seen["peer"], "192.0.2.1:0");
}

#[test]
fn nginx_over_a_unix_socket_is_believed_and_its_clients_are_not() {
    let server = mirror(&["unix"]).listen("unix:web.sock").start();
    let path = server.folder().join("web.sock");
    let Some(nginx) = Nginx::telling(&format!("unix:{}:", path.display())) else { return };
    let mut client = Client::connect(&Addr::Tcp(nginx.addr())).unwrap();
    let seen = ask(&mut client, &["X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"]);
    assert_eq!((&seen["peer"], &seen["secure"]), (&"127.0.0.1:0".into(), &false.into()), "{seen}");
}

// Preambles.

fn announced(proxies: &[&str]) -> Builder {
    mirror(proxies).flag("--proxy-protocol")
}

/// Version 2, with a family and what stands behind the length.
fn v2(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend_from_slice(&[command, kind]);
    bytes.extend_from_slice(&u16::try_from(block.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(block);
    bytes
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn preambles_of_both_versions_name_the_client() {
    let server = announced(&["127.0.0.1"]).start();
    let mut v6 = [0_u8; 36];
    (v6[0], v6[1], v6[15], v6[31], v6[33], v6[35]) = (0x20, 0x01, 1, 2, 80, 81);
    let tls = [&V4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0], &[4, 0, 2, 9, 9]].concat();
    let long = [&V4[..], &[4, 0x0f, 0xe1], &[0; 4065]].concat();
    let table: [(Vec<u8>, &str, &str, bool); 7] = [
        (V1.into(), "192.0.2.1:56324", "198.51.100.2:443", false),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n".into(), "[2001:db8::1]:1", "[2001:db8::2]:2", false),
        (v2(0x21, 0x11, &V4), "192.0.2.1:56324", "198.51.100.2:443", false),
        (v2(0x21, 0x21, &v6), "[2001::1]:80", "[::2]:81", false),
        (v2(0x21, 0x11, &tls), "192.0.2.1:56324", "198.51.100.2:443", true),
        (v2(0x21, 0x11, &long), "192.0.2.1:56324", "198.51.100.2:443", false),
        (v2(0x21, 0x31, &[0; 216]), "", "", false),
    ];
    for (preamble, peer, local, secure) in table {
        let mut client = server.client();
        client.send(&preamble).unwrap();
        let seen = ask(&mut client, &[]);
        let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        assert_eq!((&seen["peer"], &seen["local"]), (&text(peer), &text(local)));
        assert_eq!(seen["secure"], secure);
    }
    let logged = |line: &str| line.contains(" mirror 192.0.2.1:56324 \"GET /\" ");
    until("the access log", || server.stdout().count(logged) == 4);
}

#[test]
fn a_proxys_own_connections_and_those_of_nobody_known_have_its_address() {
    let server = announced(&["127.0.0.1"]).start();
    let own: &[Vec<u8>] = &[v2(0x20, 0, b""), v2(0x20, 0x11, &V4)];
    let unknown: &[Vec<u8>] = &[
        b"PROXY UNKNOWN\r\n".into(),
        b"PROXY UNKNOWN 192.0.2.1 x\r\n".into(),
        v2(0x21, 0, b""),
        v2(0x21, 0x12, &V4),
    ];
    for (preambles, believed) in [(own, true), (unknown, false)] {
        for preamble in preambles {
            let mut client = server.client();
            client.send(preamble).unwrap();
            assert!(is_loopback(&ask(&mut client, &[])["peer"]));
            // Of what follows `UNKNOWN` nobody knows who wrote it.
            let seen = ask(&mut client, &EVERYTHING);
            assert_eq!(seen["peer"] == "192.0.2.1:0", believed, "{}: {seen}", preamble.escape_ascii());
            assert_eq!(seen["id"] == "from-outside", believed);
        }
    }
}

#[test]
fn fields_behind_a_preamble_are_believed_if_its_client_is_a_proxy() {
    let server = announced(&["127.0.0.1", "10.0.0.0/8"]).start();
    for (client_addr, peer) in [("10.0.0.5", "192.0.2.1:0"), ("203.0.113.9", "203.0.113.9:7")] {
        let mut client = server.client();
        client.send(format!("PROXY TCP4 {client_addr} 198.51.100.2 7 443\r\n")).unwrap();
        let seen = ask(&mut client, &EVERYTHING);
        assert_eq!(seen["peer"], peer);
        assert_eq!(told(&seen).len() > 1, client_addr.starts_with("10."));
    }
}

#[test]
fn a_preamble_may_come_byte_by_byte_and_with_what_follows_it() {
    let server = announced(&["127.0.0.1"]).option("--workers", "1").start();
    for preamble in [V1.as_bytes().to_vec(), v2(0x21, 0x11, &V4)] {
        let wire = [&preamble, GET.as_bytes(), GET.as_bytes()].concat();
        // Each byte alone.
        let mut client = server.client();
        for byte in &wire {
            client.send([*byte]).unwrap();
        }
        for _ in 0..2 {
            assert_eq!(seen(&client.response().unwrap())["peer"], "192.0.2.1:56324");
        }
        // In two pieces, the second one when the first has been read.
        for at in [1, 5, preamble.len() - 1, preamble.len(), preamble.len() + 1, wire.len() - 1] {
            let mut client = server.client();
            client.send(&wire[..at]).unwrap();
            // Another connection that is answered: by then the worker has looked at this one.
            let mut other = server.client();
            other.send([V1, GET].concat()).unwrap();
            success(&other.response().unwrap());
            client.send(&wire[at..]).unwrap();
            for _ in 0..2 {
                assert_eq!(seen(&client.response().unwrap())["peer"], "192.0.2.1:56324", "cut at {at}");
            }
        }
    }
}

#[test]
fn the_preamble_holds_for_all_of_a_connection() {
    let server = announced(&["127.0.0.1"]).start();
    let mut client = server.client();
    client.send(V1).unwrap();
    for _ in 0..5 {
        assert_eq!(ask(&mut client, &[])["peer"], "192.0.2.1:56324");
    }
    client.send(GET.repeat(20)).unwrap();
    for _ in 0..20 {
        assert_eq!(seen(&client.response().unwrap())["peer"], "192.0.2.1:56324");
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n").unwrap();
    client.send(vec![b'x'; 200_000]).unwrap();
    let seen = seen(&client.response().unwrap());
    assert_eq!(
        (&seen["peer"], seen["body"]["text"].as_str().unwrap().len()),
        (&"192.0.2.1:56324".into(), 200_000)
    );
    // A second preamble is no request.
    client.send([V1, GET].concat()).unwrap();
    assert_eq!(client.response().unwrap().status(), 400);
    closed(&mut client);
}

#[test]
fn a_connection_without_a_preamble_is_closed_without_a_word() {
    let server = announced(&["127.0.0.1"]).start();
    let table: [(Vec<u8>, &str); 8] = [
        (GET.into(), "does not begin with a PROXY preamble"),
        ([b"\r\n".as_slice(), GET.as_bytes()].concat(), "does not begin with a PROXY preamble"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n".into(), "the PROXY line is malformed"),
        (format!("PROXY UNKNOWN {}", "x".repeat(200)).into(), "longer than 107 bytes"),
        (v2(0x22, 0x11, &V4), "is not known"),
        (v2(0x21, 0x11, &V4[..11]), "too short"),
        (v2(0x21, 0x11, &[&V4[..], &[3, 0, 4, 0, 0, 0, 0]].concat()), "checksum"),
        (v2(0x21, 0x11, &[0; 5000])[..16].to_vec(), "longer than 4 KiB"),
    ];
    for (bytes, reason) in table {
        let mut client = server.client();
        let _ = client.send([&bytes[..], GET.as_bytes()].concat());
        closed(&mut client);
        assert!(server.wait_for_log(|line| line.contains(reason)).is_some(), "{reason}");
    }
    // Who ends in the middle of it is gone, as checks of an open port are.
    for bytes in ["", "PROX"] {
        let mut client = server.client();
        client.send(bytes).unwrap();
        client.shutdown_write().unwrap();
        closed(&mut client);
    }
    let mut client = server.client();
    client.send(V1).unwrap();
    assert_eq!(ask(&mut client, &[])["peer"], "192.0.2.1:56324");
    assert_eq!(server.stdout().count(|line| line.contains(" 400 ")), 0);
}

#[test]
fn a_preamble_of_a_stranger_is_not_read() {
    let server = announced(&["10.0.0.0/8", "unix"]).start();
    let fds = server.fds_at_rest();
    for _ in 0..200 {
        let mut client = server.client();
        let _ = client.send([V1, GET].concat());
        closed(&mut client);
    }
    assert!(server.wait_for_log(|line| line.contains("not from one of the `proxies`")).is_some());
    assert!(server.wait_for_log(|line| line.contains("connections closed without a line")).is_some());
    assert!(server.stderr().count(|line| line.contains("connection closed")) < 150, "at a bounded rate");
    until("the connections are closed", || server.fd_count() <= fds);
    assert_eq!(server.stdout().count(|line| line.contains("GET")), 0);
}

#[test]
fn a_preamble_that_does_not_come_in_time_ends_the_connection_without_a_word() {
    let server =
        announced(&["127.0.0.1"]).option("--workers", "1").option("--http", "head_timeout=400ms").start();
    for bytes in ["", "PROXY TCP4 192.0"] {
        let mut client = server.client();
        let started = Instant::now();
        client.send(bytes).unwrap();
        closed(&mut client);
        assert!(started.elapsed() >= Duration::from_millis(350) && started.elapsed() < SOON);
    }
    // Bytes that drip do not buy time: this is the slow client being slow.
    let mut client = server.client();
    let mut writer = client.writer().unwrap();
    let dripping = thread::spawn(move || {
        let sent = V1.bytes().take_while(|byte| {
            thread::sleep(Duration::from_millis(50));
            writer.write_all(&[*byte]).is_ok()
        });
        sent.count()
    });
    closed(&mut client);
    drop(client);
    assert!(dripping.join().unwrap() < V1.len());
    assert!(server.wait_for_log(|line| line.contains("did not come in time")).is_some());
    // The head behind a preamble has what is left of that time, and is told so.
    let mut client = server.client();
    client.send([V1, "GET / HT"].concat()).unwrap();
    assert_eq!(client.response().unwrap().status(), 408);
    closed(&mut client);
    let mut client = server.client();
    client.send(V1).unwrap();
    closed(&mut client);
    assert_eq!(server.stderr().count(|line| line.contains("did not come in time")), 3);
}

// Raw TCP.

/// A raw address whose guest tells each connection its ends, with the server's and its own settings.
fn raw(server: &str, listen: &str) -> Builder {
    let app = App::wat("raw_ends").unrouted();
    let listen = format!("[[listen]]\ntcp = \"127.0.0.1:0\"\napp = \"raw-ends\"\n{listen}\n");
    Server::builder().manifest(format!("[server]\nworkers = 2\n{server}\n{listen}")).app(app)
}

/// All that a connection gets on which this is sent, and then nothing any more.
fn raw_answer(server: &Server, bytes: &[u8]) -> String {
    let mut client = Client::connect(&Addr::Tcp(server.raw_addr("raw-ends"))).unwrap();
    // It may be closed by then.
    let _ = client.send(bytes);
    let _ = client.shutdown_write();
    client.set_patience(PATIENCE);
    // What is refused with bytes that nobody has read is reset.
    client.rest().map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default()
}

const PROXIES: &str = "proxies = [\"127.0.0.1\"]";
const ON: &str = "proxies = [\"127.0.0.1\"]\nproxy_protocol = true";

#[test]
fn raw_connections_have_the_address_that_their_preamble_names() {
    let server = raw(ON, "").start();
    let mut v6 = [0_u8; 36];
    (v6[0], v6[1], v6[15], v6[31], v6[33], v6[35]) = (0x20, 0x01, 1, 2, 80, 81);
    let table: [(Vec<u8>, &str); 4] = [
        (V1.into(), "192.0.2.1:56324 198.51.100.2:443"),
        (v2(0x21, 0x11, &V4), "192.0.2.1:56324 198.51.100.2:443"),
        (v2(0x21, 0x21, &v6), "[2001::1]:80 [::2]:81"),
        (
            v2(0x21, 0x11, &[&V4[..], &[4, 0x0f, 0xe1], &[0; 4065]].concat()),
            "192.0.2.1:56324 198.51.100.2:443",
        ),
    ];
    for (preamble, ends) in &table {
        // What follows is the guest's, whatever it looks like.
        for rest in ["", "hello", V1] {
            let told = raw_answer(&server, &[preamble, rest.as_bytes()].concat());
            assert_eq!(told, format!("{ends}\n{rest}"), "{}", preamble.escape_ascii());
        }
    }
    // Each byte alone; and a guest that speaks first speaks once it is known to whom.
    let mut client = Client::connect(&Addr::Tcp(server.raw_addr("raw-ends"))).unwrap();
    for byte in V1.bytes() {
        client.send([byte]).unwrap();
    }
    client.send("after").unwrap();
    client.shutdown_write().unwrap();
    assert_eq!(client.rest().unwrap(), b"192.0.2.1:56324 198.51.100.2:443\nafter");
    // Of a proxy's own connections, and of clients that are not named, it is the proxy's.
    let local = server.raw_addr("raw-ends").to_string();
    for preamble in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0x20, 0, b""), v2(0x21, 0x31, &[0; 216])] {
        let told = raw_answer(&server, &preamble);
        let (peer, at) = told.trim_end().split_once(' ').unwrap();
        assert!(is_loopback(&peer.into()) && at == local && peer != at, "{told}");
    }
}

#[test]
fn raw_connections_without_a_preamble_are_closed_before_there_is_a_guest() {
    let server = raw(ON, "").start();
    let table: [(&[u8], &str); 4] = [
        (b"hello", "does not begin with a PROXY preamble"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "the PROXY line is malformed"),
        (&v2(0x21, 0x11, &V4[..11]), "too short"),
        (&v2(0x21, 0x11, &[0; 5000]), "longer than 4 KiB"),
    ];
    for (bytes, reason) in table {
        assert_eq!(raw_answer(&server, bytes), "");
        assert!(server.wait_for_log(|line| line.contains(reason)).is_some(), "{reason}");
    }
    for bytes in ["", "PROX"] {
        assert_eq!(raw_answer(&server, bytes.as_bytes()), "");
    }
    assert!(raw_answer(&server, V1.as_bytes()).starts_with("192.0.2.1:56324 "));
    assert_eq!(server.stderr().count(|line| line.contains("a raw connection ended with an error")), 0);

    let server = raw(&format!("{ON}\nlimits = {{ head_timeout = \"300ms\" }}"), "").start();
    for bytes in ["", "PROXY TCP4 192.0"] {
        let mut client = Client::connect(&Addr::Tcp(server.raw_addr("raw-ends"))).unwrap();
        client.send(bytes).unwrap();
        closed(&mut client);
    }
    until("it is told", || server.stderr().count(|line| line.contains("did not come in time")) == 2);
}

#[test]
fn raw_connections_of_strangers_are_closed_and_hold_nothing() {
    let server = raw("proxies = [\"10.0.0.0/8\"]\nproxy_protocol = true", "").start();
    let fds = server.fds_at_rest();
    for _ in 0..200 {
        assert_eq!(raw_answer(&server, V1.as_bytes()), "");
    }
    assert!(server.wait_for_log(|line| line.contains("not from one of the `proxies`")).is_some());
    until("the connections are closed", || server.fd_count() <= fds);
}

#[test]
fn an_address_may_differ_from_the_server_in_whether_preambles_come() {
    // As the server; with a preamble alone; and without one.
    for (server, listen, announced) in [
        (PROXIES, "", false),
        (PROXIES, "proxy_protocol = true", true),
        (ON, "proxy_protocol = false", false),
        (ON, "", true),
    ] {
        let server = raw(server, listen).start();
        let told = raw_answer(&server, V1.as_bytes());
        let sent_back = told.ends_with(V1);
        assert_eq!((told.starts_with("192.0.2.1:56324 "), sent_back), (announced, !announced), "{told}");
    }
    let (status, told) = raw("", "proxy_protocol = true").start_refused();
    assert!(status.code() == Some(2) && told.contains("and none is named"), "{told}");
}

#[test]
fn curl_sends_a_preamble() {
    let server = announced(&["127.0.0.1"]).start();
    let Addr::Tcp(addr) = server.addr() else { panic!("TCP by default") };
    let url = format!("http://{addr}/");
    let mut command = Command::new("curl");
    command.args(["-sS", "--max-time", "20", "--haproxy-protocol", &url, &url]);
    let Ok(mut child) = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() else {
        println!("curl is not installed: its preamble was not tried");
        return;
    };
    assert!(poll_for(PATIENCE, || child.try_wait().unwrap()).is_some());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let seen: Vec<Value> =
        serde_json::Deserializer::from_str(&text).into_iter().map(Result::unwrap).collect();
    let [first, second] = seen.as_slice() else { panic!("{text}") };
    assert!(is_loopback(&first["peer"]) && first["peer"] == second["peer"], "one connection: {text}");
    assert_eq!(first["local"], addr.to_string());
}

// Settings.

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let refused = |server: &str| {
        let app = tidegate_tests::App::guest("hello");
        let (status, told) =
            Server::builder().manifest(format!("[server]\n{server}\n")).app(app).start_refused();
        assert_eq!(status.code(), Some(2), "{told}");
        told
    };
    let table = [
        ("proxy_protocol = true", "and none is named", "tidegate.toml:2:18"),
        ("proxies = [\"localhost\"]", "names are not resolved", "tidegate.toml:2:12"),
        ("proxies = [\"10.0.0.1/8\"]", "the block is `10.0.0.0/8`", "tidegate.toml:2:12"),
        ("proxies = [\"unix\", \"unix\"]", "twice", "tidegate.toml:2:20"),
        ("proxies = []", "the list is empty", "tidegate.toml:2:11"),
        ("proxies = \"unix\"", "write `[\"unix\"]`", "tidegate.toml:2:11"),
        ("forwarded = \"x-real-ip\"", "`x-forwarded-for` or `forwarded`", "tidegate.toml:2:13"),
        ("proxies = [\"unix\"]\nproxy_protocol = 1", "`true` or `false`", "tidegate.toml:3:18"),
    ];
    for (server, reason, place) in table {
        let told = refused(server);
        assert!(told.contains(reason) && told.contains(place), "{server}: {told}");
    }
    let (status, told) = Server::builder().guest("hello").flag("--proxy-protocol").start_refused();
    assert!(
        status.code() == Some(2) && told.contains("--proxy-protocol") && told.contains("--proxy`"),
        "{told}"
    );
}

#[test]
fn a_manifest_says_it_all() {
    let settings =
        "[server]\nproxies = [\"127.0.0.0/8\", \"unix\"]\nforwarded = \"forwarded\"\nproxy_protocol = true\n";
    let server =
        Server::builder().manifest(settings).app(tidegate_tests::App::guest("mirror").route("/*")).start();
    let mut client = server.client();
    client.send("PROXY TCP4 127.0.0.9 127.0.0.1 1 2\r\n").unwrap();
    assert_eq!(ask(&mut client, &["Forwarded: for=192.0.2.7"])["peer"], "192.0.2.7:0");
}
