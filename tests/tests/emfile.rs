//! Out of file descriptors, or at the limit of connections: accepting pauses, nothing fails, and it resumes.

use std::time::{Duration, Instant};

use tidegate_tests::check::success;
use tidegate_tests::{Client, Server};

const PAUSED: &str = "accepting is paused";
const RESUMED: &str = "accepting goes on after";

/// Lines of the log about a pause, and about its end.
fn told(server: &Server) -> (usize, usize) {
    let lines = |part| server.stderr().count(|line| line.contains(part));
    (lines(PAUSED), lines(RESUMED))
}

#[test]
fn accept_pauses_at_the_limit_and_resumes() {
    let mut server = Server::builder().guest("hello").option("--workers", "1").start();
    success(&server.get("a", "/"));
    tidegate_tests::wait::until("the first connection is closed", || server.fd_count() > 0);
    let limit = server.fd_count() + 12;
    server.limit_fds(limit as u64);

    // The kernel completes all of these; the server can take about a dozen.
    let mut clients: Vec<Client> = (0..40).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send_get("a", "/").unwrap();
    }
    success(&clients[0].response().unwrap());
    tidegate_tests::wait::until("the limit is reached", || server.fd_count() + 1 >= limit);

    // It must rest, not spin on a listener that stays readable.
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    let used = server.cpu_time().saturating_sub(before);
    assert!(used < Duration::from_millis(250), "it used {used:?} of half a second");
    assert!(server.is_running());

    // Every one that leaves makes room for the next, and nobody is forgotten.
    let mut waiting = clients.split_off(1);
    drop(clients);
    while !waiting.is_empty() {
        let mut client = waiting.remove(0);
        success(&client.response().unwrap());
    }
    success(&server.get("a", "/"));

    // All that was one pause, seen from outside.
    assert!(server.wait_for_log(|line| line.contains(RESUMED)).is_some());
    assert_eq!(told(&server), (1, 1));
}

#[test]
fn a_full_server_that_nobody_waits_for_says_nothing() {
    let server =
        Server::builder().guest("hello").option("--workers", "1").option("--connections", "2").start();
    let mut inside: Vec<Client> = (0..2).map(|_| server.client()).collect();
    for client in &mut inside {
        success(&client.get("a", "/").unwrap());
    }
    // Several of its looks at the door.
    let before = server.cpu_time();
    std::thread::sleep(Duration::from_millis(400));
    assert!(server.cpu_time().saturating_sub(before) < Duration::from_millis(200));

    let mut outside = server.client();
    outside.send_get("a", "/").unwrap();
    assert!(server.wait_for_log(|line| line.contains(PAUSED)).is_some());
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(told(&server), (1, 0), "the one that waits is told of once, those inside are not");
    drop(inside);
    success(&outside.response().unwrap());
    assert!(server.wait_for_log(|line| line.contains(RESUMED)).is_some());
    assert_eq!(told(&server), (1, 1));
}

#[test]
fn a_crowd_at_the_limit_does_not_flood_the_log() {
    let server =
        Server::builder().guest("hello").option("--workers", "2").option("--connections", "4").start();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..150).for_each(|_| success(&server.get("a", "/"))));
        }
    });
    // A worker tells of one pause a second.
    let most = 2 * (1 + started.elapsed().as_secs() as usize);
    let (paused, resumed) = told(&server);
    assert!(paused <= most && resumed <= most, "{paused} and {resumed} lines in {:?}", started.elapsed());
    success(&server.get("a", "/"));
}
