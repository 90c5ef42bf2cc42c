//! Answers without reading the request's body. The host drains a little of it, or closes the connection.

use tidegate_sdk::{Request, Response, handler};

#[handler]
fn ignore(_request: Request) -> Response {
    Response::text("no, thank you\n")
}
