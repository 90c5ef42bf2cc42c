//! The programs that verbs run: cargo, the commands of a manifest, tests.
//!
//! Invariant: what a verb started does not outlive it. A program of a guarded verb is the head of a process group of its
//! own, so that what it starts in turn, rustc or the compilers of a Makefile, can be ended with it.

use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::ansi;
use crate::server::is_ignored;

/// How long a program may take to end once it is told to.
const PATIENCE: Duration = Duration::from_secs(2);
/// What is kept of a program's output.
const KEPT_BYTES_MAX: u64 = 256 * 1024;

/// Where the output of a program goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// To the terminal as if it had been started there.
    Terminal,
    /// To standard error, and it is kept, with its colours.
    Kept,
}

/// Starts programs, and ends them.
#[derive(Clone, Debug)]
pub(super) struct Children {
    output: Output,
    guarded: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The groups that run, by their heads.
    groups: Vec<Pid>,
    /// Nothing is to be started any more.
    over: bool,
}

/// What became of a program.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    /// What it said, where that is kept.
    pub(super) said: Vec<u8>,
}

impl Children {
    /// Programs that belong to the terminal as this one does: a signal from there ends them without our help.
    pub(super) fn of_terminal() -> Self {
        Self { output: Output::Terminal, guarded: false, state: Arc::default() }
    }

    /// Programs that end when a signal comes for this process. `heard` is called after that, for every signal.
    ///
    /// # Errors
    /// The system refuses the handlers or the thread.
    pub(super) fn guarded(output: Output, heard: impl Fn() + Send + 'static) -> io::Result<Self> {
        let children = Self { output, guarded: true, state: Arc::default() };
        let ours = children.clone();
        let mut heard_of = vec![SIGINT, SIGTERM];
        if !is_ignored(SIGHUP) {
            heard_of.push(SIGHUP);
        }
        let mut signals = Signals::new(heard_of)?;
        thread::Builder::new().name("children".into()).spawn(move || {
            for _ in signals.forever() {
                ours.end();
                heard();
            }
        })?;
        Ok(children)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what programs say is kept.
    pub(super) fn keeps_output(&self) -> bool {
        self.output == Output::Kept
    }

    /// Whether the programs were told to end.
    pub(super) fn is_over(&self) -> bool {
        self.lock().over
    }

    /// Ends what runs, and lets nothing begin any more. Returns at once.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.over = true;
        for group in &state.groups {
            // It fails only if nobody is left in it.
            let _ = kill_process_group(*group, Signal::TERM);
        }
        if !state.groups.is_empty() {
            let ours = self.clone();
            thread::spawn(move || {
                let deadline = Instant::now() + PATIENCE;
                while Instant::now() < deadline && !ours.lock().groups.is_empty() {
                    thread::sleep(Duration::from_millis(20));
                }
                for group in &ours.lock().groups {
                    let _ = kill_process_group(*group, Signal::KILL);
                }
            });
        }
    }

    /// Runs a program to its end. Its standard input is empty. Its standard output is collected when `capture` is set,
    /// and goes where its errors go otherwise.
    ///
    /// # Errors
    /// It cannot be started.
    pub(super) fn run(&self, command: &mut Command, capture: bool) -> io::Result<Done> {
        command.stdin(Stdio::null());
        let kept = self.output == Output::Kept;
        command.stdout(if capture || kept { Stdio::piped() } else { Stdio::inherit() });
        command.stderr(if kept { Stdio::piped() } else { Stdio::inherit() });
        let (mut child, group) = self.start(command)?;
        let said = Arc::new(Mutex::new(Vec::new()));
        let stderr = child.stderr.take();
        let stdout = child.stdout.take();
        let collected = thread::scope(|scope| {
            scope.spawn(|| stderr.map(|pipe| show(pipe, &said)));
            let mut collected = Vec::new();
            if let Some(mut pipe) = stdout {
                if capture {
                    // What cannot be read is missing, and whoever reads it will say so.
                    let _ = pipe.read_to_end(&mut collected);
                } else {
                    show(pipe, &said);
                }
            }
            collected
        });
        let status = self.reap(&mut child, group)?;
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Done { status, stdout: collected, said })
    }

    fn start(&self, command: &mut Command) -> io::Result<(Child, Option<Pid>)> {
        if !self.guarded {
            return Ok((command.spawn()?, None));
        }
        // Held until the group is known, so that a signal finds it.
        let mut state = self.lock();
        if state.over {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "a signal came"));
        }
        let child = command.process_group(0).spawn()?;
        let group = Pid::from_child(&child);
        state.groups.push(group);
        Ok((child, Some(group)))
    }

    /// Waits for the end of a program. Its number is taken off the list before it is free for another.
    fn reap(&self, child: &mut Child, group: Option<Pid>) -> io::Result<ExitStatus> {
        if let Some(group) = group {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while waitid(WaitId::Pid(group), options).is_err_and(|error| error == Errno::INTR) {}
            self.lock().groups.retain(|other| *other != group);
        }
        child.wait()
    }
}

/// Passes on what comes, as it comes, and keeps the beginning. Where nobody sees colours there are none.
fn show(mut pipe: impl Read, said: &Mutex<Vec<u8>>) {
    let coloured = colours();
    let mut plain = ansi::Plain::default();
    let mut chunk = [0; 8192];
    loop {
        let bytes = match pipe.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => chunk.get(..n).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let mut kept = said.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_BYTES_MAX.saturating_sub(kept.len() as u64);
        let _ = bytes.take(room).read_to_end(&mut kept);
        drop(kept);
        let mut out = io::stderr().lock();
        // Nobody reads it: the program goes on all the same.
        let _ = if coloured { out.write_all(bytes) } else { out.write_all(&plain.feed(bytes)) };
    }
}

/// Whether standard error is a terminal that may have colours.
pub(super) fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        command
    }

    fn guarded() -> Children {
        Children { output: Output::Kept, guarded: true, state: Arc::default() }
    }

    #[test]
    fn output_is_kept() {
        let done = guarded().run(&mut shell("echo one; echo two >&2; exit 3"), true).unwrap();
        assert_eq!(
            (done.status.code(), &done.stdout[..], &done.said[..]),
            (Some(3), &b"one\n"[..], &b"two\n"[..])
        );
        let done = guarded().run(&mut shell("echo one"), false).unwrap();
        assert_eq!(done.said, b"one\n");
    }

    #[test]
    fn what_a_program_started_ends_with_it() {
        let children = guarded();
        let ours = children.clone();
        let started = Instant::now();
        // The one in the background holds the pipe: if it lived on, reading would not end.
        let runner = thread::spawn(move || ours.run(&mut shell("sleep 600 & sleep 600"), false));
        while children.lock().groups.is_empty() {
            thread::yield_now();
        }
        children.end();
        let done = runner.join().unwrap().unwrap();
        assert!(!done.status.success() && started.elapsed() < Duration::from_secs(60));
        assert!(children.is_over() && children.lock().groups.is_empty());
        assert!(children.run(&mut shell("true"), false).is_err(), "nothing begins any more");
    }
}
