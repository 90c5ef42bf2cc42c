//! The guest `resize`: pictures become thumbnails, what is none is refused in words, and nobody waits for it.

use std::io::{Cursor, ErrorKind, Read};
use std::time::Duration;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tidegate_tests::check::{self, success};
use tidegate_tests::{App, Client, End, Response, Server};

fn resize() -> Server {
    Server::builder().guest("resize").start()
}

/// Left half red, right half blue.
fn picture(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, _| if x < width / 2 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) })
}

fn encoded(picture: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// A PNG of this size, red on the left and blue on the right.
#[track_caller]
fn thumbnail(response: &Response, size: (u32, u32)) {
    success(response);
    assert_eq!(response.header("content-type"), Some("image/png"), "{response:?}");
    let picture = image::load_from_memory_with_format(&response.body, ImageFormat::Png).unwrap().to_rgb8();
    assert_eq!(picture.dimensions(), size);
    let (left, right) = (picture[(0, 0)], picture[(size.0 - 1, size.1 - 1)]);
    assert!(left[0] > 230 && left[2] < 25, "{left:?}");
    assert!(right[2] > 230 && right[0] < 25, "{right:?}");
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
    let (wide, tall) = (picture(1200, 600), picture(90, 360));
    for (body, target, size) in [
        (encoded(wide.clone(), ImageFormat::Png), "/", (200, 100)),
        (encoded(wide.clone(), ImageFormat::Png), "/?width=512", (512, 256)),
        (encoded(wide, ImageFormat::Jpeg), "/?width=64", (64, 32)),
        (encoded(tall.clone(), ImageFormat::Jpeg), "/?width=100", (25, 100)),
        // Nothing is made larger.
        (encoded(tall, ImageFormat::Png), "/?width=500", (90, 360)),
    ] {
        thumbnail(&client.post("a", target, &body).unwrap(), size);
    }
}

#[test]
fn what_cannot_be_resized_is_refused_in_words() {
    let server = resize();
    let mut client = server.client();
    let good = encoded(picture(300, 300), ImageFormat::Png);
    let cut = &good[..good.len() / 2];
    for (target, body, status, detail) in [
        ("/?width=0", &good[..], 400, "1 to 512"),
        ("/?width=513", &good, 400, "1 to 512"),
        ("/?width=wide", &good, 400, "1 to 512"),
        ("/", b"", 415, "PNG or a JPEG"),
        ("/", b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "PNG or a JPEG"),
        ("/", b"GIF89a\x01\x00\x01\x00\x00\x00\x00", 415, "PNG or a JPEG"),
        ("/", cut, 422, "damaged"),
        ("/", b"\x89PNG\r\n\x1a\n", 422, "damaged"),
        ("/", b"\xff\xd8\xff\xe0\x00\x10JFIF\x00", 422, "damaged"),
    ] {
        refused(&client.post("a", target, body).unwrap(), status, detail);
    }
    thumbnail(&client.post("a", "/", &good).unwrap(), (200, 200));
}

/// A third of a megabyte that would unfold into 64 megapixels, a side that is too long, a body over the limit: refused
/// by the handler, before they have cost its memory.
#[test]
fn bombs_do_not_go_off() {
    let server = resize();
    let bomb = encoded(DynamicImage::new_luma8(8_000, 8_000), ImageFormat::Png);
    assert!(bomb.len() < 400_000, "{}", bomb.len());
    let just_over = encoded(DynamicImage::new_luma8(2_001, 2_000), ImageFormat::Png);
    let long = encoded(DynamicImage::new_luma8(9_000, 10), ImageFormat::Jpeg);
    for body in [bomb, just_over, long] {
        refused(&server.client().post("a", "/", &body).unwrap(), 413, "pixels");
    }
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n").unwrap();
    refused(&client.response().unwrap(), 413, "bytes");

    // What is just within all limits fits into the memory that handlers have by default.
    let most = DynamicImage::new_rgba16(2_000, 2_000);
    success(&server.client().post("a", "/?width=512", &encoded(most, ImageFormat::Png)).unwrap());
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
    let body = encoded(picture(2_000, 2_000), ImageFormat::Jpeg);
    let mut busy: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for client in &mut busy {
        let length = body.len();
        let head =
            format!("POST /?width=512 HTTP/1.1\r\nHost: resize.test\r\nContent-Length: {length}\r\n\r\n");
        client.send(head).unwrap();
        client.send(&body).unwrap();
    }
    let before = server.cpu_time();
    tidegate_tests::wait::until("it computes", || server.cpu_time() - before > Duration::from_millis(5));

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
