//! Requests that wait for admission, in the order they came, by app.
//!
//! All versions of an app stand in one line, as they share one gate; each request keeps the version it came for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::guest::scheduler::AppId;
use crate::reactor::token::Slot;
use crate::tenants::registry::App;

/// A request in a line.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) app: Arc<App>,
    pub(super) session: Slot,
    /// Tells it from earlier requests of the same session.
    pub(super) ticket: u64,
}

/// A worker's waiting lines, none of them empty. A waiter that gave up stays in its line until its turn, and is told
/// apart by its ticket.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: BTreeMap<AppId, VecDeque<Waiter>>,
    tickets: u64,
    /// Which app is asked first changes from time to time, so that none is always last.
    rounds: usize,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Joins the end of the app's line. Returns the ticket.
    pub(super) fn join(&mut self, app: &Arc<App>, session: Slot) -> u64 {
        self.tickets += 1;
        let waiter = Waiter { app: Arc::clone(app), session, ticket: self.tickets };
        self.lines.entry(app.id).or_default().push_back(waiter);
        self.tickets
    }

    /// Back to the front: its turn came and something else was missing.
    pub(super) fn rejoin(&mut self, waiter: Waiter) {
        self.lines.entry(waiter.app.id).or_default().push_front(waiter);
    }

    /// Apps that somebody waits for, another one first each time.
    pub(super) fn apps(&mut self) -> Vec<AppId> {
        let mut apps: Vec<_> = self.lines.keys().copied().collect();
        if !apps.is_empty() {
            self.rounds = self.rounds.wrapping_add(1);
            let first = self.rounds % apps.len();
            apps.rotate_left(first);
        }
        apps
    }

    /// The first in the app's line.
    pub(super) fn first(&mut self, app: AppId) -> Option<Waiter> {
        let line = self.lines.get_mut(&app)?;
        let first = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&app);
        }
        first
    }
}
