//! Raw connections: each is one call of its app's guest, from when it is accepted to when the guest returns.
//!
//! Nobody is let in before there is room for the call: until then the connection waits in the kernel, where others wait, too.

use std::io;

use super::Local;
use super::crew::Held;
use super::tasks::Purpose;
use crate::clock::Nanos;
use crate::exchange::Ends;
use crate::guest::task::Call;
use crate::net::tcp::AcceptedTcp;
use crate::reactor::listener::{Accepted, Listener};
use crate::reactor::transport::Socket;
use crate::tenants::registry::App;

/// What became of a look at a door.
#[derive(Debug)]
pub(crate) enum Raw {
    /// Somebody was let in.
    Begun,
    /// Somebody was turned away.
    Refused,
    /// Nobody waits.
    Nobody,
    /// Who waits goes on waiting.
    Full,
    /// The system has no more descriptors or memory.
    Exhausted(io::Error),
}

/// Nobody can serve who waits.
fn turn_away(listener: &Listener) -> Raw {
    match listener.accept() {
        Accepted::Connection(..) => Raw::Refused,
        Accepted::Nobody => Raw::Nobody,
        Accepted::Exhausted(error) => Raw::Exhausted(error),
    }
}

impl Local {
    /// Lets one connection in for `app`, if it may have one more.
    pub(crate) fn admit_raw(&mut self, app: &str, listener: &Listener) -> Raw {
        let found = self.registry.named(app).filter(|app| app.program.serves_connections());
        let Some(app) = found.cloned() else {
            // A deploy has taken the app away, or what served connections: nobody is kept waiting for that.
            return turn_away(listener);
        };
        if !listener.has_waiting() {
            return Raw::Nobody;
        }
        if !self.shared.connect() {
            return Raw::Full;
        }
        let begun = self.begin_raw(&app, listener);
        if !matches!(begun, Raw::Begun) {
            self.shared.disconnect();
        }
        begun
    }

    fn begin_raw(&mut self, app: &std::sync::Arc<App>, listener: &Listener) -> Raw {
        let Ok(lease) = app.access.lease() else { return Raw::Full };
        if !app.seat.raw.enter() {
            return Raw::Full;
        }
        let crew = match self.new_crew(app) {
            Ok(crew) => crew,
            Err(held) => {
                app.seat.raw.leave();
                return match held {
                    Held::Place | Held::Load => Raw::Full,
                    Held::Failed(_) => turn_away(listener),
                };
            }
        };
        let (accepted, ends) = match listener.accept() {
            Accepted::Connection(Socket::Tcp(io), ends @ Ends { peer: Some(peer), .. }) => {
                (AcceptedTcp::new(io, peer, lease), ends)
            }
            other => {
                app.seat.raw.leave();
                return match other {
                    Accepted::Exhausted(error) => Raw::Exhausted(error),
                    _ => Raw::Nobody,
                };
            }
        };
        let id = self.make_id();
        let exchange = self.lend_exchange();
        let mut inner = exchange.lock();
        inner.facts.id = id;
        inner.facts.ends = ends;
        inner.facts.deadline = Nanos::MAX;
        drop(inner);
        self.launch(crew, app, &exchange, Call::Connection(accepted), None);
        self.raw += 1;
        Raw::Begun
    }

    /// The call of a raw connection is over.
    pub(super) fn connection_ended(&mut self, app: &App) {
        self.raw -= 1;
        self.shared.disconnect();
        app.seat.raw.leave();
    }

    /// True while raw connections are served.
    pub(crate) fn has_raw(&self) -> bool {
        self.raw > 0
    }

    /// Ends what serves raw connections: the server's patience is at its end.
    pub(crate) fn cut_raw(&mut self) {
        for slot in self.tasks.slots() {
            if self.tasks.get_mut(slot).is_some_and(|task| task.purpose == Purpose::Connection) {
                self.cancel(slot);
            }
        }
    }
}
