//! Does with the net what its path says, and tells what came of it, in words that a test can look for. What failed is
//! told by the name of its kind and code alone, with the status that a handler's own client would get.
//!
//! - `/fetch?url=URL` sends a request and gives status and body of the response. Besides: `method`, `header` (`name: value`,
//!   any number of them), `redirects`, `connect_ms`, `first_byte_ms`, `between_bytes_ms`; a body is passed on
//! - `/connect?to=HOST:PORT` opens a TCP connection and gives both ends
//! - `/udp?to=HOST:PORT` sends a datagram and gives the one that comes back
//! - `/resolve?name=NAME` gives the addresses

use std::io;
use std::time::Duration;
use tidegate_sdk::fetch::{self, ErrorKind};
use tidegate_sdk::net::{self, TcpStream, UdpSocket};
use tidegate_sdk::{Error, Method, Request, Response, Result, Router, StatusCode, handler};

/// How long a datagram may take.
const PATIENCE: Duration = Duration::from_secs(5);

#[handler]
fn probe() -> Router {
    Router::new().any("/fetch", send).any("/connect", connect).any("/udp", udp).any("/resolve", resolve)
}

fn param(request: &Request, name: &str) -> Result<String> {
    let value =
        request.query_param(name).ok_or_else(|| Error::bad_request(format!("`{name}` is missing")))?;
    Ok(value.into_owned())
}

fn number(request: &Request, name: &str) -> Result<Option<u64>> {
    let parse = |text: std::borrow::Cow<'_, str>| text.parse().map_err(|_| Error::bad_request("no number"));
    request.query_param(name).map(parse).transpose()
}

fn send(request: Request) -> Result<Response> {
    let method = request.query_param("method").unwrap_or("GET".into());
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Error::bad_request("no method"))?;
    let mut asked = fetch::Request::new(method, param(&request, "url")?);
    for (_, header) in request.query_pairs().filter(|(name, _)| name == "header") {
        let (name, value) = header.split_once(": ").unwrap_or((&header, ""));
        asked = asked.header(name, value);
    }
    if let Some(redirects) = number(&request, "redirects")? {
        asked = asked.redirects(redirects.try_into().unwrap_or(u32::MAX));
    }
    let timeout = |name| number(&request, name).map(|ms| ms.map(Duration::from_millis));
    if let Some(timeout) = timeout("connect_ms")? {
        asked = asked.connect_timeout(timeout);
    }
    if let Some(timeout) = timeout("first_byte_ms")? {
        asked = asked.first_byte_timeout(timeout);
    }
    if let Some(timeout) = timeout("between_bytes_ms")? {
        asked = asked.between_bytes_timeout(timeout);
    }
    Ok(said(asked.body(request.into_body())).unwrap_or_else(|error| {
        let what = match error.kind() {
            // Why is the operator's to know.
            ErrorKind::Denied => "denied".to_owned(),
            kind => format!("{} {}", name(kind), error.reason()),
        };
        failed(error.into(), what)
    }))
}

fn said(request: fetch::Request) -> Result<Response, fetch::Error> {
    let mut response = request.send()?;
    let status = response.status();
    Ok(Response::bytes([format!("{status}\n").as_bytes(), &response.bytes()?].concat()))
}

fn connect(request: Request) -> Result<Response> {
    let open = |to| {
        let stream = TcpStream::connect(to)?;
        Ok(format!("{} to {}", stream.local_addr()?, stream.peer_addr()?))
    };
    Ok(told(open(param(&request, "to")?)))
}

fn udp(request: Request) -> Result<Response> {
    let exchange = |to| {
        let socket = UdpSocket::connect(to)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.send(b"ping")?;
        let mut buf = [0; 2048];
        let n = socket.recv(&mut buf)?;
        Ok(String::from_utf8_lossy(&buf[..n]).into_owned())
    };
    Ok(told(exchange(param(&request, "to")?)))
}

fn resolve(request: Request) -> Result<Response> {
    let found = net::lookup(&param(&request, "name")?);
    let text = |all: Vec<std::net::IpAddr>| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Ok(told(found.map(text)))
}

fn told(result: io::Result<String>) -> Response {
    result.map_or_else(
        |error| {
            let name = name(error.kind());
            failed(error.into(), name)
        },
        Response::text,
    )
}

/// As one word or two, in lower case.
fn name(kind: impl std::fmt::Debug) -> String {
    format!("{kind:?}").to_lowercase()
}

/// The status that the error has for a client, with `what` in place of what a client is told.
fn failed(error: Error, what: String) -> Response {
    let status = match error.status_code() {
        StatusCode::OK => StatusCode::INTERNAL_SERVER_ERROR,
        status => status,
    };
    Response::text(format!("{what}\n")).with_status(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_sdk::http;
    use tidegate_sdk::test::{self, Exchange};

    #[test]
    fn a_fetch_is_what_its_query_says() {
        let _up = test::upstream("http://up.internal", |request| {
            let text =
                format!("{} {:?} {:?}", request.method(), request.headers().get("x-a"), request.body());
            http::Response::builder().status(201).body(text).unwrap()
        });
        let fetch = "/fetch?url=http://up.internal/&method=PUT&header=x-a:%20b%20c&first_byte_ms=10";
        let answer = Exchange::post(fetch).chunk("hi").run(probe());
        assert_eq!(answer.assert_status(200).text(), "201 Created\nPUT Some(\"b c\") [104, 105]");
        Exchange::get("/fetch?url=http://up.internal/&header=a%0d%0ab:%20c").run(probe()).assert_status(500);
        Exchange::get("/fetch").run(probe()).assert_status(400);
    }

    #[test]
    fn failures_are_told_by_name_and_denials_by_no_more_than_that() {
        let cases = [
            (ErrorKind::Denied, 502, "denied\n"),
            (ErrorKind::Refused, 502, "refused connection-refused\n"),
            (ErrorKind::Timeout, 504, "timeout connection-timeout\n"),
        ];
        for (kind, status, text) in cases {
            let _up = test::upstream("http://up.internal", move |_| Err::<http::Response<()>, _>(kind));
            let answer = Exchange::get("/fetch?url=http://up.internal/").run(probe());
            assert_eq!(answer.assert_status(status).text(), text);
        }
    }

    #[test]
    fn sockets_are_opened_for_real() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let answer = Exchange::get(&format!("/connect?to={addr}")).run(probe());
        assert!(answer.assert_status(200).text().ends_with(&format!(" to {addr}")), "{}", answer.text());
        drop(listener);
        let answer = Exchange::get(&format!("/connect?to={addr}")).run(probe());
        assert_eq!(answer.assert_status(502).text(), "connectionrefused\n");
        assert_eq!(Exchange::get("/resolve?name=192.0.2.7").run(probe()).text(), "192.0.2.7");
        Exchange::get("/resolve?name=nobody.invalid").run(probe()).assert_status(502);
    }
}
