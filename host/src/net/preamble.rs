//! The preamble of a raw connection: a proxy says whose bytes follow, and the guest meets those alone.
//!
//! It is read before there is an instance of the guest, and no byte behind it is: what follows stays with the system. Must
//! never know who may send one; whoever accepted the connection has seen to that.
//!
//! Invariants: every wait ends with the time that the preamble has; each byte of it is taken once, however it is split.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tidegate_proto::edge::proxy::{Bad, PREAMBLE_BYTES_MAX, Source, parse};

use super::hub::{Hub, Registered};
use super::readiness::Readiness;
use super::tcp::AcceptedTcp;
use crate::clock::Nanos;
use crate::exchange::{Ends, Exchange, Park};
use crate::observe::edge;

/// Why there is no preamble.
#[derive(Debug)]
enum Without {
    Bad(Bad),
    Late,
    /// The other side is gone, as checks of an open port are.
    Gone,
}

impl AcceptedTcp {
    /// Waits for the preamble, if there is to be one, and takes it off the connection. False: there is none, and the
    /// connection is to be closed; the log knows why.
    pub(crate) async fn take_preamble(&mut self, hub: &Arc<Hub>, exchange: &Exchange) -> bool {
        let Some(due) = self.preamble_due.take() else { return true };
        let Ok(mut reading) = Reading::begin(hub, &mut self.io, due) else { return false };
        let read = poll_fn(|cx| reading.poll(cx, exchange)).await;
        drop(reading);
        exchange.lock().park = None;
        let reason = match read {
            Ok(Source::Client { from, to }) => {
                self.name(from, to, exchange);
                return true;
            }
            // Where no address is named, the proxy's stands for it.
            Ok(Source::Proxy | Source::Unix | Source::Unknown) => return true,
            Err(Without::Gone) => return false,
            Err(Without::Late) => "the PROXY preamble did not come in time".to_owned(),
            Err(Without::Bad(bad)) => bad.to_string(),
        };
        edge::tell_closed(Some(self.peer), &reason);
        false
    }

    fn name(&mut self, from: SocketAddr, to: SocketAddr, exchange: &Exchange) {
        self.peer = from;
        self.local = Some(to);
        exchange.lock().facts.ends = Ends { peer: Some(from), local: Some(to) };
    }
}

/// A preamble that is being read.
struct Reading<'a> {
    hub: &'a Hub,
    io: &'a mut mio::net::TcpStream,
    registered: Registered,
    /// When it has to be there.
    due: Nanos,
    /// What was taken of it.
    taken: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn begin(hub: &'a Hub, io: &'a mut mio::net::TcpStream, due: Nanos) -> Result<Self, Errno> {
        let registered = hub.register(io, Readiness::of_connected())?;
        Ok(Self { hub, io, registered, due, taken: Vec::new() })
    }

    fn poll(&mut self, cx: &Context<'_>, exchange: &Exchange) -> Poll<Result<Source, Without>> {
        let mut bytes = [0; PREAMBLE_BYTES_MAX];
        loop {
            // Bytes that drip buy no time.
            if self.hub.now() >= self.due {
                return Poll::Ready(Err(Without::Late));
            }
            match recv(self.io.as_fd(), &mut bytes[..], RecvFlags::PEEK) {
                Ok((0, _)) => return Poll::Ready(Err(Without::Gone)),
                Ok((n, _)) => match self.step(bytes.get(..n).unwrap_or_default()) {
                    Ok(None) => {}
                    Ok(Some(source)) => return Poll::Ready(Ok(source)),
                    Err(without) => return Poll::Ready(Err(without)),
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.registered.readiness.mask_read();
                    if self.registered.readiness.poll_read(cx).is_pending() {
                        let until = Some(self.due);
                        exchange.lock().park =
                            Some(Park { readable: false, writable: false, faults: false, until });
                        return Poll::Pending;
                    }
                }
                Err(_) => return Poll::Ready(Err(Without::Gone)),
            }
        }
    }

    /// Looks at bytes that came, and takes those of the preamble. None: more have to come.
    fn step(&mut self, peeked: &[u8]) -> Result<Option<Source>, Without> {
        let before = self.taken.len();
        self.taken.extend_from_slice(peeked);
        match parse(&self.taken).map_err(Without::Bad)? {
            Some(preamble) => {
                self.discard(preamble.len.saturating_sub(before))?;
                Ok(Some(preamble.source))
            }
            None => self.discard(peeked.len()).map(|()| None),
        }
    }

    /// Takes bytes that were peeked at.
    fn discard(&mut self, mut count: usize) -> Result<(), Without> {
        let mut bytes = [0; PREAMBLE_BYTES_MAX];
        while count > 0 {
            let most = count.min(bytes.len());
            match recv(self.io.as_fd(), bytes.get_mut(..most).unwrap_or_default(), RecvFlags::empty()) {
                Ok((0, _)) => return Err(Without::Gone),
                Ok((n, _)) => count = count.saturating_sub(n),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Without::Gone),
            }
        }
        Ok(())
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.hub.deregister(self.io, &self.registered);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::pin::pin;
    use std::task::Waker;

    use super::super::access::{Access, Tally};
    use super::super::hub::tests::{hub_of, turn_for};
    use super::super::policy::{OwnAddresses, Policy};
    use super::*;
    use crate::clock::{Clock, MS};
    use crate::config::AppLimits;
    use crate::config::sockets::SocketSettings;

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n";
    /// Far longer than any of this takes.
    const LONG: Nanos = 600_000 * MS;

    /// Version 2, of a kind of address.
    fn header(command: u8, kind: u8, block: &[u8]) -> Vec<u8> {
        let len = u16::try_from(block.len()).unwrap().to_be_bytes();
        [b"\r\n\r\n\0\r\nQUIT\n", &[command, kind][..], &len, block].concat()
    }

    /// What comes of a connection on which these pieces come, each once the one before was looked at: whether it is served,
    /// whose it is, where it arrived, and what the guest reads. `ends`: the other side ends its sending after them.
    fn taken(pieces: &[&[u8]], ends: bool, within: Nanos) -> (bool, SocketAddr, Option<SocketAddr>, Vec<u8>) {
        let mut poll = mio::Poll::new().unwrap();
        let hub = hub_of(&poll);
        let exchange = Exchange::new(Clock::start());
        let policy = Policy::new(&SocketSettings::default(), OwnAddresses::default());
        let access = Access::new("app".into(), 1, policy, AppLimits::default(), Arc::new(Tally::default()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        socket.set_nonblocking(true).unwrap();
        let io = mio::net::TcpStream::from_std(socket);
        let mut accepted =
            AcceptedTcp::new(io, peer, access.lease().unwrap()).announced(hub.now().saturating_add(within));
        let mut left = pieces.iter();
        let served = {
            let mut taking = pin!(accepted.take_preamble(&hub, &exchange));
            loop {
                match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(served) => break served,
                    Poll::Pending => assert!(exchange.lock().park.is_some_and(|park| park.until.is_some())),
                }
                match left.next() {
                    Some(piece) => client.write_all(piece).unwrap(),
                    None if ends => client.shutdown(std::net::Shutdown::Write).unwrap(),
                    None => {}
                }
                turn_for(&mut poll, &hub, 20);
            }
        };
        assert!(exchange.lock().park.is_none());
        assert_eq!(hub.sockets(), 0, "the guest's call registers it anew");
        left.for_each(|piece| client.write_all(piece).unwrap());
        drop(client);
        let AcceptedTcp { io, peer: named, local, .. } = accepted;
        let ends = exchange.lock().facts.ends;
        let named = if named == peer { SocketAddr::from(([0; 4], 0)) } else { named };
        assert_eq!(ends.peer, local.map(|_| named));
        let mut rest = Vec::new();
        if served {
            let mut io = std::net::TcpStream::from(io);
            io.set_nonblocking(false).unwrap();
            io.read_to_end(&mut rest).unwrap();
        }
        (served, named, local, rest)
    }

    #[test]
    fn whatever_it_is_split_into_it_names_the_client_and_nothing_behind_it_is_taken() {
        let block = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x01, 0xbb];
        let long = [&block[..], &[4, 0x0f, 0xe1], &[0; 4065]].concat();
        let named: (SocketAddr, SocketAddr) =
            ("192.0.2.1:56324".parse().unwrap(), "198.51.100.2:443".parse().unwrap());
        for preamble in [LINE.to_vec(), header(0x21, 0x11, &block), header(0x21, 0x11, &long)] {
            let wire = [&preamble, &b"PROXY hello"[..]].concat();
            let len = preamble.len();
            for at in [0, 1, 5, 12, 16, len - 1, len, len + 1] {
                let (first, second) = wire.split_at(at);
                let (served, peer, local, rest) = taken(&[first, second], false, LONG);
                assert!(served && (peer, local) == (named.0, Some(named.1)), "{len} cut at {at}: {peer}");
                assert_eq!(rest, b"PROXY hello", "{len} cut at {at}");
            }
        }
        let bytes: Vec<&[u8]> = LINE.chunks(1).collect();
        assert_eq!(taken(&bytes, true, LONG).1, named.0);
    }

    #[test]
    fn where_nobody_is_named_the_proxys_address_stands() {
        let nobody = SocketAddr::from(([0; 4], 0));
        for preamble in [
            b"PROXY UNKNOWN\r\n".to_vec(),
            header(0x20, 0, b""),
            header(0x21, 0x31, &[0; 216]),
            header(0x21, 0x12, &[0; 12]),
        ] {
            let (served, peer, local, rest) = taken(&[&preamble, b"x"], false, LONG);
            assert_eq!((served, peer, local, rest.as_slice()), (true, nobody, None, &b"x"[..]));
        }
    }

    #[test]
    fn what_is_none_or_does_not_come_is_not_served() {
        for pieces in [
            &[&b"GET / HTTP/1.1\r\n"[..]][..],
            &[b"PROXY TCP4 192.0.2.1\r\n"],
            &[b"PROXY UNKNOWN ", &[b'x'; 200]],
            &[&header(0x22, 0x11, &[0; 12])],
            &[&header(0x21, 0x11, &[0; 5000])],
        ] {
            assert!(!taken(pieces, false, LONG).0, "{}", pieces[0].escape_ascii());
        }
        // Its sender is gone, before it or in the middle.
        assert!(!taken(&[], true, LONG).0 && !taken(&[b"PROXY TCP4"], true, LONG).0);
        // Time is over, also where bytes drip.
        assert!(!taken(&[], false, 30 * MS).0 && !taken(&[b"PROXY"], false, 30 * MS).0);
        let dripping: Vec<&[u8]> = LINE.chunks(1).collect();
        assert!(!taken(&dripping, false, 0).0);
    }
}
