//! Many connections that do little: idle ones and slow readers, each within its bound of memory.

use std::time::Duration;

use tidegate_tests::check::success;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::PATIENCE;
use tidegate_tests::{Addr, Client, Server};

/// 500 here, 8,000 in the benchmark `idle`, which gives the figure; this bound only catches a buffer that an idle
/// connection keeps.
#[test]
fn idle_connections_hold_no_buffers() {
    let server = Server::builder().guest("hello").option("--workers", "1").start();
    let warm: Vec<Client> = (0..100).map(|_| used(&server)).collect();
    let before = server.rss_bytes();
    let idle: Vec<Client> = (0..500).map(|_| used(&server)).collect();
    let grown = server.rss_bytes().saturating_sub(before);
    assert!(grown < 500 * 4_096, "{} bytes a connection", grown / 500);
    for mut client in warm.into_iter().chain(idle) {
        success(&client.get("a", "/").unwrap());
    }
}

fn used(server: &Server) -> Client {
    let mut client = server.client();
    success(&client.get("a", "/").unwrap());
    client
}

/// 20 here, 200 in the benchmark `slow_readers`.
#[test]
fn slow_readers_are_bounded() {
    let server = Server::builder().guest("generate").option("--workers", "1").start();
    success(&server.get("a", "/1000000"));
    let base = server.rss_bytes();
    let Addr::Tcp(addr) = *server.addr() else { panic!("TCP by default") };
    let mut readers = Vec::new();
    for _ in 0..20 {
        let stream = Stream::connect_with_receive_buffer(addr, 4_096, PATIENCE).unwrap();
        let mut client = Client::over(stream);
        client.send_get("a", "/100000000").unwrap();
        let head = client.head().unwrap();
        let body = client.body(&head).unwrap();
        readers.push((client, body));
    }
    let mut piece = Vec::new();
    for round in 0..30 {
        for (client, body) in &mut readers {
            piece.clear();
            let n = client.read_body(body, &mut piece, 8_192).unwrap();
            assert!(n > 0, "ended in round {round}: {:?}", body.end());
        }
        // This is the slow reader being slow.
        std::thread::sleep(Duration::from_millis(10));
    }
    // A guest's own memory (a few hundred KiB, touched) comes on top of what the connection may hold.
    let grown = server.rss_bytes().saturating_sub(base);
    assert!(grown < 20 * (256 << 10) + (16 << 20), "{grown} bytes for 20 slow readers");
}
