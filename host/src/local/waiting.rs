//! Requests that wait for admission, in the order they came, by app.
//!
//! All versions of an app share one gate, and each has a line of its own: one whose code is still to be loaded keeps none
//! of the others'.

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

/// Whose line it is: an app's number, and a version.
pub(super) type LineId = (AppId, u64);

/// The line of one version.
#[derive(Debug, Default)]
struct Line {
    waiters: VecDeque<Waiter>,
    /// When one of it went last, or when it began, as turns are counted.
    turn: u64,
    /// Its first one found no room at the gate above its app's: whoever comes to that gate waits behind it.
    turned_away: bool,
}

/// A worker's waiting lines, none of them empty. A waiter that gave up stays in its line until its turn, and is told
/// apart by its ticket.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    lines: BTreeMap<LineId, Line>,
    tickets: u64,
    /// Counts who joined and who went.
    turns: u64,
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Joins the end of the version's line. Returns the ticket.
    pub(super) fn join(&mut self, app: &Arc<App>, session: Slot) -> u64 {
        self.tickets += 1;
        self.turns += 1;
        let waiter = Waiter { app: Arc::clone(app), session, ticket: self.tickets };
        let turn = self.turns;
        let line =
            self.lines.entry((app.id, app.version)).or_insert_with(|| Line { turn, ..Line::default() });
        line.waiters.push_back(waiter);
        self.tickets
    }

    /// Lines that somebody stands in, first the one whose turn was the longest ago.
    pub(super) fn lines(&self) -> Vec<LineId> {
        let mut lines: Vec<_> = self.lines.iter().map(|(id, line)| (line.turn, *id)).collect();
        lines.sort_unstable();
        lines.into_iter().map(|(_, id)| id).collect()
    }

    /// The first in a line, who stays there.
    pub(super) fn first(&self, id: LineId) -> Option<&Waiter> {
        self.lines.get(&id).and_then(|line| line.waiters.front())
    }

    /// The first in a line leaves it. `went`: it was its turn.
    pub(super) fn leave(&mut self, id: LineId, went: bool) {
        self.turns += 1;
        let Some(line) = self.lines.get_mut(&id) else { return };
        let left = line.waiters.pop_front();
        if went {
            line.turn = self.turns;
        }
        if line.waiters.is_empty() {
            let turned_away = self.lines.remove(&id).is_some_and(|line| line.turned_away);
            if let Some(waiter) = left.filter(|_| turned_away) {
                waiter.app.seat.gate.let_in_again();
            }
        }
    }

    /// Whether it is the gate above its app's that the first one in a line waits for.
    pub(super) fn set_turned_away(&mut self, id: LineId, turned_away: bool) {
        let Some(line) = self.lines.get_mut(&id).filter(|line| line.turned_away != turned_away) else {
            return;
        };
        line.turned_away = turned_away;
        if let Some(waiter) = line.waiters.front() {
            let gate = &waiter.app.seat.gate;
            if turned_away { gate.turn_away() } else { gate.let_in_again() }
        }
    }
}
