//! One `[[app]]` of a manifest.

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::walk::{Value, Walk};
use super::{Purpose, hosting, kv, mounts, sockets};
use crate::config::keys::{APP_KEYS, WATERMARK_KEYS};
use crate::config::problem::ValueError;
use crate::config::settings::{AppSettings, Instances, check_app_name, check_env};
use crate::config::units::Given;

const KEYS: &[&str] = &[
    "name",
    "source",
    "routes",
    "instances",
    "weight",
    "env",
    "mounts",
    "kv",
    "sockets",
    "limits",
    "watermarks",
    "tenant",
    "secrets",
    "health",
];

/// An app, and the places that checks between apps need.
pub(super) struct ReadApp {
    pub(super) settings: AppSettings,
    /// None when there is no valid name.
    pub(super) name_span: Option<Range<usize>>,
    /// One for each route.
    pub(super) route_spans: Vec<Range<usize>>,
    /// Where its tenant is named.
    pub(super) tenant_span: Option<Range<usize>>,
}

/// What stands around an app, and decides what it may leave out.
#[derive(Clone, Copy)]
pub(super) struct Around<'b> {
    pub(super) purpose: Purpose,
    /// What `[build]` makes: the source of an app that names none.
    pub(super) built: Option<&'b Path>,
    /// The apps that a `[[listen]]` hands connections to: they need no routes.
    pub(super) listen: &'b [&'b str],
}

pub(super) fn read(walk: &mut Walk<'_>, value: &Value<'_>, around: Around<'_>) -> Option<ReadApp> {
    let table = walk.table(value)?;
    walk.check_keys(table, KEYS);
    let mut app = AppSettings::new(String::new(), PathBuf::new());
    if let Some(value) = table.get("sockets") {
        app.sockets = sockets::read(walk, value, around.purpose);
    }
    for key in ["name", "source", "routes"] {
        let goes_without = match key {
            "name" => around.purpose == Purpose::Version,
            "source" => around.built.is_some() || matches!(around.purpose, Purpose::Build | Purpose::Version),
            // Raw connections lead to it, or it runs by itself.
            "routes" => {
                let name = table.get("name").and_then(|name| name.get_ref().as_str());
                let by_itself = !app.sockets.listen.is_empty() || !app.sockets.connect.is_empty();
                // Who it is for stands elsewhere, and the guest says whether it does without.
                let is_version = around.purpose == Purpose::Version;
                by_itself || is_version || name.is_some_and(|name| around.listen.contains(&name))
            }
            _ => false,
        };
        if !table.contains_key(key) && !goes_without {
            let error = ValueError::new(format!("the app has no `{key}`"));
            let help = match key {
                "name" => "as in `name = \"shop\"`",
                "source" => "the handler, a module or a component, as in `source = \"shop.wasm\"`",
                _ => {
                    "as in `routes = [\"/shop/*\"]`; `/*` is everything; raw TCP alone needs a `[[listen]]` with \
                     `app = \"NAME\"`, a program that runs by itself needs `sockets`"
                }
            };
            walk.problem(value.span(), error.help(help));
        }
    }

    let mut name_span = None;
    let name = walk.read(table, "name", |given| {
        let name = given.text()?;
        check_app_name(name).map(|()| name.to_owned())
    });
    if let Some(name) = name {
        app.name = name;
        name_span = table.get("name").map(Value::span);
    }
    source(walk, value, table, around, &mut app);
    let mut route_spans = Vec::new();
    app.routes.clear();
    app.routes_by_default = false;
    if let Some(value) = table.get("routes") {
        let routes = walk.strings(value);
        app.routes = routes.iter().map(|(_, route)| (*route).to_owned()).collect();
        route_spans = routes.into_iter().map(|(span, _)| span).collect();
    }
    if let Some(value) = table.get("instances") {
        app.instances = instances(walk, value).unwrap_or(Instances::Fresh);
    }
    walk.set(table, "weight", |given| given.count(1..=1000).map(|weight| app.weight = weight));
    if let Some(value) = table.get("env") {
        app.env = env(walk, value);
    }
    app.tenant = walk.read(table, "tenant", |given| given.text().map(str::to_owned));
    if let Some(value) = table.get("secrets") {
        app.secrets = hosting::secrets(walk, value);
    }
    if let Some((name, _)) =
        app.secrets.iter().find(|(name, _)| app.env.iter().any(|(known, _)| known == name))
    {
        let error = ValueError::new(format!("`{name}` is in `env` and in `secrets`"));
        walk.problem(value.span(), error.help("take it out of one of them"));
    }
    app.health = hosting::health(walk, table);
    if let Some(value) = table.get("mounts") {
        app.mounts = mounts::read(walk, value, around.purpose);
    }
    app.kv = table.get("kv").and_then(|value| kv::read(walk, value));
    limits(walk, table, &mut app);
    let tenant_span = table.get("tenant").map(Value::span);
    Some(ReadApp { settings: app, name_span, route_spans, tenant_span })
}

fn source(
    walk: &mut Walk<'_>,
    value: &Value<'_>,
    table: &DeTable<'_>,
    around: Around<'_>,
    app: &mut AppSettings,
) {
    let folder = walk.folder();
    let check = |path: &Path| match std::fs::metadata(path) {
        _ if matches!(around.purpose, Purpose::Build | Purpose::Host) => Ok(()),
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(ValueError::new(format!("`{}` is not a file", path.display()))
            .help("`tidegate build FOLDER --out FILE.wasm` makes one of a crate")),
        Err(error) if around.built == Some(path) => {
            Err(ValueError::new(format!("`{}`: {error}", path.display()))
                .help(format!("`tidegate build {}` makes it", shown(folder).display())))
        }
        Err(error) if folder.join("Cargo.toml").is_file() => {
            Err(ValueError::new(format!("`{}`: {error}", path.display())).help(format!(
                "`tidegate build {}` makes it; paths are relative to the manifest",
                shown(folder).display()
            )))
        }
        Err(error) => Err(ValueError::new(format!("`{}`: {error}", path.display()))
            .help("paths are relative to the manifest")),
    };
    if table.contains_key("source") {
        let path = |given: Given<'_>| {
            let path: PathBuf = folder.join(given.text()?).components().collect();
            check(&path).map(|()| path)
        };
        app.source = walk.read(table, "source", path).unwrap_or_default();
    } else if let Some(built) = around.built {
        app.source = built.to_path_buf();
        if let Err(error) = check(built) {
            walk.problem(value.span(), error);
        }
    }
}

/// The folder of a manifest that is given by its name alone is this one.
fn shown(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// `"fresh"`, or `{ reuse = N }`.
fn instances(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<Instances> {
    let help = "`\"fresh\"`, or `{ reuse = 1000 }`";
    if let Some(table) = value.get_ref().as_table() {
        walk.check_keys(table, &["reuse"]);
        if table.is_empty() {
            walk.problem(value.span(), ValueError::new("it says nothing about instances").help(help));
        }
        return walk.read(table, "reuse", |given| given.count(1..=u32::MAX)).map(Instances::Reuse);
    }
    match value.get_ref().as_str() {
        Some("fresh") => return Some(Instances::Fresh),
        Some("reuse") => {
            let error = ValueError::new("how many requests may one instance serve?");
            walk.problem(value.span(), error.help("`{ reuse = 1000 }`"));
        }
        Some(word) => {
            let error = ValueError::new(format!("`{word}` is no kind of instances"));
            walk.problem(value.span(), error.help(help));
        }
        None => {
            let kind = value.get_ref().type_str();
            walk.problem(value.span(), ValueError::new(format!("it cannot be {kind}")).help(help));
        }
    }
    None
}

fn env(walk: &mut Walk<'_>, value: &Value<'_>) -> Vec<(String, String)> {
    let Some(table) = walk.table(value) else { return Vec::new() };
    let mut variables = Vec::new();
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let Some(text) = value.get_ref().as_str() else {
            let kind = value.get_ref().type_str();
            let error = ValueError::new(format!("{name}: a variable is a string, not {kind}"));
            walk.problem(value.span(), error.help("put it in quotes"));
            continue;
        };
        match check_env(name, text) {
            Ok(()) => variables.push((name.to_owned(), text.to_owned())),
            Err(error) => walk.problem(key.span(), error),
        }
    }
    variables
}

fn limits(walk: &mut Walk<'_>, table: &DeTable<'_>, app: &mut AppSettings) {
    if let Some(value) = table.get("limits") {
        walk.keys(value, &APP_KEYS, &mut app.limits);
    }
    let Some(value) = table.get("watermarks") else { return };
    walk.keys(value, &WATERMARK_KEYS, &mut app.limits);
    if let Err(error) = app.limits.watermarks() {
        walk.problem(
            value.span(),
            ValueError::new(error.to_string()).help("as in `{ high = \"64KiB\", low = \"16KiB\" }`"),
        );
    }
}
