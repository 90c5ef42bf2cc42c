//! What signals do, from the first moment of a server to its last.
//!
//! SIGTERM and SIGINT end it. While it starts, at once; the first one after that drains it, the next ends it at once.
//! Whichever it is, addresses are given up first: nobody comes any more, and another server can start in their place.
//!
//! SIGHUP has the settings read again and log files opened again; from a terminal that is gone, and in `dev`, it ends the
//! server like the others. SIGUSR2 starts an upgrade. Both have threads of their own, one at a time: however long they
//! take, the signals that end the server are heard.

use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};
use signal_hook::iterator::Signals;
use signal_hook::low_level::signal_name;

use super::handover::{Interrupter, StateHolder};
use super::health::{Health, Phase};
use super::{systemd, upgrade};
use crate::observe::log::say;
use crate::reactor::bound::Bound;
use crate::shared::Shared;

/// The exit status of a server that a signal ended before it was done.
const ENDED: i32 = 1;

/// Reads the settings again and applies them. True if anything has changed. What went wrong, each by itself.
pub(crate) type Reload = Arc<dyn Fn() -> Result<bool, Vec<String>> + Send + Sync>;

pub(super) enum Stage {
    Starting,
    Serving(Arc<Shared>),
    /// Another process serves; this one finishes what it has.
    HandedOver(Arc<Shared>),
    Draining,
}

/// What is under way. One thing at a time.
pub(super) enum Busy {
    No,
    /// It is done once more if that was asked for meanwhile: what was read may be old.
    Reloading {
        again: bool,
    },
    Upgrading(Option<Interrupter>),
}

/// What a signal acts on.
pub(super) struct State {
    /// The addresses this server holds.
    pub(super) bound: Vec<Bound>,
    pub(super) stage: Stage,
    pub(super) busy: Busy,
    /// The thread of the last upgrade. The end waits for it: it may be about to start a process.
    upgrade: Option<JoinHandle<()>>,
    pub(super) health: Health,
    /// Those who hold what only one process can have.
    pub(super) holders: Vec<Arc<dyn StateHolder>>,
    reload: Option<Reload>,
    /// SIGHUP is the end if the terminal is gone. None: it always is.
    terminal: Option<Terminal>,
}

/// Acts on signals. When this is dropped the addresses are given up; signals are still heard.
pub(super) struct Control(Arc<Mutex<State>>);

impl Control {
    /// Hears signals from now on. In `dev` SIGHUP is one that ends it, and there are no upgrades.
    ///
    /// # Errors
    /// The system refuses the handlers or the thread.
    pub(super) fn start(dev: bool) -> Result<Self> {
        let mut heard = vec![SIGINT, SIGTERM];
        if !is_ignored(SIGHUP) {
            heard.push(SIGHUP);
        }
        if !dev {
            heard.push(SIGUSR2);
        }
        let mut signals = Signals::new(heard).context("cannot listen for signals")?;
        let state = State {
            bound: Vec::new(),
            stage: Stage::Starting,
            busy: Busy::No,
            upgrade: None,
            health: Health::default(),
            holders: Vec::new(),
            reload: None,
            terminal: (!dev).then(Terminal::find),
        };
        let control = Self(Arc::new(Mutex::new(state)));
        let state = Arc::clone(&control.0);
        thread::Builder::new().name("signals".into()).spawn(move || {
            for signal in signals.forever() {
                on_signal(&state, signal);
            }
        })?;
        Ok(control)
    }

    /// A signal that comes meanwhile is acted on after this is given back.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.0)
    }

    /// What the server is up to.
    pub(super) fn health(&self) -> Health {
        self.lock().health.clone()
    }

    /// It serves: the next signal drains.
    pub(super) fn serves(&self, shared: Arc<Shared>) {
        self.lock().stage = Stage::Serving(shared);
    }

    /// What SIGHUP does from now on. One that came before is made up for.
    pub(super) fn reloads(&self, reload: Reload) {
        let missed = {
            let mut state = self.lock();
            state.reload = Some(reload);
            matches!(state.busy, Busy::Reloading { .. })
        };
        if missed {
            spawn(&mut self.lock(), "reload", &self.0, reload_until_done);
        }
    }

    /// Who is asked to let go of its state when another process takes over.
    pub(super) fn holds(&self, holder: Arc<dyn StateHolder>) {
        self.lock().holders.push(holder);
    }

    /// Drains it, as the first signal does; another one ends it at once.
    pub(super) fn drain(&self) {
        let mut state = self.lock();
        if let Stage::Serving(shared) | Stage::HandedOver(shared) = state.end() {
            shared.drain();
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let upgrade = {
            let mut state = self.lock();
            state.bound.clear();
            state.upgrade.take()
        };
        // One that panicked is over as well.
        let _ = upgrade.map(JoinHandle::join);
    }
}

impl State {
    /// The end begins. What it was doing before.
    fn end(&mut self) -> Stage {
        self.bound.clear();
        if let Busy::Upgrading(Some(upgrade)) = &self.busy {
            upgrade.interrupt();
        }
        let before = std::mem::replace(&mut self.stage, Stage::Draining);
        if self.health.phase() != Phase::HandedOver {
            self.health.set(Phase::Draining);
        }
        before
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread for what takes time. Without one it is not done; the log says so.
fn spawn(
    state: &mut State,
    name: &str,
    control: &Arc<Mutex<State>>,
    work: fn(&Arc<Mutex<State>>),
) -> Option<JoinHandle<()>> {
    let control = Arc::clone(control);
    let spawned = thread::Builder::new().name(name.into()).spawn(move || work(&control));
    if let Err(error) = &spawned {
        tracing::error!(%error, "there is no thread for the {name}");
        state.busy = Busy::No;
    }
    spawned.ok()
}

fn on_signal(control: &Arc<Mutex<State>>, signal: i32) {
    let mut state = lock(control);
    match signal {
        SIGHUP if state.terminal.as_ref().is_some_and(Terminal::is_there) => {
            let serves = matches!(state.stage, Stage::Serving(_));
            let ends = matches!(state.stage, Stage::HandedOver(_) | Stage::Draining);
            match &mut state.busy {
                Busy::Reloading { again } => *again = true,
                Busy::Upgrading(_) => {
                    tracing::warn!(
                        "SIGHUP: an upgrade is under way, and the new process reads the settings by itself"
                    );
                }
                Busy::No if ends => {}
                Busy::No => {
                    state.busy = Busy::Reloading { again: false };
                    if serves && state.reload.is_some() {
                        spawn(&mut state, "reload", control, reload_until_done);
                    }
                }
            }
        }
        SIGUSR2 => match (&state.stage, &state.busy) {
            (Stage::Serving(_), Busy::No) => {
                state.busy = Busy::Upgrading(None);
                state.upgrade = spawn(&mut state, "upgrade", control, upgrade::run);
            }
            (Stage::Serving(_), Busy::Upgrading(_)) => {
                tracing::warn!("SIGUSR2: an upgrade is under way already; this one is refused");
            }
            (Stage::Serving(_), Busy::Reloading { .. }) => {
                tracing::warn!("SIGUSR2: the settings are being read; send it again when that is done");
            }
            (Stage::Starting, _) => {
                tracing::warn!("SIGUSR2: this server is still starting; send it again then")
            }
            (Stage::HandedOver(_) | Stage::Draining, _) => {
                tracing::warn!("SIGUSR2: this server ends; there is nothing to upgrade")
            }
        },
        _ => end(&mut state, signal_name(signal).unwrap_or("a signal")),
    }
}

fn end(state: &mut State, name: &str) {
    match state.end() {
        Stage::Starting => {
            say(format_args!("error: {name} ended the server while it was starting"));
            std::process::exit(ENDED);
        }
        Stage::Serving(shared) => {
            tracing::info!(signal = name, "draining: a second signal ends at once");
            systemd::stopping();
            shared.drain();
        }
        Stage::HandedOver(shared) => {
            tracing::info!(signal = name, "idle connections are closed: a second signal ends at once");
            shared.drain();
        }
        Stage::Draining => std::process::exit(ENDED),
    }
}

/// The thread of reloads: one, and another one for as long as somebody asks for it meanwhile.
fn reload_until_done(control: &Arc<Mutex<State>>) {
    loop {
        let (reload, shared) = {
            let mut state = lock(control);
            match (&state.reload, &state.stage) {
                (Some(reload), Stage::Serving(shared)) => (Arc::clone(reload), Arc::clone(shared)),
                _ => return state.busy = Busy::No,
            }
        };
        systemd::reloading();
        reopen_logs(&shared);
        match reload() {
            Ok(true) => tracing::info!("reloaded"),
            Ok(false) => tracing::info!("reloaded: nothing has changed"),
            Err(problems) => {
                for problem in &problems {
                    tracing::error!("reload: {problem}");
                }
                tracing::error!(problems = problems.len(), "not reloaded: what was served before goes on");
            }
        }
        let mut state = lock(control);
        // The service manager was told of the end, if that has begun.
        if matches!(state.stage, Stage::Serving(_)) {
            systemd::ready();
        }
        match &mut state.busy {
            Busy::Reloading { again: again @ true } => *again = false,
            busy => return *busy = Busy::No,
        }
    }
}

/// Log files are opened again by their names: somebody may have moved them away.
fn reopen_logs(shared: &Shared) {
    if let Some(log) = &shared.access_log
        && let Err(error) = log.reopen()
    {
        tracing::error!(%error, "the access log can not be opened again: it goes on where it was");
    }
    if let Some(logs) = &shared.app_logs {
        logs.reopen();
    }
}

/// The terminal that a process was started from. When it is gone, its session has none any more.
struct Terminal {
    had_one: bool,
}

impl Terminal {
    fn find() -> Self {
        Self { had_one: has_terminal() }
    }

    /// False if there was one that is gone: whoever sat there has left.
    fn is_there(&self) -> bool {
        !self.had_one || has_terminal()
    }
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

/// True if whoever started this process wanted it to ignore a signal, as `nohup` does with SIGHUP.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, signal)
}

fn ignored_in(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals_are_found_in_the_mask() {
        let status = "Name:\ttidegate\nSigBlk:\t0000000000000003\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(ignored_in(status, SIGHUP));
        assert!(!ignored_in(status, SIGINT) && !ignored_in(status, SIGTERM));
        assert!(!ignored_in("", SIGHUP));
    }
}
