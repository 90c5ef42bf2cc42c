//! The proxies of a `[server]`.

use toml::de::DeTable;

use super::walk::Walk;
use crate::config::edge::{EdgeSettings, parse_forwarded};
use crate::config::problem::ValueError;

pub(super) fn read(walk: &mut Walk<'_>, table: &DeTable<'_>) -> EdgeSettings {
    let mut edge = EdgeSettings::default();
    if let Some(value) = table.get("proxies") {
        for (span, text) in walk.strings(value) {
            if let Err(error) = edge.proxies.add(text) {
                walk.problem(span, ValueError { message: format!("proxies: {}", error.message), ..error });
            }
        }
    }
    if let Some(family) = walk.read(table, "forwarded", |given| parse_forwarded(given.text()?)) {
        edge.forwarded = family;
    }
    if let Some(value) = table.get("proxy_protocol") {
        match value.get_ref().as_bool() {
            Some(wanted) => edge.proxy_protocol = wanted,
            None => walk.problem(value.span(), ValueError::new("`true` or `false` is expected here")),
        }
        // Proxies that could not be read have been told.
        if !table.contains_key("proxies")
            && let Err(error) = edge.check()
        {
            walk.problem(value.span(), error);
        }
    }
    edge
}
