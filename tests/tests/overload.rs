//! Admission: what is beyond the concurrency and the queue is turned away at once, and what waits is served.

use std::time::{Duration, Instant};

use tidegate_tests::check::{logged_problem, success};
use tidegate_tests::{App, Client, Server};

fn small() -> Server {
    Server::builder()
        .app(App::guest("slow").limit("concurrency", "1").limit("queue", "1"))
        .app(App::guest("hello"))
        .option("--workers", "1")
        .start()
}

#[test]
fn the_third_is_turned_away_and_the_second_is_served() {
    let server = small();
    let (mut first, mut second, mut third) = (server.client(), server.client(), server.client());
    // A single worker accepts and reads in order, but the kernel may deliver out of it: of three requests, one is
    // shed, whichever it is, and two are served.
    for client in [&mut first, &mut second, &mut third] {
        client.send_get("slow.test", "/500").unwrap();
    }
    let responses: Vec<_> = [first, second, third].iter_mut().map(|c| c.response().unwrap()).collect();
    let shed: Vec<_> = responses.iter().filter(|response| response.status() == 503).collect();
    assert_eq!(shed.len(), 1, "{responses:?}");
    logged_problem(&server, shed[0], 503, "overloaded");
    let wait = shed[0].header("retry-after").and_then(|seconds| seconds.parse::<u32>().ok());
    assert!(wait.is_some_and(|seconds| seconds >= 1), "{:?}", shed[0]);
    assert_eq!(responses.iter().filter(|response| response.status() == 200).count(), 2, "{responses:?}");
    // The app next door has its own queue.
    success(&server.get("hello.test", "/"));
}

#[test]
fn shedding_is_fast_and_the_connection_goes_on() {
    let server = small();
    let mut busy: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for client in &mut busy {
        client.send_get("slow.test", "/3000").unwrap();
    }
    let mut late = server.client();
    let started = Instant::now();
    let mut shed = 0;
    while shed < 20 {
        let response = late.get("slow.test", "/1").unwrap();
        assert_eq!(response.status(), 503, "{response:?}");
        shed += 1;
    }
    assert!(started.elapsed() < Duration::from_millis(2_500), "shedding took {:?}", started.elapsed());
    for client in &mut busy {
        success(&client.response().unwrap());
    }
    success(&late.get("slow.test", "/1").unwrap());
}

#[test]
fn a_queue_drains_in_order() {
    let server = Server::builder()
        .app(App::guest("slow").limit("concurrency", "2").limit("queue", "100"))
        .option("--workers", "1")
        .start();
    let mut clients: Vec<Client> = (0..40).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("slow.test", "/10").unwrap();
    }
    for client in &mut clients {
        success(&client.response().unwrap());
    }
}

#[test]
fn whoever_leaves_the_queue_makes_room() {
    let server = small();
    let mut running = server.client();
    running.send_get("slow.test", "/2000").unwrap();
    for _ in 0..10 {
        let mut waiting = server.client();
        waiting.send_get("slow.test", "/1").unwrap();
        waiting.reset().unwrap();
    }
    success(&running.response().unwrap());
    // Had the ones that left kept their places, this one would be shed.
    let served = tidegate_tests::wait::poll_for(Duration::from_secs(10), || {
        (server.get("slow.test", "/1").status() == 200).then_some(())
    });
    assert!(served.is_some(), "a place in the queue was lost");
}
