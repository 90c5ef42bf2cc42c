//! The smallest handler: it never looks at its request, so all it costs is the one call that answers.

use tidegate_sdk::{Request, Response, handler};

#[handler]
fn hello(_request: Request) -> Response {
    Response::text("Hello World\n")
}
