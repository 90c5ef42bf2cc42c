//! The real server as a child process: started with flags or a manifest, watched, and ended by its own process id.

use std::fmt::{Display, Write as _};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::artifacts;
use crate::http::{Client, Response};
use crate::logs::LineLog;
use crate::procfs;
use crate::stream::Addr;
use crate::wait::{PATIENCE, poll_for};

/// How long a server may take until it listens: it compiles modules that were not kept, perhaps unoptimised.
const START: Duration = Duration::from_secs(120);

/// One app of a manifest.
pub struct App {
    name: String,
    source: PathBuf,
    route: String,
    keys: Vec<String>,
    limits: Vec<String>,
    env: Vec<String>,
    connect: Vec<String>,
    listen: Vec<String>,
    ca: Vec<PathBuf>,
}

impl App {
    /// The guest `name`, served at the host `NAME.test`.
    pub fn guest(name: &str) -> Self {
        Self::of(name, artifacts::guest(name))
    }

    /// The hand-written guest `tests/wat/NAME.wat`, served at the host `NAME.test` with `_` turned into `-`.
    pub fn wat(name: &str) -> Self {
        Self::of(&name.replace('_', "-"), artifacts::wat_guest(name))
    }

    /// Any file, served at the host `NAME.test`.
    pub fn file(name: &str, source: &Path) -> Self {
        Self::of(name, source.to_path_buf())
    }

    fn of(name: &str, source: PathBuf) -> Self {
        let (name, route) = (name.replace('_', "-"), format!("{}.test/*", name.replace('_', "-")));
        let (keys, limits, env) = (Vec::new(), Vec::new(), Vec::new());
        let (connect, listen, ca) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, source, route, keys, limits, env, connect, listen, ca }
    }

    /// Another name, which is also the host: `NAME.test`.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self.route = format!("{name}.test/*");
        self
    }

    /// No route: connections of a `[[listen]]` are all that comes to it, or it runs by itself.
    #[must_use]
    pub fn unrouted(mut self) -> Self {
        self.route.clear();
        self
    }

    /// Another route.
    #[must_use]
    pub fn route(mut self, route: &str) -> Self {
        route.clone_into(&mut self.route);
        self
    }

    /// A limit, such as `("cpu", "50ms")`; numbers are written as they are.
    #[must_use]
    pub fn limit(mut self, key: &str, value: &str) -> Self {
        let quoted = if value.parse::<u64>().is_ok() { value.to_owned() } else { format!("{value:?}") };
        self.limits.push(format!("{key} = {quoted}"));
        self
    }

    /// A variable of its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Display) -> Self {
        self.env.push(format!("{name} = {:?}", value.to_string()));
        self
    }

    /// A rule of what it may connect to, such as an address.
    #[must_use]
    pub fn connect(mut self, rule: impl Display) -> Self {
        self.connect.push(rule.to_string());
        self
    }

    /// A rule of where it may listen.
    #[must_use]
    pub fn listen(mut self, rule: impl Display) -> Self {
        self.listen.push(rule.to_string());
        self
    }

    /// A file of certificates that it trusts.
    #[must_use]
    pub fn ca(mut self, file: &Path) -> Self {
        self.ca.push(file.to_path_buf());
        self
    }

    /// Any other line of the app's table, in TOML.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.keys.push(line.to_owned());
        self
    }

    fn toml(&self) -> String {
        let Self { name, source, route, keys, limits, env, connect, listen, ca } = self;
        let mut text = format!("[[app]]\nname = {name:?}\nsource = {source:?}\n");
        if !route.is_empty() {
            let _ = writeln!(text, "routes = [{route:?}]");
        }
        for line in keys {
            let _ = writeln!(text, "{line}");
        }
        if !limits.is_empty() {
            let _ = writeln!(text, "limits = {{ {} }}", limits.join(", "));
        }
        if !env.is_empty() {
            let _ = writeln!(text, "env = {{ {} }}", env.join(", "));
        }
        if !(connect.is_empty() && listen.is_empty() && ca.is_empty()) {
            let _ = writeln!(text, "sockets = {{ connect = {connect:?}, listen = {listen:?}, ca = {ca:?} }}");
        }
        text
    }
}

/// What to start; ends in [`Builder::start`].
#[derive(Default)]
pub struct Builder {
    module: Option<PathBuf>,
    dev: bool,
    apps: Vec<App>,
    manifest: Option<String>,
    flags: Vec<String>,
    listen: Vec<String>,
    cpu: Option<usize>,
    env: Vec<(String, String)>,
    program: Option<PathBuf>,
    sockets: Vec<OwnedFd>,
}

impl Builder {
    /// Serves one guest from its file.
    #[must_use]
    pub fn guest(self, name: &str) -> Self {
        self.module(artifacts::guest(name))
    }

    /// Serves one hand-written guest from its file.
    #[must_use]
    pub fn wat(self, name: &str) -> Self {
        self.module(artifacts::wat_guest(name))
    }

    /// Serves any file.
    #[must_use]
    pub fn module(mut self, path: impl Into<PathBuf>) -> Self {
        self.module = Some(path.into());
        self
    }

    /// Builds and serves the crate in a folder, as its author does: `tidegate dev`. It listens before it has built.
    #[must_use]
    pub fn dev(mut self, folder: impl Into<PathBuf>) -> Self {
        self.dev = true;
        self.module(folder)
    }

    /// Adds an app to a manifest.
    #[must_use]
    pub fn app(mut self, app: App) -> Self {
        self.apps.push(app);
        self
    }

    /// Serves this manifest, written into a file of its own.
    #[must_use]
    pub fn manifest(mut self, text: impl Into<String>) -> Self {
        self.manifest = Some(text.into());
        self
    }

    /// Adds a flag.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Adds a flag and its value.
    #[must_use]
    pub fn option(self, flag: &str, value: &str) -> Self {
        self.flag(flag).flag(value)
    }

    /// Listens here instead of on a free IPv4 port of the loopback. May be given several times. `unix:NAME` lies in
    /// the server's own folder.
    #[must_use]
    pub fn listen(mut self, addr: &str) -> Self {
        self.listen.push(addr.to_owned());
        self
    }

    /// Runs on this core only.
    #[must_use]
    pub fn cpu(mut self, cpu: usize) -> Self {
        self.cpu = Some(cpu);
        self
    }

    /// Sets a variable of the server's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the server's binary by this name, which leads to it.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Passes a listening socket as a service manager does (sd_listen_fds(3)), two at most. Of two, the second takes the
    /// place of standard error, which goes to standard output then. Unless told to, it listens nowhere else.
    #[must_use]
    pub fn socket(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.sockets.push(socket.into());
        self
    }

    /// Starts the server and waits until it listens on every address. Panics with its log when it does not.
    pub fn start(self) -> Server {
        let listeners = self.listen.len().max(self.sockets.len()).max(1);
        let mut server = self.spawn();
        for _ in 0..listeners {
            server.wait_until_listening();
        }
        server
    }

    /// Starts a server that is expected to refuse: waits for its end, and returns its status and what it printed on
    /// stderr.
    pub fn start_refused(self) -> (ExitStatus, String) {
        let mut server = self.spawn();
        let status = server.wait_exit(START);
        // The collector may still be reading what the child left in the pipe.
        server.stderr.wait_for(PATIENCE, |_| false);
        (status, server.stderr.lines().join("\n"))
    }

    fn spawn(mut self) -> Server {
        let folder = tempfile::tempdir().expect("a folder for the server");
        let source = self.source(folder.path());
        let mut command = artifacts::tidegate_as(self.program.as_deref());
        if self.listen.is_empty() && self.sockets.is_empty() {
            self.listen.push("127.0.0.1:0".to_owned());
        }
        command.arg(if self.dev { "dev" } else { "serve" }).arg(source);
        for addr in &self.listen {
            command.arg("--listen").arg(addr);
        }
        command.args(&self.flags).envs(self.env).current_dir(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if !self.sockets.is_empty() {
            command = activated(&command, std::mem::take(&mut self.sockets));
        }
        let mut child = pinned(self.cpu, || command.spawn()).expect("starting the server");
        drop(command);
        let stdout = LineLog::collect(child.stdout.take().expect("piped"));
        let stderr = child.stderr.take().map_or_else(|| stdout.clone(), LineLog::collect);
        Server { child, stdout, stderr, addrs: Vec::new(), exit: None, folder }
    }

    fn source(&self, folder: &Path) -> PathBuf {
        if let Some(module) = &self.module {
            assert!(self.apps.is_empty() && self.manifest.is_none(), "either a file or a manifest");
            return module.clone();
        }
        let mut text = self.manifest.clone().unwrap_or_default();
        for app in &self.apps {
            let _ = write!(text, "\n{}", app.toml());
        }
        let path = folder.join("tidegate.toml");
        fs::write(&path, text).expect("writing the manifest");
        path
    }
}

/// The same command, with sockets as descriptors 3 and 4. A shell moves them there, and says for which process they are.
fn activated(command: &Command, sockets: Vec<OwnedFd>) -> Command {
    let count = sockets.len();
    let mut sockets = sockets.into_iter();
    let mut shell = Command::new("sh");
    let moves = if count > 1 { "exec 3<&0 4>&2 2>&1 0</dev/null" } else { "exec 3<&0 0</dev/null" };
    let run = format!("{moves}; LISTEN_PID=${{FOR_PID:-$$}} LISTEN_FDS={count} exec \"$@\"");
    shell.arg("-c").arg(run).arg("sh").arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.current_dir(command.get_current_dir().expect("a folder of its own"));
    shell.stdin(sockets.next().expect("a socket")).stdout(Stdio::piped());
    shell.stderr(sockets.next().map_or_else(Stdio::piped, Stdio::from));
    shell
}

/// Starts something while this thread is pinned: a child inherits that.
pub(crate) fn pinned<T>(cpu: Option<usize>, start: impl FnOnce() -> T) -> T {
    let Some(cpu) = cpu else { return start() };
    let before = rustix::thread::sched_getaffinity(None).expect("reading the affinity");
    let mut only = rustix::thread::CpuSet::new();
    only.set(cpu);
    rustix::thread::sched_setaffinity(None, &only).expect("pinning");
    let value = start();
    rustix::thread::sched_setaffinity(None, &before).expect("restoring the affinity");
    value
}

/// A running server; ended with SIGKILL when dropped.
pub struct Server {
    child: Child,
    stdout: LineLog,
    stderr: LineLog,
    addrs: Vec<Addr>,
    exit: Option<ExitStatus>,
    folder: TempDir,
}

impl Server {
    /// See [`Builder`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn wait_until_listening(&mut self) {
        let mut skip = self.addrs.len();
        let line = self.stdout.wait_for(START, |line| {
            let wanted = line.starts_with("listening on ");
            let skipped = wanted && skip > 0;
            skip -= usize::from(skipped);
            wanted && !skipped
        });
        let Some(line) = line else {
            panic!(
                "the server does not listen; it said:\n{}\n{}",
                self.stdout.tail(20),
                self.stderr.tail(40)
            );
        };
        let place = line.trim_start_matches("listening on ").trim();
        self.addrs.push(self.parse_addr(place).unwrap_or_else(|| panic!("no address in {line:?}")));
    }

    fn parse_addr(&self, place: &str) -> Option<Addr> {
        if let Some(path) = place.trim_start_matches("http+").strip_prefix("unix:") {
            return Some(Addr::Unix(self.folder.path().join(path.trim_start_matches("//"))));
        }
        let place = place.strip_prefix("http://")?.trim_end_matches('/');
        place.parse().ok().map(Addr::Tcp)
    }

    /// Where it listens; the first address if there are several.
    pub fn addr(&self) -> &Addr {
        &self.addrs[0]
    }

    /// Every address, in the order they were announced.
    pub fn addrs(&self) -> &[Addr] {
        &self.addrs
    }

    /// Where raw connections for `app` are accepted. Panics when it does not say.
    #[track_caller]
    pub fn raw_addr(&self, app: &str) -> SocketAddr {
        let end = format!(" for `{app}`");
        let place = |line: &str| {
            let place = line.strip_prefix("listening on tcp://")?.strip_suffix(&end)?;
            place.parse().ok()
        };
        let line = self.stdout.wait_for(PATIENCE, |line| place(line).is_some());
        let addr = line.as_deref().and_then(place);
        addr.unwrap_or_else(|| panic!("nothing is accepted for {app}; it said:\n{}", self.stdout.tail(20)))
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A new connection.
    #[track_caller]
    pub fn client(&self) -> Client {
        Client::connect(self.addr()).unwrap_or_else(|error| panic!("connecting to {}: {error}", self.addr()))
    }

    /// Waits until the only worker has looked at all that was sent before: a request that comes later takes nobody's place.
    #[track_caller]
    pub fn settle(&self) {
        assert_eq!(self.get("settle.test", "/").status(), 404);
    }

    /// One GET on a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Response {
        match self.client().get(host, path) {
            Ok(response) => response,
            Err(error) => panic!("GET {host}{path}: {error}\n{}", self.stderr.tail(20)),
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lines of its standard output so far.
    pub fn stdout(&self) -> &LineLog {
        &self.stdout
    }

    /// Lines of its standard error so far: the log.
    pub fn stderr(&self) -> &LineLog {
        &self.stderr
    }

    /// Waits for a line of the log.
    pub fn wait_for_log(&self, wanted: impl FnMut(&str) -> bool) -> Option<String> {
        self.stderr.wait_for(PATIENCE, wanted)
    }

    /// Resident memory now, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        procfs::rss_bytes(self.pid())
    }

    /// The most resident memory so far, in bytes.
    pub fn rss_peak_bytes(&self) -> u64 {
        procfs::rss_peak_bytes(self.pid())
    }

    /// Mappings of its address space.
    pub fn map_count(&self) -> usize {
        procfs::map_count(self.pid())
    }

    /// Open file descriptors.
    pub fn fd_count(&self) -> usize {
        procfs::fd_count(self.pid())
    }

    /// Open file descriptors once their number has come to rest: connections that a client has left are gone by then.
    pub fn fds_at_rest(&self) -> usize {
        let mut last = self.fd_count();
        let mut unchanged = Instant::now();
        let rested = poll_for(PATIENCE, || {
            let now = self.fd_count();
            if now != last {
                (last, unchanged) = (now, Instant::now());
            }
            (unchanged.elapsed() > Duration::from_millis(300)).then_some(now)
        });
        rested.unwrap_or(last)
    }

    /// CPU time so far.
    pub fn cpu_time(&self) -> Duration {
        procfs::cpu_time(self.pid())
    }

    /// Allows the running server this many file descriptors.
    pub fn limit_fds(&self, most: u64) {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(self.raw_pid()), Resource::Nofile, limit).expect("setting the limit of descriptors");
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        assert!(self.exit.is_none(), "the server has ended already");
        kill_process(self.raw_pid(), signal).expect("sending a signal to the server");
    }

    /// Waits for the end. Panics when it takes longer than `within`.
    #[track_caller]
    pub fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        if let Some(status) = self.exit {
            return status;
        }
        let ended = poll_for(within, || self.child.try_wait().expect("waiting for the server"));
        let Some(status) = ended else {
            panic!("the server still runs after {within:?}:\n{}", self.stderr.tail(20));
        };
        self.exit = Some(status);
        status
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.exit.is_none() && matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until a connection is refused, which is when the listeners are closed.
    pub fn wait_until_refused(&self) {
        let refused = || match Client::connect(self.addr()) {
            Err(error) => matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
                .then_some(()),
            Ok(_) => None,
        };
        assert!(poll_for(PATIENCE, refused).is_some(), "connections are still accepted");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the server's last words ---\n{}\n---", self.stderr.tail(40));
        }
        if self.exit.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
