//! Datagrams.

use std::net::{SocketAddr, UdpSocket};

use crate::{Said, kind};

const ANY: &str = "0.0.0.0:0";

/// Sends "ping" over a connected socket, and says what came back.
pub(crate) fn connected(addr: &str) -> Said {
    let socket = UdpSocket::bind(ANY).map_err(kind)?;
    socket.connect(addr).map_err(kind)?;
    socket.send(b"ping").map_err(kind)?;
    let mut datagram = [0; 100];
    let n = socket.recv(&mut datagram).map_err(kind)?;
    Ok(String::from_utf8_lossy(&datagram[..n]).into_owned())
}

/// The same over one that is not connected, and who it came from.
pub(crate) fn unconnected(addr: &str) -> Said {
    let addr: SocketAddr = addr.parse().map_err(|_| "not an address".to_owned())?;
    let socket = UdpSocket::bind(ANY).map_err(kind)?;
    socket.send_to(b"ping", addr).map_err(kind)?;
    let mut datagram = [0; 100];
    let (n, from) = socket.recv_from(&mut datagram).map_err(kind)?;
    Ok(format!("{} from {from}", String::from_utf8_lossy(&datagram[..n])))
}

/// Whether it can be bound there.
pub(crate) fn bind(addr: &str) -> Said {
    UdpSocket::bind(addr).map(|_| "bound".to_owned()).map_err(kind)
}
