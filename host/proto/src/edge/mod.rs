//! What proxies in front say of the client that they speak for.
//!
//! In fields of each request ([`forwarded`]), or in a preamble of the connection ([`proxy`]). Whether whoever says it is
//! believed is never decided here: the caller brings that.
//!
//! Invariant: what is said in a way that is not understood leads to no address at all, never to a guess.

pub mod forwarded;
pub mod proxy;

use std::net::SocketAddr;

/// IPv4 within IPv6 is IPv4: the same client has one address, whichever way it came.
#[must_use]
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A port in decimal: digits alone, none of them in vain.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}
