//! Who may speak for clients: the proxies in front, and how they do it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tidegate_proto::edge::forwarded::Family;

use super::problem::ValueError;
use super::sockets::{Cidr, block};

/// How clients' words come in that passed through proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EdgeSettings {
    /// Peers that are believed when they say for whom they ask. Default nobody.
    pub proxies: Proxies,
    /// In which fields they say it.
    pub forwarded: Family,
    /// Every connection begins with a preamble of the PROXY protocol. Needs proxies.
    pub proxy_protocol: bool,
}

impl EdgeSettings {
    /// Checks together what neither can be alone.
    ///
    /// # Errors
    /// Preambles are wanted, and nobody would be believed.
    pub(crate) fn check(&self) -> Result<(), ValueError> {
        if self.proxy_protocol && self.proxies.is_empty() {
            return Err(ValueError::new("the PROXY protocol is taken from proxies alone, and none is named")
                .help("name them in `proxies`, or with `--proxy`"));
        }
        Ok(())
    }
}

/// Peers, by their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies {
    blocks: Vec<Cidr>,
    /// Whoever comes over a Unix socket.
    unix: bool,
}

impl Proxies {
    /// Whether nobody is one.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty() && !self.unix
    }

    /// Whether an address is that of a proxy.
    pub fn trusts(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        self.blocks.iter().any(|block| block.contains(addr))
    }

    /// Whether the peer of a connection is one; `None` is a peer on a Unix socket.
    pub fn trusts_peer(&self, peer: Option<SocketAddr>) -> bool {
        peer.map_or(self.unix, |addr| self.trusts(addr.ip()))
    }

    /// Adds `10.0.0.0/8`, `fd00::/8`, one address, or `unix`.
    pub(crate) fn add(&mut self, text: &str) -> Result<(), ValueError> {
        let twice = || ValueError::new(format!("`{}` is there twice", text.escape_default()));
        if text == "unix" {
            return if std::mem::replace(&mut self.unix, true) { Err(twice()) } else { Ok(()) };
        }
        let block = peers(text)?;
        if self.blocks.contains(&block) {
            return Err(twice());
        }
        self.blocks.push(block);
        Ok(())
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unix = self.unix.then(|| "unix".to_owned());
        let all: Vec<String> = self.blocks.iter().map(ToString::to_string).chain(unix).collect();
        f.write_str(&all.join(", "))
    }
}

/// An address or a block of them. Brackets may stand around IPv6, as elsewhere in a manifest.
fn peers(text: &str) -> Result<Cidr, ValueError> {
    let (addr, after) = match text.strip_prefix('[').and_then(|inside| inside.split_once(']')) {
        Some((addr, after)) => (addr, after),
        None => text.split_at(text.find('/').unwrap_or(text.len())),
    };
    let prefix = after.strip_prefix('/');
    let is_whole = prefix.is_some() || after.is_empty();
    let Some(addr) = addr.parse::<IpAddr>().ok().filter(|_| is_whole) else {
        let error = ValueError::new(format!("`{}` is not an address", text.escape_default()));
        return Err(if text.parse::<SocketAddr>().is_ok() {
            error.help("a proxy is told by its address alone, whatever its port")
        } else if text.starts_with("unix:") {
            error.help("`unix` is whoever comes over a Unix socket")
        } else {
            error.help("a proxy is `10.0.0.0/8`, `192.0.2.1`, `fd00::/8` or `unix`; names are not resolved")
        });
    };
    if let IpAddr::V6(v6) = addr
        && let Some(mapped) = Ipv6Addr::to_ipv4_mapped(&v6)
    {
        let plain = match prefix.map(str::parse::<u8>) {
            Some(Ok(bits @ 96..=128)) => format!("{mapped}/{}", bits - 96),
            _ => mapped.to_string(),
        };
        return Err(ValueError::new(format!("`{v6}` is an IPv4 address that is mapped into IPv6"))
            .help(format!("write `{plain}`: it holds for both")));
    }
    prefix.map_or(Ok(Cidr::one(addr)), |prefix| block(addr, prefix))
}

/// Reads the name of a field.
pub(crate) fn parse_forwarded(text: &str) -> Result<Family, ValueError> {
    if text.eq_ignore_ascii_case("x-forwarded-for") {
        Ok(Family::XForwarded)
    } else if text.eq_ignore_ascii_case("forwarded") {
        Ok(Family::Forwarded)
    } else {
        Err(ValueError::new(format!("`{}` is not a field that is read", text.escape_default()))
            .help("`x-forwarded-for` or `forwarded`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        let mut all = Proxies::default();
        texts.iter().for_each(|text| all.add(text).unwrap());
        all
    }

    #[test]
    fn peers_are_told_by_their_addresses() {
        let all = proxies(&["10.0.0.0/8", "192.0.2.1", "::1", "[fd00::]/8"]);
        for addr in ["10.1.2.3", "::ffff:10.1.2.3", "192.0.2.1", "::1", "fd12::1"] {
            assert!(all.trusts(addr.parse().unwrap()), "{addr}");
        }
        for addr in ["11.0.0.1", "::ffff:11.0.0.1", "192.0.2.2", "::2", "fe00::1", "::10.1.2.3"] {
            assert!(!all.trusts(addr.parse().unwrap()), "{addr}");
        }
        assert!(!all.trusts_peer(None) && all.trusts_peer(Some("10.0.0.1:5".parse().unwrap())));
        assert_eq!(all.to_string(), "10.0.0.0/8, 192.0.2.1, [::1], [fd00::]/8");
        let unix = proxies(&["unix"]);
        assert!(unix.trusts_peer(None) && !unix.trusts_peer(Some("127.0.0.1:5".parse().unwrap())));
        assert!(!unix.is_empty() && Proxies::default().is_empty());
        assert!(!Proxies::default().trusts_peer(None));
    }

    #[test]
    fn what_is_no_peer_is_told_with_a_way_out() {
        let table = [
            ("", "names are not resolved"),
            ("localhost", "names are not resolved"),
            ("*", "names are not resolved"),
            ("192.0.2.1:80", "whatever its port"),
            ("[::1]:80", "whatever its port"),
            ("unix:web.sock", "`unix` is whoever"),
            ("::ffff:10.0.0.1", "write `10.0.0.1`"),
            ("[::ffff:10.0.0.0]/104", "write `10.0.0.0/8`"),
            ("[::1", "names are not resolved"),
            ("[fd00::/8]", "names are not resolved"),
            ("10.0.0.1/8", "the block is `10.0.0.0/8`"),
            ("10.0.0.0/33", "0 to 32"),
            ("10.0.0.0/", "0 to 32"),
            ("fd00::/129", "0 to 128"),
        ];
        for (text, help) in table {
            let error = Proxies::default().add(text).unwrap_err();
            assert!(error.help.as_ref().unwrap().contains(help), "{text}: {error:?}");
        }
        for text in ["unix", "10.0.0.0/8", "::1"] {
            let error = proxies(&[text]).add(text).unwrap_err();
            assert!(error.message.contains("twice"), "{text}");
        }
    }

    #[test]
    fn preambles_need_somebody_who_sends_them() {
        let mut edge = EdgeSettings { proxy_protocol: true, ..EdgeSettings::default() };
        assert!(edge.check().unwrap_err().help.unwrap().contains("`proxies`"));
        edge.proxies.add("unix").unwrap();
        assert_eq!(edge.check(), Ok(()));
        assert_eq!(EdgeSettings::default().check(), Ok(()));
    }

    #[test]
    fn fields_that_are_read() {
        assert_eq!(parse_forwarded("X-Forwarded-For"), Ok(Family::XForwarded));
        assert_eq!(parse_forwarded("forwarded"), Ok(Family::Forwarded));
        assert!(parse_forwarded("x-real-ip").is_err());
    }
}
