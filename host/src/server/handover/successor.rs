//! The old process's side: starts the new one and gives it what it asks for.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{Shutdown, shutdown};

use super::wire::{FDS_MAX, Message, pair, receive, send};
use super::{VARIABLE, VERSION};

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    pub(crate) program: PathBuf,
    /// The name first.
    pub(crate) arguments: Vec<OsString>,
}

/// A process that is to take over. Ended, and waited for, when it is dropped without having done so.
#[derive(Debug)]
pub(crate) struct Successor {
    pid: u32,
    control: Arc<Control>,
    deadline: Instant,
}

#[derive(Debug)]
struct Control {
    socket: OwnedFd,
    interrupted: AtomicBool,
    /// None once it has taken over.
    child: Mutex<Option<Child>>,
}

impl Control {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it, where it has not taken over.
    fn kill(&self) {
        if let Some(child) = &mut *self.child() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What it wants next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    State,
    /// Nothing: it serves.
    Nothing,
}

impl Successor {
    /// Starts it. It has to serve `within` that time.
    ///
    /// # Errors
    /// It can not be started.
    pub(crate) fn start(binary: &Binary, within: Duration) -> Result<Self> {
        let deadline = Instant::now() + within;
        let (control, theirs) = pair().context("no sockets to talk to it")?;
        set_socket_timeout(&control, Timeout::Send, Some(within))?;
        let mut command = Command::new(&binary.program);
        if let Some((name, rest)) = binary.arguments.split_first() {
            command.arg0(name).args(rest);
        }
        command.env(VARIABLE, VERSION).stdin(theirs);
        // It is another process; that a watchdog is wanted stays.
        command.env_remove("WATCHDOG_PID");
        let child =
            command.spawn().with_context(|| format!("`{}` can not be run", binary.program.display()))?;
        let pid = child.id();
        let (interrupted, child) = (AtomicBool::new(false), Mutex::new(Some(child)));
        Ok(Self { pid, control: Arc::new(Control { socket: control, interrupted, child }), deadline })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it and the wait for it, from another thread.
    pub(crate) fn interrupter(&self) -> Interrupter {
        Interrupter(Arc::clone(&self.control))
    }

    /// Gives it the sockets of the next address.
    ///
    /// # Errors
    /// It is gone or does not take them.
    pub(crate) fn give(
        &self,
        number: usize,
        wanted: &str,
        is_ours: bool,
        sockets: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let message = Message::Sockets { wanted: wanted.to_owned(), number, is_ours };
        sockets.chunks(FDS_MAX).try_for_each(|some| send(&self.control.socket, &message, some))
    }

    /// It has all sockets.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn begin(&self) -> io::Result<()> {
        send(&self.control.socket, &Message::Begin, &[])
    }

    /// The state is free.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn go(&self) -> io::Result<()> {
        send(&self.control.socket, &Message::Go, &[])
    }

    /// Waits for what it says.
    ///
    /// # Errors
    /// It ends, or time is over, or the wait is.
    pub(crate) fn wish(&mut self) -> Result<Wish> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let mut fds = [PollFd::new(&self.control.socket, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) => bail!("it was not ready in time"),
            Ok(_) => {}
            // A look too many.
            Err(rustix::io::Errno::INTR) => return self.wish(),
            Err(error) => return Err(error).context("it can not be waited for"),
        }
        match receive(self.control.socket.as_fd()).context("what it says can not be read")? {
            Some((Message::NeedState, _)) => Ok(Wish::State),
            Some((Message::Ready, _)) => Ok(Wish::Nothing),
            Some((message, _)) => bail!("it says {message:?}, which is not its to say"),
            None if self.control.interrupted.load(Ordering::Acquire) => bail!("this server is to end"),
            None => match self.end() {
                Some(status) if status.code().is_some_and(|code| code != 0) => {
                    bail!("it ended ({status}); what it said of that stands above")
                }
                Some(status) => bail!("it ended ({status})"),
                None => bail!("it hung up"),
            },
        }
    }

    /// It has taken over: it lives on when this is dropped.
    pub(crate) fn release(self) {
        *self.control.child() = None;
    }

    /// How it ended by itself. None: it had not, and does now.
    fn end(&self) -> Option<ExitStatus> {
        // It hung up, which an ending process does a moment before it has ended.
        let grace = Instant::now() + Duration::from_secs(1);
        while Instant::now() < grace {
            if let Ok(Some(status)) = self.control.child().as_mut()?.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.control.kill();
        None
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.control.kill();
    }
}

/// Ends a successor that has not taken over, and the wait for it.
#[derive(Debug)]
pub(crate) struct Interrupter(Arc<Control>);

impl Interrupter {
    pub(crate) fn interrupt(&self) {
        self.0.interrupted.store(true, Ordering::Release);
        self.0.kill();
        // It fails only where the other side has hung up.
        let _ = shutdown(&self.0.socket, Shutdown::Both);
    }
}
