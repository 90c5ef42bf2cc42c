//! What drives a call: its connection, or the making of one, its deadlines, and what became of it.
//!
//! Invariants: it reads only while the response's pipe takes bytes, and goes on when that has been drained; whatever it
//! waits for has a deadline and a timer that is due no later; once it is over it has no connection and no timer.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use tidegate_proto::client::state::{Recv, Send as Sending};
use tidegate_proto::client::{Receiver, RequestBody, ResponseError, is_reusable};

use super::Timeouts;
use super::dial::Dial;
use super::failure::Failure;
use super::link::{Link, Stop};
use super::pool::{Origin, Wire};
use crate::clock::{MS, Nanos};
use crate::net::hub::Timer;
use crate::net::network::Network;
use crate::net::readiness::Driven;

/// So much of a request's body does not wait for more.
pub(super) const FLUSH_BYTES: usize = 16 * 1024;
/// How long less than that does, if nobody asks.
const HOLD_MAX: Nanos = MS;

/// How often a lookup is asked for its answer, if nobody waits for it.
const LOOK_INTERVAL: Nanos = 10 * MS;

/// Where the connection stands.
pub(super) enum Stage {
    Dial(Dial),
    Open(Link),
    /// There is none any more.
    Over,
}

/// A request and its response.
pub(super) struct Exchange {
    network: Arc<Network>,
    origin: Arc<Origin>,
    timeouts: Timeouts,
    pub(super) stage: Stage,
    pub(super) wire: Box<Wire>,
    /// Why the response does not go on.
    pub(super) failure: Option<Failure>,
    /// Why the request does not, though a response may still come.
    unsent: Option<Failure>,
    /// The connection was kept, and the request may be sent on another one if that is gone.
    repeats: bool,
    /// The guest has seen the head: from now on it waits for the body.
    head_taken: bool,
    /// When it was last looked at: the clock is read once each time.
    now: Nanos,
    /// When something was sent last.
    sent_at: Nanos,
    /// When something was received last, or reading went on.
    heard_at: Nanos,
    /// The response's pipe was full.
    paused: bool,
    /// What there is to send waits until then for more.
    hold_until: Option<Nanos>,
    timer: Option<(Timer, Nanos)>,
}

impl Exchange {
    pub(super) fn new(
        network: Arc<Network>,
        origin: Arc<Origin>,
        stage: Stage,
        wire: Box<Wire>,
        timeouts: Timeouts,
        repeats: bool,
        now: Nanos,
    ) -> Self {
        Self {
            network,
            origin,
            timeouts,
            stage,
            wire,
            failure: None,
            unsent: None,
            repeats,
            head_taken: false,
            now,
            sent_at: now,
            heard_at: now,
            paused: false,
            hold_until: None,
            timer: None,
        }
    }

    /// The guest takes the head, if it is there.
    pub(super) fn take_head(&mut self) -> bool {
        self.head_taken |= self.wire.receiver.has_head();
        self.head_taken
    }

    /// What is written waits a moment for more.
    pub(super) fn hold(&mut self) {
        if self.hold_until.is_none() {
            self.hold_until = Some(self.network.hub.now().saturating_add(HOLD_MAX));
        }
    }

    /// Bytes of the request's body that are taken now.
    pub(super) fn permit(&self) -> Result<usize, Failure> {
        if let Some(failure) = self.failure.as_ref().or(self.unsent.as_ref()) {
            return Err(failure.clone());
        }
        Ok(self.wire.sender.permit(&self.wire.request))
    }

    /// More than was announced ends the call: the server must not see a whole request.
    pub(super) fn check_length(&mut self, more: usize) -> Result<(), Failure> {
        let total = self.wire.request.total_in().saturating_add(more as u64);
        match self.wire.sender.body_length() {
            Some(length) if total > length => Err(self.breaks_length(total)),
            _ => Ok(()),
        }
    }

    /// So does less.
    pub(super) fn check_end(&mut self) -> Result<(), Failure> {
        let total = self.wire.request.total_in();
        match self.wire.sender.body_length() {
            Some(length) if total != length => Err(self.breaks_length(total)),
            _ => Ok(()),
        }
    }

    fn breaks_length(&mut self, total: u64) -> Failure {
        let failure = Failure::HttpRequestBodySize(total);
        self.fail(failure.clone());
        failure
    }

    /// A read finds something, be it the end; as long as the head was not taken, the head.
    pub(super) fn is_readable(&self) -> bool {
        if self.failure.is_some() {
            return true;
        }
        if self.head_taken { self.wire.response.is_readable() } else { self.wire.receiver.has_head() }
    }

    pub(super) fn is_writable(&self) -> bool {
        self.wire.sender.state() != Sending::Body || self.permit().map_or(true, |permit| permit > 0)
    }

    /// There may be more to receive, and room for it again.
    pub(super) fn resumes(&self) -> bool {
        let room = self.wire.response.permit() > 0;
        matches!(&self.stage, Stage::Open(link) if room && link.may_receive())
    }

    /// Does what can be done now. `flush`: what is held is sent.
    pub(super) fn advance(&mut self, flush: bool, driver: &Weak<dyn Driven>, cx: &mut Context<'_>) {
        let mut flush = flush;
        self.now = self.network.hub.now();
        match &mut self.stage {
            Stage::Dial(dial) => dial.begin_turn(),
            Stage::Open(link) => link.begin_turn(),
            Stage::Over => {}
        }
        loop {
            match &mut self.stage {
                Stage::Over => break,
                Stage::Dial(dial) => match dial.poll(&self.origin, &self.network, driver, cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(link)) => {
                        self.stage = Stage::Open(link);
                        (self.sent_at, self.heard_at) = (self.now, self.now);
                        flush |= self.hold_until.is_none();
                    }
                    Poll::Ready(Err(failure)) => self.fail(failure),
                },
                Stage::Open(_) => match self.exchange(flush) {
                    Ok(()) => break,
                    Err(failure) => self.repeat_or_fail(failure),
                },
            }
        }
        self.watch(driver);
    }

    fn exchange(&mut self, flush: bool) -> Result<(), Failure> {
        let held = self.hold_until.is_some_and(|until| !flush && until > self.now);
        if !held {
            self.hold_until = None;
            self.transmit()?;
        }
        self.receive()?;
        let complete = self.wire.receiver.state().is_complete() && self.wire.sender.state() != Sending::Body;
        if complete && self.is_flushed() && !is_reusable(&self.wire.sender, &self.wire.receiver) {
            // Nothing more is to come of it.
            self.stage = Stage::Over;
        }
        Ok(())
    }

    /// Everything that is to be sent by now has left.
    fn is_flushed(&self) -> bool {
        let link = matches!(&self.stage, Stage::Open(link) if !link.is_flushed());
        !link && (self.wire.sender.is_flushed() || self.wire.sender.state() == Sending::Cut)
    }

    fn transmit(&mut self) -> Result<(), Failure> {
        let Stage::Open(link) = &mut self.stage else { return Ok(()) };
        let (wire, network) = (&mut *self.wire, &*self.network);
        while link.may_send() {
            let mut body = RequestBody { pipe: &mut wire.request, trailers: &wire.trailers };
            wire.sender.poll_transmit(&mut body);
            if wire.sender.state() == Sending::Cut {
                return Ok(());
            }
            let slices = wire.sender.slices(&wire.request);
            let mut filled = slices.iter().filter(|slice| !slice.is_empty());
            let sent = match (filled.next(), filled.next()) {
                (None, _) => link.flush(network).map(|()| 0),
                (Some(one), None) => link.send(one, network),
                _ => {
                    // In one call, and so in as few packets as can be.
                    let mut scratch = network.hub.http.scratch();
                    let mut length = 0;
                    for slice in slices {
                        let part = slice.len().min(scratch.len() - length);
                        if let (Some(to), Some(from)) =
                            (scratch.get_mut(length..length + part), slice.get(..part))
                        {
                            to.copy_from_slice(from);
                        }
                        length += part;
                    }
                    link.send(scratch.get(..length).unwrap_or_default(), network)
                }
            };
            if link.take_progress() {
                self.sent_at = self.now;
            }
            match sent {
                Ok(0) | Err(Stop::Wait) => return Ok(()),
                Ok(n) => wire.sender.handle_transmitted(n, &mut wire.request),
                Err(stop) => {
                    let failure = match stop {
                        Stop::Failed(failure) => failure,
                        _ => Failure::ConnectionTerminated,
                    };
                    if failure != Failure::ConnectionTerminated || self.may_repeat() {
                        return Err(failure);
                    }
                    // The server takes no more, but may have answered before that.
                    self.wire.sender.cut();
                    self.unsent = Some(failure);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        loop {
            let Stage::Open(link) = &mut self.stage else { return Ok(()) };
            let (wire, network) = (&mut *self.wire, &*self.network);
            if !matches!(wire.receiver.state(), Recv::Head | Recv::Body) {
                return Ok(());
            }
            let room = wire.receiver.room(&wire.response);
            if std::mem::replace(&mut self.paused, room == 0) && room > 0 {
                // The server's time begins again.
                self.heard_at = self.now;
            }
            if room == 0 || !link.may_receive() {
                return Ok(());
            }
            let received = if let Some(most) = wire.receiver.direct_max() {
                let received = link.receive(wire.response.spare(most.min(room)), network);
                if let Ok(n) = received {
                    wire.response.commit(n);
                    wire.receiver.handle_direct(n, &mut wire.response);
                }
                received
            } else {
                let mut scratch = network.hub.http.scratch();
                let room = room.min(scratch.len());
                let received = link.receive(scratch.get_mut(..room).unwrap_or_default(), network);
                if let Ok(n) = received {
                    let input = scratch.get(..n).unwrap_or_default();
                    wire.receiver.handle_input(input, &mut wire.response, &network.hub.http.limits)?;
                }
                received
            };
            match received {
                Ok(_) => self.heard_at = self.now,
                Err(Stop::Wait) => return Ok(()),
                Err(Stop::End) => return self.end_of_stream(true),
                Err(Stop::Cut) => return self.end_of_stream(false),
                Err(Stop::Failed(Failure::ConnectionTerminated)) if !self.wire.receiver.is_untouched() => {
                    return Err(Failure::HttpResponseIncomplete);
                }
                Err(Stop::Failed(failure)) => return Err(failure),
            }
        }
    }

    /// The server has ended the connection. `clean`: what came is what it sent.
    fn end_of_stream(&mut self, clean: bool) -> Result<(), Failure> {
        let until_close = self.wire.receiver.state() == Recv::Body
            && self.wire.receiver.direct_max() == Some(usize::MAX)
            && self.wire.receiver.body_due().is_none();
        if until_close && !clean {
            return Err(Failure::HttpResponseIncomplete);
        }
        match self.wire.receiver.handle_eof(&mut self.wire.response) {
            Ok(()) => Ok(()),
            Err(error @ ResponseError::Unanswered) if self.unsent.is_some() => {
                Err(self.unsent.take().unwrap_or(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A kept connection turned out to be gone, and nothing is lost by sending the request once more.
    fn may_repeat(&self) -> bool {
        self.repeats && self.wire.receiver.is_untouched() && self.wire.sender.can_rewind()
    }

    fn repeat_or_fail(&mut self, failure: Failure) {
        let again =
            failure == Failure::ConnectionTerminated && self.may_repeat() && self.wire.sender.rewind();
        if !again {
            return self.fail(failure);
        }
        self.repeats = false;
        self.wire.receiver = Receiver::default();
        let begun = self.wire.receiver.begin(self.wire.sender.is_head_request());
        let until = self.now.saturating_add(self.timeouts.connect);
        match (begun, Dial::new(&self.origin, &self.network, until)) {
            (Ok(()), Ok(dial)) => self.stage = Stage::Dial(dial),
            (Err(_), _) => self.fail(failure),
            (_, Err(failure)) => self.fail(failure),
        }
    }

    /// It does not go on. What was received before stays to be read.
    fn fail(&mut self, failure: Failure) {
        self.stage = Stage::Over;
        self.wire.sender.cut();
        if !self.wire.receiver.state().is_complete() {
            self.wire.receiver.fail();
            self.failure.get_or_insert(failure);
        } else {
            self.unsent.get_or_insert(failure);
        }
    }

    /// What is waited for, until when, and what it means if it does not come.
    fn deadline(&self) -> Option<(Nanos, Failure)> {
        match &self.stage {
            Stage::Over => None,
            Stage::Dial(dial) => Some((dial.due(), Failure::ConnectionTimeout)),
            Stage::Open(_) => {
                let receiver = &self.wire.receiver;
                let write = (!self.is_flushed() && self.hold_until.is_none()).then(|| {
                    (
                        self.sent_at.saturating_add(self.timeouts.between_bytes),
                        Failure::ConnectionWriteTimeout,
                    )
                });
                let read = match receiver.state() {
                    Recv::Head if self.wire.sender.state() != Sending::Body => {
                        Some(self.sent_at.saturating_add(self.timeouts.first_byte))
                    }
                    Recv::Body if receiver.room(&self.wire.response) > 0 => {
                        Some(self.heard_at.saturating_add(self.timeouts.between_bytes))
                    }
                    _ => None,
                };
                let read = read.map(|at| (at, Failure::ConnectionReadTimeout));
                write.into_iter().chain(read).min_by_key(|(at, _)| *at)
            }
        }
    }

    /// Ends it if it is overdue, and sees to it that it is looked at when it will be.
    fn watch(&mut self, driver: &Weak<dyn Driven>) {
        let deadline = self.deadline();
        if let (Some((at, failure)), Stage::Open(_)) = (&deadline, &self.stage)
            && self.now >= *at
        {
            self.fail(failure.clone());
        }
        let held = self.hold_until.filter(|_| matches!(self.stage, Stage::Open(_)));
        let deadline = deadline.map(|(at, _)| at).filter(|_| !matches!(self.stage, Stage::Over));
        let tired = match &self.stage {
            Stage::Dial(dial) => dial.is_tired(),
            Stage::Open(link) => link.is_tired(),
            Stage::Over => false,
        };
        // Others go first.
        let again = tired.then(|| self.now.saturating_add(MS));
        // The answer to a lookup comes on another thread, and wakes the guest if it waits. It may do something else.
        let looking = matches!(&self.stage, Stage::Dial(dial) if dial.is_looking());
        let again = if looking { Some(self.now.saturating_add(LOOK_INTERVAL)) } else { again };
        let hub = &self.network.hub;
        match (deadline.into_iter().chain(held).chain(again).min(), self.timer) {
            // One that comes too early finds out when it does.
            (Some(at), Some((_, set))) if set <= at && set > self.now => {}
            (Some(at), timer) => {
                if let Some((timer, _)) = timer {
                    hub.cancel_timer(timer);
                }
                self.timer = Some((hub.drive_at(at, Weak::clone(driver)), at));
            }
            (None, Some((timer, _))) if matches!(self.stage, Stage::Over) => {
                hub.cancel_timer(timer);
                self.timer = None;
            }
            // It may be of use again, and fires for nothing otherwise.
            (None, _) => {}
        }
    }

    /// It is over: gives the connection back if it can be kept. What is left of it is for the caller to drop.
    pub(super) fn close(&mut self) -> Stage {
        if let Some((timer, _)) = self.timer.take() {
            self.network.hub.cancel_timer(timer);
        }
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        let kept = match stage {
            Stage::Open(link) if is_reusable(&self.wire.sender, &self.wire.receiver) => {
                let wire = std::mem::take(&mut self.wire);
                let hub = &self.network.hub;
                hub.http.put(hub, link, wire, Arc::clone(&self.origin));
                Stage::Over
            }
            stage => stage,
        };
        self.fail(Failure::ConnectionTerminated);
        kept
    }
}
