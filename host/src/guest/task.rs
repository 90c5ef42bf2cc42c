//! A guest's call as a task: a future that is polled on the loop, and that runs the guest on a fiber.
//!
//! A [`Runner`] is a future that outlives the requests it serves, one after the other, so that serving one allocates
//! nothing here. It owns the Store; with reuse it keeps the instance from one request to the next. A Store whose call
//! did not return is never used again. Dropping a runner cancels its call and unwinds its fiber.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use wasmtime::component::{self, Resource};
use wasmtime::{
    Engine, Instance, ModuleExport, Store, TypedFunc, UpdateDeadline, WasmParams, WasmResults, bail,
};

use super::component::{
    ComponentSide, ComponentState, HOSTCALL_BYTES_MAX, IncomingRequest, ResponseOutparam, handles_max,
};
use super::crash::Crash;
use super::describe::describe;
use super::desk::Desk;
use super::engine::Mode;
use super::exports::ComponentExport;
use super::module::ModuleSide;
use super::outcome::Outcome;
use super::places::Place;
use super::program::{Code, ComponentCode, Linked, ModuleCode, Program};
use super::stack;
use super::state::{GuestState, Outside, Side};
use crate::config::Instances;
use crate::exchange::{Epoch, Exchange};
use crate::net::tcp::AcceptedTcp;

/// A Store that grew past this is dropped away from the loop.
const DROP_BYTES_MAX: usize = 8 << 20;

/// What a guest is called for.
#[derive(Debug)]
pub(crate) enum Call {
    /// The exchange's request.
    Request,
    /// A raw connection, with its place among the app's sockets.
    Connection(AcceptedTcp),
    /// To run by itself, until it returns.
    Run,
}

/// One call to make.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) program: Arc<Program>,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) outside: Outside,
    pub(crate) call: Call,
    /// The code for a new instance, and its place. A warm runner's instance has both already.
    pub(crate) code: Option<Arc<Code>>,
    pub(crate) place: Option<Place>,
}

#[derive(Debug, Default)]
struct Mailbox {
    job: Option<Job>,
    outcome: Option<Outcome>,
    /// How the call failed, for the guest's author.
    crash: Option<Box<Crash>>,
    /// A warm instance is kept for the next request.
    warm: bool,
}

type Shared = Arc<Mutex<Mailbox>>;

fn open(mailbox: &Shared) -> MutexGuard<'_, Mailbox> {
    mailbox.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What one poll of a runner came to.
#[derive(Debug)]
pub(crate) enum Ran {
    /// The call is over. Beside it, where somebody is to be told: how it failed.
    Done(Outcome, Option<Box<Crash>>),
    /// The guest waits, or its slice is over.
    Pending,
    /// The host panicked in a hostcall: a bug, contained. The runner must be dropped.
    Panicked(String),
}

/// Serves requests one after the other.
pub(crate) struct Runner {
    mailbox: Shared,
    future: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// Where large Stores go to be dropped.
pub(crate) type Reaper = std::sync::mpsc::Sender<Box<dyn Send>>;

impl Runner {
    /// `mode` says whether failures are explained to the guest's author.
    pub(crate) fn new(reaper: Reaper, mode: Mode) -> Self {
        let mailbox = Shared::default();
        Self { future: Box::pin(run(Arc::clone(&mailbox), reaper, mode)), mailbox }
    }

    /// Begins a call; the runner has none in progress.
    pub(crate) fn begin(&mut self, job: Job) {
        open(&self.mailbox).job = Some(job);
    }

    /// True if it holds an instance that can serve another request of its app.
    pub(crate) fn is_warm(&self) -> bool {
        open(&self.mailbox).warm
    }

    /// Runs the guest until it waits, its slice is over, or the call is.
    pub(crate) fn poll(&mut self) -> Ran {
        // The worker knows what a parked guest waits for, so nothing needs to be woken.
        self.poll_with(Waker::noop())
    }

    /// The same for a guest that other threads work for, which wake it.
    pub(crate) fn poll_with(&mut self, waker: &Waker) -> Ran {
        let mut cx = Context::from_waker(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(&mut cx)));
        match polled {
            Err(panic) => Ran::Panicked(panic_text(&*panic)),
            Ok(_) => {
                let mut mail = open(&self.mailbox);
                match mail.outcome.take() {
                    Some(outcome) => Ran::Done(outcome, mail.crash.take()),
                    None => Ran::Pending,
                }
            }
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".into())
}

/// Waits for the next job.
async fn next(mailbox: &Shared) -> Job {
    std::future::poll_fn(|_| open(mailbox).job.take().map_or(Poll::Pending, Poll::Ready)).await
}

async fn run(mailbox: Shared, reaper: Reaper, mode: Mode) {
    let mut live: Option<Live> = None;
    loop {
        let job = next(&mailbox).await;
        let Served { outcome, crash, kept } = serve(job, live.take(), &reaper, mode).await;
        live = kept;
        let mut mailbox = open(&mailbox);
        mailbox.outcome = Some(outcome);
        mailbox.crash = crash;
        mailbox.warm = live.is_some();
    }
}

/// An instance that serves one request after the other, and its code, which stays for as long as this does.
struct Live {
    code: Arc<Code>,
    instance: LiveInstance,
}

enum LiveInstance {
    Module(Running<ModuleSide, ModuleEntry>),
    Component(Running<ComponentSide, ComponentEntry>),
}

/// What is called of a module.
enum ModuleEntry {
    /// `tidegate_handle`.
    Handle(TypedFunc<(), i32>),
    /// `tidegate_connection`, with the connection's handle.
    Connection(TypedFunc<i32, i32>, i32),
}

/// What is called of a component.
enum ComponentEntry {
    /// `wasi:http/incoming-handler.handle`.
    Handle(component::TypedFunc<(Resource<IncomingRequest>, Resource<ResponseOutparam>), ()>),
    /// `wasi:cli/run.run`.
    Run(component::TypedFunc<(), (Result<(), ()>,)>),
}

/// An instance, what is called of it, and the request count it has left.
struct Running<S: Side, F> {
    store: Store<GuestState<S>>,
    entry: F,
    left: u32,
}

/// What a call came to.
struct Served {
    outcome: Outcome,
    crash: Option<Box<Crash>>,
    /// The instance, if it can serve another request.
    kept: Option<Live>,
}

async fn serve(mut job: Job, live: Option<Live>, reaper: &Reaper, mode: Mode) -> Served {
    if let Call::Connection(accepted) = &mut job.call
        && !accepted.take_preamble(&job.outside.hub, &job.exchange).await
    {
        // The guest has nothing to do with it.
        return Served { outcome: Outcome::Returned(0), crash: None, kept: None };
    }
    let (code, live) = match live {
        Some(live) => (Some(live.code), Some(live.instance)),
        None => (job.code.take(), None),
    };
    let Some(code) = code else {
        let outcome = Outcome::Trapped("there is no code for it: a bug of the host".to_owned());
        return Served { outcome, crash: None, kept: None };
    };
    let (ended, kept) = match &code.linked {
        Linked::Module(own) => {
            let running = match live {
                Some(LiveInstance::Module(running)) => running.renew(job.exchange),
                _ => module(own, job, mode).await,
            };
            let call = async |running: &mut Running<ModuleSide, ModuleEntry>| {
                let store = &mut running.store;
                let code = match &running.entry {
                    ModuleEntry::Handle(handle) => handle.call_async(store, ()).await,
                    ModuleEntry::Connection(connection, number) => {
                        connection.call_async(store, *number).await
                    }
                };
                code.map(Outcome::Returned)
            };
            let (ended, kept) = conclude(running, call, reaper).await;
            (ended, kept.map(LiveInstance::Module))
        }
        Linked::Component(own) => {
            let running = match live {
                Some(LiveInstance::Component(running)) => running.renew(job.exchange),
                _ => component(own, job, mode).await,
            };
            let (ended, kept) = conclude(running, answer, reaper).await;
            (ended, kept.map(LiveInstance::Component))
        }
    };
    let (outcome, crash) = ended;
    Served { outcome, crash, kept: kept.map(|instance| Live { code, instance }) }
}

/// An instance, or why there is none, with the Store that is left over.
type Started<S, F> = Result<Running<S, F>, (wasmtime::Error, Store<GuestState<S>>)>;

impl<S: Side, F> Running<S, F> {
    /// Takes up another request.
    fn renew(mut self, exchange: Arc<Exchange>) -> Started<S, F> {
        self.store.data_mut().renew(exchange);
        Ok(self)
    }
}

/// How a call ended, and how it failed.
type Ended = (Outcome, Option<Box<Crash>>);

/// Calls the handler of what was started, and sees to how it ends. Beside that: the instance, if it can serve another
/// request.
async fn conclude<S: Side, F>(
    started: Started<S, F>,
    call: impl AsyncFnOnce(&mut Running<S, F>) -> wasmtime::Result<Outcome>,
    reaper: &Reaper,
) -> (Ended, Option<Running<S, F>>) {
    let mut running = match started {
        Ok(running) => running,
        Err((error, mut store)) => {
            let ended = end_failed(&error, &mut store);
            stack::trim(&mut store).await;
            discard(store, reaper);
            return (ended, None);
        }
    };
    running.store.set_epoch_deadline(1);
    let (ended, sound) = match call(&mut running).await {
        Ok(outcome) => {
            let answered = running.store.data_mut().end();
            // One that returns without an answer may have come to a state in which it never answers again.
            let sound = answered || outcome != Outcome::Returned(0);
            ((outcome, None), sound)
        }
        Err(error) => {
            let ended = end_failed(&error, &mut running.store);
            stack::trim(&mut running.store).await;
            (ended, false)
        }
    };
    running.left = running.left.saturating_sub(1);
    if sound && running.left > 0 {
        return (ended, Some(running));
    }
    discard(running.store, reaper);
    (ended, None)
}

/// The call has failed and is over.
fn end_failed<S: Side>(error: &wasmtime::Error, store: &mut Store<GuestState<S>>) -> Ended {
    let state = store.data_mut();
    let outcome = judge(error, state);
    let crash = state.side.crash(error);
    state.end();
    (outcome, crash)
}

fn discard<S: Side>(store: Store<GuestState<S>>, reaper: &Reaper) {
    if store.data().limiter.memory_bytes() > DROP_BYTES_MAX {
        // If the reaper is gone the server is ending; then it is dropped here.
        let _ = reaper.send(Box::new(store));
    }
}

/// A Store under the limits of the program, for one instance.
fn store<S: Side>(engine: &Engine, job: Job, side: S) -> (Store<GuestState<S>>, Call, u32) {
    let Job { program, exchange, outside, call, place, .. } = job;
    let left = match (program.instances, &call) {
        (Instances::Reuse(n), Call::Request) => n,
        _ => 1,
    };
    let mut store = Store::new(engine, GuestState::new(program, exchange, outside, place, side));
    store.limiter(|state| &mut state.limiter);
    store.epoch_deadline_callback(|cx| {
        Ok(match cx.data().exchange.slice.on_epoch() {
            Epoch::Continue => UpdateDeadline::Continue(1),
            Epoch::Yield => UpdateDeadline::Yield(1),
            Epoch::Stop => UpdateDeadline::Interrupt,
        })
    });
    store.set_epoch_deadline(1);
    (store, call, left)
}

/// A new instance of a module.
async fn module(code: &ModuleCode, job: Job, mode: Mode) -> Started<ModuleSide, ModuleEntry> {
    let (mut store, call, left) = store(code.pre.module().engine(), job, ModuleSide::new(mode));
    match start(code, call, &mut store).await {
        Ok(entry) => Ok(Running { store, entry, left }),
        Err(error) => Err((error, store)),
    }
}

async fn start(
    code: &ModuleCode,
    call: Call,
    store: &mut Store<GuestState>,
) -> wasmtime::Result<ModuleEntry> {
    let instance = code.pre.instantiate_async(&mut *store).await?;
    let memory = instance.get_module_export(&mut *store, &code.memory).and_then(|e| e.into_memory());
    store.data_mut().side.memory = memory;
    if let Some(export) = &code.initialize {
        typed::<(), ()>(&instance, store, export)?.call_async(&mut *store, ()).await?;
    }
    match (call, &code.handle, &code.connection) {
        (Call::Request, Some(export), _) => {
            Ok(ModuleEntry::Handle(typed::<(), i32>(&instance, store, export)?))
        }
        (Call::Connection(accepted), _, Some(export)) => {
            let state = store.data_mut();
            let stream = accepted.open(state.network())?;
            let number = state.side.handles.serve_connection(stream).cast_signed();
            Ok(ModuleEntry::Connection(typed::<i32, i32>(&instance, store, export)?, number))
        }
        _ => bail!("a module was called for what it does not export: a bug of the host"),
    }
}

/// A function whose type was checked when its module was loaded; checking it again would cost every request.
#[allow(unsafe_code)]
fn typed<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<GuestState>,
    export: &ModuleExport,
) -> wasmtime::Result<TypedFunc<P, R>> {
    let found = instance.get_module_export(&mut *store, export).and_then(|e| e.into_func());
    let function = found.ok_or_else(|| wasmtime::format_err!("an export is gone"))?;
    // SAFETY: `exports::of_module` takes `initialize` only as `() -> ()`, `handle` only as `() -> i32` and `connection`
    // only as `(i32) -> i32`, and the instance is one of the very module it looked at.
    Ok(unsafe { TypedFunc::new_unchecked(&*store, function) })
}

/// A new instance of a component.
async fn component(code: &ComponentCode, job: Job, mode: Mode) -> Started<ComponentSide, ComponentEntry> {
    let side = ComponentSide::new(&job.program, &job.exchange, mode);
    let (mut store, _, left) = store(code.pre.engine(), job, side);
    store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
    store.set_max_component_handles(handles_max(&store.data().program.limits));
    let desk = Arc::clone(&store.data().side.desk);
    match parking(&desk, code.pre.instantiate_async(&mut store)).await {
        Ok(instance) => match entry(code, &instance, &mut store) {
            Ok(entry) => Ok(Running { store, entry, left }),
            Err(error) => Err((error, store)),
        },
        Err(error) => Err((error, store)),
    }
}

fn entry(
    code: &ComponentCode,
    instance: &component::Instance,
    store: &mut Store<ComponentState>,
) -> wasmtime::Result<ComponentEntry> {
    let function = |store: &mut Store<ComponentState>, index| {
        instance.get_func(store, index).ok_or_else(|| wasmtime::format_err!("an export is gone"))
    };
    Ok(match code.entry {
        ComponentExport::Handle(index) => ComponentEntry::Handle(function(store, index)?.typed(&*store)?),
        ComponentExport::Run(index) => ComponentEntry::Run(function(store, index)?.typed(&*store)?),
    })
}

/// Calls a component.
async fn answer(running: &mut Running<ComponentSide, ComponentEntry>) -> wasmtime::Result<Outcome> {
    let desk = Arc::clone(&running.store.data().side.desk);
    match &running.entry {
        ComponentEntry::Handle(handle) => {
            let resources = running.store.data_mut().side.call()?;
            parking(&desk, handle.call_async(&mut running.store, resources)).await?;
        }
        ComponentEntry::Run(run) => {
            let (ended,) = parking(&desk, run.call_async(&mut running.store, ())).await?;
            return Ok(Outcome::Returned(i32::from(ended.is_err())));
        }
    }
    Ok(match running.store.data_mut().side.reported.take() {
        Some(error) => Outcome::Reported(error),
        None => Outcome::Returned(0),
    })
}

/// Runs a component's call. Whatever it waits for when it is suspended is noted where the worker looks for it.
async fn parking<T>(desk: &Desk, call: impl Future<Output = T>) -> T {
    let mut call = std::pin::pin!(call);
    std::future::poll_fn(|cx| {
        desk.resume();
        let polled = call.as_mut().poll(cx);
        if polled.is_pending() {
            desk.park();
        }
        polled
    })
    .await
}

/// Why a call failed, by what the limits have noted.
fn judge<S>(error: &wasmtime::Error, state: &GuestState<S>) -> Outcome {
    if state.exchange.slice.was_stopped() {
        Outcome::CpuExceeded
    } else if state.limiter.exceeded() {
        Outcome::OutOfMemory(describe(error))
    } else {
        Outcome::Trapped(describe(error))
    }
}
