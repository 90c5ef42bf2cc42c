//! The process that takes over from a server in an upgrade. It is no child of the test's, so it is known by its process id,
//! which the server's log tells, and held by a descriptor: the id may be another's once the process has ended.

use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::logs::LineLog;
use crate::wait::{PATIENCE, poll_for};

/// What a server says once another process serves.
const UPGRADED: &str = "upgraded: ";

/// A process that took over; ended with SIGKILL when dropped.
pub struct Successor {
    pid: Pid,
    handle: OwnedFd,
}

impl Successor {
    /// Waits until the server whose log this is was upgraded for the `count`th time. Panics with the log when it was not.
    #[track_caller]
    pub fn wait(log: &LineLog, count: usize) -> Self {
        let pid = |line: &str| -> Option<i32> {
            let (_, pid) = line.split_once(UPGRADED)?.1.rsplit_once("pid=")?;
            pid.split_whitespace().next()?.parse().ok()
        };
        let upgraded = || log.lines().iter().filter_map(|line| pid(line)).nth(count - 1);
        let Some(pid) = poll_for(2 * PATIENCE, upgraded).and_then(Pid::from_raw) else {
            panic!("not upgraded {count} times; the log says:\n{}", log.tail(40));
        };
        let handle = pidfd_open(pid, PidfdFlags::empty()).expect("the process that took over");
        Self { pid, handle }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.handle, signal).expect("sending a signal to the process that took over");
    }

    /// Waits for its end. False: it still runs after `within`.
    pub fn ends(&self, within: Duration) -> bool {
        let mut fds = [PollFd::new(&self.handle, PollFlags::IN)];
        let within = Timespec::try_from(within).expect("a time to wait");
        poll(&mut fds, Some(&within)).is_ok_and(|ended| ended == 1)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
    }
}
