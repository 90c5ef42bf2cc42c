//! The command line's verbs for a server that hosts apps, against the real server.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tidegate_tests::admin::{Admin, hosting_manifest, number_of, numbered};
use tidegate_tests::artifacts::{guest, wat_guest, wat_text};
use tidegate_tests::project::Said;
use tidegate_tests::wait::until;
use tidegate_tests::{Addr, Client, Project, Server};

const OPERATOR: &str = "operator-0123456789abcdef";
const TENANT: &str = "tenant-0123456789abcdef";

/// A server, and somebody at a command line.
struct Desk {
    server: Server,
    project: Project,
    state: TempDir,
}

impl Desk {
    fn new() -> Self {
        Self::with("")
    }

    /// More of the manifest's `[server]`, and sections behind it.
    fn with(more: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        let server = Server::builder().manifest(format!("{}{more}", hosting_manifest(state.path()))).start();
        Self { server, project: Project::empty("desk"), state }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = self.project.command(words);
        command.env("TIDEGATE_ADMIN", format!("unix:{}", self.state.path().join("admin.sock").display()));
        command.env_remove("TIDEGATE_TOKEN");
        command
    }

    fn run(&self, words: &[&str]) -> Said {
        self.command(words).output().expect("starting tidegate").into()
    }

    #[track_caller]
    fn json(&self, words: &[&str]) -> Value {
        let said = self.run(&[words, &["--json"]].concat()).ends_with(0);
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }

    /// A module that answers with a number.
    fn module(&self, number: u64) {
        fs::write(self.project.path("shop.wasm"), numbered(number)).unwrap();
    }

    fn serves(&self, path: &str) -> Option<u64> {
        number_of(&self.server.get("shop.test", path))
    }
}

#[test]
fn from_a_first_deploy_to_the_end_of_an_app() {
    let desk = Desk::new();
    assert_eq!(desk.json(&["apps"]), serde_json::json!([]));
    desk.module(1);
    let said = desk.run(&["deploy", "shop.wasm", "--note", "the first"]).ends_with(0).complains("  upload ");
    assert_eq!(said.out, "shop: version 1 serves\n");
    for step in ["validate", "compile", "switch"] {
        assert!(said.err.contains(&format!("  {step}")), "{}", said.err);
    }
    assert_eq!(desk.serves("/"), Some(1));
    // The module is not sent twice, and a deploy of what is there changes nothing.
    let said = desk.run(&["deploy", "shop.wasm"]).ends_with(0).complains("which the server has");
    assert!(said.out.starts_with("shop: nothing has changed") && !said.err.contains("upload"), "{said:?}");

    desk.module(2);
    let deployed = desk.json(&["deploy", "shop.wasm", "--env", "A=1", "--limit", "memory=16MiB"]);
    let second = deployed["version"].as_u64().unwrap();
    assert_eq!((&deployed["active"], &deployed["before"]), (&second.into(), &1.into()));
    assert_eq!(desk.serves("/"), Some(2));
    desk.run(&["deploy", "shop.wasm", "--env", "B=2"]).ends_with(0);
    let app = desk.json(&["apps", "shop"]);
    assert_eq!(app["settings"]["env"], serde_json::json!({ "A": "1", "B": "2" }), "flags add");
    assert_eq!(app["settings"]["limits"], serde_json::json!({ "memory": "16MiB" }));
    let shown = desk.run(&["apps", "shop"]).ends_with(0).out;
    assert!(shown.contains("env.A                    1\n"), "{shown}");

    desk.run(&["rollback", "shop", "1"]).ends_with(0);
    assert_eq!(desk.serves("/"), Some(1));
    let versions = desk.json(&["versions", "shop"]);
    let of = |number: u64| {
        versions.as_array().unwrap().iter().find(|row| row["version"] == number).unwrap().clone()
    };
    assert_eq!((&of(1)["state"], &of(1)["note"]), (&"active".into(), &"the first".into()));
    assert_eq!(of(second)["state"], "kept");
    let table = desk.run(&["versions", "shop"]).ends_with(0).out;
    assert!(table.starts_with("VERSION  STATE") && table.contains("the first"), "{table}");

    let shown = desk.run(&["limits", "shop", "memory=32MiB", "queue=7"]).ends_with(0).out;
    assert!(shown.starts_with("shop: version "), "{shown}");
    assert_eq!(desk.json(&["limits", "shop"]), serde_json::json!({ "memory": "32MiB", "queue": 7 }));
    // What nobody has set holds, too.
    let table = desk.run(&["limits", "shop"]).ends_with(0).out;
    for row in ["memory          32MiB      app", "wall            30s        default"] {
        assert!(table.contains(row), "{table}");
    }
    desk.run(&["limits", "shop", "memory=default"]).ends_with(0);
    assert_eq!(desk.json(&["limits", "shop"]), serde_json::json!({ "queue": 7 }));
    desk.run(&["limits", "shop", "memory=lots"]).ends_with(2).complains("memory");

    // What is exported is a manifest.
    desk.run(&["apps", "export", "-o", "export.toml"]).ends_with(0);
    desk.run(&["check", "export.toml"]).ends_with(0);
    let audit = desk.json(&["audit"]);
    let actions: Vec<_> = audit.as_array().unwrap().iter().filter_map(|row| row["action"].as_str()).collect();
    assert!(
        actions.contains(&"deploy") && actions.contains(&"rollback") && actions.contains(&"limits"),
        "{audit}"
    );
    assert!(desk.run(&["audit", "-n", "1"]).ends_with(0).out.lines().count() == 2);

    desk.run(&["apps", "remove", "shop"]).ends_with(0);
    assert_eq!(desk.server.get("shop.test", "/").status(), 404);
    desk.run(&["apps", "shop"]).ends_with(1).complains("there is no app `shop`");
    desk.run(&["reload"]).ends_with(0);
}

#[test]
fn a_manifest_may_leave_apps_and_the_admin_side_to_others() {
    let state = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}", state.path().join("admin.sock").display());
    let server = Server::builder()
        .manifest("[server]\nkeep = 3\n")
        .flag("--state")
        .flag(state.path().to_str().unwrap());
    let server = server.flag("--admin").flag(&socket).start();
    let desk = Desk { server, project: Project::empty("desk"), state };
    desk.module(7);
    desk.run(&["deploy", "shop.wasm"]).ends_with(0);
    let said = desk.run(&["reload"]).ends_with(0);
    assert!(said.out.starts_with("no app has a new version") && said.out.contains("restart"), "{}", said.out);
    assert_eq!(desk.serves("/"), Some(7));
}

#[test]
fn an_address_of_apps_is_not_taken_for_the_admin_side() {
    let desk = Desk::new();
    let apps = desk.server.addr().to_string();
    // First nobody answers there but the server itself, then an app.
    desk.run(&["apps", "--admin", &apps])
        .ends_with(1)
        .complains("is not the admin side")
        .complains("`admin on ADDR`");
    desk.module(1);
    desk.run(&["deploy", "shop.wasm"]).ends_with(0);
    desk.run(&["apps", "--admin", &apps]).ends_with(1).complains("is not the admin side");
    desk.run(&["versions", "shop", "--admin", &apps]).ends_with(1).complains("is not the admin side");
}

#[test]
fn a_canary_from_its_beginning_to_its_end() {
    let desk = Desk::new();
    desk.module(1);
    desk.run(&["deploy", "shop.wasm"]).ends_with(0);
    desk.run(&["canary", "shop", "5"]).ends_with(2).complains("has no canary");
    desk.module(2);
    let said = desk.run(&["deploy", "shop.wasm", "--canary-header", "x-try: yes"]).ends_with(0);
    assert!(said.out.contains("is the canary, others get version 1"), "{}", said.out);
    assert_eq!(desk.serves("/"), Some(1));
    let asked = |header: &str| {
        let mut client = desk.server.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: shop.test\r\n{header}\r\n")).unwrap();
        number_of(&client.response().unwrap())
    };
    assert_eq!(asked("X-Try: yes\r\n"), Some(2));
    let status = desk.json(&["canary", "shop"]);
    assert_eq!((&status["rule"]["header"], &status["requests"]), (&"x-try: yes".into(), &1.into()));
    desk.run(&["canary", "shop", "100"]).ends_with(0);
    assert_eq!(desk.serves("/"), Some(2));
    let said = desk.run(&["canary", "shop", "abort"]).ends_with(0);
    assert!(
        said.out.contains(" serves; its canary, version ") && said.out.ends_with(", is over\n"),
        "{}",
        said.out
    );
    assert_eq!((desk.serves("/"), asked("X-Try: yes\r\n")), (Some(1), Some(1)));
    assert_eq!(desk.json(&["canary", "shop"]), Value::Null);
    let version = status["version"].to_string();
    desk.run(&["canary", "shop", "0", "--version", &version, "--cookie", "try=1"]).ends_with(0);
    assert_eq!(asked("Cookie: try=1\r\n"), Some(2));
    desk.run(&["canary", "shop", "promote"]).ends_with(0);
    assert_eq!(desk.serves("/"), Some(2));
    desk.run(&["canary", "shop", "promote", "--cookie", "x"]).ends_with(2);
    // Nobody loses a canary without being told.
    desk.module(3);
    desk.run(&["deploy", "shop.wasm", "--canary=10%", "--requests-min=50"]).ends_with(0);
    let status = desk.json(&["canary", "shop"]);
    assert_eq!(
        (&status["rule"]["requests_min"], &status["rule"]["failure_percent"]),
        (&50.into(), &5.into())
    );
    let said = desk.run(&["limits", "shop", "queue=3"]).ends_with(0);
    let over = format!("; its canary, version {}, is over\n", status["version"]);
    assert!(said.out.ends_with(&over), "{}", said.out);
    let log = desk.run(&["logs", "shop"]).ends_with(0);
    assert!(log.out.contains("is a canary no more: another version serves"), "{}", log.out);
}

#[test]
fn manifests_and_folders_are_deployed() {
    let desk = Desk::new();
    desk.module(1);
    desk.project.put("other.wasm", &wat_guest("environment"));
    desk.project.write("secret.txt", "hush-hush\n");
    desk.project.write(
        "tidegate.toml",
        "[server]\nworkers = 3\n\n[[app]]\nname = \"shop\"\nsource = \"shop.wasm\"\nroutes = [\"shop.test/a\"]\nweight = 5\n\
         \n[[app]]\nname = \"other\"\nsource = \"other.wasm\"\nroutes = [\"other.test/*\"]\nsecrets = { KEY = \"file:secret.txt\" }\n",
    );
    let deployed = desk.json(&["deploy"]);
    assert_eq!(deployed.as_array().map(Vec::len), Some(2));
    desk.run(&["deploy", "--weight", "7"]).ends_with(2).complains("any of the 2 apps");
    desk.run(&["deploy", "--app", "shpo"]).ends_with(2).complains("did you mean `shop`?");
    assert_eq!(desk.serves("/a"), Some(1));
    // A path of the manifest's folder became one that the server finds, and what is in the file stays there.
    let text = desk.json(&["apps"]).to_string()
        + &desk.run(&["apps", "other"]).out
        + &desk.run(&["apps", "export"]).out;
    assert!(text.contains("/desk/secret.txt") && !text.contains("hush"), "{text}");
    // A manifest says all of it: what it no longer says is gone, where flags would only add.
    desk.project.edit("tidegate.toml", "weight = 5\n", "");
    desk.run(&["deploy", "tidegate.toml", "--app", "shop"]).ends_with(0).complains("note: `server`");
    assert!(desk.json(&["apps", "shop"])["settings"].get("weight").is_none());
    // What is wrong with it is told before anybody is asked.
    desk.project.edit("tidegate.toml", "routes", "rotues");
    desk.run(&["deploy", "--admin", "unix:nobody"]).ends_with(2).complains("did you mean `routes`?");

    let built = Project::copied("made", &wat_guest("environment"), "");
    let folder = built.path("");
    desk.run(&["deploy", folder.to_str().unwrap(), "--route", "made.test/*"]).ends_with(0);
    assert_eq!(desk.json(&["apps", "made"])["routes"], serde_json::json!(["made.test/*"]));
}

#[test]
fn what_goes_wrong_is_said_and_nothing_changes() {
    let desk = Desk::with("module_bytes = \"64KiB\"\n");
    desk.module(1);
    desk.run(&["deploy", "shop.wasm"]).ends_with(0);
    fs::write(desk.project.path("cut.wasm"), b"\0asm\x01\0\0\0\x01\x7f").unwrap();
    desk.run(&["deploy", "cut.wasm", "--app", "shop"]).ends_with(1).complains("error: ");
    let large = [numbered(2), vec![0; 1 << 20]].concat();
    fs::write(desk.project.path("large.wasm"), large).unwrap();
    desk.run(&["deploy", "large.wasm", "--app", "shop"]).ends_with(1).complains("larger than 65536 bytes");
    desk.run(&["deploy", "shop.wasm", "--limit", "memory=lots"]).ends_with(2).complains("--limit: memory");
    desk.run(&["deploy", "missing.wasm"]).ends_with(2).complains("cannot be read");
    desk.run(&["deploy", "shop.wasm", "--name", "two", "--route", "/*"]).ends_with(1).complains("/*");
    desk.run(&["deploy", "shop.wasm", "--target", "component"]).ends_with(2).complains("nothing is built");
    desk.run(&["rollback", "shop", "99"]).ends_with(1).complains("99");
    desk.run(&["rollback", "no such app"]).ends_with(2).complains("names nothing");
    desk.run(&["versions", "nothing"]).ends_with(1).complains("there is no app `nothing`");
    desk.run(&["ps", "cancel", "r-nobody"]).ends_with(1).complains("r-nobody");
    desk.run(&["apps", "--admin", "unix:/nowhere/x"])
        .ends_with(1)
        .complains("start one with `tidegate serve`");
    desk.run(&["apps", "--admin", "nowhere"]).ends_with(2).complains("is not the address of an admin side");
    assert_eq!(desk.serves("/"), Some(1));
    assert_eq!(desk.json(&["versions", "shop"]).as_array().map(Vec::len), Some(1));
}

#[test]
fn requests_are_listed_and_cancelled() {
    let desk = Desk::new();
    desk.run(&["deploy", guest("slow").to_str().unwrap()]).ends_with(0);
    let mut client = desk.server.client();
    client.send_get("slow.test", "/60000").unwrap();
    let mut rows = Value::Null;
    until("it is listed", || {
        rows = desk.json(&["ps"]);
        rows.as_array().is_some_and(|rows| !rows.is_empty())
    });
    assert_eq!((&rows[0]["app"], &rows[0]["request"]), (&"slow".into(), &"GET /60000".into()));
    let table = desk.run(&["ps", "slow"]).ends_with(0).out;
    assert!(table.starts_with("ID  ") && table.contains("GET /60000"), "{table}");
    desk.module(1);
    desk.run(&["deploy", "shop.wasm", "--route", "shop.test/*"]).ends_with(0);
    assert_eq!(desk.json(&["ps", "shop"]), serde_json::json!([]));
    // One that nobody has is not one at rest.
    desk.run(&["ps", "shopp"]).ends_with(1).complains("there is no app `shopp`");
    desk.run(&["ps", "cancel", rows[0]["id"].as_str().unwrap()]).ends_with(0);
    assert!(client.response().unwrap().status() >= 400);
}

/// What a schema of the description says of the keys of an object, and what there is.
#[track_caller]
fn fits(description: &Value, name: &str, value: &Value) {
    let schema = &description["components"]["schemas"][name];
    let keys: Vec<&str> =
        value.as_object().unwrap_or_else(|| panic!("{name}: {value}")).keys().map(String::as_str).collect();
    for required in schema["required"].as_array().unwrap() {
        assert!(keys.contains(&required.as_str().unwrap()), "{name}: {required} is not in {value}");
    }
    for key in keys {
        assert!(schema["properties"].get(key).is_some(), "{name}: `{key}` is not described");
    }
}

#[test]
fn what_the_server_says_is_what_it_describes() {
    let desk = Desk::new();
    desk.run(&["deploy", guest("slow").to_str().unwrap(), "--note", "n"]).ends_with(0);
    desk.run(&["deploy", guest("slow").to_str().unwrap(), "--env", "A=1", "--canary", "1"]).ends_with(0);
    let mut client = desk.server.client();
    client.send_get("slow.test", "/60000").unwrap();
    let admin = Admin::of(desk.state.path());
    let get = |path: &str| admin.ask("GET", path, &Value::Null).unwrap().unwrap();
    let description = get("/openapi.json");
    until("the request is listed", || get("/v1/requests").as_array().is_some_and(|all| !all.is_empty()));
    for (path, name) in [
        ("/v1/apps", "App"),
        ("/v1/apps/slow/versions", "Version"),
        ("/v1/requests", "Request"),
        ("/v1/audit", "AuditRecord"),
    ] {
        let all = get(path);
        assert!(!all.as_array().unwrap().is_empty(), "{path}");
        all.as_array().unwrap().iter().for_each(|value| fits(&description, name, value));
    }
    let app = get("/v1/apps/slow");
    fits(&description, "App", &app);
    fits(&description, "CanaryView", &app["canary"]);
    fits(&description, "CanaryRule", &app["canary"]["rule"]);
    fits(&description, "Server", &get("/v1/server"));
    fits(&description, "Status", &get("/health/ready"));
    let changed =
        admin.ask("PATCH", "/v1/apps/slow/limits", &serde_json::json!({ "queue": 5 })).unwrap().unwrap();
    fits(&description, "Deployed", &changed);
    let metrics = admin.send("GET", "/metrics", b"").unwrap();
    let described = &description["paths"]["/metrics"]["get"]["responses"]["200"]["content"];
    let media_type = metrics.header("content-type").unwrap().split(';').next().unwrap().to_owned();
    assert!(described.get(&media_type).is_some(), "{media_type}");
}

#[test]
fn logs_are_shown_and_followed_until_nobody_reads() {
    let desk = Desk::new();
    desk.run(&["deploy", guest("chatty").to_str().unwrap()]).ends_with(0);
    assert_eq!(desk.server.get("chatty.test", "/").status(), 200);
    until("the lines are there", || desk.run(&["logs", "chatty"]).ends_with(0).out.contains("info"));
    let lines = desk.run(&["logs", "chatty", "-n", "1", "--json"]).ends_with(0).out;
    assert!(lines.lines().count() == 1 && serde_json::from_str::<Value>(lines.trim()).is_ok(), "{lines}");

    let mut following = desk.command(&["logs", "chatty", "--follow", "-n", "0"]);
    let mut following = following.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(following.stdout.take().unwrap());
    // A request after it has begun to follow: until then it may be before that.
    let mut line = String::new();
    let asking = std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        scope.spawn(|| {
            let stopped = stopped;
            while stopped.recv_timeout(std::time::Duration::from_millis(50)).is_err() {
                assert_eq!(desk.server.get("chatty.test", "/").status(), 200);
            }
        });
        let read = out.read_line(&mut line);
        let _ = stop.send(());
        read
    });
    assert!(asking.unwrap() > 0 && !line.trim().is_empty());
    // Nobody reads on: the next line ends it, and it says nothing about it.
    drop(out);
    until("it ends", || {
        assert_eq!(desk.server.get("chatty.test", "/").status(), 200);
        following.try_wait().unwrap().is_some()
    });
    let mut err = String::new();
    following.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((following.wait().unwrap().code(), err.as_str()), (Some(0), ""));

    // A server that ends lets who follows go: with all that there was, or with word that there may be more.
    let mut following = desk.command(&["logs", "chatty", "-f"]);
    let mut following = following.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(following.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    desk.server.signal(Signal::TERM);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let mut err = String::new();
    following.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    match following.wait().unwrap().code() {
        Some(0) => assert_eq!(err, ""),
        code => assert!(code == Some(1) && err.contains("this server ends"), "{code:?}: {err}"),
    }
}

#[test]
fn over_tcp_it_takes_a_token_and_a_tenants_is_for_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let token = |name: &str, secret: &str| {
        let path = folder.path().join(name);
        fs::write(&path, secret).unwrap();
        path.display().to_string()
    };
    let (operator, tenant, wrong) =
        (token("ops", OPERATOR), token("acme", TENANT), token("wrong", "0123456789abcdef0"));
    let manifest = format!(
        "[server]\nstate = {:?}\nadmin = \"127.0.0.1:0\"\n\
         tokens = [{{ name = \"ops\", secret = \"file:{operator}\" }}, {{ name = \"ci\", secret = \"file:{tenant}\", tenant = \"acme\" }}]\n\
         [[tenant]]\nname = \"acme\"\nroutes = [\"acme.test/*\"]\n",
        folder.path().join("state")
    );
    let server = Server::builder().manifest(manifest).start();
    let line = server.stdout().wait_for(tidegate_tests::wait::PATIENCE, |line| line.contains("admin on "));
    let addr = line.unwrap().split_once("admin on ").unwrap().1.to_owned();
    let project = Project::empty("tcp");
    fs::write(project.path("shop.wasm"), numbered(1)).unwrap();
    let run = |token: &str, words: &[&str]| -> Said {
        let mut command = project.command(&[words, &["--admin", &addr]].concat());
        command.env_remove("TIDEGATE_TOKEN");
        if !token.is_empty() {
            command.args(["--token-file", token]);
        }
        command.output().unwrap().into()
    };
    run("", &["apps"]).ends_with(1).complains("has no token").complains("TIDEGATE_TOKEN");
    run(&wrong, &["apps"]).ends_with(1).complains("is not one of this server's");
    run(&wrong, &["deploy", "shop.wasm"]).ends_with(1).complains("is not one of this server's");
    run(&operator, &["deploy", "shop.wasm", "--route", "shop.test/*"]).ends_with(0);
    run(&tenant, &["deploy", "shop.wasm", "--name", "mine", "--route", "acme.test/*"]).ends_with(0);
    // Others' apps are not there for a tenant, nor is anything of the whole server.
    let apps: Value = serde_json::from_str(&run(&tenant, &["apps", "--json"]).ends_with(0).out).unwrap();
    assert_eq!((apps.as_array().map(Vec::len), &apps[0]["name"]), (Some(1), &"mine".into()));
    for words in
        [&["apps", "shop"][..], &["rollback", "shop"], &["limits", "shop", "queue=1"], &["logs", "shop"]]
    {
        run(&tenant, words).ends_with(1).complains("there is no app `shop`");
    }
    run(&tenant, &["deploy", "shop.wasm", "--name", "taken", "--route", "shop.test/x"]).ends_with(1);
    for words in [&["audit"][..], &["reload"], &["apps", "export"]] {
        run(&tenant, words).ends_with(1).complains("the token is a tenant's");
    }
    // What the operator gave and took away is not got back.
    run(&operator, &["deploy", "shop.wasm", "--name", "mine", "--kv"]).ends_with(0);
    run(&tenant, &["limits", "mine", "queue=5"]).ends_with(0);
    run(&tenant, &["rollback", "mine"]).ends_with(0);
    run(&operator, &["rollback", "mine", "1"]).ends_with(0);
    run(&tenant, &["rollback", "mine"]).ends_with(1).complains("version 2 has other `kv`");
    run(&operator, &["rollback", "mine"]).ends_with(0);
    let audit = run(&operator, &["audit"]).ends_with(0).out;
    assert!(
        audit.contains("token ci") && audit.contains("token ops") && audit.contains("127.0.0.1"),
        "{audit}"
    );
    for secret in [OPERATOR, TENANT] {
        assert!(!audit.contains(secret) && server.stderr().count(|line| line.contains(secret)) == 0);
    }
}

#[test]
fn following_ends_quietly_when_it_is_interrupted() {
    let desk = Desk::new();
    desk.run(&["deploy", guest("chatty").to_str().unwrap()]).ends_with(0);
    assert_eq!(desk.server.get("chatty.test", "/5").status(), 200);
    until("the lines are there", || !desk.run(&["logs", "chatty"]).ends_with(0).out.is_empty());
    let mut command = desk.command(&["logs", "chatty", "-f"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    // Ctrl-C is as plain an end; but what a shell runs in the background is born deaf to it.
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut rest = String::new();
    child.stderr.take().unwrap().read_to_string(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (None, ""), "the signal ended it");
}

#[test]
fn what_is_live_is_watched_until_it_is_interrupted() {
    let desk = Desk::new();
    desk.run(&["deploy", guest("slow").to_str().unwrap(), "--limit", "wall=120s"]).ends_with(0);
    let watch = |more: &[&str]| {
        let mut command = desk.command(&[&["ps", "slow", "--watch", "0.1"], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        (child, out.lines().map(Result::unwrap))
    };
    let (mut json, mut lines) = watch(&["--json"]);
    let rows = |line: String| serde_json::from_str::<Vec<Value>>(&line).unwrap();
    assert!(rows(lines.next().unwrap()).is_empty(), "a line a look");
    let mut client = desk.server.client();
    client.send_get("slow.test", "/100000").unwrap();
    let found = lines.by_ref().map(rows).find(|rows| !rows.is_empty()).unwrap();
    assert_eq!((found.len(), &found[0]["app"]), (1, &"slow".into()));
    let (mut text, mut lines) = watch(&[]);
    let block: Vec<_> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(block[0].ends_with(", 1 live") && block[1].starts_with("ID"), "{block:?}");
    assert!(block.len() == 3 && block[2].contains("GET /100000"), "{block:?}");
    assert!(!block.concat().contains('\x1b'), "no terminal, nothing to steer");
    drop(client);
    assert!(lines.any(|line| line.ends_with(", 0 live")));
    // Ctrl-C is as plain an end; but what a shell runs in the background is born deaf to it.
    kill_process(Pid::from_child(&text), Signal::TERM).unwrap();
    assert_eq!(text.wait().unwrap().code(), None, "the signal ended it");
    // A server that is gone ends it, too.
    desk.server.signal(Signal::KILL);
    assert_eq!(json.wait().unwrap().code(), Some(1));
    let mut told = String::new();
    json.stderr.take().unwrap().read_to_string(&mut told).unwrap();
    assert!(told.starts_with("error: "), "{told}");
    desk.run(&["ps", "--watch", "slow"]).ends_with(2).complains("an app's name goes before the flag");
}

#[test]
fn a_compilation_that_takes_long_is_told_of_while_it_does() {
    let desk = Desk::new();
    // A single function, so that cores do not help: far longer than this test.
    let step = "local.get 0 local.get 1 i32.mul local.get 2 i32.xor local.tee 0 local.get 1 i32.rotl local.set 2\n\
                local.get 2 if local.get 0 local.set 1 else local.get 2 local.set 0 end\n";
    let text = format!(
        "(module (memory (export \"memory\") 1) (func (param i32 i32 i32)\n{})\n\
         (func (export \"tidegate_handle\") (result i32) i32.const 0))",
        step.repeat(120_000)
    );
    let wasm = fs::read(wat_text("admin_endless", &text)).unwrap();
    let admin = Admin::of(desk.state.path());
    let module = admin.upload(&wasm).unwrap().unwrap();
    let body = serde_json::json!({ "module": module }).to_string();
    let socket = Addr::Unix(desk.state.path().join("admin.sock"));
    let mut client = Client::connect(&socket).unwrap();
    let head = "POST /v1/apps/shop/versions HTTP/1.1\r\nHost: admin\r\n";
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())).unwrap();
    let head = client.head().unwrap();
    assert_eq!(head.status, 200);
    let (mut body, mut told) = (client.body(&head).unwrap(), Vec::new());
    // Validating it takes a while, too.
    let lines = |told: &[u8]| -> Vec<Value> {
        let whole = told.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
        whole.map(|line| serde_json::from_slice(line).unwrap()).collect()
    };
    while lines(&told).iter().filter(|line| line["seconds"].is_u64()).count() < 2 {
        assert!(client.read_body(&mut body, &mut told, 4096).unwrap() > 0, "{:?}", lines(&told));
    }
    let lines = lines(&told);
    let steps: Vec<_> = lines.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(steps[..4], ["validate", "compile", "compile", "compile"]);
    assert!(lines[..2].iter().all(|line| line.get("seconds").is_none()), "{lines:?}");
    let seconds = |at: usize| lines[at]["seconds"].as_u64().unwrap();
    assert!(1 <= seconds(2) && seconds(2) < seconds(3), "{lines:?}");
}

#[test]
fn two_servers_do_not_share_an_admin_socket() {
    let desk = Desk::new();
    let socket = desk.state.path().join("admin.sock");
    let other = tempfile::tempdir().unwrap();
    let manifest = format!("[server]\nstate = {:?}\nadmin = \"unix:{}\"\n", other.path(), socket.display());
    let (status, told) = Server::builder().manifest(manifest).start_refused();
    assert!(!status.success() && told.contains("another server has the admin address"), "{told}");
    assert!(Path::new(&socket).exists());
    desk.run(&["apps"]).ends_with(0);
}
