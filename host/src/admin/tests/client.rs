//! A client that reads what is there and nothing more.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Client {
    reader: BufReader<Box<dyn Read>>,
    writer: Box<dyn Write>,
    host: String,
}

#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Reply {
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.body.escape_ascii()))
    }

    /// The kind of a problem.
    #[track_caller]
    pub(super) fn kind(&self) -> String {
        assert_eq!(self.field("content-type"), Some("application/problem+json"), "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status);
        json["kind"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(super) fn lines(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        let text = std::str::from_utf8(&self.body).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Client {
    pub(super) fn unix(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader: Box<dyn Read> = Box::new(stream.try_clone().unwrap());
        Self { reader: BufReader::new(reader), writer: Box::new(stream), host: "localhost".to_owned() }
    }

    pub(super) fn tcp(place: &str) -> Self {
        Self::over(TcpStream::connect(place).unwrap(), place)
    }

    /// Over TCP, from this address.
    pub(super) fn tcp_from(from: &str, place: &str) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let addr = |text: &str| text.parse::<std::net::SocketAddr>().unwrap().into();
        socket.bind(&addr(&format!("{from}:0"))).unwrap();
        socket.connect(&addr(place)).unwrap();
        Self::over(socket.into(), place)
    }

    fn over(stream: TcpStream, place: &str) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader: Box<dyn Read> = Box::new(stream.try_clone().unwrap());
        Self { reader: BufReader::new(reader), writer: Box::new(stream), host: place.to_owned() }
    }

    pub(super) fn for_host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    /// Sends bytes; that nobody takes them shows in what is read.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        let _ = self.writer.write_all(bytes);
    }

    #[track_caller]
    pub(super) fn ask(&mut self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n", self.host);
        for (name, value) in fields {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        self.send(&[head.as_bytes(), b"\r\n"].concat());
        self.send(body);
        self.reply(method)
    }

    #[track_caller]
    pub(super) fn ask_chunked(&mut self, method: &str, path: &str, body: &[u8]) -> Reply {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", self.host);
        self.send(head.as_bytes());
        for part in body.chunks(100_000) {
            self.send(format!("{:x}\r\n", part.len()).as_bytes());
            self.send(part);
            self.send(b"\r\n");
        }
        self.send(b"0\r\n\r\n");
        self.reply(method)
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        let n = self.reader.read_line(&mut line).unwrap();
        assert!(n > 0, "the connection ended inside of a response");
        line.trim_end().to_owned()
    }

    #[track_caller]
    pub(super) fn head(&mut self) -> (u16, Vec<(String, String)>) {
        let line = self.line();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap().parse().unwrap();
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            let Some((name, value)) = line.split_once(": ") else { return (status, fields) };
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// A chunk of a body; None at its end.
    #[track_caller]
    pub(super) fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let mut bytes = vec![0; size];
        self.reader.read_exact(&mut bytes).unwrap();
        assert_eq!(self.line(), "");
        (size > 0).then_some(bytes)
    }

    #[track_caller]
    pub(super) fn reply(&mut self, method: &str) -> Reply {
        let (status, fields) = self.head();
        let mut reply = Reply { status, fields, body: Vec::new() };
        if method == "HEAD" || status < 200 || status == 204 {
            return reply;
        }
        if let Some(length) = reply.field("content-length") {
            reply.body = vec![0; length.parse().unwrap()];
            self.reader.read_exact(&mut reply.body).unwrap();
        } else {
            assert_eq!(reply.field("transfer-encoding"), Some("chunked"));
            while let Some(chunk) = self.chunk() {
                reply.body.extend_from_slice(&chunk);
            }
        }
        reply
    }

    /// All that still comes until the connection ends.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = self.reader.read_to_end(&mut rest);
        rest
    }
}
