//! More apps than may have their code in memory: it comes when it is needed and goes when others need the room, and
//! nobody whose request runs notices. And what becomes of new connections when memory or descriptors are short.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidegate_tests::bench::density::{Plan, modules, run};
use tidegate_tests::check::success;
use tidegate_tests::server::Builder;
use tidegate_tests::wait::until;
use tidegate_tests::{App, Client, Server, artifacts};

/// Copies of `hello`, each an app of its own, with room for so many of them in memory.
struct Crowd {
    folder: TempDir,
    paths: Vec<PathBuf>,
    state: TempDir,
    loaded: usize,
}

impl Crowd {
    fn new(apps: usize, loaded: usize) -> Self {
        let (folder, paths) = modules(&artifacts::guest("hello"), apps).unwrap();
        Self { folder, paths, state: tempfile::tempdir().unwrap(), loaded }
    }

    fn builder(&self) -> Builder {
        self.builder_of(&self.paths)
    }

    fn builder_of(&self, paths: &[PathBuf]) -> Builder {
        let mut builder = Server::builder().manifest(format!("[server]\nloaded = {}\n", self.loaded));
        for (number, path) in paths.iter().enumerate() {
            builder = builder.app(App::file(&format!("app-{number}"), path));
        }
        let state = self.state.path().to_str().expect("UTF-8");
        builder.option("--workers", "2").option("--state", state).env("TIDEGATE_LOG", "debug")
    }

    fn entries(&self) -> HashSet<PathBuf> {
        let listed = fs::read_dir(self.state.path().join("modules")).unwrap();
        listed.map(|entry| entry.unwrap().path()).collect()
    }

    /// Where the compiled cache has the first app, which a server that has no other tells.
    fn first_entry(&self) -> PathBuf {
        let server = self.builder_of(&self.paths[..1]).start();
        success(&server.get(&host(0), "/"));
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.into_iter().next().unwrap()
    }
}

fn host(app: usize) -> String {
    format!("app-{app}.test")
}

/// Lines of the log that say that an app's code was loaded for a request.
fn loads(server: &Server, app: usize) -> usize {
    let name = format!("app=\"app-{app}\"");
    server.stderr().count(|line| line.contains(": loaded ") && line.contains(&name))
}

/// Asks another app until its code has taken the place of the one that was mapped from this file. Once is not always
/// enough: an app whose code is about to go still answers, and what counts as used longest ago is known within a second.
#[track_caller]
fn push_out(server: &Server, entry: &Path, other: usize) {
    let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
    let maps = format!("/proc/{}/maps", server.pid());
    until("the code is out of memory", || {
        success(&server.get(&host(other), "/"));
        !fs::read_to_string(&maps).unwrap().contains(&name)
    });
}

#[test]
fn code_comes_when_it_is_needed_and_goes_when_others_are() {
    let crowd = Crowd::new(12, 3);
    let server = crowd.builder().start();
    for _ in 0..3 {
        for app in 0..12 {
            assert_eq!(server.get(&host(app), "/").text(), "Hello World\n");
        }
    }
    until("no more is in memory than may be", || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
        let mapped = crowd.entries().iter().filter(|entry| maps.contains(entry.to_str().unwrap())).count();
        mapped <= 3
    });
    assert!((0..12).all(|app| loads(&server, app) >= 1));
    let compiled = server.stderr().count(|line| line.contains(": compiled "));
    assert_eq!(compiled, 12, "each was compiled once, when the server started");
}

#[test]
fn what_runs_keeps_its_code() {
    let crowd = Crowd::new(6, 1);
    let server = crowd.builder().app(App::guest("generate")).start();
    let mut client = server.client();
    client.send_get("generate.test", "/30000000").unwrap();
    let head = client.head().unwrap();
    let mut body = client.body(&head).unwrap();
    let mut piece = Vec::new();
    let mut total = client.read_body(&mut body, &mut piece, 8_192).unwrap();
    for round in 0..40 {
        success(&server.get(&host(round % 6), "/"));
    }
    loop {
        piece.clear();
        let n = client.read_body(&mut body, &mut piece, 65_536).unwrap();
        if n == 0 {
            break;
        }
        total += n;
    }
    assert_eq!(total, 30_000_000);
}

#[test]
fn idle_instances_go_before_their_code_does() {
    let crowd = Crowd::new(3, 1);
    let reused =
        App::file("reused", &crowd.folder.path().join("0.wasm")).line("instances = { reuse = 1000 }");
    let server = crowd.builder().app(reused).start();
    success(&server.get("reused.test", "/"));
    let first = crowd.entries();
    assert_eq!(first.len(), 3, "two apps have the same module");
    // The other two want the room, again and again.
    until("the idle instance's code has gone and come back", || {
        success(&server.get(&host(1), "/"));
        success(&server.get(&host(2), "/"));
        let loaded =
            server.stderr().count(|line| line.contains(": loaded ") && line.contains("app=\"reused\""));
        if loaded == 0 {
            success(&server.get("reused.test", "/"));
            std::thread::sleep(Duration::from_millis(20));
        }
        loaded > 0
    });
}

#[test]
fn many_that_wait_for_one_app_load_it_once() {
    let crowd = Crowd::new(2, 1);
    let entry = crowd.first_entry();
    let server = crowd.builder().start();
    push_out(&server, &entry, 1);
    let before = loads(&server, 0);
    let barrier = Barrier::new(24);
    std::thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                let mut client = server.client();
                barrier.wait();
                success(&client.get(&host(0), "/").unwrap());
            });
        }
    });
    assert_eq!(loads(&server, 0), before + 1);
}

#[test]
fn damaged_code_is_made_again_and_what_can_not_be_is_told() {
    let crowd = Crowd::new(2, 1);
    let entry = crowd.first_entry();
    let server = crowd.builder().option("--access-log", "-").start();
    push_out(&server, &entry, 1);
    let damage = || {
        let mut bytes = fs::read(&entry).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&entry).unwrap();
        fs::write(&entry, bytes).unwrap();
    };
    damage();
    success(&server.get(&host(0), "/"));
    assert!(server.wait_for_log(|line| line.contains("is not used") && line.contains("app-0")).is_some());

    // And now its module is another one, too.
    push_out(&server, &entry, 1);
    damage();
    let module = fs::read(&crowd.paths[0]).unwrap();
    fs::write(&crowd.paths[0], b"\0asm\x01\0\0\0").unwrap();
    let refused = server.get(&host(0), "/");
    assert_eq!((refused.status(), refused.header("retry-after")), (503, Some("1")));
    assert!(
        refused.text().contains("load-failed") && !refused.text().contains(".wasm"),
        "{}",
        refused.text()
    );
    assert!(
        server.wait_for_log(|line| line.contains("can not be loaded") && line.contains("app-0")).is_some()
    );
    success(&server.get(&host(1), "/"));
    fs::write(&crowd.paths[0], module).unwrap();
    until("it is tried again", || server.get(&host(0), "/").status() == 200);
}

/// 2,000 in the benchmark `density`, which gives the figures.
#[test]
fn a_cold_app_answers_its_first_client_soon() {
    let state = tempfile::tempdir().unwrap();
    let guest = artifacts::guest("hello");
    let plan = Plan { apps: 60, loaded: Some(1), guest, cpu: None, state: state.path().to_path_buf() };
    let report = run(&plan).unwrap();
    let median = report.percentile(50);
    assert!(median < Duration::from_millis(50), "{median:?}");
    assert!(report.after.descriptors < report.before.descriptors + 20, "{report:?}");
}

#[test]
fn nobody_is_let_in_while_memory_is_short() {
    // What may be used fits the budget, which is looked at first: the server itself comes on top.
    let server = Server::builder()
        .manifest(
            "[server]\nmemory_budget = \"208MiB\"\nconnections = 8\nlimits = { head_bytes = \"4KiB\" }\n",
        )
        .app(App::wat("hold_memory").limit("memory", "50MiB").limit("concurrency", "4"))
        .app(App::guest("hello").limit("memory", "2MiB").limit("concurrency", "1"))
        .option("--workers", "1")
        .start();
    let mut holders: Vec<Client> = (0..4).map(|_| server.client()).collect();
    holders.iter_mut().for_each(|client| client.send_get("hold-memory.test", "/").unwrap());
    assert!(server.wait_for_log(|line| line.contains("memory is short: what is idle is given up")).is_some());
    let mut outside = server.client();
    outside.send_get("hello.test", "/").unwrap();
    assert!(server.wait_for_log(|line| line.contains("accepting is paused: memory is short")).is_some());
    // Those inside are served, and then everybody.
    holders.iter_mut().for_each(|client| success(&client.response().unwrap()));
    success(&outside.response().unwrap());
    assert!(server.wait_for_log(|line| line.contains("nothing is short any more")).is_some());
    let told = server.stderr().count(|line| line.contains("what is idle is given up"));
    assert_eq!(told, 1);
}

#[test]
fn nobody_is_let_in_while_descriptors_are_short() {
    let server = Server::builder().guest("hello").option("--workers", "1").start();
    success(&server.get("a", "/"));
    server.limit_fds(1_024);
    let mut inside: Vec<Client> = Vec::new();
    let began = Instant::now();
    while server.stderr().count(|line| line.contains("descriptors are short")) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{} are inside", inside.len());
        if inside.len() < 1_000 {
            let mut client = server.client();
            client.send_get("a", "/").unwrap();
            inside.push(client);
        }
    }
    assert!(server.fd_count() < 1_024, "some are left");
    // Those inside are served; one that comes waits until somebody leaves.
    success(&inside[0].response().unwrap());
    let mut outside = server.client();
    outside.send_get("a", "/").unwrap();
    inside.truncate(500);
    success(&outside.response().unwrap());
    assert!(server.wait_for_log(|line| line.contains("nothing is short any more")).is_some());
}
