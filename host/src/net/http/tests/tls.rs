//! TLS: who is trusted, what its failures are called, and that connections are kept there too.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::*;

/// An authority, and a server of `name` that it has signed.
struct Signed {
    root: CertificateDer<'static>,
    server: Arc<ServerConfig>,
}

fn signed(name: &str) -> Signed {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Signed { root: authority.der().clone(), server: Arc::new(server) }
}

fn trusting(root: &CertificateDer<'static>) -> Bench {
    Bench::with(
        &["127.0.0.1:*", "localhost:*", "[::1]:*"],
        AppLimits::default(),
        Trust::with(vec![root.clone()]),
    )
}

type Stream = StreamOwned<ServerConnection, TcpStream>;

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Stream {
    let stream = listener.accept().unwrap().0;
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), stream)
}

fn head(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn https(authority: &str) -> Outgoing<'_, [Field<'static>; 0]> {
    Outgoing { https: true, ..get(authority) }
}

#[test]
fn requests_over_one_connection() {
    let signed = signed("localhost");
    let mut bench = trusting(&signed.root);
    let config = Arc::clone(&signed.server);
    let (addr, server) = serve(move |listener| {
        let mut stream = accept(listener, &config);
        for _ in 0..3 {
            head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        }
        (stream.conn.alpn_protocol().map(<[u8]>::to_vec), head(&mut stream))
    });
    let authority = format!("localhost:{}", addr.port());
    for _ in 0..3 {
        let call = send(&bench.network, https(&authority)).unwrap();
        assert_eq!(bench.answer(&call), Ok(Answer { status: 200, body: b"ok".to_vec() }));
        call.close();
        assert_eq!(bench.hub.http.len(), 1);
        bench.next_request();
    }
    bench.hub.http.clear();
    assert_eq!(server.join().unwrap(), (Some(b"http/1.1".to_vec()), None));
}

/// Whatever TLS has decrypted of an answer is read with it: what is left over is nothing, and the connection is kept.
#[test]
fn answers_of_any_size_over_one_connection() {
    const SIZES: [usize; 6] = [10, 50_000, 300_000, 16_384, 10_000, 1];
    let signed = signed("localhost");
    let mut bench = trusting(&signed.root);
    let config = Arc::clone(&signed.server);
    let (addr, server) = serve(move |listener| {
        let mut stream = accept(listener, &config);
        for chunked in [false, true] {
            for size in SIZES {
                head(&mut stream).unwrap();
                let mut answer = match chunked {
                    true => format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{size:x}\r\n"),
                    false => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"),
                }
                .into_bytes();
                answer.resize(answer.len() + size, b'x');
                if chunked {
                    answer.extend_from_slice(b"\r\n0\r\n\r\n");
                }
                stream.write_all(&answer).unwrap();
            }
        }
        head(&mut stream)
    });
    let authority = format!("localhost:{}", addr.port());
    for size in SIZES.into_iter().chain(SIZES) {
        let call = send(&bench.network, https(&authority)).unwrap();
        let answer = bench.answer(&call).unwrap();
        assert_eq!((answer.status, answer.body.len()), (200, size));
        call.close();
        assert_eq!(bench.hub.http.len(), 1, "not kept after {size} bytes");
        bench.next_request();
    }
    bench.hub.http.clear();
    assert_eq!(server.join().unwrap(), None);
}

/// What is written to it leaves in one piece, when the other side is waited for: faster than anybody can decrypt it.
struct AtOnce {
    stream: TcpStream,
    held: Vec<u8>,
}

impl Write for AtOnce {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.held.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Read for AtOnce {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.write_all(&std::mem::take(&mut self.held))?;
        self.stream.read(into)
    }
}

/// Records without a byte of data: they keep the loop only for a while at a time, and in the end the answer comes.
#[test]
fn a_flood_of_tickets() {
    const TICKETS: usize = 12_000;
    /// One in a record, which has five bytes of its own: what is whole is not kept for what follows.
    const RECORD_BYTES: usize = 81 + 5;
    /// What a turn takes at most, and what may come on top of that in one read.
    const TURN_BYTES: usize = (32 + 4) * 1024;
    let signed = signed("localhost");
    let limits = AppLimits { socket_bytes_max: 1 << 40, ..AppLimits::default() };
    let rules = ["127.0.0.1:*", "localhost:*", "[::1]:*"];
    let mut bench = Bench::with(&rules, limits, Trust::with(vec![signed.root.clone()]));
    let mut config = (*signed.server).clone();
    config.send_tls13_tickets = TICKETS;
    config.max_fragment_size = Some(RECORD_BYTES);
    let config = Arc::new(config);
    let (listener, addr) = listener();
    // Segments as they come over a real net: the window opens again before all of it was taken.
    socket2::SockRef::from(&listener).set_tcp_mss(1_400).unwrap();
    let server = std::thread::spawn(move || {
        let Stream { conn, sock: stream } = accept(&listener, &config);
        let mut stream = StreamOwned::new(conn, AtOnce { stream, held: Vec::new() });
        head(&mut stream).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        head(&mut stream)
    });
    let authority = format!("localhost:{}", addr.port());
    let call = send(&bench.network, https(&authority)).unwrap();
    let (mut most, mut moved) = (0, 0);
    let began = Instant::now();
    let left = |bench: &Bench| bench.network.allowance(usize::MAX).unwrap();
    // Nobody polls: an event and a timer are two goes at most.
    while call.failure().is_none() && call.with_head(ResponseHead::status) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "{moved} bytes, and no answer");
        let before = left(&bench);
        turn_for(&mut bench.poll, &bench.hub, 10);
        let taken = before - left(&bench);
        (most, moved) = (most.max(taken), moved + taken);
    }
    assert_eq!(bench.answer(&call), Ok(Answer { status: 200, body: b"ok".to_vec() }));
    assert!(moved > 4 * TURN_BYTES, "{moved} bytes are no flood");
    assert!(most <= 2 * TURN_BYTES, "{most} bytes of TLS in one turn");
    call.close();
    bench.hub.http.clear();
    assert_eq!(server.join().unwrap(), None);
}

#[test]
fn sessions_are_resumed() {
    let signed = signed("localhost");
    let mut bench = trusting(&signed.root);
    let config = Arc::clone(&signed.server);
    let (addr, server) = serve(move |listener| {
        let mut kinds = Vec::new();
        for _ in 0..2 {
            let mut stream = accept(listener, &config);
            head(&mut stream).unwrap();
            kinds.push(stream.conn.handshake_kind().unwrap());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            head(&mut stream);
        }
        kinds
    });
    let authority = format!("localhost:{}", addr.port());
    for _ in 0..2 {
        let call = send(&bench.network, https(&authority)).unwrap();
        assert_eq!(bench.head(&call), Ok(200));
    }
    assert_eq!(server.join().unwrap(), [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}

#[test]
fn large_bodies() {
    const BYTES: usize = 3_000_000;
    let signed = signed("localhost");
    let mut bench = trusting(&signed.root);
    let config = Arc::clone(&signed.server);
    let (addr, server) = serve(move |listener| {
        let mut stream = accept(listener, &config);
        head(&mut stream).unwrap();
        let mut body = vec![0; BYTES];
        stream.read_exact(&mut body).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
        head(&mut stream);
    });
    let authority = format!("localhost:{}", addr.port());
    let request = Outgoing { method: "PUT", body: Body::Known(BYTES as u64), ..https(&authority) };
    let call = send(&bench.network, request).unwrap();
    let data: Vec<u8> = (0..BYTES).map(|i| u8::try_from(i % 253).unwrap()).collect();
    bench.write_all(&call, &data).unwrap();
    call.finish([]).unwrap();
    let answer = bench.answer(&call).unwrap();
    assert!(answer.status == 200 && answer.body == data);
    call.close();
    bench.hub.http.clear();
    server.join().unwrap();
}

#[test]
fn who_is_not_trusted() {
    let here = signed("localhost");
    let elsewhere = signed("elsewhere.example");
    // Nobody's authority, and another one's name.
    for (bench, config) in
        [(Bench::new(), Arc::clone(&here.server)), (trusting(&elsewhere.root), Arc::clone(&elsewhere.server))]
    {
        let mut bench = bench;
        let (addr, server) = serve(move |listener| head(&mut accept(listener, &config)));
        let authority = format!("localhost:{}", addr.port());
        let call = send(&bench.network, https(&authority)).unwrap();
        let failure = bench.head(&call).unwrap_err();
        assert!(matches!(failure, Failure::TlsCertificateError(_)), "{failure:?}");
        assert_eq!(server.join().unwrap(), None, "not a byte of the request was sent");
        assert_eq!((bench.tally.sockets(), bench.hub.sockets()), (0, 0));
    }
}

#[test]
fn servers_that_do_not_speak_it() {
    let (addr, server) = serve(|listener| {
        let mut stream = listener.accept().unwrap().0;
        let _ = stream.read(&mut [0; 4096]);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let mut bench = Bench::new();
    let authority = addr.to_string();
    let call = send(&bench.network, https(&authority)).unwrap();
    let failure = bench.head(&call).unwrap_err();
    assert!(matches!(failure, Failure::TlsProtocolError(_)), "{failure:?}");
    server.join().unwrap();
    // One that never answers.
    let (listener, addr) = listener();
    let authority = addr.to_string();
    let call = send(&bench.network, Outgoing { timeouts: short(), ..https(&authority) }).unwrap();
    assert_eq!(bench.head(&call), Err(Failure::ConnectionTimeout));
    drop(listener);
}

#[test]
fn an_alert_is_told() {
    let signed = signed("localhost");
    let mut config = (*signed.server).clone();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let (addr, server) = serve(move |listener| head(&mut accept(listener, &config)));
    let mut bench = trusting(&signed.root);
    let authority = format!("localhost:{}", addr.port());
    let call = send(&bench.network, https(&authority)).unwrap();
    let failure = bench.head(&call).unwrap_err();
    assert!(matches!(failure, Failure::TlsAlertReceived { id: 120, .. }), "{failure:?}");
    server.join().unwrap();
}

/// Bytes until the end of the connection: without the end that TLS has for it, anybody could have cut it.
#[test]
fn an_end_without_its_alert_is_none() {
    for clean in [true, false] {
        let signed = signed("localhost");
        let mut bench = trusting(&signed.root);
        let config = Arc::clone(&signed.server);
        let (addr, server) = serve(move |listener| {
            let mut stream = accept(listener, &config);
            head(&mut stream).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nabc").unwrap();
            if clean {
                stream.conn.send_close_notify();
            }
            stream.flush().unwrap();
        });
        let authority = format!("localhost:{}", addr.port());
        let call = send(&bench.network, https(&authority)).unwrap();
        assert_eq!(bench.head(&call), Ok(200));
        let end = if clean { Ok(()) } else { Err(Failure::HttpResponseIncomplete) };
        assert_eq!(bench.body(&call), (b"abc".to_vec(), end));
        server.join().unwrap();
    }
}

/// What TLS holds back while the server reads nothing goes on when it does.
#[test]
fn a_server_that_stops_and_goes_on() {
    const BYTES: usize = 8_000_000;
    let signed = signed("localhost");
    let mut bench = trusting(&signed.root);
    let config = Arc::clone(&signed.server);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let (addr, server) = serve(move |listener| {
        let mut stream = accept(listener, &config);
        head(&mut stream).unwrap();
        let mut body = vec![0; BYTES];
        for part in body.chunks_mut(BYTES / 4) {
            wait.recv().unwrap();
            stream.read_exact(part).unwrap();
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        head(&mut stream);
        body
    });
    let authority = format!("localhost:{}", addr.port());
    let request = Outgoing { method: "PUT", body: Body::Known(BYTES as u64), ..https(&authority) };
    let call = send(&bench.network, request).unwrap();
    let data: Vec<u8> = (0..BYTES).map(|i| u8::try_from(i % 249).unwrap()).collect();
    let (mut sent, mut gone) = (0, 0);
    let noop = &mut Context::from_waker(Waker::noop());
    while sent < BYTES {
        match call.write(&data[sent..]).unwrap() {
            0 if call.poll_writable(noop).is_ready() => {}
            0 if gone < 4 => {
                go.send(()).unwrap();
                gone += 1;
                bench.wait(|cx| call.poll_writable(cx));
            }
            0 => bench.wait(|cx| call.poll_writable(cx)),
            n => sent += n,
        }
    }
    call.finish([]).unwrap();
    for _ in gone..4 {
        go.send(()).unwrap();
    }
    assert_eq!(bench.head(&call), Ok(200));
    drop(call);
    assert!(server.join().unwrap() == data);
}
