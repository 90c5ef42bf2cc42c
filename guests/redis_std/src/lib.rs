//! Speaks to Redis by the client that everybody uses, as it is published: blocking, over `std::net`. It knows nothing
//! of WebAssembly, and in a component need not.
//!
//! The routes are those of `redis_module`, which has a protocol of its own instead. `REDIS` says where the server is.

use redis::{Commands as _, Connection};
use std::time::Duration;
use tidegate_sdk::{Error, Request, Response, Result, Router, config, handler};

/// How long Redis may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest wait that a client may ask for.
const WAIT_SECONDS_MAX: u32 = 20;

#[handler]
fn routes() -> Router {
    Router::new()
        .get("/get/{key}", get)
        .put("/set/{key}", set)
        .post("/incr/{key}", increment)
        .get("/pop/{key}", pop)
}

/// A connection whose answers may take so much longer than usual.
fn connect(longer: Duration) -> Result<Connection> {
    let client = redis::Client::open(format!("redis://{}/", config::var("REDIS")?))?;
    let connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE + longer))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    Ok(connection)
}

fn key(request: &Request) -> &str {
    request.param("key").unwrap_or_default()
}

fn get(request: Request) -> Result<Response> {
    let value: Option<Vec<u8>> = connect(Duration::ZERO)?.get(key(&request))?;
    value.map(Response::bytes).ok_or_else(|| Error::not_found("there is no such key"))
}

fn set(mut request: Request) -> Result<&'static str> {
    let value = request.body().bytes()?;
    let () = connect(Duration::ZERO)?.set(key(&request), value)?;
    Ok("OK\n")
}

fn increment(request: Request) -> Result<String> {
    let n: i64 = connect(Duration::ZERO)?.incr(key(&request), 1)?;
    Ok(format!("{n}\n"))
}

/// Waits for an element of a list, as long as `?seconds=` says.
fn pop(request: Request) -> Result<Response> {
    let seconds = request.query_param("seconds").unwrap_or("1".into());
    let seconds: u32 = seconds.parse().map_err(|_| Error::bad_request("`seconds` is a number"))?;
    if !(1..=WAIT_SECONDS_MAX).contains(&seconds) {
        return Err(Error::bad_request(format!("`seconds` is from 1 to {WAIT_SECONDS_MAX}")));
    }
    let mut redis = connect(Duration::from_secs(seconds.into()))?;
    let popped: Option<(String, Vec<u8>)> = redis.blpop(key(&request), seconds.into())?;
    popped.map(|(_, value)| Response::bytes(value)).ok_or_else(|| Error::not_found("nothing came"))
}
