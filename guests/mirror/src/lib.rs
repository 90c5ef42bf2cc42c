//! Answers with what a handler can know of its request and of itself, as JSON.
//!
//! A fixture of the tests: what it says as a module and as a component is the table in `docs/handlers.md`.

use serde_json::{Map, Value, json};
use tidegate_sdk::{HeaderMap, HeaderValue, Request, Response, ResponseWriter, Result, handler, info, usage};

#[handler]
fn mirror(mut request: Request, mut response: ResponseWriter) -> Result<()> {
    info!("looked at {}", request.path());
    let link = HeaderValue::from_static("</style.css>; rel=preload");
    response.early_hints(&HeaderMap::from_iter([("link".parse()?, link)]))?;

    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    let (is_absent, declared_bytes) = (request.body().is_absent(), request.body().declared_bytes());
    let text = request.body().text()?;
    let trailers: Vec<String> = request.body().trailers()?.keys().map(ToString::to_string).collect();
    let used = usage();
    response.respond(Response::json(&json!({
        "method": request.method().as_str(),
        "path": request.path(),
        "query": request.query(),
        "mount": request.mount(),
        "authority": request.authority(),
        "secure": request.is_secure(),
        "version": format!("{:?}", request.version()),
        "headers": headers,
        "id": request.id(),
        "peer": request.peer_addr().map(|addr| addr.to_string()),
        "local": request.local_addr().map(|addr| addr.to_string()),
        "has_deadline": request.deadline().is_some(),
        "param": request.param("name"),
        "body": { "is_absent": is_absent, "declared_bytes": declared_bytes, "text": text, "trailers": trailers },
        "usage": {
            "cpu_used": used.cpu_used_ns > 0,
            "cpu_left_ns": used.cpu_left_ns,
            "memory_bytes": used.memory_bytes,
            "memory_bytes_max": used.memory_bytes_max,
        },
    })))
}
