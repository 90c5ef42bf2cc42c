//! SIGHUP: the settings are read again, and log files opened again.

use std::fs;

use rustix::process::Signal;
use tidegate_tests::check::{ok, problem, success};
use tidegate_tests::wait::until;
use tidegate_tests::{App, Server, guest};

/// Tells how often the log has said something.
fn times(server: &Server, what: &str) -> usize {
    server.stderr().lines().iter().filter(|line| line.contains(what)).count()
}

#[track_caller]
fn reload(server: &Server, said: &str) {
    let before = times(server, said);
    server.signal(Signal::HUP);
    until(said, || times(server, said) > before);
}

fn manifest(server: &str, apps: &[(&str, &std::path::Path)]) -> String {
    let mut text = format!("[server]\n{server}\n");
    for (name, source) in apps {
        text += &format!("[[app]]\nname = {name:?}\nsource = {source:?}\nroutes = [\"{name}.test/*\"]\n");
    }
    text
}

#[test]
fn a_manifest_is_applied_again_and_connections_stay() {
    let (hello, slow) = (guest("hello"), guest("slow"));
    let server = Server::builder().manifest(manifest("workers = 2", &[("one", &hello)])).start();
    let path = server.folder().join("tidegate.toml");
    let mut kept = server.client();
    success(&kept.get("one.test", "/").unwrap());
    problem(&kept.get("two.test", "/").unwrap(), 404, "no-such-app");

    fs::write(&path, manifest("workers = 2", &[("one", &hello), ("two", &slow)])).unwrap();
    reload(&server, "reloaded");
    success(&kept.get("two.test", "/1").unwrap());
    reload(&server, "nothing has changed");

    // What only a start can change is named, once; the rest is applied.
    fs::write(&path, manifest("workers = 3\ndrain = \"1s\"", &[("two", &slow)])).unwrap();
    reload(&server, "reloaded");
    for key in ["workers", "drain"] {
        let told = format!("`[server] {key}` has changed");
        assert!(server.wait_for_log(|line| line.contains(&told)).is_some(), "{}", server.stderr().tail(20));
    }
    problem(&kept.get("one.test", "/").unwrap(), 404, "no-such-app");
    reload(&server, "nothing has changed");
    assert_eq!(times(&server, "`[server] workers` has changed"), 1);
}

#[test]
fn a_manifest_with_mistakes_changes_nothing_and_all_of_them_are_told() {
    let hello = guest("hello");
    let server = Server::builder().manifest(manifest("", &[("one", &hello)])).start();
    let path = server.folder().join("tidegate.toml");
    let mut kept = server.client();
    success(&kept.get("one.test", "/").unwrap());
    let wrong = "[server]\nworkerz = 2\n[[app]]\nname = \"one\"\nsource = \"gone.wasm\"\nroutes = [\"/*\"]\n";
    fs::write(&path, wrong).unwrap();
    reload(&server, "not reloaded");
    for told in ["workerz", "gone.wasm", "problems=2"] {
        assert!(times(&server, told) > 0, "{told}: {}", server.stderr().tail(20));
    }
    // A module that is none.
    let bad = server.folder().join("bad.wasm");
    fs::write(&bad, b"\0asm\x01\0\0\0 this is none").unwrap();
    fs::write(&path, manifest("", &[("one", &hello), ("bad", &bad)])).unwrap();
    reload(&server, "not reloaded");
    success(&kept.get("one.test", "/").unwrap());
    // And it is put right.
    fs::write(&path, manifest("", &[("one", &hello), ("two", &hello)])).unwrap();
    reload(&server, "reloaded");
    success(&kept.get("two.test", "/").unwrap());
}

#[test]
fn a_module_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("app.wasm");
    fs::copy(guest("hello"), &module).unwrap();
    let server = Server::builder().module(&module).start();
    let mut kept = server.client();
    let first = kept.get("a", "/").unwrap();
    success(&first);
    // Written aside and moved there, as a build does.
    let next = folder.path().join("next.wasm");
    fs::copy(guest("echo"), &next).unwrap();
    fs::rename(&next, &module).unwrap();
    reload(&server, "reloaded");
    ok(&kept.post("a", "/", b"said again").unwrap(), b"said again");
}

#[test]
fn signals_in_a_row_end_with_the_last_settings() {
    let hello = guest("hello");
    let server = Server::builder().manifest(manifest("", &[("app0", &hello)])).start();
    let path = server.folder().join("tidegate.toml");
    for round in 1..=10 {
        fs::write(&path, manifest("", &[(&format!("app{round}"), &hello)])).unwrap();
        server.signal(Signal::HUP);
    }
    until("the last settings hold", || server.get("app10.test", "/").status() == 200);
}

#[test]
fn a_log_that_was_moved_away_is_opened_again() {
    let server = Server::builder().app(App::guest("hello")).option("--access-log", "access.log").start();
    let (log, moved) = (server.folder().join("access.log"), server.folder().join("access.log.1"));
    let lines = |path: &std::path::Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    success(&server.get("hello.test", "/first"));
    until("the line is there", || lines(&log) == 1);
    fs::rename(&log, &moved).unwrap();
    reload(&server, "reloaded");
    success(&server.get("hello.test", "/second"));
    until("the line is there", || lines(&log) == 1);
    assert_eq!(lines(&moved), 1);
}

#[test]
fn a_reload_does_not_wait_for_requests_and_requests_do_not_wait_for_it() {
    let app = App::guest("slow").limit("wall", "60s");
    let server = Server::builder().app(app).option("--workers", "1").start();
    let path = server.folder().join("tidegate.toml");
    let mut running = server.client();
    running.send_get("slow.test", "/1500").unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let spin = guest("spin");
    fs::write(
        &path,
        format!("{text}\n[[app]]\nname = \"more\"\nsource = {spin:?}\nroutes = [\"more.test/*\"]\n"),
    )
    .unwrap();
    reload(&server, "reloaded");
    success(&running.response().unwrap());
}
