//! The `sockets` of an app.

use std::ops::Range;
use std::path::PathBuf;

use toml::de::DeTable;

use super::Purpose;
use super::walk::{Value, Walk};
use crate::config::problem::ValueError;
use crate::config::sockets::{Rule, SocketSettings, certificates};

const KEYS: &[&str] = &["connect", "listen", "ca"];

/// Reads the table. Lists may be empty here: that allows nothing, as leaving them out does.
pub(super) fn read(walk: &mut Walk<'_>, value: &Value<'_>, purpose: Purpose) -> SocketSettings {
    let mut sockets = SocketSettings::default();
    let Some(table) = walk.table(value) else { return sockets };
    walk.check_keys(table, KEYS);
    sockets.connect = rules(walk, table, "connect", Rule::parse);
    sockets.listen = rules(walk, table, "listen", Rule::parse_listen);
    let folder = walk.folder();
    for (span, text) in strings(walk, table, "ca") {
        let path: PathBuf = folder.join(text).components().collect();
        let checked = if purpose == Purpose::Serve { certificates(&path).map(drop) } else { Ok(()) };
        match checked {
            _ if sockets.ca.contains(&path) => {
                walk.problem(span, ValueError::new(format!("`{text}` is there twice")));
            }
            Ok(()) => sockets.ca.push(path),
            Err(error) => walk.problem(span, error),
        }
    }
    sockets
}

fn rules(
    walk: &mut Walk<'_>,
    table: &DeTable<'_>,
    key: &str,
    parse: fn(&str) -> Result<Rule, ValueError>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (span, text) in strings(walk, table, key) {
        if let Err(error) = parse(text).and_then(|rule| rule.add_to(&mut rules)) {
            walk.problem(span, ValueError { message: format!("{key}: {}", error.message), ..error });
        }
    }
    rules
}

fn strings<'d>(walk: &mut Walk<'_>, table: &'d DeTable<'_>, key: &str) -> Vec<(Range<usize>, &'d str)> {
    let empty = |value: &Value<'_>| value.get_ref().as_array().is_some_and(|array| array.is_empty());
    table.get(key).filter(|value| !empty(value)).map(|value| walk.strings(value)).unwrap_or_default()
}
