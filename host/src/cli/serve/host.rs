//! `tidegate serve` with an admin side: apps are hosted.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;

use super::super::Failure;
use super::super::args::Flags;
use super::{of_target, open_log};
use crate::admin::{self, Admin, Door, Keys, Late};
use crate::config::{ListenAddr, ServerSettings, Settings, StateFolder, manifest};
use crate::hosting::types::Refusal;
use crate::hosting::{Hosting, ManifestSource, Operator};
use crate::server::handover::Offer;
use crate::server::reload::Started;
use crate::server::{StateHolder, birth};

/// The admin side's socket in the state folder.
pub(crate) const SOCKET: &str = "admin.sock";

/// Hosts what `target` names, if anything, and what was deployed before.
pub(super) fn run(target: Option<&Path>, flags: &Flags) -> Result<(), Failure> {
    let settings = settings(target, flags)?;
    let source = target.map(|target| source(target, &settings, flags)).transpose()?;
    let addr = settings.server.admin.clone().context("there is no admin side")?;
    admin::check(&addr, settings.server.tokens.len())?;
    let _log = open_log(&settings.server)?;
    let keys = Keys::read(&settings.server.tokens)?;
    // Another server may have the folder, which this one is to follow.
    birth::claim_state()?;
    let started = Started::new(&settings.server, &settings.tcp);
    let Hosting { server, operator } = Hosting::start(settings, source)?;
    let side = Arc::new(Side {
        addr,
        keys,
        operator: operator.clone(),
        presence: Mutex::new(Presence::Away),
        late: Mutex::new(None),
    });
    let opened = side.open();
    if let Ok(admin) = &opened {
        if let Some(addr) = admin.tcp {
            server.own_address(addr);
        }
        server.announce(Some(&admin.url))?;
    }
    if let Err(error) = opened {
        server.stop();
        let _ = server.join();
        return Err(error.into());
    }
    server.holds(Arc::clone(&side) as Arc<dyn StateHolder>);
    let (target, flags) = (target.map(Path::to_owned), flags.clone());
    server.reloads(Arc::new(move || {
        let settings = self::settings(target.as_deref(), &flags).map_err(|failure| failure.problems())?;
        started.tell_of_restart(&settings.server, &settings.tcp);
        let done = operator.reload_quietly();
        let lines = |refusal: Refusal| refusal.message.lines().map(str::to_owned).collect::<Vec<_>>();
        done.map(|done| !done.is_empty()).map_err(lines)
    }));
    server.ready()?;
    side.own();
    let done = server.join();
    side.close();
    Ok(done?)
}

/// The settings, with flags, and what hosting fills in.
fn settings(target: Option<&Path>, flags: &Flags) -> Result<Settings, Failure> {
    let mut settings = match target {
        Some(target) => match manifest_of(target) {
            Some(manifest) => manifest::load_to_host(&manifest)?,
            None => of_target(target)?,
        },
        None => {
            let (server, apps) = (ServerSettings::default(), Vec::new());
            Settings { server, apps, tcp: Vec::new(), tenants: Vec::new() }
        }
    };
    flags.apply(&mut settings)?;
    let folder = settings.server.hosting_folder().context(
        "there is no folder for the apps: neither XDG_STATE_HOME nor HOME names one; `--state DIR` does",
    )?;
    let folder = std::path::absolute(folder).context("cannot find the state folder")?;
    let server = &mut settings.server;
    server.admin.get_or_insert_with(|| ListenAddr::Unix(folder.join(SOCKET)));
    server.app_logs.get_or_insert_with(|| folder.join("logs"));
    server.state = StateFolder::At(folder);
    Ok(settings)
}

/// The admin side of this process: at rest while another one has the state folder.
struct Side {
    addr: ListenAddr,
    /// As they were at the start: to open the door again needs no file that may be gone by then.
    keys: Keys,
    operator: Operator,
    presence: Mutex<Presence>,
    late: Mutex<Option<Late>>,
}

enum Presence {
    Away,
    Serving(Admin),
    /// The address is held for whoever serves next: this process, or the one that takes over.
    Resting(Door),
}

/// Where it listens.
struct Opened {
    url: String,
    tcp: Option<std::net::SocketAddr>,
}

impl Side {
    fn presence(&self) -> MutexGuard<'_, Presence> {
        self.presence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self) -> Presence {
        std::mem::replace(&mut *self.presence(), Presence::Away)
    }

    fn open(&self) -> anyhow::Result<Opened> {
        let door = match self.leave() {
            Presence::Resting(door) => door,
            Presence::Serving(_) | Presence::Away => Door::claim(&self.addr)?,
        };
        let opened = Opened { url: door.url().to_owned(), tcp: door.tcp_addr() };
        let admin = door.serve(self.keys.clone(), Arc::new(self.operator.clone()))?;
        *self.presence() = Presence::Serving(admin);
        Ok(opened)
    }

    /// This process serves, and no other has the address.
    fn own(&self) {
        if let Presence::Serving(admin) = &mut *self.presence()
            && let Some(door) = admin.door()
        {
            door.own();
        }
    }

    fn close(&self) {
        if let Presence::Serving(admin) = self.leave() {
            admin.stop();
        }
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(late) = late {
            late.wait();
        }
    }
}

impl StateHolder for Side {
    fn release(&self) {
        if let Presence::Serving(admin) = self.leave() {
            let (door, late) = admin.pause();
            *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(late);
            if let Some(door) = door {
                *self.presence() = Presence::Resting(door);
            }
        }
        self.operator.release();
    }

    fn take_back(&self) -> anyhow::Result<()> {
        // Without its state there is still something to look at.
        let back = self.operator.take_back();
        self.open().map(drop).and(back)
    }

    fn sockets(&self) -> std::io::Result<Vec<Offer>> {
        match &mut *self.presence() {
            Presence::Serving(admin) => admin.door().map(|door| door.offer()).into_iter().collect(),
            Presence::Resting(door) => door.offer().map(|offer| vec![offer]),
            Presence::Away => Ok(Vec::new()),
        }
    }

    fn handed_over(&self) {
        match self.leave() {
            Presence::Resting(door) => door.hand_over(),
            // The other process has not asked for the state: it has no admin side, and nobody is at the address.
            Presence::Serving(admin) => admin.stop(),
            Presence::Away => {}
        }
    }
}

/// Whether a manifest is one of a server that hosts apps, and right but for files that are gone.
pub(super) fn may_start(target: &Path, flags: &Flags) -> bool {
    let mut settings = manifest_of(target).and_then(|manifest| manifest::load_to_host(&manifest).ok());
    settings.as_mut().is_some_and(|settings| flags.apply(settings).is_ok() && settings.server.admin.is_some())
}

/// The manifest that a target names, if it does.
fn manifest_of(target: &Path) -> Option<PathBuf> {
    let inside = target.join(manifest::MANIFEST);
    let path = if target.is_dir() { inside } else { target.to_owned() };
    let is_manifest = path.extension().is_some_and(|extension| extension == "toml") && !is_module(&path);
    (is_manifest && path.is_file()).then_some(path)
}

/// What is applied when the server starts and reloads.
fn source(target: &Path, settings: &Settings, flags: &Flags) -> Result<ManifestSource, Failure> {
    let is_manifest = manifest_of(target).is_some();
    let path = manifest_of(target).unwrap_or_else(|| target.to_owned());
    let module = if is_manifest { None } else { settings.apps.first().map(|app| app.name.clone()) };
    let name = flags.app_name().map(str::to_owned);
    Ok(ManifestSource { path, module, flags: flags.app_map()?, name })
}

pub(crate) fn is_module(path: &Path) -> bool {
    let mut start = [0; 4];
    let read =
        std::fs::File::open(path).and_then(|mut file| std::io::Read::read_exact(&mut file, &mut start));
    read.is_ok() && start == *b"\0asm"
}
