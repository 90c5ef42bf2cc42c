//! Outbound HTTP over TLS: whom the server believes, and that a certificate which is not good ends it before anything was
//! sent.

use std::io::Write as _;

use tidegate_tests::ca::{Ca, Shown};
use tidegate_tests::check::{ok, success};
use tidegate_tests::dns::Dns;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::probe::Fetch;
use tidegate_tests::upstream::{Bad, Peer};
use tidegate_tests::{App, Server, Upstream, wait};

const HOST: &str = "probe.test";

fn probe(upstream: &Upstream) -> App {
    App::guest("net_probe").named("probe").connect(upstream.addr())
}

fn server(app: App) -> Server {
    Server::builder().app(app).app(App::guest("hello")).option("--workers", "1").start()
}

fn tls_url(upstream: &Upstream, host: &str) -> String {
    format!("https://{host}:{}/", upstream.addr().port())
}

#[test]
fn only_certificates_that_are_good_are_accepted() {
    let (ca, other) = (Ca::new(), Ca::new());
    let rows: [(&str, _, &[&str]); 6] = [
        ("good", ca.server(&["127.0.0.1"], Shown::Good), &[]),
        ("of another name", ca.server(&["127.0.0.2", "up.test"], Shown::Good), &["TLS-certificate-error"]),
        ("expired", ca.server(&["127.0.0.1"], Shown::Expired), &["TLS-certificate-error"]),
        ("not yet valid", ca.server(&["127.0.0.1"], Shown::NotYet), &["TLS-certificate-error"]),
        ("signed by itself", ca.server(&["127.0.0.1"], Shown::SelfSigned), &["TLS-certificate-error"]),
        ("of another authority", other.server(&["127.0.0.1"], Shown::Good), &["TLS-certificate-error"]),
    ];
    for (what, settings, codes) in rows {
        let upstream = Upstream::answering_tls(settings, "over TLS");
        let server = server(probe(&upstream).ca(&ca.file()));
        let files = server.fds_at_rest();
        let response = Fetch::new(&tls_url(&upstream, "127.0.0.1")).get(&mut server.client(), HOST);
        if codes.is_empty() {
            success(&response);
            assert!(response.text().contains("over TLS"), "{what}: {response:?}");
            assert_eq!(upstream.handshakes_failed(), 0, "{what}");
        } else {
            assert!(codes.iter().any(|code| response.text().contains(code)), "{what}: {response:?}");
            assert_eq!(response.status(), 502, "{what}: {response:?}");
            assert!(upstream.requests().is_empty(), "{what}: the request was sent all the same");
            upstream.wait_until_left();
            wait::until("the server has what it had", || server.fd_count() <= files);
        }
    }
}

/// An authority that only the manifest names is nobody's where the manifest does not name it.
#[test]
fn a_private_authority_is_the_apps_own() {
    let ca = Ca::new();
    let upstream = Upstream::answering_tls(ca.server(&["127.0.0.1"], Shown::Good), "over TLS");
    let server = Server::builder()
        .app(probe(&upstream).ca(&ca.file()))
        .app(App::guest("net_probe").named("stranger").connect(upstream.addr()))
        .option("--workers", "1")
        .start();
    let fetch = Fetch::new(&tls_url(&upstream, "127.0.0.1"));
    // First the one that may, so that there is a connection which the other must not be given.
    success(&fetch.get(&mut server.client(), HOST));
    let response = fetch.get(&mut server.client(), "stranger.test");
    assert!(response.text().contains("TLS-certificate-error"), "{response:?}");
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn a_name_is_what_the_certificate_is_checked_for() {
    let ca = Ca::new();
    let upstream = Upstream::answering_tls(ca.server(&["up.test"], Shown::Good), "over TLS");
    let dns = Dns::start();
    dns.set("up.test", &["127.0.0.1"], 60);
    dns.set("alias.test", &["127.0.0.1"], 60);
    let app = probe(&upstream).connect("*.test:*").ca(&ca.file());
    let manifest = format!("[server]\ndns = [\"{}\"]\n", dns.address());
    let server = Server::builder().manifest(manifest).app(app).option("--workers", "1").start();
    success(&Fetch::new(&tls_url(&upstream, "up.test")).get(&mut server.client(), HOST));
    let response = Fetch::new(&tls_url(&upstream, "alias.test")).get(&mut server.client(), HOST);
    assert!(response.text().contains("TLS-certificate-error"), "{response:?}");
}

#[test]
fn what_speaks_no_tls_is_an_error_of_tls() {
    for bad in [Bad::NotHttp, Bad::Garbage] {
        // The behaviour waits for a request, which what comes is not; its end is as good.
        let upstream = Upstream::bad(bad);
        let server = server(probe(&upstream));
        let fetch = Fetch::new(&tls_url(&upstream, "127.0.0.1")).with("connect_ms", "500");
        let response = fetch.get(&mut server.client(), HOST);
        let text = response.text();
        let codes = ["TLS-protocol-error", "connection-timeout", "connection-terminated"];
        assert!(codes.iter().any(|code| text.contains(code)), "{response:?}");
        upstream.wait_until_left();
    }
}

#[test]
fn a_large_body_over_tls_is_whole_both_ways() {
    let ca = Ca::new();
    let upstream = Upstream::serve_tls(ca.server(&["127.0.0.1"], Shown::Good), Peer::echo_all);
    let app = App::guest("proxy").env("UPSTREAM", format!("https://{}", upstream.addr()));
    let server = server(app.connect(upstream.addr()).ca(&ca.file()));
    let body = Pattern::new(5).take(5_000_000);
    let mut client = server.client();
    let mut writer = client.writer().unwrap();
    std::thread::scope(|scope| {
        let body = &body;
        scope.spawn(move || {
            let head =
                format!("POST / HTTP/1.1\r\nHost: proxy.test\r\nContent-Length: {}\r\n\r\n", body.len());
            writer.write_all(&[head.as_bytes(), body].concat()).unwrap();
        });
        ok(&client.response().unwrap(), body);
    });
}
