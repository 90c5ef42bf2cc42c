//! The `[[listen]]` of a manifest: addresses whose connections go to an app as they are.

use toml::de::DeTable;

use super::walk::{Value, Walk};
use crate::config::problem::ValueError;
use crate::config::settings::{AppSettings, ListenAddr};
use crate::config::sockets::TcpListen;
use crate::config::suggest::did_you_mean;

const KEYS: &[&str] = &["tcp", "app"];
const EXAMPLE: &str = "a section `[[listen]]` has `tcp = \"127.0.0.1:7000\"` and `app = \"lines\"`";

/// The apps that are named, whatever else may be wrong.
pub(super) fn apps<'d>(root: &'d DeTable<'_>) -> Vec<&'d str> {
    let sections = root.get("listen").and_then(|value| value.get_ref().as_array());
    let app = |value: &'d Value<'_>| value.get_ref().as_table()?.get("app")?.get_ref().as_str();
    sections.into_iter().flat_map(|sections| sections.iter()).filter_map(app).collect()
}

/// Reads the list of tables. `server` is where the server itself listens.
pub(super) fn read(
    walk: &mut Walk<'_>,
    value: &Value<'_>,
    apps: &[AppSettings],
    server: &[ListenAddr],
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
        let Some(listen) = one(walk, value, apps) else { continue };
        let span =
            value.get_ref().as_table().and_then(|table| table.get("tcp")).map_or(value.span(), Value::span);
        if let Err(error) = listen.add_to(&mut all, server) {
            walk.problem(span, ValueError { message: format!("tcp: {}", error.message), ..error });
        }
    }
    all
}

fn one(walk: &mut Walk<'_>, value: &Value<'_>, apps: &[AppSettings]) -> Option<TcpListen> {
    let table = walk.table(value)?;
    walk.check_keys(table, KEYS);
    for key in KEYS {
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
    Some(TcpListen { addr: addr?, app: app? })
}
