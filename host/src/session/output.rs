//! Sending: what the guest did becomes heads and bodies, and these leave in as few calls as possible.

use std::io::IoSlice;
use std::sync::Arc;

use tidegate_proto::conn::Body;
use tidegate_proto::conn::state::Send;

use super::{Fate, Session};
use crate::exchange::{Inner, Stage};
use crate::guest::outcome::Outcome;
use crate::local::{Local, Progress};

/// Calls to the socket that one look is worth.
const WRITES_MAX: usize = 16;

impl Session {
    /// Takes up what the guest did until it was suspended or its call ended. [`Session::drive`] follows.
    pub(crate) fn take_up(&mut self, local: &mut Local, outcome: Option<&Outcome>) {
        let Some(active) = &mut self.active else { return };
        if outcome.is_some() {
            active.progress = Progress::Returned;
        }
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        let inner = &mut *exchange.lock();
        for lines in inner.response.take_hints() {
            self.conn.send_interim(103, &lines, &mut active.out);
        }
        if inner.request.is_wanted() {
            self.conn.handle_body_wanted(local.now_ms(), &mut active.out);
        }
        let failed = outcome.filter(|o| **o != Outcome::Returned(0));
        let unset = inner.response.stage() == Stage::Unset;
        // Nothing of a held head has left yet: a client whose guest fails then is told what happened instead.
        if let Some(outcome) =
            outcome.filter(|_| unset || (failed.is_some() && self.conn.send() == Send::Await))
        {
            let failure = outcome.failure(inner.response.refused_head());
            return self.fail(local, inner, failure, outcome.detail(), None);
        }
        if self.conn.send() == Send::Await && !unset {
            active.status = inner.response.head.status();
            let known = inner.response.known_len();
            // A request awaits its head: the only state in which this is possible.
            let _ = self.conn.send_head(&inner.response.head, known, &local.date(), None, &mut active.out);
        }
        if inner.response.stage() == Stage::Cut && !active.cut {
            active.cut = true;
            active.outcome = failed.map_or("unfinished", Outcome::word);
            let word = active.outcome;
            let detail = failed.and_then(Outcome::detail);
            self.log_failure(inner, word, detail.unwrap_or("the response was not finished as it was begun"));
        } else if let Some(failed) = failed {
            // The answer was complete before the guest failed: it stands.
            self.log_failure(inner, failed.word(), failed.detail().unwrap_or("after the response had ended"));
        }
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
    pub(super) fn count_acknowledged(&mut self) {
        let (Some(active), Some(queued)) = (&mut self.active, self.transport.unacknowledged()) else {
            return;
        };
        let acknowledged = active.sent.saturating_sub(queued);
        self.conn.handle_drained(acknowledged.saturating_sub(active.acknowledged));
        active.acknowledged = acknowledged.max(active.acknowledged);
    }
}
