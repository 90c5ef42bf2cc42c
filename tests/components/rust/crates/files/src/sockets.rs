//! Sockets as `std` has them.

use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};

use crate::Said;
use crate::files::name;

pub(crate) fn connect(addr: &str) -> Said {
    TcpStream::connect(addr).map(|_| b"connected".to_vec()).map_err(name)
}

/// The name's addresses; an error with all that is said of it.
pub(crate) fn resolve(host: &str) -> Said {
    let addrs = (host, 80).to_socket_addrs().map_err(|error| format!("{:?}: {error}", error.kind()))?;
    Ok(addrs.map(|addr| addr.to_string()).collect::<Vec<_>>().join(" ").into_bytes())
}

/// Whether either kind of socket can be bound.
pub(crate) fn bind(addr: &str) -> Said {
    UdpSocket::bind(addr).map(drop).map_err(|error| format!("udp {}", name(error)))?;
    TcpListener::bind(addr).map(drop).map_err(|error| format!("tcp {}", name(error)))?;
    Ok(b"bound".to_vec())
}
