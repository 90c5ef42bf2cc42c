//! The guest `ticker` over the real server: events leave one by one, resume where they ended, and end with their client.

use std::time::{Duration, Instant};

use tidegate_tests::http::{Body, Head};
use tidegate_tests::wait::until;
use tidegate_tests::{App, Client, Server};

/// A client that has sent its request and read the head.
struct Listener {
    client: Client,
    head: Head,
    body: Body,
    bytes: Vec<u8>,
}

impl Listener {
    fn new(server: &Server, fields: &str) -> Self {
        let mut client = server.client();
        client.send(format!("GET / HTTP/1.1\r\nHost: ticker.test\r\n{fields}\r\n")).unwrap();
        let head = client.head().unwrap();
        let body = client.body(&head).unwrap();
        Self { client, head, body, bytes: Vec::new() }
    }

    /// Reads until `count` events are there in full, and returns all that came.
    fn events(&mut self, count: usize) -> &str {
        while self.bytes.windows(2).filter(|pair| pair == b"\n\n").count() < count {
            let n = self.client.read_body(&mut self.body, &mut self.bytes, 16 << 10).unwrap();
            assert!(n > 0, "it ended after {:?}", String::from_utf8_lossy(&self.bytes));
        }
        std::str::from_utf8(&self.bytes).unwrap()
    }
}

fn ticker(tick_ms: &str) -> Server {
    let app = App::guest("ticker").line(&format!("env = {{ TICK_MS = {tick_ms:?} }}"));
    Server::builder().app(app.limit("concurrency", "1").limit("queue", "0")).option("--workers", "1").start()
}

#[test]
fn events_come_one_by_one_at_their_pace() {
    let server = ticker("50");
    let began = Instant::now();
    let mut listener = Listener::new(&server, "");
    assert_eq!(listener.head.status, 200);
    assert_eq!(listener.head.header("content-type"), Some("text/event-stream"));
    assert_eq!(listener.head.header("cache-control"), Some("no-store"));
    assert!(listener.events(1).starts_with("id: 1\ndata: line 1\n\n"));
    let text = listener.events(4);
    assert!(text.contains("id: 3\ndata: line 3\n\nid: 4\ndata: line 4\n\n"), "{text}");
    // Three pauses lie between four events.
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_comes_back_goes_on_and_the_one_before_is_gone() {
    // One place: the second request is only served once the first has been given up.
    let server = ticker("10");
    let mut first = Listener::new(&server, "");
    first.events(3);
    assert_eq!(server.get("ticker.test", "/").status(), 503);
    first.client.reset().unwrap();

    let mut second = None;
    until("the place is free again", || {
        let listener = Listener::new(&server, "Last-Event-ID: 3\r\n");
        let served = listener.head.status == 200;
        second = served.then_some(listener);
        served
    });
    let text = second.as_mut().unwrap().events(2).to_owned();
    assert!(text.starts_with("id: 4\ndata: line 4\n\nid: 5\ndata: line 5\n\n"), "{text}");
}

/// The first event is there long before the second: it is not kept back until there is more.
#[test]
fn an_event_is_not_kept_waiting_for_the_next() {
    let server = ticker("3600000");
    assert!(Listener::new(&server, "").events(1).starts_with("id: 1\n"));
}

#[test]
fn a_pace_that_is_no_number_is_explained_in_the_log() {
    let server = ticker("often");
    let response = server.get("ticker.test", "/");
    assert_eq!((response.status(), response.header("content-type")), (500, Some("application/problem+json")));
    assert!(!response.text().contains("TICK_MS"), "{}", response.text());
    assert!(server.wait_for_log(|line| line.contains("TICK_MS") && line.contains("u64")).is_some());
}
