//! The bytes an app sends appear on its own connections and nowhere else, whatever instance ran before.

use std::io::Write;
use std::thread;

use tidegate_tests::check::success;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::{App, Server};

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 12;

/// Two apps, fresh or reused, many connections at once; each body is tagged by app, connection and request, so that
/// a single byte that strays is seen.
fn nothing_crosses(instances: &str) {
    let app = |name: &str| App::guest("echo").named(name).line(instances);
    let server = Server::builder().app(app("one")).app(app("two")).option("--workers", "2").start();
    thread::scope(|scope| {
        for i in 0..CLIENTS {
            let server = &server;
            scope.spawn(move || {
                let host = if i % 2 == 0 { "one.test" } else { "two.test" };
                converse(server, host, i);
            });
        }
    });
}

fn converse(server: &Server, host: &str, connection: u64) {
    let mut client = server.client();
    for request in 0..REQUESTS {
        let seed = connection << 32 | request;
        // From one byte to beyond every buffer on the way, in no particular order.
        let size = 1 + (seed.wrapping_mul(2_654_435_761) >> 7) as usize % 180_000;
        let body = Pattern::new(seed).take(size);
        let head = format!("POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {size}\r\n\r\n");
        let mut writer = client.writer().unwrap();
        let response = thread::scope(|scope| {
            scope.spawn(|| writer.write_all(&[head.as_bytes(), &body].concat()).unwrap());
            client.response().unwrap()
        });
        success(&response);
        assert_eq!(response.body.len(), size, "{host}, connection {connection}, request {request}");
        let checked = Pattern::new(seed).check(&response.body);
        assert_eq!(checked, Ok(()), "{host}, connection {connection}, request {request}");
    }
}

#[test]
fn with_fresh_instances() {
    nothing_crosses("instances = \"fresh\"");
}

#[test]
fn with_reused_instances() {
    nothing_crosses("instances = { reuse = 1000 }");
}

/// A reused instance whose request was cut in the middle is not used again, and nothing of it reaches the next.
#[test]
fn after_clients_that_left_in_the_middle() {
    let server = Server::builder()
        .app(App::guest("echo").line("instances = { reuse = 1000 }"))
        .option("--workers", "1")
        .start();
    for i in 0..200_u64 {
        let mut gone = server.client();
        gone.send(format!("POST / HTTP/1.1\r\nHost: echo.test\r\nContent-Length: 50000\r\n\r\nsecret {i}"))
            .unwrap();
        gone.reset().unwrap();
        let body = Pattern::new(i).take(5_000);
        let response = server.client().post("echo.test", "/", &body).unwrap();
        tidegate_tests::check::ok(&response, &body);
    }
}
