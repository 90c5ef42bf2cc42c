//! Driving the codec as a connection would, but for sockets, time and answers: bytes in, requests out.

// Each test crate uses its own part of this.
#![allow(dead_code, unreachable_pub)]

use tidegate_proto::error::PeerError;
use tidegate_proto::http1::body::BodyDecoder;
use tidegate_proto::http1::fields::Fields;
use tidegate_proto::http1::framing::{RequestFraming, request_framing};
use tidegate_proto::http1::head::{HeadScanner, RequestHead, Version, parse};
use tidegate_proto::limits::Limits;

use crate::common::End;

/// A request as it came out, in owned parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub method: String,
    pub target: String,
    pub path: String,
    pub host: String,
    pub version: Version,
    pub framing: RequestFraming,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Everything that came of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub requests: Vec<Accepted>,
    pub end: End,
    pub detail: Option<PeerError>,
}

enum Stage {
    Head(HeadScanner),
    Body(Box<Accepted>, BodyDecoder, Fields),
    Over,
}

/// One connection's worth of codec.
pub struct Driver {
    limits: Limits,
    data_max: usize,
    buffer: Vec<u8>,
    /// Where in the buffer the message part in progress begins.
    at: usize,
    stage: Stage,
    head: RequestHead,
    outcome: Outcome,
}

impl Driver {
    pub fn new(limits: Limits, data_max: usize) -> Self {
        Self {
            limits,
            data_max,
            buffer: Vec::new(),
            at: 0,
            stage: Stage::Head(HeadScanner::default()),
            head: RequestHead::default(),
            outcome: Outcome { requests: Vec::new(), end: End::Idle, detail: None },
        }
    }

    /// Takes what a read brought.
    pub fn receive(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Over);
            let (next, go_on) = match self.turn(stage) {
                Ok(turned) => turned,
                Err(error) => {
                    self.outcome.end = End::Refused(error.status());
                    self.outcome.detail = Some(error);
                    (Stage::Over, false)
                }
            };
            self.stage = next;
            if !go_on {
                return;
            }
        }
    }

    /// The input is over.
    pub fn finish(mut self) -> Outcome {
        match &self.stage {
            Stage::Head(_) if self.at == self.buffer.len() => {}
            Stage::Over => {}
            Stage::Head(_) | Stage::Body(..) => self.outcome.end = End::More,
        }
        self.outcome
    }

    fn turn(&mut self, stage: Stage) -> Result<(Stage, bool), PeerError> {
        match stage {
            Stage::Head(mut scanner) => {
                let input = &self.buffer[self.at..];
                let Some(length) = scanner.scan(input, &self.limits)? else {
                    return Ok((Stage::Head(scanner), false));
                };
                parse(&input[..length], &self.limits, &mut self.head)?;
                self.at += length;
                let framing = request_framing(&self.head)?;
                let accepted = accept(&self.head, framing);
                Ok((Stage::Body(Box::new(accepted), BodyDecoder::new(framing.body), Fields::default()), true))
            }
            Stage::Body(mut accepted, mut decoder, mut trailers) => {
                let input = &self.buffer[self.at..];
                let step = decoder.decode(input, self.data_max, &self.limits, &mut trailers)?;
                assert!(step.data.start <= step.data.end && step.data.end <= step.consumed);
                assert!(step.consumed <= input.len() && step.data.len() <= self.data_max);
                accepted.body.extend_from_slice(&input[step.data]);
                self.at += step.consumed;
                if step.ended {
                    accepted.trailers = owned(&trailers);
                    return Ok(self.complete(*accepted));
                }
                assert!(step.consumed > 0 || self.at == self.buffer.len(), "stopped with input left");
                Ok((Stage::Body(accepted, decoder, trailers), step.consumed > 0))
            }
            Stage::Over => Ok((Stage::Over, false)),
        }
    }

    fn complete(&mut self, mut accepted: Accepted) -> (Stage, bool) {
        accepted.trailers.sort();
        let keep_alive = accepted.framing.keep_alive;
        self.outcome.requests.push(accepted);
        if !keep_alive {
            self.outcome.end = End::Closed;
            return (Stage::Over, false);
        }
        let go_on = self.at < self.buffer.len();
        (Stage::Head(HeadScanner::default()), go_on)
    }
}

fn accept(head: &RequestHead, framing: RequestFraming) -> Accepted {
    Accepted {
        method: head.method().to_owned(),
        target: head.target().to_owned(),
        path: head.path().to_owned(),
        host: head.host().to_owned(),
        version: head.version(),
        framing,
        fields: owned(head.fields()),
        body: Vec::new(),
        trailers: Vec::new(),
    }
}

fn owned(fields: &Fields) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
}

/// The outcome of an input that comes in the given pieces.
pub fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &Limits, data_max: usize) -> Outcome {
    let mut driver = Driver::new(limits.clone(), data_max);
    for piece in pieces {
        driver.receive(piece);
    }
    driver.finish()
}
