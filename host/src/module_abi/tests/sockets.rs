//! Sockets and lookups of a guest, over loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use tidegate_abi::poll::{ERROR, HANGUP, READABLE, WRITABLE};

use super::*;
use crate::net::hub::tests::turn_for;
use crate::net::tcp::AcceptedTcp;

/// Where the texts of addresses stand in a guest's memory, and where there is room.
pub(super) const TEXT: u32 = 1024;
pub(super) const ROOM: u32 = 4096;

/// A guest with `address` at 1024 and functions for what is done all the time. `$h` and `$n` are for `calls`.
pub(super) fn socket_guest(address: &str, calls: &str) -> String {
    let text: String = address.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let functions = format!(
        r#"(data (i32.const {TEXT}) "{text}")
        (func $open (param $kind i32) (result i32)
            (call $connect (local.get $kind) (i32.const {TEXT}) (i32.const {len})))
        (func $wait (param $handle i32) (param $interest i32) (result i32)
            (i32.store (i32.const 512) (local.get $handle))
            (i32.store (i32.const 516) (local.get $interest))
            (drop (call $poll (i32.const 512) (i32.const 1) (i64.const -1)))
            (i32.load16_u (i32.const 518)))
        (func $get (param $handle i32) (param $cap i32) (result i32) (local $n i32)
            (loop $again
                (local.set $n (call $read (local.get $handle) (i32.const {ROOM}) (local.get $cap)))
                (if (i32.eq (local.get $n) (i32.const -6))
                    (then (drop (call $wait (local.get $handle) (i32.const 1))) (br $again))))
            (local.get $n))
        (func $put (param $handle i32) (param $at i32) (param $len i32) (result i32) (local $n i32)
            (loop $again
                (local.set $n (call $write (local.get $handle) (local.get $at) (local.get $len)))
                (if (i32.eq (local.get $n) (i32.const -6))
                    (then (drop (call $wait (local.get $handle) (i32.const 2))) (br $again))))
            (local.get $n))
        (func $move (param $from i32) (param $to i32) (result i32) (local $n i32)
            (loop $again
                (local.set $n (i32.wrap_i64 (call $forward (local.get $from) (local.get $to) (i64.const -1))))
                (if (i32.eq (local.get $n) (i32.const -6))
                    (then
                        (drop (call $wait (local.get $from) (i32.const 1)))
                        (drop (call $wait (local.get $to) (i32.const 2)))
                        (br $again))))
            (local.get $n))
        (func (export "tidegate_handle") (result i32) (local $h i32) (local $i i32) (local $n i32) {calls}))"#,
        len = address.len()
    );
    let whole = guest("");
    let (imports, _) = whole.split_once(r#"(func (export "tidegate_handle")"#).unwrap();
    format!("{imports}{functions}")
}

impl Bench {
    /// Runs `runner` and the loop until the call is over.
    pub(super) fn drive(&mut self, runner: &mut Runner) -> Outcome {
        let give_up = self.loader.clock.now() + 20_000 * MS;
        while self.loader.clock.now() < give_up {
            self.exchange.slice.begin(self.loader.clock.now(), thread_cpu());
            match runner.poll() {
                Ran::Done(outcome, _) => return outcome,
                Ran::Pending => turn_for(&mut self.poll, &self.outside.hub, 5),
                Ran::Panicked(text) => panic!("the host panicked: {text}"),
            }
        }
        panic!("it does not end: {:?}", self.exchange.lock().park);
    }

    /// Runs a guest for whom `address` stands at 1024.
    pub(super) fn call(&mut self, address: &str, calls: &str) -> Outcome {
        let mut runner = self.runner(&socket_guest(address, calls));
        let outcome = self.drive(&mut runner);
        assert_eq!(self.outside.hub.sockets(), 0, "everything is closed with the call: {calls}");
        assert_eq!(self.tally.sockets(), 0, "{calls}");
        outcome
    }

    /// What has been written as the response's body.
    pub(super) fn body(&self) -> Vec<u8> {
        self.exchange.lock().response.pipe.peek().concat()
    }
}

const LOOPBACK: &[&str] = &["127.0.0.1:*", "udp:127.0.0.1:*", "localhost:*", "udp:localhost:*"];

pub(super) fn loopback() -> Bench {
    let mut bench = Bench::allowing(LOOPBACK);
    bench.request(b"", true);
    bench
}

/// A listener, and what a thread that has one connection came to.
pub(super) fn peer<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    (addr, thread::spawn(move || talk(listener.accept().unwrap().0)))
}

/// A port that nobody listens at.
pub(super) fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A reset instead of an end.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(super) const TCP: &str = "(local.set $h (call $open (i32.const 0)))";
const UDP: &str = "(local.set $h (call $open (i32.const 1)))";

#[test]
fn what_can_not_be_opened_has_its_error() {
    let mut bench = loopback();
    let long = format!("{}:80", "a".repeat(320));
    for (address, expected) in [
        ("", -EINVAL),
        ("localhost", -EINVAL),
        (":80", -EINVAL),
        ("localhost:", -EINVAL),
        ("localhost:0", -EINVAL),
        ("localhost:+80", -EINVAL),
        ("localhost:65536", -EINVAL),
        ("::1:80", -EINVAL),
        ("[::1:80", -EINVAL),
        ("[127.0.0.1]:80", -EINVAL),
        (&long, -EINVAL),
        ("\u{e4}.example:80", -EACCES),
        // No rule.
        ("127.0.0.2:80", -EACCES),
        ("[fd00::1]:80", -EACCES),
        ("[::ffff:127.0.0.2]:80", -EACCES),
        ("10.0.0.1:80", -EACCES),
        ("169.254.169.254:80", -EACCES),
        ("0.0.0.0:80", -EACCES),
        ("db.example:5432", -EACCES),
    ] {
        for kind in [TCP, UDP] {
            let outcome = bench.call(address, &format!("{kind} (local.get $h)"));
            assert_eq!(outcome, Outcome::Returned(expected), "{address:?}");
        }
    }
    let other = bench.call("127.0.0.1:1", "(call $open (i32.const 2))");
    assert_eq!(other, Outcome::Returned(-EINVAL), "a kind of a later version");
    let lookup = |len: usize| format!("(call $resolve (i32.const {TEXT}) (i32.const {len}))");
    assert_eq!(bench.call("", &lookup(0)), Outcome::Returned(-EINVAL));
    assert_eq!(bench.call(&long, &lookup(321)), Outcome::Returned(-EINVAL));
    assert_eq!(bench.call("db.example", &lookup(10)), Outcome::Returned(-EACCES));
}

#[test]
fn without_a_rule_nothing_is_reached() {
    let mut bench = Bench::new();
    bench.request(b"", true);
    for address in ["127.0.0.1:1", "localhost:80", "8.8.8.8:53"] {
        let denied = bench.call(address, "(call $open (i32.const 0))");
        assert_eq!(denied, Outcome::Returned(-EACCES), "{address}");
    }
}

#[test]
fn a_socket_is_written_and_read_to_its_end() {
    let mut bench = loopback();
    let (addr, other) = peer(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        stream.write_all(b"and back").unwrap();
        text
    });
    let calls = format!(
        "{TCP}
        (if (i32.ne (call $put (local.get $h) (i32.const {TEXT}) (i32.const 9)) (i32.const 9)) (then (return (i32.const -101))))
        (if (call $finish (local.get $h) (i32.const 0) (i32.const 0)) (then (return (i32.const -102))))
        (if (i32.ne (call $finish (local.get $h) (i32.const 0) (i32.const 0)) (i32.const -{EALREADY}))
            (then (return (i32.const -103))))
        (if (i32.ne (call $write (local.get $h) (i32.const 0) (i32.const 1)) (i32.const -{EPIPE}))
            (then (return (i32.const -104))))
        (local.set $n (call $get (local.get $h) (i32.const 64)))
        (if (call $get (local.get $h) (i32.const 64)) (then (return (i32.const -105))))
        (if (call $get (local.get $h) (i32.const 64)) (then (return (i32.const -106))))
        (if (call $error (local.get $h)) (then (return (i32.const -107))))
        (local.get $n)"
    );
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(8));
    assert_eq!(other.join().unwrap(), addr[..9]);
}

#[test]
fn handles_do_what_they_can_and_nothing_else() {
    let mut bench = loopback();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    let resolve =
        format!("(local.set $h (call $resolve (i32.const {TEXT}) (i32.const {})))", addr.rfind(':').unwrap());
    for (calls, expected) in [
        (format!("{UDP} (call $finish (local.get $h) (i32.const 0) (i32.const 0))"), -ENOTSUP),
        (format!("{UDP} (call $trailers (local.get $h) (i32.const 0) (i32.const 0))"), -ENOTSUP),
        (format!("{UDP} (call $address (local.get $h) (i32.const 2) (i32.const 0) (i32.const 0))"), -EINVAL),
        (format!("{UDP} (call $head (local.get $h) (i32.const 0) (i32.const 0))"), -ENOTSUP),
        (
            format!("{UDP} (i32.wrap_i64 (call $forward (local.get $h) (i32.const 4) (i64.const 1)))"),
            -ENOTSUP,
        ),
        (
            format!("{UDP} (i32.wrap_i64 (call $forward (i32.const 3) (local.get $h) (i64.const 1)))"),
            -ENOTSUP,
        ),
        (
            format!("{UDP} (i32.wrap_i64 (call $forward (local.get $h) (local.get $h) (i64.const 1)))"),
            -ENOTSUP,
        ),
        (format!("{UDP} (i32.wrap_i64 (call $forward (i32.const 4) (local.get $h) (i64.const 1)))"), -EBADF),
        (format!("{UDP} (call $read (local.get $h) (i32.const 0) (i32.const 0))"), -EINVAL),
        (format!("{UDP} (call $read (local.get $h) (i32.const 0) (i32.const 9))"), -EAGAIN),
        (
            format!(
                "{UDP} (drop (call $close (local.get $h))) (call $write (local.get $h) (i32.const 0) (i32.const 9))"
            ),
            -EBADF,
        ),
        (format!("{resolve} (call $write (local.get $h) (i32.const 0) (i32.const 1))"), -EBADF),
        (format!("{resolve} (call $finish (local.get $h) (i32.const 0) (i32.const 0))"), -EBADF),
        (format!("{resolve} (call $read (local.get $h) (i32.const 0) (i32.const 19))"), -EINVAL),
        (
            format!("{resolve} (call $address (local.get $h) (i32.const 0) (i32.const 0) (i32.const 0))"),
            -ENOTSUP,
        ),
        (format!("{resolve} (call $error (local.get $h))"), 0),
        (format!("{resolve} (call $wait (local.get $h) (i32.const 3))"), i32::from(READABLE)),
        (format!("{resolve} (local.get $h)"), 5),
        // A number is not given again.
        (format!("{resolve} (drop (call $close (local.get $h))) {resolve} (local.get $h)"), 6),
    ] {
        assert_eq!(bench.call(&addr, &calls), Outcome::Returned(expected), "{calls}");
    }
}

#[test]
fn addresses_are_told_where_there_is_room() {
    let mut bench = loopback();
    let (addr, other) = peer(|stream| stream.peer_addr().unwrap().to_string());
    let tell = |which: u32, cap: u32| {
        format!("(call $address (local.get $h) (i32.const {which}) (i32.const {ROOM}) (i32.const {cap}))")
    };
    let say = |which| format!("(drop (call $write (i32.const 4) (i32.const {ROOM}) {}))", tell(which, 64));
    let calls = format!(
        "{TCP} {HEAD} (drop (call $wait (local.get $h) (i32.const 2)))
         (drop {}) (if (i32.load8_u (i32.const {ROOM})) (then (return (i32.const -1))))
         {} {} {}",
        tell(1, 8),
        say(0),
        say(1),
        tell(1, 0)
    );
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(i32::try_from(addr.len()).unwrap()));
    let told = String::from_utf8(bench.body()).unwrap();
    assert_eq!(told, other.join().unwrap() + &addr);
}

#[test]
fn nobody_there_is_told_once_and_for_ever() {
    let mut bench = loopback();
    let again = |call: &str| {
        format!(
            "{TCP} (if (i32.lt_s (local.get $h) (i32.const 0)) (then (return (local.get $h))))
             (drop (call $wait (local.get $h) (i32.const 0))) {call}"
        )
    };
    for call in [
        "(call $read (local.get $h) (i32.const 0) (i32.const 8))",
        "(call $write (local.get $h) (i32.const 0) (i32.const 8))",
        "(call $finish (local.get $h) (i32.const 0) (i32.const 0))",
        "(call $address (local.get $h) (i32.const 1) (i32.const 0) (i32.const 0))",
        "(i32.sub (i32.const 0) (call $error (local.get $h)))",
        "(i32.wrap_i64 (call $forward (local.get $h) (local.get $h) (i64.const 8)))",
    ] {
        // By its address it may be told by the very call that connects, by its name it is not.
        let addr = nobody();
        assert_eq!(bench.call(&addr, &again(call)), Outcome::Returned(-ECONNREFUSED), "{call}");
        let named = addr.replace("127.0.0.1", "localhost");
        assert_eq!(bench.call(&named, &again(call)), Outcome::Returned(-ECONNREFUSED), "{call}");
    }
}

#[test]
fn bytes_come_before_the_reset_and_then_it_stays() {
    let mut bench = loopback();
    for (last, expected) in [
        ("(call $get (local.get $h) (i32.const 64))", -ECONNRESET),
        ("(i32.sub (i32.const 0) (call $error (local.get $h)))", -ECONNRESET),
        ("(call $write (local.get $h) (i32.const 0) (i32.const 1))", -ECONNRESET),
        ("(call $wait (local.get $h) (i32.const 1))", i32::from(READABLE | ERROR | HANGUP)),
        ("(call $wait (local.get $h) (i32.const 0))", i32::from(ERROR | HANGUP)),
    ] {
        let (addr, other) = peer(|mut stream| {
            // The guest has said something that was never read: closing is a reset then, too.
            let mut first = [0; 1];
            stream.read_exact(&mut first).unwrap();
            stream.write_all(b"12345").unwrap();
            reset(stream);
        });
        // The end of the connection is waited for before a byte is read.
        let calls = format!(
            "{TCP} (drop (call $put (local.get $h) (i32.const 0) (i32.const 1)))
            (loop $dead
                (br_if $dead (i32.eqz (i32.and (call $wait (local.get $h) (i32.const 0)) (i32.const {HANGUP})))))
            (if (i32.ne (call $read (local.get $h) (i32.const {ROOM}) (i32.const 64)) (i32.const 5))
                (then (return (i32.const -100))))
            (if (i32.ne (call $read (local.get $h) (i32.const {ROOM}) (i32.const 64)) (i32.const -{ECONNRESET}))
                (then (return (i32.const -101))))
            {last}"
        );
        assert_eq!(bench.call(&addr, &calls), Outcome::Returned(expected), "{last}");
        other.join().unwrap();
    }
}

#[test]
fn a_datagram_is_read_whole_or_cut_and_is_no_end() {
    let mut bench = loopback();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    let other = thread::spawn(move || {
        let mut into = [0; 64];
        let (n, from) = socket.recv_from(&mut into).unwrap();
        for datagram in [&b"twenty bytes of text"[..], b"", b"three"] {
            socket.send_to(datagram, from).unwrap();
        }
        into[..n].to_vec()
    });
    let get = "(call $get (local.get $h) (i32.const 8))";
    let calls = format!(
        "{UDP} (if (i32.ne (call $put (local.get $h) (i32.const {TEXT}) (i32.const 4)) (i32.const 4)) (then (return (i32.const -1))))
         (if (i32.ne {get} (i32.const 8)) (then (return (i32.const -2))))
         (if (i32.ne {get} (i32.const 0)) (then (return (i32.const -3))))
         {get}"
    );
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(5));
    assert_eq!(other.join().unwrap(), b"127.");
    // Too large for any datagram; one that is longer than memory is a trap.
    let large = format!("{UDP} (call $write (local.get $h) (i32.const 0) (i32.const 65536))");
    assert_eq!(bench.call("127.0.0.1:9", &large), Outcome::Returned(-EMSGSIZE));
}

#[test]
fn a_datagram_that_nobody_takes_breaks_nothing() {
    let mut bench = loopback();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    drop(socket);
    // It is told, once; and then the guest waits for its two milliseconds instead of being called again and again.
    let calls = format!(
        "{UDP} (drop (call $read (local.get $h) (i32.const 0) (i32.const 8)))
         (drop (call $write (local.get $h) (i32.const 0) (i32.const 4)))
         (if (i32.ne (call $wait (local.get $h) (i32.const 1)) (i32.const 1)) (then (return (i32.const -3))))
         (if (i32.ne (call $get (local.get $h) (i32.const 8)) (i32.const -{ECONNREFUSED})) (then (return (i32.const -1))))
         (if (i32.ne (call $read (local.get $h) (i32.const 0) (i32.const 8)) (i32.const -{EAGAIN})) (then (return (i32.const -2))))
         (i32.store (i32.const 512) (local.get $h))
         (i32.store (i32.const 516) (i32.const 1))
         (call $poll (i32.const 512) (i32.const 1) (i64.const 2000000))"
    );
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(0));
}

#[test]
fn names_lead_to_sockets_and_addresses() {
    let mut bench = loopback();
    let (addr, other) = peer(|mut stream| stream.write_all(b"hello").is_ok());
    let named = addr.replace("127.0.0.1", "localhost");
    let calls = format!("{TCP} (call $get (local.get $h) (i32.const 8))");
    assert_eq!(bench.call(&named, &calls), Outcome::Returned(5));
    assert!(other.join().unwrap());

    // 127.0.0.1 and ::1, one at a time, and then the end.
    let get = "(call $get (local.get $h) (i32.const 39))";
    let say = format!("(drop (call $write (i32.const 4) (i32.const {ROOM}) (i32.const 20)))");
    let calls = format!(
        "{HEAD} (local.set $h (call $resolve (i32.const {TEXT}) (i32.const 9)))
        (if (i32.ne {get} (i32.const 20)) (then (return (i32.const -1)))) {say}
        (if (i32.ne {get} (i32.const 20)) (then (return (i32.const -2)))) {say}
        {get}"
    );
    assert_eq!(bench.call("localhost", &calls), Outcome::Returned(0));
    let mut expected = [0; 40];
    expected[..8].copy_from_slice(&[4, 0, 0, 0, 127, 0, 0, 1]);
    (expected[20], expected[39]) = (6, 1);
    assert_eq!(bench.body(), expected);
    // An address needs no rule and no looking up.
    bench.request(b"", true);
    let calls = format!("(call $get (call $resolve (i32.const {TEXT}) (i32.const 11)) (i32.const 400))");
    assert_eq!(bench.call("2001:db8::1", &calls), Outcome::Returned(20));
}

#[test]
fn a_call_has_so_many_handles_and_no_more() {
    let mut bench = loopback();
    let resolve = format!("(call $resolve (i32.const {TEXT}) (i32.const 9))");
    let calls = format!(
        "(loop $more
            (local.set $n {resolve})
            (local.set $i (i32.add (local.get $i) (i32.const 1)))
            (br_if $more (i32.gt_s (local.get $n) (i32.const 0))))
         (if (i32.ne (local.get $n) (i32.const -{EMFILE})) (then (return (local.get $n))))
         (drop (call $close (i32.const 7)))
         (if (i32.lt_s {resolve} (i32.const 0)) (then (return (i32.const -1))))
         (if (i32.ne (call $open (i32.const 1)) (i32.const -{EMFILE})) (then (return (i32.const -2))))
         (local.get $i)"
    );
    assert_eq!(bench.call("127.0.0.1:9", &calls), Outcome::Returned(257));
}

#[test]
fn limits_of_an_app_are_errors_of_its_calls() {
    let limits = AppLimits { sockets_max: 1, socket_bytes_max: 6, ..AppLimits::default() };
    let mut bench = Bench::with(LOOPBACK, limits);
    bench.request(b"", true);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    let calls = format!("{UDP} (call $open (i32.const 0))");
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(-EMFILE));
    let write = "(call $write (local.get $h) (i32.const 0) (i32.const 4))";
    let calls = format!("{UDP} (drop {write}) {write}");
    assert_eq!(bench.call(&addr, &calls), Outcome::Returned(-EDQUOT));
}

#[test]
fn a_guest_that_waits_for_a_socket_is_woken_by_it() {
    let mut bench = loopback();
    let (tell, told) = std::sync::mpsc::channel::<()>();
    let (addr, other) = peer(move |mut stream| {
        told.recv().unwrap();
        stream.write_all(b"x").unwrap();
    });
    let calls = format!("{TCP} (call $get (local.get $h) (i32.const 8))");
    let mut runner = bench.runner(&socket_guest(&addr, &calls));
    let woken = Arc::new(Woken::default());
    let waker = std::task::Waker::from(Arc::clone(&woken));
    // Until it waits, and nothing wakes it any more.
    let mut quiet = 0;
    while quiet < 3 {
        bench.exchange.slice.begin(bench.loader.clock.now(), thread_cpu());
        assert!(matches!(runner.poll_with(&waker), Ran::Pending));
        turn_for(&mut bench.poll, &bench.outside.hub, 20);
        quiet = if woken.take() { 0 } else { quiet + 1 };
    }
    let park = bench.exchange.lock().park.unwrap();
    assert!(!park.readable && !park.writable && park.until.is_none(), "{park:?}");
    tell.send(()).unwrap();
    let give_up = bench.loader.clock.now() + 20_000 * MS;
    while !woken.take() {
        assert!(bench.loader.clock.now() < give_up, "it was not woken");
        turn_for(&mut bench.poll, &bench.outside.hub, 20);
    }
    assert_eq!(bench.drive(&mut runner), Outcome::Returned(1));
    other.join().unwrap();
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl Woken {
    fn take(&self) -> bool {
        self.0.swap(false, std::sync::atomic::Ordering::AcqRel)
    }
}

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::Release);
    }
}

#[test]
fn what_a_guest_leaves_open_is_closed_however_it_ends() {
    let mut bench = loopback();
    for (calls, trapped) in [("(local.get $h)", false), ("(unreachable)", true)] {
        let (addr, other) = peer(|mut stream| stream.read(&mut [0; 8]).map_or(0, |n| n));
        let calls = format!("{TCP} (drop (call $wait (local.get $h) (i32.const 2))) {calls}");
        let outcome = bench.call(&addr, &calls);
        assert_eq!(matches!(outcome, Outcome::Trapped(_)), trapped, "{outcome:?}");
        assert_eq!(other.join().unwrap(), 0);
    }
    // And one that is cancelled while it waits.
    let (addr, other) = peer(|mut stream| stream.read(&mut [0; 8]).map_or(0, |n| n));
    let calls = format!("{TCP} (call $get (local.get $h) (i32.const 8))");
    let mut runner = bench.runner(&socket_guest(&addr, &calls));
    assert!(matches!(runner.poll(), Ran::Pending));
    assert_eq!(bench.outside.hub.sockets(), 1);
    drop(runner);
    assert_eq!((bench.outside.hub.sockets(), bench.tally.sockets()), (0, 0));
    assert_eq!(other.join().unwrap(), 0);
}

/// A call for a connection has that, and no request.
#[test]
fn a_connection_is_a_socket_and_there_are_no_bodies() {
    let mut bench = loopback();
    let serves = "(func (export \"tidegate_connection\") (param $h i32) (result i32)
        (if (i32.ne (local.get $h) (i32.const 5)) (then (return (i32.const -1))))
        (if (i32.ne (call $read (i32.const 3) (i32.const 0) (i32.const 8)) (i32.const -8)) (then (return (i32.const -2))))
        (if (i32.ne (call $write (i32.const 4) (i32.const 0) (i32.const 8)) (i32.const -8)) (then (return (i32.const -3))))
        (if (i32.lt_s (call $request_head (i32.const 4096) (i32.const 4096)) (i32.const 88)) (then (return (i32.const -4))))
        (if (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8)) (then (return (i32.const -5))))
        (if (i32.ne (call $get (local.get $h) (i32.const 64)) (i32.const 5)) (then (return (i32.const -6))))
        (if (i32.ne (call $put (local.get $h) (i32.const 4096) (i32.const 5)) (i32.const 5)) (then (return (i32.const -7))))
        (call $get (local.get $h) (i32.const 64)))
        (func $open";
    let program = bench
        .program_of(&socket_guest("", "unreachable").replacen("(func $open", serves, 1), Instances::Fresh);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(addr).unwrap();
        stream.write_all(b"hello").unwrap();
        let mut got = [0; 5];
        stream.read_exact(&mut got).unwrap();
        got
    });
    let (accepted, peer) = listener.accept().unwrap();
    accepted.set_nonblocking(true).unwrap();
    let io = mio::net::TcpStream::from_std(accepted);
    let accepted = AcceptedTcp::new(io, peer, bench.outside.access.lease().unwrap());
    let mut runner = Runner::new(std::sync::mpsc::channel().0, engine::Mode::Production);
    bench.exchange.slice.set_budget(10_000 * MS);
    runner.begin(Job { call: Call::Connection(accepted), ..bench.job(program) });
    assert_eq!(bench.drive(&mut runner), Outcome::Returned(0));
    assert_eq!(&client.join().unwrap(), b"hello");
    assert_eq!((bench.outside.hub.sockets(), bench.tally.sockets()), (0, 0));
}

/// A socket of one request is nothing to the next one that the instance serves.
#[test]
fn a_reused_instance_begins_without_sockets() {
    let mut bench = loopback();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let addr = socket.local_addr().unwrap().to_string();
    // What it opened last stands at 2048; it answers, or it would not be used again.
    let calls =
        "(drop (call $respond (i32.const 200) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))
         (local.set $h (i32.load (i32.const 2048)))
         (i32.store (i32.const 2048) (call $open (i32.const 1)))
         (if (i32.eqz (local.get $h)) (then (return (i32.load (i32.const 2048)))))
         (i32.mul (call $write (local.get $h) (i32.const 0) (i32.const 1)) (i32.load (i32.const 2048)))";
    let program = bench.program_of(&socket_guest(&addr, calls), Instances::Reuse(3));
    let mut runner = Runner::new(std::sync::mpsc::channel().0, engine::Mode::Production);
    // 3 and 4 are bodies, 5 is the socket; then 6, 7 and 8.
    for expected in [5, -EBADF * 8, -EBADF * 11] {
        bench.request(b"", true);
        bench.exchange.slice.set_budget(10_000 * MS);
        runner.begin(bench.job(Arc::clone(&program)));
        assert_eq!(bench.drive(&mut runner), Outcome::Returned(expected));
        assert_eq!(bench.outside.hub.sockets(), 0);
    }
}

#[test]
fn bits_are_those_of_the_abi() {
    // The guests above write them as numbers.
    assert_eq!((READABLE, WRITABLE, ERROR, HANGUP, EAGAIN), (1, 2, 4, 8, 6));
}
