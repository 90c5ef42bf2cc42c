//! Compiling, always in a child of the same binary.
//!
//! Compilation time and memory depend on what the module says, so it happens under limits of our own, in a process
//! that may be killed, and that dies with the server. Compiled code is run when it is loaded: it is taken from our own
//! child, through a pipe, or from where the cache put it.

mod usage;

use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setpriority_process, setrlimit,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use wasmtime::Engine;

use self::usage::note;
pub(crate) use self::usage::{Usage, ledger};
use super::engine::{self, Mode};
use super::program::{self, Kind};
use crate::observe::metrics::Ending;

/// CPU seconds of one compilation.
const CPU_SECONDS_MAX: u64 = 120;
/// How far compiling stands back behind serving (setpriority(2)).
const NICE: i32 = 5;
/// Address space of one compilation.
const ADDRESS_BYTES_MAX: u64 = 4 << 30;
/// Wall time of one compilation.
const WALL_MAX: Duration = Duration::from_secs(180);
/// So often who waits is told.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Messages of the child that are kept.
const MESSAGE_BYTES_MAX: u64 = 16 * 1024;
/// The hidden verb that makes this binary the child.
pub(crate) const VERB: &str = "compile";
/// The flag that tells the child for which mode.
const DEV_FLAG: &str = "--dev";

/// Why a module was not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    /// The child could not be run.
    #[error("cannot run the compiler")]
    Spawn(#[source] io::Error),
    /// The module is not valid, or needs a feature that is off.
    #[error("{0}")]
    Refused(String),
    /// The child was stopped by its limits.
    #[error("compiling took more than {CPU_SECONDS_MAX} s of CPU time, {} s in all or {} GiB of memory",
        WALL_MAX.as_secs(), ADDRESS_BYTES_MAX >> 30)]
    Limits,
    /// Somebody ended the child, as Ctrl-C ends all that runs in its terminal.
    #[error("the compiler was ended by a signal")]
    Ended,
}

/// Compiles by running `program compile`.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    program: PathBuf,
    mode: Mode,
}

impl Compiler {
    /// Compiles with the running binary, for engines of this mode.
    ///
    /// # Errors
    /// There is no /proc to find the running binary by.
    pub(crate) fn this_binary(mode: Mode) -> io::Result<Self> {
        // Not by its name, which may lead to another version by now; and another version's code is of no use here.
        let program = PathBuf::from("/proc/self/exe");
        program.symlink_metadata().map(|_| Self { program, mode })
    }

    /// Compiles in this process: the binary of a unit test is no compiler.
    #[cfg(test)]
    pub(crate) fn in_process(mode: Mode) -> Self {
        Self { program: PathBuf::new(), mode }
    }

    /// Compiles `wasm` to code for the serving engine, and says what that took. The thread that calls this outlives the call:
    /// the child dies with the thread that started it (prctl(2)). `waiting` is called once a second with the seconds that
    /// have passed.
    ///
    /// # Errors
    /// See [`CompileError`].
    pub(crate) fn compile(
        &self,
        wasm: &[u8],
        waiting: &mut dyn FnMut(u64),
    ) -> (Result<Vec<u8>, CompileError>, Usage) {
        #[cfg(test)]
        if self.program.as_os_str().is_empty() {
            let code = engine::compiling(self.mode).and_then(|engine| precompile(&engine, wasm));
            let code = code.map_err(|error| CompileError::Refused(format!("{error:#}")));
            return (code, Usage::default());
        }
        let _counted = Counted::new();
        let mut usage = Usage::default();
        let done = self.run(wasm, waiting, &mut usage);
        note(
            match &done {
                Ok(_) => Ending::Done,
                Err(CompileError::Refused(_)) => Ending::Refused,
                Err(CompileError::Limits) => Ending::Limits,
                Err(CompileError::Spawn(_) | CompileError::Ended) => Ending::Failed,
            },
            usage,
        );
        (done, usage)
    }

    fn run(
        &self,
        wasm: &[u8],
        waiting: &mut dyn FnMut(u64),
        usage: &mut Usage,
    ) -> Result<Vec<u8>, CompileError> {
        let mut child = Command::new(&self.program)
            .arg0("tidegate")
            // It works for whoever wrote the module: what the server was given is none of its business.
            .env_clear()
            .arg(VERB)
            .arg(std::process::id().to_string())
            .args((self.mode == Mode::Dev).then_some(DEV_FLAG))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(CompileError::Spawn)?;
        let pid = Pid::from_child(&child);
        let mut exchange = converse(&mut child, wasm, &mut |seconds| {
            *usage = usage.max(Usage::of_child(pid));
            waiting(seconds);
        });
        if exchange.is_err() {
            // Over its wall time; killing it also ends the threads that read from it.
            let _ = child.kill();
        }
        let seen = Usage::of_ended(pid, *usage);
        let status = child.wait().map_err(CompileError::Spawn)?;
        *usage = exchange.as_mut().ok().and_then(|(code, _)| told(status, code)).unwrap_or(seen);
        let (code, message) = exchange.map_err(|_| CompileError::Limits)?;
        match status.code() {
            Some(0) => Ok(code),
            Some(_) => Err(CompileError::Refused(reason(&message).to_owned())),
            None => Err(match status.signal() {
                Some(SIGINT | SIGTERM | SIGHUP) => CompileError::Ended,
                _ => CompileError::Limits,
            }),
        }
    }
}

/// Children that compile now, of all servers in this process.
static CHILDREN: AtomicU64 = AtomicU64::new(0);

/// How many children compile now.
pub(crate) fn children() -> u64 {
    CHILDREN.load(Relaxed)
}

struct Counted;

impl Counted {
    fn new() -> Self {
        CHILDREN.fetch_add(1, Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CHILDREN.fetch_sub(1, Relaxed);
    }
}

/// What the child says that it took, out of all that it said. One that a signal ended may have said half of its code, with
/// nothing behind it.
fn told(status: ExitStatus, said: &mut Vec<u8>) -> Option<Usage> {
    status.code().and_then(|_| Usage::take(said))
}

/// Why the child refused, out of what it said as every verb does.
fn reason(message: &str) -> &str {
    let message = message.trim();
    message.strip_prefix("error: ").unwrap_or(message)
}

/// The child took too long.
struct TooLong;

/// Feeds the child and collects what it says. The threads end when the child's pipes close.
fn converse(
    child: &mut Child,
    wasm: &[u8],
    waiting: &mut dyn FnMut(u64),
) -> Result<(Vec<u8>, String), TooLong> {
    let began = Instant::now();
    let (done, wait) = mpsc::channel();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let wasm = wasm.to_vec();
    std::thread::spawn(move || {
        // A child that refuses early closes its end: its message says more than our error would.
        let _ = stdin.map(|mut pipe| pipe.write_all(&wasm));
    });
    std::thread::spawn(move || {
        let messages = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.map(|pipe| pipe.take(MESSAGE_BYTES_MAX).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
        let mut code = Vec::new();
        let _ = stdout.map(|mut pipe| pipe.read_to_end(&mut code));
        let _ = done.send((code, messages.join().unwrap_or_default()));
    });
    let mut tell_at = TELL_EVERY;
    loop {
        match wait.recv_timeout(tell_at.min(WALL_MAX).saturating_sub(began.elapsed())) {
            Ok(said) => return Ok(said),
            Err(RecvTimeoutError::Timeout) if began.elapsed() < WALL_MAX => {}
            Err(_) => return Err(TooLong),
        }
        let seconds = began.elapsed().as_secs();
        waiting(seconds);
        // Whoever is told may take its time: what it missed by that is not told it later.
        tell_at = Duration::from_secs(seconds) + TELL_EVERY;
    }
}

/// Code for a module or a component, whichever it is.
fn precompile(engine: &Engine, wasm: &[u8]) -> wasmtime::Result<Vec<u8>> {
    match program::kind(wasm) {
        Ok(Kind::Module) => engine.precompile_module(wasm),
        Ok(Kind::Component) => engine.precompile_component(wasm),
        Err(error) => Err(wasmtime::Error::msg(error.to_string())),
    }
}

/// The child's whole life: a module on standard input, its code on standard output, and what it took behind that, where
/// there is no code, too. `parent` is the server's process,
/// `dev` whether it serves the guest's author.
///
/// # Errors
/// The module is not valid; the message names what is wrong. Or the server is gone.
pub fn compile_child(parent: u32, dev: bool) -> anyhow::Result<()> {
    // A server that is killed can not end its child: the system does.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let alive = getppid().map(Pid::as_raw_nonzero).is_some_and(|pid| u32::try_from(pid.get()) == Ok(parent));
    anyhow::ensure!(alive, "the server that wanted this compiled is gone");
    let limit = |n| Rlimit { current: Some(n), maximum: Some(n) };
    // Requests go before it.
    setpriority_process(None, NICE)?;
    setrlimit(Resource::Cpu, limit(CPU_SECONDS_MAX))?;
    setrlimit(Resource::As, limit(ADDRESS_BYTES_MAX))?;
    setrlimit(Resource::Core, limit(0))?;
    let mut wasm = Vec::new();
    io::stdin().lock().read_to_end(&mut wasm)?;
    let code = engine::compiling(Mode::of(dev)).and_then(|engine| precompile(&engine, &wasm));
    let mut out = io::stdout().lock();
    if let Ok(code) = &code {
        out.write_all(code)?;
    }
    out.write_all(&Usage::of_this_process().to_bytes())?;
    out.flush()?;
    code.map(drop).map_err(|error| anyhow::anyhow!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_code_is_not_taken_for_what_it_took() {
        let (ended, killed) = (ExitStatus::from_raw(1 << 8), ExitStatus::from_raw(9));
        let half = vec![0xff; 100];
        let mut said = half.clone();
        assert_eq!((told(killed, &mut said), &said), (None, &half));
        let usage = Usage { cpu_ns: 7, peak_bytes: 9 };
        said.extend(usage.to_bytes());
        assert_eq!((told(ended, &mut said), &said), (Some(usage), &half));
    }

    #[test]
    fn who_waits_long_is_told_so() {
        for (script, told) in [("cat", false), ("sleep 2.3; cat", true)] {
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut seconds = Vec::new();
            let said = converse(&mut child, b"code", &mut |n| seconds.push(n));
            assert_eq!(said.ok().map(|(code, _)| code), Some(b"code".to_vec()), "{script}");
            // A machine that is busy may take longer for either.
            assert!(!told || seconds.len() >= 2, "{script}: {seconds:?}");
            assert!(seconds.is_sorted_by(|a, b| a < b) && seconds.iter().all(|n| *n > 0), "{seconds:?}");
            assert!(child.wait().unwrap().success());
        }
    }
}
