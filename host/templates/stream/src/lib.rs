//! A handler that streams: neither body is ever in memory as a whole.

use std::io::{Read, Write};

use tidegate_sdk::{Request, Response, handler};

#[handler]
fn shout(mut request: Request) -> Response {
    Response::stream(move |body| {
        let mut piece = [0; 8192];
        loop {
            // Waits while the client has sent nothing yet.
            let n = request.body().read(&mut piece)?;
            if n == 0 {
                return Ok(());
            }
            piece[..n].make_ascii_uppercase();
            // Waits while the client is slow to read.
            body.write_all(&piece[..n])?;
        }
    })
    .with_header("content-type", "text/plain; charset=utf-8")
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::test;

    use super::*;

    #[test]
    fn it_shouts() {
        let answer = test::app(shout).post("/", "hello\n");
        answer.assert_status(200);
        assert_eq!(answer.text(), "HELLO\n");
    }

    #[test]
    fn it_shouts_at_length() {
        let answer = test::app(shout).post("/", "tide ".repeat(200_000));
        assert!(answer.finished);
        assert_eq!(answer.text(), "TIDE ".repeat(200_000));
    }
}
