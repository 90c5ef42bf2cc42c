//! Where a server's apps come from: a manifest as it is now, or a module alone.
//!
//! It must never know what the store has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Table;

use super::spec::Spec;
use super::types::{Refusal, RefusalKind};
use crate::config::{ConfigError, Problem, Settings, manifest};

/// Where a server's apps come from when it starts.
#[derive(Clone, Debug)]
pub(crate) struct ManifestSource {
    /// A manifest, or a module.
    pub(crate) path: PathBuf,
    /// The name of the one app, where the path is a module's.
    pub(crate) module: Option<String>,
    /// What flags say of the one app: it goes before what the manifest says.
    pub(crate) flags: Map<String, Value>,
    /// A name that a flag gives the one app.
    pub(crate) name: Option<String>,
}

/// One app as a manifest has it.
pub(super) struct Item {
    pub(super) spec: Spec,
    pub(super) source: PathBuf,
}

impl ManifestSource {
    /// The settings of the server that it names; its apps are checked, and their sources.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, ConfigError> {
        if self.module.is_some() { Ok(None) } else { manifest::load_hosted(&self.path).map(Some) }
    }

    /// Its apps, by name.
    ///
    /// # Errors
    /// It is not one, each problem in a line.
    pub(super) fn items(&self) -> Result<BTreeMap<String, Item>, Refusal> {
        let invalid = |text: String| Refusal::new(RefusalKind::Invalid, text);
        let mut items = BTreeMap::new();
        if let Some(name) = &self.module {
            let source = std::path::absolute(&self.path).map_err(|error| invalid(error.to_string()))?;
            let name = self.name.as_ref().unwrap_or(name).clone();
            items.insert(name, Item { spec: Spec::first().with(&self.flags)?, source });
            return Ok(items);
        }
        // What is wrong with it is told with its place; past this it is known to be right.
        manifest::load_hosted(&self.path).map_err(|error| refusal_of(&error))?;
        let shown = self.path.display();
        let text =
            std::fs::read_to_string(&self.path).map_err(|error| invalid(format!("`{shown}`: {error}")))?;
        let mut root: Table = text.parse().map_err(|error| invalid(format!("`{shown}`: {error}")))?;
        let folder = folder_of(&self.path).map_err(|error| invalid(format!("`{shown}`: {error}")))?;
        let Some(toml::Value::Array(apps)) = root.remove("app") else { return Ok(items) };
        let alone = apps.len() == 1;
        for app in apps {
            let toml::Value::Table(app) = app else { continue };
            let name = app.get("name").and_then(toml::Value::as_str).unwrap_or_default().to_owned();
            let (spec, source) = Spec::of_manifest(app, &folder);
            let spec = if alone { spec.with(&self.flags)? } else { spec };
            let name = if alone { self.name.clone().unwrap_or(name) } else { name };
            let source =
                source.ok_or_else(|| invalid(format!("`{shown}`: the app `{name}` has no `source`")))?;
            items.insert(name, Item { spec, source });
        }
        Ok(items)
    }
}

/// All that is wrong with a manifest, each in a line.
pub(super) fn refusal_of(error: &ConfigError) -> Refusal {
    let line = |problem: &Problem| {
        let Problem { place, message, help } = problem;
        let place = place.as_ref().map(|place| format!("{place}: ")).unwrap_or_default();
        let help = help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{place}{message}{help}")
    };
    let lines: Vec<_> = error.problems.iter().map(line).collect();
    Refusal::new(RefusalKind::Invalid, lines.join("\n"))
}

/// Where the relative paths of a manifest begin. A file that is named alone is in the folder that this process is in.
fn folder_of(manifest: &Path) -> std::io::Result<PathBuf> {
    let folder = manifest.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::path::absolute(folder.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_that_is_named_alone_is_here() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(folder_of(Path::new("tidegate.toml")).unwrap(), here);
        assert_eq!(folder_of(Path::new("a/tidegate.toml")).unwrap(), here.join("a"));
        assert_eq!(folder_of(Path::new("/srv/tidegate.toml")).unwrap(), Path::new("/srv"));
    }
}
