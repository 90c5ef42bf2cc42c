//! Requests that wait for admission, in the order they came, by app.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::guest::scheduler::AppId;
use crate::reactor::token::Slot;
use crate::tenants::registry::App;

#[derive(Debug)]
struct Line {
    app: Arc<App>,
    waiters: VecDeque<(Slot, u64)>,
}

/// A worker's waiting lines. A waiter that gave up stays in its line until its turn, and is told apart by its ticket.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: BTreeMap<AppId, Line>,
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
        let ticket = self.tickets;
        self.line(app).waiters.push_back((session, ticket));
        ticket
    }

    /// Back to the front: its turn came and something else was missing.
    pub(super) fn rejoin(&mut self, app: &Arc<App>, session: Slot, ticket: u64) {
        self.line(app).waiters.push_front((session, ticket));
    }

    fn line(&mut self, app: &Arc<App>) -> &mut Line {
        self.lines.entry(app.id).or_insert_with(|| Line { app: Arc::clone(app), waiters: VecDeque::new() })
    }

    /// Apps that somebody waits for, another one first each time.
    pub(super) fn apps(&mut self) -> Vec<Arc<App>> {
        let mut apps: Vec<_> = self.lines.values().map(|line| Arc::clone(&line.app)).collect();
        if !apps.is_empty() {
            self.rounds = self.rounds.wrapping_add(1);
            let first = self.rounds % apps.len();
            apps.rotate_left(first);
        }
        apps
    }

    /// The first in the app's line.
    pub(super) fn first(&mut self, app: AppId) -> Option<(Slot, u64)> {
        let line = self.lines.get_mut(&app)?;
        let first = line.waiters.pop_front();
        if line.waiters.is_empty() {
            self.lines.remove(&app);
        }
        first
    }
}
