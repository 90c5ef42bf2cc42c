//! `tidegate apps`: what is there, one of it in full, all of it as a manifest; and taking one away.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::Failure;
use super::args::{AppsArgs, AppsVerb};
use super::client::{Client, part, show};
use crate::hosting::types::AppView;

pub(super) fn run(args: &AppsArgs) -> Result<(), Failure> {
    match (&args.verb, &args.app) {
        (Some(AppsVerb::Export { out, at }), _) => export(&Client::new(at)?, out.as_deref()),
        (Some(AppsVerb::Remove { app, at }), _) => remove(&Client::new(at)?, app),
        (None, Some(app)) => one(&Client::new(&args.at)?, app),
        (None, None) => all(&Client::new(&args.at)?),
    }
}

fn all(client: &Client) -> Result<(), Failure> {
    let apps: Vec<AppView> = client.get("/v1/apps")?;
    if client.json {
        return show::json(&apps);
    }
    let row = |app: &AppView| {
        [
            app.name.clone(),
            show::dash(app.tenant.as_ref()),
            show::dash(app.active),
            app.canary.as_ref().map_or_else(|| "-".to_owned(), |canary| canary.version.to_string()),
            app.running.to_string(),
            app.waiting.to_string(),
            if app.loaded { "yes" } else { "no" }.to_owned(),
            app.origin.clone(),
            app.routes.join(" "),
        ]
    };
    let heads = ["APP", "TENANT", "VERSION", "CANARY", "RUNNING", "WAITING", "LOADED", "ORIGIN", "ROUTES"];
    show::table(heads, apps.iter().map(row).collect())?;
    for app in &apps {
        if let Some(problem) = &app.problem {
            show::print(&format!("{}: {}\n", show::one_line(&app.name), show::one_line(problem)))?;
        }
    }
    Ok(())
}

fn one(client: &Client, app: &str) -> Result<(), Failure> {
    let app: AppView = client.get(&format!("/v1/apps/{}", part(app)?))?;
    if client.json {
        return show::json(&app);
    }
    let mut rows = vec![
        ["app".to_owned(), app.name.clone()],
        ["tenant".to_owned(), show::dash(app.tenant)],
        ["routes".to_owned(), app.routes.join(" ")],
        ["version".to_owned(), format!("{} ({} kept)", show::dash(app.active), app.versions)],
        ["requests".to_owned(), format!("{} run, {} wait", app.running, app.waiting)],
        ["loaded".to_owned(), if app.loaded { "yes" } else { "no" }.to_owned()],
        ["origin".to_owned(), app.origin],
    ];
    rows.extend(app.problem.map(|problem| ["problem".to_owned(), problem]));
    rows.extend(app.kv.map(|kv| ["data".to_owned(), format!("{} keys, {} bytes", kv.keys, kv.bytes)]));
    if let Some(canary) = &app.canary {
        rows.push(["canary".to_owned(), super::canary::sentence(canary)]);
    }
    let mut settings = Vec::new();
    for (key, value) in &app.settings {
        flatten(key, value, &mut settings);
    }
    rows.extend(settings.into_iter().filter(|[key, _]| key != "routes" && key != "tenant"));
    let mut text = String::new();
    for [key, value] in rows {
        text.push_str(&format!("{:24} {}\n", show::one_line(&key), show::one_line(&value)));
    }
    show::print(&text)
}

/// A setting in a line, those of a table each in its own.
fn flatten(key: &str, value: &Value, rows: &mut Vec<[String; 2]>) {
    match value {
        Value::Object(table) => {
            for (inner, value) in table {
                flatten(&format!("{key}.{inner}"), value, rows);
            }
        }
        Value::String(text) => rows.push([key.to_owned(), text.clone()]),
        other => rows.push([key.to_owned(), other.to_string()]),
    }
}

fn export(client: &Client, out: Option<&Path>) -> Result<(), Failure> {
    let text = client.text("/v1/export")?;
    match out {
        Some(path) => Ok(std::fs::write(path, text).with_context(|| format!("`{}`", path.display()))?),
        None if client.json => show::json(&json!({ "manifest": text })),
        None => show::print(&text),
    }
}

fn remove(client: &Client, app: &str) -> Result<(), Failure> {
    client.command("DELETE", &format!("/v1/apps/{}", part(app)?))?;
    if client.json {
        show::json(&json!({ "removed": app }))
    } else {
        show::print(&format!("{app}: removed\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_lines() {
        let mut rows = Vec::new();
        flatten("a", &json!({ "b": { "c": 1 }, "d": ["x"], "e": "y" }), &mut rows);
        let rows: Vec<_> = rows.iter().map(|[key, value]| format!("{key}={value}")).collect();
        assert_eq!(rows, ["a.b.c=1", "a.d=[\"x\"]", "a.e=y"]);
    }
}
