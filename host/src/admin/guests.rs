//! Who is being served: of how many, what each is at, and who has to go when there is no room.
//!
//! Invariants: whoever is known and at work is never sent away; who only waits, or has not said yet who it is, keeps nobody
//! out; and tenants leave room for the operator, on whichever address they come.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::net::{Shutdown, shutdown};

use super::auth::Peer;
use crate::hosting::types::Actor;

/// Connections that are served at once.
const CONNECTIONS_MAX: usize = 32;
/// Of them, those from one address of the network: no one keeps all others out.
const ADDRESS_MAX: usize = 16;
/// Connections beyond those that are told so. Others are closed without a word.
const TOLD_MAX: usize = 8;
/// Requests of one tenant at once.
const TENANT_MAX: usize = 6;
/// Requests of all tenants at once: fewer than come from one address, where a proxy stands before all of them.
const TENANTS_MAX: usize = 12;

/// Those who are being served.
#[derive(Debug, Default)]
pub(super) struct Guests {
    present: Mutex<Present>,
    leaving: Condvar,
}

/// In the order in which they came.
#[derive(Debug, Default)]
struct Present {
    all: Vec<One>,
    last: u64,
}

#[derive(Debug)]
struct One {
    number: u64,
    peer: Peer,
    /// To end the connection with. None: the system has no room for it.
    socket: Option<OwnedFd>,
    /// A request has come on it.
    asked: bool,
    /// Whose request is being served. None: none is.
    at_work: Option<Actor>,
}

impl Guests {
    /// Waits until nobody is left, but not for ever.
    pub(super) fn wait_until_gone(&self, deadline: Instant) {
        self.wait_while(deadline, |present| !present.all.is_empty());
    }

    /// Waits until nobody is left who has asked for something.
    pub(super) fn wait_until_answered(&self, deadline: Instant) {
        self.wait_while(deadline, |present| present.all.iter().any(|one| one.asked));
    }

    fn wait_while(&self, deadline: Instant, holds: impl Fn(&Present) -> bool) {
        let within = deadline.saturating_duration_since(Instant::now());
        // Whoever is left after that goes with the process.
        let _ = self.leaving.wait_timeout_while(self.lock(), within, |present| holds(present));
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody comes; where there is no room, the one goes that has been at nothing for longest. None: there are too many
    /// to even say so.
    pub(super) fn enter(self: &Arc<Self>, peer: Peer, socket: &OwnedFd) -> Option<Guest> {
        let mut present = self.lock();
        let is_same = |one: &One| matches!(peer, Peer::Address(_)) && one.peer.key() == peer.key();
        while present.all.iter().filter(|one| is_same(one)).count() >= ADDRESS_MAX
            && present.send_away(is_same)
        {}
        while present.all.len() >= CONNECTIONS_MAX && present.send_away(|_| true) {}
        let (all, same) = (present.all.len(), present.all.iter().filter(|one| is_same(one)).count());
        if all >= CONNECTIONS_MAX + TOLD_MAX || same >= ADDRESS_MAX + TOLD_MAX {
            return None;
        }
        let busy = all >= CONNECTIONS_MAX || same >= ADDRESS_MAX;
        present.last += 1;
        let number = present.last;
        let socket = fcntl_dupfd_cloexec(socket, 0).ok();
        present.all.push(One { number, peer, socket, asked: false, at_work: None });
        Some(Guest { guests: Arc::clone(self), number, peer, busy })
    }
}

impl Present {
    /// The oldest of these that is at nothing goes. False: there is none.
    fn send_away(&mut self, of: impl Fn(&One) -> bool) -> bool {
        let at = self.all.iter().position(|one| one.at_work.is_none() && one.socket.is_some() && of(one));
        let Some(at) = at else { return false };
        if let Some(socket) = self.all.remove(at).socket {
            // Its thread finds the end of its connection.
            let _ = shutdown(&socket, Shutdown::Both);
        }
        true
    }
}

/// One of them; leaves when it is dropped, also in a panic.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    number: u64,
    pub(super) peer: Peer,
    /// There is no room for it: it is told so, and goes.
    pub(super) busy: bool,
}

impl Guest {
    /// It has asked for something.
    pub(super) fn asks(&self) {
        let mut present = self.guests.lock();
        if let Some(one) = present.all.iter_mut().find(|one| one.number == self.number) {
            one.asked = true;
        }
    }

    /// A request of this actor's is being served, until what this gives is dropped. None: there is no room for one more
    /// of its tenant, or of tenants.
    pub(super) fn begin(&self, actor: &Actor) -> Option<AtWork<'_>> {
        let mut present = self.guests.lock();
        if actor.tenant.is_some() {
            let tenants = || present.all.iter().filter_map(|one| one.at_work.as_ref()?.tenant.as_ref());
            let same = tenants().filter(|tenant| Some(*tenant) == actor.tenant.as_ref()).count();
            if same >= TENANT_MAX || tenants().count() >= TENANTS_MAX {
                return None;
            }
        }
        // One that was just sent away is told nothing any more, whatever it does.
        let one = present.all.iter_mut().find(|one| one.number == self.number)?;
        one.at_work = Some(actor.clone());
        Some(AtWork(self))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.guests.lock().all.retain(|one| one.number != self.number);
        self.guests.leaving.notify_all();
    }
}

/// A request is being served.
#[must_use]
pub(super) struct AtWork<'g>(&'g Guest);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        let mut present = self.0.guests.lock();
        if let Some(one) = present.all.iter_mut().find(|one| one.number == self.0.number) {
            one.at_work = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::IpAddr;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn address(last: u8) -> Peer {
        Peer::Address(IpAddr::from([192, 0, 2, last]))
    }

    fn actor(tenant: Option<&str>) -> Actor {
        Actor { name: "x".to_owned(), tenant: tenant.map(str::to_owned) }
    }

    /// Its guest, and the other end of its connection.
    fn enter(guests: &Arc<Guests>, peer: Peer) -> (Option<Guest>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (guests.enter(peer, &ours.into()), theirs)
    }

    #[test]
    fn who_says_nothing_keeps_nobody_out() {
        let guests = Arc::<Guests>::default();
        let silent: Vec<_> = (0..200).map(|n| enter(&guests, address(n % 4))).collect();
        assert_eq!(guests.lock().all.len(), CONNECTIONS_MAX);
        assert!(silent.iter().all(|(guest, _)| guest.as_ref().is_some_and(|guest| !guest.busy)));
        assert_eq!((&silent[0].1).read(&mut [0]).unwrap(), 0, "the oldest was sent away");
        let open = silent.iter().filter(|(_, end)| (&mut &*end).read(&mut [0]).is_err()).count();
        assert_eq!(open, CONNECTIONS_MAX);
        drop(silent);
        assert!(guests.lock().all.is_empty());
    }

    #[test]
    fn who_is_at_work_stays() {
        let guests = Arc::<Guests>::default();
        let operators: Vec<_> = (0..CONNECTIONS_MAX).map(|_| enter(&guests, Peer::User(0))).collect();
        let at_work: Vec<_> =
            operators.iter().map(|(guest, _)| guest.as_ref().unwrap().begin(&actor(None)).unwrap()).collect();
        let (late, _end) = enter(&guests, address(1));
        assert!(late.as_ref().unwrap().busy);
        drop(at_work);
        // Now they are at nothing.
        let (next, _end) = enter(&guests, address(1));
        assert!(!next.unwrap().busy);
    }

    #[test]
    fn tenants_leave_room_for_the_operator() {
        let guests = Arc::<Guests>::default();
        let come = |n: u8| enter(&guests, address(n)).0.unwrap();
        let all: Vec<_> = (0..20).map(come).collect();
        let mut at_work: Vec<_> = all.iter().map_while(|guest| guest.begin(&actor(Some("a")))).collect();
        assert_eq!(at_work.len(), TENANT_MAX);
        at_work.extend(all[6..].iter().map_while(|guest| guest.begin(&actor(Some("b")))));
        assert_eq!(at_work.len(), TENANTS_MAX);
        assert!(all[12].begin(&actor(Some("c"))).is_none());
        assert!(all[12].begin(&actor(None)).is_some());
        at_work.pop();
        assert!(all[12].begin(&actor(Some("c"))).is_some());
    }
}
