//! Log files of apps: who has one, what is in it, and who reads it.

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tidegate_tests::admin::{Admin, hosting_manifest, mounted};
use tidegate_tests::check::{problem, success};
use tidegate_tests::http::Response;
use tidegate_tests::logs::LineLog;
use tidegate_tests::wait::{PATIENCE, poll_for, until};
use tidegate_tests::{Addr, App, Client, Server, artifacts};

/// The lines of a file that there may not be yet.
fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The line that is so, waited for.
#[track_caller]
fn line(path: &Path, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let found = poll_for(PATIENCE, || lines(path).into_iter().find(&is_so));
    found.unwrap_or_else(|| panic!("no {what} in {}: {:#?}", path.display(), lines(path)))
}

fn texts(response: &Response) -> Vec<String> {
    let text = response.text();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object a line"));
    lines.map(|line| line["text"].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn an_app_has_what_its_guests_say_and_how_they_fail_and_nobody_elses() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .manifest(hosting_manifest(state.path()))
        .app(App::guest("chatty"))
        .app(App::guest("trap"))
        .app(App::guest("hello"))
        .option("--log-format", "json")
        .start();
    let logs = state.path().join("logs");
    success(&server.get("chatty.test", "/"));
    let id = problem(&server.get("trap.test", "/"), 500, "guest-trap");
    success(&server.get("hello.test", "/"));

    let failed =
        line(&logs.join("trap.log"), "failure", |line| line["request"] == *id && !line["error"].is_null());
    assert_eq!((&failed["error"], &failed["status"]), (&"guest-trap".into(), &500.into()), "{failed}");
    assert_eq!((&failed["level"], &failed["version"]), (&"warn".into(), &1.into()), "{failed}");
    let said = line(&logs.join("chatty.log"), "line of the guest", |line| !line["request"].is_null());
    assert!(said["at"].is_string() && said["level"].is_string() && said["version"] == 1, "{said}");
    // The server's own log has both, as ever.
    let own = said["text"].as_str().unwrap();
    assert!(server.wait_for_log(|line| line.contains("\"app\":\"chatty\"") && line.contains(own)).is_some());
    assert!(server.wait_for_log(|line| line.contains("request failed") && line.contains(&id)).is_some());
    assert!(lines(&logs.join("trap.log")).iter().all(|line| line["text"] != own));

    let admin = Admin::of(state.path());
    let response = admin.send("GET", "/v1/apps/trap/logs?lines=100", b"").unwrap();
    assert_eq!(response.status(), 200, "{response:?}");
    assert!(response.text().contains(&id) && !response.text().contains(own), "{}", response.text());
}

/// The lines that come while somebody follows, and none twice.
#[test]
fn a_follower_sees_what_comes_and_a_new_app_of_the_name_shows_nothing_of_the_old() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder().manifest(hosting_manifest(state.path())).app(App::guest("hello")).start();
    let admin = Admin::of(state.path());
    let wasm = fs::read(artifacts::guest("trap")).unwrap();
    let settings = json!({ "routes": ["a.test/*"] });
    admin.deploy("a", &wasm, &settings).unwrap().unwrap();
    let before = problem(&server.get("a.test", "/"), 500, "guest-trap");
    line(&state.path().join("logs/a.log"), "failure", |line| line["request"] == *before);

    let socket = Addr::Unix(state.path().join("admin.sock"));
    let mut follower = Client::connect(&socket).unwrap();
    follower.send_get("admin", "/v1/apps/a/logs?lines=100&follow=true").unwrap();
    let head = follower.head().unwrap();
    assert_eq!(head.status, 200);
    let (mut body, mut bytes) = (follower.body(&head).unwrap(), Vec::new());
    let mut seen = |what: &str| {
        while !String::from_utf8_lossy(&bytes).contains(what) {
            let read = follower.read_body(&mut body, &mut bytes, 1 << 20).unwrap();
            assert!(read > 0, "it ended without {what}: {}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    seen(&before);
    let after = problem(&server.get("a.test", "/"), 500, "guest-trap");
    let all = seen(&after);
    let failures =
        |id: &str| all.lines().filter(|line| line.contains(id) && line.contains("\"error\"")).count();
    assert_eq!((failures(&before), failures(&after)), (1, 1), "{all}");

    // The app goes, and its log with it; whoever followed it is at the end.
    admin.ask("DELETE", "/v1/apps/a", &Value::Null).unwrap().unwrap();
    while follower.read_body(&mut body, &mut bytes, 1 << 20).unwrap() > 0 {}
    until("the file is gone", || !state.path().join("logs/a.log").exists());
    admin.deploy("a", &fs::read(artifacts::guest("hello")).unwrap(), &settings).unwrap().unwrap();
    success(&server.get("a.test", "/"));
    let response = admin.send("GET", "/v1/apps/a/logs?lines=100", b"").unwrap();
    assert!(!response.text().contains(&before) && !response.text().contains(&after), "{}", response.text());
}

#[test]
fn files_are_put_aside_by_size_and_opened_anew_on_a_signal() {
    let state = tempfile::tempdir().unwrap();
    let manifest = hosting_manifest(state.path())
        + "app_logs = \"applogs\"\napp_log_bytes = \"64KiB\"\napp_log_files = 2\n";
    let mut server = Server::builder()
        .manifest(manifest)
        .app(App::guest("chatty").limit("log_rate", "10MiB/s"))
        .app(App::guest("trap"))
        .start();
    let logs = server.folder().join("applogs");
    until("there are as many as may be", || {
        success(&server.get("chatty.test", "/1000"));
        logs.join("chatty.log.2").exists()
    });
    success(&server.get("chatty.test", "/1000"));
    assert!(!logs.join("chatty.log.3").exists());
    for name in ["chatty.log", "chatty.log.1", "chatty.log.2"] {
        let length = fs::metadata(logs.join(name)).map_or(0, |file| file.len());
        assert!(length <= 64 << 10, "{name} has {length} bytes");
        lines(&logs.join(name));
    }

    let first = problem(&server.get("trap.test", "/"), 500, "guest-trap");
    line(&logs.join("trap.log"), "failure", |line| line["request"] == *first);
    fs::rename(logs.join("trap.log"), logs.join("moved")).unwrap();
    let pid = Pid::from_raw(server.pid().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    until("it is opened anew", || {
        problem(&server.get("trap.test", "/"), 500, "guest-trap");
        logs.join("trap.log").exists()
    });
    assert!(lines(&logs.join("moved")).iter().any(|line| line["request"] == *first));
    server.signal(Signal::TERM);
    assert!(server.wait_exit(PATIENCE).success());
}

#[test]
fn without_hosting_there_are_files_only_if_they_are_asked_for() {
    let server = Server::builder().app(App::guest("trap")).start();
    problem(&server.get("trap.test", "/"), 500, "guest-trap");
    assert_eq!(fs::read_dir(server.folder()).unwrap().count(), 1, "the manifest");
    let server =
        Server::builder().manifest("[server]\napp_logs = \"logs\"\n").app(App::guest("trap")).start();
    let id = problem(&server.get("trap.test", "/"), 500, "guest-trap");
    let failed = line(&server.folder().join("logs/trap.log"), "failure", |line| line["request"] == *id);
    assert_eq!(failed["version"], Value::Null, "versions are not numbered there: {failed}");
}

#[test]
fn guests_can_be_left_out_of_the_servers_own_log() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .manifest(hosting_manifest(state.path()))
        .app(App::guest("chatty"))
        .env("TIDEGATE_LOG", "info,guest=off")
        .start();
    success(&server.get("chatty.test", "/"));
    let said = line(&state.path().join("logs/chatty.log"), "line", |line| !line["request"].is_null());
    let text = said["text"].as_str().unwrap();
    assert_eq!(server.stderr().count(|line| line.contains(text)), 0);
    let response = Admin::of(state.path()).send("GET", "/v1/apps/chatty/logs?lines=1", b"").unwrap();
    assert_eq!(texts(&response).len(), 1);
}

/// Follows the number of lines that a file does not have.
const MISSING: &str = " lines are missing here: they could not be written";

/// A disk that is full costs lines and nothing else; once there is room the file tells how many.
#[test]
fn a_full_disk_costs_lines_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let (logs, manifest) = (folder.path().join("logs"), folder.path().join("tidegate.toml"));
    fs::create_dir(&logs).unwrap();
    let app = |name: &str, source: &Path| {
        format!(
            "[[app]]\nname = {name:?}\nsource = {source:?}\nroutes = [\"{name}.test/*\"]\nlimits = {{ log_rate = \"10MiB/s\" }}\n"
        )
    };
    let text = format!(
        "[server]\napp_logs = {logs:?}\n{}{}",
        app("chatty", &artifacts::guest("chatty")),
        app("hello", &artifacts::guest("hello"))
    );
    fs::write(&manifest, text).unwrap();
    let socket = format!("unix:{}", folder.path().join("s").display());
    let words = ["serve", manifest.to_str().unwrap(), "--listen", &socket];
    let mount = "mount -t tmpfs -o size=256k,mode=700 none \"$1\"";
    let Some(mut command) = mounted(mount, &logs, &words) else {
        eprintln!("SKIPPED: no namespaces of users and mounts here");
        return;
    };
    let mut child = Ended(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let log = LineLog::collect(child.0.stderr.take().unwrap());
    let addr = Addr::Unix(folder.path().join("s"));
    let get = |host: &str, path: &str| Client::connect(&addr).and_then(|mut client| client.get(host, path));
    until("it listens", || get("hello.test", "/").is_ok());
    let disk = format!("/proc/{}/root{}", child.0.id(), logs.display());
    let file = Path::new(&disk).join("chatty.log");

    // Some 500 KiB of lines.
    success(&get("chatty.test", "/4000").unwrap());
    let told = log.wait_for(PATIENCE, |line| line.contains("can not be written"));
    let told = told.expect("the server's log knows");
    assert!(told.contains("app=\"chatty\"") && told.contains("No space left"), "{told}");
    for _ in 0..20 {
        success(&get("hello.test", "/").unwrap());
        success(&get("chatty.test", "/10").unwrap());
    }
    assert_eq!(log.count(|line| line.contains("can not be written")), 1);
    // A disk that is all but full may take the count of what it has refused.
    let missing = |lines: &[Value]| -> usize {
        let counts = lines
            .iter()
            .filter_map(|line| line["text"].as_str()?.strip_suffix(MISSING)?.parse::<usize>().ok());
        counts.sum()
    };
    let before = lines(&file);
    assert!((500..4000).contains(&before.len()), "{} lines, all of them whole", before.len());

    fs::remove_file(&file).unwrap();
    until("it is written again", || {
        success(&get("chatty.test", "/1").unwrap());
        missing(&lines(&file)) > 0
    });
    let counted = missing(&before) + missing(&lines(&file));
    assert!(before.len() + counted >= 4200, "{} and {counted}", before.len());
    until("the server's log knows that, too", || {
        success(&get("chatty.test", "/1").unwrap());
        log.count(|line| line.contains("written again")) == 1
    });
}

/// Killed when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
