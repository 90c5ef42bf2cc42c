//! The client `redis` as it is published on crates.io, blocking, in a `wasi:http` component: it knows nothing of WASI, and its
//! sockets are those of `std::net`.
//!
//! `REDIS` says where the server is, `host:port`. The path is the command, the query its key and maybe its value:
//! `/get?a`, `/set?a=1`, `/incr?a`, `/blpop?queue=SECONDS`, and `/ping`.

use std::time::Duration;

use redis::{Commands as _, Connection, RedisResult};
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const PATIENCE: Duration = Duration::from_secs(30);

struct RedisStd;

impl Guest for RedisStd {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        match act(path, query) {
            Ok(Some(text)) => answer(out, 200, &text),
            Ok(None) => answer(out, 404, "nothing"),
            // A test wants to know; a client of a real app would not be told.
            Err(error) => answer(out, 502, &format!("{:?}: {error}", error.kind())),
        }
    }
}

fn connect() -> RedisResult<Connection> {
    let addr = std::env::var("REDIS").unwrap_or_default();
    let connection = redis::Client::open(format!("redis://{addr}/"))?.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn act(path: &str, query: &str) -> RedisResult<Option<String>> {
    let (key, value) = query.split_once('=').unwrap_or((query, ""));
    let mut redis = connect()?;
    match path {
        "/ping" => redis::cmd("PING").query(&mut redis).map(Some),
        "/get" => redis.get(key),
        "/set" => redis.set::<_, _, String>(key, value).map(Some),
        "/incr" => redis.incr::<_, _, i64>(key, 1).map(|n| Some(n.to_string())),
        "/blpop" => {
            let popped: Option<(String, String)> = redis.blpop(key, value.parse().unwrap_or(1.0))?;
            Ok(popped.map(|(_, value)| value))
        }
        _ => Ok(None),
    }
}

fn answer(out: ResponseOutparam, status: u16, text: &str) {
    let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]);
    let response = OutgoingResponse::new(headers.expect("a valid header"));
    response.set_status_code(status).expect("a valid status");
    let body = response.body().expect("the first call");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first call");
    for piece in text.as_bytes().chunks(4096) {
        stream.blocking_write_and_flush(piece).expect("an open stream");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

wasip2::http::proxy::export!(RedisStd);
