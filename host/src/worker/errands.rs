//! What operators have asked this worker for, done a piece a turn.

use std::collections::VecDeque;

use super::Worker;
use crate::reactor::token::Slot;
use crate::session::Session;
use crate::tenants::commands::{Answer, Command, What, is_called};

/// Sessions and tasks that one turn looks at.
const LOOKS_MAX: usize = 256;

/// One command, and how far it has come.
struct Errand {
    command: Command,
    /// What is still to be looked at: what was there when it began.
    sessions: Vec<Slot>,
    tasks: Vec<Slot>,
    answer: Answer,
}

/// Commands that wait for their turn, and the one that is being answered.
#[derive(Default)]
pub(super) struct Errands(VecDeque<Errand>);

impl Errands {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Worker {
    /// Looks into the box, and goes on with what was found there.
    pub(super) fn run_errands(&mut self) {
        if self.local.has_mail() {
            for command in self.local.shared.commands.take(self.local.worker) {
                let (sessions, tasks) = (self.sessions.slots(), self.local.tasks.slots());
                self.errands.0.push_back(Errand { command, sessions, tasks, answer: Answer::default() });
            }
        }
        let Some(mut errand) = self.errands.0.pop_front() else { return };
        for _ in 0..LOOKS_MAX {
            if let Some(slot) = errand.sessions.pop() {
                self.look_at_session(slot, &mut errand);
            } else if let Some(slot) = errand.tasks.pop() {
                self.look_at_task(slot, &mut errand);
            } else {
                return errand.command.answer(errand.answer);
            }
        }
        self.errands.0.push_front(errand);
    }

    fn look_at_session(&mut self, slot: Slot, errand: &mut Errand) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        match &errand.command.what {
            What::List(allowed) => {
                if session.is_about(|app, _| allowed(app)) {
                    errand.answer.rows.extend(session.view(&mut self.local));
                }
            }
            What::Cancel(id, allowed) => {
                if session.is_about(|app, own| allowed(app) && is_called(own, id)) {
                    errand.answer.ended += 1;
                    self.look(slot, Session::cancel);
                }
            }
        }
    }

    /// Guests without a session: detached ones, raw connections, residents.
    fn look_at_task(&mut self, slot: Slot, errand: &mut Errand) {
        let Some(task) = self.local.tasks.get_mut(slot) else { return };
        if task.session.is_some_and(|session| self.sessions.get_mut(session).is_some()) {
            return;
        }
        match &errand.command.what {
            What::List(allowed) => {
                if allowed(&task.app) {
                    errand.answer.rows.extend(self.local.view_task(slot));
                }
            }
            What::Cancel(id, allowed) => {
                if allowed(&task.app) && is_called(&task.exchange.lock().facts.id, id) {
                    errand.answer.ended += 1;
                    self.local.cancel_on_demand(slot);
                }
            }
        }
    }
}
