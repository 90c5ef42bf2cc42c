//! The composition root: loads the apps, claims the addresses, starts the workers, and ends them.

pub(crate) mod birth;
mod budget;
mod deploy;
pub(crate) mod handover;
pub(crate) mod health;
mod host;
pub(crate) mod reload;
mod shortage;
mod signals;
pub(crate) mod snapshot;
mod stock;
mod systemd;
#[cfg(test)]
mod tests;
mod upgrade;
mod workers;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};

use self::budget::check_budget;
pub(crate) use self::deploy::{Deployer, LoadFailures};
pub(crate) use self::handover::StateHolder;
pub(crate) use self::health::Health;
use self::health::Phase;
pub(crate) use self::host::registry;
use self::reload::{Reread, Started};
use self::signals::Control;
pub(crate) use self::signals::Reload;
pub(crate) use self::signals::is_ignored;
pub(crate) use self::stock::Stock;
use self::stock::plain;
use self::workers::Workers;
use crate::clock::Clock;
use crate::config::TcpListen;
use crate::config::{AppSettings, ListenAddr, ServerSettings, Settings};
use crate::guest::compile::Compiler;
use crate::guest::engine::{self, Mode};
use crate::guest::places::Places;
use crate::guest::task::Reaper;
use crate::guest::ticker::Ticker;
use crate::local::RawDoor;
use crate::net::resolve::Resolver;
use crate::observe::access_log::{self, AccessLog};
use crate::observe::app_logs::{self, AppLogs, Rotation};
use crate::pressure::Pressure;
use crate::pulse::Pulse;
use crate::reactor::bound::Bound;
use crate::shared::{Shared, State};
use crate::tenants::commands::Commands;
use crate::tenants::current::Current;
pub(crate) use crate::tenants::notice::Notice;
use crate::tenants::probes::Probes;
use crate::tenants::registry::Registry;

/// Places of the pools that are kept for instances which are just being dropped.
const PLACES_SPARE: u32 = 50;

/// Serves until a signal ends it: the first one drains, a second one ends at once. One that comes before it serves ends
/// it at once, too. `reread` gives the settings as they are by then.
///
/// # Errors
/// An app can not be loaded, an address not be claimed, or a worker failed.
pub(crate) fn run(settings: Settings, reread: Reread) -> Result<()> {
    let started = Started::new(&settings.server, &settings.tcp);
    let server = Server::start(settings, None)?;
    server.reloads(reload::serving_settings(started, reread, server.deployer()));
    server.announce(None)?;
    server.ready()?;
    server.join()
}

/// Loads an app as a server would that has these raw listeners, and serves nothing.
///
/// # Errors
/// It could not be served ([`LoadFailures`]), or the engine can not be set up.
pub(crate) fn try_load(server: &ServerSettings, app: AppSettings, tcp: &[TcpListen]) -> Result<()> {
    let mode = Mode::of(server.dev);
    let compiler = Compiler::this_binary(mode).context("cannot find the running binary")?;
    let engine = engine::serving(mode).map_err(plain).context("cannot reserve the guests' pools")?;
    let places = Places::new(engine::INSTANCES_MAX - PLACES_SPARE);
    let stock = Stock::new(&engine, compiler, server, Clock::start(), places, start_reaper()?, tcp)?;
    stock.first(&[app]).map(drop)
}

/// What a server serves at first.
pub(crate) enum First<'f> {
    /// The apps of its settings.
    Apps,
    /// A notice, until the first deploy; the settings' apps are left alone.
    Notice(Notice),
    /// What this makes.
    Made(&'f mut dyn FnMut(&Stock) -> Result<Registry>),
}

/// A server that serves. It goes on until a signal or [`Self::stop`] ends it, also when this is dropped.
pub(crate) struct Server {
    urls: Vec<String>,
    deployer: Deployer,
    shared: Arc<Shared>,
    workers: Workers,
    // Dropped in this order: the last lines are written before the addresses are free for another server.
    _access_log: Option<access_log::Guard>,
    _app_logs: Option<app_logs::Guard>,
    control: Control,
}

impl Server {
    /// Loads the apps, claims the addresses and starts the workers; prints nothing. With a notice, that is what is
    /// served until the first deploy, and the settings' apps are left alone.
    ///
    /// # Errors
    /// An app can not be loaded, or an address not be claimed.
    pub(crate) fn start(settings: Settings, notice: Option<Notice>) -> Result<Self> {
        Self::start_first(settings, notice.map_or(First::Apps, First::Notice))
    }

    /// The same, with something else to serve at first.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub(crate) fn start_first(settings: Settings, first: First<'_>) -> Result<Self> {
        let mode = Mode::of(settings.server.dev);
        let compiler = Compiler::this_binary(mode).context("cannot find the running binary")?;
        Self::start_with(settings, first, compiler)
    }

    fn start_with(settings: Settings, first: First<'_>, compiler: Compiler) -> Result<Self> {
        let control = Control::start(settings.server.dev)?;
        raise_descriptor_limit();
        let Settings { mut server, apps, tcp, tenants } = settings;
        birth::settle(&mut server, &tcp);
        let engine = engine::serving(Mode::of(server.dev)).map_err(plain);
        let engine = engine.context("cannot reserve the guests' pools")?;
        let clock = Clock::start();
        let places = Places::new(engine::INSTANCES_MAX - PLACES_SPARE);
        let reaper = start_reaper()?;
        let stock = Stock::new(&engine, compiler, &server, clock, Arc::clone(&places), reaper.clone(), &tcp)?;
        stock.set_tenants(&tenants);
        let (app_logs, app_logs_guard) = open_app_logs(&server)?.unzip();
        app_logs.iter().for_each(|logs: &AppLogs| stock.set_app_logs(logs.clone()));
        let registry = match first {
            First::Notice(notice) => Registry::of_notice(notice),
            First::Made(make) => make(&stock)?,
            First::Apps => {
                check_budget(&server, &apps)?;
                stock.first(&apps)?
            }
        };
        let (urls, listeners) = {
            let mut state = control.lock();
            state.bound = claim(&server, &tcp)?;
            let bound = &mut state.bound;
            stock.own_addresses().set(bound.iter().filter_map(Bound::tcp_addr));
            let raw = tcp.iter().map(|tcp| Some(RawDoor::of(tcp, &server.edge)));
            let doors: Vec<_> = server.listen.iter().map(|_| None).chain(raw).collect();
            let app = |door: &Option<RawDoor>| door.as_ref().map(|door| door.app.to_string());
            let urls =
                bound.iter().zip(&doors).map(|(bound, door)| bound.url(app(door).as_deref())).collect();
            (urls, workers::open(bound, &doors, server.workers)?)
        };
        let log = server.access_log.as_ref();
        let log = log.map(|target| AccessLog::open(target, server.log_format)).transpose();
        let (access_log, guard) = log.context("cannot open the access log")?.unzip();
        let (polls, wakers) = workers::event_queues(server.workers)?;
        let resolver = Resolver::new(&server.dns);
        let loading = stock.loading(&wakers);
        let shared = Arc::new(Shared {
            current: Current::new(registry, server.workers),
            pulse: Pulse::new(server.workers),
            settings: server,
            clock,
            places,
            loading,
            pressure: Pressure::default(),
            ticker: Ticker::start(engine)?,
            reaper,
            access_log,
            app_logs,
            metrics: Arc::clone(stock.metrics()),
            commands: Commands::new(&wakers),
            resolver,
            run: run_number(),
            wakers,
            probes: Probes::default(),
            state: State::default(),
        });
        shortage::start(&shared).context("cannot start a thread")?;
        let workers = workers::start(&shared, polls, listeners)?;
        control.serves(Arc::clone(&shared));
        let deployer = Deployer::new(stock, Arc::clone(&shared));
        Ok(Self { urls, deployer, shared, workers, _access_log: guard, _app_logs: app_logs_guard, control })
    }

    /// Where it listens, in the order of the settings.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Says on standard output where it listens, and where its admin side does.
    ///
    /// # Errors
    /// Standard output can not be written to.
    pub(crate) fn announce(&self, admin: Option<&str>) -> Result<()> {
        announce(&self.urls, admin)
    }

    /// The admin side listens here: no guest is to connect there unless it is told to.
    pub(crate) fn own_address(&self, addr: SocketAddr) {
        self.deployer.stock().own_addresses().set([addr]);
    }

    /// What puts other apps in place.
    pub(crate) fn deployer(&self) -> Deployer {
        self.deployer.clone()
    }

    /// What it is up to.
    pub(crate) fn health(&self) -> Health {
        self.control.health()
    }

    /// What SIGHUP does, besides opening log files again.
    pub(crate) fn reloads(&self, reload: Reload) {
        self.control.reloads(reload);
    }

    /// Who has to let go of what only one process can have, when another takes over.
    pub(crate) fn holds(&self, holder: Arc<dyn StateHolder>) {
        self.control.holds(holder);
    }

    /// All of it serves: whoever waits for that is told, the server before this one that it may go.
    ///
    /// # Errors
    /// There are sockets that were passed to this process and that nobody has claimed, or no thread for the watchdog.
    pub(crate) fn ready(&self) -> Result<()> {
        birth::finish(&self.shared.settings.listen)?;
        let health = self.control.health();
        health.advance(Phase::Starting, Phase::Ready);
        birth::relieve();
        self.control.lock().bound.iter_mut().for_each(Bound::own);
        systemd::ready();
        systemd::keep_watchdog(&self.shared, &health).context("cannot keep the watchdog")
    }

    /// Drains, as the first signal does: nobody is let in any more, what runs finishes.
    pub(crate) fn stop(&self) {
        self.control.drain();
    }

    /// Waits until it has drained.
    ///
    /// # Errors
    /// A worker failed.
    pub(crate) fn join(self) -> Result<()> {
        let result = workers::join(self.workers);
        self.shared.ticker.stop();
        result
    }
}

/// The apps' own logs, if there are to be any.
fn open_app_logs(server: &ServerSettings) -> Result<Option<(AppLogs, app_logs::Guard)>> {
    let rotation = Rotation { bytes_max: server.app_log_bytes_max, files: server.app_log_files };
    let logs = server.app_logs.as_ref().map(|folder| AppLogs::open(folder, rotation)).transpose();
    logs.context("cannot open the folder of the apps' logs (`app_logs`)")
}

/// As many descriptors as the system lets us have; a connection needs one.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it the old limit holds, and accepting pauses when it is met.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The server's own addresses, and behind them those of raw connections.
fn claim(settings: &ServerSettings, tcp: &[TcpListen]) -> Result<Vec<Bound>> {
    let claim = |addr: &ListenAddr| {
        birth::claim(addr, settings.backlog).with_context(|| format!("cannot listen on {addr}"))
    };
    let raw = tcp.iter().map(|tcp| claim(&ListenAddr::Tcp(tcp.addr)));
    settings.listen.iter().map(claim).chain(raw).collect()
}

/// The thread that drops what takes long to drop.
fn start_reaper() -> Result<Reaper> {
    let (send, receive) = mpsc::channel::<Box<dyn Send>>();
    thread::Builder::new().name("reaper".into()).spawn(move || {
        for garbage in receive {
            drop(garbage);
        }
    })?;
    Ok(send)
}

/// A number that differs from run to run, for request ids.
fn run_number() -> u32 {
    let mut bytes = [0; 4];
    // Without randomness the ids of two runs may meet; nothing else depends on it.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u32::from_le_bytes(bytes)
}

fn announce(urls: &[String], admin: Option<&str>) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for url in urls {
        writeln!(out, "listening on {url}")?;
    }
    if let Some(url) = admin {
        writeln!(out, "admin on {url}")?;
    }
    out.flush()?;
    Ok(())
}
