//! Reads a manifest: TOML with `[server]`, one `[[app]]` an app, and one `[[listen]]` an address of raw TCP.
//!
//! Every problem of a file is found in one pass and told with its line, column and the nearest valid word. Paths are
//! relative to the manifest. Whether sources exist is checked here, unless they are still to be built; what is in them
//! is not.

mod app;
mod build;
mod edge;
mod hosting;
mod kv;
mod listen;
mod mounts;
mod sockets;
mod tenant;
mod walk;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tidegate_proto::router::RouteError;
use toml::de::DeTable;

use super::keys::HTTP_KEYS;
use super::listen::ListenAddr;
use super::problem::{ConfigError, ValueError};
use super::settings::{AppSettings, LogFormat, LogTarget, ServerSettings, Settings, check_routes};
use super::sockets::{add_dns, parse_dns};
use super::state::StateFolder;
use super::tenants::TenantSettings;
use build::Build;
pub use build::{BuildCommand, BuildSettings, BuildTarget};
pub(crate) use hosting::check_health;
use walk::{Value, Walk};

/// What a folder's manifest is called.
pub(crate) const MANIFEST: &str = "tidegate.toml";

const TOP_KEYS: &[&str] = &["server", "app", "tenant", "listen", "build"];
const SERVER_KEYS: &[&str] = &[
    "listen",
    "workers",
    "access_log",
    "app_logs",
    "app_log_bytes",
    "app_log_files",
    "log_format",
    "limits",
    "drain",
    "trust_request_id",
    "proxies",
    "forwarded",
    "proxy_protocol",
    "backlog",
    "connections",
    "memory_budget",
    "loaded",
    "state",
    "cache",
    "dns",
    "admin",
    "tokens",
    "module_bytes",
    "keep",
];

/// What a manifest is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// To serve what is there: there are apps, and each has a source that exists.
    Serve,
    /// To build what is to be served: sources need not exist yet or be named, and the only app need not be written
    /// down.
    Build,
    /// For a version of an app that is hosted: its name and its module stand elsewhere.
    Version,
    /// To host what it names, beside what is there: files that it names may be gone by now.
    Host,
}

/// A project as its manifest describes it, before it is built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// What to serve. An app whose source was left out has an empty path there. Apps may be missing altogether.
    pub settings: Settings,
    /// How the module is made, where that is not cargo's business.
    pub build: Option<BuildSettings>,
    /// What cargo is to make of the crate, where that is said.
    pub target: Option<BuildTarget>,
}

/// Reads and checks a manifest to serve what it names.
pub fn load(path: &Path) -> Result<Settings, ConfigError> {
    let (text, file) = text(path)?;
    parse(&text, &file, path.parent().unwrap_or(Path::new("")))
}

/// Reads and checks a manifest, but for the files that it names: a server that hosts apps has its own copies.
pub(crate) fn load_to_host(path: &Path) -> Result<Settings, ConfigError> {
    let (text, file) = text(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse_for(Purpose::Host, &text, &file, folder).map(|project| project.settings)
}

/// Reads and checks a manifest whose apps a server that hosts is to serve: there may be none, wherever the admin side is
/// said to be.
pub(crate) fn load_hosted(path: &Path) -> Result<Settings, ConfigError> {
    let (text, file) = text(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    parse_with(Purpose::Serve, true, &text, &file, folder).map(|project| project.settings)
}

/// Reads and checks a manifest to build what it names.
pub fn load_project(path: &Path) -> Result<Project, ConfigError> {
    let (text, file) = text(path)?;
    parse_for(Purpose::Build, &text, &file, path.parent().unwrap_or(Path::new("")))
}

/// What stands in the file, and what problems call it.
fn text(path: &Path) -> Result<(String, String), ConfigError> {
    let file = path.display().to_string();
    let text = std::fs::read(path).map_err(|error| {
        ConfigError::one(ValueError::new(format!("the manifest cannot be read: {error}")).at(&file))
    })?;
    let text = String::from_utf8(text)
        .map_err(|_| ConfigError::one(ValueError::new("the manifest is not UTF-8 text").at(&file)))?;
    Ok((text, file))
}

/// Checks the text of a manifest. `file` is what problems call it, `folder` where its relative paths begin.
pub fn parse(text: &str, file: &str, folder: &Path) -> Result<Settings, ConfigError> {
    parse_for(Purpose::Serve, text, file, folder).map(|project| project.settings)
}

/// Checks the settings of one version of an app that is hosted: a manifest with one `[[app]]`, without name and source.
pub(crate) fn parse_version(
    text: &str,
    file: &str,
    name: &str,
    source: &Path,
) -> Result<AppSettings, ConfigError> {
    let mut walk = Walk::new(text, file, Path::new(""));
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let message = format!("not valid TOML: {}", error.message());
        walk.problem(error.span().unwrap_or_default(), ValueError::new(message));
    }
    let apps = root.get_ref().get("app").and_then(|value| value.get_ref().as_array());
    let one = apps.filter(|apps| apps.len() == 1).and_then(|apps| apps.iter().next());
    let read = one.and_then(|value| {
        for key in ["name", "source"] {
            if value.get_ref().as_table().is_some_and(|table| table.contains_key(key)) {
                let error = ValueError::new(format!("`{key}` is not one of a version's settings"));
                walk.problem(value.span(), error);
            }
        }
        let around = app::Around { purpose: Purpose::Version, built: None, listen: &[name] };
        app::read(&mut walk, value, around)
    });
    if let Some(read) = &read {
        routes(&mut walk, std::slice::from_ref(read));
    }
    match read {
        Some(read) if !walk.has_problems() => {
            Ok(AppSettings { name: name.to_owned(), source: source.to_owned(), ..read.settings })
        }
        Some(_) => Err(walk.finish()),
        None => {
            walk.problem(0..0, ValueError::new("the settings of a version are one table"));
            Err(walk.finish())
        }
    }
}

fn parse_for(purpose: Purpose, text: &str, file: &str, folder: &Path) -> Result<Project, ConfigError> {
    parse_with(purpose, matches!(purpose, Purpose::Build | Purpose::Host), text, file, folder)
}

/// `without_apps`: it may name none.
fn parse_with(
    purpose: Purpose,
    without_apps: bool,
    text: &str,
    file: &str,
    folder: &Path,
) -> Result<Project, ConfigError> {
    let mut walk = Walk::new(text, file, folder);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            let message = format!("not valid TOML: {}", error.message());
            walk.problem(error.span().unwrap_or_default(), ValueError::new(message));
        }
        return Err(walk.finish());
    }
    let root = root.get_ref();
    walk.check_keys(root, TOP_KEYS);
    if without_apps && purpose != Purpose::Build && root.is_empty() {
        // Whoever writes a file empties it first: that is not to take all apps away.
        let error = ValueError::new("the manifest says nothing");
        walk.problem(
            0..0,
            error.help("one of a server that hosts apps and names none has a section `[server]`"),
        );
    }
    let server = match root.get("server") {
        Some(value) => server(&mut walk, value),
        None => ServerSettings::default(),
    };
    let (build, target) = match root.get("build").and_then(|value| build::read(&mut walk, value)) {
        Some(Build::Command(build)) => (Some(build), None),
        Some(Build::Cargo(target)) => (None, Some(target)),
        None => (None, None),
    };
    let around = app::Around {
        purpose,
        built: build.as_ref().map(|build| build.output.as_path()),
        listen: &listen::apps(root),
    };
    let tenants = tenant::read(&mut walk, root);
    hosting::check_tokens(&mut walk, root, &server.tokens, &tenants);
    let apps = match root.get("app") {
        // A server that hosts apps may begin with none.
        None if without_apps || server.admin.is_some() => Vec::new(),
        value => apps(&mut walk, value, around, &tenants),
    };
    let tcp = match root.get("listen") {
        Some(value) => listen::read(&mut walk, value, &apps, &server),
        None => Vec::new(),
    };
    if walk.has_problems() {
        return Err(walk.finish());
    }
    Ok(Project { settings: Settings { server, apps, tcp, tenants }, build, target })
}

fn server(walk: &mut Walk<'_>, value: &Value<'_>) -> ServerSettings {
    let mut server = ServerSettings::default();
    let Some(table) = walk.table(value) else { return server };
    walk.check_keys(table, SERVER_KEYS);
    if let Some(value) = table.get("listen") {
        server.listen = listen(walk, value);
    }
    walk.set(table, "workers", |given| given.count(1..=1024).map(|count| server.workers = count as usize));
    if let Some(target) = walk.read(table, "access_log", |given| LogTarget::parse(given.text()?)) {
        server.access_log = Some(target.relative_to(walk.folder()));
    }
    if let Some(folder) = walk.read(table, "app_logs", |given| path(given.text()?)) {
        server.app_logs = Some(walk.folder().join(folder));
    }
    walk.set(table, "app_log_bytes", |given| {
        given.bytes(64 << 10..=1 << 40).map(|bytes| server.app_log_bytes_max = bytes)
    });
    walk.set(table, "app_log_files", |given| given.count(0..=100).map(|count| server.app_log_files = count));
    let format = walk.read(table, "log_format", |given| match given.text()? {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        other => Err(ValueError::new(format!("`{other}` is not a format")).help("`text` or `json`")),
    });
    server.log_format = format.unwrap_or_default();
    walk.set(table, "drain", |given| given.duration(0..=86_400_000).map(|time| server.drain = time));
    walk.set(table, "backlog", |given| given.count(1..=65_535).map(|count| server.backlog = count));
    walk.set(table, "connections", |given| {
        given.count(1..=10_000_000).map(|count| server.connections_max = count as usize)
    });
    walk.set(table, "memory_budget", |given| {
        given.bytes((1 << 20)..=u64::MAX).map(|bytes| server.memory_budget_bytes = Some(bytes))
    });
    walk.set(table, "loaded", |given| {
        given.count(1..=1_000_000).map(|count| server.loaded_max = Some(count as usize))
    });
    if let Some(state) = walk.read(table, "state", |given| StateFolder::parse(given.text()?)) {
        server.state = state.relative_to(walk.folder());
    }
    walk.set(table, "cache", |given| given.bytes(0..=u64::MAX).map(|bytes| server.cache_bytes_max = bytes));
    if let Some(value) = table.get("dns") {
        for (span, text) in walk.strings(value) {
            if let Err(error) = parse_dns(text).and_then(|addr| add_dns(addr, &mut server.dns)) {
                walk.problem(span, error);
            }
        }
    }
    if let Some(value) = table.get("trust_request_id") {
        match value.get_ref().as_bool() {
            Some(trust) => server.trust_request_id = trust,
            None => walk.problem(value.span(), ValueError::new("`true` or `false` is expected here")),
        }
    }
    server.edge = edge::read(walk, table);
    if let Some(value) = table.get("limits") {
        walk.keys(value, &HTTP_KEYS, &mut server.http);
    }
    hosting::read(walk, table, &mut server);
    server
}

fn path(text: &str) -> Result<PathBuf, ValueError> {
    if text.is_empty() || text.contains('\0') {
        return Err(ValueError::new("the path of a folder is missing"));
    }
    Ok(PathBuf::from(text))
}

fn listen(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<ListenAddr> {
    let mut addrs = Vec::new();
    for (span, text) in walk.strings(value) {
        let parsed = ListenAddr::parse(text).map(|addr| addr.relative_to(walk.folder()));
        if let Err(error) = parsed.and_then(|addr| addr.add_to(&mut addrs)) {
            walk.problem(span, error);
        }
    }
    addrs
}

fn apps(
    walk: &mut Walk<'_>,
    value: Option<&Value<'_>>,
    around: app::Around<'_>,
    tenants: &[TenantSettings],
) -> Vec<AppSettings> {
    let help = "an app is a section `[[app]]` with `name`, `source` and `routes`";
    let Some(value) = value else {
        walk.problem(0..0, ValueError::new("there is no app").help(help));
        return Vec::new();
    };
    let Some(array) = value.get_ref().as_array() else {
        walk.problem(value.span(), ValueError::new("`app` is not a list of apps").help("write `[[app]]`"));
        return Vec::new();
    };
    if array.is_empty() {
        walk.problem(value.span(), ValueError::new("there is no app").help(help));
    }
    let mut read = Vec::new();
    for value in array.iter() {
        read.extend(app::read(walk, value, around));
    }
    names(walk, &read);
    routes(walk, &read);
    tenant::check_apps(walk, &read, tenants);
    read.into_iter().map(|read| read.settings).collect()
}

/// Two apps of one name would share their limits and their logs.
fn names(walk: &mut Walk<'_>, apps: &[app::ReadApp]) {
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for app in apps {
        let Some(span) = app.name_span.clone() else { continue };
        let line = walk.line(span.start);
        if let Some(first) = lines.get(app.settings.name.as_str()) {
            let message = format!("the app `{}` is there already, in line {first}", app.settings.name);
            walk.problem(span, ValueError::new(message));
        } else {
            lines.insert(&app.settings.name, line);
        }
    }
}

/// The routes of all apps are one set.
fn routes(walk: &mut Walk<'_>, apps: &[app::ReadApp]) {
    let all: Vec<_> = apps.iter().flat_map(|app| app.settings.routes.iter().zip(&app.route_spans)).collect();
    for (number, error) in check_routes(all.iter().map(|(route, _)| route.as_str())) {
        let mut message = error.to_string();
        if let RouteError::Conflict { other, .. } = &error
            && let Some((_, span)) = all.iter().find(|(route, _)| *route == other)
        {
            message = format!("{message} in line {}", walk.line(span.start));
        }
        if let Some((_, span)) = all.get(number) {
            walk.problem((*span).clone(), ValueError::new(message));
        }
    }
}

#[cfg(test)]
mod tests;
