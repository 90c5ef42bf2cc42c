//! What a server runs with: typed, and checked before anything starts.
//!
//! Values only. Where they come from (manifest, flags, defaults) is the business of `manifest` and of the command
//! line; what they do is that of the server. Units stand in the names or in the type.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tidegate_proto::limits::Limits;
use tidegate_proto::router::{RouteError, RouterBuilder};

use super::edge::EdgeSettings;
use super::kv::KvSettings;
use super::limits::AppLimits;
use super::listen::{ListenAddr, TcpListen};
use super::mount::Mount;
use super::problem::ValueError;
use super::secret::{SecretSource, TokenSettings};
use super::sockets::SocketSettings;
use super::state::StateFolder;
use super::tenants::TenantSettings;

/// Everything a server needs to know before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What all apps share.
    pub server: ServerSettings,
    /// The apps, in the order they were given. Never empty once checked.
    pub apps: Vec<AppSettings>,
    /// Where raw TCP connections are accepted, and for which of the apps. No address is there twice, but for port 0.
    pub tcp: Vec<TcpListen>,
    /// Who has apps here, besides the operator. No name is there twice.
    pub tenants: Vec<TenantSettings>,
}

/// Settings of the whole process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Where to listen. Default 127.0.0.1:8080.
    pub listen: Vec<ListenAddr>,
    /// Number of loops, each with a thread of its own. Default one per core.
    pub workers: usize,
    /// Where a line a request goes. Default nowhere.
    pub access_log: Option<LogTarget>,
    /// Where each app has a log file of its own. Default nowhere; where apps are hosted, `logs` in the state folder.
    pub app_logs: Option<PathBuf>,
    /// An app's log file that would grow past this is put aside. Default 10 MiB.
    pub app_log_bytes_max: u64,
    /// Older log files of an app that are kept. Default 5.
    pub app_log_files: u32,
    /// How the log on stderr, and the access log, are written.
    pub log_format: LogFormat,
    /// Bounds of every connection.
    pub http: Limits,
    /// How long running requests may take to finish once the server stops. Default 30 s.
    pub drain: Duration,
    /// Whether a peer's `X-Request-Id` is taken for a request's id. Default no.
    pub trust_request_id: bool,
    /// Who may speak for clients, and how.
    pub edge: EdgeSettings,
    /// Connections that wait in the kernel, for each listener of each worker, until they are accepted. Default 4,096.
    pub backlog: u32,
    /// Most connections at once, over all workers. Default 16,384.
    pub connections_max: usize,
    /// What connections and guests may take together at their bounds. Default no budget.
    pub memory_budget_bytes: Option<u64>,
    /// Where compiled guests are kept, so that the next start need not compile them.
    pub state: StateFolder,
    /// Most bytes of compiled guests that are kept. 0: none are, and the state folder is left alone. Default 2 GiB.
    pub cache_bytes_max: u64,
    /// Who is asked for the addresses of names. Empty, the default: whom the system asks.
    pub dns: Vec<SocketAddr>,
    /// Where the admin side listens. With one, apps are hosted: deployed, kept and undone while they are served.
    pub admin: Option<ListenAddr>,
    /// Who may speak to it over TCP.
    pub tokens: Vec<TokenSettings>,
    /// Bytes of the largest module that is taken. Default 64 MiB.
    pub module_bytes_max: u64,
    /// Versions of an app that are kept. Default 10.
    pub versions_kept: usize,
    /// Most programs whose code is in memory at once. Default by what the system lets a process have.
    pub loaded_max: Option<usize>,
    /// Started by `tidegate dev`.
    pub dev: bool,
}

impl Default for ServerSettings {
    fn default() -> Self {
        Self {
            listen: vec![ListenAddr::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080)))],
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            access_log: None,
            app_logs: None,
            app_log_bytes_max: 10 << 20,
            app_log_files: 5,
            log_format: LogFormat::default(),
            http: Limits::default(),
            drain: Duration::from_secs(30),
            trust_request_id: false,
            edge: EdgeSettings::default(),
            backlog: 4096,
            connections_max: 16_384,
            memory_budget_bytes: None,
            state: StateFolder::User,
            cache_bytes_max: 2 << 30,
            dns: Vec::new(),
            admin: None,
            tokens: Vec::new(),
            module_bytes_max: 64 << 20,
            versions_kept: 10,
            loaded_max: None,
            dev: false,
        }
    }
}

impl ServerSettings {
    /// Where a server that hosts apps keeps them. None: the environment names no folder of the user's.
    pub(crate) fn hosting_folder(&self) -> Option<PathBuf> {
        self.state.hosting_folder()
    }
}

/// Where an access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Written `-`.
    Stdout,
    /// Appended to this file.
    File(PathBuf),
}

impl LogTarget {
    /// Reads `-` or a path.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        match text {
            "" => Err(ValueError::new("the path of the log is missing").help("`-` is standard output")),
            "-" => Ok(Self::Stdout),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }

    /// The same, with a file's path taken from `folder` on.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(folder.join(path)),
            Self::Stdout => Self::Stdout,
        }
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// An object a line.
    Json,
}

/// One app: a module, where it is reached, and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// Unique; what the logs call it.
    pub name: String,
    /// The handler: a module or a component.
    pub source: PathBuf,
    /// Patterns as the router reads them: `[host]/path`. Empty only where it has something to do without requests: raw
    /// connections, or sockets of its own.
    pub routes: Vec<String>,
    /// Nothing was said of routes: whatever is no handler goes without.
    pub routes_by_default: bool,
    /// A sandbox for each request, or one for many.
    pub instances: Instances,
    /// Its share of CPU time when several apps want it at once. 1 to 1,000.
    pub weight: u32,
    /// Whose it is. None: the operator's.
    pub tenant: Option<String>,
    /// The environment the guest sees.
    pub env: Vec<(String, String)>,
    /// Variables of that environment whose values are read when the app is loaded.
    pub secrets: Vec<(String, SecretSource)>,
    /// A path that a new version has to answer before it serves.
    pub health: Option<String>,
    /// Folders of the host that it sees, each under a path of its own. Default none.
    pub mounts: Vec<Mount>,
    /// What it may keep in the key-value store. None, the default: nothing.
    pub kv: Option<KvSettings>,
    /// What it may reach and offer beyond HTTP. Default nothing.
    pub sockets: SocketSettings,
    /// What it may use.
    pub limits: AppLimits,
}

impl AppSettings {
    /// An app with everything at its default, reached at every path of every host.
    pub fn new(name: String, source: PathBuf) -> Self {
        Self {
            name,
            source,
            routes: vec!["/*".to_owned()],
            routes_by_default: true,
            instances: Instances::Fresh,
            weight: 1,
            tenant: None,
            env: Vec::new(),
            secrets: Vec::new(),
            health: None,
            mounts: Vec::new(),
            kv: None,
            sockets: SocketSettings::default(),
            limits: AppLimits::default(),
        }
    }
}

/// How long an instance lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// For one request.
    Fresh,
    /// For up to so many requests, one after the other. At least 1.
    Reuse(u32),
}

/// A name that can stand in a log line and in a header: letters, digits, `-`, `_`, `.`, 1 to 64 of them.
pub(crate) fn check_app_name(name: &str) -> Result<(), ValueError> {
    let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphanumeric());
    if fits && starts_well && name.len() <= 64 {
        return Ok(());
    }
    Err(ValueError::new(format!("`{}` cannot be the name of an app", name.escape_default()))
        .help("up to 64 letters, digits, `-`, `_` and `.`, a letter or digit first"))
}

/// A variable that an environment can hold.
pub(crate) fn check_env(name: &str, value: &str) -> Result<(), ValueError> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err(ValueError::new(format!("`{}` cannot be the name of a variable", name.escape_default())));
    }
    if value.contains('\0') {
        return Err(ValueError::new(format!("the value of `{name}` contains a NUL byte")));
    }
    Ok(())
}

/// Checks one pattern after another against all before it; for each that is refused, its number and why.
pub(crate) fn check_routes<'a>(routes: impl Iterator<Item = &'a str>) -> Vec<(usize, RouteError)> {
    let mut builder = RouterBuilder::new();
    routes
        .enumerate()
        .filter_map(|(number, route)| builder.insert(route, ()).err().map(|error| (number, error)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_are_taken_from_a_folder() {
        let folder = Path::new("/srv");
        assert_eq!(
            LogTarget::parse("log").unwrap().relative_to(folder),
            LogTarget::File(PathBuf::from("/srv/log"))
        );
        assert_eq!(LogTarget::parse("-").unwrap().relative_to(folder), LogTarget::Stdout);
        assert!(LogTarget::parse("").is_err());
    }

    #[test]
    fn names_and_variables() {
        for good in ["a", "shop-2", "A_b.c", "0"] {
            assert!(check_app_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a\n", "\u{e4}", &"a".repeat(65)] {
            assert!(check_app_name(bad).is_err(), "{bad:?}");
        }
        assert!(check_env("A", "b=c").is_ok());
        for (name, value) in [("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0")] {
            assert!(check_env(name, value).is_err(), "{name:?}");
        }
    }

    #[test]
    fn routes_are_checked_together() {
        let wrong = check_routes(["/a", "/b/*", "/a", "x", "/b/{y}"].into_iter());
        assert_eq!(wrong.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(AppLimits::default().watermarks(), Ok(Default::default()));
        assert!(ServerSettings::default().workers > 0);
    }
}
