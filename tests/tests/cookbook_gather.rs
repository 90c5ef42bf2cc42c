//! The guest `gather`: three others are asked at once, and one that fails or is late does not spoil what the others say.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_tests::check::success;
use tidegate_tests::upstream::Bad;
use tidegate_tests::{App, Server, Upstream, wait};

/// Says `{"PART": TARGET}` after a while.
fn part(name: &'static str, delay: Duration) -> Upstream {
    Upstream::serve(move |peer| {
        while let Some(request) = peer.request()? {
            peer.pause(delay)?;
            let text = json!({ name: request.target }).to_string();
            peer.respond("200 OK", "Content-Type: application/json\r\n", text.as_bytes())?;
        }
        Ok(())
    })
}

fn server(prices: &Upstream, stock: &Upstream, reviews: &Upstream) -> Server {
    let named = [("PRICES", prices), ("STOCK", stock), ("REVIEWS", reviews)];
    let app = named.into_iter().fold(App::guest("gather"), |app, (name, upstream)| {
        app.env(name, format!("http://{}/of", upstream.addr())).connect(upstream.addr())
    });
    Server::builder().app(app).option("--workers", "1").start()
}

fn page(server: &Server) -> Value {
    let response = server.get("gather.test", "/?item=chair");
    success(&response);
    serde_json::from_slice(&response.body).unwrap()
}

#[test]
fn all_are_asked_at_once() {
    let delay = Duration::from_millis(400);
    let (prices, stock, reviews) = (part("prices", delay), part("stock", delay), part("reviews", delay));
    let server = server(&prices, &stock, &reviews);
    // Not the first, which may have to be compiled.
    let said = json!({
        "item": "chair",
        "prices": { "prices": "/of?item=chair" },
        "stock": { "stock": "/of?item=chair" },
        "reviews": { "reviews": "/of?item=chair" },
    });
    assert_eq!(page(&server), said);
    let started = Instant::now();
    assert_eq!(page(&server), said);
    let took = started.elapsed();
    assert!(took >= delay && took < 3 * delay, "one after the other: {took:?}");
    assert_eq!(prices.accepted(), 1, "its connection is kept");
}

#[test]
fn one_that_fails_and_one_that_is_late_are_said_to_be_missing() {
    let (prices, broken) = (part("prices", Duration::ZERO), Upstream::bad(Bad::Garbage));
    let late = Upstream::bad(Bad::HangsBeforeHead);
    let server = server(&prices, &broken, &late);
    let page = page(&server);
    assert_eq!(page["prices"], json!({ "prices": "/of?item=chair" }));
    assert_eq!(page["stock"], json!({ "error": "not available" }));
    assert_eq!(page["reviews"], json!({ "error": "too slow" }));
    // What was given up is not waited for.
    late.wait_until_left();
    broken.wait_until_left();
    let told = server.wait_for_log(|line| line.contains("HTTP-protocol-error"));
    assert!(told.is_some(), "{}", server.stderr().tail(5));
}

#[test]
fn a_client_that_hangs_up_takes_all_three_with_it() {
    let silent = || Upstream::bad(Bad::HangsBeforeHead);
    let all = [silent(), silent(), silent()];
    let server = server(&all[0], &all[1], &all[2]);
    let files = server.fds_at_rest();
    let mut client = server.client();
    client.send_get("gather.test", "/?item=chair").unwrap();
    all.iter().for_each(|upstream| upstream.wait_for_requests(1));
    client.reset().unwrap();
    all.iter().for_each(Upstream::wait_until_left);
    wait::until("the server has what it had", || server.fd_count() <= files);
}
