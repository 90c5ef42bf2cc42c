//! Raw connections: each is one call of its app's guest, from when it is accepted to when the guest returns.
//!
//! Nobody is let in before there is room for the call: until then the connection waits in the kernel, where others wait, too.
//! Where connections begin with a preamble, those of strangers are closed at once; a proxy's has its place in the call's
//! time, before there is an instance.

use std::io;
use std::sync::Arc;

use super::crew::{Crew, Held};
use super::tasks::Purpose;
use super::{KEEP_MAX, Local};
use crate::clock::{MS, Nanos};
use crate::config::EdgeSettings;
use crate::config::TcpListen;
use crate::exchange::Ends;
use crate::guest::task::Call;
use crate::net::tcp::AcceptedTcp;
use crate::observe::edge;
use crate::reactor::listener::{Accepted, Listener};
use crate::reactor::transport::Socket;
use crate::tenants::registry::App;

/// What connections of an address are.
#[derive(Clone, Debug)]
pub(crate) struct RawDoor {
    /// The app that they are for.
    pub(crate) app: Arc<str>,
    /// Each begins with a preamble of the PROXY protocol.
    announced: bool,
}

impl RawDoor {
    /// As the settings have it.
    pub(crate) fn of(listen: &TcpListen, edge: &EdgeSettings) -> Self {
        Self { app: listen.app.as_str().into(), announced: listen.is_announced(edge) }
    }
}

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
    /// Lets one connection in for a door's app, if that may have one more.
    pub(crate) fn admit_raw(&mut self, door: &RawDoor, listener: &Listener) -> Raw {
        let found = self.registry.named(&door.app).filter(|app| app.program.serves_connections());
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
        let begun = self.begin_raw(&app, door.announced, listener);
        if !matches!(begun, Raw::Begun) {
            self.shared.disconnect();
        }
        begun
    }

    fn begin_raw(&mut self, app: &Arc<App>, announced: bool, listener: &Listener) -> Raw {
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
            Accepted::Connection(Socket::Tcp(io), ends @ Ends { peer: Some(peer), .. })
                if !announced || self.shared.settings.edge.proxies.trusts_peer(ends.peer) =>
            {
                (AcceptedTcp::new(io, peer, lease), ends)
            }
            other => {
                app.seat.raw.leave();
                self.stand_down(crew);
                return match other {
                    Accepted::Exhausted(error) => Raw::Exhausted(error),
                    Accepted::Nobody => Raw::Nobody,
                    Accepted::Connection(_, ends) => {
                        edge::tell_closed(ends.peer, "it is not from one of the `proxies`");
                        Raw::Refused
                    }
                };
            }
        };
        let accepted = if announced {
            let within = self.shared.settings.http.head_ms_max.saturating_mul(MS);
            accepted.announced(self.now.saturating_add(within))
        } else {
            accepted
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

    /// There is no call to make after all.
    fn stand_down(&mut self, crew: Crew) {
        if self.cold.len() < KEEP_MAX {
            self.cold.push(crew.runner);
        }
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
