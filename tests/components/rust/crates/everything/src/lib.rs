//! The routes that `tests/components.rs` asks of a component of every language, here on wstd. The others answer the
//! same, so that one test drives them all; `tests/README.md` has the table.

use std::convert::Infallible;
use std::env;

use futures_lite::stream::{self, StreamExt as _};
use http_body_util::StreamBody;
use serde::{Deserialize, Serialize};
use wstd::http::body::{Body, Bytes, Frame};
use wstd::http::{Error, HeaderMap, HeaderValue, Request, Response, StatusCode};
use wstd::time::Duration;

type Answer = Result<Response<Body>, Error>;

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>, Error> {
    match request.uri().path() {
        "/" => text("hello from Rust\n"),
        "/echo" => echo(request),
        "/stream" => lines(&request),
        "/wait" => wait(&request).await,
        "/trailers" => trailers(),
        "/json" => json(request).await,
        "/env" => text(&env::var("GREETING").unwrap_or_default()),
        "/log" => log(),
        "/crash" => panic!("asked to crash"),
        "/big" => big(&request),
        "/spin" => spin(),
        "/hoard" => hoard(),
        _ => Ok(Response::builder().status(StatusCode::NOT_FOUND).body(Body::empty())?),
    }
}

fn text(body: &str) -> Answer {
    Ok(Response::builder().header("content-type", "text/plain").body(body.to_owned().into())?)
}

/// The number behind `name=` in the query; zero without one.
fn number(request: &Request<Body>, name: &str) -> u64 {
    let query = request.uri().query().unwrap_or_default();
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).and_then(|(_, value)| value.parse().ok()).unwrap_or_default()
}

/// The body goes through as it comes: wstd splices the one stream into the other.
fn echo(request: Request<Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body);
    if let Some(kind) = parts.headers.get("content-type") {
        response.headers_mut().insert("content-type", kind.clone());
    }
    Ok(response)
}

fn lines(request: &Request<Body>) -> Answer {
    let (n, pause) = (number(request, "n"), Duration::from_millis(number(request, "ms")));
    let body = stream::unfold(1, move |line| async move {
        if line > n {
            return None;
        }
        wstd::task::sleep(pause).await;
        Some((format!("line {line}\n"), line + 1))
    });
    Ok(Response::builder().header("content-type", "text/plain").body(Body::from_stream(body))?)
}

async fn wait(request: &Request<Body>) -> Answer {
    wstd::task::sleep(Duration::from_millis(number(request, "ms"))).await;
    text("waited\n")
}

fn trailers() -> Answer {
    let mut fields = HeaderMap::new();
    fields.insert("x-bytes", HeaderValue::from_static("5"));
    let frames = [Frame::data(Bytes::from_static(b"body\n")), Frame::trailers(fields)];
    let body = StreamBody::new(stream::iter(frames).map(Ok::<_, Infallible>));
    let response = Response::builder().header("content-type", "text/plain").header("trailer", "x-bytes");
    Ok(response.body(Body::from_http_body(body))?)
}

#[derive(Deserialize)]
struct Numbers {
    numbers: Vec<i64>,
}

#[derive(Serialize)]
struct Sum {
    sum: i64,
    count: usize,
}

async fn json(request: Request<Body>) -> Answer {
    let Ok(Numbers { numbers }) = request.into_body().json().await else {
        return Ok(Response::builder()
            .status(StatusCode::BAD_REQUEST)
            .body("no numbers\n".to_owned().into())?);
    };
    let sum = Sum { sum: numbers.iter().sum(), count: numbers.len() };
    Ok(Response::builder().header("content-type", "application/json").body(Body::from_json(&sum)?)?)
}

fn log() -> Answer {
    println!("to standard output");
    eprintln!("to standard error");
    text("logged\n")
}

/// Byte `i` is `i % 256`. Each piece is made when the one before it has been taken.
fn big(request: &Request<Body>) -> Answer {
    let pattern: Bytes = (0..=u8::MAX).cycle().take(64 << 10).collect();
    let body = stream::unfold((number(request, "bytes"), pattern), |(left, pattern)| async move {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(pattern.len());
        (n > 0).then(|| (pattern.slice(..n), (left - n as u64, pattern)))
    });
    Ok(Response::builder()
        .header("content-type", "application/octet-stream")
        .body(Body::from_stream(body))?)
}

/// Computes for ever.
fn spin() -> Answer {
    let mut n = 0_u64;
    while std::hint::black_box(n) != u64::MAX {
        n += 1;
    }
    text("counted\n")
}

/// Takes memory for ever.
fn hoard() -> Answer {
    let mut all = Vec::new();
    loop {
        all.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
}
