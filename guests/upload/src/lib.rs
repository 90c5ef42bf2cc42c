//! Hashes a body of any size while it streams: a gigabyte needs no more memory than a byte.
//!
//! Each `read` hands over what has arrived, and waits when there is nothing. When the hashing is slower than the
//! client, the buffer in the host fills up, the socket is not read any more, and TCP slows the client down. There is
//! nothing to pause and nothing to resume.

use serde::Serialize;
use sha2::{Digest, Sha256};
use tidegate_sdk::{Request, Response, Result, handler};

#[derive(Serialize)]
struct Receipt {
    bytes: u64,
    sha256: String,
}

#[handler]
fn upload(mut request: Request) -> Result<Response> {
    let mut hash = Sha256::new();
    let bytes = std::io::copy(request.body(), &mut hash)?;
    Ok(Response::json(&Receipt { bytes, sha256: format!("{:x}", hash.finalize()) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::test::{self, Exchange};

    #[test]
    fn the_hash_is_the_same_however_the_body_is_cut() {
        let whole = Exchange::post("/").body("hello");
        let pieces = Exchange::post("/").chunk("he").chunk("l").chunk("lo");
        for exchange in [whole, pieces] {
            let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
            let answer = test::app(upload).send(exchange);
            assert_eq!(answer.text(), format!(r#"{{"bytes":5,"sha256":"{sha256}"}}"#));
        }
    }

    #[test]
    fn half_a_body_gets_no_receipt() {
        Exchange::post("/").chunk("he").body_cut_off().run(upload).assert_status(400);
    }
}
