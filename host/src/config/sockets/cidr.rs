//! A block of addresses.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Addresses that begin with the same bits. One address alone is a block of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// The lowest; the bits that are not the block's are zero.
    addr: IpAddr,
    /// How many bits they share: at most 32, or 128.
    prefix: u8,
}

impl Cidr {
    /// A block. None: the prefix is longer than an address, or the address has bits outside of it.
    pub(crate) const fn new(addr: IpAddr, prefix: u8) -> Option<Self> {
        let block = Self { addr, prefix };
        if prefix <= bits(addr) && number(addr) & !block.mask() == 0 { Some(block) } else { None }
    }

    /// The block of so many bits that an address is in.
    pub(crate) const fn around(addr: IpAddr, prefix: u8) -> Self {
        let prefix = if prefix < bits(addr) { prefix } else { bits(addr) };
        let block = Self { addr, prefix };
        let first = number(addr) & block.mask();
        let addr = match addr {
            // The mask of an IPv4 address has no bits above 32.
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(first as u32)),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(first)),
        };
        Self { addr, prefix }
    }

    /// One address.
    pub(crate) const fn one(addr: IpAddr) -> Self {
        Self { addr, prefix: bits(addr) }
    }

    /// The lowest address.
    #[cfg(test)]
    pub(crate) const fn addr(&self) -> IpAddr {
        self.addr
    }

    /// How many bits are shared.
    pub(crate) const fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is one address alone.
    pub(crate) const fn is_one(&self) -> bool {
        self.prefix == bits(self.addr)
    }

    /// Whether an address is in it. IPv4 and IPv6 are two worlds here: who takes one for the other converts it before.
    pub(crate) const fn contains(&self, addr: IpAddr) -> bool {
        self.addr.is_ipv4() == addr.is_ipv4() && number(addr) & self.mask() == number(self.addr)
    }

    /// Whether all of it is in another.
    pub(crate) const fn is_within(&self, other: &Self) -> bool {
        self.prefix >= other.prefix && other.contains(self.addr)
    }

    const fn mask(&self) -> u128 {
        let ones = match self.addr {
            IpAddr::V4(_) => u32::MAX as u128,
            IpAddr::V6(_) => u128::MAX,
        };
        match (bits(self.addr) - self.prefix) as u32 {
            128 => 0,
            host => ones >> host << host,
        }
    }
}

impl fmt::Display for Cidr {
    /// `10.0.0.0/8`, `[fd00::]/8`, or one address: `10.0.0.5`, `[fd00::1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}")?,
            IpAddr::V6(addr) => write!(f, "[{addr}]")?,
        }
        if self.is_one() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

/// Bits of an address.
const fn bits(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

const fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_bits() as u128,
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Cidr {
        let (addr, prefix) = text.split_once('/').unwrap();
        Cidr::new(addr.parse().unwrap(), prefix.parse().unwrap()).unwrap()
    }

    #[test]
    fn what_is_in_a_block() {
        let table = [
            ("10.0.0.0/8", "10.0.0.0", true),
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "9.255.255.255", false),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::1", false),
            ("::/0", "ffff::", true),
            ("::/0", "1.2.3.4", false),
            ("::/96", "1.2.3.4", false),
            ("fc00::/7", "fdff::1", true),
            ("fc00::/7", "fe00::", false),
            ("1.2.3.4/32", "1.2.3.4", true),
            ("1.2.3.4/32", "1.2.3.5", false),
        ];
        for (text, addr, expected) in table {
            assert_eq!(block(text).contains(addr.parse().unwrap()), expected, "{text} {addr}");
        }
    }

    #[test]
    fn blocks_within_blocks() {
        let table = [
            ("10.0.0.0/8", "10.0.0.0/8", true),
            ("10.1.0.0/16", "10.0.0.0/8", true),
            ("10.0.0.0/7", "10.0.0.0/8", false),
            ("11.0.0.0/8", "10.0.0.0/8", false),
            ("::/0", "0.0.0.0/0", false),
            ("fd00::/8", "fc00::/7", true),
        ];
        for (inner, outer, expected) in table {
            assert_eq!(block(inner).is_within(&block(outer)), expected, "{inner} {outer}");
        }
    }

    #[test]
    fn a_block_is_told_by_its_lowest_address() {
        for (addr, prefix) in [("10.0.0.1", 8), ("::1", 0), ("0.0.0.1", 0), ("1.2.3.4", 33), ("::", 129)] {
            assert_eq!(Cidr::new(addr.parse().unwrap(), prefix), None, "{addr}/{prefix}");
        }
        let table = [
            ("10.1.2.3", 8, "10.0.0.0/8"),
            ("10.1.2.3", 200, "10.1.2.3"),
            ("255.1.2.3", 0, "0.0.0.0/0"),
            ("fdff::1", 7, "[fc00::]/7"),
            ("fdff::1", 128, "[fdff::1]"),
            ("fdff::1", 0, "[::]/0"),
        ];
        for (addr, prefix, shown) in table {
            assert_eq!(Cidr::around(addr.parse().unwrap(), prefix).to_string(), shown);
        }
        assert_eq!(Cidr::one("::1".parse().unwrap()).to_string(), "[::1]");
    }
}
