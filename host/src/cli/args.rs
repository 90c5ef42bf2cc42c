//! The flags, and how they change settings.
//!
//! Flags of the server override a manifest. Flags of an app do too where there is one app; where there are several
//! they would be ambiguous, and are refused.

mod client;
mod map;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::Failure;
use crate::config::edge::{EdgeSettings, Proxies, parse_forwarded};
use crate::config::{
    APP_FLAG_KEYS, AppSettings, BuildTarget, ConfigError, Given, HTTP_KEYS, Instances, KvSettings,
    ListenAddr, LogFormat, LogTarget, Mount, Rule, ServerSettings, Settings, StateFolder, TcpListen,
    ValueError, check_app_name, check_env, check_routes, set_from_flag, sockets,
};
pub(super) use client::{
    AdminFlags, AppsArgs, AppsVerb, AuditArgs, CanaryArgs, DeployArgs, LimitsArgs, LogsArgs, OfAppArgs,
    PsArgs, PsVerb, ReloadArgs, RollbackArgs,
};

/// Serves HTTP handlers compiled to WebAssembly, each request in a sandbox of its own.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, arg_required_else_help = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Serve a module or a component, or the apps of a manifest.
    Serve(ServeArgs),
    /// Start a project in a new folder, from a template.
    New(NewArgs),
    /// Build a handler, serve it on 127.0.0.1:8080, and again after each edit.
    Dev(DevArgs),
    /// Say what a module or a component is, what it needs, and whether it would be served.
    Check(CheckArgs),
    /// Run a handler's tests against the real module or component in the real host.
    Test(TestArgs),
    /// Build a handler into a module or a component.
    Build(BuildArgs),
    /// Deploy a module, a manifest's apps, or a project into a server that runs.
    Deploy(DeployArgs),
    /// Go back to a version of an app that is kept.
    Rollback(RollbackArgs),
    /// Serve a version to some requests only, then to all or to none.
    Canary(CanaryArgs),
    /// List the apps of a server, show one, export them as a manifest, or remove one.
    Apps(AppsArgs),
    /// List the versions of an app that are kept.
    Versions(OfAppArgs),
    /// Show what an app logs.
    Logs(LogsArgs),
    /// List the requests that are being served, or cancel one.
    Ps(PsArgs),
    /// Show or change what an app may use.
    Limits(LimitsArgs),
    /// Have a server read its manifest again.
    Reload(ReloadArgs),
    /// Show who did what.
    Audit(AuditArgs),
    /// Compile a guest from standard input; the server starts this itself.
    #[command(hide = true)]
    Compile(CompileArgs),
}

#[derive(Debug, Args)]
pub(super) struct CompileArgs {
    /// The process id of the server that wants it.
    #[arg(value_name = "PARENT")]
    pub(super) parent: u32,
    /// Keep debug information for backtraces.
    #[arg(long)]
    pub(super) dev: bool,
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServeArgs {
    /// A module, a component, a manifest, or a folder with a tidegate.toml. Without it: what was deployed to this server.
    #[arg(value_name = "FILE.wasm|MANIFEST.toml|FOLDER")]
    pub(super) target: Option<PathBuf>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, Args)]
pub(super) struct NewArgs {
    /// The project's folder, new or empty; its last part is the name.
    #[arg(value_name = "NAME|PATH")]
    pub(super) path: PathBuf,
    /// What to begin with: hello, router, stream, sse or c
    #[arg(long, value_name = "NAME", default_value = "hello")]
    pub(super) template: String,
    /// Use the SDK in this folder instead of a copy inside the project
    #[arg(long, value_name = "PATH")]
    pub(super) sdk: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct DevArgs {
    /// The project's folder.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(super) folder: PathBuf,
    /// Build with the release profile: slower to build, as fast as in production
    #[arg(long)]
    pub(super) release: bool,
    /// What to make of the crate: a module for tidegate, the default, or a component for any host of wasi:http
    #[arg(long, value_name = "KIND")]
    pub(super) target: Option<BuildTarget>,
    /// Look for changes twice a second, where the file system does not tell of them
    #[arg(long)]
    pub(super) poll: bool,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// A module, a component, a manifest, or a project's folder.
    #[arg(value_name = "FILE.wasm|MANIFEST.toml|FOLDER", default_value = ".")]
    pub(super) subject: PathBuf,
    /// What to make of a project's crate: a module for tidegate, the default, or a component for any host of wasi:http
    #[arg(long, value_name = "KIND")]
    pub(super) target: Option<BuildTarget>,
    /// Say it in JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The project's folder.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(super) folder: PathBuf,
    /// What to make of the crate: a module for tidegate, the default, or a component for any host of wasi:http
    #[arg(long, value_name = "KIND")]
    pub(super) target: Option<BuildTarget>,
    #[command(flatten)]
    pub(super) flags: Flags,
    /// Arguments for `cargo test`.
    #[arg(value_name = "CARGO TEST ARGS", last = true)]
    pub(super) rest: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(super) struct BuildArgs {
    /// The project's folder.
    #[arg(value_name = "FOLDER", default_value = ".")]
    pub(super) folder: PathBuf,
    /// What to make of the crate: a module for tidegate, the default, or a component for any host of wasi:http
    #[arg(long, value_name = "KIND")]
    pub(super) target: Option<BuildTarget>,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        value_name = "FILE.wasm",
        help = "Where to put what was built [default: as the project's tidegate.toml says, else NAME.wasm beside it]"
    )]
    pub(super) out: Option<PathBuf>,
}

/// The flags of `serve`, `dev` and `test`. Values are text here and checked by [`Flags::apply`], so that a flag and a
/// manifest say the same about the same mistake.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Flags {
    #[command(flatten)]
    server: ServerFlags,
    #[command(flatten)]
    app: AppFlags,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Server")]
struct ServerFlags {
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        value_name = "ADDR",
        help = "Where to listen: 127.0.0.1:8080, [::1]:8080, :8080 (everywhere) or unix:PATH; may be repeated"
    )]
    listen: Vec<String>,
    /// Number of event loops [default: one per core]
    #[arg(long, value_name = "N")]
    workers: Option<String>,
    /// Write a line a request to a file, or with - to standard output
    #[arg(long, value_name = "PATH|-")]
    access_log: Option<String>,
    /// How log lines are written
    #[arg(long, value_enum, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// How long running requests may take once the server stops [default: 30s]
    #[arg(long, value_name = "TIME")]
    drain: Option<String>,
    /// A bound of connections, such as head_timeout=10s or idle_timeout=65s; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    http: Vec<String>,
    /// Take a request's id from the peer's X-Request-Id
    #[arg(long)]
    trust_request_id: bool,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long = "proxy",
        value_name = "PEER",
        help = "A proxy in front, such as 10.0.0.0/8, ::1 or unix, that is believed when it says for whom it asks; may be repeated"
    )]
    proxies: Vec<String>,
    /// Where proxies say it: x-forwarded-for or forwarded [default: x-forwarded-for]
    #[arg(long, value_name = "FIELD")]
    forwarded: Option<String>,
    /// Take connections from proxies alone, each with a preamble of the PROXY protocol
    #[arg(long)]
    proxy_protocol: bool,
    /// Connections that wait in the kernel until they are accepted [default: 4096]
    #[arg(long, value_name = "N")]
    backlog: Option<String>,
    /// Most connections at once
    #[arg(long, value_name = "N")]
    connections: Option<String>,
    /// What connections and guests may take together at their bounds, such as 2GiB
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<String>,
    /// Where compiled guests are kept, and hosted apps [default: tidegate in the user's cache or state folder]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
    /// Host apps, which are deployed and undone while they are served, and listen here for who does so; TCP needs `tokens`
    /// in a manifest
    #[arg(long, value_name = "unix:PATH|HOST:PORT")]
    admin: Option<String>,
    /// Most bytes of compiled guests that are kept; 0 keeps none [default: 2GiB]
    #[arg(long, value_name = "SIZE")]
    cache: Option<String>,
    /// A name server to ask for the addresses of names; may be repeated [default: as the system is set up]
    #[arg(long, value_name = "ADDR:PORT")]
    dns: Vec<String>,
}

#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "App")]
struct AppFlags {
    /// The app's name [default: that of the file]
    #[arg(long, visible_alias = "app", value_name = "NAME")]
    name: Option<String>,
    #[arg(
        long,
        value_name = "ROUTE",
        help = "Where the app is reached, as [host]/path or [host]/path/*; may be repeated [default: /*]"
    )]
    route: Vec<String>,
    /// Serve up to N requests with one instance [default: a fresh one each]
    #[arg(long, value_name = "N")]
    reuse: Option<String>,
    /// Share of CPU time beside other apps [default: 1]
    #[arg(long, value_name = "N")]
    weight: Option<String>,
    /// A variable of the guest's environment; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    env: Vec<String>,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        value_name = "HOST:GUEST[:ro|:rw]",
        help = "A folder that a component sees at the path GUEST, to be read only (:ro, the default) or written to (:rw); may be repeated"
    )]
    mount: Vec<String>,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        value_name = "RULE",
        help = "What the app may connect to, as [udp:]HOST:PORT, such as db.example:5432, *.example.com:443 or 10.0.0.0/8:*; may be repeated"
    )]
    allow_connect: Vec<String>,
    #[arg(
        long,
        value_name = "RULE",
        help = "Where the app may listen by itself, as [udp:]ADDR:PORT; may be repeated"
    )]
    allow_listen: Vec<String>,
    /// Certificates (PEM) that the app trusts besides the web's roots; may be repeated
    #[arg(long, value_name = "FILE")]
    ca: Vec<String>,
    /// An address whose raw TCP connections are handed to the app; may be repeated
    #[arg(long, value_name = "ADDR")]
    listen_tcp: Vec<String>,
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(
        long,
        value_name = "KEY=VALUE",
        require_equals = true,
        num_args = 0..=1,
        default_missing_value = "true",
        help = "Let the app keep data in the key-value store, as --kv or with quotas, as in --kv=keys=10000,bytes=16MiB"
    )]
    kv: Option<String>,
    /// A variable of the guest's environment that is read when the app is loaded, and never shown; may be repeated
    #[arg(long, value_name = "NAME=file:PATH|env:NAME")]
    secret: Vec<String>,
    /// The tenant whose app it is
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A path that a new version has to answer with 2xx or 3xx before it serves
    #[arg(long, value_name = "PATH")]
    health: Option<String>,
    /// What the app may use, such as memory=64MiB, cpu=10s or concurrency=256; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    limit: Vec<String>,
}

impl Flags {
    /// Finds what is wrong with the flags by themselves.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let app = AppSettings::new("app".into(), PathBuf::new());
        self.apply(&mut Settings {
            server: ServerSettings::default(),
            apps: vec![app],
            tcp: Vec::new(),
            tenants: Vec::new(),
        })
    }

    /// Whether they name an address.
    pub(super) fn listens(&self) -> bool {
        !self.server.listen.is_empty()
    }

    /// Changes settings as the flags say.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), Failure> {
        let Settings { server, apps, tcp, .. } = settings;
        self.server.apply(server)?;
        if let (Some(flag), true) = (self.app.first(), apps.is_empty()) {
            let help = "name a module or a manifest, or deploy it: `tidegate deploy` takes the same flags"
                .to_owned();
            return Err(Failure::usage(format!("there is no app that `{flag}` could be for"), Some(help)));
        }
        if let Some(flag) = self.app.first() {
            let [app] = apps.as_mut_slice() else {
                let message = format!("`{flag}` could mean any of the {} apps of the manifest", apps.len());
                let help = "set it in the manifest, in the app's section".to_owned();
                return Err(Failure::usage(message, Some(help)));
            };
            self.app.apply(app)?;
            self.app.apply_tcp(&app.name, tcp, &server.listen)?;
        }
        // The server may have been told to listen where the manifest has an app do so.
        let mut all = Vec::new();
        for listen in tcp.iter().cloned() {
            at("--listen", listen.add_to(&mut all, &server.listen))?;
        }
        Ok(())
    }
}

impl ServerFlags {
    fn addrs(&self) -> Result<Vec<ListenAddr>, ValueError> {
        let mut addrs = Vec::new();
        for text in &self.listen {
            ListenAddr::parse(text)?.add_to(&mut addrs)?;
        }
        Ok(addrs)
    }

    fn apply(&self, server: &mut ServerSettings) -> Result<(), Failure> {
        if !self.listen.is_empty() {
            server.listen = at("--listen", self.addrs())?;
        }
        if let Some(text) = &self.workers {
            server.workers = at("--workers", Given::Word(text).count(1..=1024))? as usize;
        }
        if let Some(text) = &self.access_log {
            server.access_log = Some(at("--access-log", LogTarget::parse(text))?);
        }
        if let Some(format) = self.log_format {
            server.log_format = format;
        }
        if let Some(text) = &self.drain {
            server.drain = at("--drain", Given::Word(text).duration(0..=86_400_000))?;
        }
        for text in &self.http {
            at("--http", set_from_flag(&HTTP_KEYS, &mut server.http, text))?;
        }
        if self.trust_request_id {
            server.trust_request_id = true;
        }
        self.apply_edge(&mut server.edge)?;
        if let Some(text) = &self.backlog {
            server.backlog = at("--backlog", Given::Word(text).count(1..=65_535))?;
        }
        if let Some(text) = &self.connections {
            server.connections_max = at("--connections", Given::Word(text).count(1..=10_000_000))? as usize;
        }
        if let Some(text) = &self.memory_budget {
            server.memory_budget_bytes =
                Some(at("--memory-budget", Given::Word(text).bytes((1 << 20)..=u64::MAX))?);
        }
        if let Some(text) = &self.state {
            server.state = at("--state", StateFolder::parse(text))?;
        }
        if let Some(text) = &self.admin {
            server.admin = Some(at("--admin", ListenAddr::parse(text))?);
        }
        if let Some(text) = &self.cache {
            server.cache_bytes_max = at("--cache", Given::Word(text).bytes(0..=u64::MAX))?;
        }
        let mut dns = Vec::new();
        for text in &self.dns {
            at("--dns", sockets::parse_dns(text).and_then(|addr| sockets::add_dns(addr, &mut dns)))?;
        }
        if !dns.is_empty() {
            server.dns = dns;
        }
        Ok(())
    }

    /// Whom it believes. Proxies that are named here take the place of those of a manifest.
    fn apply_edge(&self, edge: &mut EdgeSettings) -> Result<(), Failure> {
        let mut proxies = Proxies::default();
        for text in &self.proxies {
            at("--proxy", proxies.add(text))?;
        }
        if !proxies.is_empty() {
            edge.proxies = proxies;
        }
        if let Some(text) = &self.forwarded {
            edge.forwarded = at("--forwarded", parse_forwarded(text))?;
        }
        if self.proxy_protocol {
            edge.proxy_protocol = true;
            at("--proxy-protocol", edge.check())?;
        }
        Ok(())
    }
}

impl AppFlags {
    /// A flag that is set, when one is.
    fn first(&self) -> Option<&'static str> {
        let set = [
            ("--name", self.name.is_some()),
            ("--route", !self.route.is_empty()),
            ("--reuse", self.reuse.is_some()),
            ("--weight", self.weight.is_some()),
            ("--env", !self.env.is_empty()),
            ("--mount", !self.mount.is_empty()),
            ("--allow-connect", !self.allow_connect.is_empty()),
            ("--allow-listen", !self.allow_listen.is_empty()),
            ("--ca", !self.ca.is_empty()),
            ("--listen-tcp", !self.listen_tcp.is_empty()),
            ("--kv", self.kv.is_some()),
            ("--secret", !self.secret.is_empty()),
            ("--tenant", self.tenant.is_some()),
            ("--health", self.health.is_some()),
            ("--limit", !self.limit.is_empty()),
        ];
        set.iter().find(|(_, set)| *set).map(|(flag, _)| *flag)
    }

    fn apply(&self, app: &mut AppSettings) -> Result<(), Failure> {
        if let Some(name) = &self.name {
            at("--name", check_app_name(name))?;
            app.name.clone_from(name);
        }
        if !self.route.is_empty() {
            let wrong = check_routes(self.route.iter().map(String::as_str));
            if let Some((_, error)) = wrong.into_iter().next() {
                at("--route", Err(ValueError { message: error.to_string(), help: None }))?;
            }
            app.routes.clone_from(&self.route);
            app.routes_by_default = false;
        }
        if let Some(text) = &self.reuse {
            app.instances = Instances::Reuse(at("--reuse", Given::Word(text).count(1..=u32::MAX))?);
        }
        if let Some(text) = &self.weight {
            app.weight = at("--weight", Given::Word(text).count(1..=1000))?;
        }
        for text in &self.env {
            let (name, value) = at("--env", variable(text))?;
            app.env.retain(|(known, _)| *known != name);
            app.env.push((name, value));
        }
        let mut mounts: Vec<Mount> = Vec::new();
        for text in &self.mount {
            let mount = Mount::parse(text).and_then(|mount| mount.check_host().map(|()| mount));
            at("--mount", mount.and_then(|mount| mount.add_to(&mut mounts)))?;
        }
        app.mounts.retain(|known| mounts.iter().all(|mount| mount.guest != known.guest));
        app.mounts.append(&mut mounts);
        let sockets = &mut app.sockets;
        at("--allow-connect", allow(&self.allow_connect, Rule::parse, &mut sockets.connect))?;
        at("--allow-listen", allow(&self.allow_listen, Rule::parse_listen, &mut sockets.listen))?;
        for path in self.ca.iter().map(PathBuf::from) {
            at("--ca", sockets::certificates(&path).map(drop))?;
            if !sockets.ca.contains(&path) {
                sockets.ca.push(path);
            }
        }
        if let Some(text) = &self.kv {
            app.kv = Some(at("--kv", KvSettings::parse_flag(text))?);
        }
        self.apply_hosting(app)?;
        for text in &self.limit {
            at("--limit", set_from_flag(&APP_FLAG_KEYS, &mut app.limits, text))?;
        }
        let marks = app.limits.watermarks();
        at("--limit", marks.map_err(|error| ValueError { message: error.to_string(), help: None }))?;
        Ok(())
    }
}

impl AppFlags {
    /// Where raw connections are accepted: all of them are the one app's. `server` is where HTTP is served.
    fn apply_tcp(&self, name: &str, tcp: &mut Vec<TcpListen>, server: &[ListenAddr]) -> Result<(), Failure> {
        if !self.listen_tcp.is_empty() {
            tcp.clear();
        }
        for text in &self.listen_tcp {
            let listen = TcpListen::parse_addr(text);
            let listen = listen.map(|addr| TcpListen { addr, app: name.to_owned(), proxy_protocol: None });
            at("--listen-tcp", listen.and_then(|listen| listen.add_to(tcp, server)))?;
        }
        // The flags may have given it another name.
        for listen in tcp {
            name.clone_into(&mut listen.app);
        }
        Ok(())
    }
}

/// Adds rules to those that are there.
fn allow(
    texts: &[String],
    parse: fn(&str) -> Result<Rule, ValueError>,
    rules: &mut Vec<Rule>,
) -> Result<(), ValueError> {
    let mut more = Vec::new();
    for text in texts {
        parse(text)?.add_to(&mut more)?;
    }
    more.retain(|rule| !rules.contains(rule));
    rules.append(&mut more);
    Ok(())
}

/// `NAME=VALUE`. The value may be empty and may hold more equals signs.
fn variable(text: &str) -> Result<(String, String), ValueError> {
    let Some((name, value)) = text.split_once('=') else {
        let message = format!("`{text}` is not `NAME=VALUE`");
        return Err(ValueError { message, help: Some(format!("`--env {text}=` sets it to nothing")) });
    };
    check_env(name, value)?;
    Ok((name.to_owned(), value.to_owned()))
}

/// The place of a value that a flag holds.
fn at<V>(flag: &str, value: Result<V, ValueError>) -> Result<V, Failure> {
    value.map_err(|error| Failure::Usage(ConfigError::one(error.at(flag))))
}

#[cfg(test)]
mod tests;
