//! What components may use has the same limits as it has for modules: tests of modules once more, and what only a
//! component can do wrong. The rest of the modules' limits are asked of components in `component_sdk`.

#[path = "overload.rs"]
mod overload;
#[path = "timeouts.rs"]
mod timeouts;

use std::path::PathBuf;
use std::time::Duration;

use tidegate_tests::check::{logged_problem, success};
use tidegate_tests::rust_component::rust_component;
use tidegate_tests::wait::until;
use tidegate_tests::wat_component::{Realloc, wat_component};
use tidegate_tests::{App, Server};

/// A component that does this for every request.
fn component(name: &str, inside: &str) -> (String, PathBuf) {
    let code = format!("(func $handle (param $request i32) (param $out i32) {inside})");
    (name.to_owned(), wat_component(&format!("limits-{name}"), Realloc::Good, &code))
}

/// Ways to break a rule or to use up what the host keeps for a guest. Each costs its own request and nothing else.
#[test]
fn each_hostile_request_costs_itself_alone() {
    let handle = |realloc, name: &str, code: &str| {
        (name.to_owned(), wat_component(&format!("limits-{name}"), realloc, code))
    };
    // A value of 30,000 bytes a list, until there is no more room in the host.
    let lists = "(memory.fill (i32.const 100) (i32.const 120) (i32.const 30000))
        (loop $again
        (call $append (call $fields) (i32.const 16) (i32.const 1) (i32.const 100) (i32.const 30000) (i32.const 0))
        (br $again))";
    // The same pollable ten thousand times.
    let many = "(local $p i32) (local $at i32)
        (local.set $p (call $subscribe (i64.const 0)))
        (loop $fill
            (i32.store (local.get $at) (local.get $p))
            (local.set $at (i32.add (local.get $at) (i32.const 4)))
            (br_if $fill (i32.lt_u (local.get $at) (i32.const 40000))))
        (call $poll (i32.const 0) (i32.const 10000) (i32.const 40000))";
    let path = "(func $handle (param i32 i32) (call $path (local.get 0) (i32.const 0)))";
    let append = |name: &str, arguments: &str| {
        let call = format!(
            r#"(data (i32.const 16) "\ff") (func $handle (param i32 i32)
            (call $append (call $fields) {arguments} (i32.const 0)))"#
        );
        handle(Realloc::Good, name, &call)
    };
    let (trap, memory, cpu) = ("guest-trap", "guest-memory", "cpu-limit");
    let fill = |inside: &str| format!(r#"(data (i32.const 16) "x") (func $handle (param i32 i32) {inside})"#);
    // What it is, how it ends, and what the log says of that.
    let hostile = [
        (
            component("handles", "(loop $again (drop (call $subscribe (i64.const 1))) (br $again))"),
            trap,
            "handle limit exceeded",
        ),
        // Dropped and made anew, nothing is used up but time.
        (
            component(
                "churn",
                "(loop $again (call $drop-pollable (call $subscribe (i64.const 1))) (br $again))",
            ),
            cpu,
            "CPU limit of 300ms",
        ),
        (handle(Realloc::Good, "lists", &fill(lists)), trap, "hold more than 1048576 bytes in the host"),
        (component("many-pollables", many), trap, "handle limit exceeded"),
        (component("random", "(call $random (i64.const 65537) (i32.const 0))"), trap, "65536 are the most"),
        (
            component("memory", "(loop $again (drop (memory.grow (i32.const 100))) (br $again))"),
            memory,
            "the memory limit of 16 MiB is reached (`memory`)",
        ),
        (
            handle(Realloc::Good, "recursion", &fill("(call $handle (i32.const 0) (i32.const 0))")),
            trap,
            "call stack exhausted",
        ),
        (handle(Realloc::Traps, "realloc-traps", path), trap, "`unreachable`"),
        (handle(Realloc::Outside, "realloc-outside", path), trap, "beyond end of memory"),
        (
            handle(
                Realloc::Good,
                "post-return",
                r#"(func $handle (param i32 i32)) (func (export "post") unreachable)"#,
            ),
            trap,
            "`unreachable`",
        ),
        (
            append("list-outside", "(i32.const 32) (i32.const 1) (i32.const 0x7fff0000) (i32.const 8)"),
            trap,
            "out of bounds of memory",
        ),
        (
            append("list-wraps", "(i32.const 32) (i32.const 1) (i32.const -4) (i32.const 8)"),
            trap,
            "out of bounds of memory",
        ),
        (
            append("name-outside", "(i32.const 131071) (i32.const 2) (i32.const 0) (i32.const 0)"),
            trap,
            "out of bounds of memory",
        ),
        (
            append("name-is-no-text", "(i32.const 16) (i32.const 1) (i32.const 0) (i32.const 0)"),
            trap,
            "invalid utf-8",
        ),
        (component("no-such-handle", "(drop (call $ready (i32.const 12345)))"), trap, "unknown handle"),
        (
            component("handle-of-another-type", "(drop (call $ready (local.get $request)))"),
            trap,
            "with the wrong type",
        ),
        (
            component(
                "dropped-twice",
                "(local $p i32) (local.set $p (call $subscribe (i64.const 0)))
                 (call $drop-pollable (local.get $p)) (call $drop-pollable (local.get $p))",
            ),
            trap,
            "unknown handle",
        ),
        (component("silent", ""), "no-response", "without a response"),
    ];
    let mut server = Server::builder().app(App::guest("hello")).option("--workers", "1");
    for ((name, path), ..) in &hostile {
        let app = App::file(name, path).limit("memory", "16MiB").limit("cpu", "300ms");
        server = server.app(app);
    }
    let server = server.start();
    let mut client = server.client();
    let idle = server.rss_bytes();
    for ((name, _), code, why) in &hostile {
        let status = match *code {
            "no-response" => 502,
            "cpu-limit" => 504,
            _ => 500,
        };
        for _ in 0..3 {
            let response = client.get(&format!("{name}.test"), "/").unwrap();
            println!("{name}: {response:?}");
            logged_problem(&server, &response, status, code);
            success(&client.get("hello.test", "/").unwrap());
        }
        let told = server.stderr().count(|line| line.contains(&format!("{name:?}")) && line.contains(why));
        assert_eq!(told, 3, "{name}: {why}");
    }
    // What they left in the host is given back: far less than 50 of them would hold.
    until("memory is given back", || server.rss_bytes() < idle + (32 << 20));
}

/// Asking again and again whether a timer has gone off is computing, and others have their turn.
#[test]
fn a_component_that_asks_without_end_holds_nobody_up() {
    let asking = "(local $p i32) (local.set $p (call $subscribe (i64.const 3600000000000)))
        (loop $again (drop (call $ready (local.get $p))) (br $again))";
    let (name, path) = component("asking", asking);
    let server = Server::builder()
        .app(App::file(&name, &path).limit("cpu", "60s").limit("wall", "120s"))
        .app(App::guest("hello"))
        .option("--workers", "1")
        .start();
    success(&server.get("hello.test", "/"));
    let mut busy = server.client();
    busy.send_get("asking.test", "/").unwrap();
    let before = server.cpu_time();
    until("it asks", || server.cpu_time().saturating_sub(before) > Duration::from_millis(100));
    let mut client = server.client();
    for _ in 0..20 {
        success(&client.get("hello.test", "/").unwrap());
    }
    // Its client gone, it is gone.
    busy.reset().unwrap();
    until("the server rests", || {
        let before = server.cpu_time();
        std::thread::sleep(Duration::from_millis(100));
        server.cpu_time().saturating_sub(before) < Duration::from_millis(30)
    });
}

/// Handles that a reused component never drops come to their limit, which costs one request and that instance.
#[test]
fn what_a_reused_component_holds_is_bounded() {
    // The least memory has the fewest handles.
    let app = App::file("hoard", &rust_component("behaviours")).line("instances = { reuse = 100 }");
    let app = app.line(r#"limits = { memory = "3MiB" }"#);
    let server = Server::builder().app(app).option("--workers", "1").start();
    let mut client = server.client();
    // 300 a request: three are served, the fourth comes to a thousand.
    let statuses: Vec<_> = (0..8).map(|_| client.get("hoard.test", "/hoard").unwrap().status()).collect();
    assert_eq!(statuses, [200, 200, 200, 500, 200, 200, 200, 500]);
    assert!(server.wait_for_log(|line| line.contains("handle limit exceeded")).is_some());
}
