//! An upgrade, from the old process's side: the order of its steps, and the way back from each.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::birth;
use super::handover::{Offer, StateHolder, Successor, Wish};
use super::health::Phase;
use super::signals::{Busy, Stage, State, lock};
use super::systemd;
use crate::reactor::bound::Bound;

/// How long the new process may take until it serves.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The sockets of an address.
struct Sockets {
    wanted: String,
    is_ours: bool,
    fds: Vec<OwnedFd>,
}

/// Hands over to a new process, or goes on as before.
pub(super) fn run(control: &Arc<Mutex<State>>) {
    let done = hand_over(control);
    let mut state = lock(control);
    state.busy = Busy::No;
    if let Err(error) = done {
        state.health.advance(Phase::HandingOver, Phase::Ready);
        drop(state);
        tracing::error!("the upgrade has failed, and this process goes on serving: {error:#}");
        systemd::status("serving; an upgrade has failed");
    }
}

fn hand_over(control: &Arc<Mutex<State>>) -> Result<()> {
    let binary = birth::started_as().context("it is not known how this process was started")?;
    let offered = offered(control)?;
    // Dropped after the successor: nothing is taken back while that lives.
    let mut released = Released(Vec::new());
    let mut successor = Successor::start(binary, READY_WITHIN)?;
    let pid = successor.pid();
    {
        let mut state = lock(control);
        state.busy = Busy::Upgrading(Some(successor.interrupter()));
        if !matches!(state.stage, Stage::Serving(_)) {
            bail!("this server is to end");
        }
        state.health.set(Phase::HandingOver);
    }
    tracing::info!(pid, program = %binary.program.display(), "upgrading: another process starts and takes over");
    systemd::status("handing over to another process");
    match give(&successor, &offered) {
        // It is gone already; how it ended is what its wish says.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        given => given.context("it does not take the sockets")?,
    }
    while successor.wish()? == Wish::State {
        released.all(&lock(control).holders.clone());
        successor.go()?;
    }
    commit(control, successor, &mut released)
}

fn give(successor: &Successor, offered: &[Sockets]) -> io::Result<()> {
    for (number, sockets) in offered.iter().enumerate() {
        let fds: Vec<_> = sockets.fds.iter().map(AsFd::as_fd).collect();
        successor.give(number, &sockets.wanted, sockets.is_ours, &fds)?;
    }
    successor.begin()
}

/// Descriptors of all sockets that listen.
fn offered(control: &Mutex<State>) -> Result<Vec<Sockets>> {
    let state = lock(control);
    let mut all = Vec::new();
    for bound in &state.bound {
        let fds: io::Result<Vec<_>> = bound.sockets().into_iter().map(|fd| fd.try_clone_to_owned()).collect();
        let fds = fds.context("the sockets can not be handed over")?;
        all.push(Sockets { wanted: bound.wanted().to_string(), is_ours: bound.is_ours(), fds });
    }
    for holder in &state.holders {
        let offers = holder.sockets().context("the sockets can not be handed over")?;
        for Offer { wanted, socket, is_ours } in offers {
            all.push(Sockets { wanted: wanted.to_string(), is_ours, fds: vec![socket] });
        }
    }
    Ok(all)
}

/// The new process serves. This one stops accepting; who waits at a socket is the other's, as the sockets are.
fn commit(control: &Mutex<State>, successor: Successor, released: &mut Released) -> Result<()> {
    let mut state = lock(control);
    let Stage::Serving(shared) = &state.stage else { bail!("this server is to end") };
    let shared = Arc::clone(shared);
    state.stage = Stage::HandedOver(Arc::clone(&shared));
    let pid = successor.pid();
    systemd::main_pid(pid);
    state.health.set(Phase::HandedOver);
    successor.release();
    released.keep();
    state.bound.drain(..).for_each(Bound::hand_over);
    let holders = std::mem::take(&mut state.holders);
    drop(state);
    holders.iter().for_each(|holder| holder.handed_over());
    tracing::info!(pid, "upgraded: the other process serves, and this one finishes what it has");
    shared.hand_over();
    Ok(())
}

/// Those who have let go of their state. They take it back when this is dropped, unless another process keeps it.
struct Released(Vec<Arc<dyn StateHolder>>);

impl Released {
    fn all(&mut self, holders: &[Arc<dyn StateHolder>]) {
        if self.0.is_empty() {
            for holder in holders {
                holder.release();
                self.0.push(Arc::clone(holder));
            }
        }
    }

    fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Released {
    fn drop(&mut self) {
        for holder in self.0.iter().rev() {
            if let Err(error) = holder.take_back() {
                tracing::error!("after a failed upgrade, what was let go can not be opened again: {error:#}");
            }
        }
    }
}
