//! The `[[tenant]]` of a manifest: who has apps here, where their routes may be, and what all of them may use together.

use std::ops::Range;

use tidegate_proto::router::RouteError;
use toml::de::DeTable;

use super::app::ReadApp;
use super::walk::{Value, Walk};
use crate::config::keys::TENANT_KEYS;
use crate::config::problem::ValueError;
use crate::config::settings::{check_app_name, check_routes};
use crate::config::suggest::did_you_mean;
use crate::config::tenants::TenantSettings;

const KEYS: &[&str] = &["name", "routes", "limits"];
const EXAMPLE: &str =
    "a section `[[tenant]]` has `name = \"acme\"`, `routes = [\"acme.example/*\"]` and `limits`";

/// A tenant, and the places that checks between tenants need.
struct Read {
    settings: TenantSettings,
    name_span: Range<usize>,
    route_spans: Vec<Range<usize>>,
}

/// Reads the list of tables.
pub(super) fn read(walk: &mut Walk<'_>, root: &DeTable<'_>) -> Vec<TenantSettings> {
    let Some(value) = root.get("tenant") else { return Vec::new() };
    let Some(array) = value.get_ref().as_array() else {
        walk.problem(value.span(), ValueError::new("`tenant` is not a list of tenants").help(EXAMPLE));
        return Vec::new();
    };
    let read: Vec<Read> = array.iter().filter_map(|value| one(walk, value)).collect();
    for (number, tenant) in read.iter().enumerate() {
        let name = &tenant.settings.name;
        let first = read.iter().take(number).find(|other| other.settings.name == *name);
        if let Some(first) = first.filter(|_| !name.is_empty()) {
            let line = walk.line(first.name_span.start);
            let message = format!("the tenant `{name}` is there already, in line {line}");
            walk.problem(tenant.name_span.clone(), ValueError::new(message));
        }
    }
    routes(walk, &read);
    read.into_iter().map(|read| read.settings).collect()
}

fn one(walk: &mut Walk<'_>, value: &Value<'_>) -> Option<Read> {
    let table = walk.table(value)?;
    walk.check_keys(table, KEYS);
    if !table.contains_key("name") {
        walk.problem(value.span(), ValueError::new("the tenant has no `name`").help(EXAMPLE));
    }
    let name = walk.read(table, "name", |given| {
        let name = given.text()?;
        check_app_name(name).map(|()| name.to_owned()).map_err(|error| ValueError {
            message: error.message.replace("of an app", "of a tenant"),
            ..error
        })
    });
    let mut settings = TenantSettings::new(name.unwrap_or_default());
    let mut route_spans = Vec::new();
    if let Some(value) = table.get("routes") {
        let routes = walk.strings(value);
        settings.routes = routes.iter().map(|(_, route)| (*route).to_owned()).collect();
        route_spans = routes.into_iter().map(|(span, _)| span).collect();
    }
    if let Some(value) = table.get("limits") {
        walk.keys(value, &TENANT_KEYS, &mut settings.limits);
    }
    let name_span = table.get("name").map_or(value.span(), Value::span);
    Some(Read { settings, name_span, route_spans })
}

/// What one tenant claims no other does.
fn routes(walk: &mut Walk<'_>, tenants: &[Read]) {
    let all: Vec<_> =
        tenants.iter().flat_map(|read| read.settings.routes.iter().zip(&read.route_spans)).collect();
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

/// An app is nobody's, or that of a tenant who is there and may have so many.
pub(super) fn check_apps(walk: &mut Walk<'_>, apps: &[ReadApp], tenants: &[TenantSettings]) {
    let names = || tenants.iter().map(|tenant| tenant.name.as_str()).filter(|name| !name.is_empty());
    // One whose name is wrong has been told.
    if names().count() != tenants.len() {
        return;
    }
    for app in apps {
        let (Some(tenant), Some(span)) = (&app.settings.tenant, app.tenant_span.clone()) else { continue };
        if let Some(known) = tenants.iter().find(|known| known.name == *tenant) {
            check_count(walk, app, apps, known);
            continue;
        }
        let error = ValueError::new(format!("tenant: there is no tenant `{}`", tenant.escape_default()));
        let help = match names().next() {
            Some(_) => did_you_mean(tenant, names()),
            None => EXAMPLE.to_owned(),
        };
        walk.problem(span, error.help(help));
    }
}

/// The first app beyond what its tenant may have is told.
fn check_count(walk: &mut Walk<'_>, app: &ReadApp, apps: &[ReadApp], tenant: &TenantSettings) {
    let Some(most) = tenant.limits.apps else { return };
    let its = || apps.iter().filter(|app| app.settings.tenant.as_ref() == Some(&tenant.name));
    let is_first_beyond = its().nth(most as usize).is_some_and(|beyond| std::ptr::eq(beyond, app));
    if let Some(span) = app.tenant_span.clone().filter(|_| is_first_beyond) {
        let (name, there) = (&tenant.name, its().count());
        let message = format!("tenant: `{name}` may have {most} apps, and there are {there}");
        let help = format!("as in `limits = {{ apps = {there} }}` in its section `[[tenant]]`");
        walk.problem(span, ValueError::new(message).help(help));
    }
}
