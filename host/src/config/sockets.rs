//! What an app may reach and offer beyond HTTP: rules for its sockets, roots that it trusts, and the name servers that are
//! asked for it.
//!
//! Here a setting is read and checked. What a rule means for an address is the business of `net::policy`.

mod certificates;
mod cidr;
mod name;
mod rule;

use std::net::SocketAddr;
use std::path::PathBuf;

use super::problem::ValueError;

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
