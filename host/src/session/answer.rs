//! Answers of our own, and what the logs say of a request.

use std::sync::Arc;

use tidegate_proto::conn::state::Send;
use tidegate_proto::error::PeerError;
use tidegate_proto::http1::encode::{ResponseHead, encode_problem};

use super::{Fate, Session};
use crate::exchange::{Fault, Inner, RequestId};
use crate::guest::outcome::{Failure, OVERLOADED};
use crate::local::{Local, Progress};
use crate::observe::access_log::{Record, timestamp};

impl Session {
    /// The peer broke a rule: it is told which, and the connection ends. A guest that is at work is stopped.
    pub(super) fn refuse(&mut self, local: &mut Local, error: PeerError) {
        let fault = match error {
            PeerError::BodyTooLarge => Fault::TooLarge,
            PeerError::Timeout => Fault::TooSlow,
            _ => Fault::Malformed,
        };
        self.stop_guest(local);
        let status = error.status();
        let failure = Failure { code: refusal_code(status), status, title: refusal_title(status) };
        let queued = self.conn.reject();
        let cut = !queued && self.conn.send() == Send::Cut;
        let active = self.active(local);
        active.outcome = failure.code;
        active.paused = false;
        active.cut = cut;
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        let mut inner = exchange.lock();
        inner.fail(fault);
        if inner.facts.id == RequestId::Nothing {
            inner.facts.id = local.make_id();
            inner.facts.ends = self.ends;
        }
        if queued {
            self.queue_problem(local, &inner, failure, error.detail(), None);
        }
    }

    /// The request fails before its guest has answered: an error of ours instead.
    pub(super) fn fail(
        &mut self,
        local: &mut Local,
        inner: &Inner,
        failure: Failure,
        detail: Option<&str>,
        retry_after_s: Option<u32>,
    ) {
        self.log_failure(inner, failure.code, detail.unwrap_or(failure.title));
        if self.conn.answer() {
            self.queue_problem(local, inner, failure, failure.title, retry_after_s);
        } else {
            self.active(local).cut = true;
        }
    }

    /// A guest was stopped by us: with an error if nothing of its answer has left, else by cutting it off.
    pub(super) fn fail_guest(&mut self, local: &mut Local, failure: Failure) {
        let awaited = self.conn.send() == Send::Await;
        let active = self.active(local);
        active.outcome = failure.code;
        active.cut = !awaited;
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        if awaited {
            self.fail(local, &exchange.lock(), failure, None, None);
            return;
        }
        self.log_failure(&exchange.lock(), failure.code, failure.title);
    }

    fn queue_problem(
        &mut self,
        local: &mut Local,
        inner: &Inner,
        failure: Failure,
        detail: &str,
        retry_after_s: Option<u32>,
    ) {
        let date = local.date();
        let cx = *self.conn.context();
        let close = self.conn.closes_after();
        let active = self.active(local);
        active.status = failure.status;
        active.outcome = failure.code;
        let Failure { code, status, title } = failure;
        let id = inner.facts.id.to_string();
        encode_problem(status, code, title, detail, &id, &cx, close, &date, retry_after_s, active.out.tail());
    }

    /// `OPTIONS *` asks about the server as a whole (RFC 9110 section 9.3.7).
    pub(super) fn answer_options(&mut self, local: &mut Local) {
        let date = local.date();
        let mut head = ResponseHead::default();
        if head.set_status(204).is_err() {
            return;
        }
        let active = self.active(local);
        active.status = 204;
        let mut out = std::mem::take(&mut active.out);
        if self.conn.send_head(&head, Some(0), &date, None, &mut out).is_ok() {
            self.conn.end_empty();
        }
        self.active(local).out = out;
    }

    /// A request that waited for admission until it was due.
    pub(super) fn give_up_waiting(&mut self, local: &mut Local) -> Fate {
        if self.active.as_ref().is_some_and(|active| matches!(active.progress, Progress::Waiting(_))) {
            self.stop_guest(local);
            if let Some(exchange) = self.active(local).exchange().map(Arc::clone) {
                let detail = "the request waited for admission until it was due";
                self.fail(local, &exchange.lock(), OVERLOADED, Some(detail), Some(1));
            }
            return self.drive(local);
        }
        self.arm_timer(local);
        Fate::Keep
    }

    pub(super) fn note_outcome(&mut self, word: &'static str) {
        if let Some(active) = &mut self.active {
            active.outcome = word;
        }
    }

    /// A failure, under the id that the client was told.
    pub(super) fn log_failure(&self, inner: &Inner, code: &str, detail: &str) {
        let app = self.active.as_ref().and_then(|active| active.app.as_ref());
        let app = app.map_or("-", |app| &*app.program.name);
        let id = &inner.facts.id;
        tracing::warn!(target: "tidegate", app, request = %id, error = code, detail, "request failed");
    }

    /// A line in the access log, for a request whose head had come or that was refused.
    pub(super) fn log_request(&self, local: &Local) {
        let (Some(log), Some(active)) = (&local.shared.access_log, &self.active) else { return };
        let Some(exchange) = active.exchange() else { return };
        if active.arrived == 0 && active.status == 0 {
            return;
        }
        let inner = exchange.lock();
        let peer = inner.facts.ends.peer.map_or_else(|| "unix".to_owned(), |a| a.to_string());
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let us = |ns: u64| ns / 1000;
        log.write(&Record {
            time: timestamp(),
            id: &inner.facts.id.to_string(),
            app: active.app.as_ref().map_or("-", |app| &*app.program.name),
            peer: &peer,
            method: &dash(inner.head.method()),
            target: &dash(inner.head.target()),
            status: active.status,
            bytes_in: inner.request.pipe.total_in(),
            bytes_out: inner.response.written(),
            queue_us: us(active.queued),
            cpu_us: us(exchange.slice.used()),
            wall_us: if active.arrived == 0 { 0 } else { us(local.now.saturating_sub(active.arrived)) },
            outcome: active.outcome,
        });
    }
}

/// The code of a refusal, in the style of the others.
fn refusal_code(status: u16) -> &'static str {
    match status {
        408 => "request-timeout",
        413 => "body-too-large",
        414 => "target-too-long",
        417 => "expectation-failed",
        431 => "head-too-large",
        501 => "not-implemented",
        505 => "version-not-supported",
        _ => "bad-request",
    }
}

fn refusal_title(status: u16) -> &'static str {
    match status {
        408 => "The request came too slowly",
        413 => "The request body is too large",
        414 => "The request target is too long",
        417 => "The expectation can not be met",
        431 => "The request head is too large",
        501 => "The request asks for something that is not implemented",
        505 => "The protocol version is not supported",
        _ => "The request is malformed",
    }
}
