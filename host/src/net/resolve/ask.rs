//! One name asked for: both families, the search domains, and what comes of them together.
//!
//! It runs on the resolver's thread and knows nothing of who waits. Every question has a deadline.

use std::future::{Future, poll_fn};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::{Time, TokioTime};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, Resolver};

use super::sockets::Sockets;
use super::source::LOOK_EVERY;
use super::{Answer, LookupError, Patience};

/// Addresses of one family that are kept: an answer over TCP may have thousands.
pub(super) const ADDRESSES_MAX: usize = 16;
/// How long addresses are good, in seconds at most, when the other family failed: it may be back soon.
const HALF_TTL_SECONDS_MAX: u32 = 60;
/// An address anywhere in the global range; nothing is sent to it.
const SOMEWHERE: Ipv6Addr = Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1);

/// What came of a name, and for how long it is good.
pub(super) struct Found {
    pub(super) answer: Answer,
    pub(super) ttl_seconds: u32,
}

impl Found {
    fn new(answer: Answer, ttl_seconds: u32) -> Self {
        Self { answer, ttl_seconds }
    }

    pub(super) fn failed(text: &str) -> Self {
        Self::new(Err(LookupError::Failed(text.into())), 0)
    }
}

/// What came of one family.
enum Half {
    Addresses(Vec<IpAddr>, u32),
    /// Nothing, by an answer that is good for so many seconds. The name itself may exist.
    Nothing {
        exists: bool,
        ttl_seconds: u32,
    },
    Timeout,
    Failed(String),
}

/// Name servers, the hosts file and the search domains.
pub(super) struct Dns {
    pub(super) resolver: Resolver<Sockets>,
    pub(super) hosts: Hosts,
    pub(super) search: Vec<Name>,
    pub(super) patience: Patience,
}

impl Dns {
    /// Looks up `text`, which is a name that was checked.
    pub(super) async fn find(&self, text: &str) -> Found {
        let name = match Name::from_labels(text.split('.').map(str::as_bytes)) {
            Ok(name) => name,
            Err(error) => return Found::failed(&error.to_string()),
        };
        if let Some(found) = self.find_in_hosts(&name) {
            return found;
        }
        let deadline = Instant::now() + self.patience.lookup;
        if !text.contains('.') {
            for domain in &self.search {
                // A name that would become too long is not there.
                let Ok(below) = name.clone().append_domain(domain) else { continue };
                let found = self.ask(below, deadline).await;
                if !matches!(found.answer, Err(LookupError::NotFound | LookupError::NoAddress)) {
                    return found;
                }
            }
        }
        self.ask(name, deadline).await
    }

    fn find_in_hosts(&self, name: &Name) -> Option<Found> {
        let half = |record_type| {
            let lookup = self.hosts.lookup_static_host(&Query::query(name.clone(), record_type))?;
            Some(addresses(&lookup, record_type))
        };
        let (v4, v6) = (half(RecordType::A), half(RecordType::AAAA));
        if v4.is_none() && v6.is_none() {
            return None;
        }
        let listed = order(v4.unwrap_or_default(), v6.unwrap_or_default(), has_ipv6);
        let seconds = u32::try_from(LOOK_EVERY.as_secs()).unwrap_or(u32::MAX);
        Some(Found::new(Ok(listed.into()), seconds))
    }

    async fn ask(&self, name: Name, deadline: Instant) -> Found {
        let v4 = self.ask_half(name.clone(), RecordType::A);
        let v6 = self.ask_half(name, RecordType::AAAA);
        let (v4, v6) = both(v4, v6, deadline, self.patience.other_family).await;
        combine(v4, v6, has_ipv6)
    }

    async fn ask_half(&self, name: Name, record_type: RecordType) -> Half {
        half(self.resolver.lookup(name, record_type).await, record_type)
    }
}

/// Waits for both until `deadline`; once one has addresses, for the other no longer than `more`.
async fn both(
    v4: impl Future<Output = Half>,
    v6: impl Future<Output = Half>,
    deadline: Instant,
    more: Duration,
) -> (Half, Half) {
    let (mut v4, mut v6) = (pin!(v4), pin!(v6));
    let (mut v4_done, mut v6_done) = (None, None);
    let mut timer = TokioTime::delay_for(deadline.saturating_duration_since(Instant::now()));
    let mut hurried = false;
    poll_fn(|cx| {
        for (half, done) in [(v4.as_mut() as _, &mut v4_done), (v6.as_mut() as _, &mut v6_done)] {
            let half: std::pin::Pin<&mut dyn Future<Output = Half>> = half;
            if done.is_none()
                && let Poll::Ready(came) = half.poll(cx)
            {
                *done = Some(came);
            }
        }
        if v4_done.is_some() && v6_done.is_some() {
            return Poll::Ready(());
        }
        let has_some = |done: &Option<Half>| matches!(done, Some(Half::Addresses(..)));
        if !hurried && (has_some(&v4_done) || has_some(&v6_done)) {
            hurried = true;
            timer = TokioTime::delay_for(deadline.saturating_duration_since(Instant::now()).min(more));
        }
        timer.as_mut().poll(cx)
    })
    .await;
    (v4_done.unwrap_or(Half::Timeout), v6_done.unwrap_or(Half::Timeout))
}

fn half(result: Result<Lookup, NetError>, record_type: RecordType) -> Half {
    match result {
        Ok(lookup) => {
            // The shortest of all records that led to the addresses, those of the names in between too.
            let ttl_seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
            let addresses = addresses(&lookup, record_type);
            if addresses.is_empty() {
                return Half::Nothing { exists: true, ttl_seconds };
            }
            Half::Addresses(addresses, ttl_seconds)
        }
        Err(NetError::Timeout) => Half::Timeout,
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
        {
            // Without a SOA record it is not to be kept (RFC 2308, section 5).
            let ttl_seconds = none.negative_ttl.unwrap_or(0);
            Half::Nothing { exists: none.response_code == ResponseCode::NoError, ttl_seconds }
        }
        Err(error) => Half::Failed(error.to_string()),
    }
}

fn addresses(lookup: &Lookup, record_type: RecordType) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for record in lookup.answers().iter().filter(|record| record.record_type() == record_type) {
        if let Some(address) = record.data.ip_addr()
            && addresses.len() < ADDRESSES_MAX
            && !addresses.contains(&address)
        {
            addresses.push(address);
        }
    }
    addresses
}

fn combine(v4: Half, v6: Half, has_ipv6: impl FnOnce() -> bool) -> Found {
    match (v4, v6) {
        (Half::Addresses(v4, v4_ttl), Half::Addresses(v6, v6_ttl)) => {
            Found::new(Ok(order(v4, v6, has_ipv6).into()), v4_ttl.min(v6_ttl))
        }
        (Half::Addresses(found, ttl), other) | (other, Half::Addresses(found, ttl)) => {
            // That there is nothing of the other family does not make what there is good for less long.
            let nothing = matches!(other, Half::Nothing { .. });
            Found::new(Ok(found.into()), if nothing { ttl } else { ttl.min(HALF_TTL_SECONDS_MAX) })
        }
        // A name that is not there for one family is there for none.
        (Half::Nothing { exists: false, ttl_seconds }, _)
        | (_, Half::Nothing { exists: false, ttl_seconds }) => {
            Found::new(Err(LookupError::NotFound), ttl_seconds)
        }
        (Half::Nothing { ttl_seconds: v4_ttl, .. }, Half::Nothing { ttl_seconds: v6_ttl, .. }) => {
            Found::new(Err(LookupError::NoAddress), v4_ttl.min(v6_ttl))
        }
        (Half::Failed(text), _) | (_, Half::Failed(text)) => Found::failed(&text),
        (Half::Timeout, _) | (_, Half::Timeout) => Found::new(Err(LookupError::Timeout), 0),
    }
}

fn order(v4: Vec<IpAddr>, v6: Vec<IpAddr>, has_ipv6: impl FnOnce() -> bool) -> Vec<IpAddr> {
    let v6_first = !v4.is_empty() && !v6.is_empty() && has_ipv6();
    let (mut first, second) = if v6_first { (v6, v4) } else { (v4, v6) };
    first.extend(second);
    first
}

/// Whether packets could leave for the IPv6 internet: the kernel finds a route and a global address to use with it.
fn has_ipv6() -> bool {
    let local = || -> std::io::Result<SocketAddr> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        socket.connect((SOMEWHERE, 53))?;
        socket.local_addr()
    };
    // 2000::/3 is all of the global range that was given out.
    matches!(local(), Ok(SocketAddr::V6(local)) if local.ip().segments()[0] >> 13 == 1)
}
