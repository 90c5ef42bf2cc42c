//! What an app may reach and offer beyond HTTP: rules for its sockets, roots that it trusts, and the addresses whose
//! connections it is handed.
//!
//! Here a setting is read and checked. What a rule means for an address is the business of `net::policy`.

mod certificates;
mod cidr;
mod name;
mod rule;

use std::net::SocketAddr;
use std::path::PathBuf;

use super::problem::ValueError;
use super::settings::ListenAddr;

#[cfg(test)]
pub(crate) use certificates::PEM;
pub(crate) use certificates::certificates;
pub use cidr::Cidr;
pub(crate) use name::is_name;
pub(crate) use rule::block;
pub use rule::{Host, Ports, Protocol, Rule};

/// The sockets of an app. By default it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketSettings {
    /// What it may connect and send to.
    pub connect: Vec<Rule>,
    /// Where it may listen: rules of addresses, or of `localhost`.
    pub listen: Vec<Rule>,
    /// Files of PEM certificates that it trusts besides the web's roots.
    pub ca: Vec<PathBuf>,
}

/// An address whose TCP connections go to an app, each into a call of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpListen {
    /// Port 0 lets the system choose.
    pub addr: SocketAddr,
    /// The name of the app.
    pub app: String,
}

impl TcpListen {
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

/// Reads the address of a name server.
pub(crate) fn parse_dns(text: &str) -> Result<SocketAddr, ValueError> {
    if let Ok(ip) = text.parse() {
        let error = ValueError::new(format!("`{text}` names no port"));
        return Err(error.help(format!("write `{}`", SocketAddr::new(ip, 53))));
    }
    let error = match text.parse::<SocketAddr>() {
        Ok(addr) if addr.port() != 0 => return Ok(addr),
        Ok(_) => ValueError::new("no name server has the port 0"),
        Err(_) => ValueError::new(format!("`{text}` is not the address of a name server")),
    };
    Err(error.help("as in `127.0.0.1:53` or `[::1]:53`"))
}

/// Adds a name server to others.
pub(crate) fn add_dns(addr: SocketAddr, others: &mut Vec<SocketAddr>) -> Result<(), ValueError> {
    if others.contains(&addr) {
        return Err(ValueError::new(format!("`{addr}` is there twice")));
    }
    others.push(addr);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
            TcpListen { addr: addr.parse().unwrap(), app: app.to_owned() }.add_to(&mut all, &server)
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

    #[test]
    fn name_servers() {
        assert_eq!(parse_dns("127.0.0.1:5353").unwrap().to_string(), "127.0.0.1:5353");
        assert_eq!(parse_dns("[::1]:53").unwrap().to_string(), "[::1]:53");
        let table = [
            ("1.2.3.4", "names no port", "`1.2.3.4:53`"),
            ("::1", "names no port", "`[::1]:53`"),
            ("1.2.3.4:0", "port 0", "as in"),
            ("dns.example:53", "is not the address", "as in"),
            ("", "is not the address", "as in"),
        ];
        for (text, message, help) in table {
            let error = parse_dns(text).unwrap_err();
            assert!(error.message.contains(message) && error.help.unwrap().contains(help), "{text}");
        }
        let mut all = Vec::new();
        add_dns(parse_dns("127.0.0.1:53").unwrap(), &mut all).unwrap();
        assert!(add_dns(parse_dns("127.0.0.1:53").unwrap(), &mut all).is_err());
    }
}
