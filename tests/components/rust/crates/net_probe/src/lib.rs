//! Tries what `std::net` does, and says what came of it: on success what it got, else `error` and the name of the
//! [`std::io::ErrorKind`]. The path is what, the query with what:
//!
//! - `/connect?host:port`: connects and says both ends
//! - `/talk?host:port=TEXT`: sends the text and a half-close, and says all that comes back
//! - `/udp?host:port=TEXT`: sends a datagram and says the one that comes back
//! - `/resolve?name`: the addresses
//! - `/listen?host:port` and `/bind?host:port`: listens, binds a UDP socket; says where
//! - `/many?host:port=N`: opens so many connections and says how many it got, and why it got no more
//! - `/hold?host:port`: connects, and waits for a byte that may never come
//! - `/timeout?host:port=MS`: the same with a limit

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::Duration;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Probe;

impl Guest for Probe {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (addr, value) = query.split_once('=').unwrap_or((query, ""));
        let text = act(path, addr, value).unwrap_or_else(|error| format!("error {:?}", error.kind()));
        answer(out, &text);
    }
}

fn act(path: &str, addr: &str, value: &str) -> io::Result<String> {
    match path {
        "/connect" => {
            let stream = TcpStream::connect(addr)?;
            Ok(format!("{} {}", stream.local_addr()?, stream.peer_addr()?))
        }
        "/talk" => {
            let mut stream = TcpStream::connect(addr)?;
            stream.write_all(value.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        }
        "/udp" => {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(addr)?;
            socket.send(value.as_bytes())?;
            let mut buf = [0; 2048];
            let n = socket.recv(&mut buf)?;
            Ok(String::from_utf8_lossy(&buf[..n]).into_owned())
        }
        "/resolve" => {
            let addrs = (addr, 80).to_socket_addrs()?.map(|addr| addr.ip().to_string());
            Ok(addrs.collect::<Vec<_>>().join(" "))
        }
        "/listen" => Ok(TcpListener::bind(addr)?.local_addr()?.to_string()),
        "/bind" => Ok(UdpSocket::bind(addr)?.local_addr()?.to_string()),
        "/many" => Ok(many(addr, value.parse().unwrap_or(0))),
        "/hold" => read_byte(&TcpStream::connect(addr)?),
        "/timeout" => {
            let stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(Duration::from_millis(value.parse().unwrap_or(1))))?;
            read_byte(&stream)
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn read_byte(mut stream: &TcpStream) -> io::Result<String> {
    let mut byte = [0];
    Ok(format!("{} byte", stream.read(&mut byte)?))
}

fn many(addr: &str, wanted: usize) -> String {
    let mut open = Vec::new();
    while open.len() < wanted {
        match TcpStream::connect(addr) {
            Ok(stream) => open.push(stream),
            Err(error) => return format!("{} then {:?}", open.len(), error.kind()),
        }
    }
    open.len().to_string()
}

fn answer(out: ResponseOutparam, text: &str) {
    let headers = Fields::from_list(&[("content-type".to_owned(), b"text/plain".to_vec())]);
    let response = OutgoingResponse::new(headers.expect("a valid header"));
    let body = response.body().expect("the first call");
    ResponseOutparam::set(out, Ok(response));
    let stream = body.write().expect("the first call");
    for piece in text.as_bytes().chunks(4096) {
        stream.blocking_write_and_flush(piece).expect("an open stream");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("no length was said");
}

wasip2::http::proxy::export!(Probe);
