//! The admin side in front of a server that is none.

mod client;
mod connections;
mod description;
mod fake;
mod schema;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::door::{Admin, Door};
use super::{Keys, check};
use crate::config::{ListenAddr, SecretSource, TokenSettings};
use client::{Client, Reply};
use fake::Fake;

/// An admin side that listens in a folder of its own.
struct Stage {
    admin: Option<Admin>,
    fake: Arc<Fake>,
    path: PathBuf,
    folder: tempfile::TempDir,
}

const OPERATOR: &str = "operator-0123456789";
const TENANT: &str = "tenant-of-acme-0123456789";

fn tokens(folder: &Path) -> Vec<TokenSettings> {
    let token = |name: &str, secret: &str, tenant: Option<&str>| {
        let path = folder.join(name);
        std::fs::write(&path, secret).unwrap();
        TokenSettings {
            name: name.to_owned(),
            secret: SecretSource::File(path),
            tenant: tenant.map(str::to_owned),
        }
    };
    vec![token("ops", OPERATOR, None), token("acme", TENANT, Some("acme"))]
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let fake = Arc::new(Fake::default());
        let door = Door::claim(&ListenAddr::Unix(path.clone())).unwrap();
        let keys = Keys::read(&tokens(folder.path())).unwrap();
        let admin = door.serve(keys, Arc::clone(&fake) as Arc<dyn super::Control>).unwrap();
        Self { admin: Some(admin), fake, path, folder }
    }

    fn client(&self) -> Client {
        Client::unix(&self.path)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &str) -> Reply {
        self.client().ask(method, path, &[], body.as_bytes())
    }

    #[track_caller]
    fn ask_as(&self, token: &str, method: &str, path: &str, body: &str) -> Reply {
        let bearer = format!("Bearer {token}");
        self.client().ask(method, path, &[("Authorization", &bearer)], body.as_bytes())
    }
}

#[test]
fn the_socket_is_its_owners_alone_and_goes_with_the_server() {
    let mut stage = Stage::new();
    let mode = std::fs::symlink_metadata(&stage.path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A live one is not taken, a stale one is.
    let addr = ListenAddr::Unix(stage.path.clone());
    let told = Door::claim(&addr).unwrap_err().to_string();
    assert!(told.contains("another server has the admin address") && told.contains("--state"), "{told}");
    stage.admin.take().unwrap().stop();
    assert!(!stage.path.exists());
    drop(std::os::unix::net::UnixListener::bind(&stage.path).unwrap());
    let door = Door::claim(&addr).unwrap();
    assert_eq!(door.url(), format!("unix:{}", stage.path.display()));
    drop(door);
    std::fs::write(&stage.path, "a file of somebody's").unwrap();
    assert!(Door::claim(&addr).is_err());
    assert!(stage.path.exists());
    assert!(Door::claim(&ListenAddr::Unix(stage.folder.path().join("no/such/folder"))).is_err());
}

#[test]
fn tcp_takes_tokens() {
    let addr = ListenAddr::Tcp("127.0.0.1:0".parse().unwrap());
    assert!(check(&addr, 0).is_err() && check(&addr, 1).is_ok());
    let folder = tempfile::tempdir().unwrap();
    let door = Door::claim(&addr).unwrap();
    let place = door.url().strip_prefix("http://").unwrap().to_owned();
    let fake = Arc::new(Fake::default());
    let _admin = door.serve(Keys::read(&tokens(folder.path())).unwrap(), Arc::clone(&fake) as _).unwrap();
    let ask = |fields: &[(&str, &str)]| Client::tcp(&place).ask("GET", "/v1/apps", fields, b"");

    let reply = ask(&[]);
    assert_eq!((reply.status, reply.kind()), (401, "unauthorized".to_owned()));
    assert!(reply.field("www-authenticate").unwrap().starts_with("Bearer"));
    assert_eq!(ask(&[("Authorization", "Bearer 0123456789abcdef0")]).status, 401);
    assert_eq!(ask(&[("Authorization", &format!("Bearer {OPERATOR}"))]).status, 200);
    // Health is anybody's, and nothing else is: not even what there is.
    let mut client = Client::tcp(&place);
    assert_eq!(client.ask("GET", "/health/live", &[], b"").status, 200);
    assert_eq!(client.ask("GET", "/health/ready", &[], b"").status, 200);
    assert_eq!(client.ask("GET", "/nowhere", &[], b"").status, 401);
    assert_eq!(client.ask("POST", "/v1/reload", &[], b"").status, 401);
    // What a page in a browser could have sent.
    let token = format!("Bearer {OPERATOR}");
    let mut sent = vec![("Authorization", token.as_str()), ("Origin", "http://127.0.0.1")];
    assert_eq!(ask(&sent).kind(), "cross-site");
    sent.pop();
    let renamed = Client::tcp(&place).for_host("rebound.example").ask("GET", "/v1/apps", &sent, b"");
    assert_eq!((renamed.status, renamed.kind()), (403, "cross-site".to_owned()));
    assert!(fake.said().iter().any(|line| line.starts_with("refused 127.0.0.1: the request has no token")));
}

#[test]
fn guesses_are_slow_and_keep_no_right_token_out() {
    let folder = tempfile::tempdir().unwrap();
    let door = Door::claim(&ListenAddr::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
    let place = door.url().strip_prefix("http://").unwrap().to_owned();
    let fake = Arc::new(Fake::default());
    let _admin = door.serve(Keys::read(&tokens(folder.path())).unwrap(), Arc::clone(&fake) as _).unwrap();
    let right = format!("Bearer {OPERATOR}");
    let is_let_in = || {
        let reply = Client::tcp(&place).ask("GET", "/v1/apps", &[("Authorization", &right)], b"");
        assert_eq!(reply.status, 200);
    };
    let guess = || {
        let mut client = Client::tcp(&place);
        let reply = client.ask("GET", "/v1/apps", &[("Authorization", "Bearer guess-0123456789")], b"");
        (client, reply)
    };
    // However slow this machine is: it takes more than one a second.
    let (mut client, slow) = (0..1000).map(|_| guess()).find(|(_, reply)| reply.status != 401).unwrap();
    assert_eq!((slow.status, slow.kind()), (429, "too-many-attempts".to_owned()));
    assert_eq!((slow.field("connection"), slow.field("retry-after")), (Some("close"), Some("1")));
    assert_eq!(client.rest(), b"");
    is_let_in();
    // As many as an address may have wait for their answers: they make room for one who is known.
    let head = format!("GET / HTTP/1.1\r\nHost: {place}\r\nAuthorization: Bearer guess-0123456789\r\n\r\n");
    let _guessing: Vec<_> = (0..40)
        .map(|_| {
            let mut client = Client::tcp(&place);
            client.send(head.as_bytes());
            client
        })
        .collect();
    is_let_in();
}

#[test]
fn tenants_have_what_is_theirs() {
    let stage = Stage::new();
    for (method, path) in [
        ("POST", "/v1/reload"),
        ("GET", "/v1/export"),
        ("GET", "/v1/audit"),
        ("GET", "/v1/server"),
        ("GET", "/metrics"),
    ] {
        let reply = stage.ask_as(TENANT, method, path, "");
        assert_eq!((reply.status, reply.kind()), (403, "forbidden".to_owned()), "{path}");
        assert_eq!(stage.ask_as(OPERATOR, method, path, "").status, 200, "{path}");
    }
    assert_eq!(stage.ask_as(TENANT, "GET", "/v1/apps", "").status, 200);
    assert_eq!(stage.ask_as("wrong-token-0123456789", "GET", "/v1/apps", "").status, 401);
    let said = stage.fake.said();
    assert!(said.contains(&"apps by token acme of acme".to_owned()), "{said:?}");
    assert!(said.contains(&"reload by token ops".to_owned()), "{said:?}");
}

#[test]
fn a_deploy_is_told_step_by_step() {
    let stage = Stage::new();
    let module = "0".repeat(64);
    let deploy = |extra: &str| format!("{{\"module\":\"{module}\"{extra}}}");
    let reply = stage.ask("POST", "/v1/apps/shop/versions", &deploy(",\"note\":\"x\""));
    assert_eq!(reply.field("content-type"), Some("application/x-ndjson"));
    let lines = reply.lines();
    assert_eq!(lines[0], serde_json::json!({ "step": "validate" }));
    assert_eq!(lines[2], serde_json::json!({ "step": "compile", "seconds": 1 }), "one that goes on says so");
    assert_eq!(lines.last().unwrap()["done"]["version"], 2);
    // What fails on the way is the last line, what cannot even begin a problem.
    let lines = stage.ask("POST", "/v1/apps/bad/versions", &deploy("")).lines();
    let error = &lines.last().unwrap()["error"];
    assert_eq!((&error["kind"], &error["message"]), (&"module".into(), &"it does not compile".into()));
    let reply = stage.ask("POST", "/v1/apps/missing/versions", &deploy(""));
    assert_eq!((reply.status, reply.kind()), (404, "not-found".to_owned()));
    for (body, told) in [
        ("{", "EOF while parsing"),
        ("{\"modul\":\"x\"}", "unknown field `modul`"),
        ("", "missing field `module`"),
        (&deploy(",\"canary\":{\"percent\":300}"), "invalid value"),
    ] {
        let reply = stage.ask("POST", "/v1/apps/shop/versions", body);
        assert_eq!((reply.status, reply.kind()), (400, "invalid".to_owned()), "{body}");
        assert!(reply.json()["detail"].as_str().unwrap().contains(told), "{}", reply.json());
    }
    let reply = stage.ask("POST", "/v1/apps/-x/versions", &deploy(""));
    assert_eq!((reply.status, reply.kind()), (400, "invalid".to_owned()));
}

#[test]
fn a_deploy_waits_for_nobody_who_does_not_read() {
    let stage = Stage::new();
    let body = format!("{{\"module\":\"{}\"}}", "0".repeat(64));
    let mut client = stage.client();
    let head = format!(
        "POST /v1/apps/long/versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    client.send(head.as_bytes());
    // Nothing is read before all of it was done.
    let begun = std::time::Instant::now();
    while !stage.fake.said().iter().any(|line| line.starts_with("deployed long")) {
        assert!(begun.elapsed() < Duration::from_secs(120), "it waits for its client");
        std::thread::sleep(Duration::from_millis(5));
    }
    let said = client.rest();
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("{\"step\":\"validate\"}") && said.contains("{\"done\":{"), "{}", said.len());
}

#[test]
fn modules_are_streamed() {
    let stage = Stage::new();
    let module = vec![7; 3_000_000];
    let reply = stage.client().ask("PUT", "/v1/modules", &[], &module);
    assert_eq!(reply.status, 201);
    assert_eq!(
        reply.json(),
        serde_json::json!({ "module": blake3::hash(&module).to_hex().as_str(), "bytes": 3_000_000 })
    );
    let reply = stage.client().ask_chunked("PUT", "/v1/modules", &module);
    assert_eq!((reply.status, reply.json()["bytes"].as_u64()), (201, Some(3_000_000)));
    assert!(stage.fake.said().contains(&"module of None bytes by uid OWN".replace("OWN", &fake::own())));
    // One that is too large is refused before it has come, and the answer arrives.
    let large = vec![7; fake::MODULE_BYTES_MAX + 1];
    let reply = stage.client().ask("PUT", "/v1/modules", &[], &large);
    assert_eq!((reply.status, reply.kind()), (413, "too-large".to_owned()));
    let reply = stage.client().ask_chunked("PUT", "/v1/modules", &large);
    assert_eq!((reply.status, reply.kind()), (413, "too-large".to_owned()));
    // A client that waits to be asked for it is asked.
    let mut client = stage.client();
    client.send(b"PUT /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.reply("PUT").status, 100);
    client.send(b"abc");
    assert_eq!(client.reply("PUT").json()["bytes"], 3);
    let known = stage.client().ask("HEAD", &format!("/v1/modules/{}", "a".repeat(64)), &[], b"");
    assert_eq!(known.status, 200);
    assert_eq!(stage.client().ask("HEAD", "/v1/modules/b", &[], b"").status, 404);
}

#[test]
fn logs_are_followed_until_the_client_goes() {
    let stage = Stage::new();
    assert_eq!(stage.ask("GET", "/v1/apps/shop/logs?lines=2", "").lines().len(), 2);
    assert_eq!(stage.ask("GET", "/v1/apps/shop/logs", "").lines().len(), 3, "all that there are");
    let mut client = stage.client();
    client.send(b"GET /v1/apps/shop/logs?follow=true&lines=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(client.head().0, 200);
    assert_eq!(client.chunk().unwrap(), b"{\"text\":\"line 2\"}\n");
    stage.fake.log("{\"text\":\"later\"}");
    assert_eq!(client.chunk().unwrap(), b"{\"text\":\"later\"}\n");
    assert_eq!(stage.fake.readers(), 1);
    // Bytes that nobody reads do not hide that it goes.
    client.send(b"GET /next");
    drop(client);
    until("the log is let go", || stage.fake.readers() == 0);

    // Not all threads are for those who only listen.
    let mut followers = Vec::new();
    for _ in 0..16 {
        let mut client = stage.client();
        client.send(b"GET /v1/apps/shop/logs?follow=true HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(client.head().0, 200);
        followers.push(client);
    }
    assert_eq!(stage.ask("GET", "/v1/apps/shop/logs?follow", "").kind(), "unavailable");
    assert_eq!(stage.ask("GET", "/v1/apps/shop/logs", "").status, 200);
    drop(followers);
    until("there is room again", || stage.ask("GET", "/v1/apps/gone/logs?follow", "").status == 200);

    for query in ["lines=x", "lines=10001", "follow=maybe", "line=1", "lines=1&lines=2"] {
        let reply = stage.ask("GET", &format!("/v1/apps/shop/logs?{query}"), "");
        assert_eq!((reply.status, reply.kind()), (400, "invalid".to_owned()), "{query}");
    }
}

#[test]
fn what_is_not_there_is_said_so() {
    let stage = Stage::new();
    assert_eq!(stage.ask("GET", "/v2/apps", "").kind(), "not-found");
    let reply = stage.ask("POST", "/v1/apps", "");
    assert_eq!((reply.status, reply.field("allow")), (405, Some("GET")));
    assert_eq!(stage.ask("GET", "/v1/apps/missing", "").kind(), "not-found");
    stage.fake.fail_readiness("it drains");
    let reply = stage.ask("GET", "/health/ready", "");
    assert_eq!((reply.status, reply.json()["detail"].as_str()), (503, Some("it drains")));
    assert_eq!(stage.ask("GET", "/health/live", "").status, 200);
}

#[test]
fn ending_lets_what_is_under_way_finish() {
    let mut stage = Stage::new();
    let mut idle = stage.client();
    assert_eq!(idle.ask("GET", "/v1/apps", &[], b"").status, 200);
    let mut follower = stage.client();
    follower.send(b"GET /v1/apps/shop/logs?follow=true HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(follower.head().0, 200);
    let mut upload = stage.client();
    upload.send(b"PUT /v1/modules HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na");
    until("the upload has begun", || stage.fake.said().iter().any(|line| line.starts_with("module")));
    let admin = stage.admin.take().unwrap();
    let stopping = std::thread::spawn(move || admin.stop());
    assert_eq!(idle.rest(), b"", "closed at once");
    let all: Vec<u8> = std::iter::from_fn(|| follower.chunk()).flatten().collect();
    let last = String::from_utf8(all).unwrap();
    assert!(last.contains("\"unavailable\"") && last.ends_with("}}\n"), "the stream ends cleanly: {last}");
    upload.send(b"bc");
    assert_eq!(upload.reply("PUT").status, 201);
    stopping.join().unwrap();
}

#[test]
fn who_comes_while_it_rests_is_answered_by_whoever_serves_next() {
    let mut stage = Stage::new();
    let mut early = stage.client();
    // It was let in, and asks late.
    assert_eq!(stage.ask("GET", "/health/live", "").status, 200);
    let door = stage.admin.take().unwrap().pause().0.unwrap();
    assert_eq!(early.ask("GET", "/v1/apps", &[], b"").status, 200);
    assert_eq!(early.rest(), b"", "one answer, and no more");
    let mut late = stage.client();
    late.send(b"GET /v1/apps HTTP/1.1\r\nHost: x\r\n\r\n");
    let offer = door.offer().unwrap();
    assert!(offer.is_ours && offer.wanted == ListenAddr::Unix(stage.path.clone()));
    drop(offer);
    let keys = Keys::read(&tokens(stage.folder.path())).unwrap();
    stage.admin = Some(door.serve(keys, Arc::clone(&stage.fake) as _).unwrap());
    assert_eq!(late.reply("GET").status, 200);
    // Of an address that was handed over the name stays.
    let door = stage.admin.take().unwrap().pause().0.unwrap();
    door.hand_over();
    assert!(stage.path.exists());
}

#[test]
fn the_name_of_what_was_taken_over_goes_with_its_last_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let addr = ListenAddr::Unix(folder.path().join("s"));
    let ListenAddr::Unix(path) = &addr else { unreachable!() };
    let old = Door::claim(&addr).unwrap();
    let adopt = |is_ours| Door::adopt(&addr, old.offer().unwrap().socket, is_ours).unwrap();
    drop(adopt(true));
    assert!(path.exists(), "the old one may go on");
    let mut theirs = adopt(false);
    theirs.own();
    drop(theirs);
    assert!(path.exists(), "it is a service manager's");
    let mut new = adopt(true);
    old.hand_over();
    new.own();
    drop(new);
    assert!(!path.exists());
}

/// Waits for a condition.
#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}
