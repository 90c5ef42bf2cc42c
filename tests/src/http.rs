//! A raw HTTP/1.1 client: sends the bytes it is told to, and reads responses strictly.
//!
//! It must never be clever: no retries, no connection pool, no redirects. Every operation has a deadline.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

pub use crate::body::{Body, End};
use crate::stream::{Addr, Stream};
use crate::wait::PATIENCE;

/// A connection with a read buffer.
pub struct Connection {
    stream: Stream,
    buf: Vec<u8>,
    pos: usize,
}

/// The head of a response.
#[derive(Clone)]
pub struct Head {
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor: u8,
    /// The status code.
    pub status: u16,
    /// Names as sent, values as text.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The value of the only header of this name, in any letter case. Panics when there are several.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {self:?}", all.len());
        all.first().copied()
    }

    /// Every value of a header.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let wanted = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        wanted.map(|(_, value)| value.as_str()).collect()
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HTTP/1.{} {}", self.minor, self.status)?;
        self.headers.iter().try_for_each(|(name, value)| write!(f, " | {name}: {value}"))
    }
}

/// A whole response.
#[derive(Clone)]
pub struct Response {
    /// The final head.
    pub head: Head,
    /// The statuses of the interim responses before it.
    pub interim: Vec<u16>,
    /// As far as it came.
    pub body: Vec<u8>,
    /// Fields after the last chunk.
    pub trailers: Vec<(String, String)>,
    /// Whether the body ended as it should.
    pub end: End,
}

impl Response {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The value of the only header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(200)];
        let text = String::from_utf8_lossy(shown);
        write!(f, "{:?} || {} bytes, {:?}: {text:?}", self.head, self.body.len(), self.end)
    }
}

impl Connection {
    fn fill(&mut self) -> io::Result<()> {
        if self.pos == self.buf.len() {
            self.buf.clear();
            self.pos = 0;
        }
        let start = self.buf.len();
        self.buf.resize(start + 16 * 1024, 0);
        let read = self.stream.read(&mut self.buf[start..]);
        self.buf.truncate(start + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A line without its CRLF; a bare LF is an error.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        loop {
            let pending = &self.buf[self.pos..];
            if let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let line = pending[..end].strip_suffix(b"\r");
                let line = line.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "bare LF"))?;
                let line = String::from_utf8_lossy(line).into_owned();
                self.pos += end + 1;
                return Ok(line);
            }
            self.fill()?;
        }
    }

    fn head(&mut self) -> io::Result<Head> {
        let bad = |line: &str| io::Error::new(ErrorKind::InvalidData, format!("head line {line:?}"));
        let status_line = self.line()?;
        let (version, rest) = status_line.split_once(' ').ok_or_else(|| bad(&status_line))?;
        let minor = match version {
            "HTTP/1.0" => 0,
            "HTTP/1.1" => 1,
            _ => return Err(bad(&status_line)),
        };
        // RFC 9112 section 4: three digits, a space, and a phrase that may be empty.
        let status = rest.get(..3).and_then(|digits| digits.parse().ok()).ok_or_else(|| bad(&status_line))?;
        if !rest[3..].starts_with(' ') {
            return Err(bad(&status_line));
        }
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Head { minor, status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| bad(&line))?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }
}

impl Read for Connection {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let pending = &self.buf[self.pos..];
        if pending.is_empty() {
            return self.stream.read(out);
        }
        let n = pending.len().min(out.len());
        out[..n].copy_from_slice(&pending[..n]);
        self.pos += n;
        Ok(n)
    }
}

/// A client on one connection.
pub struct Client {
    connection: Connection,
    within: Duration,
}

impl Client {
    /// Connects; each operation afterwards has [`PATIENCE`].
    pub fn connect(addr: &Addr) -> io::Result<Self> {
        Ok(Self::over(Stream::connect(addr, PATIENCE)?))
    }

    /// A client over a connected stream.
    pub fn over(stream: Stream) -> Self {
        Self { connection: Connection { stream, buf: Vec::new(), pos: 0 }, within: PATIENCE }
    }

    /// Each operation from now on has `within`.
    pub fn set_patience(&mut self, within: Duration) {
        self.within = within;
    }

    /// The socket.
    pub fn stream(&self) -> &Stream {
        &self.connection.stream
    }

    /// A handle to write with from another thread.
    pub fn writer(&self) -> io::Result<Stream> {
        let mut stream = self.connection.stream.try_clone()?;
        stream.set_deadline(self.within);
        Ok(stream)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.connection.stream.set_deadline(self.within);
        self.connection.stream.write_all(bytes.as_ref())
    }

    /// Sends a GET for `path` on `host`, keeping the connection.
    pub fn send_get(&mut self, host: &str, path: &str) -> io::Result<()> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    }

    /// GET, and the response.
    pub fn get(&mut self, host: &str, path: &str) -> io::Result<Response> {
        self.send_get(host, path)?;
        self.response()
    }

    /// POST with Content-Length, and the response. The body is small: it is sent before anything is read.
    pub fn post(&mut self, host: &str, path: &str, body: &[u8]) -> io::Result<Response> {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n");
        self.send([head.as_bytes(), body].concat())?;
        self.response()
    }

    /// Reads one response to its end. Errors when there is none, within the deadline, or its bytes are malformed; a
    /// body that is cut is no error but an [`End`].
    pub fn response(&mut self) -> io::Result<Response> {
        self.read_response(false)
    }

    /// Reads the response to a HEAD request: no body follows, whatever its head says.
    pub fn response_to_head(&mut self) -> io::Result<Response> {
        self.read_response(true)
    }

    fn read_response(&mut self, bodiless: bool) -> io::Result<Response> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head()?;
            if head.status >= 200 {
                break head;
            }
            interim.push(head.status);
        };
        let mut body = Body::new(&head, bodiless)?;
        let (bytes, end) = body.read_to_end(&mut self.connection)?;
        Ok(Response { head, interim, body: bytes, trailers: body.trailers, end })
    }

    /// Reads one head, interim ones too.
    pub fn head(&mut self) -> io::Result<Head> {
        self.connection.stream.set_deadline(self.within);
        self.connection.head()
    }

    /// The body that belongs to `head`, to be read with [`Self::read_body`].
    pub fn body(&self, head: &Head) -> io::Result<Body> {
        Body::new(head, false)
    }

    /// Appends some bytes of `body` to `out`, as [`Body::read`] does.
    pub fn read_body(&mut self, body: &mut Body, out: &mut Vec<u8>, max: usize) -> io::Result<usize> {
        self.connection.stream.set_deadline(self.within);
        body.read(&mut self.connection, out, max)
    }

    /// Reads until the connection ends and returns all bytes; a reset counts as an end.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        self.connection.stream.set_deadline(self.within);
        let mut out = Vec::new();
        match self.connection.read_to_end(&mut out) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error),
            _ => Ok(out),
        }
    }

    /// Half-closes: nothing more will be sent.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.connection.stream.shutdown_write()
    }

    /// Closes with a reset.
    pub fn reset(self) -> io::Result<()> {
        self.connection.stream.reset()
    }
}
