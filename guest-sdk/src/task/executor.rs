//! Running futures: one that the handler waits for, and the tasks that run beside it.
//!
//! Invariants: a future is polled when it was woken and not otherwise; nothing of the executor is borrowed while a
//! future runs or is dropped, because either may spawn, wake or wait. A task that is being polled, further up the stack,
//! is remembered as woken and not polled again inside itself.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::mem;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::{coop, reactor};
use crate::time::WaitLimit;

/// Turns with something to do before the host is asked what else has become ready.
const LOOK_EVERY: u32 = 4;

thread_local! {
    static EXECUTOR: Executor = const { Executor {
        depth: Cell::new(0),
        tasks: RefCell::new(Vec::new()),
        free: RefCell::new(Vec::new()),
        queue: OnceCell::new(),
    } };
}

struct Executor {
    /// How many `block_on` are on the stack.
    depth: Cell<u32>,
    tasks: RefCell<Vec<Slot>>,
    /// Slots that are free.
    free: RefCell<Vec<usize>>,
    /// Made with the first task.
    queue: OnceCell<Arc<Queue>>,
}

type BoxedFuture = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    future: BoxedFuture,
    waker: Arc<TaskWaker>,
}

enum Slot {
    Free,
    Waiting(Task),
    /// Being polled.
    Running {
        woken: bool,
        aborted: bool,
    },
}

/// Tasks that were woken, by slot. A number that is out of date polls another task once too often, and no more.
#[derive(Default)]
struct Queue(Mutex<VecDeque<usize>>);

impl Queue {
    fn with<R>(&self, f: impl FnOnce(&mut VecDeque<usize>) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

struct TaskWaker {
    slot: usize,
    queued: AtomicBool,
    queue: Arc<Queue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            self.queue.with(|queue| queue.push_back(self.slot));
        }
    }
}

/// The waker of a future that `block_on` was given.
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `future` to its end, and the tasks that it spawns meanwhile. While all of them wait the handler does, and holds
/// nothing up.
///
/// It may be called inside itself, by blocking code that async code calls; the outer futures stand still then, tasks go on.
///
/// # Panics
/// If the handler waits for something that can never happen: no timer, no body, and nobody left to wake it.
///
/// ```
/// use tidegate_sdk::{Request, Result, task};
///
/// fn handle(mut request: Request) -> Result<String> {
///     task::block_on(async {
///         let text = request.body().collect_text().await?;
///         Ok(text.to_uppercase())
///     })
/// }
/// # assert_eq!(tidegate_sdk::test::Exchange::post("/").body("hi").run(handle).text(), "HI");
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let _entered = Entered::new();
    let _limit = WaitLimit::block();
    let mut future = pin!(future);
    let flag = Arc::new(Flag(AtomicBool::new(true)));
    let waker = Waker::from(Arc::clone(&flag));
    let mut cx = Context::from_waker(&waker);
    let mut turns = 0_u32;
    loop {
        if flag.0.swap(false, Ordering::AcqRel) {
            coop::refill();
            if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
                return output;
            }
        }
        run_woken();
        if !flag.0.load(Ordering::Acquire) && !is_task_woken() {
            turns = 0;
            assert!(
                reactor::wait(),
                "the handler waits for something that can never happen: no timer and no body is waited for, and \
                 nothing that runs is left to wake it"
            );
        } else {
            turns += 1;
            if turns.is_multiple_of(LOOK_EVERY) {
                reactor::look();
            }
        }
    }
}

/// One `block_on` on the stack. With the last one all tasks end.
struct Entered;

impl Entered {
    fn new() -> Self {
        EXECUTOR.with(|executor| executor.depth.update(|depth| depth + 1));
        Self
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        EXECUTOR.with(|executor| {
            if executor.depth.get() == 1 {
                // A task that is dropped may spawn another.
                while !executor.tasks.borrow().is_empty() {
                    executor.free.borrow_mut().clear();
                    drop(executor.tasks.take());
                }
                executor.free.borrow_mut().clear();
                if let Some(queue) = executor.queue.get() {
                    queue.with(VecDeque::clear);
                }
                reactor::clear();
            }
            executor.depth.update(|depth| depth - 1);
        });
    }
}

/// Starts a task: it runs beside the handler's own future, whether it is awaited or not, as long as the outermost
/// [`block_on`] does (for an `async fn` handler: until its response was sent). What is not done then is dropped.
///
/// # Panics
/// Outside of [`block_on`]: nothing would run it.
///
/// ```
/// use std::time::Duration;
/// use tidegate_sdk::task;
///
/// let sum = task::block_on(async {
///     let slow = task::spawn(async {
///         task::sleep(Duration::from_millis(10)).await;
///         40
///     });
///     2 + slow.await
/// });
/// assert_eq!(sum, 42);
/// ```
pub fn spawn<F: Future + 'static>(future: F) -> JoinHandle<F::Output> {
    let shared = Rc::new(Shared { state: RefCell::new(State::Running(None)), slot: Cell::new(0) });
    let ended = Ended(Rc::clone(&shared));
    let future = Box::pin(async move {
        let output = future.await;
        ended.0.set(State::Done(output));
    });
    EXECUTOR.with(|executor| shared.slot.set(executor.add(future)));
    JoinHandle { shared }
}

impl Executor {
    fn add(&self, future: BoxedFuture) -> usize {
        assert!(
            self.depth.get() > 0,
            "`task::spawn` outside of `task::block_on`: nothing would run the task"
        );
        let queue = Arc::clone(self.queue.get_or_init(Arc::default));
        let mut tasks = self.tasks.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            tasks.push(Slot::Free);
            tasks.len() - 1
        });
        let waker = Arc::new(TaskWaker { slot, queued: AtomicBool::new(false), queue });
        waker.wake_by_ref();
        tasks[slot] = Slot::Waiting(Task { future, waker });
        slot
    }

    /// The task in `slot`, to be polled; `None` if there is none, or it is being polled already.
    fn take(&self, slot: usize) -> Option<Task> {
        let mut tasks = self.tasks.borrow_mut();
        let place = tasks.get_mut(slot)?;
        match mem::replace(place, Slot::Running { woken: false, aborted: false }) {
            Slot::Waiting(task) => Some(task),
            Slot::Running { aborted, .. } => {
                *place = Slot::Running { woken: true, aborted };
                None
            }
            Slot::Free => {
                *place = Slot::Free;
                None
            }
        }
    }

    /// Puts a task back that is not done; gives it back if it was aborted meanwhile.
    fn put_back(&self, slot: usize, task: Task) -> Option<Task> {
        let mut tasks = self.tasks.borrow_mut();
        let place = &mut tasks[slot];
        match *place {
            Slot::Running { aborted: true, .. } => return Some(task),
            // Its place in the queue was used up when it could not be polled.
            Slot::Running { woken: true, .. } => {
                task.waker.queued.store(false, Ordering::Release);
                task.waker.wake_by_ref();
            }
            _ => {}
        }
        *place = Slot::Waiting(task);
        None
    }

    fn release(&self, slot: usize) {
        self.tasks.borrow_mut()[slot] = Slot::Free;
        self.free.borrow_mut().push(slot);
    }

    fn abort(&self, slot: usize) {
        let mut tasks = self.tasks.borrow_mut();
        let Some(place) = tasks.get_mut(slot) else { return };
        if let Slot::Running { aborted, .. } = place {
            *aborted = true;
            return;
        }
        let task = mem::replace(place, Slot::Free);
        self.free.borrow_mut().push(slot);
        drop(tasks);
        drop(task);
    }
}

fn is_task_woken() -> bool {
    EXECUTOR.with(|executor| executor.queue.get().is_some_and(|queue| queue.with(|queue| !queue.is_empty())))
}

/// Polls each task that has been woken by now, once.
fn run_woken() {
    let Some(queue) = EXECUTOR.with(|executor| executor.queue.get().map(Arc::clone)) else { return };
    for _ in 0..queue.with(|queue| queue.len()) {
        let Some(slot) = queue.with(VecDeque::pop_front) else { return };
        let Some(mut task) = EXECUTOR.with(|executor| executor.take(slot)) else { continue };
        task.waker.queued.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task.waker));
        coop::refill();
        // A task is nobody's part: what limits the code that happens to run it is not its limit.
        let _unlimited = WaitLimit::suspend();
        let done = task.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let over = if done { Some(task) } else { EXECUTOR.with(|executor| executor.put_back(slot, task)) };
        if let Some(task) = over {
            EXECUTOR.with(|executor| executor.release(slot));
            drop(task);
        }
    }
}

enum State<T> {
    /// Not done; whom to wake when it is.
    Running(Option<Waker>),
    Done(T),
    /// Dropped before it was done, or its output was taken.
    Gone,
}

/// What a task and its handle share.
struct Shared<T> {
    state: RefCell<State<T>>,
    slot: Cell<usize>,
}

impl<T> Shared<T> {
    fn set(&self, state: State<T>) {
        if let State::Running(Some(waker)) = self.state.replace(state) {
            waker.wake();
        }
    }

    fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), State::Running(_))
    }
}

/// Held by the task: tells its handle when it is dropped before it is done.
struct Ended<T>(Rc<Shared<T>>);

impl<T> Drop for Ended<T> {
    fn drop(&mut self) {
        if self.0.is_running() {
            self.0.set(State::Gone);
        }
    }
}

/// A task that was started with [`spawn`]. Awaited, it gives the task's output; dropped, it lets the task go on alone.
///
/// ```
/// use tidegate_sdk::task;
///
/// task::block_on(async {
///     let task = task::spawn(async { 42 });
///     assert!(!task.is_finished());
///     task::yield_now().await;
///     assert!(task.is_finished());
///     assert_eq!(task.await, 42);
/// });
/// ```
///
/// # Panics
/// When it is awaited after the [`block_on`] that its task ran in.
pub struct JoinHandle<T> {
    shared: Rc<Shared<T>>,
}

impl<T> JoinHandle<T> {
    /// Ends the task where it waits: its future is dropped.
    ///
    /// ```
    /// use std::{cell::Cell, rc::Rc, time::Duration};
    /// use tidegate_sdk::task;
    ///
    /// let done = Rc::new(Cell::new(false));
    /// let is_done = Rc::clone(&done);
    /// task::block_on(async {
    ///     let task = task::spawn(async move {
    ///         task::sleep(Duration::from_secs(1)).await;
    ///         done.set(true);
    ///     });
    ///     task.abort();
    ///     task::sleep(Duration::from_secs(5)).await;
    /// });
    /// assert!(!is_done.get());
    /// ```
    pub fn abort(self) {
        if self.shared.is_running() {
            EXECUTOR.with(|executor| executor.abort(self.shared.slot.get()));
        }
    }

    /// True if the task is done, so that awaiting it would not wait. See [`JoinHandle`].
    #[must_use]
    pub fn is_finished(&self) -> bool {
        !self.shared.is_running()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.shared.state.borrow_mut();
        match &mut *state {
            State::Running(waker) => {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            State::Done(_) => {}
            State::Gone => {
                panic!("the task is gone: its output was taken, or the `block_on` it ran in is over")
            }
        }
        match mem::replace(&mut *state, State::Gone) {
            State::Done(output) => Poll::Ready(output),
            _ => unreachable!("just looked at"),
        }
    }
}

impl<T> std::fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinHandle").field("finished", &self.is_finished()).finish()
    }
}
