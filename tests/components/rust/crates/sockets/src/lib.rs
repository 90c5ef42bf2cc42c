//! A `wasi:http` component that does with sockets what its path says, and says what came of it: the standard's own
//! operations in and out of order ([`tcp`], [`udp`]), and much of everything by way of `std` ([`transfer`]). The query is with
//! whom: `/tcp?127.0.0.1:80`.

mod tcp;
mod transfer;
mod udp;

use std::fmt::{Debug, Write as _};
use std::net::{SocketAddr, SocketAddrV4};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::sockets::network::{
    ErrorCode, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
};

/// What is said, a line for each thing that was asked.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, what: impl Debug, came: impl Debug) {
        let _ = writeln!(self.0, "{what:?}: {came:?}");
    }

    /// What an operation gives, errors by their name.
    fn result<T: Debug>(&mut self, what: &str, came: Result<T, ErrorCode>) {
        let came = came.map_err(|code| code.name().to_owned());
        self.add(what, came);
    }

    /// The same for what differs from one run to the next.
    fn done<T>(&mut self, what: &str, came: Result<T, ErrorCode>) {
        self.result(what, came.map(drop));
    }
}

struct Sockets;

impl Guest for Sockets {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let mut lines = Lines::default();
        match path {
            "/tcp" => tcp::order(&mut lines, query),
            "/listen" => tcp::listen(&mut lines),
            "/addresses" => tcp::addresses(&mut lines),
            "/options" => tcp::options(&mut lines, query),
            "/udp" => udp::order(&mut lines, query),
            "/exchange" => transfer::exchange(&mut lines, query),
            "/download" => transfer::download(&mut lines, query),
            "/many" => transfer::many(&mut lines, query),
            "/keep" => transfer::keep(&mut lines, query),
            _ => lines.add(path, "no such action"),
        }
        answer(out, lines.0.as_bytes());
    }
}

/// An address in the standard's words.
fn address(addr: SocketAddr) -> IpSocketAddress {
    match addr {
        SocketAddr::V4(v4) => {
            let address = v4.ip().octets().into();
            IpSocketAddress::Ipv4(Ipv4SocketAddress { port: v4.port(), address })
        }
        SocketAddr::V6(v6) => IpSocketAddress::Ipv6(Ipv6SocketAddress {
            port: v6.port(),
            flow_info: v6.flowinfo(),
            address: v6.ip().segments().into(),
            scope_id: v6.scope_id(),
        }),
    }
}

fn parse(addr: &str) -> IpSocketAddress {
    address(addr.parse().expect("an address"))
}

fn family(addr: &IpSocketAddress) -> IpAddressFamily {
    match addr {
        IpSocketAddress::Ipv4(_) => IpAddressFamily::Ipv4,
        IpSocketAddress::Ipv6(_) => IpAddressFamily::Ipv6,
    }
}

/// A free port of the loopback.
fn loopback() -> IpSocketAddress {
    address(SocketAddr::V4(SocketAddrV4::new([127, 0, 0, 1].into(), 0)))
}

fn answer(out: ResponseOutparam, text: &[u8]) {
    let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]);
    let response = OutgoingResponse::new(headers.expect("a valid header"));
    let body = response.body().expect("the first call");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first call");
    for piece in text.chunks(4096) {
        stream.blocking_write_and_flush(piece).expect("an open stream");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

wasip2::http::proxy::export!(Sockets);
