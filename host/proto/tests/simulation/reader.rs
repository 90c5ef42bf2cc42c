//! Reading answers as a strict client that pipelines: one after the other, as they come.

use std::collections::VecDeque;

use tidegate_proto::http1::body::BodyDecoder;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::framing::BodyFraming;
use tidegate_proto::limits::Limits;

/// A final answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: usize,
    pub(crate) closes: bool,
    /// Only the end of the connection says where the body ends.
    pub(crate) until_close: bool,
}

#[derive(Debug)]
enum Stage {
    Head,
    Body(Reply, BodyDecoder, Fields),
    UntilClose(Reply),
    /// What still comes is of no use.
    Over,
}

/// Takes in what a server sends.
#[derive(Debug)]
pub(crate) struct Reader {
    stage: Stage,
    buffer: Vec<u8>,
    /// Methods of the requests that have no final answer yet.
    pub(crate) methods: VecDeque<&'static str>,
    pub(crate) replies: Vec<Reply>,
    /// 100 (Continue) that have come.
    pub(crate) continues: usize,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            stage: Stage::Head,
            buffer: Vec::new(),
            methods: VecDeque::new(),
            replies: Vec::new(),
            continues: 0,
        }
    }
}

impl Reader {
    pub(crate) fn take(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
    }

    /// The server has ended its side, cleanly.
    pub(crate) fn end(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Head) {
            Stage::UntilClose(reply) => self.replies.push(reply),
            other => self.stage = other,
        }
    }

    /// The answer in progress, and what of it has come.
    pub(crate) fn partial(&self) -> Option<&Reply> {
        match &self.stage {
            Stage::Head | Stage::Over => None,
            Stage::Body(reply, ..) | Stage::UntilClose(reply) => Some(reply),
        }
    }

    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.stage, Stage::Head) {
            Stage::Head => self.head(),
            Stage::Body(mut reply, mut decoder, mut trailers) => {
                let step = decoder
                    .decode(&self.buffer, usize::MAX, &Limits::default(), &mut trailers)
                    .expect("an answer is well formed");
                reply.body.extend_from_slice(&self.buffer[step.data]);
                self.buffer.drain(..step.consumed);
                if step.ended {
                    let trailers = trailers.len();
                    self.replies.push(Reply { trailers, ..reply });
                    return true;
                }
                self.stage = Stage::Body(reply, decoder, trailers);
                step.consumed > 0
            }
            Stage::Over => {
                self.buffer.clear();
                self.stage = Stage::Over;
                false
            }
            Stage::UntilClose(mut reply) => {
                reply.body.append(&mut self.buffer);
                self.stage = Stage::UntilClose(reply);
                false
            }
        }
    }

    fn head(&mut self) -> bool {
        let mut room = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut room);
        let length = match head.parse(&self.buffer).expect("a head is well formed") {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return false,
        };
        let status = head.code.expect("a status");
        let value = |name: &str| -> Option<String> {
            let mut found = head.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name));
            let value = found.next().map(|field| String::from_utf8_lossy(field.value).into_owned());
            assert!(found.next().is_none(), "{name} twice");
            value
        };
        if status < 200 {
            assert!(matches!(status, 100 | 103), "{status}");
            self.continues += usize::from(status == 100);
            self.buffer.drain(..length);
            return true;
        }
        let method = self.methods.pop_front().expect("an answer that nobody asked for");
        let (declared, coding) = (value("content-length"), value("transfer-encoding"));
        assert!(declared.is_none() || coding.is_none(), "framed in two ways");
        let closes = value("connection").is_some_and(|value| value == "close");
        let reply = Reply { status, closes, ..Reply::default() };
        let framing = match (declared, coding) {
            _ if method == "HEAD" || matches!(status, 204 | 304) => Some(BodyFraming::None),
            (Some(length), _) => Some(BodyFraming::Length(length.parse().expect("a number"))),
            (None, Some(_)) => Some(BodyFraming::Chunked),
            (None, None) => None,
        };
        self.buffer.drain(..length);
        if method == "HEAD" && status == 408 {
            // Of a head that did not come whole the server may not know that it is one of HEAD: there may be a body.
            self.replies.push(reply);
            self.stage = Stage::Over;
            return true;
        }
        self.stage = match framing {
            Some(framing) => Stage::Body(reply, BodyDecoder::new(framing), Fields::default()),
            None => Stage::UntilClose(Reply { until_close: true, closes: true, ..reply }),
        };
        true
    }
}
