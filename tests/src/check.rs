//! Assertions that many tests make.

use std::io::{self, ErrorKind};

use crate::http::{Client, End, Response};
use crate::server::Server;
use crate::wait::PATIENCE;

/// A whole and successful response with exactly this body.
#[track_caller]
pub fn ok(response: &Response, body: &[u8]) {
    assert_eq!(response.status(), 200, "{response:?}");
    assert_eq!(response.end, End::Clean, "{response:?}");
    assert!(response.body == body, "{response:?} instead of {} bytes", body.len());
}

/// A whole and successful response, whatever its body.
#[track_caller]
pub fn success(response: &Response) {
    assert_eq!(response.status(), 200, "{response:?}");
    assert_eq!(response.end, End::Clean, "{response:?}");
}

/// An error response as the last table of the protocol rules wants it: status, code, `problem+json` (RFC 9457), a
/// request id, no backtrace. Returns the id.
#[track_caller]
pub fn problem(response: &Response, status: u16, code: &str) -> String {
    assert_eq!(response.status(), status, "{response:?}");
    assert_eq!(response.header("tidegate-error"), Some(code), "{response:?}");
    assert_eq!(response.header("content-type"), Some("application/problem+json"), "{response:?}");
    assert_eq!(response.end, End::Clean, "{response:?}");
    let id = response.header("x-request-id").unwrap_or_default().to_owned();
    assert!(!id.is_empty(), "no request id: {response:?}");

    let body: serde_json::Value = serde_json::from_slice(&response.body).expect("JSON in the body");
    assert_eq!(body["status"], status, "{body}");
    assert!(body["type"].as_str().is_some_and(|uri| uri.ends_with(code)), "{body}");
    assert!(body["title"].is_string(), "{body}");
    assert!(body.to_string().contains(&id), "the id {id} is not in {body}");
    let text = response.text();
    for leak in ["wasm backtrace", "panicked at", "::", ".rs"] {
        assert!(!text.contains(leak), "the body tells a client of {leak:?}: {text}");
    }
    id
}

/// [`problem`], and the log has a line with the same request id and the same code.
#[track_caller]
pub fn logged_problem(server: &Server, response: &Response, status: u16, code: &str) {
    let id = problem(response, status, code);
    let line = server.wait_for_log(|line| line.contains(&id) && line.contains(code));
    assert!(line.is_some(), "no line with {id} and {code} in the log:\n{}", server.stderr().tail(30));
}

/// A failure after the response was begun, as its client may see it: the body is cut, or the connection ends before
/// the head (a reset takes with it what was not read yet), or, where nothing had left, an error's status. What it must
/// never be is a whole success.
#[track_caller]
pub fn cut(outcome: &io::Result<Response>) {
    let cut = match outcome {
        Ok(response) => response.end != End::Clean || response.status() >= 500,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
    };
    assert!(cut, "a failure looks like a clean end: {outcome:?}");
}

/// A body that breaks off: the head of the guest's own response came, with status 200, then some of `most` or nothing, and
/// then no clean end. Stricter than [`cut`]: neither an error's status nor a connection without a head will do.
pub fn broken_off(outcome: &io::Result<Response>, most: &[u8]) -> Result<(), String> {
    let wrong = match outcome {
        Ok(response) if response.status() != 200 || response.header("tidegate-error").is_some() => {
            "no such head"
        }
        Ok(response) if !most.starts_with(&response.body) => "the guest wrote something else",
        Ok(response) if response.end == End::Clean => "it looks like a clean end",
        Ok(_) => return Ok(()),
        Err(_) => "no head came",
    };
    Err(format!("a body that breaks off was expected; {wrong}: {outcome:?}"))
}

/// The connection ends without another byte.
#[track_caller]
pub fn closed(client: &mut Client) {
    client.set_patience(PATIENCE);
    match client.rest() {
        Ok(bytes) => assert!(bytes.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&bytes)),
        Err(error) => panic!("the connection did not end: {error}"),
    }
}
