//! The settings of a version: the keys of a manifest's `[[app]]` without `name` and `source`.
//!
//! They are kept and shown as they were written, and what they mean is for `config::manifest` alone to say. A secret's
//! value is never among them, only where it comes from.

use std::path::{Path, PathBuf};

use serde_json::Map;
use toml::{Table, Value};

use super::types::{Refusal, RefusalKind};
use crate::config::{AppSettings, SecretSource, manifest};

/// What problems call the settings.
const PLACE: &str = "settings";

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Spec(Table);

impl Spec {
    /// Those of an app of which nothing is said: it is reached at every path of every host.
    pub(super) fn first() -> Self {
        let routes = Value::Array(vec![Value::String("/*".to_owned())]);
        Self(Table::from_iter([("routes".to_owned(), routes)]))
    }

    /// Reads what [`Self::text`] wrote.
    ///
    /// # Errors
    /// It did not: the text was changed by somebody else.
    pub(super) fn read(text: &str) -> Result<Self, Refusal> {
        let damaged =
            || Refusal::new(RefusalKind::Internal, "the kept settings of a version can not be read");
        let mut root: Table = text.parse().map_err(|_| damaged())?;
        match root.remove("app") {
            Some(Value::Array(mut apps)) if apps.len() == 1 => match apps.pop() {
                Some(Value::Table(table)) => Ok(Self(table)),
                _ => Err(damaged()),
            },
            _ => Err(damaged()),
        }
    }

    /// A manifest with one `[[app]]`.
    pub(super) fn text(&self) -> String {
        let apps = Value::Array(vec![Value::Table(self.0.clone())]);
        // Keys are strings, and what is in a table came from TOML or JSON: there is nothing that it could not write.
        toml::to_string(&Table::from_iter([("app".to_owned(), apps)])).unwrap_or_default()
    }

    /// What a manifest's `[[app]]` says, and its module's path. Relative paths begin in `folder`.
    pub(super) fn of_manifest(mut app: Table, folder: &Path) -> (Self, Option<PathBuf>) {
        app.remove("name");
        let source = app.remove("source").and_then(|source| Some(folder.join(source.as_str()?)));
        let absolute = |value: &mut Value| {
            if let Value::String(path) = value {
                *path = folder.join(&*path).to_string_lossy().into_owned();
            }
        };
        if let Some(Value::Array(mounts)) = app.get_mut("mounts") {
            mounts.iter_mut().filter_map(|mount| mount.as_table_mut()?.get_mut("host")).for_each(absolute);
        }
        if let Some(Value::Array(files)) = app.get_mut("sockets").and_then(|sockets| sockets.get_mut("ca")) {
            files.iter_mut().for_each(absolute);
        }
        if let Some(Value::Table(secrets)) = app.get_mut("secrets") {
            for (_, value) in secrets.iter_mut() {
                if let Some(source) = value.as_str().and_then(|text| SecretSource::parse(text).ok()) {
                    *value = Value::String(source.relative_to(folder).to_string());
                }
            }
        }
        (Self(app), source)
    }

    /// With other values for some keys; null takes one out. Tables are replaced whole.
    ///
    /// # Errors
    /// A value is none that a manifest could hold.
    pub(super) fn with(mut self, changes: &Map<String, serde_json::Value>) -> Result<Self, Refusal> {
        for (key, value) in changes {
            set(&mut self.0, key, value)?;
        }
        Ok(self)
    }

    /// With other limits; null takes one out.
    ///
    /// # Errors
    /// As for [`Self::with`].
    pub(super) fn with_limits(mut self, changes: &Map<String, serde_json::Value>) -> Result<Self, Refusal> {
        let limits = self.0.entry("limits").or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(limits) = limits else {
            return Err(Refusal::new(RefusalKind::Internal, "the kept limits are not a table"));
        };
        for (key, value) in changes {
            set(limits, key, value)?;
        }
        if limits.is_empty() {
            self.0.remove("limits");
        }
        Ok(self)
    }

    /// The first of these keys that another one has otherwise.
    pub(super) fn differs_in(&self, other: &Self, keys: &[&'static str]) -> Option<&'static str> {
        keys.iter().copied().find(|key| self.0.get(*key) != other.0.get(*key))
    }

    pub(super) fn take_routes_out(&mut self) {
        self.0.remove("routes");
    }

    /// Where it is reached, as far as that can be told of settings that are not checked.
    pub(super) fn routes(&self) -> Vec<String> {
        let routes = self.0.get("routes").and_then(Value::as_array);
        routes.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub(super) fn tenant(&self) -> Option<String> {
        self.0.get("tenant").and_then(Value::as_str).map(str::to_owned)
    }

    pub(super) fn set_tenant(&mut self, tenant: Option<&str>) {
        match tenant {
            Some(tenant) => self.0.insert("tenant".to_owned(), Value::String(tenant.to_owned())),
            None => self.0.remove("tenant"),
        };
    }

    /// What the manifest's parser makes of them.
    ///
    /// # Errors
    /// All that is wrong, as the parser says it; or a path is not absolute, and there is no folder that it could begin in.
    pub(super) fn settings(&self, name: &str, source: &Path) -> Result<AppSettings, Refusal> {
        let text = self.text();
        let settings = manifest::parse_version(&text, PLACE, name, source).map_err(|error| {
            let problems = error.problems.iter();
            let one = |problem: &crate::config::Problem| match &problem.help {
                Some(help) => format!("{} ({help})", problem.message),
                None => problem.message.clone(),
            };
            let message = problems.map(one).collect::<Vec<_>>().join("; ");
            Refusal::new(RefusalKind::Invalid, message)
        })?;
        let files = settings.secrets.iter().filter_map(|(_, source)| match source {
            SecretSource::File(path) => Some(path),
            SecretSource::Env(_) => None,
        });
        let paths = settings.mounts.iter().map(|mount| &mount.host).chain(&settings.sockets.ca).chain(files);
        if let Some(path) = paths.into_iter().find(|path| !path.is_absolute()) {
            let message = format!("the path `{}` is not absolute", path.display());
            return Err(Refusal::new(RefusalKind::Invalid, message)
                .help("the server and whoever deploys may be in different folders"));
        }
        Ok(settings)
    }

    /// As the admin API shows them.
    pub(super) fn to_json(&self) -> Map<String, serde_json::Value> {
        match serde_json::to_value(&self.0) {
            Ok(serde_json::Value::Object(map)) => map,
            _ => Map::new(),
        }
    }

    pub(super) fn limits(&self) -> Map<String, serde_json::Value> {
        match self.to_json().remove("limits") {
            Some(serde_json::Value::Object(map)) => map,
            _ => Map::new(),
        }
    }

    /// A section of a manifest.
    pub(super) fn section(&self, name: &str, source: &Path) -> Table {
        let mut table = Table::new();
        table.insert("name".to_owned(), Value::String(name.to_owned()));
        table.insert("source".to_owned(), Value::String(source.to_string_lossy().into_owned()));
        table.extend(self.0.clone());
        table
    }
}

fn set(table: &mut Table, key: &str, value: &serde_json::Value) -> Result<(), Refusal> {
    if value.is_null() {
        table.remove(key);
        return Ok(());
    }
    let value = Value::try_from(value).map_err(|error| {
        let message = format!("{}: {error}", key.escape_default());
        Refusal::new(RefusalKind::Invalid, message).help("the values are those of a manifest")
    })?;
    table.insert(key.to_owned(), value);
    Ok(())
}

/// The settings of a manifest's `[[app]]`, as a deploy takes them. Relative paths begin in `folder`.
pub(crate) fn settings_of(app: Table, folder: &Path) -> Map<String, serde_json::Value> {
    Spec::of_manifest(app, folder).0.to_json()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: serde_json::Value) -> Map<String, serde_json::Value> {
        let serde_json::Value::Object(map) = value else { panic!("no object") };
        map
    }

    #[test]
    fn they_are_kept_as_they_were_written() {
        let spec = Spec::first()
            .with(&map(json!({
                "routes": ["shop.example/*"],
                "env": { "A": "b = \"c\"\n" },
                "limits": { "memory": "32MiB", "concurrency": 7 },
                "mounts": [{ "host": "/srv", "guest": "/public" }],
                "sockets": { "connect": ["10.0.0.1:5432"] },
                "secrets": { "PW": "env:PW" },
            })))
            .unwrap();
        assert_eq!(Spec::read(&spec.text()).unwrap(), spec);
        let settings = spec.settings("shop", Path::new("/x")).unwrap();
        assert_eq!((settings.limits.memory_bytes, settings.limits.concurrency), (32 << 20, 7));
        assert_eq!((settings.name.as_str(), settings.source.as_path()), ("shop", Path::new("/x")));
        assert_eq!(Spec::default().with(&spec.to_json()).unwrap(), spec);
    }

    #[test]
    fn null_takes_a_key_out() {
        let spec = Spec::first().with(&map(json!({ "weight": 3, "limits": { "queue": 1 } }))).unwrap();
        let limited = spec.clone().with_limits(&map(json!({ "queue": null, "cpu": "1s" }))).unwrap();
        assert_eq!(limited.limits(), map(json!({ "cpu": "1s" })));
        let plain = limited.with_limits(&map(json!({ "cpu": null }))).unwrap();
        assert_eq!(plain.with(&map(json!({ "weight": null }))).unwrap(), Spec::first());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |changes: serde_json::Value| {
            let spec = Spec::first().with(&map(changes));
            spec.and_then(|spec| spec.settings("a", Path::new("/x"))).unwrap_err()
        };
        for (changes, words) in [
            (json!({ "rotues": ["/*"] }), "did you mean `routes`?"),
            (json!({ "limits": { "memory": "64MB" } }), "64MiB"),
            (json!({ "routes": ["x"] }), "the route `x` is not valid"),
            (json!({ "routes": [] }), "the list is empty"),
            (json!({ "name": "b" }), "`name` is not one of a version's settings"),
            (json!({ "env": { "A": 1 } }), "a variable is a string"),
            (json!({ "env": { "A": null } }), "env"),
            (json!({ "mounts": [{ "host": "x", "guest": "/x" }] }), "the path `x` is not absolute"),
            (json!({ "secrets": { "A": "file:x" } }), "the path `x` is not absolute"),
        ] {
            let refusal = refused(changes.clone());
            assert_eq!(refusal.kind, RefusalKind::Invalid);
            assert!(refusal.message.contains(words), "{changes}: {refusal}");
        }
    }

    #[test]
    fn paths_of_a_manifest_are_taken_from_its_folder() {
        let table: Table =
            "name = \"a\"\nsource = \"a.wasm\"\nroutes = [\"/*\"]\nmounts = [{ host = \"p\", guest = \"/p\" \
             }]\nsecrets = { A = \"file:s\", B = \"env:B\" }\nsockets = { ca = [\"ca.pem\"] }"
                .parse()
                .unwrap();
        let (spec, source) = Spec::of_manifest(table, Path::new("/srv"));
        assert_eq!(source, Some(PathBuf::from("/srv/a.wasm")));
        let wanted = json!({ "routes": ["/*"], "mounts": [{ "host": "/srv/p", "guest": "/p" }],
            "secrets": { "A": "file:/srv/s", "B": "env:B" }, "sockets": { "ca": ["/srv/ca.pem"] } });
        assert_eq!(spec.to_json(), map(wanted));
    }
}
