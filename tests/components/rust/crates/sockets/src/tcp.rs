//! `tcp-socket`, in order and out of it.

use wasip2::io::streams::StreamError;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

use crate::{Lines, family, loopback, parse};

fn socket() -> TcpSocket {
    create_tcp_socket(IpAddressFamily::Ipv4).expect("a socket")
}

/// Whatever is under way is waited for.
fn finished<T>(
    socket: &TcpSocket,
    finish: impl Fn(&TcpSocket) -> Result<T, ErrorCode>,
) -> Result<T, ErrorCode> {
    loop {
        match finish(socket) {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            done => return done,
        }
    }
}

/// To somebody who reads to the end and says "heard" before all of it.
pub(crate) fn order(lines: &mut Lines, addr: &str) {
    let (network, addr) = (instance_network(), parse(addr));
    let socket = socket();
    lines.done("finish nothing", socket.finish_connect());
    lines.result("bind nothing", socket.finish_bind());
    lines.result("listen unbound", socket.start_listen());
    lines.done("accept unbound", socket.accept());
    lines.done("local", socket.local_address());
    lines.done("remote", socket.remote_address());
    lines.result("shut", socket.shutdown(ShutdownType::Send));
    lines.add("listening", socket.is_listening());
    lines.add("family", socket.address_family());
    lines.result("connect", socket.start_connect(&network, addr));
    lines.result("connect twice", socket.start_connect(&network, addr));
    lines.result("bind meanwhile", socket.start_bind(&network, loopback()));
    lines.result("listen meanwhile", socket.finish_listen());
    match finished(&socket, TcpSocket::finish_connect) {
        Err(error) => lines.add("connected", error),
        Ok((input, output)) => {
            lines.done("finish again", socket.finish_connect());
            lines.result("connect again", socket.start_connect(&network, addr));
            lines.result("listen connected", socket.start_listen());
            lines.done("accept connected", socket.accept());
            lines.done("local", socket.local_address());
            lines.add(
                "remote",
                socket.remote_address().is_ok_and(|it| format!("{it:?}") == format!("{addr:?}")),
            );
            lines.result("backlog", socket.set_listen_backlog_size(3));
            lines.add("nothing yet", input.read(10).map(|bytes| bytes.len()).map_err(name));
            lines.add("written", output.blocking_write_and_flush(b"hello").map_err(name));
            lines.result("shut", socket.shutdown(ShutdownType::Send));
            lines.result("shut again", socket.shutdown(ShutdownType::Send));
            lines.add("permit", output.check_write().map_err(name));
            let mut all = Vec::new();
            let end = loop {
                match input.blocking_read(100) {
                    Ok(bytes) => all.extend(bytes),
                    Err(error) => break name(error),
                }
            };
            lines.add("read", (String::from_utf8_lossy(&all).into_owned(), end));
            lines.add("read again", input.blocking_read(1).map_err(name));
            lines.result("shut both", socket.shutdown(ShutdownType::Both));
        }
    }
}

fn name(error: StreamError) -> &'static str {
    match error {
        StreamError::Closed => "closed",
        StreamError::LastOperationFailed(_) => "failed",
    }
}

/// A listener and a client of the same component.
pub(crate) fn listen(lines: &mut Lines) {
    let network = instance_network();
    let listener = socket();
    lines.result("bind", listener.start_bind(&network, loopback()));
    lines.result("bind twice", listener.start_bind(&network, loopback()));
    lines.result("connect meanwhile", listener.start_connect(&network, loopback()));
    lines.result("bound", finished(&listener, TcpSocket::finish_bind));
    lines.result("bound twice", listener.finish_bind());
    lines.result("bind again", listener.start_bind(&network, loopback()));
    lines.result("no backlog", listener.set_listen_backlog_size(0));
    lines.result("backlog", listener.set_listen_backlog_size(u64::MAX));
    lines.result("listen", listener.start_listen());
    lines.result("listen twice", listener.start_listen());
    lines.result("listening", finished(&listener, TcpSocket::finish_listen));
    lines.add("listening", listener.is_listening());
    lines.result("listen again", listener.start_listen());
    lines.done("nobody", listener.accept());
    lines.done("remote", listener.remote_address());
    let addr = listener.local_address().expect("it is bound");
    lines.result("connect", listener.start_connect(&network, addr));

    let client = socket();
    lines.result("client", client.start_connect(&network, addr));
    let (input, output) = finished(&client, TcpSocket::finish_connect).expect("a connection");
    let (served, from, to) = finished(&listener, TcpSocket::accept).expect("a connection");
    lines.add("served", served.remote_address().is_ok());
    output.blocking_write_and_flush(b"there").expect("an open stream");
    lines.add("there", from.blocking_read(10).map_err(name));
    to.blocking_write_and_flush(b"and back").expect("an open stream");
    // That is not the end; this is.
    drop(to);
    lines.add("back", input.blocking_read(10).map_err(name));
    lines.add("no end", input.read(10).map_err(name));
    lines.result("shut", served.shutdown(ShutdownType::Send));
    lines.add("end", input.blocking_read(10).map_err(name));
    lines.result("shut", served.shutdown(ShutdownType::Receive));
    lines.add("shut", from.read(10).map_err(name));
}

/// Addresses that are none.
pub(crate) fn addresses(lines: &mut Lines) {
    let network = instance_network();
    for (of, addr) in [
        (IpAddressFamily::Ipv4, "0.0.0.0:80"),
        (IpAddressFamily::Ipv4, "127.0.0.1:0"),
        (IpAddressFamily::Ipv4, "224.0.0.1:80"),
        (IpAddressFamily::Ipv4, "255.255.255.255:80"),
        (IpAddressFamily::Ipv4, "[::1]:80"),
        (IpAddressFamily::Ipv6, "127.0.0.1:80"),
        (IpAddressFamily::Ipv6, "[::]:80"),
        (IpAddressFamily::Ipv6, "[::1]:0"),
        (IpAddressFamily::Ipv6, "[::ffff:127.0.0.1]:80"),
        (IpAddressFamily::Ipv6, "[::127.0.0.1]:80"),
        (IpAddressFamily::Ipv6, "[ff02::1]:80"),
    ] {
        let socket = create_tcp_socket(of).expect("a socket");
        lines.result(addr, socket.start_connect(&network, parse(addr)));
        lines.done("finish", socket.finish_connect());
    }
    for (of, addr) in [
        (IpAddressFamily::Ipv4, "224.0.0.1:0"),
        (IpAddressFamily::Ipv4, "[::1]:0"),
        (IpAddressFamily::Ipv6, "127.0.0.1:0"),
        (IpAddressFamily::Ipv6, "[::ffff:127.0.0.1]:0"),
    ] {
        let socket = create_tcp_socket(of).expect("a socket");
        lines.result(addr, socket.start_bind(&network, parse(addr)));
    }
}

/// What is set, and what it is then.
pub(crate) fn options(lines: &mut Lines, addr: &str) {
    let (network, addr) = (instance_network(), parse(addr));
    let socket = create_tcp_socket(family(&addr)).expect("a socket");
    set(lines, &socket);
    socket.start_connect(&network, addr).expect("it is allowed");
    let _streams = finished(&socket, TcpSocket::finish_connect).expect("a connection");
    set(lines, &socket);
}

fn set(lines: &mut Lines, socket: &TcpSocket) {
    const SECOND: u64 = 1_000_000_000;
    lines.result("on", socket.set_keep_alive_enabled(true));
    lines.result("on", socket.keep_alive_enabled());
    for time in [0, 1, SECOND, 90 * SECOND, u64::MAX] {
        lines.result("set idle", socket.set_keep_alive_idle_time(time));
        lines.result("idle", socket.keep_alive_idle_time());
        lines.result("set interval", socket.set_keep_alive_interval(time));
        lines.result("interval", socket.keep_alive_interval());
    }
    for count in [0, 1, 9, u32::MAX] {
        lines.result("set count", socket.set_keep_alive_count(count));
        lines.result("count", socket.keep_alive_count());
    }
    for limit in [0, 1, 42, 255] {
        lines.result("set hops", socket.set_hop_limit(limit));
        lines.result("hops", socket.hop_limit());
    }
    for bytes in [0, 10_000, 100_000] {
        lines.result("set receive", socket.set_receive_buffer_size(bytes));
        lines.add("receive", socket.receive_buffer_size().is_ok_and(|kept| kept >= bytes));
        lines.result("set send", socket.set_send_buffer_size(bytes));
        lines.add("send", socket.send_buffer_size().is_ok_and(|kept| kept >= bytes));
    }
}
