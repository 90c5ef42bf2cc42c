//! Sockets of a guest: what `connect` is asked for, what `socket_address` tells, and the entries that a lookup gives.
//!
//! ```text
//!  0 family u8      4 or 6
//!  1 reserved 3 x u8
//!  4 address 16 x u8    IPv4 in the first four, the rest 0
//! ```

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A stream of bytes ([`crate::names::CONNECT`]).
pub const TCP: u32 = 0;
/// Datagrams to and from one peer, each read and written whole ([`crate::names::CONNECT`]).
pub const UDP: u32 = 1;

/// The guest's end of a socket ([`crate::names::SOCKET_ADDRESS`]).
pub const LOCAL: u32 = 0;
/// The other end ([`crate::names::SOCKET_ADDRESS`]).
pub const PEER: u32 = 1;

/// Bytes of the longest `host:port` that [`crate::names::CONNECT`] takes, and of the longest name that
/// [`crate::names::RESOLVE`] takes. More is `-EINVAL`.
pub const NAME_BYTES_MAX: usize = 320;
/// Bytes that hold any text of [`crate::names::SOCKET_ADDRESS`].
pub const ADDRESS_BYTES_MAX: usize = 64;
/// Handles that a call may have open at a time besides its request's; more is `-EMFILE`.
pub const HANDLES_MAX: usize = 256;

/// Bytes of one entry of a lookup.
pub const ENTRY_BYTES: usize = 20;

/// The entry of an address.
///
/// ```
/// use std::net::IpAddr;
/// use tidegate_abi::socket::{address, entry};
///
/// let loopback: IpAddr = "127.0.0.1".parse().unwrap();
/// assert_eq!(entry(loopback)[..8], [4, 0, 0, 0, 127, 0, 0, 1]);
/// assert_eq!(address(entry(loopback)), Some(loopback));
/// ```
#[must_use]
pub const fn entry(address: IpAddr) -> [u8; ENTRY_BYTES] {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            [4, 0, 0, 0, a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = v6.octets();
            [6, 0, 0, 0, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
        }
    }
}

/// The address of an entry; `None` if it is of a family that this version does not know. See [`entry`].
#[must_use]
pub const fn address(entry: [u8; ENTRY_BYTES]) -> Option<IpAddr> {
    let [family, _, _, _, a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = entry;
    match family {
        4 => Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d))),
        6 => Some(IpAddr::V6(Ipv6Addr::from_octets([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;
    use std::string::ToString;

    #[test]
    fn the_layout_is_the_documented_one() {
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let mut wanted = [0; ENTRY_BYTES];
        wanted[..8].copy_from_slice(&[6, 0, 0, 0, 0x20, 0x01, 0x0d, 0xb8]);
        wanted[19] = 1;
        assert_eq!(entry(six), wanted);
        assert_eq!(address(wanted), Some(six));
        assert_eq!(entry("10.0.0.5".parse().unwrap())[..9], [4, 0, 0, 0, 10, 0, 0, 5, 0]);
        assert_eq!(address([5; ENTRY_BYTES]), None);
    }

    #[test]
    fn any_address_fits_into_its_text() {
        let longest = SocketAddr::new("1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap(), u16::MAX);
        assert!(longest.to_string().len() <= ADDRESS_BYTES_MAX);
        // 253 bytes of name, a dot, a colon and a port.
        const { assert!(NAME_BYTES_MAX >= 253 + 1 + 1 + 5) };
    }
}
