//! Other people's servers, from the distribution's packages, run by a test as children of its own: on a free port of the
//! loopback, in a folder of their own, ended by their own process id.
//!
//! It must never touch a service of the machine. Where a server is not installed the test is left out with a word; in CI
//! that is an error wherever `.ci/run` could have installed it.

use std::env;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::logs::LineLog;
use crate::wait::PATIENCE;

/// A port that was free a moment ago may be somebody else's by the time the server binds it: another one is tried.
const STARTS: usize = 5;

/// Where a program is, if it is installed; daemons also in folders that not everyone has in the path. Else `None`, and a
/// word on standard error, past the test harness; a panic where CI could have installed it.
pub(crate) fn find(program: &str, package: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = env::split_paths(&path).chain(daemons).map(|folder| folder.join(program));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        let word = format!("{program} is not installed (apt install {package})");
        assert!(!must_be_here(), "{word}: CI installs it, and tests with it");
        let _ = writeln!(std::io::stderr(), "skipped: {word}");
    }
    found
}

/// Whether `.ci/run` prepared this machine and had what it takes: apt, and root's rights.
fn must_be_here() -> bool {
    let runs = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let root = || rustix::process::geteuid().is_root() || runs("sudo", &["-n", "true"]);
    env::var("CI").as_deref() == Ok("true") && runs("apt-get", &["--version"]) && root()
}

/// A running server; ended with SIGKILL when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: LineLog,
    addr: SocketAddr,
    folder: TempDir,
}

impl Daemon {
    /// Starts what `command` makes of an address and an empty folder, and waits for a line of its output, on either stream,
    /// with `ready` in it. Panics with what it said when none comes.
    pub(crate) fn start(ready: &str, command: impl Fn(SocketAddr, &Path) -> Command) -> Self {
        let mut said = String::new();
        for _ in 0..STARTS {
            let folder = tempfile::tempdir().expect("a folder for the server");
            let addr = free_addr();
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let mut command = command(addr, folder.path());
            command.stdin(Stdio::null()).stdout(writer.try_clone().expect("the pipe")).stderr(writer);
            let child = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
            // The command holds the pipe's other end: the log ends with the child only when that is gone.
            drop(command);
            let daemon = Self { child, log: LineLog::collect(reader), addr, folder };
            if daemon.log.wait_for(PATIENCE, |line| line.contains(ready)).is_some() {
                return daemon;
            }
            said = daemon.log.tail(40);
        }
        panic!("no line with {ready:?} from the server; it said:\n{said}");
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("sending a signal to the server");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- last words of the server at {} ---\n{}\n---", self.addr, self.log.tail(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of the loopback that was free a moment ago.
pub fn free_addr() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address")
}
