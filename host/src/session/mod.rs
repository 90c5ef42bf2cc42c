//! One connection: the glue between its transport, its protocol state and the exchange with a guest.
//!
//! The only place that sees both sides. A session does what it can whenever it is given a look at an event, at what
//! its guest did, or at the time, and then says whether it goes on.
//!
//! Invariants: stopping before "would block" means asking for another look, or being paused; queued output is written
//! or waits for a writable edge; what the guest's direction waits for is looked at after every change to a pipe.

mod answer;
mod edge;
mod input;
mod operator;
mod output;
mod page;
mod report;

use std::sync::Arc;

use tidegate_proto::conn::state::{Recv, Send};
use tidegate_proto::conn::{After, Connection, NEVER, Timeout};
use tidegate_proto::error::PeerError;
use tidegate_proto::timers::TimerId;

use self::answer::{CANCELLED, DRAINED, SLOW_READER, limit_text};
use self::edge::Standing;
use crate::exchange::{Ends, Exchange, Fault};
use crate::guest::loading::LoadFailure;
use crate::guest::outcome::WALL_LIMIT;
use crate::local::{Active, Local, Progress, TimerKey};
use crate::reactor::token::Slot;
use crate::reactor::transport::Transport;
use crate::shared::Shared;

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Fate {
    Keep,
    Close,
}

/// Rounds of reading, writing and moving on that one look is worth.
const ROUNDS_MAX: usize = 8;

/// A connection.
#[derive(Debug)]
pub(crate) struct Session {
    slot: Slot,
    transport: Transport,
    conn: Connection,
    /// The peer's, or those that its preamble names.
    ends: Ends,
    standing: Standing,
    /// A preamble says that the client came over TLS.
    secure: bool,
    active: Option<Box<Active>>,
    /// The timer that is set, and when it fires: never later than the deadline, perhaps earlier.
    timer: Option<(TimerId, u64)>,
    /// It is in the list of sessions that need another look.
    pub(crate) listed: bool,
}

impl Session {
    pub(crate) fn new(slot: Slot, transport: Transport, ends: Ends, local: &Local) -> Self {
        let conn = Connection::new(local.now_ms(), &local.shared.settings.http);
        let standing = Standing::of(ends, &local.shared.settings.edge);
        Self {
            slot,
            transport,
            conn,
            ends,
            standing,
            secure: false,
            active: None,
            timer: None,
            listed: false,
        }
    }

    pub(crate) fn transport(&mut self) -> &mut Transport {
        &mut self.transport
    }

    /// Does what can be done now.
    pub(crate) fn drive(&mut self, local: &mut Local) -> Fate {
        if self.transport.is_dead() {
            return Fate::Close;
        }
        let mut rounds = 0;
        loop {
            let received = self.receive(local);
            if received == Fate::Close || self.flush(local) == Fate::Close {
                return Fate::Close;
            }
            match self.settle(local) {
                Settled::Close => return Fate::Close,
                Settled::Wait => break,
                Settled::Next => {}
            }
            rounds += 1;
            if rounds == ROUNDS_MAX {
                self.look_again(local);
                break;
            }
        }
        self.arm_timer(local);
        Fate::Keep
    }

    /// Asks for another look, in the next turn.
    fn look_again(&mut self, local: &mut Local) {
        if !self.listed {
            self.listed = true;
            local.again.push(self.slot);
        }
    }

    /// Moves on if the answer is complete.
    fn settle(&mut self, local: &mut Local) -> Settled {
        let limits = &local.shared.settings.http;
        let now_ms = local.now_ms();
        let flushed = self.active.as_ref().is_none_or(|active| self.conn.is_flushed(&active.out));
        if flushed && self.active.as_ref().is_some_and(|active| active.cut) {
            self.conn.cut();
        }
        match self.conn.after(flushed, now_ms, limits) {
            After::Wait => self.stop_discarded_body(local),
            After::Close => {
                // A guest that goes on after its answer does so whoever closes the connection; after a cut it does not.
                if self.conn.send() == Send::Done {
                    self.end_request(local);
                }
                Settled::Close
            }
            After::Linger => {
                self.end_request(local);
                self.transport.end();
                let limits = &local.shared.settings.http;
                self.conn.linger(now_ms, limits);
                Settled::Next
            }
            After::Next => {
                self.end_request(local);
                if local.closes_idle() || self.conn.next(now_ms, &local.shared.settings.http).is_err() {
                    return Settled::Close;
                }
                if self.active.is_none() && !self.transport.is_readable() {
                    return Settled::Wait;
                }
                Settled::Next
            }
        }
    }

    /// What is left of the request goes nowhere: a guest that still reads it is told so.
    /// If nothing was read because the guest had not made room, there is something to read now.
    fn stop_discarded_body(&mut self, local: &mut Local) -> Settled {
        if self.conn.recv() != Recv::Discard {
            return Settled::Wait;
        }
        let Some(active) = &mut self.active else { return Settled::Wait };
        let was_paused = std::mem::take(&mut active.paused);
        if let Some(exchange) = active.exchange() {
            exchange.lock().request.fail(Fault::Gone);
        }
        self.wake_guest(local);
        if was_paused { Settled::Next } else { Settled::Wait }
    }

    /// The request in progress is over: it is logged, and its guest, if it goes on, does so alone. What it held is
    /// given back, unless bytes of the next request have come already.
    fn end_request(&mut self, local: &mut Local) {
        self.log_request(local);
        // What has not come of its body will not come to it.
        if let Some(exchange) = self.active.as_ref().and_then(|active| active.exchange()) {
            exchange.lock().request.fail(Fault::Gone);
        }
        self.wake_guest(local);
        let Some(mut active) = self.active.take() else { return };
        if let Progress::Running(task) = active.progress {
            local.detach(task);
        }
        if active.input.is_empty() {
            local.give_back_active(active);
        } else {
            let exchange = active.renew(Some(local.lend_exchange()));
            local.recycle(exchange);
            self.active = Some(active);
        }
    }

    /// What the request holds, made if there is none.
    fn active(&mut self, local: &mut Local) -> &mut Active {
        self.active.get_or_insert_with(|| local.lend_active())
    }

    /// When a request that waits for admission is due.
    fn queue_deadline_ms(&self) -> u64 {
        match &self.active {
            Some(active) if matches!(active.progress, Progress::Waiting(_)) => {
                active.exchange().map_or(NEVER, |x| Shared::ms(x.lock().facts.deadline).saturating_add(1))
            }
            _ => NEVER,
        }
    }

    /// The deadline of everything this session waits for.
    fn deadline_ms(&self, local: &Local) -> u64 {
        self.conn.deadline(&local.shared.settings.http).min(self.queue_deadline_ms())
    }

    /// Sets the timer unless one is set that fires early enough; a deadline that moved on is looked at when it fires.
    pub(crate) fn arm_timer(&mut self, local: &mut Local) {
        let deadline = self.deadline_ms(local);
        if deadline == NEVER || self.timer.is_some_and(|(_, at)| at <= deadline) {
            return;
        }
        if let Some((id, _)) = self.timer.take() {
            local.cancel_timer(id);
        }
        self.timer = Some((local.set_timer_ms(deadline, TimerKey::Session(self.slot)), deadline));
    }

    /// The timer has fired.
    pub(crate) fn on_timer(&mut self, local: &mut Local) -> Fate {
        self.timer = None;
        let now_ms = local.now_ms();
        if self.deadline_ms(local) > now_ms {
            self.arm_timer(local);
            return Fate::Keep;
        }
        self.count_acknowledged(local);
        match self.conn.handle_timeout(now_ms, &local.shared.settings.http) {
            None if self.queue_deadline_ms() <= now_ms => self.give_up_waiting(local),
            // What the peer did since has moved its deadline on.
            None => {
                self.arm_timer(local);
                Fate::Keep
            }
            Some(_) if self.standing == Standing::Announcing => self.give_up_preamble(),
            Some(Timeout::Head | Timeout::Body) => {
                self.refuse(local, PeerError::Timeout);
                self.drive(local)
            }
            Some(Timeout::Reader) => {
                self.cut_short(&SLOW_READER);
                self.transport.abort();
                Fate::Close
            }
            Some(Timeout::HalfClose) => {
                self.cut_short(&CANCELLED);
                Fate::Close
            }
            Some(Timeout::Idle | Timeout::Linger) => Fate::Close,
        }
    }

    /// The guest's time is up.
    pub(crate) fn on_wall_limit(&mut self, local: &mut Local) -> Fate {
        self.stop_guest(local);
        let app = self.active.as_ref().and_then(|active| active.app.as_ref());
        let detail = app.map(|app| limit_text("wall", app.program.limits.wall));
        self.fail_guest(local, WALL_LIMIT, detail.as_deref().unwrap_or(WALL_LIMIT.title));
        self.drive(local)
    }

    /// The exchange of a request that waits with that ticket.
    pub(crate) fn waits_with(&self, ticket: u64) -> Option<Arc<Exchange>> {
        let active = self.active.as_ref()?;
        (active.progress == Progress::Waiting(ticket)).then(|| active.exchange().cloned())?
    }

    /// The request that waited has a task now.
    pub(crate) fn started(&mut self, local: &Local, task: Slot) {
        if let Some(active) = &mut self.active {
            active.progress = Progress::Running(task);
            active.queued = local.now.saturating_sub(active.arrived);
        }
    }

    /// The request waited for its app's code, which can not be had.
    pub(crate) fn not_loaded(&mut self, local: &mut Local, failure: &LoadFailure) -> Fate {
        let Some(active) = &mut self.active else { return Fate::Keep };
        active.progress = Progress::Returned;
        active.queued = local.now.saturating_sub(active.arrived);
        self.fail_to_load(local, failure);
        self.drive(local)
    }

    /// The server ends: what is idle closes, what runs finishes.
    pub(crate) fn drain(&mut self, local: &mut Local) -> Fate {
        self.conn.close_after();
        let fate = self.drive(local);
        if self.conn.is_idle() && self.active.is_none() { Fate::Close } else { fate }
    }

    /// Ends the request's guest or its wait, whatever it is doing.
    fn stop_guest(&mut self, local: &mut Local) {
        let Some(active) = &mut self.active else { return };
        match std::mem::replace(&mut active.progress, Progress::Returned) {
            Progress::Running(task) => local.cancel(task),
            Progress::Waiting(_) => {
                active.queued = local.now.saturating_sub(active.arrived);
                if let Some(app) = &active.app {
                    app.seat.gate.leave_queue();
                    // Others may have waited behind it only because it was there.
                    local.shared.wake_all();
                }
            }
            Progress::Nothing | Progress::Returned => {}
        }
    }

    /// A body that only the close ends, and that is not whole, ends with a reset: a plain close would make it look whole.
    fn reset_if_incomplete(&mut self) {
        let incomplete = match self.conn.send() {
            Send::Body | Send::Cut => true,
            Send::Done => self.active.as_ref().is_some_and(|active| !self.conn.is_flushed(&active.out)),
            Send::Idle | Send::Await => false,
        };
        if incomplete && self.conn.ends_with_close() {
            self.transport.abort();
        }
    }

    /// The time to drain is over, and this request is not. [`Session::close`] follows.
    pub(crate) fn cut_off(&mut self) -> Fate {
        if self.is_unanswered() {
            self.cut_short(&DRAINED);
        }
        Fate::Close
    }

    /// True if there is a request whose answer has not left as a whole.
    fn is_unanswered(&self) -> bool {
        self.active.as_ref().is_some_and(|active| {
            active.arrived != 0 && !(self.conn.send() == Send::Done && self.conn.is_flushed(&active.out))
        })
    }

    /// Gives everything back. The caller drops the session, and with it the socket.
    pub(crate) fn close(&mut self, local: &mut Local) {
        self.reset_if_incomplete();
        if let Some((id, _)) = self.timer.take() {
            local.cancel_timer(id);
        }
        if self.is_unanswered() {
            if let Some(exchange) = self.active.as_ref().and_then(|a| a.exchange()) {
                exchange.lock().fail(Fault::Gone);
            }
            self.cut_short(&CANCELLED);
        }
        self.stop_guest(local);
        self.log_request(local);
        if let Some(active) = self.active.take() {
            local.give_back_active(active);
        }
    }
}

/// What there is to do after an answer.
enum Settled {
    /// Nothing: it is not complete, or nothing more has come.
    Wait,
    /// Another round.
    Next,
    Close,
}
