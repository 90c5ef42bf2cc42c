//! Does with the key-value store what a request says: a fixture of the tests.

use std::time::Duration;

use tidegate_sdk::{Error, Request, Result, Router, StatusCode, handler, kv, sleep, task};

#[handler]
fn app() -> Router {
    Router::new()
        .get("/v/{key}", get)
        .put("/v/{key}", set)
        .delete("/v/{key}", delete)
        .get("/exists/{key}", exists)
        .post("/add/{key}/{delta}", add)
        .post("/swap/{key}/{old}/{new}", swap)
        .get("/keys", keys)
        .get("/keys/{prefix}", keys)
        .post("/many/{key}/{count}", many)
        .post("/kinds/{key}", kinds)
        .post("/then_sleep/{key}", then_sleep)
        .post("/trap/{key}", trap)
}

fn key(request: &Request) -> String {
    request.param("key").unwrap_or_default().to_owned()
}

fn get(request: Request) -> Result<Vec<u8>> {
    kv::get(&key(&request))?.ok_or_else(|| Error::not_found("there is none"))
}

/// A refusal is answered with its kind, for tests to see.
fn set(mut request: Request) -> Result<(StatusCode, String)> {
    let key = key(&request);
    let value = request.body().bytes_limited(4 << 20)?;
    Ok(match kv::set(&key, value) {
        Ok(()) => (StatusCode::OK, "set\n".to_owned()),
        Err(error) => (StatusCode::CONFLICT, format!("{:?}\n", error.kind())),
    })
}

fn delete(request: Request) -> Result<String> {
    kv::delete(&key(&request))?;
    Ok("deleted\n".to_owned())
}

fn exists(request: Request) -> Result<String> {
    Ok(format!("{}\n", kv::exists(&key(&request))?))
}

fn add(request: Request) -> Result<String> {
    let delta = request.param_as("delta")?;
    Ok(format!("{}\n", kv::increment(&key(&request), delta)?))
}

/// `-` is no value.
fn swap(request: Request) -> Result<String> {
    let value = |name| Some(request.param(name).unwrap_or_default()).filter(|text| *text != "-");
    let (old, new) = (value("old").map(str::as_bytes), value("new").map(str::as_bytes));
    Ok(format!("{}\n", kv::compare_and_swap(&key(&request), old, new)?))
}

fn keys(request: Request) -> Result<String> {
    let keys: std::result::Result<Vec<String>, kv::Error> =
        kv::keys(request.param("prefix").unwrap_or_default()).collect();
    Ok(keys?.iter().map(|key| format!("{key}\n")).collect())
}

/// Increments that are under way at once.
async fn many(request: Request) -> Result<String> {
    let (key, count): (String, usize) = (key(&request), request.param_as("count")?);
    let all = (0..count).map(|_| kv::increment_async(&key, 1));
    let mut sums: Vec<i64> =
        task::join_all(all).await.into_iter().collect::<std::result::Result<_, kv::Error>>()?;
    sums.sort_unstable();
    Ok(format!("{sums:?}\n"))
}

/// What each wrong call is told.
fn kinds(request: Request) -> Result<String> {
    let key = key(&request);
    kv::set(&key, "no number")?;
    let told = [
        kv::increment(&key, 1).err(),
        kv::get("").err(),
        kv::get(&"k".repeat(1025)).err(),
        kv::set(&key, vec![0; (1 << 20) + 1]).err(),
        kv::get_json::<u32>(&key).err(),
    ];
    Ok(told.map(|error| error.map(|error| format!("{:?}", error.kind())).unwrap_or_default()).join(" ")
        + "\n")
}

/// Has its client wait longer than it will.
fn then_sleep(request: Request) -> Result<String> {
    kv::set(&key(&request), "begun")?;
    sleep(Duration::from_secs(60));
    Ok("slept\n".to_owned())
}

fn trap(request: Request) -> Result<String> {
    kv::set(&key(&request), "before")?;
    panic!("as it was told to");
}
