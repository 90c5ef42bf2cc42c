//! The numbers that a server shows of itself and its apps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_tests::admin::{Admin, hosting_manifest, numbered};
use tidegate_tests::check::{problem, success};
use tidegate_tests::wait::{PATIENCE, until};
use tidegate_tests::{App, Server, artifacts};

/// Every sample by its name and labels, as they are written.
fn scrape(admin: &Admin) -> BTreeMap<String, f64> {
    let response = admin.send("GET", "/metrics", b"").expect("an answer");
    assert_eq!(response.status(), 200, "{response:?}");
    let media_type = response.header("content-type").expect("a type");
    assert_eq!(media_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text();
    assert!(text.ends_with("\n# EOF\n"), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    samples.collect()
}

#[track_caller]
fn value(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    *samples.get(name).unwrap_or_else(|| panic!("no {name} in {:#?}", samples.keys().collect::<Vec<_>>()))
}

#[test]
fn requests_are_counted_by_how_they_end() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .manifest(hosting_manifest(state.path()))
        .app(App::guest("hello").line("instances = { reuse = 100 }"))
        .app(App::guest("trap"))
        .app(App::guest("spin").limit("cpu", "20ms"))
        .app(App::guest("echo"))
        .app(App::guest("slow").limit("concurrency", "1").limit("queue", "0"))
        .app(App::guest("chatty").limit("log_rate", "1KiB/s"))
        .option("--workers", "2")
        .start();
    let admin = Admin::of(state.path());
    let mut client = server.client();
    for _ in 0..5 {
        success(&client.get("hello.test", "/").unwrap());
    }
    for _ in 0..2 {
        problem(&server.get("trap.test", "/"), 500, "guest-trap");
    }
    problem(&server.get("spin.test", "/"), 504, "cpu-limit");
    problem(&server.get("nowhere.test", "/"), 404, "no-such-app");
    success(&client.post("echo.test", "/", &[b'x'; 1000]).unwrap());
    success(&server.get("chatty.test", "/"));
    let mut waiting = server.client();
    waiting.send_get("slow.test", "/50000").unwrap();
    // Asked another way it might take the very place: the workers are two.
    let running = "tidegate_requests_running{app=\"slow\"}";
    until("it runs", || scrape(&admin).get(running) == Some(&1.0));
    problem(&server.get("slow.test", "/1"), 503, "overloaded");
    drop(client);

    let requests = |app: &str, class: &str, outcome: &str| {
        format!("tidegate_requests_total{{app=\"{app}\",class=\"{class}\",outcome=\"{outcome}\"}}")
    };
    until("all is counted", || {
        let samples = scrape(&admin);
        samples.get(&requests("echo", "2xx", "ok")) == Some(&1.0)
            && samples
                .get("tidegate_log_records_dropped_total{app=\"chatty\"}")
                .is_some_and(|dropped| *dropped > 0.0)
    });
    let samples = scrape(&admin);
    let of = |name: &str, app: &str| value(&samples, &format!("tidegate_{name}{{app=\"{app}\"}}"));
    assert_eq!(value(&samples, &requests("hello", "2xx", "ok")), 5.0);
    assert_eq!(value(&samples, &requests("trap", "5xx", "guest-trap")), 2.0);
    assert_eq!(value(&samples, &requests("spin", "5xx", "cpu-limit")), 1.0);
    assert_eq!(value(&samples, &requests("-", "4xx", "no-such-app")), 1.0);
    assert!(value(&samples, &requests("slow", "5xx", "overloaded")) >= 1.0);
    assert_eq!((of("requests_running", "slow"), of("requests_running", "hello")), (1.0, 0.0));
    assert_eq!(
        (of("request_body_bytes_total", "echo"), of("response_body_bytes_total", "echo")),
        (1000.0, 1000.0)
    );
    assert_eq!((of("instances_created_total", "hello"), of("instances_reused_total", "hello")), (1.0, 4.0));
    assert_eq!(of("instances_created_total", "trap"), 2.0);
    let cpu = of("cpu_seconds_total", "spin");
    assert!((0.015..1.0).contains(&cpu), "{cpu}");
    assert_eq!(of("request_duration_seconds_count", "hello"), 5.0);
    let within = "tidegate_request_duration_seconds_bucket{le=\"+Inf\",app=\"hello\"}";
    assert_eq!(value(&samples, within), 5.0);

    assert_eq!(value(&samples, "tidegate_ready"), 1.0);
    assert_eq!(value(&samples, "tidegate_apps"), 6.0);
    assert_eq!(value(&samples, "tidegate_programs_loaded"), 6.0);
    assert!(value(&samples, "tidegate_connections") >= 1.0);
    assert!(value(&samples, "tidegate_memory_bytes") > 1e6);
    assert!(value(&samples, "tidegate_descriptors") > 5.0);
    let accepted = |worker| value(&samples, &format!("tidegate_accepted_total{{worker=\"{worker}\"}}"));
    assert!(accepted(0) + accepted(1) >= 7.0);
    let turns =
        |worker| value(&samples, &format!("tidegate_worker_turn_seconds_count{{worker=\"{worker}\"}}"));
    assert!(turns(0) + turns(1) >= 10.0);
    assert!(samples.keys().any(|name| name.starts_with("tidegate_build{version=")));
    // Nothing that a request says is a label.
    assert!(samples.keys().all(|name| !name.contains("50000") && !name.contains(".test")), "{samples:#?}");

    let facts = admin.ask("GET", "/v1/server", &Value::Null).unwrap().unwrap();
    assert_eq!(
        (&facts["workers"], &facts["apps"], &facts["draining"]),
        (&2.into(), &6.into(), &false.into())
    );
    assert!(facts["uptime_ms"].as_u64() > Some(0) && facts["pid"].as_u64() > Some(0), "{facts}");
}

#[test]
fn accepting_that_is_paused_is_counted() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder()
        .manifest(hosting_manifest(state.path()) + "connections = 2\n")
        .app(App::guest("hello"))
        .option("--workers", "1")
        .start();
    let admin = Admin::of(state.path());
    let mut held: Vec<_> = (0..2).map(|_| server.client()).collect();
    held.iter_mut().for_each(|client| success(&client.get("hello.test", "/").unwrap()));
    let mut third = server.client();
    third.send_get("hello.test", "/").unwrap();
    until("it is counted", || {
        value(&scrape(&admin), "tidegate_accept_pauses_total{reason=\"connections\"}") >= 1.0
    });
    drop(held);
    success(&third.response().unwrap());
    assert_eq!(value(&scrape(&admin), "tidegate_accept_pauses_total{reason=\"memory\"}"), 0.0);
}

#[test]
fn numbers_outlive_a_deploy_and_go_with_the_app() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder().manifest(hosting_manifest(state.path())).app(App::guest("hello")).start();
    let admin = Admin::of(state.path());
    let settings = json!({ "routes": ["a.test/*"] });
    let served = "tidegate_requests_total{app=\"a\",class=\"2xx\",outcome=\"ok\"}";
    for round in 1..=3 {
        admin.deploy("a", &numbered(round), &settings).unwrap().unwrap();
        success(&server.get("a.test", "/"));
        until("it is counted", || scrape(&admin).get(served) == Some(&(round as f64)));
    }
    admin.ask("DELETE", "/v1/apps/a", &Value::Null).unwrap().unwrap();
    until("it is gone", || !scrape(&admin).keys().any(|name| name.contains("app=\"a\"")));
    admin.deploy("a", &std::fs::read(artifacts::guest("hello")).unwrap(), &settings).unwrap().unwrap();
    success(&server.get("a.test", "/"));
    until("it begins anew", || scrape(&admin).get(served) == Some(&1.0));
}

#[test]
fn key_value_data_is_counted_by_operation_and_by_what_is_kept() {
    let state = tempfile::tempdir().unwrap();
    let kv = App::file("kv", &artifacts::module_guest("kv_probe")).line("kv = { keys = 2 }");
    let server =
        Server::builder().manifest(hosting_manifest(state.path())).app(kv).app(App::guest("hello")).start();
    let admin = Admin::of(state.path());
    let mut client = server.client();
    let mut ask = |method: &str, path: &str, body: &str| {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: kv.test\r\nContent-Length: {length}\r\n\r\n");
        client.send(head + body).unwrap();
        client.response().unwrap().status()
    };
    assert_eq!((ask("PUT", "/v/a", "one"), ask("PUT", "/v/bc", "four")), (200, 200));
    assert_ne!(ask("PUT", "/v/d", ""), 200, "two keys are all that it may have");
    assert_eq!((ask("GET", "/v/a", ""), ask("DELETE", "/v/bc", "")), (200, 200));
    let samples = scrape(&admin);
    let operations = |operation: &str, outcome: &str| {
        let labels = format!("app=\"kv\",operation=\"{operation}\",outcome=\"{outcome}\"");
        value(&samples, &format!("tidegate_kv_operations_total{{{labels}}}"))
    };
    assert_eq!((operations("set", "ok"), operations("set", "quota")), (2.0, 1.0));
    assert_eq!((operations("get", "ok"), operations("delete", "ok")), (1.0, 1.0));
    let own = |name: &str| value(&samples, &format!("tidegate_kv_{name}{{app=\"kv\"}}"));
    assert_eq!((own("keys"), own("bytes"), own("operations_under_way")), (1.0, 4.0, 0.0));
    assert!(!samples.keys().any(|name| name.contains("_kv_") && name.contains("hello")), "{samples:#?}");
}

#[test]
fn what_compilations_took_is_told() {
    let state = tempfile::tempdir().unwrap();
    let _server = Server::builder().manifest(hosting_manifest(state.path())).start();
    let admin = Admin::of(state.path());
    let compiled = |samples: &BTreeMap<String, f64>, outcome: &str| {
        value(samples, &format!("tidegate_compiled_total{{outcome=\"{outcome}\"}}"))
    };
    let before = scrape(&admin);
    assert_eq!((compiled(&before, "ok"), compiled(&before, "refused")), (0.0, 0.0));
    assert_eq!(value(&before, "tidegate_compilation_memory_max_bytes"), 0.0);
    let routes = json!({ "routes": ["a.test/*"] });
    admin.deploy("a", &numbered(1), &routes).unwrap().unwrap();
    // A handler that leaves nothing where a number is due: only the compiler looks so closely.
    let bad = "(module (memory (export \"memory\") 1) (func (export \"tidegate_handle\") (result i32)))";
    let bad = std::fs::read(artifacts::wat_text("metrics_bad", bad)).unwrap();
    assert_eq!(admin.deploy("b", &bad, &json!({})).unwrap().unwrap_err().kind, "module");
    let samples = scrape(&admin);
    let outcomes = ["ok", "refused", "limits", "failed"].map(|outcome| compiled(&samples, outcome));
    assert_eq!(outcomes, [1.0, 1.0, 0.0, 0.0]);
    // A child that has started a compiler has taken some of both.
    let most = value(&samples, "tidegate_compilation_memory_max_bytes");
    assert!((1e6..1e9).contains(&most), "{most}");
    assert!(value(&samples, "tidegate_compilation_cpu_max_seconds") > 0.0);
    for name in ["compilation_memory_bytes", "compilation_cpu_seconds"] {
        assert_eq!(value(&samples, &format!("tidegate_{name}_count")), 2.0);
        assert_eq!(value(&samples, &format!("tidegate_{name}_bucket{{le=\"+Inf\"}}")), 2.0);
    }
    assert!(value(&samples, "tidegate_compilation_memory_bytes_sum") >= most);
}

/// Looking is for people, and costs the workers nothing: they serve as before while somebody looks all the time.
#[test]
fn looking_all_the_time_holds_nobody_up() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::builder().manifest(hosting_manifest(state.path())).app(App::guest("hello")).start();
    let admin = Admin::of(state.path());
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| (0..50).map(|_| scrape(&admin).len()).min());
        let mut client = server.client();
        client.set_patience(PATIENCE.max(Duration::from_secs(5)));
        while !looking.is_finished() {
            success(&client.get("hello.test", "/").unwrap());
        }
        assert!(looking.join().unwrap() > Some(20));
    });
}
