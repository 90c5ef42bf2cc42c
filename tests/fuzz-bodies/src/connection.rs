//! A server's connection: however its bytes are split, and whatever room the answers have, the requests, the answers and
//! the end are the same.

use tidegate_proto::limits::Limits;

use crate::answer::Reads;
use crate::input::{Choices, Dice, narrow};
use crate::server::{End, Seen, Server, name_request};

const INPUT_BYTES_MAX: usize = 2048;

/// What kind of guest answers.
#[derive(Clone, Copy)]
struct Guest {
    reads: Reads,
    /// Its answer leaves as a whole, with its length.
    held: bool,
    body_max: u64,
    narrow: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    seen: Vec<Seen>,
    wire: Vec<u8>,
    before_eof: String,
    end: Option<End>,
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
        // Well formed, each and all of them, or this panics.
        server.replies();
        let before_eof = format!("{:?}", (server.conn.recv(), server.conn.send(), server.end));
        server.receive_eof();
        Outcome { seen: server.seen, wire: server.wire, before_eof, end: server.end }
    }
}

/// Choices: how the guest reads, whether it holds its answer, its bound on bodies, narrow limits; a seed.
pub fn connection(input: &[u8]) {
    let mut choices = Choices::new(input);
    let guest = Guest {
        reads: choices.pick(&[Reads::First, Reads::Never, Reads::Late]),
        held: choices.byte().is_multiple_of(2),
        body_max: choices.pick(&[u64::MAX, 0, 2, 5]),
        narrow: !choices.byte().is_multiple_of(2),
    };
    let mut dice = Dice::new(choices.byte());
    let wire = choices.rest(INPUT_BYTES_MAX);
    let whole = guest.run([wire]);
    assert_eq!(guest.run(dice.pieces(wire)), whole, "split");
    assert_eq!(guest.run(wire.chunks(1)), whole, "byte by byte");
    let mut server = guest.server();
    server.room = 0;
    server.receive(wire);
    for _ in 0..20 {
        server.writable(dice.below(40));
    }
    server.writable(usize::MAX);
    assert_eq!(server.seen, whole.seen, "with little room");
    if guest.held {
        assert_eq!(server.wire, whole.wire, "with little room");
    }
    server.replies();
}
