//! `tidegate dev`: edits go live without a connection being dropped, and what does not build is shown until it does.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidegate_tests::logs::LineLog;
use tidegate_tests::project::answering;
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, Client, Project, Response, artifacts};

/// Cargo may be compiling the SDK, and other tests beside it.
const BUILD: Duration = Duration::from_secs(180);

/// A running `tidegate dev`, ended with SIGKILL when dropped.
struct Dev {
    child: Child,
    out: LineLog,
    err: LineLog,
    addr: Addr,
}

impl Dev {
    /// Starts it in a project, and waits until it says where it listens.
    fn start(project: &Project, flags: &[&str]) -> Self {
        let mut dev = Self::spawn(project, flags);
        let line = dev.out.wait_for(BUILD, |line| line.starts_with("listening on http://"));
        let line = line.unwrap_or_else(|| panic!("it does not listen:\n{}", dev.err.tail(40)));
        dev.addr = Addr::Tcp(line.trim_start_matches("listening on http://").parse().unwrap());
        dev
    }

    fn spawn(project: &Project, flags: &[&str]) -> Self {
        let mut command = project.command(&["dev", "--listen", "127.0.0.1:0"]);
        let mut child = command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = LineLog::collect(child.stdout.take().unwrap());
        let err = LineLog::collect(child.stderr.take().unwrap());
        Self { child, out, err, addr: Addr::Unix("nowhere".into()) }
    }

    #[track_caller]
    fn get(&self, path: &str, accept: &str) -> Response {
        let mut client = Client::connect(&self.addr).unwrap_or_else(|error| panic!("connecting: {error}"));
        client.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n")).unwrap();
        client.response().unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.err.tail(40)))
    }

    /// Waits until the answer has this in it.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let came = poll_for(BUILD, || self.get("/", "*/*").text().contains(text).then_some(()));
        assert!(came.is_some(), "no {text:?}: {:?}\n{}", self.get("/", "*/*"), self.err.tail(40));
    }

    #[track_caller]
    fn wait_for_word(&self, text: &str) -> String {
        let line = self.err.wait_for(BUILD, |line| line.contains(text));
        line.unwrap_or_else(|| panic!("it did not say {text:?}:\n{}", self.err.tail(40)))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended.
    fn ended(&mut self) -> Option<i32> {
        let status = poll_for(BUILD, || self.child.try_wait().unwrap());
        status.unwrap_or_else(|| panic!("it still runs:\n{}", self.err.tail(40))).code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- dev's last words ---\n{}\n---", self.err.tail(60));
        }
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_edit_is_live_and_a_type_error_shows_where_it_is() {
    let project = Project::from_template("lively", "hello");
    let dev = Dev::start(&project, &[]);
    assert_eq!(dev.get("/x", "*/*").text(), "Hello from /x\n");
    let mut kept = Client::connect(&dev.addr).unwrap();
    assert_eq!(kept.get("x", "/").unwrap().text(), "Hello from /\n");

    project.edit("src/lib.rs", "Hello from {}\\n\", request", "Welcome to {}\\n\", request");
    dev.wait_for("Welcome to /\n");
    let line = dev.wait_for_word("reloaded lively in ");
    assert!(line.contains(" s (build "), "{line}");
    assert_eq!(kept.get("x", "/").unwrap().text(), "Welcome to /\n", "on the connection of before");

    project.edit("src/lib.rs", "request.path()", "request.path() + 1");
    dev.wait_for("lively does not build");
    let text = dev.get("/", "*/*");
    assert_eq!((text.status(), text.header("tidegate-error")), (500, Some("dev-build")));
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.text().contains("\nsrc/lib.rs:7:") && text.text().contains("error[E"), "{}", text.text());
    assert!(!text.text().contains('\u{1b}'));
    let page = dev.get("/", "text/html,*/*;q=0.8");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    for part in
        ["<title>lively does not build</title>", "<h2>src/lib.rs:7:", "class=\"b c9\"", "tidegate-mark"]
    {
        assert!(page.text().contains(part), "{part} is not in {}", page.text());
    }
    // The terminal has it, too: without colours, as it is none here.
    assert!(dev.err.count(|line| line.contains("--> src/lib.rs:7:")) > 0, "{}", dev.err.tail(40));
    assert_eq!(dev.err.count(|line| line.contains('\u{1b}')), 0, "{}", dev.err.tail(40));
    assert_eq!(kept.get("x", "/").unwrap().status(), 500);

    project.edit("src/lib.rs", "request.path() + 1", "request.path()");
    dev.wait_for("Welcome to /\n");
    assert_eq!(kept.get("x", "/").unwrap().text(), "Welcome to /\n");
    assert!(dev.out.count(|line| line.contains("\"GET /x\" 200")) == 1, "{}", dev.out.tail(10));

    // What the SDK's copy in the project is, is the project's, too.
    let sdk = "vendor/tidegate-sdk/src/response.rs";
    // Which moves the lines that the debug information names: what only reads differently is not loaded anew.
    project.write(sdk, &project.read(sdk).replace("\nimpl Response {", "\n\n\nimpl Response {"));
    until("another build", || dev.err.count(|line| line.starts_with("reloaded lively")) > 2);

    // What cargo itself does not accept is shown as well.
    project.edit("Cargo.toml", "[package]", "[pakage]");
    dev.wait_for("cargo does not accept");
    project.edit("Cargo.toml", "[pakage]", "[package]");
    dev.wait_for("Welcome to /\n");
}

#[test]
fn edits_drop_no_request() {
    let versions = ["swap0", "swap1", "swap2"].map(answering);
    let project = Project::copied("swapped", &versions[0], "");
    let dev = Dev::start(&project, &[]);
    dev.wait_for("swap0");
    let over = AtomicBool::new(false);
    let asked = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut client = Client::connect(&dev.addr).unwrap();
                while !over.load(Ordering::Relaxed) {
                    // An error, a cut connection among them, fails the test.
                    let answer = client.get("x", "/").unwrap();
                    assert!(answer.status() == 200 && answer.text().starts_with("swap"), "{answer:?}");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 1..=6 {
            let before = asked.load(Ordering::Relaxed);
            let version = round % versions.len();
            project.put("src/handler.wasm", &versions[version]);
            dev.wait_for(&format!("swap{version}"));
            until("requests under way", || asked.load(Ordering::Relaxed) > before + 100);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(asked.load(Ordering::Relaxed) > 600);
}

#[test]
fn a_first_build_that_fails_is_shown_and_watched() {
    let project = Project::copied("late", &answering("late"), "");
    project.write("build.sh", "echo not yet >&2; exit 4");
    let dev = Dev::start(&project, &[]);
    let answer = dev.get("/", "*/*");
    assert_eq!(answer.status(), 500);
    assert!(answer.text().contains("late does not build\n\nnot yet\n"), "{}", answer.text());
    assert!(answer.text().contains("`sh build.sh` failed: exit status: 4"), "{}", answer.text());
    // A module that no server would load is no better.
    project.write("build.sh", "echo hello > out.wasm");
    dev.wait_for("this is not WebAssembly");
    project.write("build.sh", "cp src/handler.wasm out.wasm");
    dev.wait_for("late");
    until("the app", || dev.get("/", "*/*").status() == 200);
}

#[test]
fn what_is_edited_during_a_build_is_built_again() {
    let project = Project::copied("busy", &answering("busy1"), "watch = [\"src\"]");
    // It has read its source already when it comes to the gate.
    project.write(
        "build.sh",
        "cp src/handler.wasm out.wasm; touch begun; while [ -e gate ]; do sleep 0.01; done",
    );
    let dev = Dev::start(&project, &[]);
    dev.wait_for("busy1");
    project.write("gate", "");
    std::fs::remove_file(project.path("begun")).unwrap();
    project.put("src/handler.wasm", &answering("busy2"));
    until("a build has begun", || project.path("begun").exists());
    project.put("src/handler.wasm", &answering("busy3"));
    std::fs::remove_file(project.path("gate")).unwrap();
    dev.wait_for("busy3");
}

#[test]
fn the_last_of_many_edits_during_builds_is_live() {
    let versions = ["many0", "many1", "many2", "many3"].map(answering);
    let project = Project::copied("many", &versions[0], "watch = [\"src\"]");
    // It has read its source already when it waits to be let go.
    project.write(
        "build.sh",
        "cp src/handler.wasm out.wasm; echo x >> begun; while [ ! -e go ]; do sleep 0.01; done; rm go",
    );
    let begun = |builds: usize| {
        let lines = || std::fs::read_to_string(project.path("begun")).unwrap_or_default().lines().count();
        until("a build has begun", || lines() == builds);
    };
    project.write("go", "");
    let dev = Dev::start(&project, &[]);
    dev.wait_for("many0");
    project.put("src/handler.wasm", &versions[1]);
    for (builds, version) in (2..).zip(&versions[2..]) {
        begun(builds);
        project.put("src/handler.wasm", version);
        project.write("go", "");
        until("it goes", || !project.path("go").exists());
    }
    begun(4);
    project.write("go", "");
    dev.wait_for("many3");
}

#[test]
fn a_build_that_writes_beside_its_sources_comes_to_rest() {
    let project = Project::copied("messy", &answering("messy1"), "");
    project.write("build.sh", "cp src/handler.wasm out.wasm; date +%s%N > stamp; echo x >> ../builds");
    let dev = Dev::start(&project, &[]);
    let builds = || project.read("../builds").lines().count();
    at_rest(builds);
    project.put("src/handler.wasm", &answering("messy2"));
    dev.wait_for("messy2");
    at_rest(builds);
    // It has learned what the build writes by itself; a hand that writes it is another matter.
    let before = builds();
    project.write("stamp", "by hand");
    until("another build", || builds() > before);
    at_rest(builds);
}

/// Waits until there are no more builds, and says how many there were.
fn at_rest(builds: impl Fn() -> usize) -> usize {
    let mut last = (builds(), Instant::now());
    until("builds come to rest", || {
        if builds() != last.0 {
            last = (builds(), Instant::now());
        }
        last.1.elapsed() > Duration::from_secs(1)
    });
    last.0
}

#[test]
fn what_guests_write_is_no_edit() {
    for flags in [&[][..], &["--poll"]] {
        let project = Project::copied("writes", &rust_component("files"), "");
        project.write("build.sh", "cp src/handler.wasm out.wasm; echo x >> ../builds");
        let mounts = "[{ host = \"data\", guest = \"/data\", write = true }]";
        project.edit("tidegate.toml", "routes = [\"/*\"]", &format!("routes = [\"/*\"]\nmounts = {mounts}"));
        // The folder by another name, too: what it is a link to is what counts.
        project.write("data/kept.txt", "kept");
        symlink("data", project.path("linked")).unwrap();
        let dev = Dev::start(&project, flags);
        dev.wait_for("no such action");
        let builds = || project.read("../builds").lines().count();
        let before = at_rest(builds);
        for n in 0..5 {
            let target = format!("/write?/data/{n}.txt");
            assert!(!dev.get(&target, "*/*").text().starts_with("error"), "{:?}", dev.get(&target, "*/*"));
            assert!(project.path(&format!("data/{n}.txt")).is_file());
        }
        assert_eq!(at_rest(builds), before, "{flags:?}\n{}", dev.err.tail(20));
        // What is beside it counts as ever.
        project.write("src/other.txt", "");
        until("another build", || builds() > before);
    }
}

#[test]
fn what_dev_says_is_no_edit() {
    let project = Project::copied("loud", &answering("loud1"), "");
    project.write("build.sh", "cp src/handler.wasm out.wasm; echo built >&2; echo x >> ../builds");
    let file = |name: &str| File::create(project.path(name)).unwrap();
    let (out, err) = (file("dev.out"), file("dev.err"));
    let mut command = project.command(&["dev", "--listen", "127.0.0.1:0"]);
    let child = command.stdout(out).stderr(err).spawn().unwrap();
    let (out, err) = (LineLog::collect(std::io::empty()), LineLog::collect(std::io::empty()));
    let mut dev = Dev { child, out, err, addr: Addr::Unix("nowhere".into()) };
    let address = poll_for(BUILD, || {
        let text = project.read("dev.out");
        let line = text.lines().find_map(|line| line.strip_prefix("listening on http://"));
        line.filter(|_| text.ends_with('\n')).map(|address| address.parse().unwrap())
    });
    dev.addr =
        Addr::Tcp(address.unwrap_or_else(|| panic!("it does not listen:\n{}", project.read("dev.err"))));
    dev.wait_for("loud1");
    let builds = || project.read("../builds").lines().count();
    assert_eq!(at_rest(builds), 1, "{}", project.read("dev.err"));
    for _ in 0..5 {
        // Each is a line of the access log.
        assert_eq!(dev.get("/", "*/*").text(), "loud1");
    }
    until("the access log has it", || project.read("dev.out").matches("\"GET /\" 200").count() >= 5);
    assert_eq!(at_rest(builds), 1, "{}", project.read("dev.err"));
    project.put("src/handler.wasm", &answering("loud2"));
    dev.wait_for("loud2");
    assert_eq!(at_rest(builds), 2, "{}", project.read("dev.err"));
}

#[test]
fn a_build_that_makes_the_same_is_not_loaded_anew() {
    let project = Project::copied("same", &answering("same1"), "");
    project.write("build.sh", "cp src/handler.wasm out.wasm; echo x >> ../builds");
    let dev = Dev::start(&project, &[]);
    dev.wait_for("same1");
    dev.wait_for_word("loaded same in ");
    let builds = || project.read("../builds").lines().count();
    let before = at_rest(builds);
    project.write("src/note.txt", "nothing of it shows");
    until("another build", || builds() > before);
    at_rest(builds);
    assert_eq!(dev.err.count(|line| line.contains("reloaded")), 0, "{}", dev.err.tail(9));
    // After a build that failed it is loaded again, though it is what it was.
    project.write("build.sh", "exit 4");
    dev.wait_for("same does not build");
    project.write("build.sh", "cp src/handler.wasm out.wasm");
    dev.wait_for("same1");
    dev.wait_for_word("reloaded same in ");
    project.edit("tidegate.toml", "routes = [\"/*\"]", "routes = [\"/below\"]");
    until("the new route", || dev.get("/", "*/*").status() == 404);
    until("it says so", || dev.err.count(|line| line.starts_with("reloaded same")) == 2);
}

#[test]
fn the_manifest_is_taken_up() {
    for flags in [&[][..], &["--poll"]] {
        let project = Project::copied("routed", &answering("routed"), "");
        let dev = Dev::start(&project, flags);
        assert_eq!(dev.get("/", "*/*").text(), "routed");
        project.edit("tidegate.toml", "routes = [\"/*\"]", "routes = [\"/below/*\"]");
        until("the new route", || dev.get("/", "*/*").status() == 404);
        assert_eq!(dev.get("/below/x", "*/*").text(), "routed");

        project.edit("tidegate.toml", "[[app]]", "[[app]]\nwieght = 2");
        dev.wait_for("unknown key `wieght`");
        until("the help", || dev.err.count(|line| line.contains("help: did you mean `weight`?")) > 0);
        project.edit("tidegate.toml", "wieght", "weight");
        until("the app again", || dev.get("/below/x", "*/*").text() == "routed");

        project.edit(
            "tidegate.toml",
            "[build]",
            "[server]\nlisten = [\"127.0.0.1:1\"]\nworkers = 1\n[build]",
        );
        dev.wait_for_word("note: `[server]` of tidegate.toml has changed; restart");
        assert_eq!(dev.get("/below/x", "*/*").text(), "routed");
    }
}

#[test]
fn a_signal_ends_it_and_what_it_runs() {
    for signal in [Signal::INT, Signal::TERM] {
        let project = Project::copied("ended", &answering("ended"), "watch = [\"src\"]");
        let dev_at_rest = {
            let mut dev = Dev::start(&project, &[]);
            dev.wait_for("ended");
            dev.signal(signal);
            dev.ended()
        };
        assert_eq!(dev_at_rest, Some(0), "{signal:?}");

        // While a build runs: the first one, and what it has started in turn.
        project.write("build.sh", "sleep 600 & echo $! > pid.new; mv pid.new pid; wait");
        let mut dev = Dev::spawn(&project, &[]);
        until("the build runs", || project.path("pid").exists());
        let pid = project.read("pid").trim().to_owned();
        let asked = Instant::now();
        dev.signal(signal);
        dev.ended();
        assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
        until("nothing of the build is left", || !runs(&pid));
    }
}

/// Whether a process runs; one that has ended and was not waited for by its new parent does not.
fn runs(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

#[test]
fn nobody_needs_to_read_what_it_says() {
    let project = Project::copied("unread", &answering("unread1"), "");
    let mut command = project.command(&["dev", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // As `2>&1 | head` does in the end.
    drop(child.stderr.take());
    let out = LineLog::collect(child.stdout.take().unwrap());
    let mut dev = Dev { child, out, err: LineLog::collect(std::io::empty()), addr: Addr::Unix("".into()) };
    let line = dev.out.wait_for(BUILD, |line| line.starts_with("listening on http://")).unwrap();
    dev.addr = Addr::Tcp(line.trim_start_matches("listening on http://").parse().unwrap());
    dev.wait_for("unread1");
    project.put("src/handler.wasm", &answering("unread2"));
    dev.wait_for("unread2");
    dev.signal(Signal::TERM);
    assert_eq!(dev.ended(), Some(0));
}

#[test]
fn a_terminal_that_is_closed_during_the_start_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("s"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut command = artifacts::tidegate();
    command.arg("serve").arg(answering("closed")).arg("--listen").arg(format!("unix:{}", socket.display()));
    // The start waits for somebody who reads it, and nobody does.
    command.arg("--access-log").arg(&pipe);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stderr.take());
    until("the address is claimed", || socket.exists());
    // As SIGHUP does, which is left alone where these tests run under `nohup`.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let status = poll_for(PATIENCE, || child.try_wait().unwrap());
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(status.and_then(|status| status.code()), Some(1));
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_is_built() {
    let project = Project::copied("taken", &answering("taken"), "");
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = holder.local_addr().unwrap().to_string();
    let said = project.run(&["dev", "--listen", &addr]).ends_with(1);
    said.complains(&format!("cannot listen on {addr}"))
        .complains("help: another server has it: give another address with `--listen`");
    assert!(!project.path("out.wasm").exists());
}
