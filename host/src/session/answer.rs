//! Answers of our own, and what the logs say of a request.

use std::sync::Arc;
use std::time::Duration;

use tidegate_proto::conn::state::Send;
use tidegate_proto::error::PeerError;
use tidegate_proto::http1::encode::{ResponseHead, encode_problem};

use super::page::{HTML, Page, TEXT, prefers_html};
use super::report::Report;
use super::{Fate, Session};
use crate::exchange::{Fault, Inner, RequestId};
use crate::guest::crash::Crash;
use crate::guest::loading::LoadFailure;
use crate::guest::outcome::{CPU_LIMIT, Failure, LOAD_FAILED, OVERLOADED, Outcome};
use crate::local::{Local, Progress};
use crate::observe::access_log::{Record, timestamp};
use crate::observe::failures::{Failed, WITHOUT_APP};
use crate::observe::guest_log::Level;
use crate::observe::metrics::Request;

/// How a request can end that neither its guest nor a broken rule ends.
#[derive(Debug)]
pub(super) struct Ending {
    /// What the access log calls it.
    pub(super) word: &'static str,
    pub(super) level: Level,
    pub(super) detail: &'static str,
}

/// Clients go away all the time: nothing is wrong.
pub(super) const CANCELLED: Ending = Ending {
    word: "cancelled",
    level: Level::Debug,
    detail: "the client went away before it had its answer",
};
pub(super) const SLOW_READER: Ending =
    Ending { word: "slow-reader", level: Level::Info, detail: "the client read its answer too slowly" };
pub(super) const DRAINED: Ending = Ending {
    word: "drained",
    level: Level::Warn,
    detail: "the server ends, and the time for what was running is over",
};

/// Says that a limit of time ran out, and which.
pub(super) fn limit_text(name: &str, limit: Duration) -> String {
    format!("the {name} limit of {} ran out", humantime::format_duration(limit))
}

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
        // An answer that was complete before that still leaves: nothing has failed that anybody could see.
        if queued || cut {
            self.end_badly(Level::Info, &inner, failure.code, error.detail());
        }
    }

    /// The request fails before its guest has answered: an error of ours instead. The detail is for the log.
    pub(super) fn fail(
        &mut self,
        local: &mut Local,
        inner: &Inner,
        failure: Failure,
        detail: &str,
        retry_after_s: Option<u32>,
    ) {
        if self.conn.answer() {
            self.queue_problem(local, inner, failure, failure.title, retry_after_s);
        } else {
            self.active(local).cut = true;
        }
        self.end_failed(inner, failure, detail);
    }

    /// Likewise, for what its guest did or failed to do. In dev whoever asked is the guest's author, and is told all.
    pub(super) fn fail_explained(
        &mut self,
        local: &mut Local,
        inner: &Inner,
        failure: Failure,
        detail: &str,
        crash: Option<&Crash>,
    ) {
        if !local.shared.settings.dev {
            return self.fail(local, inner, failure, detail, None);
        }
        // The log has all of the crash already.
        let detail = crash.map_or(detail, |crash| &crash.reason);
        if self.conn.answer() {
            let report = Report { failure, detail, crash, inner };
            let (media_type, body) = report.for_client();
            let page = Page { status: failure.status, code: failure.code, media_type, body: &body };
            self.queue_page(local, inner, page);
        } else {
            self.active(local).cut = true;
        }
        self.end_failed(inner, failure, detail);
    }

    fn end_failed(&mut self, inner: &Inner, failure: Failure, detail: &str) {
        let level = if failure.status < 500 { Level::Info } else { Level::Warn };
        self.end_badly(level, inner, failure.code, detail);
    }

    /// A guest was stopped by us: with an error if nothing of its answer has left, else by cutting it off.
    pub(super) fn fail_guest(&mut self, local: &mut Local, failure: Failure, detail: &str) {
        let awaited = self.conn.send() == Send::Await;
        let active = self.active(local);
        active.cut = !awaited;
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        if awaited {
            self.fail_explained(local, &exchange.lock(), failure, detail, None);
        } else {
            self.end_badly(Level::Warn, &exchange.lock(), failure.code, detail);
        }
    }

    pub(super) fn queue_problem(
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
        let Failure { code, status, title } = failure;
        let id = inner.facts.id.to_string();
        encode_problem(status, code, title, detail, &id, &cx, close, &date, retry_after_s, active.out.tail());
    }

    /// There are no apps but a notice: the request gets that, and its line in the access log. The caller knows that it is
    /// a notice which is served.
    pub(super) fn show_notice(&mut self, local: &mut Local, inner: &Inner) {
        let registry = Arc::clone(&local.registry);
        let Some(notice) = registry.notice() else { return };
        let html = prefers_html(inner.head.fields());
        let (media_type, body) = if html { (HTML, &notice.html) } else { (TEXT, &notice.text) };
        if self.conn.answer() {
            let page = Page { status: notice.status, code: notice.code, media_type, body };
            self.queue_page(local, inner, page);
        } else {
            self.active(local).cut = true;
        }
        self.active(local).outcome = Some(notice.code);
    }

    /// An answer of ours that is not a problem document.
    pub(super) fn queue_page(&mut self, local: &mut Local, inner: &Inner, page: Page<'_>) {
        let date = local.date();
        let cx = *self.conn.context();
        let close = self.conn.closes_after();
        let active = self.active(local);
        active.status = page.status;
        page.encode(&inner.facts.id, &cx, close, &date, active.out.tail());
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
            let now = local.now;
            if let Some(exchange) = self.active(local).exchange().map(Arc::clone) {
                let detail = "the request waited for admission until it was due";
                let app = self.active(local).app.as_ref();
                let retry_after_s = app.map_or(1, |app| app.seat.gate.retry_after_s(now));
                self.fail(local, &exchange.lock(), OVERLOADED, detail, Some(retry_after_s));
            }
            return self.drive(local);
        }
        self.arm_timer(local);
        Fate::Keep
    }

    /// Its app's code can not be had.
    pub(super) fn fail_to_load(&mut self, local: &mut Local, failure: &LoadFailure) {
        if let Some(exchange) = self.active(local).exchange().map(Arc::clone) {
            let LoadFailure { reason, retry_after_s } = failure;
            self.fail(local, &exchange.lock(), LOAD_FAILED, reason, Some(*retry_after_s));
        }
    }

    /// The request ends before its answer has left, for a reason that is not its guest's.
    pub(super) fn cut_short(&mut self, ending: &Ending) {
        let Some(active) = self.active.as_ref().filter(|active| active.arrived != 0) else { return };
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        self.end_badly(ending.level, &exchange.lock(), ending.word, ending.detail);
    }

    /// The request has failed: the access log gets the word, and the server's log a line. What comes after that is a
    /// consequence: the first word stands.
    pub(super) fn end_badly(&mut self, level: Level, inner: &Inner, word: &'static str, detail: &str) {
        let Some(active) = &mut self.active else { return };
        if active.outcome.is_none() {
            active.outcome = Some(word);
            self.log_failure(level, inner, word, detail);
        }
    }

    /// A failure, under the id that the client was told.
    pub(super) fn log_failure(&self, level: Level, inner: &Inner, code: &str, detail: &str) {
        let Some(active) = &self.active else { return };
        let (log, app) = match &active.app {
            Some(app) => (&app.program.log.failures, &*app.program.name),
            None => (&WITHOUT_APP, "-"),
        };
        log.tell(level, &Failed { app, request: &inner.facts.id, code, status: active.status, detail });
    }

    /// What the log says of how a guest ended: which limit ran out, what it returned, why its head was refused.
    pub(super) fn explain(&self, outcome: &Outcome, inner: &Inner) -> String {
        let app = self.active.as_ref().and_then(|active| active.app.as_ref());
        match (outcome, inner.response.refused()) {
            (Outcome::Returned(0), Some(error)) => format!("the response head was refused: {error}"),
            (Outcome::Returned(0), None) => "the handler returned without a response".to_owned(),
            (Outcome::Returned(code), _) => format!("the handler returned {code}"),
            (Outcome::Reported(text) | Outcome::Trapped(text) | Outcome::OutOfMemory(text), _) => {
                text.clone()
            }
            (Outcome::CpuExceeded, _) => match app {
                Some(app) => limit_text("CPU", app.program.limits.cpu),
                None => CPU_LIMIT.title.to_owned(),
            },
        }
    }

    /// Counts a request whose head had come or that was refused, and writes its line in the access log.
    pub(super) fn log_request(&self, local: &Local) {
        self.count_for_canary();
        let Some(active) = &self.active else { return };
        let Some(exchange) = active.exchange() else { return };
        if active.arrived == 0 && active.status == 0 {
            return;
        }
        let inner = exchange.lock();
        let took = if active.arrived == 0 { 0 } else { local.now.saturating_sub(active.arrived) };
        let (bytes_in, bytes_out) = (inner.request.pipe.total_in(), inner.response.written());
        let metrics = active.app.as_ref().map_or(&local.shared.metrics.without_app, |app| &app.seat.metrics);
        let (status, outcome, queued) = (active.status, active.outcome, active.queued);
        metrics.shard(local.worker).request(&Request { status, outcome, took, queued, bytes_in, bytes_out });
        let Some(log) = &local.shared.access_log else { return };
        let peer = inner.facts.ends.peer.map_or_else(|| "unix".to_owned(), |a| a.to_string());
        let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        let us = |ns: u64| ns / 1000;
        log.write(&Record {
            time: timestamp(),
            request: &inner.facts.id.to_string(),
            app: active.app.as_ref().map_or("-", |app| &*app.program.name),
            peer: &peer,
            method: &dash(inner.head.method()),
            target: &dash(inner.head.target()),
            status: active.status,
            bytes_in,
            bytes_out,
            queue_us: us(active.queued),
            cpu_us: us(exchange.slice.used()),
            wall_us: us(took),
            outcome: active.outcome.unwrap_or("ok"),
        });
    }
}

impl Session {
    /// A version that may be rolled back by itself learns how its requests go. What its clients did wrong is not its
    /// fault, nor that there were too many.
    fn count_for_canary(&self) {
        let Some(active) = &self.active else { return };
        let Some(app) = active.app.as_ref().filter(|_| active.status != 0 || active.outcome.is_some()) else {
            return;
        };
        let Some(tally) = &app.tally else { return };
        let failed = match active.outcome {
            None => active.status >= 500,
            Some("cancelled" | "slow-reader" | "drained" | "overloaded" | "rate-limited") => false,
            Some(_) => active.status >= 500 || active.cut,
        };
        tally.count(failed);
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
