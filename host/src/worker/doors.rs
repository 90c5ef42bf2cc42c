//! Who is let in, and who waits at the door for now: connections of clients, and raw ones.
//!
//! It must never read from a connection. Invariant: a door counts as quiet only when its listener has said so, and a pause has
//! a timer; so nobody who waits is forgotten.

use super::Worker;
use crate::clock::{MS, Nanos};
use crate::exchange::Ends;
use crate::local::{Raw, RawDoor, TimerKey};
use crate::observe::metrics::PauseReason;
use crate::pressure::Short;
use crate::reactor::listener::{Accepted, Listener};
use crate::reactor::token::Source;
use crate::reactor::transport::{Socket, Transport};
use crate::session::{Fate, Session};

/// Connections that one turn accepts from each listener.
const ACCEPTS_MAX: usize = 64;
/// How long accepting is paused when nobody can be let in. A connection that closes ends the pause at once.
const ACCEPT_PAUSE: Nanos = 100 * MS;
/// How soon a door is looked at again whose app has as many raw connections as it may.
const DOOR_RETRY: Nanos = 10 * MS;

/// A listener, and whether connections may wait at it.
pub(super) struct Door {
    pub(super) listener: Listener,
    pub(super) open: bool,
    /// What its raw connections are. None: they speak HTTP.
    pub(super) raw: Option<RawDoor>,
}

impl Worker {
    /// Lets in who waits, as many as one turn may and the server has room for.
    pub(super) fn accept(&mut self) {
        for i in 0..self.doors.len() {
            for _ in 0..ACCEPTS_MAX {
                let Some(door) = self.doors.get_mut(i) else { break };
                if !door.open || self.pause.is_on() {
                    break;
                }
                if let Some(short) = self.local.is_short() {
                    let reason = match short {
                        Short::Memory => PauseReason::Memory,
                        Short::Descriptors => PauseReason::Descriptors,
                    };
                    self.keep_waiting(i, reason, short.why());
                    break;
                }
                if door.raw.is_some() {
                    self.accept_raw(i);
                    break;
                }
                if !self.local.shared.connect() {
                    let why = "there are as many connections as there may be";
                    self.keep_waiting(i, PauseReason::Connections, why);
                    break;
                }
                match door.listener.accept() {
                    Accepted::Connection(socket, ends) => {
                        self.local.shared.metrics.worker(self.local.worker).accepted();
                        self.begin_session(socket, ends);
                    }
                    Accepted::Nobody => {
                        door.open = false;
                        self.local.shared.disconnect();
                    }
                    Accepted::Exhausted(error) => {
                        self.local.shared.disconnect();
                        self.keep_waiting(i, PauseReason::Descriptors, &error.to_string());
                    }
                }
            }
        }
        if self.pause.is_in_a_row() && !self.pause.is_on() && !self.doors.iter().any(|door| door.open) {
            self.resumed();
        }
    }

    /// Lets raw connections in, as many as their app may have; the others wait where they are.
    fn accept_raw(&mut self, i: usize) {
        for _ in 0..ACCEPTS_MAX {
            let Some(Door { listener, open, raw: Some(raw) }) = self.doors.get_mut(i) else { return };
            match self.local.admit_raw(raw, listener) {
                Raw::Begun => self.local.shared.metrics.worker(self.local.worker).accepted(),
                Raw::Refused => {}
                Raw::Nobody => {
                    *open = false;
                    return;
                }
                Raw::Full => {
                    *open = false;
                    self.local.set_timer(self.local.now + DOOR_RETRY, TimerKey::Doors);
                    return;
                }
                Raw::Exhausted(error) => {
                    self.keep_waiting(i, PauseReason::Descriptors, &error.to_string());
                    return;
                }
            }
        }
    }

    /// Whoever waits at a door for raw connections is looked at again.
    pub(super) fn doors_timer(&mut self) {
        self.doors.iter_mut().filter(|door| door.raw.is_some()).for_each(|door| door.open = true);
    }

    /// Nobody can be let in: whoever waits at that door keeps waiting, and if nobody does, an event tells of the next.
    fn keep_waiting(&mut self, door: usize, reason: PauseReason, why: &str) {
        let Some(door) = self.doors.get_mut(door) else { return };
        door.open = door.listener.has_waiting();
        if door.open {
            if !self.pause.is_in_a_row() {
                self.local.shared.metrics.paused(reason);
            }
            self.pause_accept(why);
        }
    }

    /// A timer ends the pause, and so does a connection that closes.
    fn pause_accept(&mut self, why: &str) {
        if self.pause.begin(self.local.now) {
            tracing::warn!(worker = self.local.worker, "accepting is paused: {why}");
        }
        if self.pause.needs_timer() {
            self.local.set_timer(self.local.now + ACCEPT_PAUSE, TimerKey::Accept);
        }
    }

    /// Everybody who had to wait has been let in, or has gone.
    fn resumed(&mut self) {
        if let Some(lasted) = self.pause.over(self.local.now) {
            tracing::info!(worker = self.local.worker, "accepting goes on after {} ms", lasted / MS);
        }
    }

    fn begin_session(&mut self, socket: Socket, ends: Ends) {
        let mut transport = Transport::new(socket);
        let registry = self.poll.registry();
        let mut registered = Ok(());
        let local = &self.local;
        let slot = self.sessions.insert_with(|slot| {
            registered = transport.register(registry, Source::Session(slot).token());
            Session::new(slot, transport, ends, local)
        });
        // Clients that speak at once are answered at once: no event is waited for.
        self.look(slot, |session, local| match registered {
            Ok(()) if local.is_draining() => session.drain(local),
            Ok(()) => session.drive(local),
            Err(_) => Fate::Close,
        });
    }
}
