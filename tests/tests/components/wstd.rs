//! The example `http_server` of wstd, as it was published.

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use tidegate_tests::Client;
use tidegate_tests::check::{self, success};
use tidegate_tests::pattern::Pattern;

use crate::{Instances, ask, halves, serve};

fn example(instances: Instances) {
    let Some(server) = serve("wstd", instances, &[]) else { return };
    let mut client = server.client();
    check::ok(&client.get("a", "/").unwrap(), b"Hello, wasi:http/proxy world!\n");

    for path in ["/wait-response", "/wait-body"] {
        let response = client.get("a", path).unwrap();
        success(&response);
        let text = response.text();
        let slept: u64 = text.split(' ').nth(2).and_then(|word| word.parse().ok()).expect(&text);
        assert!((1_000..30_000).contains(&slept), "{path}: {text}");
    }
    let stream = client.get("a", "/stream-body").unwrap();
    success(&stream);
    assert_eq!(stream.text().lines().count(), 5, "{stream:?}");

    let body = Pattern::new(1).take(1 << 20);
    let mut writer = client.writer().unwrap();
    let head = format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let bytes = [head.as_bytes(), &body].concat();
    let sender = thread::spawn(move || writer.write_all(&bytes));
    check::ok(&client.response().unwrap(), &body);
    sender.join().unwrap().unwrap();

    client.send("GET /echo-headers HTTP/1.1\r\nHost: a\r\nX-Red: blue\r\n\r\n").unwrap();
    let headers = client.response().unwrap();
    check::ok(&headers, b"");
    assert_eq!(headers.header("x-red"), Some("blue"), "{headers:?}");

    let chunked =
        "POST /echo-trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{chunked}2\r\nhi\r\n0\r\nx-end: yes\r\n\r\n")).unwrap();
    let trailers = client.response().unwrap();
    check::ok(&trailers, b"");
    assert_eq!(trailers.trailers, [("x-end".to_owned(), "yes".to_owned())]);

    client.send("GET /response-status HTTP/1.1\r\nHost: a\r\nX-Response-Status: 418\r\n\r\n").unwrap();
    assert_eq!(client.response().unwrap().status(), 418);
    let failed = client.get("a", "/response-fail").unwrap();
    assert!(failed.status() >= 500, "{failed:?}");
    check::cut(&client.get("a", "/response-body-fail"));
    assert_eq!(ask(&server, "/nowhere").status(), 404);
}

/// A hundred at once, on one worker.
fn crowd(instances: Instances) {
    let Some(server) = serve("wstd", instances, &[("--workers", "1")]) else { return };
    let mut clients: Vec<Client> = (0..100).map(|_| server.client()).collect();
    let started = Instant::now();
    for client in &mut clients {
        client.send_get("a", "/wait-response").unwrap();
    }
    for client in &mut clients {
        let response = client.response().unwrap();
        success(&response);
        assert!(response.text().starts_with("slept for "), "{response:?}");
    }
    let took = started.elapsed();
    assert!(took >= Duration::from_secs(1), "nobody waited: {took:?}");
    assert!(took < Duration::from_secs(50), "they waited for each other: {took:?}");
    halves(&mut clients);
}

mod fresh {
    #[test]
    fn example() {
        super::example(crate::Fresh);
    }

    #[test]
    fn crowd() {
        super::crowd(crate::Fresh);
    }
}

mod reused {
    #[test]
    fn example() {
        super::example(crate::Reused);
    }

    #[test]
    fn crowd() {
        super::crowd(crate::Reused);
    }
}
