//! Sending: what the guest did becomes heads and bodies, and these leave in as few calls as possible.

use std::io::IoSlice;
use std::sync::Arc;

use tidegate_proto::conn::state::Send;
use tidegate_proto::conn::{Body, Connection, OutBuf};

use super::{Fate, Session};
use crate::config::Given;
use crate::exchange::{Inner, Response, Stage};
use crate::guest::crash::Crash;
use crate::guest::outcome::{Outcome, RESPONSE_TOO_LARGE};
use crate::local::{Local, Progress};
use crate::observe::guest_log::Level;

/// Calls to the socket that one look is worth.
const WRITES_MAX: usize = 16;
/// Interim heads follow while less than this is pending. What a slow reader leaves behind stays in the exchange, which
/// counts it.
const HINTS_PENDING_MAX: usize = 32 * 1024;

/// Queues the 103 responses that wait, for as long as less than `pending_max` is queued before each.
fn send_hints(conn: &mut Connection, response: &mut Response, out: &mut OutBuf, pending_max: usize) {
    while out.pending().len() < pending_max {
        let Some(lines) = response.take_hint() else { return };
        conn.send_interim(103, &lines, out);
    }
}

impl Session {
    /// Takes up what the guest did until it was suspended or its call ended. [`Session::drive`] follows.
    pub(crate) fn take_up(&mut self, local: &mut Local, outcome: Option<&Outcome>, crash: Option<&Crash>) {
        let Some(active) = &mut self.active else { return };
        if outcome.is_some() {
            active.progress = Progress::Returned;
        }
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        let mut guard = exchange.lock();
        if self.conn.send() == Send::Await && guard.response.exceeded() {
            drop(guard);
            if self.refuse_too_large(local, outcome) {
                return;
            }
            guard = exchange.lock();
        }
        let Some(active) = &mut self.active else { return };
        let inner = &mut *guard;
        send_hints(&mut self.conn, &mut inner.response, &mut active.out, HINTS_PENDING_MAX);
        if inner.request.is_wanted() {
            self.conn.handle_body_wanted(local.now_ms(), &mut active.out);
        }
        let failed = outcome.filter(|o| **o != Outcome::Returned(0));
        let unset = inner.response.stage() == Stage::Unset;
        // Nothing of a held head has left yet: a client whose guest fails then is told what happened instead. A response that
        // is complete stands.
        let held = self.conn.send() == Send::Await && inner.response.stage() != Stage::Ended;
        if let Some(outcome) = outcome.filter(|_| unset || (failed.is_some() && held)) {
            let failure = outcome.failure(inner.response.refused().is_some());
            let detail = self.explain(outcome, inner);
            return self.fail_explained(local, inner, failure, &detail, crash);
        }
        // A guest whose slice is over may be about to ask for a body that is held back until then: once a head has left,
        // there is no 100 any more.
        let undecided = outcome.is_none() && self.conn.awaits_continue() && exchange.slice.has_yielded();
        let stays = undecided && inner.response.stage() == Stage::Head;
        if self.conn.send() == Send::Await && !unset && !stays {
            // Those that still wait go before it: no more than may wait at once, and no more can follow.
            send_hints(&mut self.conn, &mut inner.response, &mut active.out, usize::MAX);
            active.status = inner.response.head.status();
            let known = inner.response.known_len();
            // A request awaits its head: the only state in which this is possible.
            let _ = self.conn.send_head(&inner.response.head, known, &local.date(), None, &mut active.out);
        }
        if inner.response.stage() == Stage::Cut && !active.cut {
            active.cut = true;
            if inner.response.exceeded() {
                let detail = self.too_large_text();
                return self.end_badly(Level::Warn, inner, RESPONSE_TOO_LARGE.code, &detail);
            }
            let detail = failed.map(|failed| self.explain(failed, inner));
            let detail = detail.as_deref().unwrap_or(
                "the handler dropped the body without finishing it, or sent another length than it declared: the \
                 response is cut off",
            );
            self.end_badly(Level::Warn, inner, failed.map_or("unfinished", Outcome::word), detail);
        } else if let Some(failed) = failed {
            // The answer was complete before the guest failed: it stands.
            let detail = format!("after the response had ended: {}", self.explain(failed, inner));
            self.log_failure(Level::Warn, inner, failed.word(), &detail);
        }
    }

    /// Nothing has left of an answer that is larger than it may be. False: the guest may still give another one.
    fn refuse_too_large(&mut self, local: &mut Local, outcome: Option<&Outcome>) -> bool {
        let exchange = self.active.as_ref().and_then(|active| active.exchange());
        let cut = exchange.is_some_and(|exchange| exchange.lock().response.stage() == Stage::Cut);
        let given_up =
            matches!(outcome, Some(Outcome::Returned(_) | Outcome::Reported(_) | Outcome::Trapped(_)));
        if cut || given_up {
            self.stop_guest(local);
            let detail = self.too_large_text();
            self.fail_guest(local, RESPONSE_TOO_LARGE, &detail);
        }
        cut || given_up
    }

    fn too_large_text(&self) -> String {
        let app = self.active.as_ref().and_then(|active| active.app.as_ref());
        let limit = app.and_then(|app| app.program.limits.response_bytes).unwrap_or(0);
        format!("the answer is larger than the limit of {} (`response`)", Given::size_told(limit))
    }

    /// Sends what is queued, for as long as the socket takes it.
    pub(super) fn flush(&mut self, local: &mut Local) -> Fate {
        let now_ms = local.now_ms();
        let Some(active) = &mut self.active else { return Fate::Keep };
        let Some(exchange) = active.exchange().map(Arc::clone) else { return Fate::Keep };
        let mut moved = false;
        let mut inner = exchange.lock();
        for _ in 0..WRITES_MAX {
            let Inner { response, .. } = &mut *inner;
            send_hints(&mut self.conn, response, &mut active.out, HINTS_PENDING_MAX);
            let mut body = Body { pipe: &mut response.pipe, trailers: &response.trailers };
            self.conn.poll_transmit(&mut body, &mut active.out);
            if self.conn.is_flushed(&active.out) {
                self.conn.handle_flushed();
                break;
            }
            if !self.transport.is_writable() {
                self.conn.handle_blocked(now_ms);
                break;
            }
            let slices = self.conn.slices(&response.pipe, &active.out);
            let mut vectors = [IoSlice::new(&[]); 4];
            let mut count = 0;
            for slice in slices.into_iter().filter(|s| !s.is_empty()) {
                vectors[count] = IoSlice::new(slice);
                count += 1;
            }
            match self.transport.send(&vectors[..count]) {
                Ok(n) => {
                    let limits = &local.shared.settings.http;
                    self.conn.handle_transmitted(n, &mut response.pipe, &mut active.out, now_ms, limits);
                    active.sent += n as u64;
                    moved |= n > 0;
                }
                Err(_) => return Fate::Close,
            }
        }
        let unsent = !self.conn.is_flushed(&active.out) && self.transport.is_writable();
        drop(inner);
        if moved {
            self.wake_guest(local);
        }
        if unsent {
            self.look_again(local);
        }
        Fate::Keep
    }

    /// What the peer has taken of what the system holds for it counts for its clock: a full socket buffer takes nothing
    /// from us until a good part of it is free, which a slow reader may need minutes for.
    pub(super) fn count_acknowledged(&mut self, local: &Local) {
        let (Some(active), Some(queued)) = (&mut self.active, self.transport.unacknowledged()) else {
            return;
        };
        let acknowledged = active.sent.saturating_sub(queued);
        let more = acknowledged.saturating_sub(active.acknowledged);
        self.conn.handle_drained(more, local.now_ms(), &local.shared.settings.http);
        active.acknowledged = acknowledged.max(active.acknowledged);
    }
}
