//! The `[[listen]]` of a manifest: addresses whose connections go to an app as they are.

use toml::de::DeTable;

use super::walk::{Value, Walk};
use crate::config::TcpListen;
use crate::config::edge::EdgeSettings;
use crate::config::problem::ValueError;
use crate::config::settings::{AppSettings, ServerSettings};
use crate::config::suggest::did_you_mean;

const KEYS: &[&str] = &["tcp", "app", "proxy_protocol"];
const REQUIRED: &[&str] = &["tcp", "app"];
const EXAMPLE: &str = "a section `[[listen]]` has `tcp = \"127.0.0.1:7000\"` and `app = \"lines\"`";

/// The apps that are named, whatever else may be wrong.
pub(super) fn apps<'d>(root: &'d DeTable<'_>) -> Vec<&'d str> {
    let sections = root.get("listen").and_then(|value| value.get_ref().as_array());
    let app = |value: &'d Value<'_>| value.get_ref().as_table()?.get("app")?.get_ref().as_str();
    sections.into_iter().flat_map(|sections| sections.iter()).filter_map(app).collect()
}

/// Reads the list of tables. `server` says where the server itself listens, and who its proxies are.
pub(super) fn read(
    walk: &mut Walk<'_>,
    value: &Value<'_>,
    apps: &[AppSettings],
    server: &ServerSettings,
) -> Vec<TcpListen> {
    let Some(array) = value.get_ref().as_array() else {
        let error = ValueError::new("`listen` is not a list of addresses");
        let help = match value.get_ref().as_table() {
            Some(_) => "write `[[listen]]`".to_owned(),
            None => format!("{EXAMPLE}; where HTTP is served is `listen` in `[server]`"),
        };
        walk.problem(value.span(), error.help(help));
        return Vec::new();
    };
    let mut all = Vec::new();
    for value in array.iter() {
        let Some(listen) = one(walk, value, apps, &server.edge) else { continue };
        let span =
            value.get_ref().as_table().and_then(|table| table.get("tcp")).map_or(value.span(), Value::span);
        if let Err(error) = listen.add_to(&mut all, &server.listen) {
            walk.problem(span, ValueError { message: format!("tcp: {}", error.message), ..error });
        }
    }
    all
}

fn one(
    walk: &mut Walk<'_>,
    value: &Value<'_>,
    apps: &[AppSettings],
    edge: &EdgeSettings,
) -> Option<TcpListen> {
    let table = walk.table(value)?;
    walk.check_keys(table, KEYS);
    for key in REQUIRED {
        if !table.contains_key(*key) {
            let error = ValueError::new(format!("the listener has no `{key}`"));
            walk.problem(value.span(), error.help(EXAMPLE));
        }
    }
    let addr = walk.read(table, "tcp", |given| TcpListen::parse_addr(given.text()?));
    // An app whose name is wrong has been told.
    let names = || apps.iter().map(|app| app.name.as_str()).filter(|name| !name.is_empty());
    let all_named = names().count() == apps.len();
    let app = walk.read(table, "app", |given| {
        let name = given.text()?;
        if all_named && !names().any(|known| known == name) {
            let error = ValueError::new(format!("there is no app `{}`", name.escape_default()));
            return Err(match names().next() {
                Some(_) => error.help(did_you_mean(name, names())),
                None => error.help("an app is a section `[[app]]` with a `name`"),
            });
        }
        Ok(name.to_owned())
    });
    let proxy_protocol = table.get("proxy_protocol").and_then(|value| {
        let wanted = value.get_ref().as_bool();
        let checked = match wanted {
            Some(proxy_protocol) => EdgeSettings { proxy_protocol, ..edge.clone() }.check(),
            None => Err(ValueError::new("`true` or `false` is expected here")),
        };
        if let Err(error) = checked {
            walk.problem(
                value.span(),
                ValueError { message: format!("proxy_protocol: {}", error.message), ..error },
            );
        }
        wanted
    });
    Some(TcpListen { addr: addr?, app: app?, proxy_protocol })
}
