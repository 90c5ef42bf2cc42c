//! One connection to a server as bytes in and bytes out, with or without TLS.
//!
//! Nothing here waits. What TLS holds back counts as not sent, and what it has decrypted as not received.

use std::io::{self, BufRead, IoSlice, Read, Write};

use rustix::io::Errno;
use rustls::ClientConnection;

use super::failure::Failure;
use crate::net::network::Network;
use crate::net::tcp::TcpStream;

/// Bytes of TLS that are looked at in one go: what a server sends may be nothing but records without data, without end,
/// and nobody would get a turn.
const TURN_BYTES_MAX: usize = if cfg!(test) { 32 * 1024 } else { 256 * 1024 };
/// What fits into one call of the system when TLS has several records to send.
const GATHER_BYTES: usize = 32 * 1024;

/// Why nothing was moved.
#[derive(Debug)]
pub(super) enum Stop {
    /// There will be an event.
    Wait,
    /// The server has ended its side.
    End,
    /// It has, without the end that TLS has for that: what came may be cut off.
    Cut,
    Failed(Failure),
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) tcp: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// TLS has bytes for us that it has decrypted, or their end.
    buffered: bool,
    /// TLS has told of the end.
    ended: bool,
    /// Something has left since this was last asked for.
    progress: bool,
    /// Bytes of TLS that were looked at in this go.
    turn_bytes: usize,
}

/// A socket as TLS wants it, for a call whose bytes are counted.
struct Raw<'a> {
    tcp: &'a TcpStream,
    network: &'a Network,
}

fn receive(tcp: &TcpStream, network: &Network, into: &mut [u8]) -> Result<usize, Errno> {
    let most = network.allowance(into.len())?;
    let n = tcp.try_read(into.get_mut(..most).unwrap_or_default())?;
    network.moved(n);
    Ok(n)
}

fn send(tcp: &TcpStream, network: &Network, bytes: &[u8]) -> Result<usize, Errno> {
    let most = network.allowance(bytes.len())?;
    let n = tcp.try_write(bytes.get(..most).unwrap_or_default())?;
    network.moved(n);
    Ok(n)
}

impl Read for Raw<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        Ok(receive(self.tcp, self.network, into)?)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.tcp, self.network, bytes)?)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match slices {
            [] => return Ok(0),
            [one] => return self.write(one),
            [first, ..] if first.len() >= GATHER_BYTES => return self.write(first),
            _ => {}
        }
        let mut gathered = Vec::with_capacity(GATHER_BYTES);
        for slice in slices {
            let room = GATHER_BYTES - gathered.len();
            gathered.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        self.write(&gathered)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        if errno == Errno::AGAIN { Self::Wait } else { Self::Failed(Failure::of_connection(errno)) }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::from(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Link {
    pub(super) fn new(tcp: TcpStream, tls: Option<Box<ClientConnection>>) -> Self {
        Self { tcp, tls, buffered: false, ended: false, progress: false, turn_bytes: 0 }
    }

    /// Another go.
    pub(super) fn begin_turn(&mut self) {
        self.turn_bytes = 0;
    }

    /// True if there may be more to look at than this go allows: no event will say so.
    pub(super) fn is_tired(&self) -> bool {
        self.turn_bytes >= TURN_BYTES_MAX
    }

    /// True if there may be something to receive.
    pub(super) fn may_receive(&self) -> bool {
        self.buffered || self.tcp.is_readable()
    }

    /// True if the system may take something.
    pub(super) fn may_send(&self) -> bool {
        self.tcp.is_writable()
    }

    /// Says once whether something has left.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Everything that was taken to be sent has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.wants_write())
    }

    /// True if nothing has happened on a connection on which nothing should: it is as good as new. An event may speak of
    /// bytes that were received by then, so the system is asked.
    pub(super) fn is_quiet(&self) -> bool {
        let still = !self.buffered && (!self.tcp.is_readable() || self.is_silent());
        still && self.is_flushed() && !self.tcp.is_dead()
    }

    /// True if the system has nothing for us either, be it the end.
    pub(super) fn is_silent(&self) -> bool {
        self.tcp.try_peek(&mut [0]) == Err(Errno::AGAIN)
    }

    /// Goes on with the handshake of TLS: its last bytes leave with the first of the request.
    ///
    /// # Errors
    /// It is not complete.
    pub(super) fn handshake(&mut self, network: &Network) -> Result<(), Stop> {
        loop {
            let Some(tls) = &mut self.tls else { return Ok(()) };
            if !tls.is_handshaking() {
                return Ok(());
            }
            self.flush(network)?;
            self.take_records(network)?;
        }
    }

    /// Receives records, and decrypts what is whole.
    fn take_records(&mut self, network: &Network) -> Result<(), Stop> {
        let Some(tls) = &mut self.tls else { return Err(Stop::Wait) };
        if !self.tcp.is_readable() || self.turn_bytes >= TURN_BYTES_MAX {
            return Err(Stop::Wait);
        }
        let taken = tls.read_tls(&mut Raw { tcp: &self.tcp, network }).map_err(|error| {
            // What is no error of the system's is one of TLS: a message without end.
            match Errno::from_io_error(&error) {
                Some(errno) => Stop::from(errno),
                None => Stop::Failed(Failure::TlsProtocolError(error.to_string().into())),
            }
        })?;
        self.turn_bytes = self.turn_bytes.saturating_add(taken);
        if taken == 0 {
            return Err(Stop::Cut);
        }
        let processed = tls.process_new_packets();
        match processed {
            Ok(state) => {
                self.ended |= state.peer_has_closed();
                self.buffered |= self.ended || state.plaintext_bytes_to_read() > 0;
            }
            Err(error) => {
                // The alert that says why: as good as it goes.
                let _ = self.flush(network);
                return Err(Stop::Failed(error.into()));
            }
        }
        Ok(())
    }

    /// Receives into `into`, at least one byte.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn receive(&mut self, into: &mut [u8], network: &Network) -> Result<usize, Stop> {
        loop {
            let Some(tls) = &mut self.tls else {
                return match receive(&self.tcp, network, into)? {
                    0 => Err(Stop::End),
                    n => Ok(n),
                };
            };
            match tls.reader().read(into) {
                Ok(0) => return Err(Stop::End),
                Ok(n) => {
                    // Less than there was room for is all that there is.
                    let full = n == into.len();
                    let more = full && tls.reader().fill_buf().is_ok_and(|rest| !rest.is_empty());
                    self.buffered = self.ended || more;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.buffered = false,
                Err(_) => return Err(Stop::Cut),
            }
            self.take_records(network)?;
        }
    }

    /// Sends what it can of `bytes`, which are some; TLS may hold a part of them back.
    ///
    /// # Errors
    /// It can send nothing.
    pub(super) fn send(&mut self, bytes: &[u8], network: &Network) -> Result<usize, Stop> {
        let Some(tls) = &mut self.tls else {
            let n = send(&self.tcp, network, bytes)?;
            self.progress |= n > 0;
            return Ok(n);
        };
        let mut n = tls.writer().write(bytes)?;
        if n == 0 {
            // It is full. If all of that leaves there is no event to wait for.
            self.flush(network)?;
            n = self.tls.as_mut().map_or(Ok(0), |tls| tls.writer().write(bytes))?;
        }
        match self.flush(network) {
            Ok(()) | Err(Stop::Wait) => Ok(n),
            Err(stop) => Err(stop),
        }
    }

    /// Sends what TLS holds.
    ///
    /// # Errors
    /// Not all of it has left.
    pub(super) fn flush(&mut self, network: &Network) -> Result<(), Stop> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            self.progress |= tls.write_tls(&mut Raw { tcp: &self.tcp, network })? > 0;
        }
        Ok(())
    }
}
