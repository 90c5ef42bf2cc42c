//! One rule of what an app may connect to, or listen on: `[udp:]HOST:PORT`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::problem::ValueError;
use super::cidr::Cidr;
use super::name;

/// The name that stands for 127.0.0.1 and ::1.
const LOCALHOST: &str = "localhost";

const LISTEN_HELP: &str =
    "as in `127.0.0.1:7000`; `0.0.0.0:7000` is every IPv4 address of this machine, `[::]:7000` IPv6, too";

/// What may be reached: these ports of these hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Over what.
    pub protocol: Protocol,
    /// Where.
    pub host: Host,
    /// At which ports.
    pub ports: Ports,
}

/// How bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// In streams.
    Tcp,
    /// In datagrams.
    Udp,
}

/// The hosts of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// `*`: all of them.
    Any,
    /// This name, in lower case.
    Name(Box<str>),
    /// `*.example.com`: all names that end in a dot and this one.
    Below(Box<str>),
    /// `localhost`: the two addresses 127.0.0.1 and ::1, and the name.
    Localhost,
    /// Addresses. An IPv4 address that is mapped into IPv6 is never among them: it is written as itself.
    Block(Cidr),
}

/// Ports that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// 0 only where it is all of them.
    pub first: u16,
    /// At least the first.
    pub last: u16,
}

impl Rule {
    /// Reads a rule of where to connect.
    pub(crate) fn parse(text: &str) -> Result<Self, ValueError> {
        let (protocol, rest) = protocol(text)?;
        let (host, ports) = split(rest).map_err(|error| told_with(error, text, rest))?;
        let host = Host::parse(host)?;
        Ok(Self { protocol, host, ports: Ports::parse(ports)? })
    }

    /// Reads a rule of where to listen: the host is one of the machine's own addresses.
    pub(crate) fn parse_listen(text: &str) -> Result<Self, ValueError> {
        let rule = Self::parse(text).map_err(|error| match &error.help {
            // A host to connect to is none to listen on.
            Some(help) if help.contains("db.example") => error.help(LISTEN_HELP),
            _ => error,
        })?;
        let ports = rule.ports;
        let everywhere =
            format!("`0.0.0.0:{ports}` is every IPv4 address of this machine, `[::]:{ports}` IPv6, too");
        match &rule.host {
            Host::Block(_) | Host::Localhost => Ok(rule),
            Host::Any => {
                Err(ValueError::new(format!("`{text}` names no address to listen on")).help(everywhere))
            }
            Host::Name(_) | Host::Below(_) => {
                let message = format!("`{text}` names a host: where to listen is an address, or `localhost`");
                Err(ValueError::new(message).help(everywhere))
            }
        }
    }

    /// Adds it to others.
    pub(crate) fn add_to(self, others: &mut Vec<Self>) -> Result<(), ValueError> {
        if others.contains(&self) {
            return Err(ValueError::new(format!("`{self}` is there twice")));
        }
        others.push(self);
        Ok(())
    }
}

impl fmt::Display for Rule {
    /// As `Rule::parse` reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", self.protocol.prefix(), self.host, self.ports)
    }
}

impl Protocol {
    /// What a rule begins with.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Tcp => "",
            Self::Udp => "udp:",
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, ValueError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        if let Some(inside) = text.strip_prefix('[') {
            return v6(text, inside).map(Self::Block);
        }
        if let Some((addr, prefix)) = text.split_once('/') {
            let Ok(addr) = addr.parse::<Ipv4Addr>() else {
                return Err(ValueError::new(format!("`{addr}` is not an IPv4 address"))
                    .help("a block of addresses is `10.0.0.0/8`, or `[fd00::]/8`"));
            };
            return block(addr.into(), prefix).map(Self::Block);
        }
        if let Ok(addr) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Block(Cidr::one(addr.into())));
        }
        if let Some(below) = text.strip_prefix("*.") {
            return name::check(below).map(|()| Self::Below(below.into()));
        }
        name::check(text)?;
        Ok(if text == LOCALHOST { Self::Localhost } else { Self::Name(text.into()) })
    }

    /// Whether a name is one of its names. Case does not matter, nor does a dot at the end. Of a block there are none.
    pub(crate) fn has_name(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Self::Any => true,
            Self::Name(own) => own.eq_ignore_ascii_case(name),
            Self::Localhost => name.eq_ignore_ascii_case(LOCALHOST),
            Self::Below(own) => {
                let (name, own) = (name.as_bytes(), own.as_bytes());
                let Some((before, end)) = name.split_at_checked(name.len().wrapping_sub(own.len())) else {
                    return false;
                };
                end.eq_ignore_ascii_case(own) && before.len() > 1 && before.ends_with(b".")
            }
            Self::Block(_) => false,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Name(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Localhost => f.write_str(LOCALHOST),
            Self::Block(block) => block.fmt(f),
        }
    }
}

impl Ports {
    /// `*`. A port that the system is to choose is among them.
    pub(crate) const ALL: Self = Self { first: 0, last: u16::MAX };

    fn parse(text: &str) -> Result<Self, ValueError> {
        let help = "a port is `443`, a range `8000-8999`, `*` is all";
        let port = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            match text.parse::<u16>() {
                Ok(0) => Err(ValueError::new("ports begin at 1").help("`*` is all of them")),
                Ok(port) if digits => Ok(port),
                _ if digits => Err(ValueError::new(format!("`{text}` is beyond the last port, 65535"))),
                _ => {
                    let text = text.escape_default();
                    Err(ValueError::new(format!("`{text}` is not a port")).help(help))
                }
            }
        };
        if text == "*" {
            return Ok(Self::ALL);
        }
        if text.contains(',') {
            return Err(ValueError::new(format!("`{text}` is not a port")).help("a rule for each of them"));
        }
        let Some((first, last)) = text.split_once('-') else {
            return port(text).map(|port| Self { first: port, last: port });
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last {
            return Err(ValueError::new(format!("the range `{text}` ends before it begins"))
                .help(format!("write `{last}-{first}`")));
        }
        Ok(Self { first, last })
    }

    /// Whether a port is one of them.
    pub(crate) fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether it is one port alone.
    pub(crate) fn is_one(self) -> bool {
        self.first == self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.write_str("*"),
            Self { first, last } if first == last => first.fmt(f),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

/// Takes the protocol off.
fn protocol(text: &str) -> Result<(Protocol, &str), ValueError> {
    if text.strip_prefix("unix:").is_some_and(|rest| rest.contains(['/', '.'])) {
        return Err(ValueError::new(format!("`{}`: Unix sockets are not reached", text.escape_default()))
            .help("a rule is about TCP or UDP, as in `127.0.0.1:5432`"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let host = rest.split('/').next().unwrap_or(rest);
        let port = match scheme {
            "http" | "ws" => ":80",
            "https" | "wss" => ":443",
            _ => ":PORT",
        };
        let port = if host.contains(':') { "" } else { port };
        return Err(ValueError::new(format!("`{}` is a URL, not a rule", text.escape_default()))
            .help(format!("write `{}{port}`", host.escape_default())));
    }
    if let Some(rest) = text.strip_prefix("udp:") {
        return Ok((Protocol::Udp, rest));
    }
    for (word, meant) in [("udp:", "udp:"), ("tcp:", "")] {
        // `tcp:80` is a port of a host that is called so.
        if let Some((start, rest)) = text.split_at_checked(word.len())
            && start.eq_ignore_ascii_case(word)
            && rest.contains(':')
        {
            let message = match meant {
                "" => format!("`{start}` goes without saying"),
                _ => format!("`{start}` is written in lower case"),
            };
            return Err(ValueError::new(message).help(format!("write `{meant}{}`", rest.escape_default())));
        }
    }
    Ok((Protocol::Tcp, text))
}

/// The host and the ports.
fn split(text: &str) -> Result<(&str, &str), ValueError> {
    let plain = text.escape_default();
    let no_port = |host: &str| {
        ValueError::new(format!("`{plain}` names no port"))
            .help(format!("say which port: `{host}:5432`, or `{host}:*` for all"))
    };
    if text.is_empty() {
        return Err(ValueError::new("the rule is empty").help("as in `db.example:5432`"));
    }
    if text.starts_with('[') {
        let (_, after) = text.split_once(']').ok_or_else(|| {
            ValueError::new(format!("`{plain}` has no `]`")).help("as in `[2001:db8::1]:443`")
        })?;
        let Some(colon) = after.find(':') else { return Err(no_port(text)) };
        let host = text.len() - after.len() + colon;
        return Ok((&text[..host], &text[host + 1..]));
    }
    match text.rsplit_once(':') {
        None if text == "*" || text.parse::<u16>().is_err() => Err(no_port(text)),
        None => Err(ValueError::new(format!("`{plain}` names no host"))
            .help(format!("`db.example:{text}`, or `*:{text}` for all hosts"))),
        Some(("", ports)) => Err(ValueError::new("the host is missing")
            .help(format!("`db.example:{ports}`, or `*:{ports}` for all hosts"))),
        Some((host, _)) if host.contains(':') || text.parse::<Ipv6Addr>().is_ok() => {
            // The colon before the port looks like any other: what is meant shows at most in one of the two.
            let error = ValueError::new(format!("`{plain}`: an IPv6 address stands in brackets"));
            let bracketed = |text: &str| match text.split_once('/') {
                Some((addr, prefix)) => {
                    let (addr, prefix) = (addr.parse::<Ipv6Addr>().ok()?, prefix.parse::<u8>().ok()?);
                    Some(format!("[{addr}]/{prefix}"))
                }
                None => text.parse::<Ipv6Addr>().ok().map(|addr| format!("[{addr}]")),
            };
            let ports = &text[text.rfind(':').unwrap_or(0)..];
            let is_port = ports.strip_prefix(':').is_some_and(|ports| Ports::parse(ports).is_ok());
            Err(match (bracketed(text), bracketed(host)) {
                (Some(whole), Some(host)) if is_port => error.help(format!(
                    "write `{host}{ports}`; or, if all of it is the address, `{whole}:443`, or `{whole}:*`"
                )),
                (Some(whole), _) => {
                    error.help(format!("say which port, too: `{whole}:443`, or `{whole}:*` for all"))
                }
                (None, Some(host)) => error.help(format!("write `{host}{ports}`")),
                (None, None) => error.help("as in `[2001:db8::1]:443`"),
            })
        }
        Some(parts) => Ok(parts),
    }
}

/// The same, of a rule that began with `udp:`: what is to be written begins so, too.
fn told_with(error: ValueError, text: &str, rest: &str) -> ValueError {
    let prefix = &text[..text.len() - rest.len()];
    let help =
        error.help.map(|help| if prefix.is_empty() { help } else { format!("{help}; `{prefix}` before it") });
    ValueError { help, ..error }
}

/// An IPv6 address or block. `text` begins with the bracket that `inside` is behind.
fn v6(text: &str, inside: &str) -> Result<Cidr, ValueError> {
    let (addr, after) = inside.split_once(']').unwrap_or((inside, ""));
    if let Some((addr, prefix)) = addr.split_once('/') {
        return Err(ValueError::new(format!(
            "`{}` has its prefix inside the brackets",
            text.escape_default()
        ))
        .help(format!(
            "write `[{addr}]/{prefix}`",
            addr = addr.escape_default(),
            prefix = prefix.escape_default()
        )));
    }
    if let Some((plain, _)) = addr.split_once('%') {
        return Err(ValueError::new(format!("`{}` names a zone", text.escape_default()))
            .help(format!("a rule holds in all zones: write `[{}]`", plain.escape_default())));
    }
    let Ok(parsed) = addr.parse::<Ipv6Addr>() else {
        return Err(ValueError::new(format!("`{}` is not an IPv6 address", addr.escape_default()))
            .help("as in `[2001:db8::1]`"));
    };
    let prefix = match after {
        "" => None,
        after => Some(after.strip_prefix('/').ok_or_else(|| {
            ValueError::new(format!("`{}` cannot follow the address", after.escape_default()))
                .help("as in `[2001:db8::1]:443` or `[fd00::]/8:*`")
        })?),
    };
    if let Some(mapped) = parsed.to_ipv4_mapped() {
        let plain = match prefix.map(str::parse::<u8>) {
            Some(Ok(prefix @ 96..=128)) => format!("{mapped}/{}", prefix - 96),
            _ => mapped.to_string(),
        };
        return Err(ValueError::new(format!("`[{parsed}]` is an IPv4 address that is mapped into IPv6"))
            .help(format!("write `{plain}`: it holds for both")));
    }
    prefix.map_or(Ok(Cidr::one(parsed.into())), |prefix| block(parsed.into(), prefix))
}

/// The block of an address and the digits behind its slash.
pub(crate) fn block(addr: IpAddr, prefix: &str) -> Result<Cidr, ValueError> {
    let most = Cidr::one(addr).prefix();
    let digits = !prefix.is_empty() && prefix.bytes().all(|byte| byte.is_ascii_digit());
    let number = prefix.parse().ok().filter(|number| digits && *number <= most);
    let Some(number) = number else {
        return Err(ValueError::new(format!("`/{}` is not a prefix", prefix.escape_default()))
            .help(format!("bits that the addresses have in common, 0 to {most}")));
    };
    Cidr::new(addr, number).ok_or_else(|| {
        let meant = Cidr::around(addr, number);
        ValueError::new(format!("`{addr}/{number}` has bits beyond its prefix"))
            .help(format!("the block is `{meant}`, the one address `{}`", Cidr::one(addr)))
    })
}

#[cfg(test)]
mod tests;
