//! A handler: called once for each request, in a sandbox of its own.

use tidegate_sdk::{Request, Response, handler};

#[handler]
fn hello(request: Request) -> Response {
    Response::text(format!("Hello from {}\n", request.path()))
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::test;

    use super::*;

    #[test]
    fn it_greets() {
        let answer = test::app(hello).get("/world");
        answer.assert_status(200);
        assert_eq!(answer.text(), "Hello from /world\n");
    }
}
