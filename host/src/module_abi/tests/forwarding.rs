//! `forward` between bodies and sockets, and from a socket to itself.

use std::io::{Read, Write};
use std::thread;

use super::sockets::{TCP, loopback, peer, socket_guest};
use super::*;

#[test]
fn bodies_and_sockets_are_forwarded_to_each_other() {
    let mut bench = loopback();
    // The request's body to a socket, and what comes back to the response: more than any buffer on the way holds.
    let (addr, other) = peer(|mut stream| {
        let mut got = vec![0; 64];
        stream.read_exact(&mut got).unwrap();
        stream.write_all(&got).unwrap();
        got
    });
    let sent: Vec<u8> = (0..64).collect();
    bench.request(&sent, true);
    let calls = format!(
        "{TCP} {HEAD}
        (if (i32.ne (call $move (i32.const 3) (local.get $h)) (i32.const 64)) (then (return (i32.const -1))))
        (if (call $move (i32.const 3) (local.get $h)) (then (return (i32.const -2))))
        (loop $more
            (local.set $n (call $move (local.get $h) (i32.const 4)))
            (local.set $i (i32.add (local.get $i) (local.get $n)))
            (br_if $more (i32.and (i32.gt_s (local.get $n) (i32.const 0)) (i32.lt_s (local.get $i) (i32.const 64)))))
        (if (i32.ne (local.get $i) (i32.const 64)) (then (return (i32.const -3))))
        ;; Full: it is not the socket that is asked.
        (i32.wrap_i64 (call $forward (local.get $h) (i32.const 4) (i64.const 1)))"
    );
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(-EAGAIN));
    assert_eq!(other.join().unwrap(), sent);
    assert_eq!(bench.body(), sent);
}

/// What a guest says before its head, and beyond the length that it declared.
#[test]
fn a_socket_is_forwarded_by_the_rules_of_responses() {
    let mut bench = loopback();
    let hello = || peer(|mut stream| stream.write_all(b"hello").is_ok());
    let forward = "(i32.wrap_i64 (call $forward (local.get $h) (i32.const 4) (i64.const -1)))";
    let readable =
        "(loop $r (br_if $r (i32.eqz (i32.and (call $wait (local.get $h) (i32.const 1)) (i32.const 1)))))";
    let (addr, other) = hello();
    assert_eq!(bench.call(&addr, &format!("{TCP} {readable} {forward}")), Outcome::Returned(-EPROTO));
    assert!(other.join().unwrap());
    for (length, expected) in [(3, -EFBIG), (5, 0)] {
        let (addr, other) = hello();
        bench.request(b"", true);
        // content-length: as many bytes.
        let list = format!(
            "(data (i32.const 2048) \"\\2f\\00\\00\\00\\01\\00\\10\\00\\01\\00\\00\\00\\00\\00\\00\\00\\20\\00\\00\\00\\0e\\00\\00\\00\\2e\\00\\00\\00\\01\\00\\00\\00content-length{length}\")"
        );
        let calls = format!(
            "{TCP} (if (call $response_head (i32.const 200) (i32.const 2048) (i32.const 47)) (then (return (i32.const -1))))
             (if (i32.ne (call $move (local.get $h) (i32.const 4)) (i32.const {length})) (then (return (i32.const -2))))
             (call $move (local.get $h) (i32.const 4))"
        );
        let wat = socket_guest(&addr, &calls).replace("(func $open", &format!("{list} (func $open"));
        let mut runner = bench.runner(&wat);
        assert_eq!(bench.drive(&mut runner), Outcome::Returned(expected), "{length}");
        assert!(other.join().unwrap());
    }
}

#[test]
fn a_socket_is_an_echo_of_itself() {
    let mut bench = loopback();
    const BYTES: usize = 3_000_000;
    let (addr, other) = peer(|mut stream| {
        let mut writer = stream.try_clone().unwrap();
        let sent: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        let bytes = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&bytes).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        got == sent
    });
    let calls = format!(
        "{TCP} (loop $more
            (local.set $n (call $move (local.get $h) (local.get $h)))
            (local.set $i (i32.add (local.get $i) (local.get $n)))
            (br_if $more (i32.gt_s (local.get $n) (i32.const 0))))
        (if (local.get $n) (then (return (local.get $n))))
        (local.get $i)"
    );
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(BYTES as i32));
    assert!(other.join().unwrap(), "what came back is what was sent");
}
