//! What servers answer: in any split the same response, framed as RFC 9112 section 6.3 has it, and nothing of the
//! connection's in it.

use tidegate_proto::client::state::Recv;
use tidegate_proto::client::{Receiver, ResponseError, response_limits};
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::limits::Limits;
use tidegate_proto::pipe::{Pipe, Watermarks};

use crate::input::{Choices, Dice};

const INPUT_BYTES_MAX: usize = 4096;

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: u16,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    trailers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
    state: Recv,
    body_ended: bool,
    error: Option<ResponseError>,
}

#[derive(Clone, Copy)]
struct Way<'a> {
    head_request: bool,
    eof: bool,
    /// Body bytes go past the receiver where they may.
    direct: bool,
    high: usize,
    limits: &'a Limits,
}

impl Way<'_> {
    fn receive(self, pieces: &[&[u8]]) -> Outcome {
        let mut receiver = Receiver::default();
        receiver.begin(self.head_request).expect("a new one");
        let mut pipe = Pipe::new(Watermarks::new(self.high, self.high / 4).expect("valid"));
        let (mut body, mut error) = (Vec::new(), None);
        for piece in pieces {
            let mut rest = *piece;
            while !rest.is_empty() && error.is_none() {
                take_all(&mut pipe, &mut body);
                let room = receiver.room(&pipe).min(rest.len());
                assert!(room > 0, "no room in an empty pipe");
                let due = receiver.direct_max().filter(|max| self.direct && *max > 0);
                let taken = if let Some(max) = due {
                    let space = pipe.spare(max.min(room));
                    let n = space.len();
                    space.copy_from_slice(&rest[..n]);
                    pipe.commit(n);
                    receiver.handle_direct(n, &mut pipe);
                    n
                } else {
                    error = receiver.handle_input(&rest[..room], &mut pipe, self.limits).err();
                    room
                };
                rest = &rest[taken..];
            }
        }
        if self.eof && error.is_none() {
            error = receiver.handle_eof(&mut pipe).err();
        }
        take_all(&mut pipe, &mut body);
        assert_eq!(error.is_some(), receiver.state() == Recv::Broken, "{error:?}");
        Outcome {
            status: receiver.head().status(),
            fields: owned(receiver.head().fields()),
            trailers: owned(receiver.trailers()),
            body,
            state: receiver.state(),
            body_ended: pipe.is_ended(),
            error,
        }
    }
}

fn take_all(pipe: &mut Pipe, body: &mut Vec<u8>) {
    for part in pipe.peek() {
        body.extend_from_slice(part);
    }
    pipe.consume(usize::MAX);
}

fn owned(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// Choices: to HEAD or not, whether the server ends, whether bytes go past the receiver, the pipe, narrow limits; a seed.
pub fn response(input: &[u8]) {
    let mut choices = Choices::new(input);
    let head_request = choices.byte() % 4 == 3;
    let eof = choices.byte().is_multiple_of(2);
    let high = choices.pick(&[1, 8, 64, 65_536]);
    let small = Limits {
        head_bytes_max: 64,
        headers_max: 3,
        chunk_ext_bytes_max: 4,
        trailer_bytes_max: 8,
        ..Limits::default()
    };
    let wide = response_limits();
    let limits = if choices.byte() % 4 == 3 { &small } else { &wide };
    let mut dice = Dice::new(choices.byte());
    let wire = choices.rest(INPUT_BYTES_MAX);
    let way = Way { head_request, eof, direct: false, high: 65_536, limits };
    let whole = way.receive(&[wire]);
    let other = Way { high, direct: dice.below(2) == 0, ..way };
    assert_eq!(other.receive(&dice.pieces(wire)), whole, "split");
    assert_eq!(Way { high, ..way }.receive(&wire.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    check(&whole, head_request);
}

fn check(outcome: &Outcome, head_request: bool) {
    let complete = outcome.state.is_complete();
    assert!(!complete || (outcome.body_ended && outcome.status >= 200), "{outcome:?}");
    assert!(!(outcome.body_ended && outcome.status == 0), "{outcome:?}");
    if head_request || matches!(outcome.status, 0 | 204 | 304) {
        assert!(outcome.body.is_empty(), "a body where there is none: {outcome:?}");
    } else if complete
        && let Some((_, length)) = outcome.fields.iter().find(|(name, _)| name == b"content-length")
    {
        let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
        assert_eq!(Some(outcome.body.len()), length, "not as long as it says");
    }
    for (name, value) in outcome.fields.iter().chain(&outcome.trailers) {
        assert!(!name.iter().any(u8::is_ascii_uppercase) && !name.is_empty());
        assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)), "{}", value.escape_ascii());
        let of_connection: [&[u8]; 4] = [b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"];
        assert!(!of_connection.contains(&name.as_slice()), "{}", name.escape_ascii());
    }
}
