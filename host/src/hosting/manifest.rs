//! The manifest and the store: what the one says becomes what the other has, and back.
//!
//! Each start and each reload applies the manifest. An entry that changed since it was applied last, in its settings or in its
//! module, becomes a new version, which serves. One that did not is left as the store has it, so that a deploy or a
//! rollback outlives a restart. An app that came from the manifest and is not in it any more goes; one that was
//! deployed stays.

use std::collections::BTreeMap;

use toml::Table;

use super::change::Next;
use super::hosted::{Hosted, Made, add_version, other_tenant};
use super::make::Recipe;
use super::operator::{Operator, operator_only};
use super::source::{Item, ManifestSource, refusal_of};
use super::types::{Actor, Deployed, Refusal, RefusalKind, SERVER};

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
        self.note(&SERVER, "reload", None, None, &done);
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
            lacking.filter_map(|(name, hosted)| Some((name.clone(), hosted.record.active?))).collect()
        };
        let mut all = Vec::new();
        for (app, active) in lacking {
            match self.serve_lacking(&app, active) {
                Ok(done) => all.extend(done),
                Err(refusal) => {
                    let reason = refusal.message;
                    tracing::error!(app, reason, "the app can still not be served");
                    let mut apps = self.apps_lock();
                    if let Some(hosted) = apps.get_mut(&app).filter(|hosted| hosted.lacks_version(active)) {
                        hosted.lacks = Some(reason);
                    }
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
            let ended = next.serve(&made);
            let version = made.app.number;
            add_version(&mut next.record, made.record, kept);
            next.record.manifest = Some(mark);
            changes.push((name.clone(), Some(next)));
            let active = Some(version);
            done.push(Deployed { app: name, version, active, before, unchanged: false, ended });
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
        if !self.has_module(&SERVER, &module) {
            let mut file = std::fs::File::open(&item.source).map_err(failed)?;
            self.receive_module(&SERVER, &mut file, None)?;
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
