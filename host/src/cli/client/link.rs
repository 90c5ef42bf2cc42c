//! One question and its answer on a connection of their own.
//!
//! Both directions move at once: a server that refuses an upload says so before it has all of it, and is heard. The
//! protocol is [`tidegate_proto::client`]'s; nothing here knows what is asked.

use std::io::{self, IoSlice, Read};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tidegate_proto::client::{BodyLength, Receiver, Request, RequestBody, Sender, response_limits};
use tidegate_proto::pipe::{Pipe, Watermarks};

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    /// Of the body, if there is one.
    pub(super) media_type: &'a str,
    /// Its length in bytes.
    pub(super) length: u64,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// The body to send cannot be read.
    Source(io::Error),
    /// Nothing came for too long.
    Silent,
    /// The connection, or what came on it.
    Link(String),
}

/// A connection.
pub(super) struct Link {
    socket: OwnedFd,
    sender: Sender,
    receiver: Receiver,
    out: Pipe,
    body: Pipe,
    /// Nothing more can be sent; what came before may still be read.
    deaf: bool,
    patience: Duration,
}

/// What one look at the connection did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moved {
    Something,
    Nothing,
}

impl Link {
    pub(super) fn new(socket: OwnedFd, patience: Duration) -> Self {
        let (out, body) = (Pipe::new(Watermarks::default()), Pipe::new(Watermarks::default()));
        Self {
            socket,
            sender: Sender::default(),
            receiver: Receiver::default(),
            out,
            body,
            deaf: false,
            patience,
        }
    }

    /// Asks, with `source` as the body, and gives what comes of the answer's to `sink`, with its status. Returns that. A sink
    /// that wants no more ends it well.
    pub(super) fn run(
        &mut self,
        ask: &Ask<'_>,
        host: &str,
        token: Option<&str>,
        source: &mut dyn Read,
        sink: &mut dyn FnMut(u16, &[u8]) -> ControlFlow<()>,
    ) -> Result<u16, Broken> {
        self.begin(ask, host, token)?;
        let mut last = Instant::now();
        loop {
            self.fill(source)?;
            let sent = self.send()?;
            let received = self.receive()?;
            let status = self.receiver.head().status();
            for part in self.body.peek() {
                if !part.is_empty() && sink(status, part).is_break() {
                    return Ok(status);
                }
            }
            self.body.consume(self.body.len());
            if self.receiver.has_head() && self.body.is_ended() {
                return Ok(status);
            }
            if sent == Moved::Something || received == Moved::Something {
                last = Instant::now();
                continue;
            }
            let left = self.patience.saturating_sub(last.elapsed());
            if left.is_zero() {
                return Err(Broken::Silent);
            }
            self.wait(left);
        }
    }

    fn begin(&mut self, ask: &Ask<'_>, host: &str, token: Option<&str>) -> Result<(), Broken> {
        let link = |error: &dyn std::fmt::Display| Broken::Link(error.to_string());
        rustix::io::ioctl_fionbio(&self.socket, true).map_err(|error| link(&error))?;
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut fields: Vec<(&[u8], &[u8])> =
            vec![(b"connection", b"close"), (b"user-agent", AGENT.as_bytes())];
        if ask.length > 0 {
            fields.push((b"content-type", ask.media_type.as_bytes()));
        }
        if let Some(bearer) = &bearer {
            fields.push((b"authorization", bearer.as_bytes()));
        }
        let body = if ask.length > 0 { BodyLength::Known(ask.length) } else { BodyLength::Empty };
        let request = Request { method: ask.method, authority: host, path: ask.path, body };
        self.sender.begin(&request, fields).map_err(|error| link(&error))?;
        if ask.length == 0 {
            self.out.end();
        }
        self.receiver.begin(self.sender.is_head_request()).map_err(|error| link(&error))
    }

    /// Brings more of the body, as much as there is room for.
    fn fill(&mut self, source: &mut dyn Read) -> Result<(), Broken> {
        while !self.deaf && !self.out.is_ended() && self.sender.permit(&self.out) > 0 {
            let room = self.sender.permit(&self.out);
            let space = self.out.spare(room);
            let n = source.read(space).map_err(Broken::Source)?;
            self.out.commit(n);
            let whole = self.sender.body_length().is_some_and(|length| self.out.total_in() >= length);
            if n == 0 && !whole {
                let message = "it has become shorter while it was sent";
                return Err(Broken::Source(io::Error::new(io::ErrorKind::UnexpectedEof, message)));
            }
            if whole {
                self.out.end();
            }
        }
        Ok(())
    }

    fn send(&mut self) -> Result<Moved, Broken> {
        let mut moved = Moved::Nothing;
        while !self.deaf {
            self.sender.poll_transmit(&mut RequestBody { pipe: &mut self.out, trailers: &[] });
            if self.sender.is_flushed() {
                break;
            }
            let slices = self.sender.slices(&self.out).map(IoSlice::new);
            match rustix::io::writev(&self.socket, &slices) {
                Ok(n) => {
                    self.sender.handle_transmitted(n, &mut self.out);
                    moved = Moved::Something;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // It may have answered before it hung up.
                Err(Errno::PIPE | Errno::CONNRESET) => self.deaf = true,
                Err(error) => return Err(Broken::Link(error.to_string())),
            }
        }
        Ok(moved)
    }

    fn receive(&mut self) -> Result<Moved, Broken> {
        let room = self.receiver.room(&self.body).min(READ_BYTES);
        let mut scratch = [0; READ_BYTES];
        let Some(space) = scratch.get_mut(..room).filter(|space| !space.is_empty()) else {
            return Ok(Moved::Nothing);
        };
        let limits = response_limits();
        match recv(&self.socket, &mut *space, RecvFlags::empty()) {
            Ok((0, _)) => self.receiver.handle_eof(&mut self.body),
            Ok((n, _)) => {
                self.receiver.handle_input(space.get(..n).unwrap_or_default(), &mut self.body, &limits)
            }
            Err(Errno::AGAIN | Errno::INTR) => return Ok(Moved::Nothing),
            Err(error) => return Err(Broken::Link(error.to_string())),
        }
        .map_err(|error| Broken::Link(error.to_string()))?;
        Ok(Moved::Something)
    }

    fn wait(&self, within: Duration) {
        let unsent = !self.deaf && !self.sender.is_flushed();
        let flags = if unsent { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let within = within.min(Duration::from_secs(3600));
        let within = Timespec::try_from(within).unwrap_or_default();
        // Whatever it says, the next attempt finds out.
        let _ = poll(&mut [PollFd::new(&self.socket, flags)], Some(&within));
    }
}

/// Bytes that one read may bring.
const READ_BYTES: usize = 16 * 1024;
const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// Asks somebody who reads `reads` bytes and then says `answer`.
    fn asked(
        length: usize,
        reads: usize,
        answer: &'static str,
        patience: Duration,
    ) -> (Result<u16, Broken>, Vec<u8>) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let other = thread::spawn(move || {
            let mut bytes = vec![0; reads];
            let _ = theirs.read_exact(&mut bytes);
            theirs.write_all(answer.as_bytes()).unwrap();
            // Kept until the asker is done: what it still sends is not read.
            let _ = theirs.shutdown(std::net::Shutdown::Write);
            theirs
        });
        let mut got = Vec::new();
        let ask = Ask { method: "PUT", path: "/x", media_type: "application/wasm", length: length as u64 };
        let source = vec![7; length];
        let status = Link::new(ours.into(), patience).run(
            &ask,
            "localhost",
            Some("t"),
            &mut &source[..],
            &mut |_, bytes| {
                got.extend_from_slice(bytes);
                ControlFlow::Continue(())
            },
        );
        drop(other.join().unwrap());
        (status, got)
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn an_answer_that_comes_before_the_question_has_left_is_heard() {
        let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno";
        let (status, body) = asked(10 << 20, 100, answer, PATIENCE);
        assert_eq!((status.unwrap(), body.as_slice()), (413, &b"no"[..]));
    }

    #[test]
    fn an_answer_in_chunks() {
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
        let (status, body) = asked(1000, 1000, answer, PATIENCE);
        assert_eq!((status.unwrap(), body.as_slice()), (200, &b"abcde"[..]));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let broken = |answer| asked(10, 10, answer, PATIENCE).0.unwrap_err();
        assert!(matches!(broken(""), Broken::Link(_)));
        assert!(matches!(broken("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"), Broken::Link(_)));
        assert!(matches!(broken("SSH-2.0-x\r\n\r\n"), Broken::Link(_)));
    }

    #[test]
    fn patience_ends() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let ask = Ask { method: "GET", path: "/", media_type: "", length: 0 };
        let mut link = Link::new(ours.into(), Duration::from_millis(20));
        let silent =
            link.run(&ask, "localhost", None, &mut io::empty(), &mut |_, _| ControlFlow::Continue(()));
        assert!(matches!(silent, Err(Broken::Silent)));
    }

    #[test]
    fn a_body_that_is_shorter_than_announced_is_not_sent_as_whole() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let ask = Ask { method: "PUT", path: "/", media_type: "x/y", length: 5 };
        let mut link = Link::new(ours.into(), PATIENCE);
        let broken =
            link.run(&ask, "localhost", None, &mut &b"abc"[..], &mut |_, _| ControlFlow::Continue(()));
        assert!(matches!(broken, Err(Broken::Source(_))));
        drop(theirs);
    }
}
