//! What a worker is at, for people: rows of `ps`.

use super::Local;
use super::tasks::{Purpose, Task};
use crate::clock::{MS, Nanos};
use crate::exchange::{Exchange, Inner};
use crate::observe::requests::RequestView;
use crate::reactor::token::Slot;
use crate::tenants::registry::App;

/// Bytes of a path that are shown.
const PATH_BYTES_MAX: usize = 256;

/// It goes on once its app, or its tenant, may use CPU time again.
pub(crate) const CPU_SHARE: &str = "cpu share";

impl Local {
    /// A row for what an app does on this worker. `began`: when the head was complete, or the call began.
    pub(crate) fn view(
        &self,
        app: &App,
        exchange: &Exchange,
        kind: &str,
        began: Nanos,
        waits_for: String,
    ) -> RequestView {
        let inner = exchange.lock();
        RequestView {
            id: inner.facts.id.to_string(),
            app: (*app.program.name).to_owned(),
            version: app.number,
            worker: self.worker,
            kind: kind.to_owned(),
            request: if kind == "request" { request(&inner) } else { String::new() },
            age_ms: self.now.saturating_sub(began) / MS,
            cpu_us: exchange.slice.used() / 1_000,
            waits_for,
        }
    }

    /// A row for a task without a session.
    pub(crate) fn view_task(&mut self, slot: Slot) -> Option<RequestView> {
        let task = self.tasks.get_mut(slot)?;
        let kind = match task.purpose {
            Purpose::Request => "request",
            Purpose::Connection => "connection",
            Purpose::Resident => "resident",
        };
        let task = &*task;
        let (app, exchange, began) =
            (std::sync::Arc::clone(&task.app), std::sync::Arc::clone(&task.exchange), task.entered());
        let waits_for = waits_for(task, self.now);
        Some(self.view(&app, &exchange, kind, began, waits_for))
    }

    /// What the guest of a task waits for.
    pub(crate) fn task_waits_for(&mut self, slot: Slot) -> Option<String> {
        let now = self.now;
        self.tasks.get_mut(slot).map(|task| waits_for(task, now))
    }
}

fn request(inner: &Inner) -> String {
    let path = inner.head.path();
    let shown = path.get(..path.floor_char_boundary(PATH_BYTES_MAX)).unwrap_or(path);
    let more = if shown.len() < path.len() { "..." } else { "" };
    format!("{} {shown}{more}", inner.head.method())
}

fn waits_for(task: &Task, now: Nanos) -> String {
    if task.is_ready() {
        if task.app.seat.quota.throttled_until(now).is_some() {
            return CPU_SHARE.to_owned();
        }
        // Its slice is over, and it goes on in its turn; or what it waited for has come.
        return if task.exchange.slice.has_yielded() { "running" } else { "ready" }.to_owned();
    }
    let park = task.exchange.lock().park;
    let mut words: Vec<&str> = Vec::new();
    if park.is_some_and(|park| park.readable) {
        words.push("request body");
    }
    if park.is_some_and(|park| park.writable) {
        words.push("response");
    }
    words.extend(task.waits().words());
    if park.is_some_and(|park| park.until.is_some()) {
        words.push("timer");
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(" or ") }
}
