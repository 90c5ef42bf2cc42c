//! A guest that computes slows only its own app.

use std::time::{Duration, Instant};

use tidegate_tests::check::success;
use tidegate_tests::{App, Client, Server};

fn with_spins(n: usize) -> (Server, Vec<Client>) {
    let server = Server::builder()
        .app(App::guest("spin").limit("cpu", "60s").limit("wall", "120s"))
        .app(App::guest("hello"))
        .option("--workers", "1")
        .start();
    success(&server.get("hello.test", "/"));
    let mut spins: Vec<Client> = (0..n).map(|_| server.client()).collect();
    for client in &mut spins {
        client.send_get("spin.test", "/").unwrap();
    }
    // They run once the server has used as much CPU as an idle one never would.
    let before = server.cpu_time();
    tidegate_tests::wait::until("the spins run", || {
        server.cpu_time().saturating_sub(before) > Duration::from_millis(100)
    });
    (server, spins)
}

/// The goal is 20 ms for the 99th percentile and belongs to the benchmark `fair`; here, where other tests share the
/// cores, nine of ten answers within 100 ms show that slices exist and that apps take turns.
#[test]
fn hello_answers_beside_four_endless_loops_on_one_worker() {
    let (server, spins) = with_spins(4);
    let mut client = server.client();
    let mut times: Vec<Duration> = (0..200)
        .map(|_| {
            let started = Instant::now();
            success(&client.get("hello.test", "/").unwrap());
            started.elapsed()
        })
        .collect();
    times.sort();
    let (median, p90) = (times[100], times[180]);
    assert!(p90 < Duration::from_millis(100), "median {median:?}, p90 {p90:?}, most {:?}", times[199]);
    drop(spins);
}

/// Sixteen spins of one app get no more than the app's share: hello is not slowed by their number.
#[test]
fn the_number_of_loops_does_not_matter() {
    let (server, spins) = with_spins(16);
    let mut client = server.client();
    let mut times: Vec<Duration> = (0..100)
        .map(|_| {
            let started = Instant::now();
            success(&client.get("hello.test", "/").unwrap());
            started.elapsed()
        })
        .collect();
    times.sort();
    assert!(times[90] < Duration::from_millis(100), "median {:?}, p90 {:?}", times[50], times[90]);
    drop(spins);
}
