//! `udp-socket`, in order and out of it.

use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{IpAddressFamily, IpSocketAddress};
use wasip2::sockets::udp::{IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream};
use wasip2::sockets::udp_create_socket::create_udp_socket;

use crate::{Lines, loopback, parse};

fn datagram(data: &[u8], to: Option<IpSocketAddress>) -> OutgoingDatagram {
    OutgoingDatagram { data: data.to_vec(), remote_address: to }
}

fn send(lines: &mut Lines, what: &str, stream: &OutgoingDatagramStream, datagrams: &[OutgoingDatagram]) {
    while stream.check_send().expect("it can be asked") == 0 {
        stream.subscribe().block();
    }
    lines.result(what, stream.send(datagrams));
}

fn receive(lines: &mut Lines, what: &str, stream: &IncomingDatagramStream) {
    loop {
        match stream.receive(1) {
            Ok(some) if some.is_empty() => stream.subscribe().block(),
            came => {
                let text = |data: Vec<u8>| String::from_utf8_lossy(&data).into_owned();
                let came = came.map(|some| some.into_iter().map(|one| text(one.data)).collect::<Vec<_>>());
                return lines.result(what, came);
            }
        }
    }
}

/// With somebody who says "heard" before what it hears.
pub(crate) fn order(lines: &mut Lines, addr: &str) {
    let (network, addr) = (instance_network(), parse(addr));
    let socket = create_udp_socket(IpAddressFamily::Ipv4).expect("a socket");
    lines.result("finish nothing", socket.finish_bind());
    lines.done("stream unbound", socket.stream(None));
    lines.done("local", socket.local_address());
    lines.done("remote", socket.remote_address());
    lines.result("wrong family", socket.start_bind(&network, parse("[::1]:0")));
    lines.result("bind", socket.start_bind(&network, loopback()));
    lines.result("bind twice", socket.start_bind(&network, loopback()));
    lines.result("bound", socket.finish_bind());
    lines.result("bind again", socket.start_bind(&network, loopback()));
    lines.done("local", socket.local_address());
    for bad in ["0.0.0.0:80", "127.0.0.1:0", "[::1]:80"] {
        lines.done(bad, socket.stream(Some(parse(bad))));
    }

    let (incoming, outgoing) = socket.stream(None).expect("it is bound");
    lines.result("nothing", incoming.receive(0).map(|some| some.len()));
    lines.result("nothing yet", incoming.receive(9).map(|some| some.len()));
    lines.result("send nothing", outgoing.send(&[]));
    send(lines, "to nobody", &outgoing, &[datagram(b"x", None)]);
    send(lines, "too large", &outgoing, &[datagram(&[0; 65_535], Some(addr))]);
    send(lines, "first one", &outgoing, &[datagram(b"one", Some(addr)), datagram(b"x", None)]);
    receive(lines, "one", &incoming);
    drop((incoming, outgoing));

    let (incoming, outgoing) = socket.stream(Some(addr)).expect("it is allowed");
    lines.add("remote", socket.remote_address().is_ok_and(|it| format!("{it:?}") == format!("{addr:?}")));
    send(lines, "elsewhere", &outgoing, &[datagram(b"x", Some(parse("127.0.0.1:9")))]);
    send(lines, "named", &outgoing, &[datagram(b"two", Some(addr))]);
    receive(lines, "two", &incoming);
    send(lines, "plain", &outgoing, &[datagram(b"three", None)]);
    receive(lines, "three", &incoming);
    drop((incoming, outgoing));

    let (_incoming, _outgoing) = socket.stream(None).expect("it is bound");
    lines.done("remote", socket.remote_address());
    lines.result("no hops", socket.set_unicast_hop_limit(0));
    lines.result("set hops", socket.set_unicast_hop_limit(42));
    lines.result("hops", socket.unicast_hop_limit());
    lines.result("no buffer", socket.set_receive_buffer_size(0));
    lines.result("no buffer", socket.set_send_buffer_size(0));
}
