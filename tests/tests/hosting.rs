//! A server that hosts apps, over its admin side: deploy, roll back, canaries, the manifest beside the store.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate_tests::admin::{Admin, Answer, hosting, hosting_manifest, number_of, numbered};
use tidegate_tests::artifacts;
use tidegate_tests::wait::{PATIENCE, poll_for};
use tidegate_tests::{Client, Server};

struct Host {
    server: Server,
    admin: Admin,
    state: TempDir,
}

fn host() -> Host {
    host_with("", "")
}

/// More keys of `[server]`, and more sections.
fn host_with(server: &str, sections: &str) -> Host {
    let state = tempfile::tempdir().unwrap();
    let manifest = format!("{}{server}\n{sections}", hosting_manifest(state.path()));
    let server = Server::builder().manifest(manifest).start();
    Host { server, admin: Admin::of(state.path()), state }
}

impl Host {
    fn deploy(&self, app: &str, number: u64, settings: &Value) -> Answer<Value> {
        self.admin.deploy(app, &numbered(number), settings).unwrap()
    }

    fn serves(&self, app: &str) -> Option<u64> {
        number_of(&self.server.get(&format!("{app}.test"), "/"))
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer<Value> {
        self.admin.ask(method, path, body).unwrap()
    }

    fn restart(mut self) -> Self {
        self.server.signal(Signal::TERM);
        assert!(self.server.wait_exit(PATIENCE).success());
        let server = hosting(self.state.path()).start();
        Self { server, ..self }
    }
}

fn at(app: &str) -> Value {
    json!({ "routes": [format!("{app}.test/*")] })
}

fn kind<T: std::fmt::Debug>(answer: Answer<T>) -> String {
    answer.unwrap_err().kind
}

#[test]
fn deploys_rollbacks_and_what_is_kept() {
    let host = host_with("keep = 3", "");
    for number in 1..=5 {
        let done = host.deploy("a", number, &at("a")).unwrap();
        assert_eq!((&done["version"], &done["active"]), (&json!(number), &json!(number)));
        assert_eq!(host.serves("a"), Some(number));
    }
    let versions = |host: &Host| -> Vec<u64> {
        let list = host.ask("GET", "/v1/apps/a/versions", &Value::Null).unwrap();
        list.as_array().unwrap().iter().map(|version| version["version"].as_u64().unwrap()).collect()
    };
    assert_eq!(versions(&host), [5, 4, 3]);
    assert_eq!(host.admin.rollback("a").unwrap().unwrap()["active"], 4);
    assert_eq!(host.serves("a"), Some(4));
    // Again: to where it was before.
    assert_eq!(host.admin.rollback("a").unwrap().unwrap()["active"], 5);
    let back = host.ask("POST", "/v1/apps/a/rollback", &json!({ "version": 3 })).unwrap();
    assert_eq!((&back["active"], &back["before"]), (&json!(3), &json!(5)));
    assert_eq!(kind(host.ask("POST", "/v1/apps/a/rollback", &json!({ "version": 1 }))), "not-found");
    assert_eq!(kind(host.ask("POST", "/v1/apps/b/rollback", &json!({}))), "not-found");
    // The same again changes nothing.
    let same = host.deploy("a", 3, &at("a")).unwrap();
    assert_eq!((&same["version"], &same["unchanged"]), (&json!(3), &json!(true)));
    let host = host.restart();
    assert_eq!((host.serves("a"), versions(&host)), (Some(3), vec![5, 4, 3]));
    // A number is never given twice.
    assert_eq!(host.deploy("a", 6, &at("a")).unwrap()["version"], 6);
}

#[test]
fn what_is_left_out_stays_as_it_is() {
    let host = host();
    let settings =
        json!({ "routes": ["a.test/*"], "limits": { "concurrency": 7, "memory": "2MiB" }, "weight": 3 });
    host.deploy("a", 1, &settings).unwrap();
    host.deploy("a", 2, &json!({ "weight": null })).unwrap();
    let app = host.admin.app("a").unwrap().unwrap();
    assert_eq!(
        app["settings"],
        json!({ "routes": ["a.test/*"], "limits": { "concurrency": 7, "memory": "2MiB" } })
    );
    let done = host.ask("PATCH", "/v1/apps/a/limits", &json!({ "concurrency": null, "queue": 5 })).unwrap();
    assert_eq!(done["version"], 3);
    let limits = host.ask("GET", "/v1/apps/a/limits", &Value::Null).unwrap();
    assert_eq!(limits, json!({ "memory": "2MiB", "queue": 5 }));
    assert_eq!(host.serves("a"), Some(2), "the module is the same");
    let refused = host.ask("PATCH", "/v1/apps/a/limits", &json!({ "memroy": "1MiB" })).unwrap_err();
    assert!(refused.message.contains("did you mean `memory`?"), "{refused:?}");
    // A guest of 64 KiB, and a limit below it.
    let refused = host.deploy("a", 3, &json!({ "limits": { "memory": "1KiB" } })).unwrap_err();
    assert_eq!(refused.kind, "invalid", "{refused:?}");
    assert_eq!(host.serves("a"), Some(2));
}

#[test]
fn what_can_not_serve_is_refused_and_the_old_one_goes_on() {
    let host = host();
    host.deploy("a", 1, &at("a")).unwrap();
    host.deploy("b", 2, &at("b")).unwrap();
    let wasm = numbered(3);
    let cut = &wasm[..wasm.len() - 5];
    let table: [(&[u8], Value, &str, &str); 7] = [
        (b"hello", at("a"), "module", "this is not WebAssembly"),
        (cut, at("a"), "module", ""),
        (b"\0asm\x01\0\0\0", at("a"), "module", "no handler"),
        (&wasm, at("b"), "conflict", "the apps `a` and `b` both have the route `b.test/*`"),
        (&wasm, json!({ "rotues": ["/*"] }), "invalid", "did you mean `routes`?"),
        (&wasm, json!({ "tenant": "acme" }), "invalid", "there is no tenant `acme`"),
        (&wasm, json!({ "health": "/", "env": { "A": 1 } }), "invalid", "a variable is a string"),
    ];
    for (module, settings, kind, words) in table {
        let refused = host.admin.deploy("a", module, &settings).unwrap().unwrap_err();
        assert_eq!(refused.kind, kind, "{refused:?}");
        assert!(refused.message.contains(words), "{refused:?}");
        assert_eq!(host.serves("a"), Some(1));
    }
    let refused = host.admin.deploy_uploaded("a", &"0".repeat(64), &at("a")).unwrap().unwrap_err();
    assert_eq!(refused.kind, "not-found");
    assert_eq!(kind(host.deploy("a%20b", 1, &at("a"))), "invalid");
    let audit = host.ask("GET", "/v1/audit?lines=100", &Value::Null).unwrap();
    let failed = audit.as_array().unwrap().iter().filter(|record| record["ok"] == false).count();
    assert!(failed >= 8, "{audit}");
}

#[test]
fn a_version_that_is_not_healthy_does_not_serve() {
    let host = host();
    host.deploy("a", 1, &json!({ "routes": ["a.test/*"], "health": "/healthz?deep=1" })).unwrap();
    assert_eq!(host.serves("a"), Some(1));
    let guest = |name: &str| fs::read(artifacts::guest(name)).unwrap();
    let refused = host.admin.deploy("a", &guest("trap"), &json!({})).unwrap().unwrap_err();
    assert_eq!(refused.kind, "module");
    assert!(refused.message.contains("the health request `/healthz?deep=1` failed"), "{refused:?}");
    // An answer that is not well, and one that does not come in time.
    let refused = host.admin.deploy("a", &guest("slow"), &json!({})).unwrap().unwrap_err();
    assert!(refused.message.contains("was answered with 400"), "{refused:?}");
    let slow = json!({ "health": "/60000", "limits": { "wall": "200ms" } });
    let refused = host.admin.deploy("a", &guest("slow"), &slow).unwrap().unwrap_err();
    assert!(refused.message.contains("health request `/60000`"), "{refused:?}");
    assert_eq!(host.serves("a"), Some(1));
    // A body that nobody reads does not hold it up.
    host.admin.deploy("a", &guest("generate"), &json!({ "health": "/100000000" })).unwrap().unwrap();
}

#[test]
fn a_request_ends_on_the_version_it_began_with() {
    let host = host();
    let slow = fs::read(artifacts::guest("slow")).unwrap();
    host.admin.deploy("a", &slow, &at("a")).unwrap().unwrap();
    let mut client = host.server.client();
    client.send_get("a.test", "/700").unwrap();
    poll_for(PATIENCE, || {
        let live = host.ask("GET", "/v1/requests", &Value::Null).unwrap();
        live.as_array().unwrap().iter().any(|row| row["app"] == "a").then_some(())
    })
    .expect("it runs");
    host.deploy("a", 2, &json!({})).unwrap();
    assert_eq!(host.serves("a"), Some(2));
    assert_eq!(client.response().unwrap().text(), "waited 700 ms\n");
    // On the same connection, the next one is for the new version.
    assert_eq!(number_of(&client.get("a.test", "/").unwrap()), Some(2));
}

#[test]
fn canaries() {
    let host = host();
    host.deploy("a", 1, &at("a")).unwrap();
    let module = host.admin.upload(&numbered(2)).unwrap().unwrap();
    let rule = json!({ "header": "x-canary: yes", "cookie": "beta" });
    let body = json!({ "module": module, "settings": {}, "canary": rule });
    let response = host.admin.send("POST", "/v1/apps/a/versions", body.to_string().as_bytes()).unwrap();
    assert!(response.text().contains("\"done\""), "{}", response.text());
    let with = |host: &Host, field: &str| {
        let mut client = host.server.client();
        client.send(format!("GET / HTTP/1.1\r\nhost: a.test\r\n{field}\r\n\r\n")).unwrap();
        number_of(&client.response().unwrap())
    };
    let check = |host: &Host| {
        assert_eq!(host.serves("a"), Some(1));
        assert_eq!(with(host, "X-Canary: yes"), Some(2));
        assert_eq!(with(host, "X-Canary: no"), Some(1));
        assert_eq!(with(host, "Cookie: a=b; beta=1"), Some(2));
    };
    check(&host);
    let host = host.restart();
    check(&host);
    assert_eq!(
        kind(
            host.admin
                .deploy("a", &numbered(3), &json!({}))
                .unwrap()
                .map(|_| ())
                .and_then(|()| host.ask("POST", "/v1/apps/a/canary/promote", &json!({})).map(|_| ()))
        ),
        "conflict",
        "a deploy for everybody ended it"
    );
    // All of them, and then for good.
    let versions = host.ask("GET", "/v1/apps/a/versions", &Value::Null).unwrap();
    assert_eq!(versions[0]["version"], 3);
    host.ask("PUT", "/v1/apps/a/canary", &json!({ "version": 2, "rule": { "percent": 100 } })).unwrap();
    assert_eq!(host.serves("a"), Some(2));
    let app = host.admin.app("a").unwrap().unwrap();
    assert_eq!((&app["active"], &app["canary"]["version"]), (&json!(3), &json!(2)));
    host.ask("PUT", "/v1/apps/a/canary", &json!({ "version": 2, "rule": { "percent": 50 } })).unwrap();
    let seen: Vec<_> = (0..40).map(|_| host.serves("a").unwrap()).collect();
    let canaries = seen.iter().filter(|number| **number == 2).count();
    assert!((10..=30).contains(&canaries), "{seen:?}");
    host.ask("DELETE", "/v1/apps/a/canary", &Value::Null).unwrap();
    assert_eq!(host.serves("a"), Some(3));
    host.ask("PUT", "/v1/apps/a/canary", &json!({ "version": 2, "rule": { "percent": 1 } })).unwrap();
    host.ask("POST", "/v1/apps/a/canary/promote", &json!({})).unwrap();
    assert_eq!(host.serves("a"), Some(2));
    assert_eq!(host.admin.rollback("a").unwrap().unwrap()["active"], 3);
}

#[test]
fn a_canary_that_fails_is_rolled_back() {
    let host = host();
    host.deploy("a", 1, &at("a")).unwrap();
    let module = host.admin.upload(&fs::read(artifacts::guest("trap")).unwrap()).unwrap().unwrap();
    let rule = json!({ "percent": 50, "failure_percent": 20, "requests_min": 10 });
    let body = json!({ "module": module, "settings": {}, "canary": rule });
    host.admin.send("POST", "/v1/apps/a/versions", body.to_string().as_bytes()).unwrap();
    let mut failed = 0;
    let ended = poll_for(PATIENCE, || {
        failed += u32::from(host.server.get("a.test", "/").status() != 200);
        host.admin.app("a").unwrap().unwrap()["canary"].is_null().then_some(())
    });
    assert!(ended.is_some() && failed >= 3, "{failed}");
    assert!((0..50).all(|_| host.serves("a") == Some(1)));
    let versions = host.ask("GET", "/v1/apps/a/versions", &Value::Null).unwrap();
    assert_eq!(versions[0]["state"], "failed", "{versions}");
    assert!(versions[0]["reason"].as_str().unwrap().contains("requests failed"), "{versions}");
    assert!(host.server.wait_for_log(|line| line.contains("the canary is rolled back")).is_some());
}

#[test]
fn the_manifest_and_the_store() {
    let state = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tidegate.toml");
    let write = |name: &str, number: u64| fs::write(folder.path().join(name), numbered(number)).unwrap();
    let app = |name: &str, more: &str| {
        format!("[[app]]\nname = {name:?}\nsource = \"{name}.wasm\"\nroutes = [\"{name}.test/*\"]\n{more}\n")
    };
    let server = format!("{}listen = [\"127.0.0.1:0\"]\n", hosting_manifest(state.path()));
    let manifest = |apps: &[String]| fs::write(&path, format!("{server}\n{}", apps.concat())).unwrap();
    write("a.wasm", 1);
    write("b.wasm", 2);
    manifest(&[app("a", ""), app("b", "")]);
    let start = || {
        let server = Server::builder().module(&path).start();
        Host { server, admin: Admin::of(state.path()), state: tempfile::tempdir().unwrap() }
    };
    let stop = |mut host: Host| {
        host.server.signal(Signal::TERM);
        assert!(host.server.wait_exit(PATIENCE).success());
    };
    let host = start();
    assert_eq!((host.serves("a"), host.serves("b")), (Some(1), Some(2)));
    // Deployed beside the manifest, and over it.
    host.deploy("c", 3, &at("c")).unwrap();
    host.deploy("a", 4, &json!({})).unwrap();
    stop(host);
    let host = start();
    let seen = ["a", "b", "c"].map(|app| host.serves(app));
    assert_eq!(seen, [Some(4), Some(2), Some(3)], "the manifest has not changed");
    // A changed module, and an app that is gone.
    write("a.wasm", 5);
    manifest(&[app("a", "")]);
    let done = host.ask("POST", "/v1/reload", &json!({})).unwrap();
    assert_eq!(done[0]["app"], "a", "{done}");
    assert_eq!((host.serves("a"), host.serves("c")), (Some(5), Some(3)));
    assert_eq!(host.server.get("b.test", "/").status(), 404);
    // A manifest with a mistake changes nothing, whoever asks.
    manifest(&[app("a", "wieght = 3")]);
    let refused = host.ask("POST", "/v1/reload", &json!({})).unwrap_err();
    assert!(refused.message.contains("did you mean `weight`?"), "{refused:?}");
    host.server.signal(Signal::HUP);
    assert!(host.server.wait_for_log(|line| line.contains("not reloaded")).is_some());
    // Nor does one that is just being written.
    fs::write(&path, "").unwrap();
    let refused = host.ask("POST", "/v1/reload", &json!({})).unwrap_err();
    assert!(refused.message.contains("the manifest says nothing"), "{refused:?}");
    manifest(&[app("a", ""), app("broken", "")]);
    fs::write(folder.path().join("broken.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let refused = host.ask("POST", "/v1/reload", &json!({})).unwrap_err();
    assert!(refused.message.contains("app `broken`"), "{refused:?}");
    assert_eq!((host.serves("a"), host.serves("c")), (Some(5), Some(3)));
    // A start does not wait for a manifest to be right: what was served goes on.
    stop(host);
    let host = start();
    assert!(host.server.wait_for_log(|line| line.contains("the manifest is not applied")).is_some());
    assert_eq!((host.serves("a"), host.serves("c")), (Some(5), Some(3)));
    manifest(&[app("a", ""), app("vanished", "")]);
    stop(host);
    let host = start();
    assert!(host.server.wait_for_log(|line| line.contains("vanished.wasm")).is_some());
    assert_eq!((host.serves("a"), host.serves("c")), (Some(5), Some(3)));
    // What is exported says the same.
    let text = host.admin.send("GET", "/v1/export", b"").unwrap().text();
    let exported: toml::Table = text.parse().unwrap();
    let names: Vec<_> =
        exported["app"].as_array().unwrap().iter().map(|app| app["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "c"]);
    stop(host);
    let own = folder.path().join("exported.toml");
    fs::write(&own, format!("[server]\nlisten = [\"127.0.0.1:0\"]\n{text}")).unwrap();
    let plain = Server::builder().module(&own).start();
    assert_eq!(number_of(&plain.get("a.test", "/")), Some(5));
    assert_eq!(number_of(&plain.get("c.test", "/")), Some(3));
}

#[test]
fn tenants_have_their_own_routes() {
    let tenants = "[[tenant]]\nname = \"acme\"\nroutes = [\"acme.test/*\", \"*.acme.test/*\"]\n[[tenant]]\nname = \"free\"\n";
    let host = host_with("", tenants);
    let of = |tenant: &str, route: &str| json!({ "tenant": tenant, "routes": [route] });
    host.deploy("a", 1, &of("acme", "acme.test/*")).unwrap();
    host.deploy("b", 2, &of("acme", "shop.acme.test/{id}/*")).unwrap();
    host.deploy("c", 3, &of("free", "c.test/*")).unwrap();
    for settings in [
        of("acme", "c.test/x/*"),
        of("acme", "/*"),
        of("free", "acme.test/admin"),
        of("free", "x.acme.test/*"),
        json!({ "routes": ["acme.test/y"] }),
    ] {
        let refused = host.deploy("d", 4, &settings).unwrap_err();
        assert_eq!(refused.kind, "conflict", "{refused:?}");
    }
    // An app does not change hands.
    let refused = host.deploy("a", 4, &of("free", "a.test/*")).unwrap_err();
    assert!(refused.message.contains("another tenant's"), "{refused:?}");
    assert_eq!(host.serves("acme"), Some(1));
}

#[test]
fn secrets_are_seen_by_the_guest_alone() {
    const SECRET: &str = "hunter2-but-longer";
    let host = host();
    let file = host.state.path().join("secret.txt");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let guest = fs::read(artifacts::wat_guest("environment")).unwrap();
    let secrets = json!({ "PASSWORD": format!("file:{}", file.display()) });
    let settings = json!({ "routes": ["a.test/*"], "env": { "PLAIN": "text" }, "secrets": secrets });
    host.admin.deploy("a", &guest, &settings).unwrap().unwrap();
    let seen = host.server.get("a.test", "/").text();
    assert!(seen.contains(&format!("PASSWORD={SECRET}\0")) && seen.contains("PLAIN=text\0"), "{seen:?}");
    let missing = json!({ "routes": ["b.test/*"], "secrets": { "X": "file:/no/such/file" } });
    let refused = host.admin.deploy("b", &guest, &missing).unwrap().unwrap_err();
    assert!(refused.message.contains("/no/such/file"), "{refused:?}");
    let written_down = json!({ "routes": ["b.test/*"], "secrets": { "X": SECRET } });
    let refused = host.admin.deploy("b", &guest, &written_down).unwrap().unwrap_err();
    assert!(!refused.message.contains(SECRET), "{refused:?}");
    for path in ["/v1/apps", "/v1/apps/a", "/v1/apps/a/versions", "/v1/export", "/v1/audit", "/metrics"] {
        let text = host.admin.send("GET", path, b"").unwrap().text();
        assert!(!text.contains(SECRET), "{path}: {text}");
    }
    let folder = host.state.path();
    let files = fs::read_dir(folder).unwrap().chain(fs::read_dir(folder.join("logs")).unwrap());
    for path in files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file() && *path != file) {
        let bytes = fs::read(&path).unwrap();
        assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes()), "{}", path.display());
    }
    assert_eq!(host.server.stderr().count(|line| line.contains(SECRET)), 0);
    // Its value is read again when the app is loaded again.
    fs::write(&file, "another").unwrap();
    let host = host.restart();
    assert!(host.server.get("a.test", "/").text().contains("PASSWORD=another\0"));
}

#[test]
fn a_state_folder_is_one_servers() {
    let host = host();
    let (status, said) = hosting(host.state.path()).start_refused();
    assert_eq!(status.code(), Some(1));
    let pid = host.server.pid().to_string();
    assert!(said.contains(&host.state.path().display().to_string()) && said.contains(&pid), "{said}");
    assert!(host.deploy("a", 1, &at("a")).is_ok(), "the first one goes on");
}

#[test]
fn no_request_fails_while_versions_come_and_go() {
    const DEPLOYS: u64 = 40;
    let host = host();
    host.deploy("a", 0, &at("a")).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|client| {
                let (server, over) = (&host.server, &over);
                scope.spawn(move || {
                    let mut requests = 0;
                    let mut kept = server.client();
                    while !over.load(Ordering::Relaxed) {
                        let response = match client % 2 {
                            0 => kept.get("a.test", "/").unwrap(),
                            _ => Client::connect(server.addr()).unwrap().get("a.test", "/").unwrap(),
                        };
                        assert!(number_of(&response).is_some(), "{response:?}");
                        requests += 1;
                    }
                    requests
                })
            })
            .collect();
        for number in 1..=DEPLOYS {
            host.deploy("a", number % 8, &json!({})).unwrap();
            assert_eq!(host.serves("a"), Some(number % 8));
            if number % 5 == 0 {
                host.admin.rollback("a").unwrap().unwrap();
            }
        }
        over.store(true, Ordering::Relaxed);
        let requests: u64 = clients.into_iter().map(|client| client.join().unwrap()).sum();
        assert!(requests > DEPLOYS, "{requests}");
    });
}

#[test]
fn an_app_that_is_removed_leaves_nothing() {
    let host = host();
    host.deploy("a", 1, &at("a")).unwrap();
    host.ask("DELETE", "/v1/apps/a", &Value::Null).unwrap();
    assert_eq!(host.server.get("a.test", "/").status(), 404);
    assert_eq!(kind(host.admin.app("a").unwrap()), "not-found");
    assert_eq!(host.ask("GET", "/v1/apps", &Value::Null).unwrap(), json!([]));
    assert!(!Path::new(&host.state.path().join("logs/a.log")).exists());
    assert_eq!(host.deploy("a", 2, &at("a")).unwrap()["version"], 1);
    let host = host.restart();
    assert_eq!(host.serves("a"), Some(2));
}

#[test]
fn deploys_of_one_app_at_once_leave_one_of_them() {
    const AT_ONCE: u64 = 6;
    let host = host();
    for round in 0..2 {
        let answers: Vec<_> = thread::scope(|scope| {
            let deploys: Vec<_> = (1..=AT_ONCE)
                .map(|number| {
                    let admin = &host.admin;
                    scope.spawn(move || admin.deploy("a", &numbered(10 * round + number), &at("a")).unwrap())
                })
                .collect();
            deploys.into_iter().map(|deploy| deploy.join().unwrap()).collect()
        });
        let done: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().ok()).collect();
        assert!(!done.is_empty(), "{answers:?}");
        // Whoever was not done was told to try again.
        assert!(
            answers.iter().all(|answer| answer.as_ref().is_ok_and(|done| done["unchanged"] == false)
                || answer.as_ref().is_err_and(|refused| refused.kind == "conflict")),
            "{answers:?}"
        );
        let mut numbers: Vec<_> = done.iter().map(|done| done["version"].as_u64().unwrap()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), done.len(), "no number is given twice: {answers:?}");
    }
    let served = host.serves("a").expect("one of them serves");
    let app = host.admin.app("a").unwrap().unwrap();
    let host = host.restart();
    assert_eq!(
        (host.serves("a"), host.admin.app("a").unwrap().unwrap()["active"].clone()),
        (Some(served), app["active"].clone())
    );
}

#[test]
fn apps_of_one_module_share_nothing_but_its_code() {
    let host = host();
    let guest = fs::read(artifacts::wat_guest("environment")).unwrap();
    let of = |app: &str, reuse: bool| {
        let file = host.state.path().join(format!("{app}.secret"));
        fs::write(&file, format!("secret-of-{app}")).unwrap();
        let instances = if reuse { json!({ "reuse": 1000 }) } else { json!("fresh") };
        json!({
            "routes": [format!("{app}.test/*")],
            "env": { "OWN": format!("own-of-{app}") },
            "secrets": { "SECRET": format!("file:{}", file.display()) },
            "instances": instances,
        })
    };
    for (app, reuse) in [("a", true), ("b", true), ("c", false)] {
        host.admin.deploy(app, &guest, &of(app, reuse)).unwrap().unwrap();
    }
    for round in 0..30 {
        let app = ["a", "b", "c"][round % 3];
        let seen = host.server.get(&format!("{app}.test"), "/").text();
        let mut variables: Vec<_> = seen.split_terminator('\0').collect();
        variables.sort_unstable();
        assert_eq!(variables, [format!("OWN=own-of-{app}"), format!("SECRET=secret-of-{app}")]);
    }
    // A deploy of one of them, to other values, is nothing to the others' instances.
    host.admin.deploy("a", &guest, &json!({ "env": { "OWN": "new" } })).unwrap().unwrap();
    assert!(host.server.get("a.test", "/").text().contains("OWN=new\0"));
    assert!(host.server.get("b.test", "/").text().contains("OWN=own-of-b\0"));
    // A request is counted when its answer has left, which may be after its client has it.
    for (app, requests) in [("a", 11), ("b", 11), ("c", 10)] {
        let line =
            format!("tidegate_requests_total{{app=\"{app}\",class=\"2xx\",outcome=\"ok\"}} {requests}");
        let counted =
            || host.admin.send("GET", "/metrics", b"").unwrap().text().contains(&line).then_some(());
        assert!(poll_for(PATIENCE, counted).is_some(), "{line}");
    }
}
