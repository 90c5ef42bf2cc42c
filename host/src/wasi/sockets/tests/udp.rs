//! The order of a UDP socket's operations, and where datagrams go.

use super::*;

#[test]
fn datagrams_go_where_they_are_sent_and_come_from_there() {
    let mut bench = Bench::open();
    let [peer, stranger] = [(); 2].map(|()| std::net::UdpSocket::bind(loopback(0)).unwrap());
    let (peer_addr, stranger_addr) = (peer.local_addr().unwrap(), stranger.local_addr().unwrap());
    let mut socket = bench.udp();
    assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.stream(None).map(drop), Err(ErrorCode::InvalidState));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    socket.start_bind(loopback(0)).unwrap();
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.stream(None).map(drop), Err(ErrorCode::InvalidState));
    socket.finish_bind().unwrap();
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::InvalidState));
    let own = socket.local_address().unwrap();

    let (incoming, mut outgoing) = socket.stream(None).unwrap();
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert!(incoming.receive(10).unwrap().is_empty());
    let unpermitted = outgoing.send(&[datagram(b"x", Some(peer_addr))]);
    assert!(matches!(unpermitted, Err(Failure::Trap(_))), "{unpermitted:?}");
    assert!(outgoing.send(&[]).is_ok_and(|sent| sent == 0));
    let permit = outgoing.check_send().unwrap();
    assert_eq!(permit, 16);
    let both = [datagram(b"one", Some(peer_addr)), datagram(b"two", Some(stranger_addr))];
    assert_eq!(outgoing.send(&both).unwrap(), 2);
    let mut room = [0; 10];
    assert_eq!(peer.recv_from(&mut room).unwrap(), (3, own));
    assert_eq!(stranger.recv_from(&mut room).unwrap(), (3, own));
    for (bad, expected) in [
        (datagram(b"x", None), ErrorCode::InvalidArgument),
        (datagram(b"x", Some(loopback(0))), ErrorCode::InvalidArgument),
        (datagram(b"x", Some("0.0.0.0:80".parse().unwrap())), ErrorCode::InvalidArgument),
        (datagram(b"x", Some("[::1]:80".parse().unwrap())), ErrorCode::InvalidArgument),
        (datagram(&[0; 65_536], Some(peer_addr)), ErrorCode::DatagramTooLarge),
        (datagram(&[0; 65_535], Some(peer_addr)), ErrorCode::DatagramTooLarge),
    ] {
        outgoing.check_send().unwrap();
        let sent = outgoing.send(&[bad]);
        assert!(matches!(&sent, Err(Failure::Code(code)) if *code == expected), "{sent:?}: {expected:?}");
        // What goes before it goes.
        outgoing.check_send().unwrap();
        assert_eq!(outgoing.send(&[datagram(b"fine", Some(peer_addr)), datagram(b"x", None)]).unwrap(), 1);
        assert_eq!(peer.recv_from(&mut room).unwrap().0, 4);
    }

    // Both have sent something before the socket is associated with one of them.
    peer.send_to(b"early", own).unwrap();
    stranger.send_to(b"strange", own).unwrap();
    let (narrow, mut to_peer) = socket.stream(Some(peer_addr)).unwrap();
    assert_eq!(socket.remote_address(), Ok(peer_addr));
    assert_eq!(socket.local_address(), Ok(own));
    // The streams before these are over.
    assert_eq!(incoming.receive(1).map(drop), Err(ErrorCode::InvalidState));
    assert_eq!(outgoing.check_send(), Err(ErrorCode::InvalidState));
    stranger.send_to(b"stranger", own).unwrap();
    peer.send_to(b"late", own).unwrap();
    let mut heard = Vec::new();
    while heard.len() < 2 {
        let some = narrow.receive(10).unwrap();
        if some.is_empty() {
            bench.turn();
        }
        heard.extend(some.into_iter().map(|datagram| {
            assert_eq!(SocketAddr::from(datagram.remote_address), peer_addr);
            datagram.data
        }));
    }
    assert_eq!(heard, [b"early".to_vec(), b"late".to_vec()]);
    to_peer.check_send().unwrap();
    assert_eq!(to_peer.send(&[datagram(b"plain", None), datagram(b"named", Some(peer_addr))]).unwrap(), 2);
    to_peer.check_send().unwrap();
    let other = to_peer.send(&[datagram(b"x", Some(stranger_addr))]);
    assert!(matches!(other, Err(Failure::Code(ErrorCode::InvalidArgument))), "{other:?}");
    // And back to everyone.
    let (wide, _) = socket.stream(None).unwrap();
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    stranger.send_to(b"again", own).unwrap();
    let mut heard = Vec::new();
    while heard.is_empty() {
        heard = wide.receive(10).unwrap();
        if heard.is_empty() {
            bench.turn();
        }
    }
    assert_eq!(heard[0].data, b"again");
}

#[test]
fn nobody_there_is_told_with_the_next_datagram() {
    let mut bench = Bench::open();
    let gone = std::net::UdpSocket::bind(loopback(0)).unwrap();
    let addr = gone.local_addr().unwrap();
    drop(gone);
    let mut socket = bench.udp();
    socket.start_bind((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
    socket.finish_bind().unwrap();
    let (incoming, mut outgoing) = socket.stream(Some(addr)).unwrap();
    outgoing.check_send().unwrap();
    assert_eq!(outgoing.send(&[datagram(b"x", None)]).unwrap(), 1);
    let received = bench.until(|bench| match incoming.receive(1) {
        Ok(some) if some.is_empty() => {
            let _ = &bench;
            Err(ErrorCode::WouldBlock)
        }
        done => done.map(drop),
    });
    assert_eq!(received, Err(ErrorCode::ConnectionRefused));
}
