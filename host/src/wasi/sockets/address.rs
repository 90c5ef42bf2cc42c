//! Addresses as the standard writes them, and which of them an operation takes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use super::bindings::wasi::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4Address, Ipv4SocketAddress, Ipv6Address,
    Ipv6SocketAddress,
};
use crate::net::tcp::Family;

impl From<IpAddressFamily> for Family {
    fn from(family: IpAddressFamily) -> Self {
        match family {
            IpAddressFamily::Ipv4 => Self::V4,
            IpAddressFamily::Ipv6 => Self::V6,
        }
    }
}

impl From<Family> for IpAddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Ipv4,
            Family::V6 => Self::Ipv6,
        }
    }
}

fn from_v4(ip: Ipv4Addr) -> Ipv4Address {
    ip.octets().into()
}

fn from_v6(ip: Ipv6Addr) -> Ipv6Address {
    ip.segments().into()
}

impl From<IpAddr> for IpAddress {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => Self::Ipv4(from_v4(ip)),
            IpAddr::V6(ip) => Self::Ipv6(from_v6(ip)),
        }
    }
}

impl From<SocketAddr> for IpSocketAddress {
    fn from(addr: SocketAddr) -> Self {
        match addr {
            SocketAddr::V4(v4) => {
                Self::Ipv4(Ipv4SocketAddress { port: v4.port(), address: from_v4(*v4.ip()) })
            }
            SocketAddr::V6(v6) => Self::Ipv6(Ipv6SocketAddress {
                port: v6.port(),
                flow_info: v6.flowinfo(),
                address: from_v6(*v6.ip()),
                scope_id: v6.scope_id(),
            }),
        }
    }
}

impl From<IpSocketAddress> for SocketAddr {
    fn from(addr: IpSocketAddress) -> Self {
        match addr {
            IpSocketAddress::Ipv4(v4) => {
                SocketAddrV4::new(<[u8; 4]>::from(v4.address).into(), v4.port).into()
            }
            IpSocketAddress::Ipv6(v6) => {
                let ip = Ipv6Addr::from(<[u16; 8]>::from(v6.address));
                SocketAddrV6::new(ip, v6.port, v6.flow_info, v6.scope_id).into()
            }
        }
    }
}

/// An address for a socket of this family. An IPv4 address within an IPv6 one is for neither.
///
/// # Errors
/// It is none.
pub(super) fn of_family(addr: SocketAddr, family: Family) -> Result<(), ErrorCode> {
    let fits = match addr.ip() {
        IpAddr::V4(_) => family == Family::V4,
        IpAddr::V6(ip) => family == Family::V6 && !holds_v4(ip),
    };
    if fits { Ok(()) } else { Err(ErrorCode::InvalidArgument) }
}

/// Mapped, or in the compatible form of old, which `::` and `::1` only look like.
fn holds_v4(ip: Ipv6Addr) -> bool {
    ip.to_ipv4().is_some() && !ip.is_unspecified() && !ip.is_loopback()
}

/// An address of one host.
///
/// # Errors
/// It is of many.
pub(super) fn unicast(addr: SocketAddr) -> Result<(), ErrorCode> {
    let many = match addr.ip() {
        IpAddr::V4(ip) => ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_multicast(),
    };
    if many { Err(ErrorCode::InvalidArgument) } else { Ok(()) }
}

/// An address that somebody can be at.
///
/// # Errors
/// It has no host or no port.
pub(super) fn remote(addr: SocketAddr) -> Result<(), ErrorCode> {
    if addr.ip().is_unspecified() || addr.port() == 0 { Err(ErrorCode::InvalidArgument) } else { Ok(()) }
}
