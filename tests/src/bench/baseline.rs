//! The bare loop that hello is compared with: mio, httparse, and the same response bytes as the server's, with a
//! date that is formatted once a second. No routing, no limits, no timers, no sandbox: what remains is the price of
//! the sockets.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);

/// What is answered when no template is given.
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\
date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\nHello World!\n";

struct Peer {
    stream: TcpStream,
    buf: Vec<u8>,
    out: Vec<u8>,
}

struct Date {
    next: Instant,
    template: Vec<u8>,
    at: Option<usize>,
}

impl Date {
    fn new(template: Vec<u8>) -> Self {
        let lower = template.to_ascii_lowercase();
        let at = lower.windows(8).position(|window| window == b"\r\ndate: ").map(|at| at + 8);
        Self { next: Instant::now(), template, at }
    }

    /// The response, its date at most a second old.
    fn response(&mut self) -> &[u8] {
        let now = Instant::now();
        if now >= self.next {
            self.next = now + Duration::from_secs(1);
            if let Some(room) = self.at.and_then(|at| self.template.get_mut(at..at + 29)) {
                room.copy_from_slice(&imf_fixdate(unix_seconds()));
            }
        }
        &self.template
    }
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

/// RFC 9110 section 5.6.7. Days to a civil date after Howard Hinnant's published formulas.
fn imf_fixdate(seconds: u64) -> [u8; 29] {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, clock) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 2 } else { shifted_month - 10 };
    let year = year_of_era + era * 400 + u64::from(month < 2);
    let text = format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        clock / 3_600,
        clock / 60 % 60,
        clock % 60,
    );
    let mut out = [b' '; 29];
    out.copy_from_slice(text.as_bytes());
    out
}

/// Serves `template` to every request until the process is ended. Prints where it listens, as the server does.
pub fn serve(template: Vec<u8>) -> anyhow::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on http://{}", listener.local_addr()?);

    let mut date = Date::new(template);
    let mut peers: Vec<Option<Peer>> = Vec::new();
    let mut events = Events::with_capacity(1_024);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result.context("polling")?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut peers)?;
                continue;
            }
            let slot = &mut peers[event.token().0];
            let open = slot.as_mut().is_some_and(|peer| turn(peer, &mut date));
            if !open {
                *slot = None;
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, peers: &mut Vec<Option<Peer>>) -> anyhow::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nodelay(true)?;
                let interest = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut stream, Token(peers.len()), interest)?;
                peers.push(Some(Peer { stream, buf: Vec::new(), out: Vec::new() }));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reads, answers every whole request, writes in one call. False: the connection is over.
fn turn(peer: &mut Peer, date: &mut Date) -> bool {
    let mut piece = [0; 16 * 1024];
    loop {
        match peer.stream.read(&mut piece) {
            Ok(0) => return false,
            Ok(n) => {
                peer.buf.extend_from_slice(&piece[..n]);
                if n < piece.len() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return false,
        }
    }
    let mut used = 0;
    while used < peer.buf.len() {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        match httparse::Request::new(&mut headers).parse(&peer.buf[used..]) {
            Ok(httparse::Status::Complete(n)) => {
                used += n;
                peer.out.extend_from_slice(date.response());
            }
            Ok(httparse::Status::Partial) => break,
            Err(_) => return false,
        }
    }
    peer.buf.drain(..used);
    while !peer.out.is_empty() {
        match peer.stream.write(&peer.out) {
            Ok(n) => drop(peer.out.drain(..n)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
            Err(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_102_444_799, "Thu, 31 Dec 2099 23:59:59 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&imf_fixdate(seconds)).unwrap(), text);
        }
    }

    #[test]
    fn the_date_of_the_template_is_replaced() {
        let mut date = Date::new(RESPONSE.to_vec());
        let response = String::from_utf8(date.response().to_vec()).unwrap();
        assert_eq!(response.len(), RESPONSE.len());
        assert!(!response.contains("1970"), "{response}");
    }
}
