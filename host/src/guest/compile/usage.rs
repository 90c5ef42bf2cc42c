//! What compilations take: of one, and of all of this process.
//!
//! A child says what it took behind the code that it gives. What wait4(2) says of a child is no measure of its memory: the
//! kernel counts what the server itself had when it started the child. Of one that its limits ended, which says nothing
//! any more, there is its CPU time, and the memory that it was last seen with.
//!
//! This knows no module and no app.

use std::fs;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use rustix::time::{ClockId, clock_gettime};

use crate::clock::{MS, Nanos};
use crate::observe::metrics::{Ending, Ledger};

/// Bytes of a [`Usage`] behind the code.
const USAGE_BYTES: usize = 16;

/// What a compilation took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: Nanos,
    /// Most memory that it had at once.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// Of the process that asks.
    pub(super) fn of_this_process() -> Self {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let (s, ns) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
        Self { cpu_ns: s.saturating_mul(1_000 * MS).saturating_add(ns), peak_bytes: peak_bytes("self") }
    }

    /// Of a child that runs, or has ended and was not waited for: then there is its CPU time alone.
    pub(super) fn of_child(pid: Pid) -> Self {
        let pid = pid.as_raw_nonzero().to_string();
        Self { cpu_ns: cpu_ns(&pid), peak_bytes: peak_bytes(&pid) }
    }

    /// Of a child that is ending: waits for that, and leaves it to be waited for. `seen` is what it was last seen with.
    pub(super) fn of_ended(pid: Pid, seen: Self) -> Self {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), options).is_err_and(|error| error == rustix::io::Errno::INTR) {}
        seen.max(Self::of_child(pid))
    }

    /// The larger of each.
    pub(super) fn max(self, other: Self) -> Self {
        Self { cpu_ns: self.cpu_ns.max(other.cpu_ns), peak_bytes: self.peak_bytes.max(other.peak_bytes) }
    }

    /// As the child says it.
    pub(super) fn to_bytes(self) -> [u8; USAGE_BYTES] {
        let mut bytes = [0; USAGE_BYTES];
        let (cpu, peak) = bytes.split_at_mut(USAGE_BYTES / 2);
        cpu.copy_from_slice(&self.cpu_ns.to_le_bytes());
        peak.copy_from_slice(&self.peak_bytes.to_le_bytes());
        bytes
    }

    /// Takes it from behind the code. None: the child did not come so far.
    pub(super) fn take(said: &mut Vec<u8>) -> Option<Self> {
        let (_, bytes) = said.split_last_chunk::<USAGE_BYTES>()?;
        let (cpu, peak) = (bytes.first_chunk::<8>()?, bytes.last_chunk::<8>()?);
        let usage = Self { cpu_ns: u64::from_le_bytes(*cpu), peak_bytes: u64::from_le_bytes(*peak) };
        said.truncate(said.len() - USAGE_BYTES);
        Some(usage)
    }
}

/// CPU time of a process, told in ticks of the system (proc(5)).
fn cpu_ns(pid: &str) -> Nanos {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name, which may have anything in it: the state is the third field, the two times the 14th and 15th.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks =
        fields.split_ascii_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok());
    ticks.sum::<u64>().saturating_mul(1_000 * MS / clock_ticks_per_second().max(1))
}

/// Most memory that a process had at once. 0: the system does not say.
fn peak_bytes(pid: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.map_or(0, |kib: u64| kib.saturating_mul(1024))
}

/// Of all servers in this process. Compilations are rare, and so is who looks.
static LEDGER: Mutex<Ledger> = Mutex::new(Ledger::new());

fn lock() -> MutexGuard<'static, Ledger> {
    LEDGER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those of all servers in this process, as they are now.
pub(crate) fn ledger() -> Ledger {
    *lock()
}

/// A compilation is over.
pub(super) fn note(ending: Ending, usage: Usage) {
    lock().add(ending, usage.cpu_ns, usage.peak_bytes);
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_says_what_it_took_behind_its_code() {
        let usage = Usage { cpu_ns: 7, peak_bytes: 9 << 33 };
        let mut said = [b"code".as_slice(), &usage.to_bytes()].concat();
        assert_eq!((Usage::take(&mut said), said.as_slice()), (Some(usage), b"code".as_slice()));
        assert_eq!((Usage::take(&mut said), said.as_slice()), (None, b"code".as_slice()));
    }

    #[test]
    fn a_process_has_had_memory_and_time() {
        let before = Usage::of_this_process();
        let many = vec![1_u8; 64 << 20];
        assert!(many.iter().all(|byte| *byte == 1));
        let after = Usage::of_this_process();
        assert!(after.peak_bytes >= 64 << 20 && after.cpu_ns > before.cpu_ns, "{after:?}");
    }

    #[test]
    fn of_one_that_was_ended_there_is_its_time() {
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let pid = Pid::from_child(&child);
        while Usage::of_child(pid).cpu_ns < 30 * MS {
            std::thread::yield_now();
        }
        let seen = Usage::of_child(pid);
        assert!(seen.peak_bytes > 0, "{seen:?}");
        child.kill().unwrap();
        let ended = Usage::of_ended(pid, seen);
        assert!(ended.cpu_ns >= 30 * MS && ended.peak_bytes == seen.peak_bytes, "{ended:?}");
        assert!(!child.wait().unwrap().success(), "it is still there to be waited for");
    }
}
