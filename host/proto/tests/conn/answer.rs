//! What a scripted guest answers.

use tidegate_proto::http1::encode::{ResponseHead, push_trailer};

/// Whether a guest reads its request's body first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Whole, and then it answers.
    First,
    /// Not at all: it answers at once.
    Never,
    /// It answers at once, and then reads.
    Late,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) head: ResponseHead,
    /// The body as it is written, a piece at a time.
    pub(crate) pieces: Vec<Vec<u8>>,
    /// Wire lines.
    pub(crate) trailers: Vec<u8>,
    /// The head waits for the body's end, so that its length is known.
    pub(crate) held: bool,
    pub(crate) reads: Reads,
}

impl Answer {
    /// 200, the body known as a whole, after the request's body was read.
    pub(crate) fn new(body: impl AsRef<[u8]>) -> Self {
        let mut head = ResponseHead::default();
        head.set_status(200).expect("a final status");
        let pieces = vec![body.as_ref().to_vec()];
        Self { head, pieces, trailers: Vec::new(), held: true, reads: Reads::First }
    }

    pub(crate) fn status(mut self, status: u16) -> Self {
        self.head.set_status(status).expect("a final status");
        self
    }

    pub(crate) fn field(mut self, name: &str, value: &str) -> Self {
        self.head.push(name.as_bytes(), value.as_bytes()).expect("a valid field");
        self
    }

    /// The head first, then the body a piece at a time.
    pub(crate) fn streamed(mut self, pieces: &[&str]) -> Self {
        self.pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        self.held = false;
        self
    }

    pub(crate) fn trailer(mut self, name: &str, value: &str) -> Self {
        push_trailer(name.as_bytes(), value.as_bytes(), &mut self.trailers).expect("a valid trailer");
        self
    }

    pub(crate) fn reads(mut self, reads: Reads) -> Self {
        self.reads = reads;
        self
    }

    /// The length, where it is known when the head is sent.
    pub(crate) fn known_len(&self) -> Option<u64> {
        let length = self.pieces.iter().map(Vec::len).sum::<usize>() as u64;
        (self.held && self.trailers.is_empty()).then_some(length)
    }
}
