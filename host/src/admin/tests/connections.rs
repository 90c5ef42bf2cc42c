//! What clients may do to their connections, and that it costs nobody else.

use std::sync::Arc;
use std::time::Instant;

use super::client::Client;
use super::{Stage, until};
use crate::admin::{Door, Keys};
use crate::config::ListenAddr;

#[test]
fn a_connection_is_kept_and_pipelined_requests_are_answered_in_order() {
    let stage = Stage::new();
    let mut client = stage.client();
    for _ in 0..3 {
        assert_eq!(client.ask("GET", "/v1/apps", &[], b"").status, 200);
    }
    client.send(
        b"GET /v1/apps/shop HTTP/1.1\r\nHost: x\r\n\r\nPOST /v1/apps/shop/rollback HTTP/1.1\r\nHost: x\r\n\
          Content-Length: 13\r\n\r\n{\"version\":1}HEAD /v1/modules/x HTTP/1.1\r\nHost: x\r\n\r\nGET /nowhere HTTP/1.1\r\n\
          Host: x\r\nConnection: close\r\n\r\n",
    );
    assert_eq!(client.reply("GET").json()["name"], "shop");
    assert_eq!(client.reply("POST").json()["app"], "shop");
    assert_eq!(client.reply("HEAD").status, 404);
    assert_eq!(client.reply("GET").status, 404);
    assert_eq!(client.rest(), b"");
}

#[test]
fn rules_are_those_of_everybody() {
    let stage = Stage::new();
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(9000));
    let fields = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (sent, status) in [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("G\0T / HTTP/1.1\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (long.as_str(), 414),
        (fields.as_str(), 431),
        ("POST /v1/reload HTTP/1.1\r\nHost: x\r\nExpect: other\r\nContent-Length: 1\r\n\r\n", 417),
    ] {
        let mut client = stage.client();
        client.send(sent.as_bytes());
        let reply = client.reply("GET");
        assert_eq!((reply.status, reply.kind()), (status, "malformed".to_owned()), "{sent:?}");
        assert_eq!(reply.field("connection"), Some("close"));
        assert_eq!(client.rest(), b"");
    }
    // A body that is malformed on the way is the client's fault, and nothing was done.
    for path in ["/v1/modules", "/v1/apps/shop/rollback"] {
        let method = if path.ends_with("modules") { "PUT" } else { "POST" };
        let mut client = stage.client();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"
        );
        client.send(head.as_bytes());
        let reply = client.reply(method);
        assert_eq!((reply.status, reply.kind()), (400, "malformed".to_owned()), "{path}");
    }
    let mut client = stage.client();
    let reply = client.ask("POST", "/v1/apps/shop/rollback", &[], &vec![b' '; (1 << 20) + 1]);
    assert_eq!((reply.status, reply.kind()), (413, "malformed".to_owned()));
    assert!(!stage.fake.said().iter().any(|line| line.starts_with("rollback")), "{:?}", stage.fake.said());
}

#[test]
fn slow_clients_hold_up_nobody_and_not_for_ever() {
    let stage = Stage::new();
    let start = Instant::now();
    let mut slow: Vec<_> = (0..20)
        .map(|_| {
            let mut client = stage.client();
            client.send(b"GET /v1/apps HTT");
            client
        })
        .collect();
    let mut silent: Vec<_> = (0..4).map(|_| stage.client()).collect();
    for _ in 0..10 {
        assert_eq!(stage.ask("GET", "/v1/apps", "").status, 200);
    }
    assert!(start.elapsed().as_secs() < 5, "nobody waited for them");
    for client in &mut slow {
        let reply = client.reply("GET");
        assert_eq!((reply.status, reply.kind()), (408, "malformed".to_owned()));
    }
    // Whoever has asked nothing is told nothing.
    for client in &mut silent {
        assert_eq!(client.rest(), b"");
    }
}

#[test]
fn more_than_there_is_room_for_are_told_so() {
    let stage = Stage::new();
    let uploads = || stage.fake.said().iter().filter(|line| line.starts_with("module")).count();
    let mut held: Vec<_> = (0..32)
        .map(|number| {
            let mut client = stage.client();
            client.send(b"PUT /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nabc");
            until("it has begun", || uploads() > number);
            client
        })
        .collect();
    let mut told = stage.client();
    let reply = told.ask("GET", "/v1/apps", &[], b"");
    assert_eq!((reply.status, reply.kind()), (503, "busy".to_owned()));
    assert_eq!(reply.field("retry-after"), Some("1"));
    assert_eq!(told.rest(), b"", "and closed");
    for client in &mut held {
        client.send(b"d");
        assert_eq!(client.reply("PUT").status, 201);
    }
    // Now they do nothing, and keep nobody out.
    let mut next = stage.client();
    assert_eq!(next.ask("GET", "/v1/apps", &[], b"").status, 200);
    assert_eq!(held[0].rest(), b"");
    assert_eq!(held[31].ask("GET", "/v1/apps", &[], b"").status, 200);
}

#[test]
fn one_address_does_not_keep_all_others_out() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::claim(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let port = door.tcp_addr().unwrap().port();
    let keys = Keys::read(&super::tokens(folder.path())).unwrap();
    let _admin = door.serve(keys, Arc::new(super::fake::Fake::default())).unwrap();
    let connect = || Client::tcp(&format!("127.0.0.1:{port}"));
    let mut held: Vec<_> = (0..16)
        .map(|_| {
            let mut client = connect();
            assert_eq!(client.ask("GET", "/health/live", &[], b"").status, 200);
            client
        })
        .collect();
    assert_eq!(connect().ask("GET", "/health/live", &[], b"").status, 200);
    assert_eq!(held[0].rest(), b"", "it was at nothing for longest");
    assert_eq!(held[2].ask("GET", "/health/live", &[], b"").status, 200);
    let mut other = Client::tcp_from("127.0.0.2", &format!("127.0.0.1:{port}"));
    assert_eq!(other.ask("GET", "/health/live", &[], b"").status, 200);
    assert_eq!(
        held[3].ask("GET", "/health/live", &[], b"").status,
        200,
        "of another address it keeps nobody out"
    );
}

#[test]
fn an_upload_that_breaks_off_is_nothing() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(b"PUT /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc");
    until("it has begun", || stage.fake.said().iter().any(|line| line.starts_with("module")));
    drop(client);
    assert_eq!(stage.ask("GET", "/v1/apps", "").status, 200);
}

#[test]
fn version_1_0_is_answered_too() {
    let stage = Stage::new();
    let mut client = stage.client();
    client.send(b"GET /v1/apps/shop/logs HTTP/1.0\r\nHost: x\r\n\r\n");
    let text = String::from_utf8(client.rest()).unwrap();
    assert!(text.starts_with("HTTP/1.1 200") && text.ends_with("line 2\"}\n"), "{text}");
    assert!(!text.contains("chunked"), "{text}");
}
