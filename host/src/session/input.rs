//! Receiving: from the socket to the protocol core, and from there to the guest.

use std::sync::Arc;

use tidegate_proto::conn::state::Recv;
use tidegate_proto::conn::{Eof, Receiving, Taken};
use tidegate_proto::pipe::{Pipe, Watermarks};

use super::answer::CANCELLED;
use super::edge::{Standing, identify};
use super::{Fate, Session};
use crate::clock::{MS, Nanos};
use crate::exchange::{Fault, Inner, RequestId};
use crate::guest::outcome::{APP_UNAVAILABLE, NO_SUCH_APP, OVERLOADED, RATE_LIMITED};
use crate::local::{Begin, Local, Progress};
use crate::reactor::transport::Received;
use crate::tenants::quota::Crowded;
use crate::tenants::registry::{App, Registry};

/// Reads that one look is worth.
const READS_MAX: usize = 8;
/// When to come again to an app that can not be served: somebody has to put it right first.
const LACKING_RETRY_S: u32 = 10;
/// Bytes that are received straight into a pipe at once.
const DIRECT_BYTES_MAX: usize = 64 * 1024;

impl Session {
    /// Reads until the socket is empty, nothing more is wanted, or it has had its share.
    pub(super) fn receive(&mut self, local: &mut Local) -> Fate {
        if self.standing == Standing::Refused {
            return Fate::Close;
        }
        self.resume_if_drained(local);
        if !self.take_kept(local) {
            return Fate::Keep;
        }
        for _ in 0..READS_MAX {
            if !self.transport.is_readable() || !self.wants_input() {
                self.note_hangup(local);
                return Fate::Keep;
            }
            let fate = if self.conn.direct_body_max() > 0 && self.kept_is_empty() {
                self.receive_direct(local)
            } else {
                self.receive_scratch(local)
            };
            if fate == Fate::Close || self.standing == Standing::Refused {
                return Fate::Close;
            }
        }
        self.look_again(local);
        Fate::Keep
    }

    fn wants_input(&self) -> bool {
        let paused = self.active.as_ref().is_some_and(|active| active.paused);
        (self.conn.recv().wants_input() && !paused) || self.conn.is_lingering()
    }

    fn kept_is_empty(&self) -> bool {
        self.active.as_ref().is_none_or(|active| active.input.is_empty())
    }

    /// While nothing is read, the end of the peer's side is known from the event alone.
    fn note_hangup(&mut self, local: &Local) {
        if self.transport.peer_ended() && matches!(self.conn.recv(), Recv::Body | Recv::Ended) {
            self.conn.expect_hangup(local.now_ms(), &local.shared.settings.http);
        }
    }

    /// The guest may have made room in a body's pipe that was full.
    fn resume_if_drained(&mut self, local: &Local) {
        let Some(active) = &mut self.active else { return };
        if active.paused {
            let room = active.exchange().is_none_or(|x| x.lock().request.pipe.permit() > 0);
            if room || self.conn.recv() != Recv::Body {
                active.paused = false;
                self.conn.resume_input(local.now_ms());
            }
        }
    }

    /// Bytes that were kept come first. False: they are still not wanted.
    fn take_kept(&mut self, local: &mut Local) -> bool {
        if self.kept_is_empty() || !self.wants_input() {
            return true;
        }
        let Some(active) = &mut self.active else { return true };
        let mut kept = std::mem::take(&mut active.input);
        let before = kept.len();
        let taken = self.feed(local, &kept);
        kept.drain(..taken.min(before));
        match &mut self.active {
            Some(active) if !kept.is_empty() => active.input = kept,
            _ => local.buffers.give_back(kept),
        }
        true
    }

    fn receive_scratch(&mut self, local: &mut Local) -> Fate {
        let mut scratch = std::mem::take(&mut local.scratch);
        let received = self.transport.receive(&mut scratch);
        let fate = match received {
            Ok(Received::Some(n) | Received::Last(n)) => {
                self.take_bytes(local, scratch.get(..n).unwrap_or(&[]));
                Fate::Keep
            }
            Ok(Received::WouldBlock) => Fate::Keep,
            Ok(Received::Eof) => self.on_eof(local),
            Err(_) => Fate::Close,
        };
        local.scratch = scratch;
        fate
    }

    /// Feeds what came, behind what was kept; keeps what is left.
    fn take_bytes(&mut self, local: &mut Local, bytes: &[u8]) {
        if self.kept_is_empty() {
            let taken = self.feed(local, bytes);
            let rest = bytes.get(taken..).unwrap_or(&[]);
            if !rest.is_empty() {
                let buffer = local.buffers.lend();
                let active = self.active(local);
                active.input = buffer;
                active.input.extend_from_slice(rest);
            }
            return;
        }
        let Some(active) = &mut self.active else { return };
        let mut kept = std::mem::take(&mut active.input);
        kept.extend_from_slice(bytes);
        let taken = self.feed(local, &kept);
        kept.drain(..taken.min(kept.len()));
        if kept.is_empty() {
            local.buffers.give_back(kept);
        } else if let Some(active) = &mut self.active {
            active.input = kept;
        }
    }

    /// Gives bytes to the protocol core for as long as it takes them. Returns how many it took.
    fn feed(&mut self, local: &mut Local, input: &[u8]) -> usize {
        let mut at = 0;
        if self.standing == Standing::Announcing {
            let Some(len) = self.take_preamble(local, input) else { return 0 };
            if len == input.len() {
                return len;
            }
            at = len;
        }
        let Some(exchange) = self.active(local).exchange().map(Arc::clone) else { return input.len() };
        loop {
            let rest = input.get(at..).unwrap_or(&[]);
            if rest.is_empty() && !matches!(self.conn.recv(), Recv::Body | Recv::Discard) {
                self.wake_guest(local);
                return at;
            }
            let taken = {
                let inner = &mut *exchange.lock();
                let mut to = Receiving {
                    head: &mut inner.head,
                    body: &mut inner.request.pipe,
                    trailers: &mut inner.request.trailers,
                };
                self.conn.handle_input(rest, &mut to, local.now_ms(), &local.shared.settings.http)
            };
            match taken {
                Ok(Taken::Need(n)) => {
                    self.wake_guest(local);
                    return at + n;
                }
                Ok(Taken::Request(n)) => {
                    at += n;
                    self.dispatch(local);
                }
                Ok(Taken::Body(n) | Taken::Ended(n)) => at += n,
                Ok(Taken::Full(n)) => {
                    self.pause();
                    self.wake_guest(local);
                    return at + n;
                }
                Ok(Taken::Hold) => {
                    self.wake_guest(local);
                    return at;
                }
                Ok(Taken::Ignore) => return input.len(),
                Err(error) => {
                    self.refuse(local, error);
                    return input.len();
                }
            }
        }
    }

    fn pause(&mut self) {
        if let Some(active) = &mut self.active {
            active.paused = true;
        }
        self.conn.pause_input();
    }

    /// A counted body goes straight from the socket to the guest's pipe.
    fn receive_direct(&mut self, local: &mut Local) -> Fate {
        let Some(exchange) = self.active(local).exchange().map(Arc::clone) else { return Fate::Close };
        let max = usize::try_from(self.conn.direct_body_max()).unwrap_or(usize::MAX).min(DIRECT_BYTES_MAX);
        let received = {
            let pipe = &mut exchange.lock().request.pipe;
            let room = pipe.spare(max);
            if room.is_empty() {
                None
            } else {
                Some(self.transport.receive(room).map(|received| self.commit(received, pipe)))
            }
        };
        match received {
            None => {
                self.pause();
                Fate::Keep
            }
            Some(Err(_)) => Fate::Close,
            Some(Ok(Received::Eof)) => self.on_eof(local),
            Some(Ok(_)) => {
                self.wake_guest(local);
                Fate::Keep
            }
        }
    }

    fn commit(&mut self, received: Received, pipe: &mut Pipe) -> Received {
        if let Received::Some(n) | Received::Last(n) = received {
            pipe.commit(n);
            // Never more than the body may still bring, so that this is not refused.
            let _ = self.conn.handle_direct_body(n, pipe);
        }
        received
    }

    fn on_eof(&mut self, local: &mut Local) -> Fate {
        match self.conn.handle_eof(local.now_ms(), &local.shared.settings.http) {
            Eof::Close => Fate::Close,
            Eof::HalfClosed => Fate::Keep,
            Eof::Truncated => {
                self.cut_short(&CANCELLED);
                if let Some(exchange) = self.active.as_ref().and_then(|active| active.exchange()) {
                    exchange.lock().fail(Fault::Gone);
                }
                Fate::Close
            }
        }
    }

    /// The guest may wait for what has just come.
    pub(super) fn wake_guest(&mut self, local: &mut Local) {
        if let Some(active) = &self.active
            && let Progress::Running(task) = active.progress
        {
            local.wake(task);
        }
    }

    /// A head is complete: finds its app and hands it over.
    fn dispatch(&mut self, local: &mut Local) {
        let now = local.now;
        let (ends, standing, secure) = (self.ends, self.standing, self.secure);
        let has_body = !self.conn.request_ended();
        let declared = self.conn.declared_body();
        let head_request = self.conn.context().head_request;
        if local.is_draining() {
            self.conn.close_after();
        }
        let made = local.make_id();
        let trusts_id = standing == Standing::Proxy || local.shared.settings.trust_request_id;
        let slot = self.slot;
        let active = self.active(local);
        active.arrived = now;
        let Some(exchange) = active.exchange().map(Arc::clone) else { return };
        let mut inner = exchange.lock();
        inner.facts.ends = ends;
        inner.facts.secure = secure;
        identify(standing, &local.shared.settings.edge, &mut inner);
        inner.facts.has_body = has_body;
        inner.facts.id = match inner.head.fields().get("x-request-id") {
            Some(given) if trusts_id => RequestId::given(given).unwrap_or(made),
            _ => made,
        };
        if inner.head.path() == "*" {
            drop(inner);
            return self.answer_options(local);
        }
        if local.registry.notice().is_some() {
            return self.show_notice(local, &inner);
        }
        let app = match find_app(&local.registry, &mut inner, local.request_count()) {
            Some(Ok(app)) => app,
            Some(Err(name)) => {
                let detail = format!("the app `{name}` can not be served: `tidegate apps {name}` says why");
                return self.fail(local, &inner, APP_UNAVAILABLE, &detail, Some(LACKING_RETRY_S));
            }
            None => return self.fail(local, &inner, NO_SUCH_APP, NO_SUCH_APP.title, None),
        };
        let limits = &app.program.limits;
        let wall = u64::try_from(limits.wall.as_nanos()).unwrap_or(u64::MAX);
        let due = now.saturating_add(wall);
        inner.facts.deadline = due;
        inner.begin(head_request, watermarks(&app));
        inner.response.set_limit(limits.response_bytes.unwrap_or(u64::MAX));
        if !has_body {
            // A guest that reads all the same is at the end, and does not wait for what never comes.
            inner.request.pipe.end();
        }
        drop(inner);
        active.app = Some(Arc::clone(&app));
        let body_max = limits.body_bytes.unwrap_or(u64::MAX);
        self.conn.limit_body(body_max);
        if declared.is_some_and(|n| n > body_max) {
            return self.refuse(local, tidegate_proto::error::PeerError::BodyTooLarge);
        }
        if let Err(wait) = app.seat.quota.take_request(now) {
            let detail =
                "the app, or all of its tenant's together, gets more requests than `requests` allows";
            return self.fail(local, &exchange.lock(), RATE_LIMITED, detail, Some(whole_seconds(wait)));
        }
        match app.seat.connect() {
            Ok(busy) => self.active(local).busy = busy,
            Err(Crowded) => {
                let detail = "as many connections as `connections` allows are busy";
                return self.fail(local, &exchange.lock(), OVERLOADED, detail, Some(1));
            }
        }
        let progress = match local.arrive(slot, &app, &exchange, due) {
            Begin::Running(task) => Progress::Running(task),
            Begin::Waiting(ticket) => Progress::Waiting(ticket),
            Begin::Failed(failure) => return self.fail_to_load(local, &failure),
            Begin::Shed { retry_after_s } => {
                let detail = "as many requests as may wait do so, or it would have been due before its turn";
                return self.fail(local, &exchange.lock(), OVERLOADED, detail, Some(retry_after_s));
            }
        };
        self.active(local).progress = progress;
    }
}

/// The version that a request is for, or the name of the app that can not be served. `draw` is another number for each.
fn find_app(registry: &Registry, inner: &mut Inner, draw: u64) -> Option<Result<Arc<App>, Arc<str>>> {
    let found = registry.find(inner.head.host(), inner.head.path(), &mut inner.facts.params)?;
    inner.facts.mount_len = found.mount_len;
    Some(found.value.choose(inner.head.fields(), draw).map(Arc::clone).map_err(Arc::clone))
}

/// Rounded up: whoever comes again then does not come too early.
fn whole_seconds(wait: Nanos) -> u32 {
    u32::try_from(wait.div_ceil(1_000 * MS)).unwrap_or(u32::MAX).max(1)
}

fn watermarks(app: &App) -> Watermarks {
    // They were checked when the settings were; a program never carries others.
    app.program.limits.watermarks().unwrap_or_default()
}
