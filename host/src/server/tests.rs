//! Servers in this process, and what deploys do to the requests that they answer meanwhile.

mod limits;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::config::{Instances, ListenAddr};
use crate::guest::program::Program;
use crate::tenants::registry::App;

/// How long anything may take. Nothing takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A guest that reads its request's body to the end, and answers with its version and with how many requests this
/// instance has served.
fn guest(version: usize) -> String {
    format!(
        r#"(module
        (import "tidegate_v1" "request_head" (func $request_head (param i32 i32) (result i32)))
        (import "tidegate_v1" "respond" (func $respond (param i32 i32 i32 i32 i32) (result i32)))
        (import "tidegate_v1" "read" (func $read (param i32 i32 i32) (result i32)))
        (import "tidegate_v1" "poll" (func $poll (param i32 i32 i64) (result i32)))
        (memory (export "memory") 1)
        (global $served (mut i32) (i32.const 0))
        (data (i32.const 8192) "{version:04} ")
        (func (export "tidegate_handle") (result i32)
            (local $n i32)
            (drop (call $request_head (i32.const 0) (i32.const 4096)))
            (i32.store (i32.const 4096) (i32.load (i32.const 12)))
            (i32.store16 (i32.const 4100) (i32.const 1))
            (loop $more
                (local.set $n (call $read (i32.load (i32.const 12)) (i32.const 6000) (i32.const 64)))
                (if (i32.eq (local.get $n) (i32.const -6))
                    (then (drop (call $poll (i32.const 4096) (i32.const 1) (i64.const -1))) (br $more)))
                (br_if $more (i32.gt_s (local.get $n) (i32.const 0))))
            (global.set $served (i32.add (global.get $served) (i32.const 1)))
            (i32.store8 (i32.const 8197) (i32.add (global.get $served) (i32.const 48)))
            (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 8192) (i32.const 6))))"#
    )
}

/// Writes a version of the app to where it is read from.
fn write(folder: &Path, name: &str, version: usize) {
    std::fs::write(folder.join(name), wat::parse_str(guest(version)).unwrap()).unwrap();
}

fn app(folder: &Path, name: &str, routes: &[&str]) -> AppSettings {
    let routes = routes.iter().map(|&route| route.to_owned()).collect();
    AppSettings { routes, ..AppSettings::new(name.to_owned(), folder.join(name)) }
}

fn start(apps: Vec<AppSettings>, notice: Option<Notice>) -> Server {
    let server = ServerSettings {
        listen: vec![ListenAddr::parse("127.0.0.1:0").unwrap()],
        workers: 2,
        cache_bytes_max: 0,
        ..ServerSettings::default()
    };
    let compiler = Compiler::in_process(Mode::Production);
    let first = notice.map_or(First::Apps, First::Notice);
    Server::start_with(Settings { server, apps, tcp: Vec::new(), tenants: Vec::new() }, first, compiler)
        .unwrap()
}

/// One app called `app`, in its first version, everywhere.
fn start_one(change: impl FnOnce(&mut AppSettings)) -> (TempDir, AppSettings, Server) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "app", 1);
    let mut app = app(folder.path(), "app", &["/*"]);
    change(&mut app);
    let server = start(vec![app.clone()], None);
    (folder, app, server)
}

fn end(server: Server) {
    server.stop();
    server.join().unwrap();
}

/// The parts of an answer that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    /// The version that answered, and how many requests its instance had served.
    fn version(&self) -> (usize, usize) {
        assert_eq!(self.status, 200, "{self:?}");
        let (version, served) = self.body.split_once(' ').unwrap();
        (version.parse().unwrap(), served.parse().unwrap())
    }
}

/// A connection that is kept.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(server: &Server) -> Self {
        let addr = server.urls()[0].trim_start_matches("http://").trim_end_matches('/').to_owned();
        let stream = TcpStream::connect(addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "the connection ended after {head:?}");
        }
        let status = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let mut body = vec![0; length.parse().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    fn get(&mut self, path: &str) -> Answer {
        self.get_with(path, "")
    }

    fn get_with(&mut self, path: &str, lines: &str) -> Answer {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        self.answer()
    }

    /// A request that goes on until [`Self::finish`].
    fn begin(&mut self) {
        self.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
    }

    fn finish(&mut self) -> Answer {
        self.send("cd");
        self.answer()
    }
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn served(server: &Server, name: &str) -> Arc<App> {
    let registry = server.deployer().registry();
    Arc::clone(registry.apps().iter().find(|app| &*app.program.name == name).unwrap())
}

fn program(server: &Server) -> Weak<Program> {
    Arc::downgrade(&served(server, "app").program)
}

fn gone(program: &Weak<Program>) -> bool {
    program.strong_count() == 0
}

#[test]
fn deploys_under_load_drop_nothing_and_leave_nothing() {
    const DEPLOYS: usize = 200;
    let (folder, app, server) = start_one(|_| {});
    let deployer = server.deployer();
    // The version whose deploy has returned, and the one whose deploy has begun.
    let (done, begun, over) = (AtomicUsize::new(1), AtomicUsize::new(1), AtomicBool::new(false));
    let mut old = vec![program(&server)];
    let answers: usize = thread::scope(|scope| {
        let client = || {
            let mut client = Client::connect(&server);
            let mut answers = 0;
            while !over.load(Ordering::SeqCst) {
                let least = done.load(Ordering::SeqCst);
                let (version, _) = client.get("/").version();
                let most = begun.load(Ordering::SeqCst);
                assert!((least..=most).contains(&version), "{version} is not in {least}..={most}");
                answers += 1;
            }
            answers
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(client)).collect();
        for version in 2..=DEPLOYS {
            write(folder.path(), "app", version);
            begun.store(version, Ordering::SeqCst);
            deployer.deploy(std::slice::from_ref(&app)).unwrap();
            done.store(version, Ordering::SeqCst);
            old.push(program(&server));
        }
        over.store(true, Ordering::SeqCst);
        clients.into_iter().map(|client| client.join().unwrap()).sum()
    });
    assert!(answers > DEPLOYS, "{answers} answers during {DEPLOYS} deploys");
    let last = old.pop().unwrap();
    assert!(!gone(&last));
    wait_until("the old programs are gone", || old.iter().all(gone));
    end(server);
}

#[test]
fn a_connection_lives_through_a_deploy_and_a_request_through_its_own() {
    let (folder, app, server) = start_one(|_| {});
    let mut slow = Client::connect(&server);
    let mut kept = Client::connect(&server);
    assert_eq!(kept.get("/").version().0, 1);
    slow.begin();
    let gate = served(&server, "app");
    wait_until("the request runs", || gate.seat.gate.counts() == (1, 0));
    drop(gate);
    let old = program(&server);

    write(folder.path(), "app", 2);
    server.deployer().deploy(&[app]).unwrap();
    assert_eq!(kept.get("/").version().0, 2);
    assert!(!gone(&old), "a request still runs");
    assert_eq!(slow.finish().version().0, 1);
    wait_until("the old program is gone", || gone(&old));
    assert_eq!(slow.get("/").version().0, 2);
    end(server);
}

#[test]
fn who_waits_for_admission_gets_the_version_that_was_there() {
    let (folder, app, server) = start_one(|app| app.limits.concurrency = 1);
    let [mut first, mut second, mut third] = std::array::from_fn(|_| Client::connect(&server));
    let seat = Arc::clone(&served(&server, "app").seat);
    first.begin();
    wait_until("the first runs", || seat.gate.counts() == (1, 0));
    second.begin();
    wait_until("the second waits", || seat.gate.counts() == (1, 1));
    let old = program(&server);

    write(folder.path(), "app", 2);
    server.deployer().deploy(&[app]).unwrap();
    // The new version has the same seat: a deploy is no way past the limit.
    third.begin();
    wait_until("the third waits", || seat.gate.counts() == (1, 2));
    // Which of the two goes first is not said: they may be at different workers.
    second.send("cd");
    third.send("cd");
    assert_eq!(first.finish().version().0, 1);
    assert_eq!(second.answer().version().0, 1);
    assert_eq!(third.answer().version().0, 2);
    wait_until("the old program is gone", || gone(&old));
    end(server);
}

#[test]
fn idle_instances_of_an_old_version_are_given_up() {
    let (folder, app, server) = start_one(|app| app.instances = Instances::Reuse(9));
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(&server)).collect();
    assert_eq!(clients[0].get("/").version(), (1, 1));
    assert_eq!(clients[0].get("/").version(), (1, 2));
    // One instance is at work when its version is replaced.
    clients[1].begin();
    let seat = Arc::clone(&served(&server, "app").seat);
    wait_until("the request runs", || seat.gate.counts() == (1, 0));
    let old = program(&server);

    write(folder.path(), "app", 2);
    server.deployer().deploy(&[app]).unwrap();
    assert_eq!(clients[0].get("/").version(), (2, 1));
    assert_eq!(clients[1].finish().version().0, 1);
    wait_until("the old program is gone", || gone(&old));
    // All connections, whichever worker has them.
    for client in &mut clients {
        assert_eq!(client.get("/").version().0, 2);
    }
    end(server);
}

#[test]
fn what_did_not_change_goes_on_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["app", "other"] {
        write(folder.path(), name, 1);
    }
    let mut apps = vec![app(folder.path(), "app", &["/app/*"]), app(folder.path(), "other", &["/*"])];
    apps[0].instances = Instances::Reuse(9);
    let server = start(apps.clone(), None);
    let mut client = Client::connect(&server);
    assert_eq!(client.get("/app").version(), (1, 1));
    let before = program(&server);

    write(folder.path(), "other", 2);
    apps[0].routes = vec!["/moved/*".to_owned()];
    assert!(server.deployer().deploy(&apps).unwrap());
    assert_eq!(client.get("/").version().0, 2);
    assert_eq!(client.get("/app").version().0, 2, "that route is the other's now");
    assert!(!server.deployer().deploy(&apps).unwrap(), "nothing is to be done");
    apps[0].routes = vec!["/again/*".to_owned()];
    assert!(server.deployer().deploy(&apps).unwrap(), "routes alone are a change");
    apps[0].routes = vec!["/moved/*".to_owned()];
    assert!(server.deployer().deploy(&apps).unwrap());
    assert_eq!(client.get("/moved").version(), (1, 2));
    assert!(Weak::ptr_eq(&before, &program(&server)));

    // An app that changes in anything but its routes is another version.
    apps[0].env = vec![("NEW".to_owned(), "1".to_owned())];
    server.deployer().deploy(&apps).unwrap();
    assert_eq!(client.get("/moved").version(), (1, 1));
    wait_until("the old program is gone", || gone(&before));
    end(server);
}

#[test]
fn a_deploy_that_fails_changes_nothing() {
    let (folder, app, server) = start_one(|_| {});
    let mut client = Client::connect(&server);
    let before = program(&server);
    write(folder.path(), "good", 2);
    let good = AppSettings { source: folder.path().join("good"), ..app.clone() };

    let missing = AppSettings { source: folder.path().join("missing"), ..good.clone() };
    std::fs::write(folder.path().join("bad"), b"\0asm\x01\0\0\0nonsense").unwrap();
    let bad = AppSettings { source: folder.path().join("bad"), ..good.clone() };
    let twin = AppSettings { name: "twin".to_owned(), ..good.clone() };
    for (apps, why) in [
        (vec![good.clone(), missing], "cannot be read"),
        (vec![bad, good.clone()], "can not be compiled"),
        (vec![good.clone(), twin], "matches the same requests"),
    ] {
        let error = server.deployer().deploy(&apps).unwrap_err();
        assert!(format!("{error:#}").contains(why), "{error:#}");
        assert_eq!(client.get("/").version().0, 1);
        assert!(Weak::ptr_eq(&before, &program(&server)));
    }
    server.deployer().deploy(&[good]).unwrap();
    assert_eq!(client.get("/").version().0, 2);
    end(server);
}

#[test]
fn apps_come_and_go() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..10).map(|n| format!("app-{n}")).collect();
    for name in &names {
        write(folder.path(), name, 1);
    }
    let all: Vec<_> = names.iter().map(|name| app(folder.path(), name, &[&format!("/{name}")])).collect();
    let server = start(all[..5].to_vec(), None);
    let mut client = Client::connect(&server);
    let number = |server: &Server, name: &str| served(server, name).id;
    let third = number(&server, "app-3");

    server.deployer().deploy(&all[3..]).unwrap();
    assert_eq!(client.get("/app-0").status, 404);
    assert_eq!(client.get("/app-9").status, 200);
    assert_eq!(number(&server, "app-3"), third);
    wait_until("numbers of what is gone are free", || {
        // An app that went and comes back is a new one.
        server.deployer().deploy(&all[3..]).unwrap();
        server.deployer().deploy(&all).unwrap();
        let mut numbers: Vec<_> = names.iter().map(|name| number(&server, name)).collect();
        numbers.sort_unstable();
        numbers == (0..10).collect::<Vec<_>>()
    });
    for name in &names {
        assert_eq!(client.get(&format!("/{name}")).status, 200);
    }
    server.deployer().deploy(&[]).unwrap();
    assert_eq!(client.get("/app-3").status, 404);
    end(server);
}

#[test]
fn a_notice_stands_for_all_apps_until_the_next_deploy() {
    let notice = |text: &str| Notice {
        status: 503,
        code: "dev-build",
        html: format!("<p>{text}</p>"),
        text: format!("{text}\n"),
    };
    let folder = tempfile::tempdir().unwrap();
    let app = app(folder.path(), "app", &["/*"]);
    // There is nothing to load yet.
    let server = start(vec![app.clone()], Some(notice("first")));
    let deployer = server.deployer();
    let mut client = Client::connect(&server);
    let answer = client.get("/any?thing");
    assert_eq!((answer.status, &*answer.body), (503, "first\n"));
    for line in
        ["tidegate-error: dev-build", "cache-control: no-store", "content-type: text/plain; charset=utf-8"]
    {
        assert!(answer.head.contains(line), "{answer:?}");
    }
    let page = client.get_with("/", "Accept: text/html,*/*;q=0.8\r\n");
    assert_eq!(&*page.body, "<p>first</p>");
    assert!(page.head.contains("content-type: text/html; charset=utf-8"), "{page:?}");

    assert!(deployer.deploy(std::slice::from_ref(&app)).is_err());
    assert_eq!(&*client.get("/").body, "first\n");
    write(folder.path(), "app", 1);
    deployer.deploy(std::slice::from_ref(&app)).unwrap();
    assert_eq!(client.get("/").version().0, 1);
    let old = program(&server);

    // What runs when a notice comes is answered all the same, and a body that nobody reads is no obstacle.
    let mut slow = Client::connect(&server);
    slow.begin();
    let gate = served(&server, "app");
    wait_until("the request runs", || gate.seat.gate.counts() == (1, 0));
    drop(gate);
    deployer.show(notice("second"));
    assert_eq!(&*client.get("/").body, "second\n");
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(&*client.answer().body, "second\n");
    assert_eq!(&*client.get("/").body, "second\n");
    assert_eq!(slow.finish().version().0, 1);
    wait_until("the program is gone", || gone(&old));
    assert!(deployer.deploy(&[app]).unwrap(), "it is not served while a notice is");
    assert_eq!(client.get("/").version().0, 1);
    end(server);
}

#[test]
fn deploys_of_several_threads_follow_one_another() {
    let folder = tempfile::tempdir().unwrap();
    for version in 1..=4 {
        write(folder.path(), &version.to_string(), version);
    }
    let of = |version: usize| {
        let mut app = app(folder.path(), "app", &["/*"]);
        app.source = folder.path().join(version.to_string());
        app
    };
    let server = start(vec![of(1)], None);
    let deployer = server.deployer();
    thread::scope(|scope| {
        for version in 1..=4 {
            let (deployer, of) = (deployer.clone(), &of);
            scope.spawn(move || {
                for _ in 0..20 {
                    deployer.deploy(&[of(version)]).unwrap();
                }
            });
        }
    });
    let mut client = Client::connect(&server);
    assert!((1..=4).contains(&client.get("/").version().0));
    end(server);
    // There is nobody left to take it up, and nobody is waited for.
    deployer.deploy(&[of(2)]).unwrap();
}

#[test]
fn the_budget_holds_for_deploys_too() {
    let (_folder, app, server) = start_one(|_| {});
    let settings = ServerSettings { memory_budget_bytes: Some(4 << 30), ..ServerSettings::default() };
    let mut small = app;
    small.limits.concurrency = 1;
    check_budget(&settings, &[small.clone()]).unwrap();
    small.limits.concurrency = 256;
    let error = check_budget(&settings, &[small]).unwrap_err().to_string();
    assert!(error.contains("budget of 4 GiB"), "{error}");
    end(server);
}
