//! An app's flags as the settings of a version: the keys and values of a manifest's `[[app]]`.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{AppFlags, Flags, at, variable};
use crate::cli::Failure;
use crate::config::{AppSettings, Instances, SecretSource, ValueError, manifest};

impl Flags {
    /// What they say of an app, without its name. Paths are absolute.
    ///
    /// # Errors
    /// One of them is wrong, or is not of an app that is hosted.
    pub(in crate::cli) fn app_map(&self) -> Result<Map<String, Value>, Failure> {
        self.app.map()
    }

    /// The name that they give an app.
    pub(in crate::cli) fn app_name(&self) -> Option<&str> {
        self.app.name.as_deref()
    }
}

impl AppFlags {
    fn map(&self) -> Result<Map<String, Value>, Failure> {
        // Whatever is wrong is told as `serve` would tell it.
        let mut app = AppSettings::new("app".to_owned(), std::path::PathBuf::new());
        self.apply(&mut app)?;
        let mut map = Map::new();
        let mut set = |key: &str, value: Value| drop(map.insert(key.to_owned(), value));
        if !self.route.is_empty() {
            set("routes", json!(self.route));
        }
        if self.reuse.is_some()
            && let Instances::Reuse(count) = app.instances
        {
            set("instances", json!({ "reuse": count }));
        }
        if self.weight.is_some() {
            set("weight", json!(app.weight));
        }
        if !self.env.is_empty() {
            set(
                "env",
                Value::Object(app.env.into_iter().map(|(name, value)| (name, json!(value))).collect()),
            );
        }
        if !self.mount.is_empty() {
            let mount = |mount: &crate::config::Mount| {
                Ok(json!({ "host": absolute(&mount.host)?, "guest": mount.guest, "write": mount.write }))
            };
            set("mounts", Value::Array(app.mounts.iter().map(mount).collect::<Result<_, Failure>>()?));
        }
        if !(self.allow_connect.is_empty() && self.allow_listen.is_empty() && self.ca.is_empty()) {
            let files = app.sockets.ca.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
            set(
                "sockets",
                json!({ "connect": self.allow_connect, "listen": self.allow_listen, "ca": files }),
            );
        }
        if !self.secret.is_empty() {
            let mut secrets = Map::new();
            for (name, source) in &app.secrets {
                let source = match source {
                    SecretSource::File(path) => format!("file:{}", absolute(path)?),
                    variable @ SecretSource::Env(_) => variable.to_string(),
                };
                secrets.insert(name.clone(), Value::String(source));
            }
            set("secrets", Value::Object(secrets));
        }
        if let Some(tenant) = &self.tenant {
            set("tenant", json!(tenant));
        }
        if let Some(path) = &self.health {
            set("health", json!(path));
        }
        if let Some(text) = &self.kv {
            set("kv", kv(text));
        }
        let (mut limits, mut watermarks) = (Map::new(), Map::new());
        for text in &self.limit {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let key = key.trim().replace('-', "_");
            match key.strip_suffix("_watermark") {
                Some(mark) => watermarks.insert(mark.to_owned(), plain(value)),
                None => limits.insert(key, plain(value)),
            };
        }
        for (key, table) in [("limits", limits), ("watermarks", watermarks)] {
            if !table.is_empty() {
                map.insert(key.to_owned(), Value::Object(table));
            }
        }
        if !self.listen_tcp.is_empty() {
            let message = "raw connections are part of the server's own manifest";
            return Err(Failure::usage(
                message,
                Some("a section `[[listen]]` with `tcp` and `app`".to_owned()),
            ));
        }
        Ok(map)
    }

    /// The settings that only a server that hosts apps has a use for, and secrets.
    pub(super) fn apply_hosting(&self, app: &mut AppSettings) -> Result<(), Failure> {
        for text in &self.secret {
            let (name, source) = at("--secret", secret(text))?;
            app.secrets.retain(|(known, _)| *known != name);
            app.secrets.push((name, source));
        }
        if let Some(tenant) = &self.tenant {
            app.tenant = Some(tenant.clone());
        }
        if let Some(path) = &self.health {
            app.health = Some(at("--health", manifest::check_health(path))?.to_owned());
        }
        Ok(())
    }
}

/// `NAME=file:PATH` or `NAME=env:NAME`. What is wrong with it is told without the text: it may be the secret itself.
fn secret(text: &str) -> Result<(String, SecretSource), ValueError> {
    let (name, source) = variable(text).map_err(|error| ValueError {
        message: "this is not `NAME=file:PATH` or `NAME=env:NAME`".to_owned(),
        help: error.help.and(None),
    })?;
    Ok((name, SecretSource::parse(&source)?))
}

/// A number where it is one.
fn plain(text: &str) -> Value {
    text.parse::<i64>().map_or_else(|_| json!(text), |number| json!(number))
}

/// `true`, or quotas: `keys=10000,bytes=16MiB`.
fn kv(text: &str) -> Value {
    if text == "true" {
        return json!(true);
    }
    let quotas = text.split(',').filter_map(|part| part.split_once('='));
    Value::Object(quotas.map(|(key, value)| (key.trim().to_owned(), plain(value.trim()))).collect())
}

fn absolute(path: &Path) -> Result<String, Failure> {
    let path = std::path::absolute(path).map_err(anyhow::Error::new)?;
    Ok(path.components().collect::<std::path::PathBuf>().to_string_lossy().into_owned())
}
