//! The guest `router`: what its native tests say, over real sockets, and what only a server shows: HEAD, OPTIONS, the
//! log.

use serde_json::{Value, json};
use tidegate_tests::{App, End, Response, Server};

fn shop() -> Server {
    let app = App::guest("router").line(r#"env = { TOKENS = "ada=open-sesame,bob=hocus-pocus" }"#);
    Server::builder().app(app).start()
}

/// Sends `METHOD TARGET` with these header lines and this body.
fn ask(server: &Server, request: &str, headers: &str, body: &str) -> Response {
    let mut client = server.client();
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    client
        .send(format!("{request} HTTP/1.1\r\nHost: router.test\r\n{headers}{length}\r\n{body}"))
        .unwrap_or_else(|error| panic!("{request}: {error}"));
    let is_head = request.starts_with("HEAD");
    let response = if is_head { client.response_to_head() } else { client.response() };
    let response = response.unwrap_or_else(|error| panic!("{request}: {error}"));
    assert_eq!(response.end, End::Clean, "{request}: {response:?}");
    response
}

#[test]
fn every_request_gets_its_answer() {
    const ADA: &str = "Authorization: Bearer open-sesame\r\n";
    const JSON: &str = "Authorization: Bearer open-sesame\r\nContent-Type: application/json\r\n";
    let error = |status: u16, message: &str| json!({ "error": message, "status": status });
    let teapot = json!({ "id": 2, "name": "teapot", "cents": 2450 });
    let bowl = json!({ "id": 4, "name": "bowl", "cents": 900 });
    let takes = "this path takes GET, HEAD, OPTIONS";
    let server = shop();
    for (request, headers, body, status, answer) in [
        // Parameters.
        ("GET /items/2", "", "", 200, teapot.clone()),
        ("GET /items/%32", "", "", 200, teapot),
        ("GET /items/9", "", "", 404, error(404, "there is no item 9")),
        ("GET /items/2/", "", "", 404, error(404, "nothing is at this path")),
        ("GET /nowhere", "", "", 404, error(404, "nothing is at this path")),
        // Methods.
        ("DELETE /items", "", "", 405, error(405, takes)),
        ("POST /items/2", "", "{}", 405, error(405, takes)),
        // A router inside a router, with middleware of its own.
        ("GET /admin/whoami", "", "", 401, error(401, "show a token")),
        ("GET /admin/nowhere", "", "", 401, error(401, "show a token")),
        ("GET /admin/nowhere", ADA, "", 404, error(404, "nothing is at this path")),
        // JSON in and out.
        ("POST /admin/items", JSON, r#"{"name":"bowl","cents":900}"#, 201, bowl),
    ] {
        let response = ask(&server, request, headers, body);
        assert_eq!(response.status(), status, "{request}: {response:?}");
        assert_eq!(response.header("content-type"), Some("application/json"), "{request}: {response:?}");
        assert!(response.header("request-id").is_some_and(|id| !id.is_empty()), "{request}: {response:?}");
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(body, answer, "{request}");
    }
}

#[test]
fn text_is_text() {
    let server = shop();
    for (request, headers, text) in [
        ("GET /files/a/b%20c.txt", "", "the file \"a/b c.txt\" would be here\n"),
        ("GET /files", "", "the file \"\" would be here\n"),
        ("GET /admin/whoami", "Authorization: Bearer open-sesame\r\n", "ada\n"),
        ("GET /admin/whoami", "Authorization: Bearer hocus-pocus\r\n", "bob\n"),
    ] {
        let response = ask(&server, request, headers, "");
        assert_eq!((response.status(), response.text().as_str()), (200, text), "{request}");
    }
}

#[test]
fn bad_json_is_refused_in_the_apps_own_shape() {
    let server = shop();
    let headers = "Authorization: Bearer hocus-pocus\r\nContent-Type: application/json\r\n";
    for body in ["{", "[]", r#"{"name":"bowl"}"#, r#"{"name":"bowl","cents":1,"colour":"red"}"#] {
        let response = ask(&server, "POST /admin/items", headers, body);
        let told: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!((response.status(), &told["status"]), (400, &json!(400)), "{body}: {told}");
        assert!(told["error"].as_str().is_some_and(|text| text.contains("line 1")), "{body}: {told}");
    }
    let headers = headers.replace("application/json", "text/plain");
    assert_eq!(ask(&server, "POST /admin/items", &headers, "{}").status(), 415);
}

#[test]
fn head_options_and_allow_are_answered_by_the_router() {
    let server = shop();
    let get = ask(&server, "GET /items", "", "");
    let head = ask(&server, "HEAD /items", "", "");
    assert_eq!((head.status(), head.header("content-length")), (200, get.header("content-length")));
    let options = ask(&server, "OPTIONS /items", "", "");
    assert_eq!((options.status(), options.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    let refused = ask(&server, "PUT /items", "", "x");
    assert_eq!(refused.header("allow"), Some("GET, HEAD, OPTIONS"), "{refused:?}");
    let refused = ask(&server, "GET /admin/whoami", "", "");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{refused:?}");
}

#[test]
fn the_logger_has_a_line_for_each_request() {
    let server = shop();
    let response = ask(&server, "GET /items/9?token=secret", "", "");
    let id = response.header("request-id").unwrap().to_owned();
    let line = server.wait_for_log(|line| line.contains("GET /items/9 404 in ")).expect("a line");
    // The same id that the client was told; and nothing of the query.
    assert!(line.contains(&id) && !line.contains("secret"), "{line}");
}

/// A mistake of the operator's is a 500 that tells the client nothing, and the log everything.
#[test]
fn a_variable_that_is_missing_is_named_in_the_log() {
    let server = Server::builder().guest("router").start();
    let response = server.get("any.test", "/admin/whoami");
    assert_eq!((response.status(), response.text().contains("TOKENS")), (500, false), "{response:?}");
    assert!(server.wait_for_log(|line| line.contains("TOKENS")).is_some(), "{}", server.stderr().tail(5));
}
