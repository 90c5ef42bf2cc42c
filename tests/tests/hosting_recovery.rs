//! A server that hosts apps, when something an app needs is gone: the others are served, nothing of the app is lost, and
//! what is put right is served again.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate_tests::Server;
use tidegate_tests::admin::{Admin, hosting_manifest, number_of, numbered};
use tidegate_tests::artifacts;
use tidegate_tests::check::logged_problem;
use tidegate_tests::wait::{PATIENCE, until};

fn start(path: &Path) -> Server {
    Server::builder().module(path).start()
}

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert!(server.wait_exit(PATIENCE).success());
}

fn serves(server: &Server, app: &str) -> Option<u64> {
    number_of(&server.get(&format!("{app}.test"), "/"))
}

/// A manifest in a folder of its own, beside the state folder.
struct Place {
    folder: tempfile::TempDir,
    server: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        fs::create_dir(&state).unwrap();
        let place =
            Self { server: format!("{}listen = [\"127.0.0.1:0\"]\n", hosting_manifest(&state)), folder };
        place.write("");
        place
    }

    fn write(&self, sections: &str) {
        fs::write(self.manifest(), format!("{}\n{sections}", self.server)).unwrap();
    }

    fn manifest(&self) -> std::path::PathBuf {
        self.folder.path().join("tidegate.toml")
    }

    fn admin(&self) -> Admin {
        Admin::of(&self.folder.path().join("state"))
    }
}

#[test]
fn an_app_whose_secret_is_gone_keeps_its_settings_and_its_routes() {
    let place = Place::new();
    let secret = place.folder.path().join("secret");
    fs::write(&secret, "x").unwrap();
    let settings = json!({
        "routes": ["a.test/*"],
        "limits": { "concurrency": 7 },
        "secrets": { "PW": format!("file:{}", secret.display()) },
    });
    let server = start(&place.manifest());
    let admin = place.admin();
    admin.deploy("a", &numbered(1), &settings).unwrap().unwrap();
    admin.deploy("b", &numbered(2), &json!({ "routes": ["b.test/*"] })).unwrap().unwrap();
    admin.deploy("rest", &numbered(9), &json!({ "routes": ["/*"] })).unwrap().unwrap();
    stop(server);

    fs::remove_file(&secret).unwrap();
    let server = start(&place.manifest());
    assert_eq!((serves(&server, "b"), serves(&server, "c")), (Some(2), Some(9)));
    // Whoever has the rest does not answer for it.
    lacks(&server, &admin, "a", "PW");
    let told = |line: &str| line.contains("the app can not be served") && line.contains("app=\"a\"");
    assert!(server.wait_for_log(told).is_some(), "{}", server.stderr().tail(20));
    let app = admin.app("a").unwrap().unwrap();
    assert_eq!((&app["settings"], &app["routes"]), (&settings, &json!(["a.test/*"])));
    let export = String::from_utf8(admin.send("GET", "/v1/export", b"").unwrap().body).unwrap();
    assert!(export.contains("concurrency = 7"), "{export}");
    // Its routes are not free: with the secret back there would be two who have them.
    let thief = admin.deploy("thief", &numbered(3), &json!({ "routes": ["a.test/*"] })).unwrap().unwrap_err();
    assert_eq!(thief.kind, "conflict");
    assert!(thief.message.contains("`thief` and `a`"), "{thief:?}");
    // What is left out of a deploy is as it was, and so this one lacks the same.
    let same = admin.deploy("a", &numbered(4), &json!({})).unwrap().unwrap_err();
    assert!(same.message.contains("PW"), "{same:?}");

    fs::write(&secret, "y").unwrap();
    let done = admin.ask("POST", "/v1/reload", &Value::Null).unwrap().unwrap();
    assert_eq!((&done[0]["app"], &done[0]["version"]), (&json!("a"), &json!(1)), "{done}");
    assert_eq!(serves(&server, "a"), Some(1));
    let app = admin.app("a").unwrap().unwrap();
    assert!(app.get("problem").is_none() && unserved(&admin) == 0, "{app}");
    stop(server);
    let server = start(&place.manifest());
    assert_eq!((serves(&server, "a"), serves(&server, "b")), (Some(1), Some(2)));
}

/// How many apps are to be served and can not be, as the metrics have it.
fn unserved(admin: &Admin) -> u64 {
    let text = String::from_utf8(admin.send("GET", "/metrics", b"").unwrap().body).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("tidegate_apps_unserved "));
    line.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// The app answers that it can not be served, and whoever runs the server is told why.
fn lacks(server: &Server, admin: &Admin, app: &str, what: &str) {
    let answer = server.get(&format!("{app}.test"), "/");
    logged_problem(server, &answer, 503, "app-unavailable");
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert!(!answer.text().contains(what), "it is no client's business: {answer:?}");
    let shown = admin.app(app).unwrap().unwrap();
    assert!(shown["problem"].as_str().is_some_and(|problem| problem.contains(what)), "{shown}");
    assert_eq!((&shown["active"], unserved(admin)), (&Value::Null, 1));
    assert_eq!(admin.send("GET", "/health/ready", b"").unwrap().status(), 200, "others are served");
}

#[test]
fn an_app_whose_folder_is_gone_is_mended_by_a_deploy() {
    let place = Place::new();
    let folder = place.folder.path().join("public");
    fs::create_dir(&folder).unwrap();
    let mounts = json!([{ "host": folder, "guest": "/public" }]);
    let server = start(&place.manifest());
    let admin = place.admin();
    let settings = json!({ "routes": ["a.test/*"], "mounts": mounts });
    // Folders are for components.
    let component = fs::read(artifacts::component_guest("hello")).unwrap();
    admin.deploy("a", &component, &settings).unwrap().unwrap();
    stop(server);
    fs::remove_dir(&folder).unwrap();
    let server = start(&place.manifest());
    lacks(&server, &admin, "a", "public");
    let words =
        ["apps", "--admin", &format!("unix:{}", place.folder.path().join("state/admin.sock").display())];
    let shown = artifacts::tidegate().args(words).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.lines().any(|line| line.starts_with("a: it can not be served: ")), "{shown}");
    // Tried again it lacks the same; without the folder it does not need it.
    let again = admin.ask("POST", "/v1/reload", &Value::Null).unwrap().unwrap();
    assert_eq!(again, json!([]));
    lacks(&server, &admin, "a", "public");
    admin.deploy("a", &numbered(2), &json!({ "mounts": [] })).unwrap().unwrap();
    assert_eq!((serves(&server, "a"), unserved(&admin)), (Some(2), 0));
}

#[test]
fn a_reload_that_is_refused_changes_no_tenant() {
    let place = Place::new();
    let tenant = |route: &str| format!("[[tenant]]\nname = \"acme\"\nroutes = [\"{route}\"]\n");
    place.write(&tenant("a.test/*"));
    fs::write(place.folder.path().join("b.wasm"), numbered(1)).unwrap();
    let server = start(&place.manifest());
    let admin = place.admin();
    let at = |route: &str| json!({ "tenant": "acme", "routes": [route] });
    admin.deploy("a", &numbered(1), &at("a.test/*")).unwrap().unwrap();

    let lacking = "[[app]]\nname = \"b\"\nsource = \"b.wasm\"\nroutes = [\"b.test/*\"]\nsecrets = { X = \"file:nope\" }\n";
    place.write(&format!("{}{lacking}", tenant("c.test/*")));
    let refused = admin.ask("POST", "/v1/reload", &Value::Null).unwrap().unwrap_err();
    assert!(refused.message.contains("app `b`: ") && refused.message.contains("nope"), "{refused:?}");
    admin.deploy("a", &numbered(2), &at("a.test/x")).unwrap().unwrap();
    let off = admin.deploy("a", &numbered(3), &at("c.test/*")).unwrap().unwrap_err();
    assert_eq!(off.kind, "conflict", "{off:?}");

    // What is wrong in the file is told by its place, and with nothing before it.
    place.write("[[app]]\nname = \"b\"\nsource = \"b.wasm\"\nroutes = [\"b.test/*\"]\nweight = \"x\"\n");
    let refused = admin.ask("POST", "/v1/reload", &Value::Null).unwrap().unwrap_err();
    assert!(refused.message.starts_with(place.manifest().to_str().unwrap()), "{refused:?}");
    let before = server.stderr().lines().len();
    server.signal(Signal::HUP);
    let told = |line: &String| line.contains("reload: ") && line.contains("a number is expected");
    until("the log says it", || server.stderr().lines().iter().skip(before).any(told));
}

#[test]
fn an_upload_that_takes_hours_holds_up_no_upgrade() {
    let place = Place::new();
    let mut server = start(&place.manifest());
    let admin = place.admin();
    admin.deploy("a", &numbered(1), &json!({ "routes": ["a.test/*"] })).unwrap().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let mut socket = UnixStream::connect(place.folder.path().join("state/admin.sock")).unwrap();
        socket
            .write_all(b"PUT /v1/modules HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000000\r\n\r\n")
            .unwrap();
        let mut other = socket.try_clone().unwrap();
        let over = &over;
        scope.spawn(move || {
            // Just above what a body has to bring in a second.
            while !over.load(Ordering::Acquire) && other.write_all(&[0; 1000]).is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        let aside = || {
            let files = fs::read_dir(place.folder.path().join("state/wasm")).unwrap();
            files.flatten().any(|file| file.file_name().to_string_lossy().starts_with(".aside"))
        };
        until("it is being taken in", aside);
        server.signal(Signal::USR2);
        let told = server
            .wait_for_log(|line| line.contains("upgraded: ") || line.contains("the upgrade has failed"));
        over.store(true, Ordering::Release);
        assert!(told.is_some_and(|line| line.contains("upgraded: ")), "{}", server.stderr().tail(20));
        let mut answer = String::new();
        // It may be cut off, and is never taken.
        let _ = socket.read_to_string(&mut answer);
        assert!(!answer.contains(" 201 "), "{answer}");
    });
    assert!(server.wait_exit(PATIENCE).success());
    admin.deploy("a", &numbered(2), &json!({})).unwrap().unwrap();
    let end = admin.ask("GET", "/v1/server", &Value::Null).unwrap().unwrap();
    let pid = end["pid"].as_u64().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.and_then(rustix::process::Pid::from_raw).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
}

/// A deploy as people do it.
fn deploy(place: &Place, words: &[&str]) -> String {
    let socket = format!("unix:{}", place.folder.path().join("state/admin.sock").display());
    let done =
        artifacts::tidegate().arg("deploy").args(words).env("TIDEGATE_ADMIN", socket).output().unwrap();
    let said = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    assert!(done.status.success(), "{said}");
    said
}

#[test]
fn a_module_that_is_damaged_is_put_right_by_deploying_it_again() {
    let place = Place::new();
    let module = place.folder.path().join("a.wasm");
    fs::write(&module, numbered(1)).unwrap();
    let words = [module.to_str().unwrap(), "--route", "a.test/*"];
    let server = start(&place.manifest());
    let hash = place.admin().upload(&numbered(1)).unwrap().unwrap();
    assert!(deploy(&place, &words).contains("which the server has"));
    stop(server);
    let state = place.folder.path().join("state");
    let file = state.join("wasm").join(&hash);
    fs::write(&file, numbered(2)).unwrap();
    fs::remove_dir_all(state.join("modules")).unwrap();
    let server = start(&place.manifest());
    assert_eq!(server.get("a.test", "/").status(), 503);
    assert!(!deploy(&place, &words).contains("which the server has"));
    assert_eq!(fs::read(&file).unwrap(), numbered(1));
    until("it is served again", || serves(&server, "a") == Some(1));
}

#[test]
fn a_program_that_runs_by_itself_is_deployed_as_anything_else() {
    let place = Place::new();
    let server = start(&place.manifest());
    let admin = place.admin();
    let guest = artifacts::component_guest("tcp_server");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let module = guest.to_str().unwrap();
    let listen = format!("LISTEN={free}");
    let words = [module, "--name", "one", "--allow-listen", &free, "--env", &listen];
    deploy(&place, &words);
    // Nobody has said anything of routes, and it needs none: somebody else may have all of them.
    let app = admin.app("one").unwrap().unwrap();
    assert!(app["settings"].get("routes").is_none() && app["routes"] == json!([]), "{app}");
    admin.deploy("rest", &numbered(1), &json!({})).unwrap().unwrap();
    let runs = || std::net::TcpStream::connect(&free).is_ok();
    until("it listens", runs);
    // A variable more, and back.
    deploy(&place, &[module, "--name", "one", "--env", "A=1"]);
    until("the next one listens", runs);
    admin.rollback("one").unwrap().unwrap();
    until("it listens again", runs);
    admin.ask("DELETE", "/v1/apps/one", &Value::Null).unwrap().unwrap();
    until("nobody listens", || !runs());

    // The same out of a manifest.
    let manifest = place.folder.path().join("apps.toml");
    let text = format!(
        "[[app]]\nname = \"two\"\nsource = {module:?}\nenv = {{ LISTEN = {free:?} }}\nsockets = {{ listen = [{free:?}] }}\n"
    );
    fs::write(&manifest, text).unwrap();
    deploy(&place, &[manifest.to_str().unwrap()]);
    until("it listens, too", runs);
    stop(server);
}
