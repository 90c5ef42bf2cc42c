//! The order of a TCP socket's operations, its addresses and its options.

use super::*;

#[test]
fn a_listener_goes_through_its_states_in_order() {
    let mut bench = Bench::open();
    let desk = Arc::clone(&bench.state.side.desk);
    let mut socket = bench.tcp();
    let accept = |socket: &TcpSocket| socket.accept(&desk).map(drop);
    // Fresh.
    assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.finish_connect(&desk).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.finish_listen(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState), "it has to be bound before");
    assert_eq!(accept(&socket), Err(ErrorCode::InvalidState));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.shutdown(Shutdown::Both), Err(ErrorCode::InvalidState));
    // A bind that fails leaves it as it was.
    let (_other, taken) = listener();
    assert_eq!(socket.start_bind(taken), Err(ErrorCode::AddressInUse));
    socket.start_bind(loopback(0)).unwrap();
    // Binding.
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.start_connect(taken), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.start_listen(), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.finish_connect(&desk).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    socket.finish_bind().unwrap();
    // Bound.
    let addr = socket.local_address().unwrap();
    assert!(addr.ip() == Ipv4Addr::LOCALHOST && addr.port() != 0, "{addr}");
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::InvalidState));
    assert_eq!(socket.set_backlog(0), Err(ErrorCode::InvalidArgument));
    socket.set_backlog(u64::MAX).unwrap();
    socket.start_listen().unwrap();
    // Beginning to listen.
    assert!(!socket.is_listening());
    assert_eq!(socket.start_connect(taken), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(accept(&socket), Err(ErrorCode::InvalidState));
    socket.finish_listen().unwrap();
    // Listening.
    assert!(socket.is_listening());
    assert_eq!(socket.finish_listen(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.start_connect(taken), Err(ErrorCode::InvalidState));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert_eq!(accept(&socket), Err(ErrorCode::WouldBlock));
    socket.set_backlog(7).unwrap();

    let mut client = TcpStream::connect(addr).unwrap();
    let (accepted, mut reader, _writer) = bench.until(|_| socket.accept(&desk)).unwrap();
    assert_eq!(accepted.remote_address(), Ok(client.local_addr().unwrap()));
    assert_eq!(accepted.local_address(), Ok(addr));
    assert_eq!(accept(&accepted), Err(ErrorCode::InvalidState));
    client.write_all(b"hello").unwrap();
    assert_eq!(bench.read(&mut reader, 100).unwrap(), b"hello");
    assert_eq!(accept(&socket), Err(ErrorCode::WouldBlock));
}

#[test]
fn a_client_goes_through_its_states_in_order() {
    let mut bench = Bench::open();
    let desk = Arc::clone(&bench.state.side.desk);
    let (_listener, addr) = listener();
    let mut socket = bench.tcp();
    socket.start_connect(addr).unwrap();
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::ConcurrencyConflict));
    assert_eq!(socket.finish_bind(), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.remote_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.set_backlog(5), Err(ErrorCode::InvalidState));
    let _streams = bench.finish_connect(&mut socket).unwrap();
    assert_eq!(socket.finish_connect(&desk).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.remote_address(), Ok(addr));
    assert_eq!(socket.local_address().unwrap().ip(), Ipv4Addr::LOCALHOST);
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidState));
    assert_eq!(socket.start_bind(loopback(0)), Err(ErrorCode::InvalidState));
    assert_eq!(socket.start_listen(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.set_backlog(5), Err(ErrorCode::InvalidState));
    assert!(!socket.is_listening());
}

#[test]
fn a_connection_that_fails_closes_its_socket() {
    let mut bench = Bench::open();
    let (listener, addr) = listener();
    drop(listener);
    let mut socket = bench.tcp();
    socket.start_connect(addr).unwrap();
    // Who waits learns that it is over, and not how: that is for who finishes.
    while socket.poll_ready(&std::task::Context::from_waker(std::task::Waker::noop())).is_pending() {
        bench.turn();
    }
    assert_eq!(bench.finish_connect(&mut socket).map(drop), Err(ErrorCode::ConnectionRefused));
    assert_eq!(bench.finish_connect(&mut socket).map(drop), Err(ErrorCode::NotInProgress));
    assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidState));
    assert_eq!(socket.local_address(), Err(ErrorCode::InvalidState));
    assert_eq!(socket.options(options::keep_alive), Err(ErrorCode::InvalidState));
    assert_eq!(bench.sockets(), 0);
}

#[test]
fn addresses_that_nobody_can_be_at_are_refused() {
    let mut bench = Bench::new(&["*:*", "127.0.0.1:*", "[::1]:*"], &["127.0.0.1:*", "[::1]:*"]);
    let table = [
        (Family::V4, "0.0.0.0:80"),
        (Family::V4, "127.0.0.1:0"),
        (Family::V4, "224.0.0.1:80"),
        (Family::V4, "255.255.255.255:80"),
        (Family::V4, "[::1]:80"),
        (Family::V6, "127.0.0.1:80"),
        (Family::V6, "[::]:80"),
        (Family::V6, "[::1]:0"),
        (Family::V6, "[::ffff:127.0.0.1]:80"),
        (Family::V6, "[::127.0.0.1]:80"),
        (Family::V6, "[ff02::1]:80"),
    ];
    for (family, text) in table {
        let addr = text.parse().unwrap();
        let mut socket = TcpSocket::new(&bench.network(), family).unwrap();
        assert_eq!(socket.start_connect(addr), Err(ErrorCode::InvalidArgument), "{text}");
        // It is as it was.
        assert_eq!(socket.finish_connect(&bench.state.side.desk).map(drop), Err(ErrorCode::NotInProgress));
        assert!(socket.options(options::keep_alive).is_ok(), "{text}");
    }
    for (family, text) in [
        (Family::V4, "224.0.0.1:80"),
        (Family::V4, "[::1]:80"),
        (Family::V6, "127.0.0.1:80"),
        (Family::V6, "[::ffff:127.0.0.1]:80"),
        (Family::V6, "[ff02::1]:80"),
    ] {
        let mut socket = TcpSocket::new(&bench.network(), family).unwrap();
        assert_eq!(socket.start_bind(text.parse().unwrap()), Err(ErrorCode::InvalidArgument), "{text}");
    }
}

#[test]
fn options_are_kept_within_bounds() {
    let mut bench = Bench::open();
    let (socket, ..) = bench.connection();
    assert_eq!(socket.options(options::keep_alive), Ok(false));
    socket.options(|fd| options::set_keep_alive(fd, true)).unwrap();
    assert_eq!(socket.options(options::keep_alive), Ok(true));

    let second = 1_000_000_000;
    for (given, kept) in
        [(1, second), (second, second), (90 * second, 90 * second), (u64::MAX, 32_767 * second)]
    {
        socket.options(|fd| options::set_idle_time(fd, given)).unwrap();
        socket.options(|fd| options::set_interval(fd, given)).unwrap();
        assert_eq!(socket.options(options::idle_time), Ok(kept));
        assert_eq!(socket.options(options::interval), Ok(kept));
    }
    socket.options(|fd| options::set_count(fd, u32::MAX)).unwrap();
    assert_eq!(socket.options(options::count), Ok(127));
    socket.options(|fd| options::set_hop_limit(fd, Family::V4, 42)).unwrap();
    assert_eq!(socket.options(|fd| options::hop_limit(fd, Family::V4)), Ok(42));
    for size in [10_000, u64::MAX] {
        socket.options(|fd| options::set_receive_buffer(fd, size)).unwrap();
        socket.options(|fd| options::set_send_buffer(fd, size)).unwrap();
        for kept in [socket.options(options::receive_buffer), socket.options(options::send_buffer)] {
            assert!((10_000..=1 << 20).contains(&kept.unwrap()), "{kept:?}");
        }
    }
    let zero = [
        socket.options(|fd| options::set_idle_time(fd, 0)),
        socket.options(|fd| options::set_interval(fd, 0)),
        socket.options(|fd| options::set_count(fd, 0)),
        socket.options(|fd| options::set_hop_limit(fd, Family::V4, 0)),
        socket.options(|fd| options::set_receive_buffer(fd, 0)),
        socket.options(|fd| options::set_send_buffer(fd, 0)),
    ];
    assert_eq!(zero, [Err(ErrorCode::InvalidArgument); 6]);

    let v6 = TcpSocket::new(&bench.network(), Family::V6).unwrap();
    v6.options(|fd| options::set_hop_limit(fd, Family::V6, 43)).unwrap();
    assert_eq!(v6.options(|fd| options::hop_limit(fd, Family::V6)), Ok(43));
    assert_eq!(v6.options(rustix_only_v6), Ok(true));
}

fn rustix_only_v6(fd: std::os::fd::BorrowedFd<'_>) -> Result<bool, ErrorCode> {
    rustix::net::sockopt::ipv6_v6only(fd).map_err(code)
}
