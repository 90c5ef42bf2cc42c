//! A reverse proxy: every request goes to `UPSTREAM`, and what comes back is the answer.
//!
//! It sees heads only. Bodies are moved inside the host, both ways at once, and each side is as slow as the slower one:
//! neither a large upload nor a slow reader makes anything pile up. An upstream that fails is a 502 for the client, one
//! that is too slow a 504, and the log says why.

use tidegate_sdk::http::{HeaderMap, HeaderName, HeaderValue};
use tidegate_sdk::{Error, Request, Result, config, fetch, handler, header, http};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

#[handler]
fn proxy(request: Request) -> Result<fetch::Response> {
    let upstream = config::var("UPSTREAM")?;
    let peer = request.peer_addr().map(|peer| peer.ip().to_string());
    let proto = if request.is_secure() { "https" } else { "http" };

    // What belongs to the client's connection is left out by `fetch`.
    let (mut head, body) = request.into_http().into_parts();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let path = if path.starts_with('/') { path } else { "/" };
    let url = format!("{}{path}", upstream.trim_end_matches('/'));
    head.uri = url.parse().map_err(|_| Error::internal("UPSTREAM must be like http://127.0.0.1:8000"))?;
    tell_who_asks(&mut head.headers, peer.as_deref(), proto)?;
    Ok(http::fetch(http::Request::from_parts(head, body))?)
}

fn tell_who_asks(headers: &mut HeaderMap, peer: Option<&str>, proto: &'static str) -> Result<()> {
    if let Some(peer) = peer {
        // Behind another proxy it goes on with what that one has said.
        let before = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok());
        let chain = before.map_or_else(|| peer.to_owned(), |before| format!("{before}, {peer}"));
        headers.insert(FORWARDED_FOR, chain.try_into()?);
    }
    if let Some(host) = headers.get(header::HOST).cloned() {
        headers.entry(FORWARDED_HOST).or_insert(host);
    }
    headers.entry(FORWARDED_PROTO).or_insert(HeaderValue::from_static(proto));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::fetch::ErrorKind;
    use tidegate_sdk::test::{self, Exchange};

    /// Answers with what it was asked.
    fn mirror(request: http::Request<Vec<u8>>) -> http::Response<Vec<u8>> {
        let mut text = format!("{} {}\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
        }
        let body = [text.as_bytes(), b"\n", request.body()].concat();
        let head = http::Response::builder().status(203).header("connection", "x-hop").header("x-hop", "1");
        head.header("x-end", "2").body(body).unwrap()
    }

    #[test]
    fn requests_go_through_without_what_belongs_to_a_connection() {
        let _up = config::for_test("UPSTREAM", "http://up.internal:8000/");
        let _upstream = test::upstream("http://up.internal:8000", mirror);
        let answer = Exchange::post("/a%20b?c=d")
            .header("connection", "x-private, keep-alive")
            .header("x-private", "1")
            .header("keep-alive", "timeout=5")
            .header("te", "trailers")
            .header("x-forwarded-for", "198.51.100.7")
            .header("accept", "*/*")
            .chunk("he")
            .chunk("llo")
            .run(proxy);
        answer.assert_status(203);
        let (head, body) = answer.text().split_once("\n\n").unwrap();
        let mut lines: Vec<_> = head.lines().collect();
        lines[1..].sort_unstable();
        let expected = [
            "POST http://up.internal:8000/a%20b?c=d",
            "accept: */*",
            "x-forwarded-for: 198.51.100.7, 192.0.2.1",
            "x-forwarded-host: test.example",
            "x-forwarded-proto: http",
        ];
        assert_eq!((lines.as_slice(), body), (&expected[..], "hello"));
        assert_eq!((answer.header("x-end"), answer.header("x-hop")), (Some("2"), None));
        assert_eq!(answer.header("connection"), None);
        let moves = answer.calls.iter().filter(|call| **call == "forward").count();
        assert!(moves >= 2 && !answer.calls.contains(&"read"), "{:?}", answer.calls);
    }

    #[test]
    fn failures_of_the_upstream_are_not_told_to_the_client() {
        let _up = config::for_test("UPSTREAM", "http://up.internal");
        for (kind, status) in [(ErrorKind::Refused, 502), (ErrorKind::Denied, 502), (ErrorKind::Timeout, 504)]
        {
            let _upstream = test::upstream("http://up.internal", move |_| Err::<http::Response<()>, _>(kind));
            let answer = Exchange::get("/").run(proxy);
            assert!(!answer.assert_status(status).text().contains("internal"), "{}", answer.text());
            assert!(answer.logs[0].1.contains("GET http://up.internal/: "), "{:?}", answer.logs);
        }
    }

    #[test]
    fn an_upstream_that_is_no_url_is_told_by_its_variable() {
        let _up = config::for_test("UPSTREAM", "127.0.0.1:9802");
        let answer = Exchange::get("/").run(proxy);
        answer.assert_status(500);
        assert!(answer.logs[0].1.contains("UPSTREAM must be like http://"), "{:?}", answer.logs);
    }

    #[test]
    fn a_client_that_goes_away_is_not_the_upstreams_fault() {
        let _up = config::for_test("UPSTREAM", "http://up.internal");
        let _upstream = test::upstream("http://up.internal", mirror);
        Exchange::post("/").chunk("hel").body_cut_off().run(proxy).assert_status(400);
    }

    #[test]
    fn answers_without_a_body_stay_so() {
        let _up = config::for_test("UPSTREAM", "http://up.internal");
        let _upstream = test::upstream("http://up.internal", |_| http::Response::new("hello"));
        let answer = Exchange::new("HEAD", "/").run(proxy);
        assert_eq!((answer.text(), answer.header("content-length")), ("", Some("5")));
    }
}
