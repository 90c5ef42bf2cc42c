//! Making a connection: the name is looked up, each address that the app may connect to is tried in turn, and TLS agreed
//! on.
//!
//! Invariant: each address is checked right before it is connected to. All of it together takes the time it was given, and
//! each address that is left has its share of that.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use rustix::io::Errno;

use super::failure::{Failure, NAME_DENIED};
use super::link::{Link, Stop};
use super::pool::Origin;
use crate::clock::{MS, Nanos};
use crate::net::network::{NameLookup, Network};
use crate::net::policy::Protocol;
use crate::net::readiness::Driven;
use crate::net::tcp::TcpStream;

/// Addresses of a name that are tried.
const TRIES_MAX: usize = 16;
/// What each try has at least, however many addresses are left after it.
const TRY_MIN: Nanos = 2_000 * MS;

enum Step {
    Look(NameLookup),
    Try,
    Connect { tcp: TcpStream, until: Nanos },
    Secure(Box<Link>),
}

/// A connection in the making.
pub(super) struct Dial {
    step: Step,
    addresses: Arc<[IpAddr]>,
    next: usize,
    until: Nanos,
    /// How it went so far; that an address was denied says less than how another failed.
    failed: Option<Failure>,
}

/// A host that is an address.
fn address(host: &str) -> Option<IpAddr> {
    if let Some(inside) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        // One that is mapped from IPv4 is that.
        return inside.parse::<Ipv6Addr>().ok().map(|v6| IpAddr::V6(v6).to_canonical());
    }
    host.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

impl Dial {
    /// Begins it, to be there before `until`.
    pub(super) fn new(origin: &Origin, network: &Arc<Network>, until: Nanos) -> Result<Self, Failure> {
        let none: Arc<[IpAddr]> = Arc::from([]);
        let (step, addresses) = match address(&origin.host) {
            Some(ip) => (Step::Try, Arc::from([ip])),
            None => match network.lookup(&origin.host, Some(origin.port)) {
                Ok(lookup) => (Step::Look(lookup), none),
                Err(Errno::ACCESS) => {
                    return Err(Failure::HttpRequestDenied(NAME_DENIED));
                }
                Err(_) => return Err(Failure::ConnectionLimitReached),
            },
        };
        Ok(Self { step, addresses, next: 0, until, failed: None })
    }

    /// Another go.
    pub(super) fn begin_turn(&mut self) {
        if let Step::Secure(link) = &mut self.step {
            link.begin_turn();
        }
    }

    /// True while a name is looked up: nobody but who polls is told of the answer.
    pub(super) fn is_looking(&self) -> bool {
        matches!(&self.step, Step::Look(_))
    }

    /// True if it could go on at once: see [`Link::is_tired`].
    pub(super) fn is_tired(&self) -> bool {
        matches!(&self.step, Step::Secure(link) if link.is_tired())
    }

    /// When it is to be looked at again though nothing happened.
    pub(super) fn due(&self) -> Nanos {
        match &self.step {
            Step::Connect { until, .. } => self.until.min(*until),
            _ => self.until,
        }
    }

    /// Goes on as far as it can. A lookup tells `cx` when it is over, everything else `driver`.
    pub(super) fn poll(
        &mut self,
        origin: &Origin,
        network: &Arc<Network>,
        driver: &Weak<dyn Driven>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Link, Failure>> {
        loop {
            let now = network.hub.now();
            let late = now >= self.until;
            match &mut self.step {
                Step::Look(lookup) => match lookup.poll(cx) {
                    Poll::Ready(Ok(addresses)) => {
                        self.addresses = addresses;
                        self.step = Step::Try;
                    }
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                    Poll::Pending if late => return Poll::Ready(Err(Failure::DnsTimeout)),
                    Poll::Pending => return Poll::Pending,
                },
                Step::Try => {
                    if let Err(failure) = self.try_next(now, origin, network, driver) {
                        return Poll::Ready(Err(failure));
                    }
                }
                Step::Connect { tcp, until } => {
                    // Events come to the driver.
                    match tcp.poll_connected(&Context::from_waker(Waker::noop())) {
                        Poll::Ready(Ok(())) => {
                            let tls = origin.https.then(|| origin.access.trust.begin(&origin.host));
                            let tls = match tls.transpose() {
                                Ok(tls) => tls,
                                Err(failure) => return Poll::Ready(Err(failure)),
                            };
                            self.step = Step::Secure(Box::new(Link::new(tcp.clone(), tls)));
                        }
                        Poll::Pending if now < *until && !late => return Poll::Pending,
                        polled => {
                            let errno =
                                if let Poll::Ready(Err(errno)) = polled { errno } else { Errno::TIMEDOUT };
                            self.failed = Some(Failure::of_connect(errno));
                            self.step = Step::Try;
                        }
                    }
                }
                Step::Secure(link) => match link.handshake(network) {
                    Ok(()) => {
                        let Step::Secure(link) = std::mem::replace(&mut self.step, Step::Try) else {
                            continue;
                        };
                        return Poll::Ready(Ok(*link));
                    }
                    Err(Stop::Wait) if late => return Poll::Ready(Err(Failure::ConnectionTimeout)),
                    Err(Stop::Wait) => return Poll::Pending,
                    Err(Stop::End | Stop::Cut) => return Poll::Ready(Err(Failure::ConnectionTerminated)),
                    Err(Stop::Failed(failure)) => return Poll::Ready(Err(failure)),
                },
            }
        }
    }

    /// Begins with the next address that may be connected to.
    fn try_next(
        &mut self,
        now: Nanos,
        origin: &Origin,
        network: &Arc<Network>,
        driver: &Weak<dyn Driven>,
    ) -> Result<(), Failure> {
        while let Some(ip) = self.addresses.get(self.next).filter(|_| self.next < TRIES_MAX) {
            if now >= self.until {
                return Err(self.failed.take().unwrap_or(Failure::ConnectionTimeout));
            }
            let left = self.addresses.len().min(TRIES_MAX) - self.next;
            self.next += 1;
            match begin(SocketAddr::new(*ip, origin.port), network) {
                Ok(tcp) => {
                    tcp.set_driver(Weak::clone(driver));
                    let share = (self.until - now) / left as Nanos;
                    self.step = Step::Connect { tcp, until: now.saturating_add(share.max(TRY_MIN)) };
                    return Ok(());
                }
                // It would not be any better with another address.
                Err(Errno::MFILE | Errno::NFILE) => return Err(Failure::ConnectionLimitReached),
                Err(Errno::ACCESS) => {}
                Err(errno) => self.failed = Some(Failure::of_connect(errno)),
            }
        }
        Err(self.failed.take().unwrap_or(Failure::DestinationIpProhibited))
    }
}

/// Begins to connect to an address, if the app may.
fn begin(addr: SocketAddr, network: &Arc<Network>) -> Result<TcpStream, Errno> {
    network.check_connect(Protocol::Tcp, addr)?;
    network.count_connect()?;
    TcpStream::connect_kept(&network.hub, addr, network.lease()?)
}
