//! The response on its way from the guest: exactly one final head, then a body that ends cleanly or not at all.

use std::collections::VecDeque;

use tidegate_proto::error::GuestError;
use tidegate_proto::http1::encode::{ResponseHead, push_trailer};
use tidegate_proto::pipe::{Pipe, Watermarks};

use super::request::Fault;

/// Interim heads that may wait to be sent.
const INTERIM_BYTES_MAX: usize = 32 * 1024;
/// Interim heads of one response, all told.
const INTERIM_MAX: u32 = 64;
/// Trailers of one response.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Bytes that are thrown away in one go.
const DISCARD_BYTES: usize = 4 * 1024;

/// Bytes of a field's line besides its name and value.
const LINE_BYTES: usize = 4;

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No final head.
    Unset,
    /// The final head is set; the body may follow.
    Head,
    /// The body has ended cleanly.
    Ended,
    /// The body was cut off.
    Cut,
}

/// Why a step of the guest's was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The final head comes first.
    HeadMissing,
    /// There is a final head already, or the body has ended already.
    Already,
    /// Written after the end.
    Ended,
    /// A status, name or value that is not valid.
    Invalid(GuestError),
    /// No room until the low watermark.
    Full,
    /// More bytes than the declared length: the response is cut.
    TooLong,
    /// Fewer bytes than the declared length: the response is cut.
    TooShort,
    /// Too much for one call.
    TooLarge,
    /// The client is gone.
    Gone(Fault),
}

impl From<GuestError> for Refusal {
    fn from(e: GuestError) -> Self {
        match e {
            GuestError::TooLarge => Self::TooLarge,
            other => Self::Invalid(other),
        }
    }
}

/// Names and values as the guest gave them.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// The response of a request.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) head: ResponseHead,
    pub(crate) pipe: Pipe,
    /// Wire lines of the trailers.
    pub(crate) trailers: Vec<u8>,
    /// Wire lines of 103 responses that wait to be sent.
    interim: VecDeque<Vec<u8>>,
    /// How many there were so far.
    hints: u32,
    stage: Stage,
    fault: Option<Fault>,
    /// The request was HEAD: bodies are accepted and thrown away.
    head_request: bool,
    /// Why the last head that the guest tried and that was not valid was refused.
    refused: Option<GuestError>,
    written: u64,
    /// The most bytes that the body may have.
    limit: u64,
    /// The answer was to be larger than that: it was refused, or is cut.
    exceeded: bool,
}

impl Response {
    pub(super) fn new() -> Self {
        Self {
            head: ResponseHead::default(),
            pipe: Pipe::new(Watermarks::default()),
            trailers: Vec::new(),
            interim: VecDeque::new(),
            hints: 0,
            stage: Stage::Unset,
            fault: None,
            head_request: false,
            refused: None,
            written: 0,
            limit: u64::MAX,
            exceeded: false,
        }
    }

    pub(super) fn reset(&mut self, marks: Watermarks) {
        self.head.clear();
        self.pipe.reset(marks);
        self.trailers.clear();
        self.interim.clear();
        self.hints = 0;
        self.stage = Stage::Unset;
        self.fault = None;
        self.head_request = false;
        self.refused = None;
        self.written = 0;
        self.limit = u64::MAX;
        self.exceeded = false;
    }

    pub(crate) fn begin(&mut self, head_request: bool) {
        self.head_request = head_request;
    }

    /// The body may have so many bytes.
    pub(crate) fn set_limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    /// True if the answer was to be larger than it may be, and is not there or cut because of it.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded
    }

    pub(super) fn fail(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault
    }

    /// Why a head that the guest tried was not valid, whether or not a valid one followed.
    pub(crate) fn refused(&self) -> Option<GuestError> {
        self.refused
    }

    /// Body bytes that the guest has written, thrown away or not.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// The length of the whole body if it is known by now.
    pub(crate) fn known_len(&self) -> Option<u64> {
        (self.stage == Stage::Ended && self.trailers.is_empty()).then_some(self.written)
    }

    /// True if a write would not have to wait.
    pub(crate) fn is_ready(&self) -> bool {
        self.fault.is_some() || self.stage != Stage::Head || self.discards() || self.pipe.permit() > 0
    }

    /// True if what is written is thrown away: a response that has no content never drains a pipe.
    pub(crate) fn discards(&self) -> bool {
        self.head_request || matches!(self.head.status(), 204 | 205 | 304)
    }

    fn alive(&self) -> Result<(), Refusal> {
        self.fault.map_or(Ok(()), |fault| Err(Refusal::Gone(fault)))
    }

    /// Sets the final head. A refused one leaves nothing behind: another try is allowed.
    pub(crate) fn set_head<'a>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = Option<Field<'a>>>,
    ) -> Result<(), Refusal> {
        if self.stage != Stage::Unset {
            return Err(Refusal::Already);
        }
        self.alive()?;
        let result = self.fill_head(status, fields);
        match result {
            Ok(()) if self.announces_too_much() => {
                self.head.clear();
                self.exceeded = true;
                return Err(Refusal::TooLong);
            }
            Ok(()) => {
                self.stage = Stage::Head;
                self.exceeded = false;
            }
            Err(refusal) => {
                self.head.clear();
                self.refused = Some(match refusal {
                    Refusal::Invalid(error) => error,
                    _ => GuestError::TooLarge,
                });
            }
        }
        result
    }

    fn announces_too_much(&self) -> bool {
        !self.discards() && self.head.content_length().is_some_and(|length| length > self.limit)
    }

    fn fill_head<'a>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = Option<Field<'a>>>,
    ) -> Result<(), Refusal> {
        self.head.set_status(status)?;
        for field in fields {
            let (name, value) = field.ok_or(Refusal::Invalid(GuestError::InvalidName))?;
            self.head.push(name, value)?;
        }
        Ok(())
    }

    /// Queues a 103 (Early Hints, RFC 8297). `Full`: too many bytes of them wait to be sent. `TooLarge`: one of more than
    /// all that may wait, or the one after the last that a response may have.
    pub(crate) fn hint<'a>(
        &mut self,
        fields: impl Iterator<Item = Option<Field<'a>>>,
    ) -> Result<(), Refusal> {
        if self.stage != Stage::Unset {
            return Err(Refusal::Already);
        }
        self.alive()?;
        if self.hints >= INTERIM_MAX {
            return Err(Refusal::TooLarge);
        }
        let mut lines = Vec::new();
        push_all(fields, &mut lines, INTERIM_BYTES_MAX)?;
        let waiting: usize = self.interim.iter().map(Vec::len).sum();
        if waiting + lines.len() > INTERIM_BYTES_MAX {
            return Err(Refusal::Full);
        }
        self.interim.push_back(lines);
        self.hints += 1;
        Ok(())
    }

    /// The first of the 103 responses that wait to be sent.
    pub(crate) fn take_hint(&mut self) -> Option<Vec<u8>> {
        self.interim.pop_front()
    }

    /// Head and whole body at once.
    pub(crate) fn respond<'a>(
        &mut self,
        status: u16,
        fields: impl Iterator<Item = Option<Field<'a>>>,
        body: &[u8],
    ) -> Result<(), Refusal> {
        if body.len() > self.pipe.marks().high {
            return Err(Refusal::TooLarge);
        }
        self.set_head(status, fields)?;
        if self.head.content_length().is_some_and(|n| n != body.len() as u64) && !self.may_be_shorter() {
            self.head.clear();
            self.stage = Stage::Unset;
            self.refused = Some(GuestError::ContentLength);
            return Err(Refusal::Invalid(GuestError::ContentLength));
        }
        if body.len() as u64 > self.limit && !self.discards() {
            self.head.clear();
            self.stage = Stage::Unset;
            self.exceeded = true;
            return Err(Refusal::TooLong);
        }
        self.write(body)?;
        self.finish(std::iter::empty())
    }

    /// An answer to HEAD, and a 304, declare the length of a body that they do not bring.
    fn may_be_shorter(&self) -> bool {
        self.discards() && self.written == 0
    }

    /// Whether there may be more of the body at all.
    pub(crate) fn writable(&self) -> Result<(), Refusal> {
        self.alive()?;
        match self.stage {
            Stage::Unset => Err(Refusal::HeadMissing),
            Stage::Ended | Stage::Cut => Err(Refusal::Ended),
            Stage::Head => Ok(()),
        }
    }

    /// Bytes that the declared length still allows, and the limit.
    pub(crate) fn allowed(&self) -> u64 {
        if self.discards() {
            return self.left_of_declared();
        }
        self.left_of_declared().min(self.limit.saturating_sub(self.written))
    }

    fn left_of_declared(&self) -> u64 {
        self.head.content_length().map_or(u64::MAX, |n| n.saturating_sub(self.written))
    }

    /// More is to be written than is allowed.
    fn cut(&mut self) -> Refusal {
        self.stage = Stage::Cut;
        self.exceeded = self.left_of_declared() > self.allowed();
        Refusal::TooLong
    }

    /// Takes what fits. More than the declared length, or than the limit, cuts the response off.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        self.writable()?;
        if bytes.len() as u64 > self.allowed() {
            return Err(self.cut());
        }
        let n = if self.discards() { bytes.len() } else { self.pipe.write(bytes) };
        self.written += n as u64;
        if n == 0 && !bytes.is_empty() { Err(Refusal::Full) } else { Ok(n) }
    }

    /// Moves up to `max` bytes here from a pipe that is not empty.
    pub(crate) fn take_from(&mut self, from: &mut Pipe, max: u64) -> Result<u64, Refusal> {
        self.writable()?;
        let wanted = from.len().min(usize::try_from(max).unwrap_or(usize::MAX));
        let n = if self.discards() {
            from.consume(wanted);
            wanted
        } else {
            let allowed = self.room_declared()?;
            from.forward(&mut self.pipe, wanted.min(allowed))
        };
        self.written += n as u64;
        if n == 0 { Err(Refusal::Full) } else { Ok(n as u64) }
    }

    /// Has `fill` put up to `max` bytes here, of which at least one is there to be put: it says how many it put.
    pub(crate) fn receive<E>(
        &mut self,
        max: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Result<usize, E>, Refusal> {
        self.writable()?;
        let filled = if self.discards() {
            let mut nowhere = [0; DISCARD_BYTES];
            fill(nowhere.get_mut(..max.min(DISCARD_BYTES)).unwrap_or_default())
        } else {
            let allowed = self.room_declared()?;
            let room = self.pipe.spare(max.min(allowed));
            if room.is_empty() {
                return Err(Refusal::Full);
            }
            let filled = fill(room);
            self.pipe.commit(*filled.as_ref().unwrap_or(&0));
            filled
        };
        self.written += *filled.as_ref().unwrap_or(&0) as u64;
        Ok(filled)
    }

    /// Bytes that the declared length still allows. None of those that are to come: the response is cut.
    fn room_declared(&mut self) -> Result<usize, Refusal> {
        let allowed = usize::try_from(self.allowed()).unwrap_or(usize::MAX);
        if allowed == 0 {
            return Err(self.cut());
        }
        Ok(allowed)
    }

    /// A clean end. A body shorter than declared is cut off instead.
    pub(crate) fn finish<'a>(
        &mut self,
        trailers: impl Iterator<Item = Option<Field<'a>>>,
    ) -> Result<(), Refusal> {
        if matches!(self.stage, Stage::Ended | Stage::Cut) {
            return Err(Refusal::Already);
        }
        self.writable()?;
        let mut lines = std::mem::take(&mut self.trailers);
        let result = push_all(trailers, &mut lines, TRAILER_BYTES_MAX);
        self.trailers = lines;
        if let Err(refusal) = result {
            self.trailers.clear();
            return Err(refusal);
        }
        if self.head.content_length().is_some() && self.left_of_declared() > 0 && !self.may_be_shorter() {
            self.stage = Stage::Cut;
            return Err(Refusal::TooShort);
        }
        self.stage = Stage::Ended;
        self.pipe.end();
        Ok(())
    }

    /// The guest is done with the body without having finished it.
    pub(crate) fn abandon(&mut self) {
        if self.stage == Stage::Head {
            self.stage = Stage::Cut;
        }
    }
}

/// Makes lines of fields, of which there may be `bytes_max`, counted as they were given: what is too much is not even
/// looked at.
fn push_all<'a>(
    fields: impl Iterator<Item = Option<Field<'a>>>,
    lines: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), Refusal> {
    let mut given: usize = 0;
    for field in fields {
        let (name, value) = field.ok_or(Refusal::Invalid(GuestError::InvalidName))?;
        given = given.saturating_add(name.len()).saturating_add(value.len()).saturating_add(LINE_BYTES);
        if given > bytes_max {
            return Err(Refusal::TooLarge);
        }
        push_trailer(name, value, lines)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
