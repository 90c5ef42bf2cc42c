//! The manifest and the store: what the one says becomes what the other has, and back.
//!
//! Each start and each reload applies the manifest. An entry that changed since it was applied last, in its settings or in its
//! module, becomes a new version, which serves. One that did not is left as the store has it, so that a deploy or a
//! rollback outlives a restart. An app that came from the manifest and is not in it any more goes; one that was
//! deployed stays.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use toml::Table;

use super::change::{Next, add_version};
use super::deploy::{Made, Recipe, other_tenant};
use super::operator::{Hosted, Operator, operator_only};
use super::spec::Spec;
use super::types::{Actor, Deployed, Refusal, RefusalKind};
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
struct Item {
    spec: Spec,
    source: PathBuf,
}

impl ManifestSource {
    /// The settings of the server that it names; its apps are checked, and their sources.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub(crate) fn settings(&self) -> Result<Option<Settings>, ConfigError> {
        if self.module.is_some() { Ok(None) } else { manifest::load(&self.path).map(Some) }
    }

    fn items(&self) -> Result<BTreeMap<String, Item>, Refusal> {
        let invalid = |text: String| Refusal::new(RefusalKind::Invalid, text);
        let mut items = BTreeMap::new();
        if let Some(name) = &self.module {
            let source = std::path::absolute(&self.path).map_err(|error| invalid(error.to_string()))?;
            let name = self.name.as_ref().unwrap_or(name).clone();
            items.insert(name, Item { spec: Spec::first().with(&self.flags)?, source });
            return Ok(items);
        }
        // What is wrong with it is told with its place; past this it is known to be right.
        manifest::load(&self.path).map_err(|error| refusal_of(&error))?;
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

impl Operator {
    /// Reads the manifest again and applies it. Everything or nothing of it happens.
    ///
    /// # Errors
    /// There is no manifest, something is wrong with it, or one of its apps can not be served.
    pub(crate) fn reload(&self, actor: &Actor) -> Result<Vec<Deployed>, Refusal> {
        operator_only(actor)?;
        let done = match &self.0.manifest {
            Some(_) => self.apply_all(),
            None if self.lacks_some() => Ok(self.serve_again()),
            None => Err(Refusal::new(RefusalKind::Conflict, "this server was started without a manifest")
                .help("apps are changed with `tidegate deploy`")),
        };
        self.note(actor, "reload", None, None, &done);
        done
    }

    /// The same for SIGHUP: a server without a manifest has nothing to read again.
    ///
    /// # Errors
    /// As for [`Self::reload`].
    pub(crate) fn reload_quietly(&self) -> Result<Vec<Deployed>, Refusal> {
        let done = self.apply_all();
        self.note(&super::canary::SERVER, "reload", None, None, &done);
        done
    }

    fn apply_all(&self) -> Result<Vec<Deployed>, Refusal> {
        let mut done = self.apply()?;
        done.extend(self.serve_again());
        Ok(done)
    }

    /// Whether there are apps that could not be served when the server began.
    fn lacks_some(&self) -> bool {
        self.apps_lock().values().any(Hosted::is_lacking)
    }

    /// Tries those again: what they lacked may be there by now.
    fn serve_again(&self) -> Vec<Deployed> {
        let lacking: Vec<_> = {
            let apps = self.apps_lock();
            let lacking = apps.iter().filter(|(_, hosted)| hosted.is_lacking());
            lacking.map(|(name, hosted)| (name.clone(), hosted.record.active)).collect()
        };
        let mut all = Vec::new();
        for (app, active) in lacking {
            match self.rollback(&super::canary::SERVER, &app, active) {
                Ok(done) => all.push(done),
                Err(refusal) => {
                    let reason = refusal.message;
                    tracing::error!(app, reason, "the app can still not be served");
                }
            }
        }
        all
    }

    /// Applies the manifest, if there is one.
    ///
    /// # Errors
    /// As for [`Self::reload`].
    pub(crate) fn apply(&self) -> Result<Vec<Deployed>, Refusal> {
        let _one_at_a_time = self.applying_lock();
        let Some(manifest) = &self.0.manifest else { return Ok(Vec::new()) };
        let items = manifest.items()?;
        let before = self.tenants_lock().clone();
        self.take_tenants(manifest)?;
        let done = self.apply_items(items);
        if done.is_err() {
            // They were fine before.
            let _ = self.set_tenants(&before);
        }
        done
    }

    fn apply_items(&self, items: BTreeMap<String, Item>) -> Result<Vec<Deployed>, Refusal> {
        let mut made = Vec::new();
        let mut problems = Vec::new();
        for (name, item) in &items {
            match self.make_item(name, item) {
                Ok(Some(item)) => made.push(item),
                Ok(None) => {}
                Err(Refusal { message, help: Some(help), .. }) => {
                    problems.push(format!("app `{name}`: {message} ({help})"));
                }
                Err(refusal) => problems.push(format!("app `{name}`: {}", refusal.message)),
            }
        }
        if !problems.is_empty() {
            return Err(Refusal::new(RefusalKind::Module, problems.join("\n")));
        }
        let kept = self.deployer().shared().settings.versions_kept;
        let mut apps = self.apps_lock();
        let mut changes: Vec<Next> = Vec::new();
        let mut done = Vec::new();
        for (made, mark) in made {
            let name = made.app.program.name.to_string();
            let mut next = apps.get(&name).cloned().unwrap_or_else(|| {
                self.begin_logs(&name);
                Hosted::new(&name, made.spec.tenant())
            });
            if next.record.tenant != made.spec.tenant() {
                return Err(other_tenant(&name));
            }
            let before = next.record.active;
            next.serve(&made);
            let version = made.app.number;
            add_version(&mut next.record, made.record, kept);
            next.record.manifest = Some(mark);
            changes.push((name.clone(), Some(next)));
            done.push(Deployed { app: name, version, active: Some(version), before, unchanged: false });
        }
        let gone = |(name, hosted): &(&String, &Hosted)| {
            hosted.record.manifest.is_some() && !items.contains_key(name.as_str())
        };
        let gone: Vec<_> = apps.iter().filter(gone).map(|(name, _)| name.clone()).collect();
        for name in &gone {
            tracing::info!(app = name, "it is not in the manifest any more: it goes");
        }
        changes.extend(gone.iter().map(|name| (name.clone(), None)));
        if !changes.is_empty() {
            self.commit(&mut apps, changes)?;
        }
        // Their data stays: whoever takes an app out of a manifest may put it back.
        gone.iter().for_each(|name| self.forget_logs(name));
        for done in &done {
            self.tell(
                &done.app,
                done.version,
                &format!("version {} serves: the manifest says so", done.version),
            );
        }
        Ok(done)
    }

    /// A version of what the manifest says, unless that is what it said before.
    fn make_item(&self, name: &str, item: &Item) -> Result<Option<(Made, String)>, Refusal> {
        let wasm = std::fs::File::open(&item.source);
        let failed = |error: std::io::Error| {
            Refusal::new(RefusalKind::Invalid, format!("`{}`: {error}", item.source.display()))
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(wasm.map_err(failed)?).map_err(failed)?;
        let module = hasher.finalize().to_hex().to_string();
        let mark = blake3::hash(format!("{module}\n{}", item.spec.text()).as_bytes()).to_hex().to_string();
        if self.apps_lock().get(name).is_some_and(|hosted| hosted.record.manifest.as_ref() == Some(&mark)) {
            return Ok(None);
        }
        let number = self.take_number(name);
        self.check_tenant(item.spec.tenant().as_deref())?;
        if !self.has_module(&super::canary::SERVER, &module) {
            let mut file = std::fs::File::open(&item.source).map_err(failed)?;
            self.receive_module(&super::canary::SERVER, &mut file, None)?;
        }
        let recipe = Recipe {
            name,
            number,
            spec: item.spec.clone(),
            module: &module,
            note: None,
            by: "manifest",
            counted: false,
            routes_by_default: false,
        };
        Ok(Some((self.make(recipe, &mut |_| {})?, mark)))
    }

    /// Tenants are the manifest's alone.
    fn take_tenants(&self, manifest: &ManifestSource) -> Result<(), Refusal> {
        let settings = manifest.settings();
        let settings = settings.map_err(|error| refusal_of(&error))?;
        match settings {
            Some(settings) => self.set_tenants(&settings.tenants),
            None => Ok(()),
        }
    }

    /// A manifest of what is there.
    ///
    /// # Errors
    /// The actor is a tenant's.
    pub(crate) fn export(&self, actor: &Actor) -> Result<String, Refusal> {
        operator_only(actor)?;
        let mut text = String::from(
            "# The apps that this server hosts, and the versions that serve. What stands in `[server]`, and who its tenants\n# are, is the business of the manifest that the server was started with.\n",
        );
        let apps = self.apps_lock();
        for (name, hosted) in apps.iter() {
            let Some(version) = hosted.record.active.and_then(|number| hosted.version(number)) else {
                continue;
            };
            text.push_str(&format!("\n# version {}\n", version.number));
            if let Some(canary) = &hosted.canary {
                text.push_str(&format!(
                    "# version {} is a canary, which is not part of a manifest\n",
                    canary.app.number
                ));
            }
            let section = hosted.spec.section(name, &self.module_path(&version.module)?);
            let apps = toml::Value::Array(vec![toml::Value::Table(section)]);
            let root = Table::from_iter([("app".to_owned(), apps)]);
            let section = toml::to_string(&root);
            text.push_str(&section.map_err(|error| Refusal::new(RefusalKind::Internal, error.to_string()))?);
        }
        Ok(text)
    }
}

/// All that is wrong with a manifest, each in a line.
fn refusal_of(error: &ConfigError) -> Refusal {
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
