//! However the bytes are split, the requests, the answers and the end are the same.

use proptest::prelude::*;
use tidegate_proto::limits::Limits;

use crate::answer::{Answer, Reads};
use crate::server::{End, Seen, Server, name_request};
use crate::wire::{pieces, wire};

/// Narrow bounds, so that generated input meets each of them.
fn narrow() -> Limits {
    Limits {
        head_bytes_max: 96,
        headers_max: 4,
        target_bytes_max: 12,
        chunk_ext_bytes_max: 6,
        trailer_bytes_max: 12,
        drain_bytes_max: 4,
        ..Limits::default()
    }
}

/// What kind of guest answers.
#[derive(Clone, Copy, Debug)]
struct Guest {
    reads: Reads,
    held: bool,
    body_max: u64,
    narrow: bool,
}

fn guest() -> impl Strategy<Value = Guest> {
    let reads = prop::sample::select(vec![Reads::First, Reads::Never, Reads::Late]);
    let body_max = prop::sample::select(vec![u64::MAX, 0, 2, 5]);
    (reads, any::<bool>(), body_max, any::<bool>()).prop_map(|(reads, held, body_max, narrow)| Guest {
        reads,
        held,
        body_max,
        narrow,
    })
}

impl Guest {
    fn server(self) -> Server {
        let limits = if self.narrow { narrow() } else { Limits::default() };
        let mut server = Server::with_limits(limits, move |seen| {
            let answer = name_request(seen).reads(self.reads);
            if self.held { answer } else { answer.streamed(&["one", "two"]).trailer("x-sum", "7") }
        });
        server.body_max = self.body_max;
        server
    }

    fn run<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        let mut server = self.server();
        for piece in pieces {
            server.receive(piece);
        }
        let before_eof = (server.conn.recv(), server.conn.send(), server.end);
        server.receive_eof();
        Outcome {
            seen: server.seen,
            wire: server.wire,
            before_eof: format!("{before_eof:?}"),
            end: server.end,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    seen: Vec<Seen>,
    wire: Vec<u8>,
    before_eof: String,
    end: Option<End>,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same(
        input in wire(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
        guest in guest(),
    ) {
        let whole = guest.run([input.as_slice()]);
        prop_assert_eq!(&guest.run(pieces(&input, &cuts).iter().map(Vec::as_slice)), &whole);
        prop_assert_eq!(&guest.run(input.chunks(1)), &whole);
    }

    /// Only that what leaves is well formed can be said of chunks: they are as long as what was there when the one
    /// before had left.
    #[test]
    fn any_room_for_the_answers_gives_the_same(
        input in wire(),
        rooms in prop::collection::vec(0_usize..40, 0..60),
        guest in guest(),
    ) {
        let whole = guest.run([input.as_slice()]);
        let mut server = guest.server();
        server.room = 0;
        server.receive(&input);
        rooms.iter().for_each(|room| server.writable(*room));
        server.writable(usize::MAX);
        prop_assert_eq!(&server.seen, &whole.seen);
        if guest.held {
            prop_assert_eq!(&server.wire, &whole.wire);
        }
        server.replies();
    }
}

/// What the property above came upon once.
#[test]
fn a_head_that_is_refused_has_an_answer_without_a_body() {
    let mut server = Server::new(|seen| Answer::new(seen.target.clone()));
    server.receive(
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    let replies = server.replies();
    assert_eq!(replies.len(), 1);
    assert!(replies[0].status >= 400 && replies[0].body.is_empty(), "{}", replies[0].status);
}

/// A body a byte at a time, with an echo of its length: nothing of one request leaks into another.
#[test]
fn requests_that_come_in_single_bytes() {
    let mut server = Server::new(|seen| Answer::new(seen.target.clone()));
    for n in 0..50 {
        let body = "y".repeat(n);
        let request = format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: {n}\r\n\r\n{body}");
        request.as_bytes().chunks(1).for_each(|byte| server.receive(byte));
    }
    for (n, (seen, reply)) in server.seen.iter().zip(server.replies()).enumerate() {
        assert_eq!((seen.body.len(), reply.body), (n, format!("/{n}").into_bytes()));
    }
    assert_eq!(server.seen.len(), 50);
}
