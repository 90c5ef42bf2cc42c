//! SIGUSR2: another process of the binary takes over, and nobody notices.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use tidegate_tests::admin::{Admin, hosting, number_of, numbered};
use tidegate_tests::check::success;
use tidegate_tests::logs::LineLog;
use tidegate_tests::wait::until;
use tidegate_tests::{Addr, App, Client, Server, Successor, artifacts, guest};

const SOON: Duration = Duration::from_secs(30);
/// Requests of one client at most.
const REQUESTS_MAX: usize = 200_000;

/// Clients that ask all the time, and what came of it.
#[derive(Default)]
struct Load {
    done: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    /// True until the load is over.
    fn goes_on(&self, requests: usize) -> bool {
        !self.done.load(Ordering::Acquire) && requests < REQUESTS_MAX
    }

    fn count(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection for each request.
    fn fresh(&self, addr: &Addr) {
        for n in (0..).take_while(|n| self.goes_on(*n)) {
            let mut client =
                Client::connect(addr).unwrap_or_else(|error| panic!("connection {n} to {addr}: {error}"));
            let response = client.get("hello.test", "/");
            success(&response.unwrap_or_else(|error| panic!("request {n} to {addr}: {error}")));
            self.count();
        }
    }

    /// One connection, for as long as the server does not say that it ends.
    fn kept(&self, addr: &Addr) {
        let mut client = Client::connect(addr).unwrap();
        for n in (0..).take_while(|n| self.goes_on(*n)) {
            let response = client.get("hello.test", "/");
            let response =
                response.unwrap_or_else(|error| panic!("request {n} on a kept connection: {error}"));
            success(&response);
            if response.header("connection") == Some("close") {
                client = Client::connect(addr).unwrap();
            }
            self.count();
        }
    }

    /// Waits until so many more were answered.
    fn wait(&self, more: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        until("requests are answered", || {
            self.done.load(Ordering::Acquire) || self.answered.load(Ordering::Relaxed) >= before + more
        });
    }
}

/// Ends the load also when what goes on meanwhile fails.
struct Over<'l>(&'l Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.done.store(true, Ordering::Release);
    }
}

fn manifest(workers: usize) -> String {
    let (hello, slow) = (guest("hello"), guest("slow"));
    format!(
        "[server]\nworkers = {workers}\n\
         [[app]]\nname = \"hello\"\nsource = {hello:?}\nroutes = [\"hello.test/*\"]\n\
         [[app]]\nname = \"slow\"\nsource = {slow:?}\nroutes = [\"slow.test/*\"]\nlimits = {{ wall = \"60s\" }}\n"
    )
}

#[test]
fn no_request_fails_through_three_upgrades_with_more_and_fewer_workers() {
    let builder = Server::builder().manifest(manifest(2)).listen("127.0.0.1:0").listen("unix:web.sock");
    let mut server = builder.start();
    let [tcp, unix] = [0, 1].map(|at| server.addrs()[at].clone());
    let load = Load::default();
    let mut last = None;
    let started = Instant::now();
    thread::scope(|scope| {
        let over = Over(&load);
        let (tcp, unix, load) = (&tcp, &unix, &load);
        for _ in 0..2 {
            scope.spawn(move || load.fresh(tcp));
            scope.spawn(move || load.kept(tcp));
        }
        scope.spawn(move || load.fresh(unix));
        scope.spawn(move || load.kept(unix));
        load.wait(200);
        for (round, workers) in [(1, 1), (2, 3), (3, 2)] {
            fs::write(server.folder().join("tidegate.toml"), manifest(workers)).unwrap();
            // It runs when the upgrade comes, and ends on the process it began with.
            let mut running = Client::connect(tcp).unwrap();
            running.send_get("slow.test", "/1000").unwrap();
            load.wait(50);
            let before: Option<Successor> = last.take();
            match &before {
                Some(before) => before.signal(Signal::USR2),
                None => server.signal(Signal::USR2),
            }
            let next = Successor::wait(server.stderr(), round);
            load.wait(200);
            success(&running.response().unwrap());
            drop(running);
            match before {
                Some(before) => assert!(before.ends(SOON), "round {round}: the old process does not end"),
                None => assert_eq!(server.wait_exit(SOON).code(), Some(0)),
            }
            println!("round {round}: {:?}", started.elapsed());
            last = Some(next);
        }
        load.wait(200);
        drop(over);
    });
    println!("{} requests", load.answered.load(Ordering::Relaxed));
    let Addr::Unix(path) = &unix else { panic!("{unix}") };
    assert!(path.exists(), "the path of the socket that is served");
    let last = last.expect("three upgrades");
    last.signal(Signal::TERM);
    assert!(last.ends(SOON), "the last process does not end");
    assert!(!path.exists(), "a path that leads nowhere");
}

/// The server's binary, under a name that can be made to lead elsewhere.
fn link(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("tidegate");
    symlink(artifacts::binary(), &path).unwrap();
    path
}

/// Puts a script in the place of the binary.
fn replace(path: &Path, script: &str) {
    let aside = path.with_extension("new");
    fs::write(&aside, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&aside, path).unwrap();
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_process_serving() {
    let folder = tempfile::tempdir().unwrap();
    let program = link(folder.path());
    let mut server = Server::builder().manifest(manifest(2)).program(&program).start();
    let path = server.folder().join("tidegate.toml");
    let mut kept = server.client();
    let failed = |server: &Server| {
        server.stderr().lines().iter().filter(|line| line.contains("the upgrade has failed")).count()
    };
    let mut fails = |server: &Server, why: &str| {
        let before = failed(server);
        server.signal(Signal::USR2);
        until("the upgrade has failed", || failed(server) > before);
        let told = server
            .stderr()
            .lines()
            .iter()
            .rev()
            .find(|line| line.contains("the upgrade has failed"))
            .cloned();
        assert!(told.as_ref().is_some_and(|told| told.contains(why)), "{told:?}");
        success(&kept.get("hello.test", "/").unwrap());
        success(&server.get("hello.test", "/"));
    };
    // A manifest with a mistake: the new process ends, and says why.
    fs::write(&path, "[server]\nworkerz = 2\n").unwrap();
    fails(&server, "exit status: 2");
    assert!(server.wait_for_log(|line| line.contains("workerz")).is_some());
    fs::write(&path, manifest(2)).unwrap();
    // A binary that ends, one that is none, and one that goes on without a word.
    replace(&program, "exit 3");
    fails(&server, "exit status: 3");
    fs::write(&program, "this is no program").unwrap();
    fails(&server, "can not be run");
    replace(&program, "exec 0</dev/null; exec sleep 600");
    fails(&server, "it hung up");
    // One that is right.
    fs::remove_file(&program).unwrap();
    symlink(artifacts::binary(), &program).unwrap();
    server.signal(Signal::USR2);
    let next = Successor::wait(server.stderr(), 1);
    assert_eq!(server.wait_exit(SOON).code(), Some(0));
    success(&server.get("hello.test", "/"));
    next.signal(Signal::TERM);
    assert!(next.ends(SOON));
}

#[test]
fn one_upgrade_at_a_time_and_the_end_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    let program = link(folder.path());
    let mut server = Server::builder().guest("hello").program(&program).start();
    let pid = folder.path().join("pid");
    replace(&program, &format!("echo $$ > {}.new; mv {0}.new {0}; exec sleep 600", pid.display()));
    server.signal(Signal::USR2);
    until("the new process runs", || pid.exists());
    server.signal(Signal::USR2);
    assert!(server.wait_for_log(|line| line.contains("this one is refused")).is_some());
    server.signal(Signal::HUP);
    assert!(server.wait_for_log(|line| line.contains("an upgrade is under way")).is_some());
    success(&server.get("a", "/"));
    // The server is to end, and with it what it has started.
    let new = fs::read_to_string(&pid).unwrap().trim().to_owned();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(SOON).code(), Some(0));
    until("the new process is gone", || !Path::new("/proc").join(&new).exists());
}

#[test]
fn sockets_of_a_service_manager_are_handed_on_and_it_is_told_who_serves() {
    let notify = tempfile::tempdir().unwrap();
    let manager = std::os::unix::net::UnixDatagram::bind(notify.path().join("s")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let told = || {
        let mut bytes = [0; 4096];
        let n = manager.recv(&mut bytes).expect("a message for the service manager");
        String::from_utf8_lossy(&bytes[..n]).into_owned()
    };
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let builder = Server::builder().app(App::guest("hello")).socket(socket).option("--workers", "2");
    let mut server = builder.env("NOTIFY_SOCKET", notify.path().join("s").to_str().unwrap()).start();
    assert!(told().starts_with("READY=1"));
    server.signal(Signal::USR2);
    let next = Successor::wait(server.stderr(), 1);
    let mut main = told();
    while !main.starts_with("MAINPID=") {
        main = told();
    }
    assert_eq!(main.trim(), format!("MAINPID={}", next.pid()));
    assert!(told().starts_with("READY=1"), "the new process is ready, and says so when it is listened to");
    assert_eq!(server.wait_exit(SOON).code(), Some(0));
    success(&server.get("hello.test", "/"));
    // Neither is for a child of the new process.
    let environment = fs::read(format!("/proc/{}/environ", next.pid())).unwrap();
    let environment = String::from_utf8_lossy(&environment);
    assert!(!environment.contains("LISTEN_"), "{environment}");
    next.signal(Signal::TERM);
    assert!(told().starts_with("STOPPING=1"));
    assert!(next.ends(SOON));
}

#[test]
fn what_was_deployed_goes_on_after_an_upgrade_and_after_one_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let program = link(folder.path());
    let mut server = hosting(&state).program(&program).start();
    let admin = Admin::of(&state);
    let settings = json!({ "routes": ["/*"] });
    let version = |server: &Server| number_of(&server.get("a.test", "/"));
    for number in 1..=2 {
        admin.deploy("a", &numbered(number), &settings).unwrap().unwrap();
    }
    assert_eq!(version(&server), Some(2));

    // The new process takes the state and fails then: the old one takes it back.
    let manifest = server.folder().join("tidegate.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let bad = server.folder().join("bad.wasm");
    fs::write(&bad, b"\0asm\x01\0\0\0 this is none").unwrap();
    fs::write(
        &manifest,
        format!("{text}\n[[app]]\nname = \"bad\"\nsource = {bad:?}\nroutes = [\"bad.test/*\"]\n"),
    )
    .unwrap();
    server.signal(Signal::USR2);
    let failed = server.wait_for_log(|line| line.contains("the upgrade has failed"));
    assert!(failed.is_some(), "{}", server.stderr().tail(20));
    admin.deploy("a", &numbered(3), &settings).unwrap().unwrap();
    assert_eq!(version(&server), Some(3));

    // It is put right.
    fs::write(&manifest, text).unwrap();
    server.signal(Signal::USR2);
    let next = Successor::wait(server.stderr(), 1);
    assert_eq!(server.wait_exit(SOON).code(), Some(0));
    assert_eq!(version(&server), Some(3));
    assert_eq!(admin.app("a").unwrap().unwrap()["active"], 3);
    admin.rollback("a").unwrap().unwrap();
    assert_eq!(version(&server), Some(2));
    next.signal(Signal::TERM);
    assert!(next.ends(SOON));
}

#[test]
fn after_an_upgrade_that_failed_the_admin_side_opens_without_the_file_of_its_token() {
    let folder = tempfile::tempdir().unwrap();
    let (state, secret) = (folder.path().join("state"), folder.path().join("token"));
    let socket = state.join("admin.sock");
    fs::write(&secret, TOKEN).unwrap();
    let program = link(folder.path());
    let tokens = format!("tokens = [{{ name = \"ops\", secret = \"file:{}\" }}]", secret.display());
    let mut server = Server::builder()
        .manifest(format!("[server]\nstate = {state:?}\nadmin = \"unix:{}\"\n{tokens}\n", socket.display()))
        .program(&program)
        .start();
    let mut asked = Client::connect(&Addr::Unix(socket.clone())).unwrap();
    asked.send("GET /v1/apps HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    success(&asked.response().unwrap());
    // The new process has the state by the time it finds that it can not listen there (RFC 5737).
    let serve = format!("serve --state '{}' --listen 192.0.2.1:1", state.display());
    replace(
        &program,
        &format!("rm '{}'; exec '{}' {serve}", secret.display(), artifacts::binary().display()),
    );
    server.signal(Signal::USR2);
    assert!(server.wait_for_log(|line| line.contains("the upgrade has failed")).is_some());
    assert!(!secret.exists(), "{}", server.stderr().tail(20));
    let mut asked = Client::connect(&Addr::Unix(socket.clone())).unwrap();
    asked.send("GET /v1/apps HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    success(&asked.response().unwrap_or_else(|error| panic!("{error}: {}", server.stderr().tail(20))));
    server.signal(Signal::TERM);
    assert_eq!(server.wait_exit(SOON).code(), Some(0));
}

/// A server that is upgraded again and again.
struct Upgrades {
    server: Server,
    count: usize,
    /// The process that serves, once it is not the first one.
    last: Option<Successor>,
}

impl Upgrades {
    fn of(server: Server) -> Self {
        Self { server, count: 0, last: None }
    }

    /// One more, which has to come about; the process before it ends.
    fn next(&mut self) {
        let before = self.last.take();
        match &before {
            Some(before) => before.signal(Signal::USR2),
            None => self.server.signal(Signal::USR2),
        }
        self.count += 1;
        self.last = Some(Successor::wait(self.server.stderr(), self.count));
        match before {
            Some(before) => {
                assert!(before.ends(SOON), "upgrade {}: the old process does not end", self.count)
            }
            None => assert_eq!(self.server.wait_exit(SOON).code(), Some(0)),
        }
    }

    /// The last process ends.
    fn end(&self) {
        let last = self.last.as_ref().expect("an upgrade");
        last.signal(Signal::TERM);
        assert!(last.ends(SOON), "the last process does not end");
    }
}

const TOKEN: &str = "a-token-of-the-operator";

/// Asks the admin side all the time, by its own words and by the command line, while the server is upgraded so often.
fn administered(admin: &str, upgrades: usize) {
    let folder = tempfile::tempdir().unwrap();
    let (state, secret) = (folder.path().join("state"), folder.path().join("token"));
    fs::write(&secret, TOKEN).unwrap();
    let tokens = format!("tokens = [{{ name = \"ops\", secret = \"file:{}\" }}]", secret.display());
    let admin = admin.replace("STATE", state.to_str().unwrap());
    let server = Server::builder()
        .manifest(format!("[server]\nworkers = 2\nstate = {state:?}\nadmin = {admin:?}\n{tokens}\n"))
        .start();
    let line = server.stdout().wait_for(SOON, |line| line.starts_with("admin on ")).expect("an admin side");
    let url = line.strip_prefix("admin on ").unwrap().to_owned();
    let addr = match url.strip_prefix("http://") {
        Some(addr) => Addr::Tcp(addr.parse().unwrap()),
        None => Addr::Unix(url.strip_prefix("unix:").unwrap().into()),
    };
    let host = url.strip_prefix("http://").unwrap_or("localhost");
    let ask = format!("GET /v1/apps HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n");
    let load = Load::default();
    let mut upgraded = Upgrades::of(server);
    thread::scope(|scope| {
        let over = Over(&load);
        for _ in 0..2 {
            scope.spawn(|| {
                for n in (0..).take_while(|n| load.goes_on(*n)) {
                    let mut client =
                        Client::connect(&addr).unwrap_or_else(|error| panic!("connection {n}: {error}"));
                    client.send(&ask).unwrap();
                    let response = client.response().unwrap_or_else(|error| panic!("question {n}: {error}"));
                    assert_eq!(response.status(), 200, "{response:?}");
                    load.count();
                    // It is the operator's tool, and no load.
                    thread::sleep(Duration::from_millis(1));
                }
            });
        }
        scope.spawn(|| {
            for n in (0..).take_while(|n| load.goes_on(*n)) {
                let mut apps = artifacts::tidegate();
                apps.args(["apps", "--json", "--admin", &url, "--token-file"]).arg(&secret);
                let output = apps.output().unwrap();
                assert!(output.status.success(), "{n}: {}", String::from_utf8_lossy(&output.stderr));
                load.count();
            }
        });
        for _ in 0..upgrades {
            load.wait(5);
            upgraded.next();
        }
        load.wait(5);
        drop(over);
    });
    println!("{} questions", load.answered.load(Ordering::Relaxed));
    let told = upgraded.server.stdout().lines();
    let told: Vec<_> = told.iter().filter(|line| line.starts_with("admin on ")).collect();
    assert!(told.len() == upgrades + 1 && told.iter().all(|told| **told == line), "{told:?}");
    upgraded.end();
    if let Addr::Unix(path) = &addr {
        assert!(!path.exists(), "a path that leads nowhere");
    }
}

#[test]
fn nobody_at_the_admin_side_is_turned_away_through_twenty_upgrades() {
    administered("unix:STATE/admin.sock", 20);
}

#[test]
fn a_port_that_the_system_chose_for_the_admin_side_stays_through_upgrades() {
    administered("127.0.0.1:0", 5);
}

#[test]
fn a_deploy_that_an_upgrade_meets_is_done_or_refused_and_never_half() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let server = hosting(&state).start();
    let (admin, addr) = (Admin::of(&state), server.addr().clone());
    let settings = json!({ "routes": ["/*"] });
    let served = || number_of(&Client::connect(&addr).unwrap().get("a.test", "/").unwrap());
    admin.deploy("a", &numbered(1), &settings).unwrap().unwrap();
    let load = Load::default();
    let mut upgraded = Upgrades::of(server);
    thread::scope(|scope| {
        let over = Over(&load);
        scope.spawn(|| {
            let (mut number, mut kept) = (1, 1);
            while load.goes_on(usize::try_from(number).unwrap()) {
                number += 1;
                match admin.deploy("a", &numbered(number), &settings) {
                    Ok(Ok(_)) => kept = number,
                    Ok(Err(refused)) => assert_eq!(refused.kind, "unavailable", "{refused:?}"),
                    // The process has ended before it could say what came of it: what is served does.
                    Err(_) if served() == Some(number) => kept = number,
                    Err(_) => {}
                }
                assert_eq!(served(), Some(kept), "deploy {number}");
                load.count();
            }
        });
        for _ in 0..5 {
            load.wait(3);
            upgraded.next();
        }
        load.wait(3);
        drop(over);
    });
    upgraded.end();
}

#[test]
fn who_follows_a_log_is_told_of_an_upgrade() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let server = hosting(&state).start();
    let admin = Admin::of(&state);
    admin.deploy("a", &numbered(1), &json!({ "routes": ["/*"] })).unwrap().unwrap();
    let socket = Addr::Unix(state.join("admin.sock"));
    let mut follower = Client::connect(&socket).unwrap();
    follower.send("GET /v1/apps/a/logs?follow=true HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let url = format!("unix:{}", state.join("admin.sock").display());
    let mut logs = artifacts::tidegate();
    logs.args(["logs", "a", "--follow", "--admin", &url]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut logs = logs.spawn().unwrap();
    let lines = LineLog::collect(logs.stdout.take().unwrap());
    assert!(lines.wait_for(SOON, |line| line.contains("version 1 was deployed")).is_some());
    let mut upgraded = Upgrades::of(server);
    upgraded.next();
    let response = follower.response().unwrap();
    let last = response.text().lines().last().unwrap_or_default().to_owned();
    assert!(last.contains("\"unavailable\"") && last.contains("follow the log again"), "{last}");
    let output = logs.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("hands over"), "{told}");
    upgraded.end();
}
