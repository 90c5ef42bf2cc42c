//! What the streams of a connection keep, lose and tell.

use super::*;

/// The guest writes as much as is permitted, and then does something else.
#[test]
fn what_was_written_leaves_by_itself() {
    let mut bench = Bench::open();
    let (socket, _reader, mut writer, mut peer) = bench.connection();
    let written = bench.fill(&mut writer);
    assert!(matches!(writer.check_write(), Ok(0)));
    let reading = std::thread::spawn(move || {
        let mut all = vec![0; written];
        peer.read_exact(&mut all).unwrap();
        (peer, all)
    });
    while !reading.is_finished() {
        turn_if_any(&mut bench);
    }
    let (mut peer, all) = reading.join().unwrap();
    assert!(
        all.iter().enumerate().all(|(at, byte)| *byte == at as u8),
        "{written} bytes came, but not those"
    );

    // The end comes behind everything else.
    let more = bench.fill(&mut writer);
    socket.shutdown(Shutdown::Write).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
    assert!(matches!(writer.write(vec![1].into()), Err(StreamError::Closed)));
    let reading = std::thread::spawn(move || {
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        all.len()
    });
    while !reading.is_finished() {
        turn_if_any(&mut bench);
    }
    assert_eq!(reading.join().unwrap(), more);
}

/// A turn that does not insist on an event.
fn turn_if_any(bench: &mut Bench) {
    let mut events = mio::Events::with_capacity(8);
    bench.poll.poll(&mut events, Some(Duration::from_millis(1))).unwrap();
    for event in &events {
        let crate::reactor::token::Source::Net(slot) = crate::reactor::token::Source::of(event.token())
        else {
            panic!("an event of another's")
        };
        bench.hub.take_event(slot, event);
    }
}

#[test]
fn more_than_the_permit_is_a_trap() {
    let mut bench = Bench::open();
    let (_socket, _reader, mut writer, _peer) = bench.connection();
    let permit = writer.check_write().unwrap();
    assert!(matches!(writer.write(vec![0; permit + 1].into()), Err(StreamError::Trap(_))));
    bench.fill(&mut writer);
    assert!(matches!(writer.write(vec![0].into()), Err(StreamError::Trap(_))));
    assert!(writer.write(Vec::new().into()).is_ok());
    assert!(writer.flush().is_ok());
}

#[test]
fn a_reader_comes_to_the_end_and_stays_there() {
    let mut bench = Bench::open();
    let (_socket, mut reader, _writer, mut peer) = bench.connection();
    assert!(reader.read(0).unwrap().is_empty());
    assert!(reader.read(10).unwrap().is_empty());
    peer.write_all(b"hello, world").unwrap();
    assert_eq!(bench.read(&mut reader, 5).unwrap(), b"hello");
    assert_eq!(bench.read(&mut reader, usize::MAX).unwrap(), b", world");
    peer.write_all(&vec![7; 300_000]).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    let mut count = 0;
    let end = loop {
        match bench.read(&mut reader, usize::MAX) {
            Ok(bytes) => {
                assert!(bytes.len() <= 64 << 10 && bytes.iter().all(|byte| *byte == 7));
                count += bytes.len();
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(end, StreamError::Closed), "{end:?}");
    assert_eq!(count, 300_000);
    assert!(matches!(reader.read(1), Err(StreamError::Closed)));
}

#[test]
fn a_reset_is_told_once() {
    let mut bench = Bench::open();
    let (_socket, mut reader, mut writer, peer) = bench.connection();
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    assert_eq!(failure(bench.read(&mut reader, 10)), Some(ErrorCode::ConnectionReset));
    assert!(matches!(reader.read(10), Err(StreamError::Closed)));
    // The system has told it by now; what is written goes nowhere.
    writer.check_write().unwrap();
    assert_eq!(failure(writer.write(vec![1].into())), None);
    assert!(matches!(writer.check_write(), Err(StreamError::Closed)));

    let (_socket, _reader, mut writer, peer) = bench.connection();
    bench.fill(&mut writer);
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
    bench.turn();
    assert_eq!(failure(writer.check_write()), Some(ErrorCode::ConnectionReset));
    assert!(matches!(writer.check_write(), Err(StreamError::Closed)));
    assert!(matches!(writer.flush(), Err(StreamError::Closed)));
}

#[test]
fn a_connection_ends_with_its_socket() {
    let mut bench = Bench::open();
    let (socket, mut reader, mut writer, mut peer) = bench.connection();
    writer.check_write().unwrap();
    writer.write(b"all".to_vec().into()).unwrap();
    drop(writer);
    let mut three = [0; 3];
    peer.read_exact(&mut three).unwrap();
    peer.write_all(b"back").unwrap();
    assert_eq!(bench.read(&mut reader, 10).unwrap(), b"back");
    peer.set_nonblocking(true).unwrap();
    let early = peer.read(&mut three);
    assert!(early.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
    peer.set_nonblocking(false).unwrap();
    drop((reader, socket));
    assert_eq!(peer.read(&mut three).unwrap(), 0);
    assert_eq!(bench.sockets(), 0);
}

#[test]
fn a_reader_can_be_shut_by_its_own_side() {
    let mut bench = Bench::open();
    let (socket, mut reader, mut writer, mut peer) = bench.connection();
    peer.write_all(b"unread").unwrap();
    socket.shutdown(Shutdown::Read).unwrap();
    assert!(matches!(reader.read(10), Err(StreamError::Closed)));
    writer.check_write().unwrap();
    writer.write(b"still".to_vec().into()).unwrap();
    let mut five = [0; 5];
    peer.read_exact(&mut five).unwrap();
    assert_eq!(&five, b"still");
    socket.shutdown(Shutdown::Both).unwrap();
    assert_eq!(peer.read(&mut five).unwrap(), 0);
}
