//! The guest `upload`: a body of any size, in any framing, is hashed as it comes, and none of it piles up anywhere.

use std::io::Write;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tidegate_tests::check::success;
use tidegate_tests::pattern::Pattern;
use tidegate_tests::stream::Stream;
use tidegate_tests::wait::until;
use tidegate_tests::{App, Client, Response, Server};

/// The handler has a sixteenth of the usual memory, and nobody else's place.
fn upload() -> Server {
    let app = App::guest("upload").limit("memory", "4MiB").limit("concurrency", "1").limit("queue", "0");
    Server::builder().app(app).option("--workers", "1").start()
}

fn receipt(bytes: usize, hash: Sha256) -> Value {
    json!({ "bytes": bytes, "sha256": format!("{:x}", hash.finalize()) })
}

#[track_caller]
fn told(response: &Response, receipt: &Value) {
    success(response);
    assert_eq!(response.header("content-type"), Some("application/json"), "{response:?}");
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(&body, receipt);
}

fn hashed(bytes: &[u8]) -> Value {
    receipt(bytes.len(), Sha256::new().chain_update(bytes))
}

/// Writes `blocks` times `size` bytes, no two blocks alike, each with what `framing` puts before and after it. Returns
/// what the receipt should say.
fn send(mut to: Stream, blocks: usize, size: usize, framing: (&str, &str)) -> Value {
    to.set_deadline(Duration::from_secs(120));
    let mut hash = Sha256::new();
    let mut block = Pattern::new(8).take(size);
    for i in 0..blocks {
        block[..8].copy_from_slice(&i.to_le_bytes());
        hash.update(&block);
        let framed = [framing.0.as_bytes(), &block, framing.1.as_bytes()].concat();
        to.write_all(&framed).unwrap();
    }
    receipt(blocks * size, hash)
}

#[test]
fn two_hundred_megabytes_are_hashed_in_a_few() {
    const MIB: usize = 1 << 20;
    let server = upload();
    told(&server.client().post("upload.test", "/", b"warm").unwrap(), &hashed(b"warm"));
    let idle = server.rss_bytes();

    let mut client = server.client();
    client.set_patience(Duration::from_secs(120));
    let length = 200 * MIB;
    client.send(format!("POST / HTTP/1.1\r\nHost: upload.test\r\nContent-Length: {length}\r\n\r\n")).unwrap();
    let writer = client.writer().unwrap();
    let sender = thread::spawn(move || send(writer, 200, MIB, ("", "")));
    let response = client.response().unwrap();
    told(&response, &sender.join().unwrap());

    let grown = server.rss_peak_bytes().saturating_sub(idle);
    assert!(grown < 10 << 20, "the server grew by {grown} bytes");
}

#[test]
fn chunks_are_hashed_without_their_framing() {
    let server = upload();
    let mut client = server.client();
    client.send("PUT / HTTP/1.1\r\nHost: upload.test\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let mut writer = client.writer().unwrap();
    let sender = thread::spawn(move || {
        let receipt = send(writer.try_clone().unwrap(), 3_000, 1_234, ("4d2\r\n", "\r\n"));
        writer.write_all(b"0\r\n\r\n").unwrap();
        receipt
    });
    let response = client.response().unwrap();
    told(&response, &sender.join().unwrap());
    // The connection is in step afterwards.
    told(&client.post("upload.test", "/", b"next").unwrap(), &hashed(b"next"));
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let server = upload();
    let mut client = server.client();
    let head = "POST / HTTP/1.1\r\nHost: upload.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    client.send(head).unwrap();
    assert_eq!(client.head().unwrap().status, 100);
    client.send("hello").unwrap();
    told(&client.response().unwrap(), &hashed(b"hello"));
}

#[test]
fn no_body_is_a_body_of_no_bytes() {
    let server = upload();
    told(&server.get("upload.test", "/"), &hashed(b""));
    told(&server.client().post("upload.test", "/", b"").unwrap(), &hashed(b""));
}

/// Whoever goes away half-way gets no receipt, and takes the handler along: there is place for the next one.
#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    type Leave = fn(Client);
    let ways: [Leave; 2] = [
        |client| client.reset().unwrap(),
        |mut client| {
            client.shutdown_write().unwrap();
            if let Ok(response) = client.response() {
                assert_eq!(response.status(), 400, "{response:?}");
            }
        },
    ];
    let server = upload();
    success(&server.get("upload.test", "/"));
    let files = server.fd_count();
    for leave in ways {
        let mut client = server.client();
        client.send("POST / HTTP/1.1\r\nHost: upload.test\r\nContent-Length: 1000000\r\n\r\n").unwrap();
        client.send(vec![b'x'; 500_000]).unwrap();
        server.settle();
        until("it has its place", || server.get("upload.test", "/").status() == 503);
        leave(client);
        until("its place is free", || server.get("upload.test", "/").status() == 200);
        until("its descriptors are given back", || server.fd_count() <= files);
    }
}
