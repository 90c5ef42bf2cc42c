//! The flags, and how they change settings.
//!
//! Flags of the server override a manifest. Flags of an app do too where there is one app; where there are several
//! they would be ambiguous, and are refused.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::Failure;
use crate::config::{
    APP_FLAG_KEYS, AppSettings, BuildTarget, ConfigError, Given, HTTP_KEYS, Instances, ListenAddr, LogFormat,
    LogTarget, Mount, Rule, ServerSettings, Settings, StateFolder, TcpListen, ValueError, check_app_name,
    check_env, check_routes, set_from_flag, sockets,
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

#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// A module, a component, a manifest, or a folder with a tidegate.toml.
    #[arg(value_name = "FILE.wasm|MANIFEST.toml|FOLDER")]
    pub(super) target: PathBuf,
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
    /// Connections that wait in the kernel until they are accepted [default: 4096]
    #[arg(long, value_name = "N")]
    backlog: Option<String>,
    /// Most connections at once
    #[arg(long, value_name = "N")]
    connections: Option<String>,
    /// What connections and guests may take together at their bounds, such as 2GiB
    #[arg(long, value_name = "SIZE")]
    memory_budget: Option<String>,
    /// Where compiled guests are kept [default: tidegate in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    state: Option<String>,
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
    #[arg(long, value_name = "NAME")]
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
    /// What the app may use, such as memory=64MiB, cpu=10s or concurrency=256; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    limit: Vec<String>,
}

impl Flags {
    /// Finds what is wrong with the flags by themselves.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let app = AppSettings::new("app".into(), PathBuf::new());
        self.apply(&mut Settings { server: ServerSettings::default(), apps: vec![app], tcp: Vec::new() })
    }

    /// Whether they name an address.
    pub(super) fn listens(&self) -> bool {
        !self.server.listen.is_empty()
    }

    /// Changes settings as the flags say.
    pub(super) fn apply(&self, settings: &mut Settings) -> Result<(), Failure> {
        let Settings { server, apps, tcp } = settings;
        self.server.apply(server)?;
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
            let listen = TcpListen::parse_addr(text).map(|addr| TcpListen { addr, app: name.to_owned() });
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
mod tests {
    use std::time::Duration;

    use clap::CommandFactory;

    use super::*;

    fn flags(line: &str) -> Flags {
        let words = ["tidegate", "serve", "x.wasm"]
            .into_iter()
            .chain(line.split(' ').filter(|word| !word.is_empty()));
        match Cli::try_parse_from(words).unwrap().verb {
            Verb::Serve(args) => args.flags,
            other => panic!("{other:?}"),
        }
    }

    fn one_app() -> Settings {
        let app = AppSettings::new("x".into(), "x.wasm".into());
        Settings { server: ServerSettings::default(), apps: vec![app], tcp: Vec::new() }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_flag_changes_nothing() {
        let mut settings = one_app();
        flags("").apply(&mut settings).unwrap();
        assert_eq!(settings, one_app());
    }

    #[test]
    fn every_setting_has_a_flag() {
        let mut settings = one_app();
        let line = "--listen 127.0.0.1:0 --listen 127.0.0.1:0 --listen unix:a.sock --workers 3 --access-log - --log-format json \
                    --drain 5s --http head_timeout=200ms --http headers=9 --http min_rate=0 --trust-request-id --backlog 64 --connections 10 \
                    --memory-budget 1GiB --state kept --cache 1MiB --name shop --route a.test/* --route /b --reuse 7 --weight 2 \
                    --env A=1 --env B= --env A=2=3 --mount /:/all --mount .:/here:rw --limit cpu=1s --limit high-watermark=8KiB --limit low-watermark=1KiB";
        flags(line).apply(&mut settings).unwrap();
        let server = &settings.server;
        let listen: Vec<String> = server.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:0", "127.0.0.1:0", "unix:a.sock"]);
        assert_eq!((server.workers, server.log_format), (3, LogFormat::Json));
        assert_eq!(server.access_log, Some(LogTarget::Stdout));
        assert_eq!((server.drain, server.http.head_ms_max), (Duration::from_secs(5), 200));
        assert_eq!(server.backlog, 64);
        assert_eq!((server.http.headers_max, server.trust_request_id, server.connections_max), (9, true, 10));
        assert_eq!((server.memory_budget_bytes, server.http.rate_bytes_per_s_min), (Some(1 << 30), 0));
        assert_eq!((&server.state, server.cache_bytes_max), (&StateFolder::At("kept".into()), 1 << 20));
        let app = &settings.apps[0];
        assert_eq!((app.name.as_str(), app.instances, app.weight), ("shop", Instances::Reuse(7), 2));
        assert_eq!(app.routes, ["a.test/*", "/b"]);
        assert_eq!(app.env, [("B".into(), String::new()), ("A".into(), "2=3".into())]);
        let mounts: Vec<_> = app.mounts.iter().map(|mount| (mount.guest.as_str(), mount.write)).collect();
        assert_eq!(mounts, [("/all", false), ("/here", true)]);
        assert_eq!(app.limits.cpu, Duration::from_secs(1));
        assert_eq!((app.limits.high_watermark, app.limits.low_watermark), (8192, 1024));
    }

    #[test]
    fn sockets_have_flags() {
        let folder = tempfile::tempdir().unwrap();
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, sockets::PEM).unwrap();
        let of_manifest = || {
            let mut settings = one_app();
            settings.apps[0].sockets.connect = vec![Rule::parse("a.example:1").unwrap()];
            settings.tcp = vec![TcpListen { addr: "127.0.0.1:6".parse().unwrap(), app: "x".into() }];
            settings
        };
        let mut settings = of_manifest();
        let line = format!(
            "--name lines --allow-connect a.example:1 --allow-connect udp:10.0.0.0/8:53 --allow-listen localhost:7000-7999 \
             --listen-tcp 127.0.0.1:7 --listen-tcp :0 --listen-tcp :0 --dns 127.0.0.1:5353 --dns [::1]:53 --ca {0} --ca {0} \
             --limit sockets=5 --limit socket-bytes=1GiB --limit connects=100/s",
            ca.display()
        );
        flags(&line).apply(&mut settings).unwrap();
        let app = &settings.apps[0];
        let shown = |rules: &[Rule]| rules.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown(&app.sockets.connect), ["a.example:1", "udp:10.0.0.0/8:53"], "each once");
        assert_eq!(shown(&app.sockets.listen), ["localhost:7000-7999"]);
        assert_eq!(app.sockets.ca, [ca]);
        assert_eq!((app.limits.sockets_max, app.limits.connects_per_s), (5, 100));
        assert_eq!(app.limits.socket_bytes_max, 1 << 30);
        let tcp: Vec<_> = settings.tcp.iter().map(|tcp| format!("{} {}", tcp.addr, tcp.app)).collect();
        assert_eq!(tcp, ["127.0.0.1:7 lines", "[::]:0 lines", "[::]:0 lines"], "instead of the manifest's");
        let dns: Vec<_> = settings.server.dns.iter().map(ToString::to_string).collect();
        assert_eq!(dns, ["127.0.0.1:5353", "[::1]:53"]);

        let mut renamed = of_manifest();
        flags("--name other").apply(&mut renamed).unwrap();
        assert_eq!(renamed.tcp[0].app, "other");
        let told = flags("--listen 127.0.0.1:6").apply(&mut renamed).unwrap_err().to_string();
        assert!(told.starts_with("error: --listen: `127.0.0.1:6` is where the server listens"), "{told}");
    }

    #[test]
    fn wrong_values_name_the_flag_and_the_way_out() {
        let table = [
            ("--listen 8080", "error: --listen: `8080` is not an address", "`:8080`"),
            ("--listen :80 --listen [::]:80", "error: --listen: `[::]:80` is there twice", ""),
            ("--listen unix:a --listen unix:a", "error: --listen: `unix:a` is there twice", ""),
            ("--workers 0", "error: --workers: it must be between 1 and 1024", ""),
            ("--workers two", "error: --workers: `two` is not a number", "whole number"),
            ("--drain 30", "error: --drain: `30` is ambiguous", "`10s`"),
            ("--http head_timeuot=1s", "error: --http: unknown key `head_timeuot`", "`head_timeout`"),
            ("--http linger", "error: --http: `linger` is not `key=value`", "head_bytes"),
            ("--backlog 0", "error: --backlog: it must be between 1 and 65535", ""),
            ("--connections 0", "error: --connections: it must be", ""),
            ("--memory-budget 1GB", "error: --memory-budget: `GB` is not a unit", "`1GiB`"),
            ("--cache 2GB", "error: --cache: `GB` is not a unit", "`2GiB`"),
            ("--name a/b", "error: --name: `a/b` cannot be the name", "letters"),
            ("--route shop", "error: --route: the route `shop` is not valid", ""),
            ("--route /a --route /a", "error: --route: the route `/a` matches the same requests", ""),
            ("--reuse 0", "error: --reuse: it must be between 1", ""),
            ("--weight 9999", "error: --weight: it must be between 1 and 1000", ""),
            ("--env A", "error: --env: `A` is not `NAME=VALUE`", "`--env A=`"),
            ("--env =1", "error: --env: `` cannot be the name of a variable", ""),
            ("--mount public", "error: --mount: `public` is not `HOST:GUEST`", "./public:/public"),
            ("--mount .:here", "error: --mount: the guest's path `here` does not begin with `/`", "as in"),
            ("--mount /no/such:/x", "error: --mount: `/no/such`: ", "has to be there"),
            ("--mount .:/x --mount /:/x", "error: --mount: `/x` is the guest's path of `.` already", ""),
            (
                "--allow-connect a.example",
                "error: --allow-connect: `a.example` names no port",
                "`a.example:*` for all",
            ),
            ("--allow-connect a:1 --allow-connect a:1", "error: --allow-connect: `a:1` is there twice", ""),
            (
                "--allow-listen a.example:1",
                "error: --allow-listen: `a.example:1` names a host",
                "`0.0.0.0:1`",
            ),
            ("--listen-tcp 7000", "error: --listen-tcp: `7000` is not an address", "`:7000`"),
            ("--listen-tcp unix:a", "error: --listen-tcp: `unix:a` is not an address of TCP", "as in"),
            ("--listen-tcp :1 --listen-tcp :1", "error: --listen-tcp: `[::]:1` is there already", "one app"),
            (
                "--listen :1 --listen-tcp :1",
                "error: --listen-tcp: `[::]:1` is where the server",
                "another port",
            ),
            ("--dns 1.1.1.1", "error: --dns: `1.1.1.1` names no port", "`1.1.1.1:53`"),
            ("--dns 1.1.1.1:53 --dns 1.1.1.1:53", "error: --dns: `1.1.1.1:53` is there twice", ""),
            ("--ca /no/such", "error: --ca: `/no/such` cannot be read", ""),
            ("--ca /", "error: --ca: `/` is not a file", "PEM"),
            ("--limit connects=5", "error: --limit: connects: `5` is ambiguous", "`5/s`"),
            ("--limit cpuu=1s", "error: --limit: unknown key `cpuu`", "did you mean `cpu`?"),
            ("--limit memory=64", "error: --limit: memory: `64` is ambiguous", "64MiB"),
            ("--limit high-watermark=4KiB", "error: --limit: the low watermark must be below", ""),
        ];
        for (line, message, help) in table {
            let flags = flags(line);
            let failure = flags.apply(&mut one_app()).unwrap_err();
            let shown = failure.to_string();
            assert!(shown.starts_with(message), "{line}: {shown}");
            assert_eq!(shown.contains("\nhelp: "), !help.is_empty(), "{line}: {shown}");
            assert!(shown.contains(help), "{line}: {shown}");
            assert_eq!(failure.status(), 2);
            assert!(flags.check().is_err());
        }
    }

    #[test]
    fn flags_of_an_app_need_a_single_app() {
        let mut settings = one_app();
        settings.apps.push(AppSettings::new("y".into(), "y.wasm".into()));
        flags("--workers 2").apply(&mut settings).unwrap();
        for line in [
            "--name z",
            "--route /z",
            "--reuse 2",
            "--weight 2",
            "--env A=1",
            "--mount .:/a",
            "--allow-connect a:1",
            "--allow-listen localhost:1",
            "--ca x",
            "--listen-tcp :1",
            "--limit cpu=1s",
        ] {
            let shown = flags(line).apply(&mut settings).unwrap_err().to_string();
            let flag = line.split(' ').next().unwrap();
            assert!(shown.starts_with(&format!("error: `{flag}` could mean any of the 2 apps")), "{shown}");
            assert!(shown.contains("help: set it in the manifest"), "{shown}");
        }
    }
}
