//! The composition root: loads the apps, claims the addresses, starts the workers, and ends them.

mod signals;

use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use mio::{Poll, Waker};
use rustix::process::{Resource, getrlimit, setrlimit};
use wasmtime::{Engine, Linker};

use self::signals::Control;
use crate::clock::Clock;
use crate::config::{AppSettings, ServerSettings, Settings, about_bytes};
use crate::guest::compile::Compiler;
use crate::guest::engine;
use crate::guest::places::Places;
use crate::guest::program::{Loader, Spec};
use crate::guest::scheduler::AppId;
use crate::guest::ticker::Ticker;
use crate::module_abi;
use crate::observe::access_log::AccessLog;
use crate::reactor::listener::{Bound, Listener};
use crate::reactor::token::Source;
use crate::shared::{Shared, State};
use crate::tenants::admission::Gate;
use crate::tenants::registry::{App, Registry};
use crate::worker::Worker;

/// Places of the pools that are kept for instances which are just being dropped.
const PLACES_SPARE: u32 = 50;

/// Apps that can not be loaded: all of them, so that they can be put right in one go.
#[derive(Debug)]
pub(crate) struct LoadFailures(pub(crate) Vec<anyhow::Error>);

impl fmt::Display for LoadFailures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            let between = if number == 0 { "" } else { "\n" };
            write!(f, "{between}{error:#}")?;
        }
        Ok(())
    }
}

impl std::error::Error for LoadFailures {}

/// Serves until a signal ends it: the first one drains, a second one ends at once. One that comes before it serves ends
/// it at once, too.
///
/// # Errors
/// An app can not be loaded, an address not be claimed, or a worker failed.
pub fn run(settings: Settings) -> Result<()> {
    let control = Control::start()?;
    raise_descriptor_limit();
    check_budget(&settings)?;
    let engine = engine::serving().map_err(plain).context("cannot reserve the guests' pools")?;
    let clock = Clock::start();
    let registry = load(&engine, &settings.apps, clock)?;
    let (urls, listeners) = {
        let mut state = control.lock();
        state.bound = claim(&settings.server)?;
        let urls: Vec<String> = state.bound.iter().map(Bound::url).collect();
        (urls, open(&state.bound, settings.server.workers)?)
    };
    let log = settings.server.access_log.as_ref();
    let log = log.map(|target| AccessLog::open(target, settings.server.log_format)).transpose();
    let (access_log, _log_guard) = log.context("cannot open the access log")?.unzip();
    let (shared, workers) = start(settings.server, engine, registry, access_log, clock, listeners)?;
    control.serves(Arc::clone(&shared));
    announce(&urls)?;
    let result = join(workers);
    shared.ticker.stop();
    result
}

/// wasmtime's errors with all that they say, as ours.
fn plain(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

fn join(workers: Vec<JoinHandle<std::io::Result<()>>>) -> Result<()> {
    for worker in workers {
        match worker.join() {
            Ok(result) => result.context("a worker failed")?,
            Err(_) => bail!("a worker panicked: this is a bug"),
        }
    }
    Ok(())
}

/// As many descriptors as the system lets us have; a connection needs one.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // Without it the old limit holds, and accepting pauses when it is met.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// Multiplies the bounds out and holds them against the budget, if there is one.
fn check_budget(settings: &Settings) -> Result<()> {
    let Some(budget) = settings.server.memory_budget_bytes else { return Ok(()) };
    let http = &settings.server.http;
    let pipes = settings.apps.iter().map(|app| 2 * app.limits.high_watermark).max().unwrap_or(0);
    let connection = (pipes + 2 * http.head_bytes_max) as u64;
    let connections = connection.saturating_mul(settings.server.connections_max as u64);
    let guests = settings.apps.iter().fold(0u64, |sum, app| {
        let at_once = app.limits.concurrency.min(engine::INSTANCES_MAX);
        sum.saturating_add(app.limits.memory_bytes.saturating_mul(u64::from(at_once)))
    });
    let needed = connections.saturating_add(guests);
    if needed > budget {
        bail!(
            "the limits allow {} of memory, more than the budget of {}: {} for {} connections and {} for guests; lower \
             `connections`, `memory` or `concurrency`, or raise `memory_budget`",
            about_bytes(needed),
            about_bytes(budget),
            about_bytes(connections),
            settings.server.connections_max,
            about_bytes(guests),
        );
    }
    Ok(())
}

fn load(engine: &Engine, settings: &[AppSettings], clock: Clock) -> Result<Registry> {
    let mut linker = Linker::new(engine);
    module_abi::add_to_linker(&mut linker).map_err(plain)?;
    let compiler = Compiler::this_binary().context("cannot find the running binary")?;
    let loader = Loader { engine: engine.clone(), linker, compiler, clock };
    let mut apps = Vec::new();
    let mut failures = Vec::new();
    for (id, app) in settings.iter().enumerate() {
        match load_app(&loader, AppId::try_from(id)?, app) {
            Ok(loaded) => apps.push((Arc::new(loaded), app.routes.clone())),
            Err(error) => failures.push(error),
        }
    }
    if !failures.is_empty() {
        return Err(LoadFailures(failures).into());
    }
    Ok(Registry::new(apps)?)
}

fn load_app(loader: &Loader, id: AppId, app: &AppSettings) -> Result<App> {
    let shown = app.source.display();
    let wasm = std::fs::read(&app.source)
        .with_context(|| format!("app `{}`: `{shown}` cannot be read", app.name))?;
    let spec = Spec {
        name: app.name.as_str().into(),
        limits: app.limits,
        instances: app.instances,
        env: app.env.clone(),
    };
    let program = loader.load(&wasm, spec).with_context(|| format!("app `{}`: `{shown}`", app.name))?;
    Ok(App {
        id,
        weight: app.weight,
        program: Arc::new(program),
        gate: Gate::new(app.limits.concurrency, app.limits.queue),
    })
}

fn claim(settings: &ServerSettings) -> Result<Vec<Bound>> {
    let claim = |addr| Bound::claim(addr).with_context(|| format!("cannot listen on {addr}"));
    settings.listen.iter().map(claim).collect()
}

/// Every worker's own listeners.
fn open(bound: &[Bound], workers: usize) -> Result<Vec<Vec<Listener>>> {
    let open = |b: &Bound| b.open().with_context(|| format!("cannot listen on {}", b.url()));
    (0..workers).map(|_| bound.iter().map(open).collect()).collect()
}

type Workers = Vec<JoinHandle<std::io::Result<()>>>;

fn start(
    settings: ServerSettings,
    engine: Engine,
    registry: Registry,
    access_log: Option<AccessLog>,
    clock: Clock,
    listeners: Vec<Vec<Listener>>,
) -> Result<(Arc<Shared>, Workers)> {
    let mut polls = Vec::new();
    let mut wakers = Vec::new();
    for _ in &listeners {
        let poll = Poll::new().context("cannot make an event queue")?;
        wakers.push(Arc::new(Waker::new(poll.registry(), Source::Waker.token())?));
        polls.push(poll);
    }
    let apps = u32::try_from(registry.apps().len())?;
    let shared = Arc::new(Shared {
        settings,
        registry,
        clock,
        places: Places::new(engine::INSTANCES_MAX - PLACES_SPARE, apps),
        ticker: Ticker::start(engine.clone())?,
        reaper: start_reaper()?,
        access_log,
        run: run_number(),
        wakers,
        state: State::default(),
    });
    let mut workers = Vec::new();
    for (number, (poll, listeners)) in polls.into_iter().zip(listeners).enumerate() {
        let number = u16::try_from(number)?;
        let worker = Worker::new(poll, listeners, Arc::clone(&shared), number)?;
        let name = format!("worker-{number}");
        workers.push(thread::Builder::new().name(name).spawn(move || {
            Engine::tls_eager_initialize();
            worker.run()
        })?);
    }
    Ok((shared, workers))
}

/// The thread that drops what takes long to drop.
fn start_reaper() -> Result<mpsc::Sender<Box<dyn Send>>> {
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

fn announce(urls: &[String]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    for url in urls {
        writeln!(out, "listening on {url}")?;
    }
    out.flush()?;
    Ok(())
}
