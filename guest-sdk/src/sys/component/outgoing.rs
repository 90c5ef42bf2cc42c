//! The response: what was given as the import's arguments, sent as resources of `wasi:http`.
//!
//! A body that is not finished is cut: its resource is dropped without `finish`, which is how `wasi:http` says so. The
//! length that the handler declared is watched here, so that every host's guest is told the same.

use tidegate_abi::errno::{EAGAIN, EALREADY, EFBIG, EINVAL, EPIPE, EPROTO, Errno};
use wasip2::http::types::{ErrorCode, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::poll::Pollable;

use super::errno_of;
use super::fields::Checked;
use super::incoming::{Consume, Incoming};
use super::sink::{MOVE_BYTES_MAX, Sink};

/// How far the response is.
enum Stage {
    /// Nothing was sent.
    Unset(ResponseOutparam),
    /// The head is set, and a body follows. The resources stand in the order in which they have to go.
    Open(Sink, OutgoingBody),
    /// The head is set; what is written as its body goes nowhere (RFC 9110 sections 9.3.2, 15.3.5, 15.3.6, 15.4.5).
    Discarding,
    /// It is complete.
    Ended,
    /// It was cut.
    Cut,
}

pub(super) struct Outgoing {
    stage: Stage,
    /// What the declared length leaves.
    left_bytes: Option<u64>,
    /// Something was written to the body, thrown away or not.
    written: bool,
}

/// A head that could be made, and what it says of the body.
struct Made {
    response: OutgoingResponse,
    declared_bytes: Option<u64>,
}

impl Outgoing {
    pub(super) fn new(outparam: ResponseOutparam) -> Self {
        Self { stage: Stage::Unset(outparam), left_bytes: None, written: false }
    }

    fn check_unset(&self) -> Result<(), Errno> {
        if matches!(self.stage, Stage::Unset(_)) { Ok(()) } else { Err(EALREADY) }
    }

    /// Early hints, which stable `wasi:http` 0.2 has no way to send: they are checked, and that is all.
    pub(super) fn hint(&self, head: &[u8]) -> Result<(), Errno> {
        self.check_unset()?;
        Checked::hint(head)?.make().map(drop)
    }

    /// Head and body, as far as there is room for it. Returns how much of the body is written.
    ///
    /// What `is_head_request` says is asked for only where it matters.
    pub(super) fn respond(
        &mut self,
        status: u16,
        head: &[u8],
        body: &[u8],
        is_head_request: impl FnOnce() -> bool,
    ) -> Result<usize, Errno> {
        self.check_unset()?;
        let length = body.len() as u64;
        let mut discards = is_bodiless(status);
        let made = make(status, head, (length > 0 && !discards).then_some(length))?;
        if let Some(declared) = made.declared_bytes
            && declared != length
        {
            // Only where no body is sent may it be another one's length.
            discards = discards || is_head_request();
            if !discards {
                return Err(EINVAL);
            }
            if length > 0 {
                self.stage = Stage::Cut;
                return Err(if length > declared { EFBIG } else { EPROTO });
            }
        }
        discards |= body.is_empty();
        self.set(made, discards)?;
        if discards { Ok(body.len()) } else { self.write(body).or_else(|errno| full(errno).map(|()| 0)) }
    }

    /// The head, with the body to be written after it.
    pub(super) fn begin(&mut self, status: u16, head: &[u8], is_head_request: bool) -> Result<(), Errno> {
        self.check_unset()?;
        let made = make(status, head, None)?;
        self.set(made, is_head_request || is_bodiless(status))
    }

    /// Sends the head. A response whose body is never asked for has none.
    fn set(&mut self, made: Made, discards: bool) -> Result<(), Errno> {
        let next = if discards { Stage::Discarding } else { open(&made.response)? };
        let Stage::Unset(outparam) = std::mem::replace(&mut self.stage, next) else { return Err(EALREADY) };
        ResponseOutparam::set(outparam, Ok(made.response));
        self.left_bytes = made.declared_bytes;
        Ok(())
    }

    /// The body, for those who write it. `None`: what they write goes nowhere.
    fn open(&mut self) -> Result<Option<&mut Sink>, Errno> {
        match &mut self.stage {
            Stage::Unset(_) => Err(EPROTO),
            Stage::Open(sink, _) => Ok(Some(sink)),
            Stage::Discarding => Ok(None),
            Stage::Ended | Stage::Cut => Err(EPIPE),
        }
    }

    /// As the import `write`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        let left_bytes = self.left_bytes;
        let open = self.open()?;
        if left_bytes.is_some_and(|left| bytes.len() as u64 > left) {
            self.stage = Stage::Cut;
            return Err(EFBIG);
        }
        let n = open.map_or(Ok(bytes.len()), |open| open.write(bytes))?;
        self.count(n as u64);
        Ok(n)
    }

    fn count(&mut self, n: u64) {
        self.written |= n > 0;
        self.left_bytes = self.left_bytes.map(|left| left.saturating_sub(n));
    }

    /// As the import `forward`: the bytes are spliced by the host where it can.
    pub(super) fn forward(
        &mut self,
        from: &mut Incoming,
        request: &impl Consume,
        max: u64,
    ) -> Result<u64, Errno> {
        let left_bytes = self.left_bytes;
        let max = max.min(MOVE_BYTES_MAX);
        let Some(open) = self.open()? else {
            let bytes = from.next(request, usize::try_from(max).unwrap_or(usize::MAX))?;
            self.count(bytes.len() as u64);
            return Ok(bytes.len() as u64);
        };
        if left_bytes == Some(0) {
            // The end is all that may come.
            return match from.next(request, 1) {
                Ok(bytes) if !bytes.is_empty() => {
                    self.stage = Stage::Cut;
                    Err(EFBIG)
                }
                other => other.map(|_| 0),
            };
        }
        let max = left_bytes.map_or(max, |left| left.min(max));
        let n = open.forward(from, request, max)?;
        self.count(n);
        Ok(n)
    }

    /// Has the host send what was written. It does not wait.
    pub(super) fn flush(&mut self) {
        if let Stage::Open(sink, _) = &mut self.stage {
            sink.flush();
        }
    }

    /// Whether writing would not wait, as far as that is known without asking.
    pub(super) fn is_known(&self) -> bool {
        !matches!(self.stage, Stage::Open(..))
    }

    /// Sees to it that there is something to wait for.
    pub(super) fn subscribe(&mut self) {
        if let Stage::Open(sink, _) = &mut self.stage {
            sink.subscribe();
        }
    }

    /// What becomes ready when there is room.
    pub(super) fn pollable(&self) -> Option<&Pollable> {
        match &self.stage {
            Stage::Open(sink, _) => sink.pollable(),
            _ => None,
        }
    }

    /// As the import `finish`.
    pub(super) fn finish(&mut self, trailers: &[u8]) -> Result<(), Errno> {
        match &self.stage {
            Stage::Unset(_) => return Err(EPROTO),
            Stage::Ended | Stage::Cut => return Err(EALREADY),
            Stage::Discarding | Stage::Open(..) => {}
        }
        let trailers = Checked::trailers(trailers)?;
        let trailers = if trailers.is_empty() { None } else { Some(trailers.make()?) };
        // Cut, unless what follows ends it.
        let stage = std::mem::replace(&mut self.stage, Stage::Cut);
        let is_short = self.left_bytes.is_some_and(|left| left > 0);
        let Stage::Open(sink, body) = stage else {
            // An answer to HEAD, and a 304, declare the length of a body that they do not bring.
            if is_short && self.written {
                return Err(EPROTO);
            }
            self.stage = Stage::Ended;
            return Ok(());
        };
        if is_short {
            return Err(EPROTO);
        }
        drop(sink);
        OutgoingBody::finish(body, trailers).map_err(|code| errno_of(&code))?;
        self.stage = Stage::Ended;
        Ok(())
    }

    /// Cuts a body that was begun and not ended, if `begun`.
    pub(super) fn abandon_if(&mut self, begun: bool) {
        if begun && matches!(self.stage, Stage::Open(..) | Stage::Discarding) {
            self.stage = Stage::Cut;
        }
    }

    /// The handler has returned. One that failed says so if it has sent nothing; one that sent nothing and is content
    /// leaves it to the host to make something of that.
    pub(super) fn end(&mut self, failed: bool) {
        if let Stage::Unset(outparam) = std::mem::replace(&mut self.stage, Stage::Cut)
            && failed
        {
            let why = "the handler failed before its response".to_owned();
            ResponseOutparam::set(outparam, Err(ErrorCode::InternalError(Some(why))));
        }
    }
}

fn open(response: &OutgoingResponse) -> Result<Stage, Errno> {
    let body = response.body().map_err(|()| EALREADY)?;
    let stream = body.write().map_err(|()| EALREADY)?;
    Ok(Stage::Open(Sink::new(stream), body))
}

/// A response that may be sent. `length` is said where the handler says none.
fn make(status: u16, head: &[u8], length: Option<u64>) -> Result<Made, Errno> {
    const NO_CONTENT: u16 = 204;
    // Informational ones are no answer, and above there is nothing (RFC 9110 section 15).
    if !(200..=599).contains(&status) {
        return Err(EINVAL);
    }
    let (mut head, given) = Checked::head(head)?;
    let declared_bytes = given.or(length);
    // RFC 9110 section 8.6: here it is never said.
    head.set_length(declared_bytes.filter(|_| status != NO_CONTENT));
    let response = OutgoingResponse::new(head.make()?);
    if status != 200 {
        response.set_status_code(status).map_err(|()| EINVAL)?;
    }
    Ok(Made { response, declared_bytes })
}

/// RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5.
fn is_bodiless(status: u16) -> bool {
    matches!(status, 204 | 205 | 304)
}

/// "No room" is no error to those who wait.
fn full(errno: Errno) -> Result<(), Errno> {
    if errno == EAGAIN { Ok(()) } else { Err(errno) }
}
