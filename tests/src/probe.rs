//! The guest `net_probe`: does with the net what its path says, and tells what came of it.

use std::fmt::Write as _;

use crate::http::{Client, Response};

/// A request of the probe's outbound client, as the query that asks for it.
#[derive(Clone, Debug)]
pub struct Fetch {
    query: String,
}

impl Fetch {
    /// A request for a URL.
    pub fn new(url: &str) -> Self {
        Self { query: format!("/fetch?url={}", encoded(url)) }
    }

    /// Another part of the query.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let _ = write!(self.query, "&{name}={}", encoded(value));
        self
    }

    /// The path to ask the probe for.
    pub fn path(&self) -> &str {
        &self.query
    }

    /// Asks for it with GET.
    #[track_caller]
    pub fn get(&self, client: &mut Client, host: &str) -> Response {
        client.get(host, &self.query).unwrap_or_else(|error| panic!("{}: {error}", self.query))
    }
}

/// The path to ask the probe for a TCP connection.
pub fn connect(to: &str) -> String {
    format!("/connect?to={}", encoded(to))
}

/// The path to ask it for a datagram and what comes back.
pub fn udp(to: &str) -> String {
    format!("/udp?to={}", encoded(to))
}

/// The path to ask it for the addresses of a name.
pub fn resolve(name: &str) -> String {
    format!("/resolve?name={}", encoded(name))
}

/// A value of a query.
pub fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}
