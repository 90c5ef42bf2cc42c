//! What all the apps of a tenant may use together, and that its apps share it fairly.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::admin::{Admin, hosting_manifest, numbered};
use tidegate_tests::check::{logged_problem, problem, success};
use tidegate_tests::wait;
use tidegate_tests::{App, Client, Server};

fn tenant(limits: &str) -> String {
    format!("[[tenant]]\nname = \"acme\"\nlimits = {{ {limits} }}\n")
}

fn of_acme(guest: &str, name: &str) -> App {
    App::guest(guest).named(name).line("tenant = \"acme\"")
}

fn two(guest: &str, limits: &str) -> Server {
    Server::builder()
        .manifest(tenant(limits))
        .app(of_acme(guest, "one"))
        .app(of_acme(guest, "two"))
        .app(App::guest("hello"))
        .option("--workers", "1")
        .start()
}

#[test]
fn concurrency_and_queue_hold_for_all_apps_together() {
    let server = two("slow", "concurrency = 1, queue = 1");
    let mut clients: Vec<Client> = (0..3).map(|_| server.client()).collect();
    for (client, host) in clients.iter_mut().zip(["one.test", "two.test", "one.test"]) {
        client.send_get(host, "/500").unwrap();
    }
    let answers: Vec<_> = clients.iter_mut().map(|client| client.response().unwrap()).collect();
    let shed: Vec<_> = answers.iter().filter(|answer| answer.status() == 503).collect();
    assert_eq!(shed.len(), 1, "{answers:?}");
    logged_problem(&server, shed[0], 503, "overloaded");
    // Others are not concerned.
    success(&server.get("hello.test", "/"));
}

/// One app keeps a long line, the other comes with three: they are not behind all of that.
#[test]
fn the_apps_of_a_tenant_take_turns() {
    let server = Server::builder()
        .manifest(tenant("concurrency = 1"))
        .app(of_acme("slow", "one"))
        .app(of_acme("slow", "two"))
        .option("--workers", "1")
        .option("--access-log", "-")
        .start();
    let mut clients: Vec<Client> = (0..30).map(|_| server.client()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send_get(if number < 27 { "one.test" } else { "two.test" }, "/50").unwrap();
    }
    for client in &mut clients {
        success(&client.response().unwrap());
    }
    let lines =
        || server.stdout().lines().into_iter().filter(|line| line.contains("\"GET ")).collect::<Vec<_>>();
    wait::until("all are logged", || lines().len() == 30);
    // The order in which they were served. However late the second app's came, they took turns from then on.
    let order: Vec<bool> = lines().iter().map(|line| line.contains(" two ")).collect();
    let first = order.iter().position(|two| *two).expect("one of the second app");
    let last = order.iter().rposition(|two| *two).expect("one of the second app");
    assert!(last - first <= 5 || last == 29, "{order:?}");
}

#[test]
fn a_place_that_one_app_leaves_is_the_others() {
    let server = two("slow", "concurrency = 2");
    for round in 0..5 {
        let mut clients: Vec<Client> = (0..8).map(|_| server.client()).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            let host = if (number + round) % 2 == 0 { "one.test" } else { "two.test" };
            client.send_get(host, "/20").unwrap();
        }
        // Who goes away while it waits, or runs, takes nothing along.
        drop(clients.pop());
        for client in &mut clients {
            success(&client.response().unwrap());
        }
    }
}

#[test]
fn rates_and_connections_are_counted_together() {
    let server = two("hello", "requests = \"10/s\", connections = 100");
    let mut client = server.client();
    let mut limited = Vec::new();
    wait::until("both are refused", || {
        for host in ["one.test", "two.test"] {
            let answer = client.get(host, "/").unwrap();
            if answer.status() == 429 {
                problem(&answer, 429, "rate-limited");
                limited.push(host);
            }
        }
        limited.contains(&"one.test") && limited.contains(&"two.test")
    });
    success(&client.get("hello.test", "/").unwrap());
}

#[test]
fn memory_is_counted_over_all_instances() {
    let server = Server::builder()
        .manifest(tenant("memory = \"24MiB\""))
        .app(of_acme("bomb", "one").limit("memory", "64MiB"))
        .app(of_acme("slow", "two"))
        .app(App::guest("bomb").named("other").limit("memory", "64MiB"))
        .option("--workers", "1")
        .start();
    let refused = server.get("one.test", "/");
    logged_problem(&server, &refused, 500, "guest-memory");
    assert!(server.wait_for_log(|line| line.contains("24 MiB of all apps of the tenant `acme`")).is_some());
    // It is given back: the others of the tenant go on, again and again.
    for _ in 0..20 {
        problem(&server.get("one.test", "/"), 500, "guest-memory");
        success(&server.get("two.test", "/1"));
    }
    problem(&server.get("other.test", "/"), 500, "guest-memory");
    assert!(server.wait_for_log(|line| line.contains("memory limit of 64 MiB is reached")).is_some());
}

/// An instance of hello begins with 320 KiB and stays below 600: there is room for one, and each app would keep its own.
#[test]
fn idle_instances_make_room_for_others_of_their_tenant() {
    let reusing = |name: &str| of_acme("hello", name).line("instances = { reuse = 1000 }");
    let server = Server::builder()
        .manifest(tenant("memory = \"600KiB\""))
        .app(reusing("one"))
        .app(reusing("two"))
        .option("--workers", "2")
        .start();
    // Whichever worker has the connection, and the idle instance.
    let mut clients: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for _ in 0..5 {
        for client in &mut clients {
            success(&client.get("one.test", "/").unwrap());
            success(&client.get("two.test", "/").unwrap());
        }
    }
}

#[test]
fn log_lines_are_counted_together() {
    let server = two("chatty", "log_lines = \"20/s\"");
    let began = std::time::Instant::now();
    success(&server.get("one.test", "/500"));
    success(&server.get("two.test", "/500"));
    let seconds = began.elapsed().as_secs() as usize + 2;
    assert!(server.wait_for_log(|line| line.contains("log records dropped")).is_some());
    let lines = server.stderr().count(|line| line.contains("still talking"));
    assert!(lines <= 20 * seconds, "{lines} lines in {seconds} s");
}

#[test]
fn cpu_time_is_shared_by_all_apps_of_a_tenant() {
    let spin = |name: &str| of_acme("spin", name).limit("cpu", "60s").limit("wall", "120s");
    let server = Server::builder()
        .manifest(tenant("cpu_share = \"20%\""))
        .app(spin("one"))
        .app(spin("two"))
        .option("--workers", "2")
        .start();
    let mut spins: Vec<Client> = (0..4).map(|_| server.client()).collect();
    let before = server.cpu_time();
    for (client, host) in spins.iter_mut().zip(["one.test", "two.test", "one.test", "two.test"]) {
        client.send_get(host, "/").unwrap();
    }
    wait::until("the loops run", || server.cpu_time() - before > Duration::from_millis(150));
    let before = server.cpu_time();
    thread::sleep(Duration::from_secs(3));
    let used = (server.cpu_time() - before).as_secs_f64() / 3.0;
    assert!((0.1..0.4).contains(&used), "{used} of a core");
}

#[test]
fn an_unknown_tenant_is_told_with_its_place() {
    let (status, told) = Server::builder()
        .manifest(tenant("concurrency = 1"))
        .app(App::guest("hello").line("tenant = \"acne\""))
        .start_refused();
    assert!(!status.success());
    assert!(told.contains("there is no tenant `acne`") && told.contains("did you mean `acme`?"), "{told}");
    assert!(told.contains("tidegate.toml:"), "{told}");
}

#[test]
fn a_manifest_has_no_more_apps_than_a_tenant_may() {
    let app = |name: &str| App::guest("hello").named(name).line("tenant = \"acme\"");
    let three = |limits: &str| {
        Server::builder().manifest(tenant(limits)).app(app("one")).app(app("two")).app(app("three"))
    };
    let (status, told) = three("apps = 2").start_refused();
    assert!(!status.success());
    assert!(told.contains("`acme` may have 2 apps, and there are 3"), "{told}");
    assert!(told.contains("tidegate.toml:") && told.contains("apps = 3"), "{told}");
    success(&three("apps = 3").start().get("three.test", "/"));
}

/// A module of some kilobytes: at its end there are 2000 bytes that mean nothing.
fn large(number: u64) -> Vec<u8> {
    [&numbered(number)[..], &[0, 0xd1, 0x0f, 0], &[0; 2000]].concat()
}

#[test]
fn what_is_kept_of_a_tenant_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let path = folder.path().join("tidegate.toml");
    let write = |limits: &str| {
        let server = hosting_manifest(&state);
        let text = format!("{server}listen = [\"127.0.0.1:0\"]\nkeep = 3\n{}", tenant(limits));
        std::fs::write(&path, text).unwrap();
    };
    std::fs::create_dir(&state).unwrap();
    write("apps = 2");
    let _server = Server::builder().module(&path).start();
    let admin = Admin::of(&state);
    let deploy = |app: &str, number: u64| {
        let settings = json!({ "tenant": "acme", "routes": [format!("{app}.test/*")] });
        admin.deploy(app, &large(number), &settings).unwrap()
    };
    deploy("a", 1).unwrap();
    deploy("b", 2).unwrap();
    let refused = deploy("c", 3).unwrap_err();
    assert!(refused.kind == "conflict" && refused.message.contains("`acme` may have 2 apps"), "{refused:?}");
    deploy("b", 3).unwrap();
    admin.deploy("other", &large(3), &json!({ "routes": ["other.test/*"] })).unwrap().unwrap();
    let module = large(1).len();
    // Three modules are kept, and there is no room for one more.
    write(&format!("modules = \"{}B\"", module * 7 / 2));
    admin.ask("POST", "/v1/reload", &Value::Null).unwrap().unwrap();
    let refused = deploy("a", 4).unwrap_err();
    assert!(
        refused.kind == "conflict" && refused.message.contains("modules of the tenant `acme`"),
        "{refused:?}"
    );
    // What takes no more is not refused, and what is removed makes room.
    deploy("c", 3).unwrap();
    admin.ask("DELETE", "/v1/apps/b", &Value::Null).unwrap().unwrap();
    deploy("a", 4).unwrap();
}

#[test]
fn refusals_without_end_leave_room_in_the_audit() {
    let folder = tempfile::tempdir().unwrap();
    let _server = tidegate_tests::admin::hosting(folder.path()).start();
    let admin = Admin::of(folder.path());
    admin.deploy("a", &numbered(1), &json!({ "routes": ["a.test/*"] })).unwrap().unwrap();
    for _ in 0..200 {
        let refused = admin.ask("POST", "/v1/apps/nobody/rollback", &json!({})).unwrap().unwrap_err();
        assert_eq!(refused.kind, "not-found");
    }
    let audit = admin.ask("GET", "/v1/audit?lines=1000", &Value::Null).unwrap().unwrap();
    let records = audit.as_array().unwrap();
    assert!(records.iter().any(|record| record["action"] == "deploy" && record["ok"] == true), "{audit}");
    let refused: Vec<_> = records.iter().filter(|record| record["action"] == "rollback").collect();
    assert!((2..50).contains(&refused.len()), "{audit}");
    let last = refused.last().unwrap()["detail"].as_str().unwrap();
    assert!(last.contains(" more times; the last time: there is no app `nobody`"), "{last}");
}
