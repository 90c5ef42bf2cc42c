//! Out of file descriptors: accepting pauses, nothing fails, and it resumes.

use std::time::Duration;

use tidegate_tests::check::success;
use tidegate_tests::{Client, Server};

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
    let used = server.cpu_time() - before;
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
}
