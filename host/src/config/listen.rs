//! Where is listened: for requests, and for the raw connections of an app.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::edge::EdgeSettings;
use super::problem::ValueError;

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// IPv4 or IPv6. Port 0 lets the system choose.
    Tcp(SocketAddr),
    /// A Unix socket's path.
    Unix(PathBuf),
}

impl ListenAddr {
    /// Reads `127.0.0.1:8080`, `[::1]:8080`, `unix:web.sock`, and `:8080`, which is the IPv6 wildcard `[::]:8080`: on
    /// it the system takes IPv4 connections too. Names are not resolved.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.contains('\0') {
                return Err(
                    ValueError::new("the path of a Unix socket is missing").help("as in `unix:web.sock`")
                );
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        if let Some(port) = text.strip_prefix(':')
            && let Ok(port) = port.parse()
        {
            return Ok(Self::Tcp(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))));
        }
        if let Ok(addr) = text.parse() {
            return Ok(Self::Tcp(addr));
        }
        let error = ValueError::new(format!("`{text}` is not an address to listen on"));
        Err(match text.rsplit_once(':') {
            _ if text.parse::<u16>().is_ok() => error.help(format!("a port alone is written `:{text}`")),
            Some(("localhost", port)) => {
                error.help(format!("names are not resolved: write `127.0.0.1:{port}`"))
            }
            _ => error.help("as in `127.0.0.1:8080`, `[::1]:8080`, `:8080` (everywhere) or `unix:web.sock`"),
        })
    }

    /// Adds it to a list of others. Twice the same address is an error: it could be bound only once. (Port 0 is another
    /// port each time.)
    pub(crate) fn add_to(self, addrs: &mut Vec<Self>) -> Result<(), ValueError> {
        let chosen_by_system = matches!(&self, Self::Tcp(addr) if addr.port() == 0);
        if addrs.contains(&self) && !chosen_by_system {
            return Err(ValueError::new(format!("`{self}` is there twice")));
        }
        addrs.push(self);
        Ok(())
    }

    /// The same, with the path of a Unix socket taken from `folder` on.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(folder.join(path)),
            tcp @ Self::Tcp(_) => tcp,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => addr.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address whose TCP connections go to an app, each into a call of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpListen {
    /// Port 0 lets the system choose.
    pub addr: SocketAddr,
    /// The name of the app.
    pub app: String,
    /// Whether each connection begins with a preamble of the PROXY protocol. None: as those of HTTP.
    pub proxy_protocol: Option<bool>,
}

impl TcpListen {
    /// Whether its connections begin with a preamble.
    pub(crate) fn is_announced(&self, edge: &EdgeSettings) -> bool {
        self.proxy_protocol.unwrap_or(edge.proxy_protocol)
    }

    /// Reads an address as [`ListenAddr`] does, which has to be one of TCP.
    pub(crate) fn parse_addr(text: &str) -> Result<SocketAddr, ValueError> {
        match ListenAddr::parse(text) {
            Ok(ListenAddr::Tcp(addr)) => Ok(addr),
            Ok(ListenAddr::Unix(_)) => {
                Err(ValueError::new(format!("`{text}` is not an address of TCP"))
                    .help("as in `127.0.0.1:7000`"))
            }
            Err(error) => {
                // What it says of Unix sockets is of no use here.
                let help = error.help.filter(|help| !help.contains("unix:"));
                let help = help.unwrap_or_else(|| {
                    "as in `127.0.0.1:7000`, `[::1]:7000` or `:7000` (everywhere)".to_owned()
                });
                Err(ValueError { help: Some(help), ..error })
            }
        }
    }

    /// Adds it to others. What is taken, by one of them or by the server itself, could not be bound.
    pub(crate) fn add_to(self, others: &mut Vec<Self>, server: &[ListenAddr]) -> Result<(), ValueError> {
        if self.addr.port() != 0 {
            if let Some(other) = others.iter().find(|other| other.addr == self.addr) {
                let message = format!("`{}` is there already, for the app `{}`", self.addr, other.app);
                return Err(ValueError::new(message).help("an address belongs to one app"));
            }
            if server.contains(&ListenAddr::Tcp(self.addr)) {
                let message = format!("`{}` is where the server listens for HTTP", self.addr);
                return Err(ValueError::new(message).help("give it another port"));
            }
        }
        others.push(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:0", "[::1]:0"),
            (":80", "[::]:80"),
            ("unix:web.sock", "unix:web.sock"),
            ("unix:/run/x:1", "unix:/run/x:1"),
        ];
        for (text, shown) in table {
            assert_eq!(ListenAddr::parse(text).unwrap().to_string(), shown);
        }
        let refused = [
            ("8080", "`:8080`"),
            ("localhost:80", "127.0.0.1:80"),
            ("example.com:80", "unix:web.sock"),
            ("127.0.0.1", "127.0.0.1:8080"),
            (":x", "as in"),
            (":70000", "as in"),
            ("::1:80", "as in"),
            ("", "as in"),
            ("unix:", "unix:web.sock"),
        ];
        for (text, help) in refused {
            let error = ListenAddr::parse(text).unwrap_err();
            assert!(error.help.unwrap().contains(help), "{text}");
        }
    }

    #[test]
    fn relative_paths_are_taken_from_a_folder() {
        let folder = Path::new("/srv");
        let shown = |text: &str| ListenAddr::parse(text).unwrap().relative_to(folder).to_string();
        assert_eq!(shown("unix:a.sock"), "unix:/srv/a.sock");
        assert_eq!(shown("unix:/a.sock"), "unix:/a.sock");
        assert_eq!(shown("[::1]:1"), "[::1]:1");
    }

    #[test]
    fn addresses_of_tcp() {
        let table = [
            ("127.0.0.1:7000", Ok("127.0.0.1:7000")),
            (":7000", Ok("[::]:7000")),
            ("unix:a.sock", Err("as in `127.0.0.1:7000`")),
            ("7000", Err("`:7000`")),
            ("localhost:7000", Err("`127.0.0.1:7000`")),
            ("lines", Err("`:7000` (everywhere)")),
        ];
        for (text, expected) in table {
            match (TcpListen::parse_addr(text), expected) {
                (Ok(addr), Ok(shown)) => assert_eq!(addr.to_string(), shown),
                (Err(error), Err(part)) => {
                    let help = error.help.unwrap();
                    assert!(help.contains(part) && !help.contains("unix"), "{text}: {help}");
                }
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn an_address_belongs_to_one_app() {
        let server = [ListenAddr::parse("127.0.0.1:80").unwrap(), ListenAddr::parse(":0").unwrap()];
        let mut all = Vec::new();
        let mut add = |addr: &str, app: &str| {
            let (addr, app) = (addr.parse().unwrap(), app.to_owned());
            TcpListen { addr, app, proxy_protocol: None }.add_to(&mut all, &server)
        };
        add("127.0.0.1:1", "a").unwrap();
        add("127.0.0.1:0", "a").unwrap();
        add("127.0.0.1:0", "b").unwrap();
        add("[::]:0", "b").unwrap();
        add("127.0.0.2:1", "b").unwrap();
        assert!(add("127.0.0.1:1", "b").unwrap_err().message.contains("there already, for the app `a`"));
        assert!(add("127.0.0.1:80", "b").unwrap_err().message.contains("listens for HTTP"));
        assert_eq!(all.len(), 5);
    }
}
