//! Connections, made and accepted.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use crate::{Said, kind, shown};

/// Sends "ping", ends its side, and says what came back.
pub(crate) fn ping(addr: &str) -> Said {
    let mut stream = TcpStream::connect(addr).map_err(kind)?;
    stream.write_all(b"ping").map_err(kind)?;
    stream.shutdown(Shutdown::Write).map_err(kind)?;
    let mut all = String::new();
    stream.read_to_string(&mut all).map_err(kind)?;
    Ok(all)
}

/// Sends 10,000 bytes and waits for as many, a hundred times.
pub(crate) fn turns(addr: &str) -> Said {
    let mut stream = TcpStream::connect(addr).map_err(kind)?;
    let mut back = vec![0; 10_000];
    for turn in 0..100_u8 {
        let out: Vec<u8> = (0..back.len()).map(|at| (at as u8).wrapping_add(turn)).collect();
        stream.write_all(&out).map_err(kind)?;
        stream.read_exact(&mut back).map_err(kind)?;
        if back != out {
            return Err(format!("other bytes in turn {turn}"));
        }
    }
    Ok("all came back".to_owned())
}

/// Reads from somebody who says nothing, without waiting.
pub(crate) fn non_blocking(addr: &str) -> Said {
    let mut stream = TcpStream::connect(addr).map_err(kind)?;
    stream.set_nonblocking(true).map_err(kind)?;
    Ok(shown(stream.read(&mut [0; 10])))
}

/// Whether the addresses of both ends are what they should be.
pub(crate) fn addresses(addr: &str) -> Said {
    let stream = TcpStream::connect(addr).map_err(kind)?;
    let local = stream.local_addr().map_err(kind)?;
    let peer = stream.peer_addr().map_err(kind)?;
    Ok(format!("{} {} {peer}", local.ip(), local.port() != 0))
}

/// What options are, and are once they are set.
pub(crate) fn options(addr: &str) -> Said {
    let stream = TcpStream::connect(addr).map_err(kind)?;
    let nodelay = (shown(stream.set_nodelay(true)), shown(stream.nodelay()));
    let ttl = (shown(stream.set_ttl(42)), shown(stream.ttl()));
    Ok(format!("nodelay {nodelay:?}, ttl {ttl:?}, error {}", shown(stream.take_error())))
}

/// Reads from somebody who says nothing, for a while.
pub(crate) fn timeout(addr: &str) -> Said {
    let mut stream = TcpStream::connect(addr).map_err(kind)?;
    stream.set_read_timeout(Some(Duration::from_millis(100))).map_err(kind)?;
    Ok(shown(stream.read(&mut [0; 10])))
}

/// Accepts one connection, sends back what comes until its end, and says how much that was. Where it listens is said on
/// standard output.
pub(crate) fn accept(addr: &str) -> Said {
    let listener = TcpListener::bind(addr).map_err(kind)?;
    println!("accepting at {}", listener.local_addr().map_err(kind)?);
    let (mut stream, _) = listener.accept().map_err(kind)?;
    let mut total = 0;
    let mut piece = [0; 4_096];
    loop {
        match stream.read(&mut piece).map_err(kind)? {
            0 => break,
            n => {
                stream.write_all(&piece[..n]).map_err(kind)?;
                total += n;
            }
        }
    }
    Ok(total.to_string())
}

/// Opens connections until there can be no more, and leaves them open: how many, and why not more.
pub(crate) fn hold(addr: &str) -> Said {
    let mut held = Vec::new();
    let end = loop {
        match TcpStream::connect(addr) {
            Ok(stream) => held.push(stream),
            Err(error) => break kind(error),
        }
        if held.len() >= 5_000 {
            break "nothing".to_owned();
        }
    };
    let count = held.len();
    std::mem::forget(held);
    Ok(format!("{count} {end}"))
}

/// Whether it can listen there.
pub(crate) fn bind(addr: &str) -> Said {
    TcpListener::bind(addr).map(|_| "bound".to_owned()).map_err(kind)
}
