//! The end of a worker's life: it stops accepting, finishes what it has, and in the end cuts what is left.
//!
//! Where another process serves in its place, with the same sockets, it only lets go of them: who waits there is the
//! other's. Then idle connections are not closed at once. A client that is just about to ask on one would be turned away
//! although the service goes on; it is answered instead, and told that this was the connection's last answer.

use super::Worker;
use crate::clock::{MS, Nanos};
use crate::session::Session;

/// How long idle connections are kept once another process serves.
const IDLE_GRACE: Nanos = 5_000 * MS;

/// How far the end is.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// When what is left is cut. None: it is not the end.
    until: Option<Nanos>,
    /// When idle connections are closed, if they have not been.
    idle_until: Option<Nanos>,
}

impl Life {
    /// When there is something to be done about it.
    pub(super) fn next_step(&self) -> Option<Nanos> {
        self.idle_until.or(self.until)
    }
}

impl Worker {
    /// Follows the server's life.
    pub(super) fn check_life(&mut self) {
        if !self.local.is_draining() {
            return;
        }
        let now = self.local.now;
        let handed_over = self.local.shared.is_handed_over();
        let until = match self.life.until {
            Some(until) => until,
            None => self.begin_end(now, handed_over),
        };
        if self.life.idle_until.is_some_and(|at| now >= at || !handed_over) {
            self.life.idle_until = None;
            for slot in self.sessions.slots() {
                self.look(slot, Session::drain);
            }
        }
        // Who waited at the door before it closes is still served.
        if !self.doors.iter().any(|door| door.open) {
            self.doors.clear();
        }
        if now >= until {
            self.doors.clear();
            self.local.cut_raw();
            for slot in self.sessions.slots() {
                self.look(slot, |session, _| session.cut_off());
            }
        }
    }

    fn begin_end(&mut self, now: Nanos, handed_over: bool) -> Nanos {
        let patience = u64::try_from(self.local.shared.settings.drain.as_nanos()).unwrap_or(u64::MAX);
        let until = now.saturating_add(patience);
        self.life.until = Some(until);
        self.life.idle_until = Some(now);
        self.local.give_up_all_idle();
        if handed_over {
            self.life.idle_until = Some(now.saturating_add(IDLE_GRACE).min(until));
            self.local.end_residents();
            for mut door in self.doors.drain(..) {
                if let Err(error) = door.listener.deregister(self.poll.registry()) {
                    tracing::warn!(%error, "a listener that was handed over can not be left");
                }
            }
        }
        until
    }

    pub(super) fn is_done(&self) -> bool {
        let served = self.sessions.is_empty() && !self.local.has_raw();
        self.life.until.is_some() && self.doors.is_empty() && served
    }
}
