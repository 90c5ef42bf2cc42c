//! `/MS` waits that many milliseconds, then answers. Any number of requests may wait at once; none holds up another.

use std::time::Duration;
use tidegate_sdk::{Error, Request, Result, StatusCode, handler, sleep};

#[handler]
fn slow(request: Request) -> Result<String> {
    let millis: u64 =
        request.path_below_mount().trim_start_matches('/').parse().map_err(|_| {
            Error::status(StatusCode::BAD_REQUEST, "the path is a number of milliseconds: /250")
        })?;
    sleep(Duration::from_millis(millis));
    Ok(format!("waited {millis} ms\n"))
}
