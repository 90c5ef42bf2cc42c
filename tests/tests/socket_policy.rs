//! What an app may reach, seen from outside: every way around the rules that is known, from the guest's call to the log.
//!
//! The rules themselves have a table of unit tests beside them. Here the guest asks, through the host's own calls; it is
//! told that access was denied, its client nothing, and the operator which rule would allow it.

use std::net::SocketAddr;
use std::time::Duration;

use tidegate_tests::check::success;
use tidegate_tests::daemon::free_addr;
use tidegate_tests::dns::Dns;
use tidegate_tests::probe::{self, Fetch};
use tidegate_tests::wait::until;
use tidegate_tests::{App, Response, Server, Upstream};

/// A rule that all public addresses fall under, one that all IPv4 addresses do, and one of a name.
const WIDE: [&str; 5] = ["*:*", "0.0.0.0/0:*", "[::]/0:*", "*.test:*", "udp:*:*"];

/// Hosts that must be named, `PORT` being that of something that would answer.
const SPECIAL: [&str; 32] = [
    "127.0.0.1:PORT",
    "127.1.2.3:PORT",
    "[::1]:PORT",
    "[::ffff:127.0.0.1]:PORT",
    "[::ffff:7f00:1]:PORT",
    "[::127.0.0.1]:PORT",
    "[64:ff9b::127.0.0.1]:PORT",
    "[2002:7f00:1::]:PORT",
    "[2001:0:7f00:1::]:PORT",
    "0.0.0.0:PORT",
    "0.1.2.3:PORT",
    "[::]:PORT",
    "[::ffff:0.0.0.0]:PORT",
    "169.254.169.254:80",
    "[::ffff:169.254.169.254]:80",
    "[fe80::1]:80",
    "[fd00:ec2::254]:80",
    "[fc00::1]:80",
    "10.0.0.1:80",
    "[::ffff:10.0.0.1]:80",
    "[64:ff9b::10.0.0.1]:80",
    "172.16.0.1:80",
    "172.31.255.255:80",
    "192.168.0.1:80",
    "[2002:c0a8:1::]:80",
    "100.64.0.1:80",
    "192.0.0.1:80",
    "198.18.0.1:80",
    "224.0.0.1:80",
    "[ff02::1]:80",
    "240.0.0.1:80",
    "255.255.255.255:80",
];

fn probe() -> App {
    App::guest("net_probe").named("probe")
}

fn server(app: App) -> Server {
    Server::builder().app(app).option("--workers", "1").start()
}

/// The guest was told that access was denied, and nothing else; so was its client, whatever the guest told it.
#[track_caller]
fn denied(server: &Server, path: &str, shown: &str) {
    let seen = server.stderr().count(is_denial);
    let response = server.get("probe.test", path);
    assert!(is_denied(&response), "{path}: {response:?}");
    if is_none(&response) {
        return;
    }
    for leak in ["rule", "sockets.connect", "sockets.listen", "allow"] {
        assert!(!response.text().contains(leak), "the client is told of {leak:?}: {response:?}");
    }
    let line = server.stderr().wait_for(Duration::from_secs(10), {
        let mut skip = seen;
        move |line| {
            let wanted = is_denial(line);
            let skipped = wanted && skip > 0;
            skip -= usize::from(skipped);
            wanted && !skipped
        }
    });
    let line = line.unwrap_or_else(|| panic!("{path}: no line in the log:\n{}", server.stderr().tail(5)));
    // A rule's quotes are escaped within the log's.
    let line = line.replace("\\\"", "\"");
    assert!(line.contains(shown), "{path}: no {shown:?} in {line}");
}

fn is_denial(line: &str) -> bool {
    line.contains("socket denied") && line.contains("probe")
}

/// These tests run once more with the guest as a component.
fn in_component() -> bool {
    module_path!().starts_with("component_outbound")
}

fn is_denied(response: &Response) -> bool {
    let text = response.text();
    // What WASI's lookup fails with, `std` does not tell apart.
    let denied = text.contains("denied") || (in_component() && text == "other\n");
    response.status() != 200 && (denied || is_none(response))
}

/// WASI has no connections to no address, nor to one of IPv4 as IPv6 writes it: before any rule is asked.
fn is_none(response: &Response) -> bool {
    in_component() && response.status() != 200 && response.text() == "invalidinput\n"
}

#[test]
fn nothing_is_allowed_by_default() {
    let upstream = Upstream::answering("reached");
    let server = server(probe());
    let addr = upstream.addr();
    denied(&server, &probe::connect(&addr.to_string()), &format!("sockets.connect = ['{addr}']"));
    denied(&server, &probe::connect("192.0.2.1:80"), "sockets.connect = ['192.0.2.1:80']");
    denied(&server, &probe::connect("elsewhere.test:80"), "elsewhere.test");
    denied(&server, &probe::udp("192.0.2.1:53"), "sockets.connect = ['udp:");
    denied(&server, &probe::resolve("elsewhere.test"), "elsewhere.test");
    denied(&server, Fetch::new(&format!("http://{addr}/")).path(), &format!("['{addr}']"));
    assert_eq!(upstream.accepted(), 0);
}

#[test]
fn wide_rules_lead_nowhere_special() {
    let upstream = Upstream::answering("reached");
    let port = upstream.addr().port().to_string();
    let ways =
        [probe::connect, probe::udp, |to: &str| Fetch::new(&format!("http://{to}/")).path().to_owned()];
    for way in ways {
        // One server would tell of so many at once only until its log has had enough.
        let server = server(WIDE.iter().fold(probe(), |app, rule| app.connect(rule)));
        for host in SPECIAL {
            denied(&server, &way(&host.replace("PORT", &port)), "no rule names it");
        }
        // The name is this machine's, whoever is asked.
        denied(&server, &way(&format!("localhost:{port}")), &format!("127.0.0.1:{port}"));
    }
    assert_eq!(upstream.accepted(), 0, "something was reached");
}

/// What only looks like an address is not taken for a name that somebody could answer for, nor for the address.
#[test]
fn other_spellings_of_an_address_are_no_way_around() {
    let upstream = Upstream::answering("reached");
    let server = server(WIDE.iter().fold(probe(), |app, rule| app.connect(rule)));
    let port = upstream.addr().port();
    for host in ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "127.0.0.01", "0"] {
        let response = server.get("probe.test", &probe::connect(&format!("{host}:{port}")));
        assert!(response.status() != 200, "{host}: {response:?}");
        let response = Fetch::new(&format!("http://{host}:{port}/")).get(&mut server.client(), "probe.test");
        assert!(!response.text().contains("reached"), "{host}: {response:?}");
    }
    assert_eq!(upstream.accepted(), 0, "something was reached");
}

#[test]
fn what_is_named_is_reached_and_nothing_beside_it() {
    let upstream = Upstream::answering("reached");
    let beside = Upstream::answering("reached");
    let (addr, other) = (upstream.addr(), beside.addr());
    let port = addr.port();
    let rules = [
        addr.to_string(),
        format!("127.0.0.0/8:{port}"),
        format!("127.0.0.1:{port}-{port}"),
        format!("localhost:{port}"),
    ];
    for rule in rules {
        let server = server(probe().connect(&rule));
        let response = server.get("probe.test", &probe::connect(&addr.to_string()));
        assert_eq!(response.status(), 200, "{rule}: {response:?}");
        // The same address: allowed, though a machine without IPv6 can not get there.
        let response = server.get("probe.test", &probe::connect(&format!("[::ffff:127.0.0.1]:{port}")));
        assert!(!is_denied(&response) || is_none(&response), "{rule}: {response:?}");
        denied(&server, &probe::connect(&other.to_string()), &format!("['{other}']"));
        denied(&server, &probe::connect(&format!("0.0.0.0:{port}")), "no rule names it");
        denied(&server, &probe::udp(&addr.to_string()), &format!("udp:{addr}"));
    }
    assert_eq!(beside.accepted(), 0);
}

/// The server's own addresses want a rule for just that address and port: one that only has them among others is not it.
#[test]
fn the_server_itself_is_not_reached_by_chance() {
    let own = free_addr();
    let start = |rule: &str| {
        let app = probe().connect(rule);
        let builder = Server::builder().app(app).app(App::guest("hello")).option("--workers", "1");
        builder.listen(&own.to_string()).start()
    };
    for rule in ["127.0.0.0/8:*", "localhost:*", "127.0.0.1:*"] {
        let server = start(rule);
        let shown = format!("['{own}']");
        denied(&server, &probe::connect(&own.to_string()), &shown);
        denied(&server, &probe::connect(&format!("[::ffff:127.0.0.1]:{}", own.port())), &shown);
        denied(&server, Fetch::new(&format!("http://{own}/")).path(), &shown);
        success(&server.get("hello.test", "/"));
    }
    let server = start(&own.to_string());
    let response = server.get("probe.test", &probe::connect(&own.to_string()));
    assert_eq!(response.status(), 200, "{response:?}");
}

/// Nor when it listens everywhere, by whichever of the machine's addresses.
#[test]
fn a_server_that_listens_everywhere_is_not_reached_by_chance() {
    let port = free_addr().port();
    let app = probe().connect("127.0.0.0/8:*").connect("[::1]:*");
    let builder = Server::builder().app(app).option("--workers", "1");
    let server = builder.listen("127.0.0.1:0").listen(&format!("0.0.0.0:{port}")).start();
    for to in ["127.0.0.1", "127.0.0.2", "127.8.8.8"] {
        let to = format!("{to}:{port}");
        denied(&server, &probe::connect(&to), &format!("['{to}']"));
    }
}

fn dns_of(server: &Dns) -> String {
    format!("[server]\ndns = [\"{}\"]\n", server.address())
}

/// Whoever answers for a name does not choose what is reached inside.
#[test]
fn a_name_that_leads_inside_is_refused() {
    let upstream = Upstream::answering("reached");
    let port = upstream.addr().port();
    let dns = Dns::start();
    let inside =
        ["127.0.0.1", "::1", "::ffff:127.0.0.1", "0.0.0.0", "169.254.169.254", "10.0.0.1", "fd00::1"];
    for (number, ip) in inside.iter().enumerate() {
        dns.set(&format!("inside{number}.test"), &[ip], 60);
    }
    let app = WIDE.iter().fold(probe(), |app, rule| app.connect(rule));
    let app = (0..inside.len()).fold(app, |app, number| app.connect(format!("inside{number}.test:{port}")));
    let server = Server::builder().manifest(dns_of(&dns)).app(app).option("--workers", "1").start();
    for number in 0..inside.len() {
        let to = format!("inside{number}.test:{port}");
        denied(&server, &probe::connect(&to), "no rule names it");
        denied(&server, Fetch::new(&format!("http://{to}/")).path(), "no rule names it");
    }
    assert_eq!(upstream.accepted(), 0, "something was reached");
}

/// The name is harmless when it is looked up first, and leads inside a moment later: what counts is the address that is
/// connected to.
#[test]
fn a_name_that_changes_its_mind_is_refused() {
    let upstream = Upstream::answering("reached");
    let addr: SocketAddr = upstream.addr();
    let dns = Dns::start();
    dns.set("rebinds.test", &["192.0.2.1"], 0);
    let app = probe().connect(format!("rebinds.test:{}", addr.port()));
    let server = Server::builder().manifest(dns_of(&dns)).app(app).option("--workers", "1").start();
    let response = server.get("probe.test", &probe::resolve("rebinds.test"));
    assert!(response.status() == 200 && response.text().contains("192.0.2.1"), "{response:?}");
    dns.set("rebinds.test", &["127.0.0.1"], 0);
    let path = probe::connect(&format!("rebinds.test:{}", addr.port()));
    // What was found before may be good for a second; nobody answers there, and to connect would take its time.
    let resolve = probe::resolve("rebinds.test");
    until("the name leads inside", || server.get("probe.test", &resolve).text().contains("127.0.0.1"));
    denied(&server, &path, "no rule names it");
    // Nor is an address allowed because a name that is allowed had it once.
    denied(&server, &probe::connect(&addr.to_string()), &addr.to_string());
    assert_eq!(upstream.accepted(), 0, "something was reached");
}

/// A rule of a name and one of the address that it leads to are both needed for what is inside.
#[test]
fn a_name_that_leads_inside_is_reached_where_the_address_is_named_too() {
    let upstream = Upstream::answering("reached");
    let addr = upstream.addr();
    let dns = Dns::start();
    dns.set("inside.test", &["127.0.0.1"], 60);
    let app = probe().connect("inside.test:*").connect(addr);
    let server = Server::builder().manifest(dns_of(&dns)).app(app).option("--workers", "1").start();
    let to = format!("inside.test:{}", addr.port());
    assert_eq!(server.get("probe.test", &probe::connect(&to)).status(), 200);
    let response = Fetch::new(&format!("http://{to}/")).get(&mut server.client(), "probe.test");
    assert!(response.text().contains("reached"), "{response:?}");
    assert_eq!(upstream.requests()[0].field("host"), Some(to.as_str()));
}
