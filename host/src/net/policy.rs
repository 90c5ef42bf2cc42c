//! What an app may look up, connect to and listen at.
//!
//! Everything is denied but what a rule allows. An address is judged as it is about to be used, after resolution and
//! whatever name led to it. Addresses inside of a network, on this machine, or of no single host ([`ranges`]) need a rule
//! that names them: an address, or a block that lies within that range. Names and `*` never lead there, so that whoever
//! answers for a name does not choose what inside of the operator's network is reached. What the server itself listens
//! at needs a rule for that very address and port.
//!
//! It knows no socket. Whether an address is this machine's own is the one thing that it asks the system.

mod ranges;

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock};

pub(crate) use crate::config::sockets::Protocol;
use crate::config::sockets::{Cidr, Host, Ports, Rule, SocketSettings, is_name};
use ranges::Range;

/// What stands for the port in a rule that a lookup would need: which one is not known then.
const SOME_PORT: &str = "*";
/// Bytes of something that is no name, in a line for the operator.
const NOT_A_NAME_BYTES_MAX: usize = 64;

/// The rules of an app.
#[derive(Debug)]
pub(crate) struct Policy {
    connect: Box<[Rule]>,
    listen: Box<[Rule]>,
    own: OwnAddresses,
}

/// Where the server itself listens, its admin side included. Apps are made before that is known, and serve after.
#[derive(Clone, Debug)]
pub(crate) struct OwnAddresses {
    addresses: Arc<RwLock<Vec<SocketAddr>>>,
    /// Whether this machine has an address.
    is_ours: fn(IpAddr) -> bool,
}

/// Something that was asked for and is not allowed. It is told to the operator, never to the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    asked: Asked,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    /// To look a name up.
    Lookup(Box<str>, Option<u16>),
    /// To connect or send somewhere, where one of these names led to it.
    Connect(Protocol, SocketAddr, Option<Box<str>>),
    /// To listen somewhere.
    Listen(Protocol, SocketAddr),
}

/// Why something is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    NoRule,
    /// It is in a range that has to be named.
    Special(&'static str),
    /// The server itself is there.
    Own,
    /// Nobody can be at port 0.
    NoPort,
    /// It is neither a name nor an address.
    NotAName,
}

impl Policy {
    pub(crate) fn new(settings: &SocketSettings, own: OwnAddresses) -> Self {
        Self { connect: settings.connect.as_slice().into(), listen: settings.listen.as_slice().into(), own }
    }

    /// True if there is a rule at all.
    pub(crate) fn allows_anything(&self) -> bool {
        !self.connect.is_empty() || !self.listen.is_empty()
    }

    /// Whether a name may be looked up: a rule has it, for whatever port. An address needs no looking up and is let
    /// through; what only looks like one (`127.1`) is not.
    ///
    /// `port` is the one that is to be connected to then, if that is known: for what is said of a denial.
    pub(crate) fn lookup(&self, name: &str, port: Option<u16>) -> Result<(), Denied> {
        let denied = |reason| Err(Denied { asked: Asked::Lookup(name.into(), port), reason });
        if self.allows_anything() && name.parse::<IpAddr>().is_ok() {
            return Ok(());
        }
        if !is_name(name) {
            let end = name.floor_char_boundary(NOT_A_NAME_BYTES_MAX);
            return Err(Denied { asked: Asked::Lookup(name[..end].into(), port), reason: Reason::NotAName });
        }
        if self.connect.iter().any(|rule| rule.host.has_name(name)) { Ok(()) } else { denied(Reason::NoRule) }
    }

    /// Whether a connection may go to an address, or a datagram. `names` are those that this address was found under, by
    /// the same call.
    pub(crate) fn connect(&self, protocol: Protocol, addr: SocketAddr, names: &[&str]) -> Result<(), Denied> {
        let addr = canonical(addr);
        let reason = if addr.port() == 0 {
            Reason::NoPort
        } else {
            match allowed(&self.connect, protocol, addr, names, self.own.is_reached_at(protocol, addr)) {
                Ok(()) => return Ok(()),
                Err(reason) => reason,
            }
        };
        // A name is of use in a rule only where the address may be reached by name.
        let name = (reason == Reason::NoRule).then(|| names.iter().find(|name| is_name(name))).flatten();
        Err(Denied { asked: Asked::Connect(protocol, addr, name.map(|name| (*name).into())), reason })
    }

    /// Whether a socket may listen at an address, or be bound to it. Port 0, where the system chooses, is allowed where
    /// all ports are.
    pub(crate) fn listen(&self, protocol: Protocol, addr: SocketAddr) -> Result<(), Denied> {
        let addr = canonical(addr);
        allowed(&self.listen, protocol, addr, &[], self.own.overlaps(protocol, addr))
            .map_err(|reason| Denied { asked: Asked::Listen(protocol, addr), reason })
    }
}

/// Whether one of the rules allows it. `own`: the server itself is there.
fn allowed(
    rules: &[Rule],
    protocol: Protocol,
    addr: SocketAddr,
    names: &[&str],
    own: bool,
) -> Result<(), Reason> {
    let ip = addr.ip();
    let range = ranges::of(ip);
    let fits = |rule: &&Rule| rule.protocol == protocol && rule.ports.contains(addr.port());
    for rule in rules.iter().filter(fits) {
        let is_exact = matches!(&rule.host, Host::Block(block) if block.is_one()) && rule.ports.is_one();
        if (is_exact || !own) && reaches(&rule.host, ip, range.as_ref(), names) {
            return Ok(());
        }
    }
    Err(match range {
        _ if own => Reason::Own,
        Some(range) => Reason::Special(range.what),
        None => Reason::NoRule,
    })
}

/// Whether a rule's host leads to an address, which is in `range` if it is in one.
fn reaches(host: &Host, ip: IpAddr, range: Option<&Range>, names: &[&str]) -> bool {
    match host {
        Host::Any => range.is_none(),
        Host::Name(_) | Host::Below(_) => range.is_none() && names.iter().any(|name| host.has_name(name)),
        Host::Localhost => ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST,
        Host::Block(block) => block.contains(ip) && range.is_none_or(|range| block.is_within(&range.block)),
    }
}

/// An IPv4 address that is mapped into IPv6 is that address; zones and flows do not matter.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

impl Default for OwnAddresses {
    fn default() -> Self {
        Self { addresses: Arc::default(), is_ours }
    }
}

impl OwnAddresses {
    /// Adds addresses as they are bound, with the ports that the system chose.
    pub(crate) fn set(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let addresses = addresses.into_iter().map(canonical);
        self.addresses.write().unwrap_or_else(PoisonError::into_inner).extend(addresses);
    }

    /// Whether a connection to an address would reach the server. It listens to TCP alone.
    fn is_reached_at(&self, protocol: Protocol, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        protocol == Protocol::Tcp
            && self.with_port(addr).any(|own| {
                own == ip
                    // To connect to no address is to connect to this machine.
                    || ip.is_unspecified()
                    // IPv6's takes connections of both.
                    || (own.is_unspecified() && (own.is_ipv6() || ip.is_ipv4()) && (self.is_ours)(ip))
            })
    }

    /// Whether to listen at an address is to take the server's place.
    fn overlaps(&self, protocol: Protocol, addr: SocketAddr) -> bool {
        let ip = addr.ip();
        let mut own = self.with_port(addr);
        protocol == Protocol::Tcp && own.any(|own| own == ip || own.is_unspecified() || ip.is_unspecified())
    }

    fn with_port(&self, addr: SocketAddr) -> impl Iterator<Item = IpAddr> + use<> {
        let addresses = self.addresses.read().unwrap_or_else(PoisonError::into_inner);
        let same = addresses.iter().filter(|own| own.port() == addr.port()).map(SocketAddr::ip);
        same.collect::<Vec<_>>().into_iter()
    }
}

/// Whether this machine has an address: it can be bound then. What cannot be found out counts as ours.
fn is_ours(ip: IpAddr) -> bool {
    let bound = UdpSocket::bind((ip, 0));
    !matches!(bound, Err(error) if error.kind() == ErrorKind::AddrNotAvailable)
}

impl Denied {
    /// What was asked for and why it is denied, as a clause.
    pub(crate) fn reason(&self) -> impl fmt::Display {
        let asked = fmt::from_fn(|f| match &self.asked {
            Asked::Lookup(name, _) => write!(f, "to look up `{}`", name.escape_default()),
            Asked::Connect(protocol, addr, None) => write!(f, "to connect to {}{addr}", protocol.prefix()),
            Asked::Connect(protocol, addr, Some(name)) => {
                write!(f, "to connect to {}{addr} ({})", protocol.prefix(), name.escape_default())
            }
            Asked::Listen(protocol, addr) => write!(f, "to listen at {}{addr}", protocol.prefix()),
        });
        let reason = self.reason;
        fmt::from_fn(move |f| match reason {
            Reason::NoRule => write!(f, "{asked}: no rule allows it"),
            Reason::Special(what) => write!(f, "{asked}: it is {what}, and no rule names it"),
            Reason::Own => write!(f, "{asked}: the server itself is there, and no rule names just that"),
            Reason::NoPort => write!(f, "{asked}: nobody can be at port 0"),
            Reason::NotAName => write!(f, "{asked}: it is neither a name nor an address"),
        })
    }

    /// The rule that would allow it, as the manifest has it. Empty: none would.
    pub(crate) fn allow(&self) -> String {
        let rule = |protocol, addr: &SocketAddr, name: &Option<Box<str>>| {
            let host = match name {
                Some(name) => Host::Name(name.trim_end_matches('.').to_ascii_lowercase().into()),
                None => Host::Block(Cidr::one(addr.ip())),
            };
            let ports = match addr.port() {
                0 => Ports::ALL,
                port => Ports { first: port, last: port },
            };
            Rule { protocol, host, ports }
        };
        match (&self.asked, self.reason) {
            (_, Reason::NoPort | Reason::NotAName) => String::new(),
            (Asked::Lookup(name, port), _) => {
                let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
                let port = port.map_or_else(|| SOME_PORT.to_owned(), |port| port.to_string());
                format!("sockets.connect = ['{name}:{port}']")
            }
            (Asked::Connect(protocol, addr, name), _) => {
                format!("sockets.connect = ['{}']", rule(*protocol, addr, name))
            }
            (Asked::Listen(protocol, addr), _) => {
                format!("sockets.listen = ['{}']", rule(*protocol, addr, &None))
            }
        }
    }
}

#[cfg(test)]
mod tests;
