//! Addresses that only a rule which names them leads to.
//!
//! After the special-purpose registries of IANA (RFC 6890), as far as somebody could be there: inside of a network, on
//! this machine, or many at once. IPv4 addresses that hide in IPv6 ones are in the range that they are in by themselves.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::sockets::Cidr;

/// Addresses of one kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    pub(super) block: Cidr,
    /// As in "it is a private address".
    pub(super) what: &'static str,
}

const METADATA: &str = "an address where clouds tell secrets";
const PRIVATE: &str = "a private address";
const LOOPBACK: &str = "a loopback address";
const LINK_LOCAL: &str = "a link-local address";
const UNSPECIFIED: &str = "the unspecified address";
const MULTICAST: &str = "a multicast address";
const RESERVED: &str = "a reserved address";
const OBSOLETE: &str = "an IPv4 address in an obsolete form";
const TRANSLATED: &str = "an address that is translated within a network";

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8, what: &'static str) -> Range {
    Range { block: Cidr::around(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), prefix), what }
}

const fn v6(groups: [u16; 8], prefix: u8, what: &'static str) -> Range {
    let [a, b, c, d, e, f, g, h] = groups;
    Range { block: Cidr::around(IpAddr::V6(Ipv6Addr::new(a, b, c, d, e, f, g, h)), prefix), what }
}

/// The narrower first.
const V4: [Range; 19] = [
    // Amazon, Google, Microsoft and others; what containers and pods of Amazon ask; Microsoft; Alibaba.
    v4(169, 254, 169, 254, 32, METADATA),
    v4(169, 254, 170, 2, 32, METADATA),
    v4(169, 254, 170, 23, 32, METADATA),
    v4(168, 63, 129, 16, 32, METADATA),
    v4(100, 100, 100, 200, 32, METADATA),
    v4(0, 0, 0, 0, 32, UNSPECIFIED),
    v4(255, 255, 255, 255, 32, "the broadcast address"),
    v4(0, 0, 0, 0, 8, "an address of this network"),
    v4(10, 0, 0, 0, 8, PRIVATE),
    v4(100, 64, 0, 0, 10, "an address shared behind a carrier's NAT"),
    v4(127, 0, 0, 0, 8, LOOPBACK),
    v4(169, 254, 0, 0, 16, LINK_LOCAL),
    v4(172, 16, 0, 0, 12, PRIVATE),
    v4(192, 0, 0, 0, 24, RESERVED),
    v4(192, 88, 99, 0, 24, RESERVED),
    v4(192, 168, 0, 0, 16, PRIVATE),
    v4(198, 18, 0, 0, 15, "an address of a test network"),
    v4(224, 0, 0, 0, 4, MULTICAST),
    v4(240, 0, 0, 0, 4, RESERVED),
];

/// The narrower first.
const V6: [Range; 14] = [
    // Amazon, for machines and for pods; Google.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128, METADATA),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, METADATA),
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128, UNSPECIFIED),
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128, LOOPBACK),
    // IPv4 addresses in forms that nobody uses any more, or uses inside of a network.
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96, OBSOLETE),
    v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96, TRANSLATED),
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48, TRANSLATED),
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64, RESERVED),
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32, "a Teredo address"),
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, PRIVATE),
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10, LINK_LOCAL),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10, PRIVATE),
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8, MULTICAST),
];

/// NAT64: the IPv4 address is in the last bits (RFC 6052).
const NAT64: Cidr = Cidr::around(IpAddr::V6(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0)), 96);
/// 6to4: it follows at once (RFC 3056).
const SIX_TO_FOUR: Cidr = Cidr::around(IpAddr::V6(Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0)), 16);

/// The narrowest range that an address is in. IPv4 that is mapped into IPv6 was made IPv4 before.
pub(super) fn of(ip: IpAddr) -> Option<Range> {
    match ip {
        IpAddr::V4(_) => V4.into_iter().find(|range| range.block.contains(ip)),
        IpAddr::V6(v6) => inside(v6).or_else(|| V6.into_iter().find(|range| range.block.contains(ip))),
    }
}

/// The range of the IPv4 address that is in an IPv6 one, as a range of IPv6.
fn inside(v6: Ipv6Addr) -> Option<Range> {
    let ip = IpAddr::V6(v6);
    let embedded = |carrier: Cidr| {
        let before = carrier.prefix();
        // Those of its bits that come after the carrier's.
        let bits = v6.to_bits() >> (96 - u32::from(before)) & u128::from(u32::MAX);
        let range = of(IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).ok()?)))?;
        Some(Range { block: Cidr::around(ip, before + range.block.prefix()), what: range.what })
    };
    [NAT64, SIX_TO_FOUR].into_iter().find(|carrier| carrier.contains(ip)).and_then(embedded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_all_ranges() {
        // An address, and the block that it is in.
        let table = [
            ("1.1.1.1", ""),
            ("9.255.255.255", ""),
            ("10.0.0.0", "10.0.0.0/8"),
            ("10.255.255.255", "10.0.0.0/8"),
            ("11.0.0.0", ""),
            ("0.0.0.0", "0.0.0.0"),
            ("0.0.0.1", "0.0.0.0/8"),
            ("0.255.255.255", "0.0.0.0/8"),
            ("1.0.0.0", ""),
            ("100.63.255.255", ""),
            ("100.64.0.0", "100.64.0.0/10"),
            ("100.127.255.255", "100.64.0.0/10"),
            ("100.128.0.0", ""),
            ("100.100.100.200", "100.100.100.200"),
            ("126.255.255.255", ""),
            ("127.0.0.1", "127.0.0.0/8"),
            ("127.255.255.255", "127.0.0.0/8"),
            ("128.0.0.0", ""),
            ("168.63.129.16", "168.63.129.16"),
            ("168.63.129.17", ""),
            ("169.253.255.255", ""),
            ("169.254.0.1", "169.254.0.0/16"),
            ("169.254.169.254", "169.254.169.254"),
            ("169.255.0.0", ""),
            ("172.15.255.255", ""),
            ("172.16.0.0", "172.16.0.0/12"),
            ("172.31.255.255", "172.16.0.0/12"),
            ("172.32.0.0", ""),
            ("192.0.0.8", "192.0.0.0/24"),
            ("192.88.99.1", "192.88.99.0/24"),
            ("192.167.255.255", ""),
            ("192.168.255.255", "192.168.0.0/16"),
            ("192.169.0.0", ""),
            ("198.17.255.255", ""),
            ("198.19.255.255", "198.18.0.0/15"),
            ("198.20.0.0", ""),
            ("223.255.255.255", ""),
            ("224.0.0.1", "224.0.0.0/4"),
            ("239.255.255.255", "224.0.0.0/4"),
            ("240.0.0.0", "240.0.0.0/4"),
            ("255.255.255.254", "240.0.0.0/4"),
            ("255.255.255.255", "255.255.255.255"),
            ("::", "[::]"),
            ("::1", "[::1]"),
            ("::2", "[::]/96"),
            ("::10.0.0.1", "[::]/96"),
            ("::8.8.8.8", "[::]/96"),
            ("::1:0:0", ""),
            ("::ffff:0:10.0.0.1", "[::ffff:0:0:0]/96"),
            ("64:ff9b::10.0.0.1", "[64:ff9b::a00:0]/104"),
            ("64:ff9b::169.254.169.254", "[64:ff9b::a9fe:a9fe]"),
            ("64:ff9b::127.0.0.1", "[64:ff9b::7f00:0]/104"),
            ("64:ff9b::8.8.8.8", ""),
            ("64:ff9b::1:a00:1", ""),
            ("64:ff9b:1::8.8.8.8", "[64:ff9b:1::]/48"),
            ("100::1", "[100::]/64"),
            ("100:0:0:1::", ""),
            ("2001::1", "[2001::]/32"),
            ("2001:1::", ""),
            ("2001:4860:4860::8888", ""),
            ("2002:a00:1::", "[2002:a00::]/24"),
            ("2002:7f00:1::1", "[2002:7f00::]/24"),
            ("2002:c0a8:101::1", "[2002:c0a8::]/32"),
            ("2002:a9fe:a9fe::1", "[2002:a9fe:a9fe::]/48"),
            ("2002:808:808::1", ""),
            ("fbff::", ""),
            ("fc00::", "[fc00::]/7"),
            ("fd00::1", "[fc00::]/7"),
            ("fdff:ffff::", "[fc00::]/7"),
            ("fd00:ec2::254", "[fd00:ec2::254]"),
            ("fd00:ec2::255", "[fc00::]/7"),
            ("fe00::", ""),
            ("fe80::1", "[fe80::]/10"),
            ("febf::1", "[fe80::]/10"),
            ("fec0::1", "[fec0::]/10"),
            ("ff02::1", "[ff00::]/8"),
        ];
        for (addr, block) in table {
            let found = of(addr.parse().unwrap()).map(|range| range.block.to_string());
            assert_eq!(found.unwrap_or_default(), block, "{addr}");
        }
    }

    #[test]
    fn the_narrower_come_first() {
        for table in [&V4[..], &V6[..]] {
            for (number, range) in table.iter().enumerate() {
                let hidden = table[..number].iter().find(|earlier| range.block.is_within(&earlier.block));
                assert!(hidden.is_none(), "{range:?} is behind {hidden:?}");
            }
        }
    }
}
