//! Reading one HTTP/1.1 response (RFC 9112), for tests: bytes go in as they come, an [`Answer`] comes out.
//!
//! It takes what servers send and refuses what is not HTTP. What it must never know: where bytes come from.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::mem;

use super::Answer;

const FIELDS_MAX: usize = 256;
/// A head, a chunk's size or a list of trailers that is longer than this has no end.
const LINE_BYTES_MAX: usize = 256 << 10;

/// What is wrong with a response.
pub(super) type Malformed = String;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    Head,
    /// So many bytes of body, and then the end.
    Bytes(u64),
    /// The body ends with the connection.
    Rest,
    ChunkSize,
    ChunkBytes(u64),
    /// The line break behind a chunk.
    ChunkEnd,
    Trailers,
    End,
}

/// A response as it comes.
#[derive(Debug)]
pub(super) struct Response {
    answer: Answer,
    /// It answers a HEAD: there is no body, whatever the head says.
    bodiless: bool,
    expect: Expect,
    /// Bytes that are not used up.
    bytes: Vec<u8>,
}

impl Response {
    pub(super) fn new(method: &str) -> Self {
        Self {
            answer: Answer::default(),
            bodiless: method == "HEAD",
            expect: Expect::Head,
            bytes: Vec::new(),
        }
    }

    /// Takes the next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Malformed> {
        self.bytes.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// True if nothing more is to come.
    pub(super) fn is_done(&self) -> bool {
        self.expect == Expect::End
    }

    /// True from the final head on.
    pub(super) fn has_head(&self) -> bool {
        self.expect != Expect::Head
    }

    /// Bytes of body so far.
    pub(super) fn body_bytes(&self) -> usize {
        self.answer.body.len()
    }

    /// What came, up to here: to the end, or to where the connection ended or the client stopped reading.
    pub(super) fn into_answer(mut self, is_closed: bool) -> Answer {
        self.answer.finished = self.is_done() || is_closed && self.expect == Expect::Rest;
        self.answer
    }

    /// Does what can be done with the bytes that are there. False if that is nothing.
    fn step(&mut self) -> Result<bool, Malformed> {
        match self.expect {
            Expect::Head => self.head(),
            Expect::Bytes(left) => {
                let left = self.body(left);
                self.expect = if left == 0 { Expect::End } else { Expect::Bytes(left) };
                Ok(left == 0)
            }
            Expect::Rest => {
                self.body(u64::MAX);
                Ok(false)
            }
            Expect::ChunkSize => self.chunk_size(),
            Expect::ChunkBytes(left) => {
                let left = self.body(left);
                self.expect = if left == 0 { Expect::ChunkEnd } else { Expect::ChunkBytes(left) };
                Ok(left == 0)
            }
            Expect::ChunkEnd => match &self.bytes[..] {
                [b'\r', b'\n', ..] => {
                    self.skip(2);
                    self.expect = Expect::ChunkSize;
                    Ok(true)
                }
                [] | [b'\r'] => Ok(false),
                _ => Err("a chunk is longer than its size".into()),
            },
            Expect::Trailers => self.trailers(),
            Expect::End if self.bytes.is_empty() => Ok(false),
            Expect::End => Err("there is more behind the end of the response".into()),
        }
    }

    fn skip(&mut self, n: usize) {
        self.bytes.drain(..n);
    }

    /// Moves at most `left` bytes into the body, and gives what is left of that.
    fn body(&mut self, left: u64) -> u64 {
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(self.bytes.len());
        self.answer.body.extend(self.bytes.drain(..n));
        left - n as u64
    }

    /// Not all of something is there yet.
    fn partial(&self, what: &str) -> Result<bool, Malformed> {
        if self.bytes.len() > LINE_BYTES_MAX { Err(format!("{what} has no end")) } else { Ok(false) }
    }

    fn head(&mut self) -> Result<bool, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut head = httparse::Response::new(&mut fields);
        let len = match head.parse(&self.bytes) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) => return self.partial("the head"),
            Err(error) => return Err(format!("the head is not HTTP: {error}")),
        };
        let status =
            StatusCode::from_u16(head.code.unwrap_or_default()).map_err(|error| error.to_string())?;
        let headers = to_map(head.headers)?;
        self.skip(len);
        match status.as_u16() {
            101 => return Err("the server switches protocols, which nobody asked for".into()),
            103 => self.answer.hints.push(without_hosts(headers)),
            100..=199 => {}
            _ => {
                self.expect = if self.bodiless || matches!(status.as_u16(), 204 | 304) {
                    Expect::End
                } else {
                    framing(&headers)?
                };
                self.answer.status = Some(status);
                self.answer.failed = headers.contains_key("tidegate-error");
                self.answer.headers = without_hosts(headers);
            }
        }
        Ok(true)
    }

    fn chunk_size(&mut self) -> Result<bool, Malformed> {
        match httparse::parse_chunk_size(&self.bytes) {
            Ok(httparse::Status::Complete((len, size))) => {
                self.skip(len);
                self.expect = if size == 0 { Expect::Trailers } else { Expect::ChunkBytes(size) };
                Ok(true)
            }
            Ok(httparse::Status::Partial) => self.partial("a chunk's size"),
            Err(_) => Err("a chunk's size is not a number".into()),
        }
    }

    fn trailers(&mut self) -> Result<bool, Malformed> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        match httparse::parse_headers(&self.bytes, &mut fields) {
            Ok(httparse::Status::Complete((len, fields))) => {
                self.answer.trailers = to_map(fields)?;
                self.skip(len);
                self.expect = Expect::End;
                Ok(true)
            }
            Ok(httparse::Status::Partial) => self.partial("the list of trailers"),
            Err(error) => Err(format!("the trailers are not HTTP: {error}")),
        }
    }
}

fn to_map(fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut map = HeaderMap::new();
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_bytes(field.value);
        match (name, value) {
            (Ok(name), Ok(value)) => map.append(name, value),
            _ => return Err(format!("the field {:?} is not valid", field.name)),
        };
    }
    Ok(map)
}

/// How the body is delimited (RFC 9112 section 6.3).
fn framing(headers: &HeaderMap) -> Result<Expect, Malformed> {
    let mut lengths = headers.get_all("content-length").iter();
    let length = lengths.next();
    if let Some(coding) = headers.get("transfer-encoding") {
        if length.is_some() || headers.get_all("transfer-encoding").iter().count() > 1 {
            return Err("the body's framing is given twice".into());
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(format!("the body's coding {coding:?} is not known"));
        }
        return Ok(Expect::ChunkSize);
    }
    let Some(length) = length else { return Ok(Expect::Rest) };
    if lengths.next().is_some() {
        return Err("the body's length is given twice".into());
    }
    let digits = length.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    match digits.and_then(|text| text.parse().ok()) {
        Some(0) => Ok(Expect::End),
        Some(bytes) => Ok(Expect::Bytes(bytes)),
        None => Err(format!("the body's length {length:?} is not a number")),
    }
}

/// Without what hosts add.
fn without_hosts(headers: HeaderMap) -> HeaderMap {
    let mut kept = HeaderMap::new();
    let mut last = None;
    for (name, value) in headers {
        // A name stands with its first value only.
        last = name.or_else(|| mem::take(&mut last));
        if let Some(name) = last.as_ref().filter(|name| !is_hosts(name)) {
            kept.append(name.clone(), value);
        }
    }
    kept
}

fn is_hosts(name: &HeaderName) -> bool {
    const HOSTS: [&str; 7] =
        ["connection", "content-length", "date", "keep-alive", "server", "transfer-encoding", "x-request-id"];
    HOSTS.contains(&name.as_str()) || name.as_str().starts_with("tidegate-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(method: &str, bytes: &[u8], is_closed: bool) -> Result<Answer, Malformed> {
        let mut response = Response::new(method);
        response.take(bytes)?;
        Ok(response.into_answer(is_closed))
    }

    #[test]
    fn bodies_end_where_their_head_says() {
        // Method, response, body, ended if the connection is open, ended if it is closed.
        let cases = [
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "hi", true, true),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhi", "hi", false, false),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true, true),
            ("GET", "HTTP/1.1 200 OK\r\n\r\nhi", "hi", false, true),
            (
                "GET",
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
                "hi",
                true,
                true,
            ),
            ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n", "hi", false, false),
            ("GET", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nh", "h", false, false),
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "", true, true),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "", true, true),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n", "", true, true),
            ("GET", "HTTP/1.1 200 O", "", false, false),
        ];
        for (method, bytes, body, open, closed) in cases {
            for (is_closed, finished) in [(false, open), (true, closed)] {
                let answer = read(method, bytes.as_bytes(), is_closed).unwrap();
                assert_eq!((answer.text(), answer.finished), (body, finished), "{bytes:?} {is_closed}");
            }
        }
    }

    #[test]
    fn hints_come_first_and_what_hosts_add_is_left_out() {
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
            HTTP/1.1 200 OK\r\nDate: now\r\nset-cookie: a=1\r\nx-a: \xe9\r\nset-cookie: b=2\r\ntidegate-error: x\r\n\
            transfer-encoding: Chunked\r\n\r\n0\r\nx-sum: 7\r\n\r\n";
        let answer = read("GET", bytes, false).unwrap();
        assert_eq!(answer.hints.len(), 1);
        assert_eq!(answer.hints[0]["link"], "</a>");
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["a=1", "b=2"]);
        assert_eq!(answer.headers["x-a"].as_bytes(), b"\xe9");
        assert_eq!(answer.headers.len(), 3, "{:?}", answer.headers);
        assert_eq!(answer.trailers["x-sum"], "7");
        assert!(answer.failed && answer.finished);
    }

    #[test]
    fn what_is_not_http_is_refused_with_a_reason() {
        let cases: [(&[u8], &str); 9] = [
            (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
            (b"HTTP/1.1 200 OK\r\na b: c\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 101 Switching\r\n\r\n", "switches"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n", "not a number"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", "twice"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", "twice"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "not known"),
            (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nab", "longer"),
            (b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nab", "more behind"),
        ];
        for (bytes, part) in cases {
            let error = read("GET", bytes, false).unwrap_err();
            assert!(error.contains(part), "{}: {error}", String::from_utf8_lossy(bytes));
        }
        let endless = vec![b'a'; LINE_BYTES_MAX];
        let bytes = [b"HTTP/1.1 200 OK\r\na: ", &endless[..]].concat();
        assert!(read("GET", &bytes, false).unwrap_err().contains("no end"));
    }

    /// A response that is well-formed, and the body it has.
    fn response() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let chunks = prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..5);
        (chunks, any::<bool>(), any::<bool>()).prop_map(|(chunks, is_chunked, has_hints)| {
            let body = chunks.concat();
            let mut out = Vec::new();
            if has_hints {
                out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n");
            }
            if is_chunked {
                out.extend_from_slice(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
                for chunk in &chunks {
                    out.extend_from_slice(format!("{:x};a=b\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\nx-t: 1\r\n\r\n");
            } else {
                out.extend_from_slice(
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                out.extend_from_slice(&body);
            }
            (out, body)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_split_gives_the_same((bytes, body) in response(), cuts in prop::collection::vec(1_usize..50, 0..40)) {
            let mut response = Response::new("GET");
            let mut rest = &bytes[..];
            for cut in cuts {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                response.take(now).unwrap();
                prop_assert_eq!(response.is_done(), later.is_empty());
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            response.take(rest).unwrap();
            prop_assert!(response.is_done());
            prop_assert_eq!(response.into_answer(false).body, body);
        }

        #[test]
        fn a_cut_is_never_taken_for_the_end((bytes, body) in response(), at in any::<prop::sample::Index>()) {
            let at = at.index(bytes.len());
            let answer = read("GET", &bytes[..at], true).unwrap();
            prop_assert!(!answer.finished && body.starts_with(&answer.body));
        }

        #[test]
        fn arbitrary_bytes_bring_nothing_down(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            (valid, _) in response(),
            at in any::<prop::sample::Index>(),
        ) {
            let _ = read("GET", &bytes, true);
            let mut broken = valid;
            let at = at.index(broken.len());
            broken.splice(at..at, bytes);
            let _ = read("GET", &broken, true);
        }
    }
}
