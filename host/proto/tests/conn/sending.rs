//! Sending: whatever the socket takes at a time, and whenever the body grows, what leaves reads back as it was written.

use proptest::prelude::*;
use tidegate_proto::conn::{After, Body, Connection, OutBuf, Receiving};
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::head::RequestHead;
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use crate::answer::Answer;
use crate::client::{Framed, replies};
use crate::server::DATE;

/// More than may ever wait beside the pipe: a head, a few interim ones, and what was brought inline.
const OUT_BYTES_MAX: usize = 9 * 1024;

/// How the answer is framed.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Known,
    Declared,
    Chunked,
    UntilClose,
    Nothing,
}

/// One answer on its way out.
struct Sending {
    conn: Connection,
    limits: Limits,
    out: OutBuf,
    pipe: Pipe,
    trailers: Vec<u8>,
    wire: Vec<u8>,
    method: &'static str,
}

impl Sending {
    fn new(kind: Kind, trailers: &[u8], high: usize) -> Self {
        let limits = Limits::default();
        let mut conn = Connection::new(0, &limits);
        let (method, version) = match kind {
            Kind::Nothing => ("HEAD", "1.1"),
            Kind::UntilClose => ("GET", "1.0"),
            Kind::Known | Kind::Declared | Kind::Chunked => ("GET", "1.1"),
        };
        let (mut head, mut body, mut fields) =
            (RequestHead::default(), Pipe::new(Watermarks::default()), Fields::default());
        let mut to = Receiving { head: &mut head, body: &mut body, trailers: &mut fields };
        let request = format!("{method} / HTTP/{version}\r\nHost: a\r\n\r\n");
        conn.handle_input(request.as_bytes(), &mut to, 0, &limits).expect("a valid request");
        let pipe = Pipe::new(Watermarks::new(high, high / 4).expect("valid"));
        let out = OutBuf::default();
        Self { conn, limits, out, pipe, trailers: trailers.to_vec(), wire: Vec::new(), method }
    }

    fn send_head(&mut self, kind: Kind, length: usize) {
        let answer = match kind {
            Kind::Declared => Answer::new("").field("Content-Length", &length.to_string()),
            _ => Answer::new(""),
        };
        let known = matches!(kind, Kind::Known).then_some(length as u64);
        self.conn.send_head(&answer.head, known, DATE, None, &mut self.out).expect("one head");
    }

    /// Lets `room` bytes leave, in one call to the socket; says whether anything is still queued.
    fn send(&mut self, room: usize) -> bool {
        self.poll();
        let mut sent = 0;
        for slice in self.conn.slices(&self.pipe, &self.out) {
            let part = slice.len().min(room - sent);
            self.wire.extend_from_slice(&slice[..part]);
            sent += part;
        }
        self.conn.handle_transmitted(sent, &mut self.pipe, &mut self.out, 0, &self.limits);
        self.poll();
        assert!(self.out.pending().len() <= OUT_BYTES_MAX, "what is not in the pipe is not counted");
        !self.conn.is_flushed(&self.out)
    }

    fn poll(&mut self) {
        let mut body = Body { pipe: &mut self.pipe, trailers: &self.trailers };
        self.conn.poll_transmit(&mut body, &mut self.out);
    }

    fn send_all(&mut self, rooms: &mut impl Iterator<Item = usize>) {
        while self.send(rooms.next().expect("endless")) {}
    }

    fn check(&mut self, kind: Kind, body: &[u8]) {
        let framed = match kind {
            Kind::Known | Kind::Declared => Framed::Length,
            Kind::Chunked => Framed::Chunks,
            Kind::UntilClose => Framed::Close,
            Kind::Nothing => Framed::Empty,
        };
        let replies = replies(&self.wire, &[self.method]);
        assert_eq!((replies.len(), replies[0].framed), (1, framed));
        let body = if matches!(kind, Kind::Nothing) { &[] } else { body };
        assert!(replies[0].body == body, "{} bytes of {}", replies[0].body.len(), body.len());
        let trailers = usize::from(matches!(kind, Kind::Chunked) && !self.trailers.is_empty());
        assert_eq!(replies[0].trailers.len(), trailers);
        let after = if matches!(kind, Kind::UntilClose) { After::Close } else { After::Next };
        assert_eq!(self.conn.after(true, 0, &self.limits), after);
    }
}

/// `n` bytes that tell their places.
fn bytes(from: usize, n: usize) -> Vec<u8> {
    (from..from + n).map(|at| u8::try_from(at % 251).expect("below 256")).collect()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(vec![Kind::Known, Kind::Declared, Kind::Chunked, Kind::UntilClose, Kind::Nothing])
}

/// Lengths around those from which on a body is not brought inline, and small ones.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0_usize..20, 4_080_usize..4_110, 0_usize..10_000]
}

/// Sizes of writes: some small, some that take everything. Always one byte at least, so that it ends.
fn rooms() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..8, 1_usize..5_000, Just(usize::MAX)], 1..40)
}

/// The whole answer where each piece is written once the one before has left.
fn in_step(kind: Kind, pieces: &[usize], trailers: &[u8], rooms: &[usize]) -> Vec<u8> {
    let total: usize = pieces.iter().sum();
    let mut sending = Sending::new(kind, trailers, 64 * 1024);
    let mut rooms = rooms.iter().copied().cycle();
    if !matches!(kind, Kind::Known) {
        sending.send_head(kind, total);
    }
    let mut at = 0;
    for piece in pieces {
        assert_eq!(sending.pipe.write(&bytes(at, *piece)), *piece);
        at += piece;
        if !matches!(kind, Kind::Known) {
            sending.send_all(&mut rooms);
        }
    }
    sending.pipe.end();
    if matches!(kind, Kind::Known) {
        sending.send_head(kind, total);
    }
    sending.send_all(&mut rooms);
    sending.check(kind, &bytes(0, total));
    sending.wire
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_sizes_of_writes_give_the_same_bytes(
        kind in kind(),
        pieces in prop::collection::vec(length(), 0..6),
        trailers in any::<bool>(),
        rooms in rooms(),
    ) {
        let trailers: &[u8] = if trailers && !matches!(kind, Kind::Known) { b"x-sum: 7\r\n" } else { b"" };
        let at_once = in_step(kind, &pieces, trailers, &[usize::MAX]);
        prop_assert!(in_step(kind, &pieces, trailers, &rooms) == at_once);
    }

    /// A guest that writes as the pipe allows, a reader that takes what it likes, and neither waits for the other.
    #[test]
    fn a_body_may_grow_between_any_two_writes(
        kind in prop::sample::select(vec![Kind::Declared, Kind::Chunked, Kind::UntilClose, Kind::Nothing]),
        steps in prop::collection::vec((length(), prop_oneof![Just(0), 0_usize..9_000]), 0..60),
        high in prop::sample::select(vec![1_usize, 100, 5_000, 65_536]),
        trailers in any::<bool>(),
    ) {
        let total = 100_000;
        let body = bytes(0, total);
        let mut sending = Sending::new(kind, if trailers { b"x-sum: 7\r\n" } else { b"" }, high);
        sending.send_head(kind, total);
        let mut at: usize = 0;
        let endless = [(usize::MAX, usize::MAX)];
        for (wanted, room) in steps.iter().chain(endless.iter().cycle()).copied() {
            let end = at.saturating_add(wanted).min(total);
            at += sending.pipe.write(&body[at..end]);
            if at == total && !sending.pipe.is_ended() {
                sending.pipe.end();
            }
            let queued = sending.send(room);
            if sending.pipe.drained() && !queued {
                break;
            }
        }
        sending.check(kind, &body);
    }
}

#[test]
fn a_small_answer_leaves_in_one_piece() {
    for kind in [Kind::Known, Kind::Chunked] {
        let mut sending = Sending::new(kind, b"", 64 * 1024);
        sending.pipe.write(b"hello");
        sending.pipe.end();
        sending.send_head(kind, 5);
        sending.poll();
        let slices = sending.conn.slices(&sending.pipe, &sending.out);
        assert!(slices[1..].iter().all(|slice| slice.is_empty()) && sending.pipe.is_empty(), "{kind:?}");
        assert!(!sending.send(usize::MAX));
        sending.check(kind, b"hello");
    }
}

#[test]
fn chunks_and_trailers_of_a_small_answer_leave_together() {
    let mut sending = Sending::new(Kind::Chunked, b"x-sum: 7\r\n", 64 * 1024);
    sending.pipe.write(b"hello");
    sending.pipe.end();
    sending.send_head(Kind::Chunked, 5);
    assert!(!sending.send(usize::MAX));
    sending.check(Kind::Chunked, b"hello");
}

#[test]
fn a_large_answer_is_not_copied() {
    let body = bytes(0, 60_000);
    let mut sending = Sending::new(Kind::Known, b"", 64 * 1024);
    sending.pipe.write(&body);
    sending.pipe.end();
    sending.send_head(Kind::Known, body.len());
    sending.poll();
    assert!(sending.out.pending().len() < 512);
    assert_eq!(sending.conn.slices(&sending.pipe, &sending.out)[1], body);
    assert!(!sending.send(usize::MAX));
    sending.check(Kind::Known, &body);
}

/// What a slow reader leaves behind stays in the pipe, where it stops the guest.
#[test]
fn small_writes_to_a_slow_reader_are_held_back() {
    for kind in [Kind::Chunked, Kind::UntilClose] {
        let mut sending = Sending::new(kind, b"", 8 * 1024);
        sending.send_head(kind, 0);
        let mut written = 0;
        for _ in 0..100_000 {
            written += sending.pipe.write(b"0123456789");
            sending.send(0);
        }
        assert!(written <= OUT_BYTES_MAX + 8 * 1024, "{kind:?}: {written}");
        assert_eq!(sending.pipe.permit(), 0, "{kind:?}");
        let mut trickled = 0;
        while trickled < 200_000 {
            written += sending.pipe.write(b"0123456789");
            sending.send(7);
            trickled += 7;
        }
        sending.pipe.end();
        sending.send_all(&mut std::iter::repeat(usize::MAX));
        assert_eq!(replies(&sending.wire, &["GET"])[0].body.len(), written, "{kind:?}");
    }
}
