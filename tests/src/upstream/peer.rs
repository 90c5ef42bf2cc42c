//! One connection of an upstream, as its behaviour sees it.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::Shared;
use super::request::{Body, Request};

/// The socket, with or without TLS.
enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

/// How a client left a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// It closed, or half-closed.
    Closed,
    /// It reset the connection.
    Reset,
}

/// A connection that was accepted.
pub struct Peer {
    socket: Socket,
    number: usize,
    shared: Arc<Shared>,
    /// What came and was not taken yet.
    pub(super) buf: Vec<u8>,
}

impl Peer {
    /// With TLS the handshake is over when this returns; an error is that it failed.
    pub(super) fn new(
        stream: TcpStream,
        number: usize,
        settings: Option<Arc<ServerConfig>>,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let socket = match settings {
            None => Socket::Plain(stream),
            Some(settings) => {
                let mut connection = ServerConnection::new(settings).map_err(io::Error::other)?;
                let mut stream = stream;
                while connection.is_handshaking() {
                    connection.complete_io(&mut stream)?;
                }
                Socket::Tls(Box::new(StreamOwned::new(connection, stream)))
            }
        };
        Ok(Self { socket, number, shared, buf: Vec::new() })
    }

    /// The how-manieth connection of its upstream this is, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        match &mut self.socket {
            Socket::Plain(stream) => stream.write_all(bytes),
            Socket::Tls(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    /// Adds what comes next to what is not taken yet. 0: the client's end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let start = self.buf.len();
        self.buf.resize(start + 64 * 1024, 0);
        let read = match &mut self.socket {
            Socket::Plain(stream) => stream.read(&mut self.buf[start..]),
            Socket::Tls(stream) => stream.read(&mut self.buf[start..]),
        };
        self.buf.truncate(start + *read.as_ref().unwrap_or(&0));
        read
    }

    /// Reads the head of the next request. `None`: the client ended the connection instead.
    pub fn head(&mut self) -> io::Result<Option<Request>> {
        let end = loop {
            if let Some(at) = self.buf.windows(4).position(|window| window == b"\r\n\r\n") {
                break at + 4;
            }
            if self.fill()? == 0 {
                return if self.buf.is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        };
        let raw = self.buf.drain(..end).collect();
        let request = Request::parse(raw, self.number)?;
        self.shared.change(|state| state.requests.push(request.clone()));
        Ok(Some(request))
    }

    /// The body that belongs to `head`, to be read piece by piece.
    pub fn body(&self, head: &Request) -> io::Result<Body> {
        Body::of(head)
    }

    /// Reads the next request to the end of its body.
    pub fn request(&mut self) -> io::Result<Option<Request>> {
        let Some(mut request) = self.head()? else { return Ok(None) };
        let mut body = self.body(&request)?;
        while body.read(self, &mut request.body)? > 0 {}
        request.trailers = body.trailers;
        let (number, whole) = (self.number, request.clone());
        self.shared.change(|state| {
            if let Some(kept) = state.requests.iter_mut().rev().find(|kept| kept.connection == number) {
                *kept = whole;
            }
        });
        Ok(Some(request))
    }

    /// Sends a response with a Content-Length, after which the connection goes on.
    pub fn respond(&mut self, status: &str, fields: &str, body: &[u8]) -> io::Result<()> {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{fields}\r\n", body.len());
        self.send([head.as_bytes(), body].concat())
    }

    /// Answers request after request with 200 and `body`.
    pub fn answer_all(&mut self, body: &str) -> io::Result<()> {
        while self.request()?.is_some() {
            self.respond("200 OK", "Content-Type: text/plain\r\n", body.as_bytes())?;
        }
        Ok(())
    }

    /// Answers request after request with its own body, each piece as soon as it is there, and its trailers.
    pub fn echo_all(&mut self) -> io::Result<()> {
        while let Some(request) = self.head()? {
            let mut body = self.body(&request)?;
            self.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-echo\r\n\r\n")?;
            let mut piece = Vec::new();
            while body.read(self, &mut piece)? > 0 {
                self.chunk(&piece)?;
                piece.clear();
            }
            let mut end = String::from("0\r\n");
            for (name, value) in &body.trailers {
                end.push_str(&format!("{name}: {value}\r\n"));
            }
            self.send(end + "\r\n")?;
        }
        Ok(())
    }

    /// Sends one chunk.
    pub fn chunk(&mut self, piece: &[u8]) -> io::Result<()> {
        self.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat())
    }

    /// Reads and throws away until the client ends the connection, and keeps how for [`super::Upstream::gone`].
    pub fn wait_for_end(&mut self) -> io::Result<Gone> {
        let gone = loop {
            self.buf.clear();
            match self.fill() {
                Ok(0) => break Gone::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break Gone::Reset,
                // A client may leave TLS without a word.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break Gone::Closed,
                Err(error) => return Err(error),
            }
        };
        if !self.is_stopped() {
            self.shared.change(|state| state.gone.push(gone));
        }
        Ok(gone)
    }

    /// Ends the connection with a reset, also when everything has been read.
    pub fn reset(&mut self) -> io::Result<()> {
        let stream = self.stream();
        socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO))?;
        // The test's own handle on the socket would keep it open.
        self.shared.change(|state| {
            state.open.remove(&self.number);
        });
        Ok(())
    }

    /// The socket below TLS.
    pub fn stream(&self) -> &TcpStream {
        match &self.socket {
            Socket::Plain(stream) => stream,
            Socket::Tls(stream) => stream.get_ref(),
        }
    }

    /// Does nothing for a while; an error when the upstream is being dropped.
    pub fn pause(&self, time: Duration) -> io::Result<()> {
        thread::sleep(time);
        if self.is_stopped() { Err(ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }

    fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::SeqCst)
    }
}
