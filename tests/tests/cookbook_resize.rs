//! The guest `resize`: pictures become thumbnails, what is none is refused in words, and nobody waits for it.

use std::io::{ErrorKind, Read};
use std::time::Duration;

use tidegate_tests::check::{self, success};
use tidegate_tests::{App, Client, End, Response, Server};

fn resize() -> Server {
    Server::builder().guest("resize").start()
}

/// 1200 x 600, the left half red, the right half blue.
const WIDE: &[u8] = include_bytes!("../pictures/wide.png");
/// The same of 2000 x 2000.
const LARGE: &[u8] = include_bytes!("../pictures/large.png");

/// The beginning of a grey PNG of this size: all that is known of a picture before it is unfolded.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 0, 0, 0, 0]);
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for chunk in [&header[..], b"IDAT"] {
        png.extend((chunk.len() as u32 - 4).to_be_bytes());
        png.extend(chunk);
        png.extend(crc32(chunk).to_be_bytes());
    }
    png
}

/// PNG, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    let shifted = |crc: u32| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| shifted(crc)))
}

/// A PNG of this size.
#[track_caller]
fn thumbnail(response: &Response, size: (u32, u32)) {
    success(response);
    assert_eq!(response.header("content-type"), Some("image/png"), "{response:?}");
    let number = |at: usize| u32::from_be_bytes(response.body[at..at + 4].try_into().unwrap());
    assert_eq!(&response.body[..8], b"\x89PNG\r\n\x1a\n");
    assert_eq!((number(16), number(20)), size);
}

/// A problem document of the handler's own.
#[track_caller]
fn refused(response: &Response, status: u16, detail: &str) {
    assert_eq!((response.status(), &response.end), (status, &End::Clean), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{response:?}");
    assert_eq!(response.header("tidegate-error"), None, "the server had to step in: {response:?}");
    let problem: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(problem["status"], status);
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains(detail)), "{problem}");
}

#[test]
fn pictures_keep_their_shape_and_fit_the_width() {
    let server = resize();
    let mut client = server.client();
    for (target, size) in [("/", (200, 100)), ("/?width=512", (512, 256)), ("/?width=64", (64, 32))] {
        thumbnail(&client.post("a", target, WIDE).unwrap(), size);
    }
}

#[test]
fn what_cannot_be_resized_is_refused_in_words() {
    let server = resize();
    let mut client = server.client();
    let cut = &WIDE[..WIDE.len() / 2];
    for (target, body, status, detail) in [
        ("/?width=0", WIDE, 400, "1 to 512"),
        ("/?width=513", WIDE, 400, "1 to 512"),
        ("/?width=wide", WIDE, 400, "1 to 512"),
        ("/", b"", 415, "PNG or a JPEG"),
        ("/", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "PNG or a JPEG"),
        ("/", b"GIF89a\x01\x00\x01\x00\x00\x00\x00", 415, "PNG or a JPEG"),
        ("/", cut, 422, "damaged"),
        ("/", b"\x89PNG\r\n\x1a\n", 422, "damaged"),
        ("/", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", 422, "damaged"),
    ] {
        refused(&client.post("a", target, body).unwrap(), status, detail);
    }
    thumbnail(&client.post("a", "/", WIDE).unwrap(), (200, 100));
}

/// What would unfold into 64 megapixels, a side that is too long, a body over the limit: refused by the handler, before
/// they have cost its memory.
#[test]
fn bombs_do_not_go_off() {
    let server = resize();
    for body in [png_head(8_000, 8_000), png_head(2_001, 2_000), png_head(9_000, 10)] {
        refused(&server.client().post("a", "/", &body).unwrap(), 413, "pixels");
    }
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n").unwrap();
    refused(&client.response().unwrap(), 413, "bytes");
}

/// Nothing has come yet; it does not wait.
fn is_silent(client: &Client) -> bool {
    let mut stream = client.stream().try_clone().unwrap();
    stream.set_deadline(Duration::from_millis(1));
    matches!(stream.read(&mut [0]), Err(error) if error.kind() == ErrorKind::TimedOut)
}

/// One worker, so one thread: four large pictures are being resized on it, and hello is answered all the same.
#[test]
fn others_are_served_while_it_computes() {
    let server =
        Server::builder().app(App::guest("resize")).app(App::guest("hello")).option("--workers", "1").start();
    let hello = server.get("hello.test", "/").body;
    let body = LARGE;
    let mut busy: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut busy {
        let length = body.len();
        let head =
            format!("POST /?width=512 HTTP/1.1\r\nHost: resize.test\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).unwrap();
        client.send(body).unwrap();
    }
    let before = server.cpu_time();
    tidegate_tests::wait::until("it computes", || {
        server.cpu_time().saturating_sub(before) > Duration::from_millis(5)
    });

    let mut client = server.client();
    for _ in 0..10 {
        check::ok(&client.get("hello.test", "/").unwrap(), &hello);
    }
    let computing = busy.iter().filter(|client| is_silent(client)).count();
    assert!(computing > 0, "all four were done before hello was answered ten times");
    for client in &mut busy {
        thumbnail(&client.response().unwrap(), (512, 512));
    }
}
